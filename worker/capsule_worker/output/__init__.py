"""Outputs of cells: streams, file descriptors, displays."""
