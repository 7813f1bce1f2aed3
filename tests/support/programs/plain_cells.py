"""Runs cells in an IPython shell of its own, one after the other, as a program: cells come in as JSON, failures go out.

It stands alone, so that nothing of the tests or of the kernel is in the process in which the cells run.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
import traceback
import types
from pathlib import Path
from typing import Any

from IPython.core.interactiveshell import InteractiveShell


def main(request_path: Path, failures_path: Path) -> None:
    """Run cells.

    Args:
        request_path: a file with ``{"scratch": folder, "cells": [[key, code], ...]}``.
        failures_path: gets ``{key: traceback}`` of the cells that failed.
    """
    request = json.loads(request_path.read_text(encoding="utf-8"))
    # As in a kernel: what cells define is in ``__main__``, and this program is not.
    sys.modules["__main__"] = module = types.ModuleType("__main__")
    shell: Any = InteractiveShell.instance(user_module=module)
    shell.showtraceback = lambda *_, **__: None
    shell.user_ns["scratch"] = Path(request["scratch"])
    failures: dict[str, str] = {}
    for key, code in request["cells"]:
        with contextlib.redirect_stdout(io.StringIO()):
            result = shell.run_cell(code)
        error = result.error_before_exec or result.error_in_exec
        if error is not None:
            failures[key] = "".join(traceback.format_exception(error))
    failures_path.write_text(json.dumps(failures), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
    # Without waiting for what the cells have left behind.
    os._exit(0)
