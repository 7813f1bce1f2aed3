"""What becomes of a cell that fails: it fails (``never``, the default), or is tried again. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from pydantic import ConfigDict, Field, ValidationError

from capsule_worker.protocol.model import Model

#: Errors of a cell's code that another attempt would meet again, by name.
NON_RETRYABLE = frozenset(
    {
        "AttributeError",
        "ImportError",
        "IndentationError",
        "KeyboardInterrupt",
        "ModuleNotFoundError",
        "NameError",
        "StdinNotImplementedError",
        "SyntaxError",
        "SystemExit",
        "TabError",
        "TypeError",
        "UnboundLocalError",
        "UsageError",
    }
)
#: How the line starts that sets the policy of a cell.
MAGIC = "%%capsule"
_LINE = re.compile(r"\A%%capsule[ \t]+retry=(\d{1,4})(?:[ \t]+delay=(\d+(?:\.\d*)?|\.\d+))?[ \t]*(?=\n|\Z)")


@dataclass(frozen=True)
class RetryPolicy:
    """How often a cell that fails is tried again.

    Args:
        retries: how often; 0 for never.
        pause: seconds before the first of these attempts; before each further one twice as long.
    """

    retries: int
    delay: float


class _CellOptions(Model):
    """What a cell's metadata may say, beside what is of no interest here."""

    model_config = ConfigDict(strict=True, extra="ignore")
    retry: int | None = Field(default=None, ge=0, le=9999)
    delay: float | None = Field(default=None, ge=0, allow_inf_nan=False)


def from_metadata(said: Any, usual: RetryPolicy) -> RetryPolicy:
    """Return the policy that a cell's metadata says, as ``{"retry": 3, "delay": 0.5}``.

    Args:
        said: what the metadata has under ``capsule``; None for nothing.
        usual: what holds where it says nothing.

    Raises:
        ValueError: it makes no sense. The message says why.
    """
    if said is None:
        return usual
    try:
        wish = _CellOptions.model_validate(said)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(["capsule", *map(str, first["loc"])])
        raise ValueError(f"{where}: {first['msg']}") from error
    return RetryPolicy(
        usual.retries if wish.retry is None else wish.retry, usual.delay if wish.delay is None else wish.delay
    )


def split(code: str, usual: RetryPolicy) -> tuple[RetryPolicy, str]:
    """Return the policy of a cell, and its code without the line that says it (``%%capsule retry=3 delay=0.5``).

    Args:
        code: the cell's.
        usual: what holds where the cell says nothing.
    """
    match = _LINE.match(code)
    if match is None:
        return usual, code
    pause = float(match[2]) if match[2] is not None else usual.delay
    # A comment in its place: the numbers of lines stay.
    return RetryPolicy(int(match[1]), pause), f"# {match[0]}{code[match.end() :]}"


def is_permanent(ename: str | None) -> bool:
    """Whether a cell that failed with this error would fail again."""
    return ename in NON_RETRYABLE
