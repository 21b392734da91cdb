"""Data as people have it: the official files, the published prepared files, a simple one of our own."""
