"""The format of checkpoints on disk."""
