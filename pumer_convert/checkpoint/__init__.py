"""Reading every checkpoint format into one form, and the one atomic writer."""
