"""Checkpoints: save the namespace between cells, and restore it. See docs/explanation/checkpoints.md."""
