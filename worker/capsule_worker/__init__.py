"""The process that runs the user's cells: an IPython shell that speaks the protocol of ``capsule_worker.protocol``."""

from __future__ import annotations

__version__ = "0.1.0"
