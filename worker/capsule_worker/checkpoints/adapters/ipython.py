"""Adapter for IPython and ipykernel: the shell and the streams belong to the worker, not to the notebook."""

from __future__ import annotations

import sys
from typing import Any

from capsule_worker.checkpoints.adapters.base import Adapter


def _reduce_stream(stream: Any) -> Any:
    return getattr, (sys, stream.name)


def _reduce_shell(_: Any) -> Any:
    from IPython import get_ipython

    return get_ipython, ()


ADAPTER = Adapter(
    "IPython",
    {
        "ipykernel.iostream.OutStream": _reduce_stream,
        "ipykernel.zmqshell.ZMQInteractiveShell": _reduce_shell,
    },
)
