"""Models of sessions and checkpoints, and the references that users write for them."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from capsule_durable.errors import CapsuleError
from capsule_durable.storage.process_identity import ProcessIdentity, ProcessState, state_of
from capsule_worker.protocol.model import Model

#: The fewest characters of an id that are accepted as its beginning.
SHORTEST_PREFIX = 4
#: How many ids a message lists.
_FIT = 5


class SessionRow(Model):
    """A session: the life of one kernel process."""

    id: str
    kernel: str
    notebook: str | None
    #: The identity of its front, as text.
    process: str
    #: Seconds since the epoch.
    started: float
    #: Seconds since the epoch; None: its front has not ended it.
    ended: float | None
    #: Id of its current checkpoint.
    head: str | None
    #: How many checkpoints it has.
    checkpoints: int

    @property
    def identity(self) -> ProcessIdentity | None:
        """The identity of its front; None if the row does not contain one."""
        return ProcessIdentity.parse(self.process)

    @property
    def pid(self) -> int:
        """The pid of its front, in the pid namespace of that process; 0 if it is unknown."""
        return self.identity.pid if self.identity is not None else 0

    @property
    def state(self) -> ProcessState:
        """The state of its front. After the session was ended, only the front's lock tells whether it has closed."""
        state = state_of(self.process)
        return "unknown" if state == "running" and self.ended is not None else state


class Entry(Model):
    """A checkpoint as it is listed: everything but its manifest."""

    id: str
    session: str
    #: Its number in the session; the first is 1.
    number: int
    parent: str | None
    #: Seconds since the epoch at which its state was taken.
    time: float
    execution_count: int
    code: str
    name: str | None
    description: str
    tags: list[str]
    #: Bytes of its content.
    size: int
    #: Bytes that were written for it; earlier checkpoints contain the rest.
    bytes_written: int
    #: Seconds that saving it took.
    duration: float
    #: Whether it is the current checkpoint of a session.
    head: bool
    #: The number of its variables, including those that could not be saved.
    variables: int
    #: The number of variables that could not be saved.
    unsaved: int
    #: Path of the notebook of its session, if it is known.
    notebook: str | None


class Collected(Model):
    """The result of a garbage collection."""

    #: Ids of the checkpoints that the policy dropped, oldest first.
    dropped: list[str]
    #: Bytes of files that were removed.
    freed: int
    #: Bytes of packs that were kept.
    kept: int


class UnknownSession(CapsuleError):
    """A reference stands for no session, or for more than one.

    Args:
        session_id: the reference.
        message: what is wrong with it; empty if no session has it.
        is_ambiguous: whether it stands for more than one.
    """

    def __init__(self, session_id: str, message: str = "", *, is_ambiguous: bool = False) -> None:
        super().__init__(message or f"there is no session {session_id!r}")
        self.session_id = session_id
        self.is_ambiguous = is_ambiguous


class UnknownCheckpoint(CapsuleError):
    """A reference stands for no checkpoint, or for more than one.

    Args:
        reference: the reference.
        message: what is wrong with it.
        closest: similar names and ids.
        is_ambiguous: whether it stands for more than one.
    """

    def __init__(
        self, reference: str, message: str, closest: Sequence[str] = (), *, is_ambiguous: bool = False
    ) -> None:
        super().__init__(message)
        self.reference = reference
        self.closest = list(closest)
        self.is_ambiguous = is_ambiguous


def matches(entry: Entry, query: str) -> bool:
    """Return whether all words of a query occur in a checkpoint's name, description, tags or id, in any case.

    Args:
        entry: the checkpoint.
        query: the words; without any, every checkpoint matches.
    """
    text = "\n".join([entry.name or "", entry.description, *entry.tags, entry.id]).casefold()
    return all(word in text for word in query.casefold().split())


