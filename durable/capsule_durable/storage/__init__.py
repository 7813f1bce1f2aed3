"""What all stores need: which process a thing belongs to, and whether that process has ended."""
