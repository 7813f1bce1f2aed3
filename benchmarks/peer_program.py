"""Runs a notebook's cells in a plain Python and saves everything after each, or loads what was saved.

It runs alone, in a peer's environment: ``python peer_program.py save|load``, in a directory with ``notebook.json``. It
writes lines of JSON to stdout, and ends itself with SIGKILL.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
import time
import types
from pathlib import Path

SAVED = Path("state.pickle")


class Program:
    """A namespace, and a package that saves it.

    Args:
        package: ``dill`` or ``cloudpickle``.
    """

    def __init__(self, package: str) -> None:
        # The cells have a module of their own for what is theirs: this program is not to be saved with it.
        main = types.ModuleType("__main__")
        sys.modules["__main__"] = main
        self.names = main.__dict__
        self.names["__builtins__"] = __builtins__
        self._package = importlib.import_module(package)

    def save(self) -> None:
        """Save the whole namespace."""
        if self._package.__name__ == "dill":
            self._package.dump_session(str(SAVED))
            return
        content = {name: value for name, value in self.names.items() if not name.startswith("__")}
        with SAVED.open("wb") as file:
            self._package.dump(content, file, protocol=5)

    def load(self) -> None:
        """Load what was saved."""
        if self._package.__name__ == "dill":
            self._package.load_session(str(SAVED))
            return
        with SAVED.open("rb") as file:
            self.names.update(self._package.load(file))

    def evaluate(self, expression: str) -> str:
        """Return what an expression is, as text, or its error."""
        try:
            return repr(eval(expression, self.names))  # noqa: S307  # the benchmark's own
        except Exception as error:
            return f"! {type(error).__name__}: {error}"


def main(action: str) -> None:
    """Run, and report."""
    # The report does not include what cells print.
    report = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def tell(**what: object) -> None:
        report.write(json.dumps(what) + "\n")
        report.flush()

    notebook = json.loads(Path("notebook.json").read_text(encoding="utf-8"))
    program = Program(notebook["program"])
    try:
        if action == "load":
            program.load()
        else:
            for number, cell in enumerate(notebook["cells"]):
                started = time.perf_counter()
                exec(compile(cell, f"<cell {number}>", "exec"), program.names)  # noqa: S102  # the benchmark's own
                ran = time.perf_counter()
                program.save()
                tell(bare=ran - started, whole=time.perf_counter() - started, written=SAVED.stat().st_size)
        for expression in notebook["checks"]:
            tell(value=program.evaluate(expression), time=time.monotonic())
    except Exception as error:
        tell(error=f"{type(error).__name__}: {error}")
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main(sys.argv[1])
