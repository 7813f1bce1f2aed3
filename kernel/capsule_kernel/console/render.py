"""Turns answers into what is shown: to people as text and HTML, to programs as JSON. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

from capsule_durable.checkpoints.removal import Collection
from capsule_durable.checkpoints.texts import (
    count_of,
    describe_not_restored,
    format_size,
    format_time,
    is_output,
)
from capsule_durable.queries.sessions import SessionList, SessionSummary
from capsule_kernel.console.html import to_html
from capsule_kernel.console.tables import Facts, Paragraph, Table, View, to_text
from capsule_worker.protocol import messages as m
from capsule_worker.protocol.manifest import plain_reason

#: The MIME type of what is shown to programs.
JSON_MIME = "application/vnd.capsule+json"

Shown = m.Answer | SessionList | Collection

#: Variables that a sentence names; of the rest it says how many.
_MAX_NAMED = 8
#: Variables of which a status tells why they are not saved.
_MAX_UNSAVED = 5
#: Characters of a cell that a list shows.
_LINE = 60


def render(answer: m.Answer) -> m.MimeBundle:
    """Return an answer as a MIME bundle; empty if there is nothing to show.

    Args:
        answer: what the kernel answers to a command.
    """
    view = view_of(answer)
    return {} if view is None else {"text/plain": to_text(view), "text/html": to_html(view), JSON_MIME: to_json(answer)}


def view_of(answer: Shown) -> View | None:
    """Return the view of an answer that people see; None if there is nothing to show.

    Args:
        answer: an answer of the kernel, or of a command that reads the files.
    """
    view = _FORMS[type(answer)].view
    return view(answer) if view is not None else None


def to_json(answer: Shown) -> dict[str, Any]:
    """Return an answer as programs get it: its fields, and the name of the schema that they follow.

    Args:
        answer: an answer of the kernel, or of a command that reads the files.
    """
    if isinstance(answer, (m.RestorePlan, m.StandbyTakeover)):
        fields = answer.report.model_dump(mode="json")
    elif isinstance(answer, Collection):
        fields = asdict(answer)
    else:
        fields = answer.model_dump(mode="json", exclude={"kind"})
    return {"schema": f"capsule.{_FORMS[type(answer)].schema}/{m.API}", "api": m.API, **fields}


# -- status --------------------------------------------------------------------------------------------------


def _status(status: m.Status) -> Facts:
    return Facts("Capsule", [*_saved(status), *_protected(status), *_place(status)])


def _saved(status: m.Status) -> list[tuple[str, str]]:
    rows = [("Saving", _saving(status))]
    if status.last is not None:
        rows.append(("Last saved", f"{_called(status.last)}, {_when(status.last)}"))
    if status.head is not None:
        if status.last is None or status.head.id != status.last.id:
            rows.append(("Current checkpoint", f"{_called(status.head)}, {_when(status.head)}"))
        unsaved = f", {status.head_unsaved} not saved" if status.head_unsaved else ""
        variables = count_of(status.head_variables, "variable")
        rows.append(("Variables", f"{variables}, {format_size(status.head.size)}{unsaved}"))
    if status.not_saved:
        rows.append(("Not saved", _unsaved(status.not_saved)))
    return rows


def _protected(status: m.Status) -> list[tuple[str, str]]:
    rows = []
    if status.standby is not None:
        rows.append(("Hot standby", _with_reason(status.standby.state, status.standby.reason)))
    if status.recovery is not None:
        recovery = status.recovery
        state = f"{format_time(recovery.time)}, to the state after In [{recovery.execution_count}]"
        rows.append(("Last recovery", f"from a {recovery.source} at {state}"))
    if status.profile is not None:
        rows.append(("Sandbox", _sandbox(status.profile, status.sandbox)))
    if status.hidden_environment:
        rows.append(("Environment variables hidden from cells", str(len(status.hidden_environment))))
    return rows


def _place(status: m.Status) -> list[tuple[str, str]]:
    rows = []
    if status.sizes is not None:
        sizes = f"{format_size(status.sizes.written)} written, {format_size(status.sizes.session)} on disk"
        rows.append(("Checkpoints", f"{status.checkpoints}, {sizes}"))
    if status.mode is not None:
        rows.append(("Mode", status.mode))
    state = _state(status.state, status.kernel_pid, status.ended)
    rows += [
        ("Session", f"{status.session}, {state}") if status.session is not None else ("Kernel", status.kernel),
        ("Notebook", status.notebook or f"unknown; kernel {status.kernel}"),
    ]
    if status.directory is not None:
        rows.append(("Directory", status.directory))
    return rows


def _saving(status: m.Status) -> str:
    saving, last = status.saving, status.last
    if saving.state == "saved":
        return f"saved after In [{last.execution_count}]" if last is not None else "nothing to save yet"
    return _with_reason("off" if saving.state == "off" else "not saving", saving.reason)


def _sandbox(profile: str, layers: Sequence[m.SandboxLayer]) -> str:
    if profile == "open":
        return "open (cells run in processes of their own, but in no sandbox)"
    active = ", ".join(layer.layer for layer in layers if layer.active)
    parts = [f"{active}: active"] if active else []
    parts += [f"{_with_reason(layer.layer, 'not active')}: {layer.reason}" for layer in layers if not layer.active]
    return f"{profile} ({'; '.join(parts)})" if parts else profile


def _unsaved(reasons: dict[str, str]) -> str:
    more = len(reasons) - _MAX_UNSAVED
    named = [f"{name} ({plain_reason(reason)})" for name, reason in list(reasons.items())[:_MAX_UNSAVED]]
    return ", ".join([*named, *([f"and {more} more"] if more > 0 else [])])


def _with_reason(state: str, reason: str | None) -> str:
    return state if reason is None else f"{state}: {reason}"


def _state(state: m.SessionState, pid: int | None, ended: float | None) -> str:
    match state:
        case "running":
            return f"running (process {pid})" if pid else "running"
        case "elsewhere":
            return f"running elsewhere (process {pid})" if pid else "running elsewhere"
        case "killed":
            return "was killed"
        case "ended":
            return "ended" if ended is None else f"ended {format_time(ended)}"


def _sessions(found: SessionList) -> Table:
    columns = ["session", "notebook", "began", "state", "checkpoints", "last saved", "on disk"]
    return Table("Sessions", columns, [_session(session) for session in found.sessions])


def _session(session: SessionSummary) -> list[str]:
    return [
        session.id,
        session.notebook or session.kernel,
        format_time(session.started),
        _state(session.state, session.kernel_pid, session.ended),
        str(session.checkpoints),
        _when(session.last) if session.last is not None else "",
        format_size(session.size),
    ]


# -- checkpoints ---------------------------------------------------------------------------------------------


def _checkpoints(found: m.CheckpointList) -> Table:
    columns = ["", "no", "id", "name", "after", "time", "variables", "size", "written", "about"]
    rows = [_checkpoint(checkpoint) for checkpoint in found.checkpoints]
    if found.session is None:
        columns = ["session", *columns]
        rows = [[checkpoint.session, *row] for checkpoint, row in zip(found.checkpoints, rows, strict=True)]
    caption = f"Checkpoints matching {found.query!r}" if found.query else "Checkpoints"
    if len(rows) < found.total:
        caption += f", the latest {len(rows)} of {found.total}"
    return Table(caption, columns, rows)


def _checkpoint(checkpoint: m.Checkpoint) -> list[str]:
    lines = [line for line in checkpoint.code.splitlines() if line.strip()]
    about = checkpoint.description or (lines[0][:_LINE] if lines else "")
    if checkpoint.tags:
        about = f"{about} [{', '.join(checkpoint.tags)}]"
    unsaved = f" ({checkpoint.unsaved} not saved)" if checkpoint.unsaved else ""
    return [
        "*" if checkpoint.head else "",
        str(checkpoint.number),
        checkpoint.id,
        checkpoint.name or "",
        f"In [{checkpoint.execution_count}]",
        format_time(checkpoint.time),
        f"{checkpoint.variables}{unsaved}",
        format_size(checkpoint.size),
        format_size(checkpoint.bytes_written),
        about,
    ]


def _contents(found: m.CheckpointContents) -> Table:
    rows = [
        [
            variable.name,
            variable.type,
            format_size(variable.size) if variable.saved else "",
            f"In [{variable.cell.number}]" if variable.cell is not None else "",
            "saved" if variable.saved else f"not saved: {plain_reason(variable.reason or '')}",
        ]
        for variable in found.variables
    ]
    checkpoint = found.checkpoint
    name = f' "{checkpoint.name}"' if checkpoint.name else ""
    sizes = f"{format_size(checkpoint.size)} ({format_size(checkpoint.bytes_written)} new)"
    caption = f"Checkpoint {checkpoint.number}{name} ({checkpoint.id}), {_when(checkpoint)}, {sizes}"
    return Table(caption, ["variable", "type", "size", "from", ""], rows, "no variables")


def _diff(diff: m.CheckpointDiff) -> Table:
    rows = [
        [
            change.name,
            change.kind,
            _arrow(change.type_before, change.type_after),
            _arrow(format_size(change.size_before), format_size(change.size_after)),
        ]
        for change in diff.changes
    ]
    caption = f"From {_called(diff.before)} to {_called(diff.after)}"
    return Table(caption, ["variable", "change", "type", "size"], rows, "no variable differs")


def _deleted(deleted: m.Deleted) -> Table:
    rows = [[str(each.number), each.id, each.name or "", each.session] for each in deleted.checkpoints]
    return Table(f"Deleted, {format_size(deleted.freed)} freed", ["no", "id", "name", "session"], rows)


def _collected(found: Collection) -> Facts:
    rows = [
        ("Freed", format_size(found.freed)),
        ("Checkpoints", f"{found.checkpoints} deleted"),
        ("Sessions", f"{len(found.sessions)} deleted, {found.in_use} in use"),
    ]
    return Facts("Collected", rows)


# -- restoring -----------------------------------------------------------------------------------------------


def _restored(report: m.Restored) -> Paragraph:
    checkpoint = report.checkpoint
    parts = []
    if report.undone:
        parts.append(f"Undid {_cells(report.undone)}.")
    names = [name for name in report.restored if not is_output(name)]
    if report.redo is not None:
        what, whose = count_of(len(names), "variable"), "its" if len(names) == 1 else "their"
        parts.append(f"Restored {what} to {whose} state after In [{checkpoint.execution_count}].")
    else:
        what = f"{count_of(len(names), 'variable')} ({_named(names)})" if names else "no variables"
        parts.append(f"Restored {what} from checkpoint {_called(checkpoint)}, {_when(checkpoint)}.")
    if report.changed:
        parts.append(f"Changed: {_named(report.changed)}.")
    reasons = {name: reason for name, reason in report.not_restored.items() if not is_output(name)}
    cells = [report.cells[name].number for name in reasons if name in report.cells]
    missing = describe_not_restored(reasons, cells, is_earlier=checkpoint.session != report.session)
    if missing:
        parts.append(missing)
    if report.redo is not None:
        is_ours = report.redo.session == report.session
        parts.append(f"Redo: %capsule restore {report.redo.number if is_ours else report.redo.id}")
    return Paragraph(" ".join(parts))


def _cells(cells: Iterable[m.CellRef]) -> str:
    names = [f"In [{cell.number}]" for cell in cells]
    return f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else names[0]


def _named(names: Sequence[str]) -> str:
    more = len(names) - _MAX_NAMED
    return ", ".join(names[:_MAX_NAMED]) + (f" and {more} more" if more > 0 else "")


def _called(checkpoint: m.Checkpoint | m.CheckpointRef) -> str:
    return f'"{checkpoint.name}"' if checkpoint.name else f"{checkpoint.number} ({checkpoint.id})"


def _when(checkpoint: m.Checkpoint | m.CheckpointRef) -> str:
    return f"after In [{checkpoint.execution_count}], {format_time(checkpoint.time)}"


def _arrow(before: str | None, after: str | None) -> str:
    if not before or not after or before == after:
        return after or before or ""
    return f"{before} → {after}"


class _Form(NamedTuple):
    schema: str
    view: Callable[[Any], View] | None = None


_FORMS = {
    m.Status: _Form("status", _status),
    m.CheckpointList: _Form("checkpoints", _checkpoints),
    m.CheckpointContents: _Form("checkpoint", _contents),
    m.CheckpointDiff: _Form("diff", _diff),
    m.Deleted: _Form("deleted", _deleted),
    m.RestorePlan: _Form("restored", lambda plan: _restored(plan.report)),
    m.StandbyTakeover: _Form("restored", lambda takeover: _restored(takeover.report)),
    m.Done: _Form("done"),
    m.SubshellList: _Form("subshells"),
    SessionList: _Form("sessions", _sessions),
    Collection: _Form("collected", _collected),
}
