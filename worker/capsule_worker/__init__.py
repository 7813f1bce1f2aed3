"""The worker: the process that runs cells in IPython's shell, and exchanges messages with the front."""

from __future__ import annotations

__version__ = "0.1.0"
