"""Features that talk with the client: comms, input, the debugger."""
