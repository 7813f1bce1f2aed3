"""What commands print, for people and for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any

from capsule_durable.errors import CapsuleError
from capsule_durable.text import visible


class WrongUsage(CapsuleError):
    """The arguments make no sense, whatever state this machine is in."""


def note(text: str) -> None:
    """Tell a person something that is not the answer."""
    print(f"capsule: {visible(text)}", file=sys.stderr, flush=True)


def print_json(data: Any) -> None:
    """Print what programs read."""
    print(json.dumps(data, indent=2))


def plain(text: str) -> str:
    """Return text that is shown as it is, with no part of it taken for markup, or obeyed by the terminal."""
    from rich.markup import escape

    return escape(visible(text))


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]], caption: str = "") -> None:
    """Print a table; its texts may have markup.

    Args:
        columns: titles; where all are empty none are shown.
        rows: one text for each title.
        caption: a line above it.
    """
    from rich.console import Console
    from rich.table import Column, Table

    console = Console()
    if caption:
        console.print(caption)
    # Folded, not cut: a path with an ellipsis in it is of no use.
    table = Table(*(Column(title, overflow="fold") for title in columns), show_header=any(columns))
    for row in rows:
        table.add_row(*row)
    console.print(table)
