"""Adapter for pyarrow: it keeps no object of its callers, and its objects pickle themselves."""

from __future__ import annotations

from capsule_worker.checkpoints.adapters.base import Adapter

ADAPTER = Adapter("pyarrow", {})
