"""Reads sessions: a list of all, and the state of one. No rendering."""

from __future__ import annotations

from importlib.metadata import version

from capsule_durable.checkpoints.catalogue import Catalogue
from capsule_durable.checkpoints.models import SessionRow
from capsule_durable.queries.checkpoints import listed, reference
from capsule_worker.protocol import messages as m
from capsule_worker.protocol.messages.base import MessageModel

#: The distribution whose version a status has.
DISTRIBUTION = "capsule-kernel"


class SessionSummary(MessageModel):
    """A session, in a list."""

    id: str
    kernel: str
    notebook: str | None
    kernel_pid: int
    #: Seconds since the epoch; ``ended`` is None if the session did not end in order.
    started: float
    ended: float | None
    state: m.SessionState
    #: How many checkpoints it has, and the newest one.
    checkpoints: int
    last: m.CheckpointRef | None
    #: Bytes on disk.
    size: int


class SessionList(MessageModel):
    """Sessions, newest first."""

    sessions: list[SessionSummary]


def session_list(catalogue: Catalogue) -> SessionList:
    """Return all sessions, newest first.

    Args:
        catalogue: has the sessions and their checkpoints.

    Raises:
        StoreError: the catalogue cannot be used.
    """
    return SessionList(sessions=[_summary(catalogue, row) for row in catalogue.sessions.all()])


def _summary(catalogue: Catalogue, row: SessionRow) -> SessionSummary:
    newest = catalogue.newest(row.id)
    return SessionSummary(
        id=row.id,
        kernel=row.kernel,
        notebook=row.notebook,
        kernel_pid=row.pid,
        started=row.started,
        ended=row.ended,
        state=state_of(catalogue, row),
        checkpoints=row.checkpoints,
        last=reference(newest) if newest is not None else None,
        size=catalogue.sessions.disk_use(row.id),
    )


def session_status(catalogue: Catalogue, row: SessionRow) -> m.Status:
    """Return the status of a session that the catalogue has, without the kernel's own state.

    Args:
        catalogue: all checkpoints.
        row: the session.

    Raises:
        StoreError: the catalogue cannot be used.
    """
    entries = catalogue.checkpoints("", row.id)
    head = catalogue.head(row.id)
    sizes = m.Sizes(session=catalogue.sessions.disk_use(row.id), written=sum(entry.bytes_written for entry in entries))
    return m.Status(
        version=version(DISTRIBUTION),
        session=row.id,
        kernel=row.kernel,
        kernel_pid=row.pid,
        notebook=row.notebook,
        state=state_of(catalogue, row),
        ended=row.ended,
        saving=m.Saving(state="saved"),
        last=listed(entries[0]) if entries else None,
        head=reference(head) if head is not None else None,
        head_variables=head.variables - head.unsaved if head is not None else 0,
        head_unsaved=head.unsaved if head is not None else 0,
        checkpoints=len(entries),
        sizes=sizes,
        directory=str(catalogue.sessions.directory(row.id)),
    )


def state_of(catalogue: Catalogue, row: SessionRow) -> m.SessionState:
    """Return the state of a session's kernel.

    Args:
        catalogue: tells whether the kernel is running.
        row: the session.

    Raises:
        StoreError: the catalogue cannot be used.
    """
    if catalogue.sessions.is_running(row):
        return "running" if row.state == "running" else "elsewhere"
    return "killed" if row.ended is None else "ended"
