"""ipykernel's modules, and objects in place of its kernel, which libraries expect in the process of their cells."""
