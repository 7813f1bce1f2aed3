"""Which cells can have changed nothing that is saved, so that there is no hurry to save it. Pure."""

from __future__ import annotations

import builtins
import types
from collections.abc import Mapping
from typing import Any

from capsule_worker.checkpoints.analysis.name_usage import NameUsage
from capsule_worker.checkpoints.analysis.small_values import is_atom


def is_read_only(source: str, touched: NameUsage, namespace: Mapping[str, Any]) -> bool:
    """Whether code only looks at values that cannot be changed, by what is built in.

    Args:
        source: Python, as IPython has transformed a cell.
        touched: what it may touch.
        namespace: the notebook's globals.
    """
    if touched.anything is not None or touched.binds or touched.modules or "get_ipython" in source:
        return False
    return all(_cannot_change(namespace[name]) if name in namespace else _is_known(name) for name in touched.names)


def _cannot_change(value: Any) -> bool:
    # A module can: os.chdir, random.seed.
    return type(value) is not types.ModuleType and is_atom(value)


def _is_known(name: str) -> bool:
    return hasattr(builtins, name)
