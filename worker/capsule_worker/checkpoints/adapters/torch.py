"""Adapter for PyTorch: the random generator of the CPU."""

from __future__ import annotations

import importlib
import sys
from typing import Any

from capsule_worker.checkpoints.adapters.base import Adapter


def _save_random() -> bytes | None:
    torch = sys.modules.get("torch")
    return None if torch is None else bytes(torch.get_rng_state().numpy())


def _restore_random(state: bytes) -> None:
    numpy: Any = importlib.import_module("numpy")
    torch: Any = importlib.import_module("torch")
    torch.set_rng_state(torch.from_numpy(numpy.frombuffer(state, numpy.uint8).copy()))


ADAPTER = Adapter("torch", {}, save_state=_save_random, restore_state=_restore_random)
