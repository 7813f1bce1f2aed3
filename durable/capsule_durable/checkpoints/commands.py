"""What people ask of checkpoints, in a cell or on the command line: the same words, the same answers."""

from __future__ import annotations

from collections.abc import Iterable

from capsule_durable.checkpoints.catalogue import Catalogue
from capsule_durable.checkpoints.changes import difference
from capsule_durable.checkpoints.entries import Entry
from capsule_durable.checkpoints.tables import Table, size_of, time_of
from capsule_durable.errors import CapsuleError
from capsule_worker.protocol.manifest import Manifest

#: Checkpoints that a list shows where nobody said how many.
LISTED = 50
#: Variables that are named in a sentence; of the rest it says how many.
_NAMED = 8


class CommandError(CapsuleError):
    """A command makes no sense here; the message says why, and what to do."""


def listing(catalogue: Catalogue, query: str = "", session: str | None = None, limit: int = LISTED) -> Table:
    """Return a table of checkpoints, newest first."""
    entries = catalogue.checkpoints(query, session, limit)
    rows = [_row(entry) for entry in entries]
    caption = f"Checkpoints matching {query!r}" if query else "Checkpoints"
    return Table(
        caption, ["", "no", "id", "name", "after", "time", "variables", "size", "written", "about"], rows, "none"
    )


def comparison(catalogue: Catalogue, before: Entry, after: Entry) -> Table:
    """Return a table of the variables that differ."""
    changes = difference(catalogue.manifest(before.id), catalogue.manifest(after.id))
    rows = [
        [
            change.name,
            change.kind,
            _arrow(change.type_before, change.type_after),
            _arrow(size_of(change.size_before) or None, size_of(change.size_after) or None),
        ]
        for change in changes
    ]
    return Table(
        f"From {_called(before)} to {_called(after)}", ["variable", "what", "type", "size"], rows, "no variable differs"
    )


def contents(manifest: Manifest) -> Table:
    """Return a table of the variables in a checkpoint."""
    rows = [
        [
            variable.name,
            variable.type,
            size_of(variable.size) if variable.reason is None else "",
            f"In [{variable.cell.number}]" if variable.cell is not None else "",
            "saved" if variable.reason is None else f"not saved: {variable.reason}",
        ]
        for variable in manifest.variables
    ]
    return Table(described(manifest), ["variable", "type", "size", "from", ""], rows, "no variables")


def described(manifest: Manifest) -> str:
    """Return in one line which checkpoint this is."""
    name = f" {manifest.name!r}" if manifest.name else ""
    return (
        f"Checkpoint{name} {manifest.id}, after In [{manifest.execution_count}], {time_of(manifest.time)},"
        f" {size_of(manifest.size)}, {size_of(manifest.bytes_written)} written"
    )


def missing(manifest: Manifest, failed: dict[str, str] | None = None) -> list[str]:
    """Say of each variable that does not come back why, and which cell makes it anew."""
    reasons = {variable.name: variable.reason for variable in manifest.variables if variable.reason is not None}
    reasons.update(failed or {})
    cells = {variable.name: variable.cell for variable in manifest.variables}
    types = {variable.name: variable.type for variable in manifest.variables}
    said = []
    for name, reason in sorted(reasons.items()):
        if name[:1] == "_" and name.lstrip("_").isdigit():
            continue  # an output; what it is the value of has a name, or is not missed
        cell = cells.get(name)
        again = f"; run In [{cell.number}] again" if cell is not None else ""
        said.append(f"{name} ({types.get(name, '?')}): {reason}{again}")
    return said


def naming(names: Iterable[str]) -> str:
    """Return names as a list for a sentence, not too long."""
    known = [name for name in names if not name.startswith("_")]
    more = len(known) - _NAMED
    return ", ".join(known[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def _row(entry: Entry) -> list[str]:
    lines = [line for line in entry.code.splitlines() if line.strip()]
    about = entry.description or (lines[0][:60] if lines else "")
    if entry.tags:
        about = f"{about} [{', '.join(entry.tags)}]"
    unsaved = f" ({entry.unsaved} not saved)" if entry.unsaved else ""
    return [
        "*" if entry.head else "",
        str(entry.number),
        entry.id,
        entry.name or "",
        f"In [{entry.execution_count}]",
        time_of(entry.time),
        f"{entry.variables}{unsaved}",
        size_of(entry.size),
        size_of(entry.bytes_written),
        about,
    ]


def _called(entry: Entry) -> str:
    return entry.name or f"#{entry.number} ({entry.id})"


def _arrow(before: str | None, after: str | None) -> str:
    if before is None or after is None or before == after:
        return after or before or ""
    return f"{before} → {after}"
