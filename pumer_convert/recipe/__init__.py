"""Recipes: which reducers go where, and how the model is trained and exported."""
