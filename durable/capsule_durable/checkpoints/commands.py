"""What people ask of checkpoints, in a cell or on the command line: the same words, the same answers."""

from __future__ import annotations

import sys
import time
from collections.abc import Container, Iterable, Mapping, Sequence
from typing import Any

from capsule_durable.checkpoints.catalogue import Catalogue
from capsule_durable.checkpoints.diff import difference
from capsule_durable.checkpoints.models import Entry, SessionRow
from capsule_durable.checkpoints.retention import Retention
from capsule_durable.checkpoints.tables import Table, size_of, time_of
from capsule_durable.errors import CapsuleError
from capsule_worker.protocol.manifest import Manifest

#: Checkpoints that a list shows where nobody said how many.
LISTED = 50
#: Variables that are named in a sentence; of the rest it says how many.
_NAMED = 8
#: Sessions that are offered where none was named.
OFFERED = 3
#: Of cells and reasons, as many as fit a message.
_FIT = 5


class CommandError(CapsuleError):
    """A command makes no sense here; the message says why, and what to do."""


#: What is shown where there is no catalogue.
NO_SESSIONS, NO_CHECKPOINTS = Table("Sessions", [], [], "none", []), Table("Checkpoints", [], [], "none", [])


def listing(catalogue: Catalogue, query: str = "", session: str | None = None, limit: int = LISTED) -> Table:
    """Return a table of checkpoints, newest first: of one session, or of all."""
    entries = catalogue.checkpoints(query, session)
    shown = entries[:limit]
    columns = ["", "no", "id", "name", "after", "time", "variables", "size", "written", "about"]
    rows = [_row(entry) for entry in shown]
    if session is None:
        columns, rows = (["session", *columns], [[entry.session, *row] for entry, row in zip(shown, rows, strict=True)])
    caption = f"Checkpoints matching {query!r}" if query else "Checkpoints"
    if len(shown) < len(entries):
        caption += f", the latest {len(shown)} of {len(entries)}"
    return Table(caption, columns, rows, "none", [entry.model_dump() for entry in shown])


def sessions(catalogue: Catalogue) -> Table:
    """Return a table of the sessions, newest first."""
    found = catalogue.sessions.all()
    rows, data = [], []
    for session in found:
        newest = catalogue.newest(session.id)
        size = catalogue.sessions.disk_use(session.id)
        rows.append(
            [
                session.id,
                session.notebook or session.kernel,
                time_of(session.started),
                _state(catalogue, session),
                str(session.checkpoints),
                f"after In [{newest.execution_count}], {time_of(newest.time)}" if newest else "",
                size_of(size),
            ]
        )
        data.append(_session_data(catalogue, session, size))
    columns = ["session", "notebook", "began", "state", "checkpoints", "the latest", "on disk"]
    return Table("Sessions", columns, rows, "none", data)


def status(catalogue: Catalogue, session: SessionRow, facts: Mapping[str, str]) -> Table:
    """Return a table of what is kept of one session.

    Args:
        catalogue: all checkpoints.
        session: the session.
        facts: what else is known of it.
    """
    entries = catalogue.checkpoints("", session.id)
    head = catalogue.head(session.id)
    size = catalogue.sessions.disk_use(session.id)
    written = sum(entry.bytes_written for entry in entries)
    rows = []
    if head is not None:
        after = f"after In [{head.execution_count}], {time_of(head.time)}"
        rows = [
            ["stands at", f"{_called(head)}, {after}"],
            ["size", f"{size_of(head.size)} in {head.variables} variables, {head.unsaved} not saved"],
        ]
    rows += [[name, value] for name, value in facts.items()]
    rows += [
        ["checkpoints", f"{len(entries)}, {size_of(written)} written, {size_of(size)} on disk"],
        ["session", f"{session.id}, {_state(catalogue, session)}"],
        ["notebook", session.notebook or f"not known; kernel {session.kernel}"],
        ["directory", str(catalogue.sessions.directory(session.id))],
    ]
    data = _session_data(catalogue, session, size) | {"stands_at": head and head.model_dump(), **facts}
    return Table("Capsule", ["", ""], rows, data=data)


