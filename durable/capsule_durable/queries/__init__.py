"""Read models of what the stores hold.

Sessions and checkpoints are read through ``checkpoints.catalogue``, everything else by SQL of their own.
"""
