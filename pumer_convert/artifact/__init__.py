"""What an export writes beside its graphs, and every runtime reads."""
