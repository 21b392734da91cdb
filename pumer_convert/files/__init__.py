"""Files that this project writes: old or new, whole, after whatever stops it; and which of them it may replace."""
