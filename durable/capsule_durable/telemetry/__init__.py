"""Events that the front publishes while it works, and their observers."""
