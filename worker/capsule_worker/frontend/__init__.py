"""Conversations with the client: comms, stdin, the debugger."""
