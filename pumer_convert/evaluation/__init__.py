"""How good the answers of a checkpoint are, and how they compare with another's."""
