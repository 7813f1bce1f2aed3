"""The line by which a cell is shown."""

from __future__ import annotations


def first_line(code: str, length: int = 80) -> str:
    """Return the first line of a cell that is not blank; an empty text if there is none.

    Args:
        code: the source of the cell.
        length: the line is cut to this many characters.
    """
    return next((line[:length] for line in code.splitlines() if line.strip()), "")
