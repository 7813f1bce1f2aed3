"""HTML, for notebooks, of what is shown to people. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from capsule_kernel.console.tables import Facts, Paragraph, Table, View

_LEFT = 'style="text-align:left"'


def to_html(view: View) -> str:
    """Return a view as HTML, with all texts escaped.

    Args:
        view: the view.
    """
    match view:
        case Paragraph():
            return f"<p>{escape(view.text)}</p>"
        case Facts():
            rows = [_row("td", [name, value]) for name, value in view.rows]
            return _table(view.caption, "", rows)
        case Table() if not view.rows:
            return f"<p>{escape(view.caption)}: {escape(view.empty)}</p>"
        case Table():
            return _table(
                view.caption, f"<thead>{_row('th', view.columns)}</thead>", [_row("td", row) for row in view.rows]
            )


def _table(caption: str, head: str, rows: Sequence[str]) -> str:
    return f"<table><caption {_LEFT}>{escape(caption)}</caption>{head}<tbody>{''.join(rows)}</tbody></table>"


def _row(tag: str, cells: Sequence[str]) -> str:
    return f"<tr>{''.join(f'<{tag} {_LEFT}>{escape(cell)}</{tag}>' for cell in cells)}</tr>"
