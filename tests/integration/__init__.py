"""Parts together for real: workers, engines, sockets, environments."""
