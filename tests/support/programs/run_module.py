"""Starts a program one second earlier: ``python run_module.py MODULE[:FUNCTION] [ARGUMENT ...]``.

jsonschema, which reads notebooks, builds grammars for a format that no notebook has. It does without them where they
cannot be imported.
"""

from __future__ import annotations

import importlib
import runpy
import sys

if __name__ == "__main__":
    sys.modules["rfc3987_syntax"] = None  # type: ignore[assignment]
    del sys.argv[0]
    module, _, function = sys.argv[0].partition(":")
    if function:
        getattr(importlib.import_module(module), function)()
    else:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
