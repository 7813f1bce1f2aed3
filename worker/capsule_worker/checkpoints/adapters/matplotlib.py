"""Adapter for matplotlib: the backend."""

from __future__ import annotations

import os
import sys

from capsule_worker.checkpoints.adapters.base import Adapter


def _save_backend() -> bytes | None:
    matplotlib = sys.modules.get("matplotlib")
    try:
        # Reading it as an item would choose a backend.
        return None if matplotlib is None else str(dict.__getitem__(matplotlib.rcParams, "backend")).encode()
    except Exception:  # not imported yet, or changed
        return None


def _restore_backend(state: bytes) -> None:
    matplotlib = sys.modules.get("matplotlib")
    if matplotlib is not None:
        matplotlib.use(state.decode(), force=False)
    else:
        # To import it takes a while, and not every cell plots.
        os.environ["MPLBACKEND"] = state.decode()


ADAPTER = Adapter("matplotlib", {}, retains=True, save_state=_save_backend, restore_state=_restore_backend)
