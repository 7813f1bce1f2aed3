"""The checkpoints of one kernel: lists what the worker writes, and fetches what is to be restored.

Everything that touches the catalogue happens in one thread of its own, one thing after the other.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Literal, TypeVar

from capsule_durable.checkpoints.catalogue import Catalogue
from capsule_durable.checkpoints.models import Entry, SessionRow
from capsule_durable.checkpoints.retention import Retention
from capsule_durable.checkpoints.undo import RanCells
from capsule_durable.config.paths import ensure
from capsule_durable.config.settings import Settings
from capsule_durable.errors import CapsuleError
from capsule_durable.storage.errors import StoreError
from capsule_durable.storage.process_identity import this_process
from capsule_durable.storage.safe_directory import SafeDirectory
from capsule_worker.protocol import manifest as mf
from capsule_worker.protocol import messages as m

logger = logging.getLogger(__name__)

T = TypeVar("T")
#: Seconds between a checkpoint and its listing; those that follow in the meantime are listed with it.
IMPORT_DELAY_SECONDS = 0.5
#: Checkpoints between two collections.
COLLECT_EVERY = 10
#: More checkpoints than any notebook has cells.
_ALL = 1_000_000


class CheckpointsUnavailable(CapsuleError):
    """No checkpoints are saved. The message says why."""


class CheckpointService:
    """The checkpoints of one kernel.

    Args:
        settings: the configuration.
        kernel: what identifies the kernel.
        notebook: path of the notebook; None if Jupyter does not tell.
        warn: shows a line to the user.
        session_id: the id that the session is to have; None for a new one.
    """

    def __init__(
        self,
        settings: Settings,
        kernel: str,
        notebook: str | None,
        warn: Callable[[str], None],
        session_id: str | None = None,
    ) -> None:
        self.settings = settings
        self.kernel = kernel
        self.notebook = notebook
        self._session_id = session_id
        self._warn = warn
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="capsule-checkpoints")
        self._catalogue: Catalogue | None = None
        self._session: SessionRow | None = None
        self._begun: asyncio.Future[m.ConfigureCheckpointsMessage | None] | None = None
        self._problem = ""
        self._policy = Retention(
            # Any cell of a run may be changed, and the cells after it run again.
            count=settings.checkpoint_count if settings.run_id is None else _ALL,
            age=settings.checkpoint_days and settings.checkpoint_days * 86400.0,
            size=settings.checkpoint_size,
        )
        #: How variables were restored last; None if they never were.
        self.recovery: m.RecoveryStatus | None = None
        #: The cells whose effects are in the variables now.
        self.cells = RanCells()
        self._latest_id: str | None = None
        #: The number of the newest checkpoint.
        self._number = 0
        self._collected = 0
        #: Nothing is collected before a checkpoint has a higher number: that one may need what was fetched.
        self._keep_until = 0
        self._listing_failed = False
        self._importing: asyncio.Task[None] | None = None

    # -- the session -----------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin the session; the first worker is configured when it is ready."""
        if self.settings.checkpoints != "off":
            self._begun = asyncio.get_running_loop().create_task(self._begin_and_warn())

    async def configure(self) -> m.ConfigureCheckpointsMessage | None:
        """Return the message that configures a worker; None if no checkpoints are saved."""
        if self._begun is None:
            return None
        message = await asyncio.shield(self._begun)
        return message and message.model_copy(update={"number": self._number + 1})

    async def is_enabled(self) -> bool:
        """Return whether checkpoints are saved, as soon as that is known."""
        return await self.configure() is not None

    async def unavailable(self) -> str | None:
        """Return why no checkpoints are saved; None if they are."""
        if self.settings.checkpoints == "off":
            return "no checkpoints are saved: the setting `checkpoints` is off"
        if self._begun is None:
            return "the kernel is ending"
        return None if await self.is_enabled() else f"no checkpoints are saved: {self._problem}"

    async def _begin_and_warn(self) -> m.ConfigureCheckpointsMessage | None:
        message = await self._in_thread(self._begin)
        if message is None:
            self._warn(
                f"no checkpoints are saved: {self._problem}. Your cells run, but a crash would lose all variables"
            )
        return message

    def _begin(self) -> m.ConfigureCheckpointsMessage | None:
        try:
            catalogue = self._catalogue = Catalogue(ensure(Path(self.settings.home)))
            session = self._session = catalogue.sessions.begin(
                self.kernel, self.notebook, this_process(), self._session_id
            )
        # No problem with the store may keep a user from working.
        except (CapsuleError, OSError) as error:
            self._problem = str(error)
            logger.warning("no checkpoints: %s", error)
            return None
        # A cell of a run is done when the state after it is on disk.
        is_sync = self.settings.checkpoints == "sync" or self.settings.run_id is not None
        mode: Literal["background", "sync"] = "sync" if is_sync else "background"
        return m.ConfigureCheckpointsMessage(
            directory=str(catalogue.sessions.directory(session.id)), session=session.id, mode=mode
        )

    @property
    def session_id(self) -> str | None:
        """The id of the session; None if no checkpoints are saved, or before it is known."""
        return self._session.id if self._session is not None else None

    @property
    def latest(self) -> str | None:
        """The id of the checkpoint that the worker wrote last."""
        return self._latest_id

    async def mark_ended(self) -> None:
        """Record at once that the session ends in order, whatever may happen before it has."""
        if self._catalogue is not None and self._session is not None:
            with contextlib.suppress(CapsuleError, OSError):
                await self._in_thread(partial(self._catalogue.sessions.end, self._session.id))

    async def close(self) -> None:
        """End the session. Idempotent."""
        begun, self._begun = self._begun, None
        if begun is not None:
            await begun
            if self._importing is not None:
                self._importing.cancel()
                await asyncio.wait({self._importing})
            with contextlib.suppress(CapsuleError, OSError):
                await self._in_thread(self._end)
        self._thread.shutdown(wait=False)

    def _end(self) -> None:
        if self._catalogue is None:
            return
        if self._session is not None:
            self._import()
            self.collect()
            self._catalogue.sessions.end(self._session.id)
            self._catalogue.garbage.remove_sessions(self._policy, time.time())
        self._catalogue.close()

    # -- what the worker reports -----------------------------------------------------------------------------

    def record_saved(self, message: m.CheckpointSavedMessage) -> None:
        """Record a checkpoint that the worker wrote; it is listed soon.

        Args:
            message: what the worker reports.
        """
        self._latest_id = message.checkpoint_id
        self._number = max(self._number, message.number)
        if self._importing is None or self._importing.done():
            self._importing = asyncio.get_running_loop().create_task(self._import_soon())

    def record_restored(self, message: m.RestoreFinishedMessage) -> None:
        """Make the checkpoint that the worker has restored the current one, if it restored all of it.

        Nothing waits for this, but whatever asks the catalogue later comes after it.

        Args:
            message: what the worker reports.
        """
        if self._session is not None:
            done = asyncio.get_running_loop().run_in_executor(self._thread, self._record_restored, message)
            done.add_done_callback(_log_failure)

    def _record_restored(self, message: m.RestoreFinishedMessage) -> None:
        if message.whole:
            catalogue, _ = self._current()
            self.make_current(catalogue.manifest(message.checkpoint_id))
        # The worker had nothing left to write: what it writes next is built on what was restored.
        self._keep_until = self._number

    # -- reading the catalogue -------------------------------------------------------------------------------

    async def run(self, act: Callable[[Catalogue, SessionRow], T]) -> T:
        """Call a function with the catalogue, which lists everything that the worker has written; return its result.

        Args:
            act: is given the catalogue and the session, in the thread of this object. It may call ``fetch_entry``,
                ``make_current`` and ``collect``.

        Raises:
            CheckpointsUnavailable: no checkpoints are saved.
            CapsuleError, OSError: whatever ``act`` raises.
        """
        reason = await self.unavailable()
        if reason is not None:
            raise CheckpointsUnavailable(reason)
        return await self._in_thread(lambda: act(*self._current()))

    async def fetch(self, checkpoint: str) -> mf.Manifest:
        """Make a checkpoint of any session the current one, and return it with its data in this session's directory.

        Args:
            checkpoint: its id.

        Raises:
            CapsuleError: it does not exist any more, or no checkpoints are saved.
        """

        def fetch(catalogue: Catalogue, session: SessionRow) -> mf.Manifest:
            with contextlib.suppress(StoreError):
                catalogue.incoming.import_all()
            entry = catalogue.find(checkpoint)
            manifest = self.fetch_entry(entry)
            catalogue.set_head(session.id, entry.id)
            self._keep_until = self._number
            return manifest

        return await self.run(fetch)

    def fetch_entry(self, entry: Entry) -> mf.Manifest:
        """Return a checkpoint, with its packs in this session's directory; only in the thread of this object.

        Args:
            entry: a checkpoint of any session.
        """
        catalogue, session = self._stores()
        manifest = catalogue.manifest(entry.id)
        # The worker may be writing one checkpoint now, which needs nothing of this one.
        self._keep_until = self._number + 1
        if entry.session != session.id:
            directories = (catalogue.sessions.directory(one) / mf.PACKS for one in (entry.session, session.id))
            with SafeDirectory(next(directories)) as theirs, SafeDirectory(next(directories)) as mine:
                for pack in manifest.packs:
                    # A pack that is lost costs the variables in it, and they are named when they are not restored.
                    with contextlib.suppress(FileNotFoundError):
                        mine.link(theirs, pack + mf.PACK_SUFFIX)
                mine.sync()
        return manifest

    def make_current(self, manifest: mf.Manifest) -> list[int]:
        """Make a checkpoint the session's current one; only in the thread of this object.

        Args:
            manifest: the checkpoint, of any session.

        Returns:
            The numbers of the cells whose effects are no longer in the variables.

        Raises:
            StoreError: the catalogue cannot be used.
        """
        catalogue, session = self._stores()
        catalogue.set_head(session.id, manifest.id)
        self._keep_until = self._number
        return self.restored_to(manifest)

    def restored_to(self, manifest: mf.Manifest) -> list[int]:
        """Record that the variables have the state of a checkpoint; return the numbers of the cells that are lost.

        Args:
            manifest: the checkpoint, of any session.
        """
        return self.cells.restore_to(manifest.execution_count if manifest.session == self.session_id else 0)

    def latest_whole(self) -> mf.Manifest | None:
        """Return the current checkpoint; if it is damaged, the newest that is whole. Only in the thread of this object.

        The writers of the worker have ended.

        Raises:
            StoreError: all of them are damaged.
        """
        catalogue, session = self._stores()
        catalogue.incoming.finish(session.id)
        self._import()
        head = catalogue.head(session.id)
        damaged: StoreError | None = None
        for entry in [*([head] if head else []), *catalogue.checkpoints("", session.id)]:
            try:
                return self.fetch_entry(entry)
            except StoreError as error:
                damaged = damaged or error
        if damaged is not None:
            raise damaged
        return None

    def collect(self) -> int:
        """Remove the checkpoints and data that the settings do not keep; return the bytes that became free.

        Only in the thread of this object.
        """
        if self._number <= self._keep_until:
            return 0
        catalogue, session = self._stores()
        self._collected = self._number
        return catalogue.garbage.collect(
            session.id, self._policy, time.time(), has_writers=True, newest_complete=self._number
        ).freed

    def _stores(self) -> tuple[Catalogue, SessionRow]:
        assert self._catalogue is not None
        assert self._session is not None
        return self._catalogue, self._session

    def _current(self) -> tuple[Catalogue, SessionRow]:
        self._import()
        return self._stores()

    def _import(self) -> None:
        catalogue, session = self._stores()
        catalogue.incoming.import_session(session.id)
        newest = catalogue.newest(session.id)
        if newest is not None:  # the command line may have listed it
            self._number = max(self._number, newest.number)
        if self._number >= self._collected + COLLECT_EVERY:
            self.collect()

    async def _import_soon(self) -> None:
        await asyncio.sleep(IMPORT_DELAY_SECONDS)
        try:
            await self._in_thread(self._import)
        except (CapsuleError, OSError) as error:
            if not self._listing_failed:
                self._listing_failed = True
                self._warn(f"checkpoints are saved, but cannot be listed: {error}")
        else:
            self._listing_failed = False

    async def _in_thread(self, act: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, act)


def _log_failure(done: asyncio.Future[None]) -> None:
    if not done.cancelled() and (error := done.exception()) is not None:
        logger.error("a restore could not be recorded", exc_info=error)
