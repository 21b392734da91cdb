"""Whether an exported graph decides and computes what the model does."""
