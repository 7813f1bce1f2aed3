"""Adapter for polars: its pools of threads, which a fork of the process would lack."""

from __future__ import annotations

from capsule_worker.checkpoints.adapters.base import Adapter

ADAPTER = Adapter("polars", {}, fork_unsafe=frozenset({"polars", "polars-ooc-clea", "tokio-rt-worker"}))
