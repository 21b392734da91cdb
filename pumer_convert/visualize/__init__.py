"""Pictures of the patches that are left."""
