"""A run on disk: its folder, its recipe, checkpoints, logs, and how signals end it."""
