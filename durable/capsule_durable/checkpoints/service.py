"""Keeps the checkpoints of one kernel: lists what the worker wrote, says what comes back, carries out commands.

Everything that touches the catalogue happens in one thread of its own, one thing after the other.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import textwrap
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar

from capsule_durable.checkpoints import commands, undo
from capsule_durable.checkpoints.catalogue import Catalogue
from capsule_durable.checkpoints.commands import CommandError
from capsule_durable.checkpoints.models import Entry, SessionRow, resolve_session
from capsule_durable.checkpoints.retention import Retention
from capsule_durable.checkpoints.tables import DATA_MIME, Table
from capsule_durable.config.paths import ensure
from capsule_durable.config.settings import Settings
from capsule_durable.errors import CapsuleError
from capsule_durable.storage.errors import StoreError
from capsule_durable.storage.process_identity import has_same_boot, this_process
from capsule_durable.storage.safe_directory import SafeDirectory
from capsule_worker.protocol import manifest as mf
from capsule_worker.protocol import messages as m

logger = logging.getLogger(__name__)

T = TypeVar("T")
#: Seconds between the first checkpoint after a pause and the look at what is there.
ADOPT_DELAY = 0.5
#: Checkpoints between two collections of what is of no use any more.
COLLECT_EVERY = 10
#: Characters of a fact about the worker that are shown.
_LONG = 500
#: Seconds for which the writers of a kernel that was killed are waited for.
LAST_WRITERS = 10.0
#: More checkpoints than any notebook has cells.
_MANY = 1_000_000
#: Commands whose answers other programs ask for, too.
_FOR_PROGRAMS = ("saved", "restored", "undone")


@dataclass(frozen=True)
class RecoveredState:
    """What comes back after a worker's death.

    Args:
        manifest: the checkpoint; None where there is none.
        text: says so, in a sentence.
    """

    manifest: mf.Manifest | None
    text: str


@dataclass(frozen=True)
class RestorePlan:
    """A checkpoint that is to be brought back.

    Args:
        manifest: the checkpoint; its packs are in the session's directory.
        text: what there is to say about it.
    """

    manifest: mf.Manifest
    text: str = ""


class CheckpointService:
    """The checkpoints of one kernel.

    Args:
        settings: the configuration.
        kernel: what identifies the kernel.
        notebook: the notebook's path, if Jupyter has told.
        warn: tells a person something, in a line.
        session_id: the id that the session is to have; None for a new one.
        facts: returns what else there is to say about the kernel's state.
    """

    def __init__(
        self,
        settings: Settings,
        kernel: str,
        notebook: str | None,
        warn: Callable[[str], None],
        session_id: str | None = None,
        facts: Callable[[], Mapping[str, str]] = dict,
    ) -> None:
        self._settings = settings
        self._more_facts = facts
        self._session_id = session_id
        self._kernel = kernel
        self._notebook = notebook
        self._warn = warn
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="capsule-checkpoints")
        self._catalogue: Catalogue | None = None
        self._session: SessionRow | None = None
        self._begun: asyncio.Future[m.ConfigureCheckpointsMessage | None] | None = None
        self._problem: str | None = None
        self._policy = Retention(
            # Any cell of a run may be changed, and what is behind it run again.
            count=settings.checkpoint_count if settings.run_id is None else _MANY,
            age=settings.checkpoint_days and settings.checkpoint_days * 86400.0,
            size=settings.checkpoint_size,
        )
        #: What brought variables back, and when, for people.
        self._brought_back: str | None = None
        self._latest_id: str | None = None
        #: The number of the newest checkpoint.
        self._number = 0
        self._collected = 0
        #: Nothing is collected before there is a checkpoint with a higher number: that one may need what was fetched.
        self._held = 0
        #: The numbers of the cells whose effects are in the variables now.
        self._ran: list[int] = []
        self._listing_failed = False
        self._adopting: asyncio.Task[None] | None = None

    # -- the session -----------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin the session; the first worker is told about it when it is ready."""
        if self._settings.checkpoints != "off":
            self._begun = asyncio.get_running_loop().create_task(self._begin_and_tell())

    async def keeping(self) -> m.ConfigureCheckpointsMessage | None:
        """Return what a worker is to be told; None where no checkpoints are kept."""
        if self._begun is None:
            return None
        message = await asyncio.shield(self._begun)
        return message and message.model_copy(update={"number": self._number + 1})

    async def _begin_and_tell(self) -> m.ConfigureCheckpointsMessage | None:
        message = await self._in_thread(self._begin)
        if message is None:
            self._warn(
                f"no checkpoints are kept: {self._problem}. Cells run; a death of their process costs all variables"
            )
        return message

    def _begin(self) -> m.ConfigureCheckpointsMessage | None:
        try:
            catalogue = self._catalogue = Catalogue(ensure(Path(self._settings.home)))
            session = self._session = catalogue.sessions.begin(
                self._kernel, self._notebook, this_process(), self._session_id
            )
        # Nothing that is wrong with the store may keep a person from working.
        except (CapsuleError, OSError) as error:
            self._problem = str(error)
            logger.warning("no checkpoints: %s", error)
            return None
        # A cell of a run is done when the state behind it is on disk.
        at_once = self._settings.checkpoints == "sync" or self._settings.run_id is not None
        mode: Literal["background", "sync"] = "sync" if at_once else "background"
        return m.ConfigureCheckpointsMessage(
            directory=str(catalogue.sessions.directory(session.id)), session=session.id, mode=mode
        )

    @property
    def session_id(self) -> str | None:
        """The id of the session; None where no checkpoints are kept, or before it is known."""
        return self._session.id if self._session is not None else None

    @property
    def latest(self) -> str | None:
        """The id of the checkpoint that the worker wrote last."""
        return self._latest_id

    async def fetch(self, checkpoint: str) -> mf.Manifest:
        """Return a checkpoint of any session, with its data in the directory of this one.

        Raises:
            CapsuleError: it is not there any more.
        """

        def fetch() -> mf.Manifest:
            catalogue, session = self._store()
            with contextlib.suppress(StoreError):
                catalogue.incoming.import_all()
            entry = catalogue.find(checkpoint)
            manifest = self._fetched(entry)
            catalogue.set_head(session.id, entry.id)
            self._held = self._number
            return manifest

        return await self._in_thread(fetch)

    def saved(self, message: m.CheckpointSavedMessage) -> None:
        """Take notice of a checkpoint that the worker wrote."""
        self._latest_id = message.checkpoint_id
        self._number = max(self._number, message.number)
        if self._adopting is None or self._adopting.done():
            self._adopting = asyncio.get_running_loop().create_task(self._adopt_soon())

    def record_cell(self, number: int, code: str) -> None:
        """Take notice of a cell that has ended.

        Args:
            number: as in ``In [number]``.
            code: the cell's.
        """
        if not undo.is_command(code):
            self._ran.append(number)

    async def at_start(self) -> RecoveredState | None:
        """Return what comes back when a kernel starts; None where it starts with nothing.

        That is the state of the same kernel's process before, if that was killed; or the state of the notebook's last
        session, if it is to be gone on with unasked.
        """
        if await self.keeping() is None:
            return None
        try:
            return await self._in_thread(self._inherit)
        except (CapsuleError, OSError) as error:
            return RecoveredState(None, f"the variables of the kernel's process before are lost: {error}")

    def _inherit(self) -> RecoveredState | None:
        catalogue, session = self._catalogue, self._session
        assert catalogue is not None
        assert session is not None
        killed = catalogue.sessions.killed(session.id)
        if killed is not None:
            said = self._bury(killed)
            if said is not None:
                return self._bring_over(killed, f"The kernel's process was killed{said}")
            return RecoveredState(
                None,
                f"The kernel's process was killed, and its last checkpoint was not done after {LAST_WRITERS:g} s:"
                f" `%capsule resume {killed.id}` restores the one before",
            )
        return self._previous(session) if self._settings.resume != "never" and session.notebook else None

    def _previous(self, session: SessionRow) -> RecoveredState | None:
        """Return what becomes of the variables of the notebook's last session, of another kernel."""
        catalogue = self._catalogue
        assert catalogue is not None
        for one in catalogue.sessions.all():
            if one.notebook == session.notebook and one.ended is None and not catalogue.sessions.is_running(one):
                self._bury(one)
        previous = catalogue.sessions.previous(session.id)
        if previous is None or previous.kernel == session.kernel:
            return None
        with catalogue.sessions.access(previous) as access:
            if not access.allows("recover"):
                return None
        if self._settings.resume == "auto":
            return self._bring_over(previous, "This goes on where the notebook's last session was")
        entry = catalogue.head(previous.id) or catalogue.newest(previous.id)
        return RecoveredState(None, commands.offered(entry)) if entry is not None else None

    def _bury(self, session: SessionRow) -> str | None:
        """List what a session has whose kernel was killed, and end it.

        Returns:
            What there is to say about that; None where its front or its writers may live, and it is left alone.
        """
        catalogue = self._catalogue
        assert catalogue is not None
        with catalogue.sessions.access(session, LAST_WRITERS) as access:
            if not access.allows("recover"):
                return None
            said = ""
            if access.has_writers:
                said = f", and its last checkpoint was not done after {LAST_WRITERS:g} s"
            elif session.identity is not None and has_same_boot(session.identity):
                catalogue.incoming.finish(session.id)
            catalogue.incoming.import_session(session.id)
            catalogue.sessions.end(session.id)
        return said

    def _bring_over(self, session: SessionRow, text: str) -> RecoveredState:
        """Return the state at which another session stands."""
        assert self._catalogue is not None
        assert self._session is not None
        entry = self._catalogue.head(session.id) or self._catalogue.newest(session.id)
        if entry is None:
            return RecoveredState(None, f"{text}. It had no checkpoint, so its variables are lost")
        manifest = self._fetched(entry)
        self._catalogue.set_head(self._session.id, entry.id)
        self._brought_back = f"a checkpoint ({_clock(time.time())}, as after In [{manifest.execution_count}])"
        return RecoveredState(manifest, f"{text}. {commands.recovered(manifest, manifest.session, [])}")

    async def ending(self) -> None:
        """Say at once that the session ends in order, whatever may come in between."""
        if self._catalogue is not None and self._session is not None:
            with contextlib.suppress(CapsuleError, OSError):
                await self._in_thread(partial(self._catalogue.sessions.end, self._session.id))

    async def after_death(self) -> RecoveredState:
        """Return what comes back: the newest whole checkpoint, or the one that was brought back since.

        The dead worker's writers are done.
        """
        if self._begun is None:
            return RecoveredState(None, "Its variables are lost, since no checkpoints are kept")
        await self.keeping()
        if self._session is None:
            return RecoveredState(None, f"Its variables are lost, since no checkpoints are kept: {self._problem}")
        try:
            manifest = await self._in_thread(self._latest)
        except (CapsuleError, OSError) as error:
            return RecoveredState(None, f"Its variables are lost: {error}")
        if manifest is None:
            return RecoveredState(None, "There was no checkpoint yet, so there is nothing to restore")
        self._brought_back = f"a checkpoint ({_clock(time.time())}, as after In [{manifest.execution_count}])"
        assert self._session is not None
        return RecoveredState(manifest, commands.recovered(manifest, self._session.id, self._stand_at(manifest)))

    def succeeded(self, execution_count: int) -> str:
        """Take notice that a copy of the dead worker, made after a cell, takes its place; say so."""
        self._ran = [number for number in self._ran if number <= execution_count]
        self._brought_back = f"a standby ({_clock(time.time())}, as after In [{execution_count}])"
        return f"The variables are back from a standby, all as they were after In [{execution_count}]"

    async def close(self) -> None:
        """End the session. Idempotent."""
        begun, self._begun = self._begun, None
        if begun is not None:
            await begun
            if self._adopting is not None:
                self._adopting.cancel()
                await asyncio.wait({self._adopting})
            with contextlib.suppress(CapsuleError, OSError):
                await self._in_thread(self._end)
        self._thread.shutdown(wait=False)

    def _end(self) -> None:
        if self._catalogue is None:
            return
        if self._session is not None:
            self._adopt()
            self._collect()
            self._catalogue.sessions.end(self._session.id)
            self._catalogue.garbage.remove_sessions(self._policy, time.time())
        self._catalogue.close()

    # -- commands --------------------------------------------------------------------------------------------

    async def handle(self, command: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """Carry out a command that was given in a cell; return the fields of its reply."""
        try:
            if self._settings.checkpoints == "off":
                raise CommandError("no checkpoints are kept: the setting `checkpoints` is off")
            if self._begun is None:
                raise CommandError("the kernel is ending")
            if await self.keeping() is None:
                raise CommandError(f"no checkpoints are kept: {self._problem}")
            act = getattr(self, f"_do_{command}", None)
            if act is None:
                raise CommandError("there is no such command")
            found: Table | RestorePlan | None = await self._in_thread(lambda: act(**arguments))
        except (CapsuleError, OSError) as error:
            return {"error": str(error)}
        # A cell waits for the answer, whatever happens here.
        except Exception as error:
            logger.exception("the command %s failed", command)
            return {"error": f"a fault of Capsule's own: {type(error).__name__}: {error}"}
        match found:
            case Table():
                programs = {DATA_MIME: found.data} if command in _FOR_PROGRAMS else {}
                return {"data": found.to_mime() | programs}
            case RestorePlan():
                return {"manifest": mf.dump(found.manifest), "data": {"text/plain": found.text} if found.text else {}}
            case None:
                return {}

    def _do_ready(self) -> None:
        """Say whether checkpoints are kept."""

    def _do_status(self, **fields: Any) -> Table:
        catalogue, session = self._store()
        facts = {name.replace("_", " "): textwrap.shorten(str(value), _LONG) for name, value in fields.items()}
        if self._brought_back is not None:
            facts["brought back by"] = self._brought_back
        return commands.status(
            catalogue,
            catalogue.sessions.get(session.id),
            {**facts, "mode": self._settings.checkpoints, **self._more_facts()},
        )

    def _do_saved(self, checkpoint: str) -> Table:
        catalogue, _ = self._store()
        return commands.contents(catalogue.manifest(checkpoint))

    def _do_checkpoints(self, query: list[str]) -> Table:
        catalogue, session = self._store()
        return commands.listing(catalogue, " ".join(query), session.id)

    def _do_diff(self, before: str, after: str | None) -> Table:
        catalogue, session = self._store()
        second = catalogue.find(after, session.id) if after else catalogue.newest(session.id)
        if second is None:
            raise CommandError("there is no checkpoint yet")
        return commands.comparison(catalogue, catalogue.find(before, session.id), second)

    def _do_forget(self, checkpoints: list[str]) -> Table:
        catalogue, session = self._store()
        table = commands.forgetting(catalogue, checkpoints, session.id)
        self._collect()
        return table

    def _do_restore(self, checkpoint: str, variables: list[str]) -> RestorePlan:
        catalogue, session = self._store()
        entry = catalogue.find(checkpoint, session.id)
        manifest = catalogue.manifest(entry.id)
        known = {variable.name for variable in manifest.variables}
        unknown = [name for name in variables if name not in known]
        if unknown:
            raise CommandError(
                f"checkpoint {checkpoint} has no variable {', '.join(unknown)}; it has {commands.naming(sorted(known))}"
            )
        return RestorePlan(self._fetched(entry, manifest))

    def _do_undo(self, cells: int, head: str | None) -> RestorePlan:
        catalogue, session = self._store()
        entries = {entry.id: entry for entry in catalogue.checkpoints()}
        at = entries.get(head or "")
        if at is None:
            raise CommandError("there is no checkpoint yet to go back to")
        before, gone = undo.back(at, entries, cells, self._ran, session.id)
        if before is None:
            raise CommandError(f"the checkpoints go back {gone} {'cell' if gone == 1 else 'cells'}, not {cells}")
        text = f"All of the last {gone} cells are undone: no checkpoint was made in between." if gone > cells else ""
        return RestorePlan(self._fetched(before), text)

    def _do_undone(self, checkpoint: str) -> Table:
        """Take notice that a copy of the worker, which has the state of a checkpoint, takes over."""
        catalogue, session = self._store()
        catalogue.set_head(session.id, checkpoint)
        manifest = catalogue.manifest(checkpoint)
        self._held = self._number
        self.succeeded(manifest.execution_count)
        return commands.brought_back(manifest, [variable.name for variable in manifest.variables], {}, [], "a standby")

    def _do_resume(self, session: str | None = None) -> RestorePlan:
        catalogue, _ = self._store()
        # Their kernels may have been killed before they could list what they had.
        with contextlib.suppress(StoreError):
            catalogue.incoming.import_all()
        earlier = self._earlier(session)
        entry = catalogue.head(earlier.id) or catalogue.newest(earlier.id)
        if entry is None:
            raise CommandError(f"session {earlier.id} has no checkpoint")
        return RestorePlan(self._fetched(entry))

    def _earlier(self, reference: str | None) -> SessionRow:
        """Return the session that is to be gone on with."""
        catalogue, session = self._catalogue, self._session
        assert catalogue is not None
        assert session is not None
        others = [one for one in catalogue.sessions.all() if one.id != session.id]
        if reference is not None:
            if reference == session.id:
                raise CommandError(
                    f"{reference} is this kernel's own session; %capsule restore brings back parts of it"
                )
            return resolve_session(reference, others)
        previous = catalogue.sessions.previous(session.id)
        if previous is not None:
            return previous
        known = [f"{one.id} ({one.notebook or one.kernel})" for one in others if one.checkpoints][: commands.OFFERED]
        hint = f"; give another one's id: {', '.join(known)}" if known else ""
        raise CommandError(f"there is no earlier session of this notebook with a checkpoint{hint}")

    def _do_restored(
        self, checkpoint: str, restored: list[str], failed: dict[str, str], notes: list[str], whole: bool
    ) -> Table:
        catalogue, session = self._store()
        manifest = catalogue.manifest(checkpoint)
        if whole:
            catalogue.set_head(session.id, checkpoint)
            self._stand_at(manifest)
        # The worker had nothing left to write: what it writes next is built on what came back.
        self._held = self._number
        return commands.brought_back(manifest, restored, failed, notes)

    # -- in the thread ---------------------------------------------------------------------------------------

    def _store(self) -> tuple[Catalogue, SessionRow]:
        assert self._catalogue is not None
        assert self._session is not None
        self._adopt()
        return self._catalogue, self._session

    def _fetched(self, entry: Entry, manifest: mf.Manifest | None = None) -> mf.Manifest:
        """Return a checkpoint whose packs are in this session's directory, whichever session it is from."""
        catalogue, session = self._catalogue, self._session
        assert catalogue is not None
        assert session is not None
        manifest = manifest or catalogue.manifest(entry.id)
        # The worker may be writing one checkpoint now, which needs nothing of this one.
        self._held = self._number + 1
        if entry.session != session.id:
            directories = (catalogue.sessions.directory(one) / mf.PACKS for one in (entry.session, session.id))
            with SafeDirectory(next(directories)) as theirs, SafeDirectory(next(directories)) as mine:
                for pack in manifest.packs:
                    # What is lost costs the variables in it, and they are named when they do not come back.
                    with contextlib.suppress(FileNotFoundError):
                        mine.link(theirs, pack + mf.PACK_SUFFIX)
                mine.sync()
        return manifest

    def _latest(self) -> mf.Manifest | None:
        """Return the checkpoint at which the session stands; where that one is damaged, the newest that is whole."""
        assert self._catalogue is not None
        assert self._session is not None
        self._catalogue.incoming.finish(self._session.id)
        catalogue, session = self._store()
        head = catalogue.head(session.id)
        damaged: StoreError | None = None
        for entry in [*([head] if head else []), *catalogue.checkpoints("", session.id)]:
            try:
                return self._fetched(entry)
            except StoreError as error:
                damaged = damaged or error
        if damaged is not None:
            raise damaged
        return None

    def _stand_at(self, manifest: mf.Manifest) -> list[int]:
        """Take notice of which cells' effects are in the variables now; return those that no longer are."""
        assert self._session is not None
        last = manifest.execution_count if manifest.session == self._session.id else 0
        ran, self._ran = self._ran, [number for number in self._ran if number <= last]
        return ran[len(self._ran) :]

    def _adopt(self) -> None:
        catalogue, session = self._catalogue, self._session
        assert catalogue is not None
        assert session is not None
        catalogue.incoming.import_session(session.id)
        newest = catalogue.newest(session.id)
        if newest is not None:  # the command line may have taken it over
            self._number = max(self._number, newest.number)
        if self._number >= self._collected + COLLECT_EVERY:
            self._collect()

    def _collect(self) -> None:
        """Remove what is of no use any more."""
        if self._number <= self._held:
            return
        assert self._catalogue is not None
        assert self._session is not None
        self._collected = self._number
        self._catalogue.garbage.collect(
            self._session.id, self._policy, time.time(), has_writers=True, newest_complete=self._number
        )

    async def _adopt_soon(self) -> None:
        await asyncio.sleep(ADOPT_DELAY)
        try:
            await self._in_thread(self._adopt)
        except (CapsuleError, OSError) as error:
            if not self._listing_failed:
                self._listing_failed = True
                self._warn(f"checkpoints are written, but cannot be listed: {error}")
        else:
            self._listing_failed = False

    async def _in_thread(self, act: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, act)


def _clock(seconds: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(seconds))
