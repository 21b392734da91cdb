"""What existing runtimes take of a reduced model."""
