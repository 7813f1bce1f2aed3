"""What commands print for programs: JSON, with the name and version of its form."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any

import typer

#: The option that every listing has.
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def with_schema(kind: str, data: Mapping[str, Any]) -> dict[str, Any]:
    """Return data with the name of its form, for example ``"schema": "capsule.cells/1"``.

    Args:
        kind: what the data is, in one word.
        data: the data; it must have a JSON form.
    """
    return {"schema": f"capsule.{kind}/1", **data}


def print_json(data: Any, kind: str = "") -> None:
    """Print data as indented JSON.

    Args:
        data: the data; it must have a JSON form.
        kind: what the data is, in one word; it becomes part of the data's ``schema``.
    """
    print(json.dumps(with_schema(kind, data) if kind else data, indent=2))
