"""Compare two checkpoints. Pure: it compares the manifests, not the values."""

from __future__ import annotations

import re

from capsule_worker.protocol.manifest import Manifest, Variable
from capsule_worker.protocol.messages import Change

#: The names of IPython's latest outputs (``_``, ``__``, ``___``) and of numbered ones (``_12``).
_OUTPUT = re.compile(r"_(_{0,2}|\d+)\Z")


def difference(before: Manifest, after: Manifest, *, outputs: bool = False) -> list[Change]:
    """Return the variables that differ, sorted by name.

    A variable that could not be saved has no content to compare. It counts as changed if its type or the reason did.

    Args:
        before: the first checkpoint.
        after: the second checkpoint.
        outputs: whether to compare the names of outputs, such as ``_12``, too.
    """
    old, new = _by_name(before), _by_name(after)
    names = sorted(old.keys() | new.keys())
    changes = (_change(name, old.get(name), new.get(name)) for name in names if outputs or not _OUTPUT.match(name))
    return [change for change in changes if change is not None]


def _by_name(manifest: Manifest) -> dict[str, Variable]:
    return {variable.name: variable for variable in manifest.variables}


def _change(name: str, old: Variable | None, new: Variable | None) -> Change | None:
    match old, new:
        case None, Variable():
            return Change(name=name, kind="added", type_after=new.type, size_after=new.size)
        case Variable(), None:
            return Change(name=name, kind="removed", type_before=old.type, size_before=old.size)
        case Variable(), Variable() if _content(old) != _content(new):
            return Change(
                name=name,
                kind="changed",
                type_before=old.type,
                type_after=new.type,
                size_before=old.size,
                size_after=new.size,
            )
        case _:
            return None


def _content(variable: Variable) -> tuple[bytes, str, str | None]:
    return variable.digest, variable.type, variable.reason
