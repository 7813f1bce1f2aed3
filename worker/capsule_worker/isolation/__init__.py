"""The worker's half of the sandbox: the rights that a process gives up itself, and its limits."""