def forgetting(catalogue: Catalogue, references: Iterable[str], session: str | None = None) -> Table:
    """Remove checkpoints, all or none of them, and say which.

    Args:
        catalogue: all checkpoints.
        references: names, numbers or ids.
        session: id of the session in which they were written.

    Raises:
        UnknownCheckpoint: one stands for none, or for several.
        CommandError: one is needed by a running kernel.
    """
    found = [catalogue.find(reference, session) for reference in references]
    entries = list({entry.id: entry for entry in found}.values())
    needed = catalogue.garbage.in_use()
    kept = [_called(entry) for entry in entries if entry.id in needed]
    if kept:
        raise CommandError(
            f"nothing was removed: a running kernel builds on {', '.join(kept)}; "
            "its latest checkpoint, and the one at which it stands, stay"
        )
    catalogue.garbage.delete(entry.id for entry in entries)
    freed, keep_all = 0, Retention(count=sys.maxsize, age=None, size=None)
    for row in catalogue.sessions.all():
        numbers = [entry.number for entry in entries if entry.session == row.id]
        if not numbers:
            continue
        with catalogue.sessions.access(row) as access:
            # The keeper of one that runs collects by itself.
            if access.allows("collect"):
                freed += catalogue.garbage.collect(
                    row.id, keep_all, 0.0, has_writers=True, newest_complete=max(numbers)
                ).freed
    rows = [[str(entry.number), entry.id, entry.name or "", entry.session] for entry in entries]
    data = {"removed": [entry.model_dump() for entry in entries], "freed": freed}
    return Table("Removed", ["no", "id", "name", "session"], rows, data=data)


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
    data = {"before": before.id, "after": after.id, "changes": [change.model_dump() for change in changes]}
    caption = f"From {_called(before)} to {_called(after)}"
    return Table(caption, ["variable", "what", "type", "size"], rows, "no variable differs", data)


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
    data = {
        "id": manifest.id,
        "number": manifest.number,
        "name": manifest.name,
        "saved": [variable.name for variable in manifest.variables if variable.reason is None],
        "not_saved": {variable.name: variable.reason for variable in manifest.variables if variable.reason is not None},
    }
    return Table(described(manifest), ["variable", "type", "size", "from", ""], rows, "no variables", data)


def brought_back(
    manifest: Manifest, restored: list[str], failed: dict[str, str], notes: list[str], source: str = "a checkpoint"
) -> Table:
    """Return a table of what came back of a checkpoint.

    Args:
        manifest: the checkpoint.
        restored: names that came back.
        failed: why others that were wanted did not, by name.
        notes: what else did not, in words.
        source: what it came from.
    """
    rows = [["back", naming(sorted(restored)) or "nothing"], ["from", source]]
    rows += [["not back", text] for text in [*missing(manifest, failed, failed), *notes]]
    data = {"id": manifest.id, "restored": sorted(restored), "not_restored": failed, "notes": notes}
    return Table(described(manifest), ["", ""], rows, data=data)


def described(manifest: Manifest) -> str:
    """Return in one line which checkpoint this is."""
    name = f" {manifest.name!r}" if manifest.name else ""
    return (
        f"Checkpoint{name} {manifest.id}, after In [{manifest.execution_count}], {time_of(manifest.time)},"
        f" {size_of(manifest.size)}, {size_of(manifest.bytes_written)} written"
    )


