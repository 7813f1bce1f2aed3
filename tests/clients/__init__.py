"""Real Jupyter clients against the kernel: nothing here knows what the kernel is made of."""
