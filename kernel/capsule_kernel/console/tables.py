"""What is shown to people, before it has a form: tables, facts and paragraphs; and their form as text. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from capsule_kernel.console.escape import visible


@dataclass(frozen=True, slots=True)
class Table:
    """Rows under titles, with a line above them.

    Args:
        caption: what is shown.
        columns: titles.
        rows: one text for each title.
        empty: what is shown instead of rows if there are none.
    """

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    empty: str = "none"


@dataclass(frozen=True, slots=True)
class Facts:
    """Names with their values.

    Args:
        caption: what they are about.
        rows: pairs of a name and a value.
    """

    caption: str
    rows: Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Paragraph:
    """Sentences.

    Args:
        text: the sentences.
    """

    text: str


View = Table | Facts | Paragraph


def to_text(view: View) -> str:
    """Return a view as text; tables have columns of a fixed width. Control characters are made visible.

    Args:
        view: the view.
    """
    match view:
        case Paragraph():
            return visible(view.text)
        case Facts():
            return "\n".join([visible(view.caption), *(f"{name}: {visible(value)}" for name, value in view.rows)])
        case Table():
            return _columns(view)


def _columns(table: Table) -> str:
    caption, rows = visible(table.caption), [[visible(cell) for cell in row] for row in table.rows]
    if not rows:
        return f"{caption}: {table.empty}"
    titles = [visible(title) for title in table.columns]
    widths = [max(map(len, column)) for column in zip(titles, *rows, strict=True)]
    ruled = [titles, ["-" * width for width in widths], *rows]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in ruled]
    return "\n".join([caption, *lines])