def missing(
    manifest: Manifest, failed: Mapping[str, str] | None = None, wanted: Container[str] | None = None
) -> list[str]:
    """Say of each variable that does not come back why, and which cell makes it anew.

    Args:
        manifest: the checkpoint.
        failed: why variables did not come back that had been saved, by name.
        wanted: names of which to say it; None: all.
    """
    reasons = {variable.name: variable.reason for variable in manifest.variables if variable.reason is not None}
    reasons.update(failed or {})
    cells = {variable.name: variable.cell for variable in manifest.variables}
    types = {variable.name: variable.type for variable in manifest.variables}
    said = []
    for name, reason in sorted(reasons.items()):
        if name[:1] == "_" and name.lstrip("_").isdigit():
            continue  # an output; what it is the value of has a name, or is not missed
        if wanted is not None and name not in wanted:
            continue
        cell = cells.get(name)
        again = f"; run In [{cell.number}] again" if cell is not None else ""
        said.append(f"{name} ({types.get(name, '?')}): {reason}{again}")
    return said


def recovered(manifest: Manifest, session: str, lost: Sequence[int]) -> str:
    """Say in a sentence or two what a new worker begins with.

    Args:
        manifest: the checkpoint.
        session: id of the session that goes on.
        lost: numbers of cells whose effects are not in it.
    """
    where = "" if manifest.session == session else f" of session {manifest.session}"
    text = f"The variables are back from a checkpoint, as they were after In [{manifest.execution_count}]{where}"
    gone = missing(manifest)
    if gone:
        text += f", but for {_several(gone, '; ')}"
    if lost:
        cells = _several([f"In [{number}]" for number in lost], ", ")
        text += f". What {cells} did is not among them: run again what matters"
    return text


NOTHING_COLLECTED = Table("Collected", ["", ""], [["freed", "0 B"]], data={"freed": 0, "dropped": 0, "sessions": []})


def collecting(catalogue: Catalogue, policy: Retention) -> Table:
    """Remove what a policy does not keep, of all sessions whose kernels do not run; say what that was.

    Args:
        catalogue: all checkpoints.
        policy: what is kept.
    """
    now = time.time()
    freed, dropped = 0, 0
    running = 0
    for row in catalogue.sessions.all():
        with catalogue.sessions.access(row) as access:
            if not access.allows("collect"):
                running += 1  # its kernel collects by itself
                continue
            found = catalogue.garbage.collect(row.id, policy, now, has_writers=access.has_writers)
        freed, dropped = freed + found.freed, dropped + len(found.dropped)
    forgotten = catalogue.garbage.remove_sessions(policy, now)
    rows = [
        ["freed", size_of(freed)],
        ["checkpoints", f"{dropped} removed"],
        ["sessions", f"{len(forgotten)} removed, {running} in use"],
    ]
    return Table("Collected", ["", ""], rows, data={"freed": freed, "dropped": dropped, "sessions": forgotten})


def offered(entry: Entry) -> str:
    """Offer in a sentence to go on with the state of an earlier session."""
    return (
        f"The variables of this notebook's last session, {time_of(entry.time)}, after In [{entry.execution_count}]"
        f" ({entry.variables - entry.unsaved} variables, {size_of(entry.size)}), are kept: `%capsule resume` brings"
        " them back"
    )


def _several(texts: Sequence[str], separator: str) -> str:
    more = len(texts) - _FIT
    return separator.join([*texts[:_FIT], *([f"and {more} more"] if more > 0 else [])])


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


def _state(catalogue: Catalogue, session: SessionRow) -> str:
    if catalogue.sessions.is_running(session):
        place = "" if session.state == "running" else ", elsewhere"
        return f"runs (process {session.pid}{place})"
    return "was killed" if session.ended is None else f"ended {time_of(session.ended)}"


def _session_data(catalogue: Catalogue, session: SessionRow, size: int) -> dict[str, Any]:
    return session.model_dump() | {"runs": catalogue.sessions.is_running(session), "size_on_disk": size}


def _called(entry: Entry) -> str:
    return entry.name or f"#{entry.number} ({entry.id})"


def _arrow(before: str | None, after: str | None) -> str:
    if before is None or after is None or before == after:
        return after or before or ""
    return f"{before} → {after}"
