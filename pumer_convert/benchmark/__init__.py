"""Dense and reduced, side by side: time, memory, and what the reducers cost."""
