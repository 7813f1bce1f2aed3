"""Checkpoints: which exist, how long they are kept, and how they differ. It reads manifests, never a pickle."""
