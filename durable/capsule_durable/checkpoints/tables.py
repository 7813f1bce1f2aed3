"""Tables for people: as text, as HTML for notebooks, and as rows for the command line. Pure."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from capsule_durable.text import visible

#: The mime type of what a table shows, for programs.
DATA_MIME = "application/vnd.capsule+json"


@dataclass(frozen=True)
class Table:
    """Rows under titles, with a line above them.

    Args:
        caption: what is shown.
        columns: titles; where all are empty none are shown.
        rows: one text for each title.
        empty: what is said where there are no rows.
        data: the same for programs, as JSON has it; None: there is nothing for them.
    """

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    empty: str = "nothing"
    data: Any = None

    def to_text(self) -> str:
        """Return it in columns of a fixed width."""
        caption, rows = visible(self.caption), [[visible(cell) for cell in row] for row in self.rows]
        if not rows:
            return f"{caption}: {self.empty}"
        lines = [self.columns, *rows]
        widths = [max(len(line[column]) for line in lines) for column in range(len(self.columns))]
        head = [self.columns, ["-" * width for width in widths]] if any(self.columns) else []
        ruled = [*head, *rows]
        text = [
            "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in ruled
        ]
        return "\n".join([caption, *text])

    def to_html(self) -> str:
        """Return it as an HTML table, with all texts escaped."""
        if not self.rows:
            return f"<p>{html.escape(self.caption)}: {html.escape(self.empty)}</p>"
        titles = "".join(f'<th style="text-align:left">{html.escape(title)}</th>' for title in self.columns)
        head = f"<thead><tr>{titles}</tr></thead>" if any(self.columns) else ""
        body = "".join(
            "<tr>" + "".join(f'<td style="text-align:left">{html.escape(cell)}</td>' for cell in row) + "</tr>"
            for row in self.rows
        )
        caption = f'<caption style="text-align:left">{html.escape(self.caption)}</caption>'
        return f"<table>{caption}{head}<tbody>{body}</tbody></table>"

    def to_mime(self) -> dict[str, str]:
        """Return it as a mime bundle."""
        return {"text/plain": self.to_text(), "text/html": self.to_html()}


def size_of(count: float | None) -> str:
    """Return a number of bytes as people write it."""
    if count is None:
        return ""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:  # noqa: PLR2004  # the step between units
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def time_of(seconds: float) -> str:
    """Return a time, in seconds since the epoch, as people write it here."""
    return datetime.fromtimestamp(seconds).astimezone().strftime("%Y-%m-%d %H:%M:%S")
