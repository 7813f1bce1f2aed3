"""Completion, inspection, history and is-complete: questions about code and names, answered without running a cell."""

from __future__ import annotations

from typing import Any

from IPython.core.completer import provisionalcompleter, rectify_completions
from IPython.utils.tokenutil import token_at_cursor

from capsule_worker.output.jsonable import jsonable
from capsule_worker.protocol.messages import (
    CompleteMessage,
    CompleteReplyMessage,
    HistoryMessage,
    HistoryReplyMessage,
    InspectMessage,
    InspectReplyMessage,
    IsCompleteMessage,
    IsCompleteReplyMessage,
)

#: The metadata key under which clients look for the types of completions.
_TYPES_KEY = "_jupyter_types_experimental"


def complete(shell: Any, message: CompleteMessage) -> CompleteReplyMessage:
    """Return the completions at the cursor.

    Args:
        shell: the shell.
        message: the question.
    """
    with provisionalcompleter():
        found = shell.Completer.completions(message.code, message.cursor_pos)
        completions = list(rectify_completions(message.code, found))
    types = [
        {"start": c.start, "end": c.end, "text": c.text, "type": c.type, "signature": c.signature} for c in completions
    ]
    start, end = (completions[0].start, completions[0].end) if completions else (message.cursor_pos,) * 2
    return CompleteReplyMessage(
        request_id=message.id,
        content={
            "status": "ok",
            "matches": [c.text for c in completions],
            "cursor_start": start,
            "cursor_end": end,
            "metadata": {_TYPES_KEY: jsonable(types)},
        },
    )


def inspect(shell: Any, message: InspectMessage) -> InspectReplyMessage:
    """Return the documentation (detail level 0) or source (detail level 1) of the name at the cursor.

    Args:
        shell: the shell.
        message: the question.
    """
    name = token_at_cursor(message.code, message.cursor_pos)
    content: dict[str, Any] = {"status": "ok", "found": False, "data": {}, "metadata": {}}
    try:
        bundle = shell.object_inspect_mime(
            name, detail_level=message.detail_level, omit_sections=set(message.omit_sections)
        )
    except KeyError:
        return InspectReplyMessage(request_id=message.id, content=content)
    if not shell.enable_html_pager:
        bundle.pop("text/html", None)
    content.update(found=True, data=jsonable(bundle))
    return InspectReplyMessage(request_id=message.id, content=content)


def history(shell: Any, message: HistoryMessage) -> HistoryReplyMessage:
    """Return earlier cells by range, from the end, or by pattern.

    Args:
        shell: the shell.
        message: the question.
    """
    manager = shell.history_manager
    if message.access == "tail":
        found = manager.get_tail(message.n or 0, raw=message.raw, output=message.output, include_latest=True)
    elif message.access == "range":
        found = manager.get_range(message.session, message.start, message.stop, raw=message.raw, output=message.output)
    else:
        found = manager.search(
            message.pattern or "*", raw=message.raw, output=message.output, n=message.n, unique=message.unique
        )
    # In a range IPython calls the current session 0; clients can ask again only by its number.
    numbered = [(session or manager.session_number, line, jsonable(cell)) for session, line, cell in found]
    return HistoryReplyMessage(request_id=message.id, history=numbered)


def is_complete(shell: Any, message: IsCompleteMessage) -> IsCompleteReplyMessage:
    """Return whether the code is complete, so that it can run.

    Args:
        shell: the shell.
        message: the question.
    """
    status, indent = shell.input_transformer_manager.check_complete(message.code)
    return IsCompleteReplyMessage(request_id=message.id, status=status, indent=" " * (indent or 0))
