"""Writing a checkpoint: in the process, in threads, or in a fork."""
