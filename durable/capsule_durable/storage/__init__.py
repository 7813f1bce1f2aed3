"""Basics of all stores: the processes that data belongs to."""
