"""The execution of cells: durable functions, bridge, retries, runs."""
