"""Read models of what the stores hold."""
