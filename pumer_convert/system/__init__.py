"""Files that are written whole, signals, child processes and memory."""
