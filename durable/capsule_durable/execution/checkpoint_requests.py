"""What cells request of the kernel, most of it about checkpoints: one function per type of request."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from typing import Any

from capsule_durable.checkpoints import undo as undoing
from capsule_durable.checkpoints.catalogue import Catalogue
from capsule_durable.checkpoints.diff import difference
from capsule_durable.checkpoints.models import (
    Entry,
    SessionRow,
    UnknownCheckpoint,
    UnknownSession,
    resolve_session,
)
from capsule_durable.checkpoints.recovery import Recovery
from capsule_durable.checkpoints.removal import CheckpointInUse, delete
from capsule_durable.checkpoints.service import CheckpointService, CheckpointsUnavailable
from capsule_durable.checkpoints.texts import is_output
from capsule_durable.errors import CapsuleError
from capsule_durable.messaging.capabilities import Capabilities
from capsule_durable.messaging.requests import RequestDispatcher, RequestError
from capsule_durable.queries import checkpoints as queries
from capsule_durable.queries.sessions import DISTRIBUTION, session_status
from capsule_durable.storage.errors import StoreError
from capsule_durable.workers.launcher import Launcher
from capsule_durable.workers.supervisor import WorkerSupervisor
from capsule_worker.protocol import manifest as mf
from capsule_worker.protocol import messages as m

#: Sessions and variables that an error names.
_MAX_SESSIONS, _MAX_VARIABLES = 3, 8


@dataclass(frozen=True, slots=True)
class RequestContext:
    """What the handlers use.

    Args:
        checkpoints: the kernel's checkpoints.
        recovery: records a standby that takes over.
        workers: has the standby.
        launcher: knows the sandbox.
        capabilities: reach the client.
    """

    checkpoints: CheckpointService
    recovery: Recovery
    workers: WorkerSupervisor
    launcher: Launcher
    capabilities: Capabilities


def register(dispatcher: RequestDispatcher, context: RequestContext) -> None:
    """Have a dispatcher answer the requests of this module.

    Args:
        dispatcher: the dispatcher.
        context: what the handlers use.
    """
    handlers: dict[type[m.KernelRequest], Callable[[RequestContext, Any], Awaitable[m.Answer]]] = {
        m.StatusRequest: status,
        m.ListCheckpointsRequest: list_checkpoints,
        m.ShowCheckpointRequest: show_checkpoint,
        m.DiffCheckpointsRequest: diff_checkpoints,
        m.DeleteCheckpointsRequest: delete_checkpoints,
        m.RestoreRequest: restore,
        m.UndoRequest: undo,
        m.ResumeRequest: resume,
        m.CheckpointsReadyRequest: checkpoints_ready,
        m.LeaveRequest: leave,
        m.ListSubshellsRequest: list_subshells,
    }
    for kind, handler in handlers.items():
        dispatcher.register(kind, partial(_refusing, partial(handler, context)))


async def _refusing(handler: Callable[[Any], Awaitable[m.Answer]], request: m.KernelRequest) -> m.Answer:
    """Return the answer of a handler, whose expected errors become refusals."""
    try:
        return await handler(request)
    except (UnknownCheckpoint, UnknownSession) as error:
        raise RequestError("ambiguous" if error.is_ambiguous else "not_found", str(error)) from error
    except CheckpointInUse as error:
        raise RequestError("invalid", str(error)) from error
    except (CheckpointsUnavailable, StoreError, OSError) as error:
        raise RequestError("unavailable", str(error)) from error


async def status(context: RequestContext, request: m.StatusRequest) -> m.Status:
    """Return the state of the kernel, also where no checkpoints are saved, or where they cannot be read.

    Args:
        context: what the handlers use.
        request: has the state of the worker.
    """
    service, launcher = context.checkpoints, context.launcher
    try:
        found = await service.run(
            lambda catalogue, session: session_status(catalogue, catalogue.sessions.get(session.id))
        )
    except (CapsuleError, OSError) as error:
        found = m.Status(
            version=version(DISTRIBUTION),
            kernel=service.kernel,
            notebook=service.notebook,
            state="running",
            saving=m.Saving(state="off" if service.settings.checkpoints == "off" else "not_saving", reason=str(error)),
        )
    worker = request.worker
    if found.saving.state == "saved" and worker.problem is not None:
        found = found.model_copy(update={"saving": m.Saving(state="not_saving", reason=worker.problem)})
    if worker.no_standby is None:
        standby = m.StandbyStatus(state="ready")
    else:
        off = found.saving.state == "off"
        standby = m.StandbyStatus(state="off" if off else "none", reason=None if off else worker.no_standby)
    layers = [
        m.SandboxLayer(layer=layer.name, active=layer.is_active, reason=layer.why or None) for layer in launcher.layers
    ]
    limits = {name: value for name, value in launcher.limits._asdict().items() if value is not None}
    return found.model_copy(
        update={
            "profile": launcher.sandbox.profile,
            "mode": service.settings.checkpoints,
            "not_saved": worker.not_saved,
            "standby": standby,
            "recovery": service.recovery,
            "sandbox": layers,
            "limits": limits,
            "hidden_environment": launcher.hidden_environment,
        }
    )


async def list_checkpoints(context: RequestContext, request: m.ListCheckpointsRequest) -> m.CheckpointList:
    """Return the session's checkpoints.

    Args:
        context: what the handlers use.
        request: has the words that must occur in a checkpoint's name, description, tags or id.

    Raises:
        CheckpointsUnavailable: no checkpoints are saved.
        StoreError: the catalogue cannot be used.
    """
    query = " ".join(request.query)
    return await context.checkpoints.run(
        lambda catalogue, session: queries.checkpoint_list(catalogue, query, session.id)
    )


async def show_checkpoint(context: RequestContext, request: m.ShowCheckpointRequest) -> m.CheckpointContents:
    """Return the variables in a checkpoint.

    Args:
        context: what the handlers use.
        request: names the checkpoint.

    Raises:
        UnknownCheckpoint: no checkpoint, or several, match the reference.
        CheckpointsUnavailable: no checkpoints are saved.
        StoreError: the catalogue cannot be used.
    """
    return await context.checkpoints.run(
        lambda catalogue, session: queries.contents(
            catalogue.manifest(catalogue.find(request.checkpoint, session.id).id)
        )
    )


async def diff_checkpoints(context: RequestContext, request: m.DiffCheckpointsRequest) -> m.CheckpointDiff:
    """Return the variables that differ between two checkpoints.

    Args:
        context: what the handlers use.
        request: names the two checkpoints; without the second, it is the newest.

    Raises:
        RequestError: the session has no checkpoint.
        UnknownCheckpoint: no checkpoint, or several, match the reference.
        CheckpointsUnavailable: no checkpoints are saved.
        StoreError: the catalogue cannot be used.
    """

    def act(catalogue: Catalogue, session: SessionRow) -> m.CheckpointDiff:
        after = catalogue.find(request.after, session.id) if request.after else catalogue.newest(session.id)
        if after is None:
            raise RequestError("not_found", "there is no checkpoint yet")
        return queries.comparison(catalogue, catalogue.find(request.before, session.id), after)

    return await context.checkpoints.run(act)


async def delete_checkpoints(context: RequestContext, request: m.DeleteCheckpointsRequest) -> m.Deleted:
    """Delete checkpoints, all of them or none.

    Args:
        context: what the handlers use.
        request: names the checkpoints.

    Raises:
        CheckpointInUse: a running kernel needs one of them.
        UnknownCheckpoint: no checkpoint, or several, match the reference.
        CheckpointsUnavailable: no checkpoints are saved.
        StoreError: the catalogue cannot be used.
    """

    def act(catalogue: Catalogue, session: SessionRow) -> m.Deleted:
        entries, freed = delete(catalogue, request.checkpoints, session.id)
        freed += context.checkpoints.collect()
        return m.Deleted(checkpoints=[queries.listed(entry) for entry in entries], freed=freed)

    return await context.checkpoints.run(act)


async def restore(context: RequestContext, request: m.RestoreRequest) -> m.RestorePlan:
    """Return the checkpoint to restore.

    Args:
        context: what the handlers use.
        request: names the checkpoint, and the variables to restore; none stands for all.

    Raises:
        RequestError: the checkpoint does not have one of the variables.
        UnknownCheckpoint: no checkpoint, or several, match the reference.
        CheckpointsUnavailable: no checkpoints are saved.
        StoreError: the catalogue cannot be used.
    """

    def act(catalogue: Catalogue, session: SessionRow) -> m.RestorePlan:
        entry = catalogue.find(request.checkpoint, session.id)
        known = sorted(variable.name for variable in catalogue.manifest(entry.id).variables)
        unknown = [name for name in request.variables if name not in known]
        if unknown:
            raise RequestError(
                "not_found",
                f"checkpoint {request.checkpoint} has no variable {', '.join(unknown)}; it has {_named(known)}",
            )
        manifest = context.checkpoints.fetch_entry(entry)
        report = queries.restore_report(manifest, session.id, request.variables or None)
        return m.RestorePlan(manifest=mf.dump(manifest), report=report)

    return await context.checkpoints.run(act)


async def undo(context: RequestContext, request: m.UndoRequest) -> m.RestorePlan | m.StandbyTakeover:
    """Return the state before the last cells: from a standby that has it, or else from a checkpoint.

    Args:
        context: what the handlers use.
        request: has the number of cells to undo, and the id of the current checkpoint.

    Raises:
        RequestError: the checkpoints do not go back that far.
        CheckpointsUnavailable: no checkpoints are saved.
        StoreError: the catalogue cannot be used.
    """
    service = context.checkpoints

    def find(catalogue: Catalogue, session: SessionRow) -> tuple[mf.Manifest, m.Restored]:
        entries = {entry.id: entry for entry in catalogue.checkpoints()}
        head = entries.get(request.head or "")
        if head is None:
            raise RequestError("not_found", "there is no checkpoint yet to go back to")
        step = undoing.back(head, entries, request.cells, service.cells.numbers, session.id)
        if step.entry is None:
            cells = "cell" if step.cells == 1 else "cells"
            raise RequestError("not_found", f"the checkpoints go back {step.cells} {cells}, not {request.cells}")
        manifest = service.fetch_entry(step.entry)
        changed = [change.name for change in difference(manifest, catalogue.manifest(head.id))]
        after = service.cells.after(manifest.execution_count if manifest.session == session.id else 0)
        undone = [m.CellRef(number=number, line=line, session=session.id) for number, line in after.items()]
        redo = queries.reference(head)
        report = queries.restore_report(manifest, session.id, changed=changed, undone=undone, redo=redo)
        return manifest, report

    manifest, report = await service.run(find)
    if not await context.workers.replace(manifest.id):
        return m.RestorePlan(manifest=mf.dump(manifest), report=report)
    await service.run(lambda *_: service.make_current(manifest))
    context.recovery.took_over(manifest.execution_count)
    report = queries.restore_report(
        manifest, report.session, source="standby", changed=report.changed, undone=report.undone, redo=report.redo
    )
    return m.StandbyTakeover(report=report)


async def resume(context: RequestContext, request: m.ResumeRequest) -> m.RestorePlan:
    """Return the last checkpoint of an earlier session.

    Args:
        context: what the handlers use.
        request: names the session; without a name, it is this notebook's last one.

    Raises:
        RequestError: there is no such session, or it has no checkpoint.
        UnknownSession: no session, or several, match the reference.
        CheckpointsUnavailable: no checkpoints are saved.
        StoreError: the catalogue cannot be used.
    """

    def act(catalogue: Catalogue, session: SessionRow) -> m.RestorePlan:
        # Their kernels may have been killed before they could list what they had.
        with contextlib.suppress(StoreError):
            catalogue.incoming.import_all()
        earlier = _earlier(catalogue, session, request.session)
        entry: Entry | None = catalogue.head(earlier.id) or catalogue.newest(earlier.id)
        if entry is None:
            raise RequestError("not_found", f"session {earlier.id} has no checkpoint")
        manifest = context.checkpoints.fetch_entry(entry)
        return m.RestorePlan(manifest=mf.dump(manifest), report=queries.restore_report(manifest, session.id))

    return await context.checkpoints.run(act)


def _earlier(catalogue: Catalogue, session: SessionRow, reference: str | None) -> SessionRow:
    """Return the session that a reference stands for; without one, the last of this notebook."""
    others = [one for one in catalogue.sessions.all() if one.id != session.id]
    if reference is not None:
        if reference == session.id:
            raise RequestError(
                "invalid", f"{reference} is this kernel's own session; %capsule restore restores parts of it"
            )
        return resolve_session(reference, others)
    previous = catalogue.sessions.previous(session.id)
    if previous is not None:
        return previous
    known = [f"{one.id} ({one.notebook or one.kernel})" for one in others if one.checkpoints][:_MAX_SESSIONS]
    suggestion = f"Pass the id of another one: {', '.join(known)}." if known else ""
    raise RequestError("not_found", "there is no earlier session of this notebook with a checkpoint", suggestion)


async def checkpoints_ready(context: RequestContext, _: m.CheckpointsReadyRequest) -> m.Done:
    """Wait until checkpoints can be saved.

    Args:
        context: what the handlers use.
        _: the request, which has no fields.

    Raises:
        RequestError: no checkpoints can be saved; the message says why.
    """
    reason = await context.checkpoints.unavailable()
    if reason is not None:
        raise RequestError("unavailable", reason)
    return m.Done()


async def leave(context: RequestContext, _: m.LeaveRequest) -> m.Done:
    """End the kernel when no cell runs any more.

    Args:
        context: what the handlers use.
        _: the request, which has no fields.
    """
    context.capabilities.leave()
    return m.Done()


async def list_subshells(context: RequestContext, _: m.ListSubshellsRequest) -> m.SubshellList:
    """Return the ids of the subshells.

    Args:
        context: what the handlers use.
        _: the request, which has no fields.
    """
    return m.SubshellList(ids=context.capabilities.subshells())


def _named(names: Sequence[str]) -> str:
    known = [name for name in names if not is_output(name)]
    more = len(known) - _MAX_VARIABLES
    return ", ".join(known[:_MAX_VARIABLES]) + (f" and {more} more" if more > 0 else "")
