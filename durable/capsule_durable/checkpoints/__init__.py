"""Which checkpoints there are, for how long, and how they differ. Reads manifests only, never a pickle."""
