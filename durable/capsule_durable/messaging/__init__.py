"""Messages between the front and a worker: transport, session, pending requests, capabilities."""
