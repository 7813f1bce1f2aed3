"""Writes the names of the worker's functions in the pickles of all kinds of objects to a JSON file.

The cells run in one shell. Kinds that cannot be saved are pickled in a process of their own: some hang, or end it.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import pickletools
import signal
import sys
import tempfile
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from IPython.core.interactiveshell import InteractiveShell

from capsule_worker.checkpoints.pickling.class_registry import ClassRegistry
from capsule_worker.checkpoints.pickling.pickler import NamespacePickler, Unit
from tests.support.kinds import TABLES, is_installed

#: Seconds that the pickles of one kind may take.
DEADLINE = 20


def names_in(data: bytes) -> Iterator[str]:
    """Yield the full names of all globals in a pickle."""
    texts: list[str] = []
    memo: list[str | None] = []
    latest: str | None = None
    for opcode, argument, _ in pickletools.genops(data):
        if opcode.name == "MEMOIZE":
            memo.append(latest)
            continue
        if opcode.name in {"BINGET", "LONG_BINGET"}:
            latest = memo[int(argument)]  # type: ignore[arg-type]  # these opcodes have one
        else:
            latest = argument if "UNICODE" in opcode.name else None
        if latest is not None:
            texts.append(latest)
        if opcode.name == "STACK_GLOBAL":
            yield ".".join(texts[-2:])


def names_of(values: dict[str, Any], namespace: dict[str, Any]) -> set[str]:
    """Return the names of the worker's functions in the pickles of values and of the classes that they need."""
    definitions = ClassRegistry()
    found: set[str] = set()
    units = [Unit({name: value}) for name, value in values.items()]
    seen: set[str] = set()
    for unit in units:
        file = io.BytesIO()
        pickler = NamespacePickler(file, namespace, definitions, unit.classes)
        with contextlib.suppress(Exception):
            pickler.dump((unit.values, unit.classes))
            found.update(name for name in names_in(file.getvalue()) if name.startswith("capsule_worker."))
            units += [Unit({}, {uid: cls}) for uid, cls in pickler.needs.items() if uid not in seen]
            seen.update(pickler.needs)
    return found


def pickled(values: dict[str, Any], namespace: dict[str, Any]) -> set[str]:
    """Do as ``names_of`` in another process; return nothing if that does not end well."""
    reading, writing = os.pipe()
    pid = os.fork()
    if not pid:
        signal.alarm(DEADLINE)
        os.write(writing, json.dumps(sorted(names_of(values, namespace))).encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        data = pipe.read()
    os.waitpid(pid, 0)
    return set(json.loads(data or b"[]"))


def main(scratch: Path) -> dict[str, list[str]]:
    """Run the cells of all kinds; return the kinds in whose pickles each name is."""
    sys.modules["__main__"] = module = types.ModuleType("__main__")
    shell: Any = InteractiveShell.instance(user_module=module)
    shell.showtraceback = lambda *_, **__: None
    shell.user_ns["scratch"] = scratch
    found: dict[str, list[str]] = {}
    for kind in (each for table in TABLES.values() for each in table if is_installed(each)):
        with contextlib.redirect_stdout(io.StringIO()):
            for cell in (kind.setup, kind.change):
                before = dict(shell.user_ns)
                shell.run_cell(cell)
                space = {
                    name: value
                    for name, value in shell.user_ns.items()
                    if before.get(name) is not value and not (name[:1] == "_" or name in {"In", "Out"})
                }
                look = pickled if kind.unsaved else names_of
                for name in look(space, shell.user_ns):
                    found.setdefault(name, []).append(kind.name)
    return found


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(io.StringIO()):
        names = main(Path(folder))
    Path(sys.argv[1]).write_text(json.dumps(names), encoding="utf-8")
    # Without waiting for what the cells have left behind.
    os._exit(0)
