"""Pickling of the user's objects."""
