"""Promise ids, and those of sessions, in one place. The same work always has the same id.

The grammar is resonate-sdk's (``resonate.ids``): ``origin`` or ``origin:lineage``; a root id holds no ``:``.
"""

from __future__ import annotations

import os
import re

#: Digits that sort as they count, without those that look alike: what sessions' ids are made of.
DIGITS = "0123456789abcdefghjkmnpqrstvwxyz"
#: Of a session's id: 45 bits of milliseconds, and 20 random ones.
_TIME_DIGITS, _RANDOM_DIGITS = 9, 4
#: How the ids of executions begin.
EXECUTION = "exec."
#: How the steps begin that are inputs.
INPUT = "input."
#: The tag of the promises of inputs, by which they can be searched.
INPUT_TAG = "capsule:input"
#: Characters of the id of an execution or a run, and of a cell's source, in a short id.
_SHORT, _SHORT_SOURCE = 8, 4
_WORD = re.compile(r"[A-Za-z0-9_-]{1,128}\Z")


def new_execution_id() -> str:
    """Return a fresh id for one execution of one cell."""
    return os.urandom(16).hex()


def slug(text: str) -> str:
    """Return a short word that stands for a text: 16 hexadecimal digits, the same for the same text.

    Args:
        text: a text of any form and length.
    """
    import hashlib  # the first worker is started without

    return hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=8).hexdigest()


def execution(execution_id: str) -> str:
    """Return the root promise id of an execution.

    Args:
        execution_id: the execution, for example 32 hexadecimal digits of ``new_execution_id``.

    Raises:
        ValueError: the id holds what a promise id may not.
    """
    if not _WORD.match(execution_id):
        msg = f"not an execution id: {execution_id!r}"
        raise ValueError(msg)
    return f"{EXECUTION}{execution_id}"


def outcome(root_id: str) -> str:
    """Return the promise id of the outcome of the execution with this root: the first thing that it makes.

    Args:
        root_id: id of the root promise, from ``execution``.
    """
    return f"{root_id}:1"


def execution_input(execution_id: str, n: int) -> str:
    """Return the promise id of an input of an execution.

    Args:
        execution_id: the execution.
        n: the number of the input, counted from 1.

    Raises:
        ValueError: the number is below 1, or the id is not an execution id.
    """
    if n < 1:
        msg = f"inputs are counted from 1, not {n}"
        raise ValueError(msg)
    return f"{execution(execution_id)}:{INPUT}{n}"


def short_input_ids(input_id: str, cell: int | None) -> list[str]:
    """Return the ids by which a person can name an input, the shortest first; only the last is certain to be unique.

    They consist of the beginning of the execution's or run's id, the number of the cell, and the number of the input
    in the cell: ``da66e9c5-3.1``. A run whose cell has changed has several of these, so the beginning of the digest of
    the cell's source can follow: ``da66e9c5-3-1f0a.1``.

    Args:
        input_id: the input's promise id, or that of a step of its function.
        cell: the number of the cell, as in ``In [cell]``; None if it has none. In a run, the cell's position counts.
    """
    key, _, step = input_id.removeprefix(EXECUTION).partition(":")
    name, *rest = key.split("-")
    place, attempt = rest if len(rest) == 2 else (cell, *rest, None)[:2]  # noqa: PLR2004  # a run's: cell and source
    number = step.removeprefix(INPUT).partition(".")[0]
    short = name[:_SHORT] if place is None else f"{name[:_SHORT]}-{place}"
    longer = [f"{short}-{attempt[:_SHORT_SOURCE]}.{number}"] if isinstance(attempt, str) else []
    return [f"{short}.{number}", *longer, input_id.removeprefix(EXECUTION)]


def new_session_id(now: float) -> str:
    """Return a fresh id: short, safe as the name of a file, and sorted by time.

    Args:
        now: seconds since the epoch.
    """
    milliseconds = int(now * 1000)
    digits = [DIGITS[milliseconds >> 5 * place & 31] for place in reversed(range(_TIME_DIGITS))]
    return "".join([*digits, *(DIGITS[byte & 31] for byte in os.urandom(_RANDOM_DIGITS))])
