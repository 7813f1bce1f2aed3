"""Sentences about checkpoints, and sizes and times as people write them. Pure."""

from __future__ import annotations

import time as clock
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from capsule_durable.checkpoints.models import Entry
from capsule_worker.protocol import manifest as mf

#: Variables and cells that a sentence names; of the rest it says how many.
_MAX_NAMED = 5
_STEP = 1000


def format_size(count: float | None) -> str:
    """Return a number of bytes as people write it; nothing for None.

    Args:
        count: bytes.
    """
    if count is None:
        return ""
    for unit in ("B", "kB", "MB", "GB"):
        if count < _STEP:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= _STEP
    return f"{count:.1f} TB"


def format_time(seconds: float) -> str:
    """Return a time, in seconds since the epoch, in the local time zone."""
    return datetime.fromtimestamp(seconds).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def format_day_and_time(seconds: float, now: float | None = None) -> str:
    """Return a time in short, with the day in words if it is close.

    Args:
        seconds: since the epoch.
        now: seconds since the epoch; None for the present.
    """
    moment = datetime.fromtimestamp(seconds).astimezone()
    today = datetime.fromtimestamp(clock.time() if now is None else now).astimezone().date()
    days = {today: "today", today - timedelta(days=1): "yesterday"}
    return f"{days.get(moment.date(), moment.date().isoformat())} {moment:%H:%M}"


def count_of(number: int, noun: str) -> str:
    """Return a number with a noun, which is in the plural unless the number is 1.

    Args:
        number: how many.
        noun: the noun in the singular.
    """
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def is_output(name: str) -> bool:
    """Return whether a name stands for the output of a cell, such as ``_12``.

    No text names those: their values have other names, or are not missed.

    Args:
        name: the name of a variable.
    """
    return name[:1] == "_" and name.lstrip("_").isdigit()


def offered(entry: Entry) -> str:
    """Return the offer to restore the last session of a notebook.

    Args:
        entry: the checkpoint that would be restored.
    """
    variables = count_of(entry.variables - entry.unsaved, "variable")
    return (
        f"Your last session of this notebook is saved ({variables}, {format_size(entry.size)},"
        f" {format_day_and_time(entry.time)}). Run %capsule resume to restore it."
    )


def after_crash(manifest: mf.Manifest, session: str, lost: Sequence[int]) -> str:
    """Return the text about the variables that a new worker restores after a crash of the one before.

    Args:
        manifest: the checkpoint that is restored.
        session: id of the session.
        lost: numbers of the cells whose changes are not in it.
    """
    parts = [f"Your variables are restored to their state after {_after(manifest, session)}. You can continue."]
    parts += [text for text in (unsaved(manifest, session), lost_changes(lost)) if text]
    return " ".join(parts)


def from_another_session(manifest: mf.Manifest, session: str, beginning: str) -> str:
    """Return the text about the variables that a new kernel restores from an earlier kernel's checkpoint.

    Args:
        manifest: the checkpoint.
        session: id of the new session.
        beginning: why it is restored, as a sentence.
    """
    text = f"{beginning} Variables are restored to their state after In [{manifest.execution_count}]."
    missing = unsaved(manifest, session)
    return f"{text} {missing}" if missing else text


def lost_changes(cells: Sequence[int]) -> str:
    """Return which changes are lost; nothing if none are.

    Args:
        cells: numbers of the cells that made them.
    """
    if not cells:
        return ""
    them = "that cell if you need it" if len(cells) == 1 else "those cells if you need them"
    return f"Changes from {_enumerated([f'In [{number}]' for number in cells])} are lost. Re-run {them}."


def unsaved(manifest: mf.Manifest, session: str) -> str:
    """Return which variables of a checkpoint are not restored, since they could not be saved; nothing if none are.

    Args:
        manifest: the checkpoint.
        session: id of the session that restores it.
    """
    reasons = {each.name: each.reason for each in manifest.variables if each.reason is not None}
    return not_restored(manifest, reasons, session)


def not_restored(manifest: mf.Manifest, reasons: Mapping[str, str], session: str) -> str:
    """Return which variables are not restored, why, and which cells make them again; nothing if there are none.

    Args:
        manifest: the checkpoint.
        reasons: why, by name.
        session: id of the session that restores it.
    """
    names = sorted(name for name in reasons if not is_output(name))
    cells = {each.name: each.cell.number for each in manifest.variables if each.cell is not None}
    return describe_not_restored(
        {name: reasons[name] for name in names},
        [cells[name] for name in names if name in cells],
        is_earlier=manifest.session != session,
    )


def describe_not_restored(reasons: Mapping[str, str], cells: Sequence[int], *, is_earlier: bool) -> str:
    """Return which variables are not restored; nothing if there are none.

    Args:
        reasons: why, by name.
        cells: numbers of the cells that assigned them.
        is_earlier: whether those cells are of an earlier session.
    """
    if not reasons:
        return ""
    named = [f"{name} ({mf.plain_reason(reason)})" for name, reason in reasons.items()]
    text = f"Not restored: {_enumerated(named, ', ')}"
    numbers = sorted(set(cells))
    if numbers:
        whose = " of the previous session" if is_earlier else ""
        them = "its cell" if len(reasons) == 1 else "their cell" if len(numbers) == 1 else "their cells"
        text += f"; re-run {them} ({_enumerated([f'In [{number}]' for number in numbers])}{whose})"
    return f"{text}."


def _after(manifest: mf.Manifest, session: str) -> str:
    where = "" if manifest.session == session else f" of session {manifest.session}"
    return f"In [{manifest.execution_count}]{where}"


def _enumerated(texts: Sequence[str], last: str = " and ") -> str:
    """Return texts as a list for a sentence; beyond the first few it says how many more there are."""
    more = len(texts) - _MAX_NAMED
    if more > 0:
        return f"{', '.join(texts[:_MAX_NAMED])} and {more} more"
    return f"{', '.join(texts[:-1])}{last}{texts[-1]}" if len(texts) > 1 else texts[0]
