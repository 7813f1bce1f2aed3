"""IPython's shell, and the cells that run in it."""
