"""The worker's half of the sandbox: what a process gives up for itself."""
