"""Kinds of objects that notebooks hold, in tables: what a checkpoint restores, and what it has to report as lost."""

from __future__ import annotations

from . import arrays, classes, columns, containers, frames, functions, gone, models, pictures, science, standard, values
from .kind import Kind, is_installed

#: The tables, by name.
TABLES: dict[str, tuple[Kind, ...]] = {
    "values": values.KINDS,
    "containers": containers.KINDS,
    "functions": functions.KINDS,
    "classes": classes.KINDS,
    "standard": standard.KINDS,
    "arrays": arrays.KINDS,
    "frames": frames.KINDS,
    "columns": columns.KINDS,
    "science": science.KINDS,
    "models": models.KINDS,
    "pictures": pictures.KINDS,
    "gone": gone.KINDS,
}
#: All of them.
KINDS: tuple[Kind, ...] = tuple(kind for table in TABLES.values() for kind in table)

__all__ = ["KINDS", "TABLES", "Kind", "is_installed"]
