"""The functions of the Capsule kernel for the cells that it runs.

>>> import capsule
>>> capsule.execution_id()
'5c2f0c1a...'
"""

from __future__ import annotations

from capsule_worker import __version__
from capsule_worker.process.execution_context import current as _current

__all__ = ["__version__", "execution_id"]


def execution_id() -> str:
    """Return the id of the execution that the calling code belongs to. Logs and errors have the same id.

    Threads and asyncio tasks belong to the cell that started them. Outside a kernel the id is empty.
    """
    return _current()
