"""The worker as a process: forkserver, channel, interrupts, forks and child processes."""
