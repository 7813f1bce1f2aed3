"""The Jupyter front of Capsule: messages in, messages out. Never runs user code."""

__version__ = "0.1.0"
