"""From a checkpoint and a recipe to a checkpoint with reducers."""
