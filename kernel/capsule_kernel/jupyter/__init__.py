"""The Jupyter side: sockets, messages, the kernel."""