def resolve(reference: str, entries: Sequence[Entry], session: str | None = None) -> Entry:
    """Return the checkpoint that a reference stands for: a name, a number ("12", "#12"), an id or its beginning.

    A name stands for the newest checkpoint that has it. Checkpoints of ``session`` come before all others; numbers are
    numbers of its checkpoints only.

    Args:
        reference: what the user wrote.
        entries: all checkpoints, newest first.
        session: the id of the session in which the reference was written.

    Raises:
        UnknownCheckpoint: the reference stands for none, or for several.
    """
    reference = reference.strip()
    if not entries:
        raise UnknownCheckpoint(reference, "there are no checkpoints yet")
    if not reference:
        raise UnknownCheckpoint(reference, "name a checkpoint by its name, number or id")
    ours = [entry for entry in entries if entry.session == session]
    named = [entry for entry in [*ours, *entries] if entry.name == reference]
    if named:
        return named[0]
    numbered = _by_number(reference, ours if session else entries)
    if numbered:
        return _only(reference, numbered, "is the number of")
    begun = _by_id(reference, ours) or _by_id(reference, entries)
    if begun:
        return _only(reference, begun, "begins the ids of")
    raise _unknown(reference, entries)


def resolve_session(reference: str, sessions: Sequence[SessionRow]) -> SessionRow:
    """Return the session that a reference stands for: an id or its beginning, a notebook's path or the end of it.

    A notebook stands for its newest session that has checkpoints, or else for its newest.

    Args:
        reference: what the user wrote.
        sessions: all sessions, newest first.

    Raises:
        UnknownSession: the reference stands for none, or for several.
    """
    reference = reference.strip()
    if not reference:
        raise UnknownSession(reference, "name a session by its id or its notebook")
    begun = [session for session in sessions if session.id == reference] or [
        session for session in sessions if session.id.startswith(reference) and len(reference) >= SHORTEST_PREFIX
    ]
    if len(begun) == 1:
        return begun[0]
    if begun:
        raise UnknownSession(
            reference,
            f"{reference!r} is ambiguous: it begins the ids of {len(begun)} sessions "
            f"({_listed([session.id for session in begun])}); give more of the id",
            is_ambiguous=True,
        )
    of_notebook = [
        session
        for session in sessions
        if reference == session.kernel or (session.notebook and f"/{session.notebook}".endswith(f"/{reference}"))
    ]
    if not of_notebook:
        raise UnknownSession(reference)
    return next((session for session in of_notebook if session.checkpoints), of_notebook[0])


def _by_number(reference: str, entries: Sequence[Entry]) -> list[Entry]:
    number = reference.removeprefix("#")
    if not (number.isascii() and number.isdigit()):
        return []
    return [entry for entry in entries if str(entry.number) == number]


def _by_id(reference: str, entries: Sequence[Entry]) -> list[Entry]:
    if len(reference) < SHORTEST_PREFIX:
        return []
    return [entry for entry in entries if entry.id == reference] or [
        entry for entry in entries if entry.id.startswith(reference)
    ]


def _only(reference: str, found: Sequence[Entry], what: str) -> Entry:
    if len(found) == 1:
        return found[0]
    ids = [entry.id for entry in found]
    raise UnknownCheckpoint(
        reference,
        f"{reference!r} is ambiguous: it {what} {len(ids)} checkpoints ({_listed(ids)}); give more of the id",
        ids,
        is_ambiguous=True,
    )


def _listed(ids: Sequence[str]) -> str:
    return ", ".join(ids[:_FIT]) + (", ..." if len(ids) > _FIT else "")


def _unknown(reference: str, entries: Sequence[Entry]) -> UnknownCheckpoint:
    words = {word.casefold(): word for entry in reversed(entries) for word in (entry.id, entry.name) if word}
    closest = [words[word] for word in difflib.get_close_matches(reference.casefold(), words, n=3, cutoff=0.5)]
    hint = f"; the closest: {', '.join(closest)}" if closest else ""
    return UnknownCheckpoint(reference, f"there is no checkpoint {reference!r}{hint}", closest)
