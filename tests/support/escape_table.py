"""The table of attempts in ``docs/explanation/sandbox.md``, made from a run of them.

``python -m pytest tests/sandbox`` checks it.

``CAPSULE_WRITE_TABLE=1 python -m pytest tests/sandbox/test_escapes.py`` writes it anew.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from tests.support.escape_attempts import KERNEL, MACHINE, NET_AND_FILES
from tests.support.sandboxes import SETUPS

COMMAND = "CAPSULE_WRITE_TABLE=1 python -m pytest tests/sandbox/test_escapes.py"
BEGIN, END = "<!-- attempts -->", "<!-- /attempts -->"
#: What is said of root and of an ordinary user, together.
_WORDS = {
    (False, False): "stopped",
    (True, True): "**succeeds**",
    (True, False): "root only",
    (False, True): "user only",
}


def of(succeeded: Mapping[str, set[tuple[str, str]]]) -> str:
    """Return the table.

    Args:
        succeeded: for each attempt the setups, and as whom, in which it has succeeded.
    """
    names = [setup.name for setup in SETUPS]
    lines = [f"| attempt | {' | '.join(names)} |", f"| --- |{' --- |' * len(names)}"]
    for title, group in [
        ("*against the kernel*", KERNEL),
        ("*against the machine*", MACHINE),
        ("*network and files*", NET_AND_FILES),
    ]:
        lines.append(f"| {title} |{' |' * len(names)}")
        for attempt in group:
            where = succeeded.get(attempt.what, set())
            words = [_WORDS[(name, "root") in where, (name, "user") in where] for name in names]
            lines.append(f"| {attempt.what} | {' | '.join(words)} |")
    return "\n".join(lines)


def read(document: Path) -> str:
    """Return the table in a document, which is written anew where that is wanted."""
    return document.read_text().partition(BEGIN)[2].partition(END)[0].strip()


def write(document: Path, table: str) -> None:
    """Put the table into a document."""
    before, _, rest = document.read_text().partition(BEGIN)
    document.write_text(f"{before}{BEGIN}\n{table}\n{END}{rest.partition(END)[2]}")


def is_wanted() -> bool:
    """Whether the table is to be written."""
    return bool(os.environ.get("CAPSULE_WRITE_TABLE"))
