"""Saving the namespace between cells, and bringing it back. ARCHITECTURE.md, "Checkpoints", is the map."""
