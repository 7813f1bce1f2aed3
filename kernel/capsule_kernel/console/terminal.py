"""What commands print for people, and what they ask them."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from capsule_durable.errors import CapsuleError
from capsule_durable.text import visible


class WrongUsage(CapsuleError):
    """The arguments cannot be used, whatever the state of this machine. The exit status is 2."""


def note(text: str) -> None:
    """Print a line that is not part of the answer, to the standard error stream.

    Args:
        text: the line.
    """
    print(f"capsule: {visible(text)}", file=sys.stderr, flush=True)


def confirm(question: str, subjects: Sequence[str]) -> bool:
    """Ask a person for a confirmation; no answer means no.

    Args:
        question: the question, with a question mark.
        subjects: what it is about, one line each.

    Raises:
        WrongUsage: no person is at the terminal.
    """
    if not sys.stdin.isatty():
        raise WrongUsage(f"Not a terminal: pass --yes to remove {', '.join(subjects)}.")
    for subject in subjects:
        print(subject)
    try:
        return input(f"{question} [y/N]: ").strip().lower() in ("y", "yes")
    except EOFError:
        return False


def plain(text: str) -> str:
    """Return text so that it is shown as it is: no part of it is markup, or obeyed by the terminal.

    Args:
        text: the text.
    """
    from rich.markup import escape

    return escape(visible(text))


def first_line(code: str, length: int = 80) -> str:
    """Return the first line of a cell that is not blank, cut to a length.

    Args:
        code: the cell's source.
        length: the most characters.
    """
    return next((line[:length] for line in code.splitlines() if line.strip()), "")


def duration(seconds: float) -> str:
    """Return a duration in the largest unit that fits it.

    Args:
        seconds: the duration.
    """
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]], caption: str = "") -> None:
    """Print a table; its texts may have markup.

    Args:
        columns: titles; if all are empty, none are shown.
        rows: one text for each title.
        caption: a line above the table.
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
