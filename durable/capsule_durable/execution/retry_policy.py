"""The retry policy of a cell: it fails (the default), or it is tried again. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from pydantic import ConfigDict, Field, ValidationError

from capsule_worker.protocol.model import Model

#: Errors of a cell's code that another attempt would raise again, by name.
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
        delay: seconds before the first of these attempts; doubled before each further one.
    """

    retries: int
    delay: float


class _CellOptions(Model):
    """The options in a cell's metadata that this module reads."""

    model_config = ConfigDict(strict=True, extra="ignore")
    retry: int | None = Field(default=None, ge=0, le=9999)
    delay: float | None = Field(default=None, ge=0, allow_inf_nan=False)


def from_metadata(options: Any, default: RetryPolicy) -> RetryPolicy:
    """Return the policy in a cell's metadata, for example ``{"retry": 3, "delay": 0.5}``.

    Args:
        options: the value of ``capsule`` in the metadata; None for none.
        default: the policy for what the metadata leaves open.

    Raises:
        ValueError: an option is invalid. The message says why.
    """
    if options is None:
        return default
    try:
        found = _CellOptions.model_validate(options)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(["capsule", *map(str, first["loc"])])
        raise ValueError(f"{where}: {first['msg']}") from error
    return RetryPolicy(
        default.retries if found.retry is None else found.retry, default.delay if found.delay is None else found.delay
    )


def split(code: str, default: RetryPolicy) -> tuple[RetryPolicy, str]:
    """Return the policy of a cell, and its code without the line that sets it (``%%capsule retry=3 delay=0.5``).

    Args:
        code: the code of the cell.
        default: the policy for what the line leaves open.
    """
    match = _LINE.match(code)
    if match is None:
        return default, code
    delay = float(match[2]) if match[2] is not None else default.delay
    # A comment replaces it: line numbers stay the same.
    return RetryPolicy(int(match[1]), delay), f"# {match[0]}{code[match.end() :]}"


def is_permanent(ename: str | None) -> bool:
    """Return whether a cell that failed with this error would fail again.

    Args:
        ename: the name of the exception's class; None if the cell raised none.
    """
    return ename in NON_RETRYABLE
