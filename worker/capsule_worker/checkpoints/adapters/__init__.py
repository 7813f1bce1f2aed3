"""Adapters: one module per library whose objects need special treatment."""
