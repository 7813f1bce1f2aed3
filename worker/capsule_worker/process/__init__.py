"""The worker as a process: forkserver, channel, interrupts, forks, child processes."""
