"""Run pytest in a cell of the kernel ``python3``: ``python in_cell.py ARGUMENTS...``, like ``pytest ARGUMENTS...``."""

from __future__ import annotations

import sys
from typing import Any

from jupyter_client.manager import run_kernel

#: Seconds.
DEADLINE = 300.0


def main() -> int:
    """Run it and show its output; return 1 if the cell fails."""
    code = f"import pytest\nint(pytest.main({sys.argv[1:]!r}))"

    def show(message: dict[str, Any]) -> None:
        content = message["content"]
        match message["msg_type"]:
            case "stream":
                print(content["text"], end="", flush=True)
            case "error":
                print("\n".join(content["traceback"]), flush=True)

    with run_kernel(kernel_name="python3") as client:
        reply = client.execute_interactive(code, output_hook=show, timeout=DEADLINE)
    return int(reply["content"]["status"] != "ok")


if __name__ == "__main__":
    sys.exit(main())
