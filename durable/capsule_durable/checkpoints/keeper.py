"""Keeps the checkpoints of one kernel: lists what the worker wrote, says what comes back, carries out commands.

Everything that touches the catalogue happens in one thread of its own, one thing after the other.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from capsule_durable.checkpoints import commands
from capsule_durable.checkpoints.catalogue import Catalogue
from capsule_durable.checkpoints.commands import CommandError
from capsule_durable.checkpoints.entries import Entry, SessionRow
from capsule_durable.checkpoints.home import ensure
from capsule_durable.checkpoints.retention import Retention
from capsule_durable.checkpoints.tables import Table, size_of
from capsule_durable.errors import CapsuleError
from capsule_durable.settings import Settings
from capsule_worker.protocol import manifest as mf
from capsule_worker.protocol import messages as m

logger = logging.getLogger(__name__)

T = TypeVar("T")
#: Seconds between the first checkpoint after a pause and the look at what is there.
ADOPT_DELAY = 0.5
#: Checkpoints between two collections of what is of no use any more.
COLLECT_EVERY = 10


@dataclass(frozen=True)
class Recovery:
    """What comes back after a worker's death.

    Args:
        manifest: the checkpoint; None where there is none.
        text: says so, in a sentence.
    """

    manifest: mf.Manifest | None
    text: str


class Keeper:
    """The checkpoints of one kernel.

    Args:
        settings: the configuration.
        kernel: what identifies the kernel.
        notebook: the notebook's path, if Jupyter has told.
        warn: tells a person something, in a line.
    """

    def __init__(self, settings: Settings, kernel: str, notebook: str | None, warn: Callable[[str], None]) -> None:
        self._settings = settings
        self._kernel = kernel
        self._notebook = notebook
        self._warn = warn
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="capsule-checkpoints")
        self._catalogue: Catalogue | None = None
        self._session: SessionRow | None = None
        self._begun: asyncio.Future[m.KeepMessage | None] | None = None
        self._problem: str | None = None
        self._policy = Retention(
            count=settings.checkpoint_count,
            age=settings.checkpoint_age and settings.checkpoint_age * 86400.0,
            size=settings.checkpoint_size,
        )
        #: The number of the newest checkpoint.
        self._number = 0
        self._collected = 0
        self._adopting: asyncio.Task[None] | None = None

    # -- the session -----------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin the session; the first worker is told about it when it is ready."""
        if self._settings.checkpoints != "off":
            self._begun = asyncio.get_running_loop().create_task(self._in_thread(self._begin))

    async def keeping(self) -> m.KeepMessage | None:
        """Return what a worker is to be told; None where no checkpoints are kept."""
        if self._begun is None:
            return None
        message = await asyncio.shield(self._begun)
        return message and message.model_copy(update={"number": self._number + 1})

    def _begin(self) -> m.KeepMessage | None:
        try:
            catalogue = self._catalogue = Catalogue(ensure(Path(self._settings.home)))
            session = self._session = catalogue.begin_session(self._kernel, self._notebook, os.getpid())
        # Nothing that is wrong with the store may keep a person from working.
        except (CapsuleError, OSError) as error:
            self._problem = str(error)
            logger.warning("no checkpoints: %s", error)
            return None
        mode: Literal["background", "sync"] = "sync" if self._settings.checkpoints == "sync" else "background"
        return m.KeepMessage(directory=str(catalogue.directory(session.id)), session=session.id, mode=mode)

    def saved(self, message: m.SavedMessage) -> None:
        """Take notice of a checkpoint that the worker wrote."""
        self._number = max(self._number, message.number)
        if self._adopting is None or self._adopting.done():
            self._adopting = asyncio.get_running_loop().create_task(self._adopt_soon())

    async def recovery(self) -> Recovery:
        """Return what comes back: the newest whole checkpoint. The dead worker's writers are done."""
        if self._begun is None:
            return Recovery(None, "Its variables are lost, since no checkpoints are kept")
        await self.keeping()
        if self._session is None:
            return Recovery(None, f"Its variables are lost, since no checkpoints are kept: {self._problem}")
        try:
            manifest = await self._in_thread(self._newest)
        except (CapsuleError, OSError) as error:
            return Recovery(None, f"Its variables are lost: {error}")
        if manifest is None:
            return Recovery(None, "There was no checkpoint yet, so there is nothing to restore")
        lost = commands.missing(manifest)
        text = f"The variables are back as they were after In [{manifest.execution_count}]"
        if lost:
            text += f", but for {'; '.join(lost[:5])}" + (f"; and {len(lost) - 5} more" if len(lost) > 5 else "")  # noqa: PLR2004
        return Recovery(manifest, text)

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
            self._catalogue.collect(self._session.id, self._policy, time.time(), writing=True)
            self._catalogue.end_session(self._session.id)
            self._catalogue.forget_sessions(self._policy, time.time())
        self._catalogue.close()

    # -- commands --------------------------------------------------------------------------------------------

    async def carry_out(self, command: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """Carry out a command that was given in a cell; return the fields of its reply."""
        if self._begun is None or await self.keeping() is None:
            return {"error": self._problem or "no checkpoints are kept (setting: checkpoints)"}
        act = getattr(self, f"_do_{command}", None)
        if act is None:
            return {"error": "there is no such command"}
        try:
            found: Table | mf.Manifest = await self._in_thread(lambda: act(**arguments))
        except (CapsuleError, OSError, TypeError) as error:
            return {"error": str(error)}
        if isinstance(found, Table):
            return {"data": found.to_mime()}
        return {"manifest": mf.dump(found)}

    def _do_status(self, **fields: Any) -> Table:
        catalogue, session = self._store()
        entries = catalogue.checkpoints("", session.id)
        head = catalogue.head(session.id)
        rows = [[name.replace("_", " "), str(value)] for name, value in fields.items()]
        if head is not None:
            rows.insert(0, ["last checkpoint", f"#{head.number} {head.id}, after In [{head.execution_count}]"])
            rows.insert(1, ["size", f"{size_of(head.size)} in {head.variables} variables, {head.unsaved} not saved"])
        rows += [
            ["checkpoints", f"{len(entries)}, {size_of(sum(entry.bytes_written for entry in entries))} written"],
            ["mode", self._settings.checkpoints],
            ["session", session.id],
            ["directory", str(catalogue.directory(session.id))],
        ]
        return Table("Capsule", ["", ""], rows)

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
        entries = [catalogue.find(reference, session.id) for reference in checkpoints]
        count = catalogue.forget(entry.id for entry in entries)
        if count < len(entries):
            raise CommandError(
                f"{count} of {len(entries)} removed: what a running kernel builds on (the latest checkpoint) stays"
            )
        return Table("Removed", ["no", "id", "name"], [[str(e.number), e.id, e.name or ""] for e in entries])

    def _do_restore(self, checkpoint: str, variables: list[str]) -> mf.Manifest:
        catalogue, session = self._store()
        manifest = self._fetched(catalogue.find(checkpoint, session.id))
        known = {variable.name for variable in manifest.variables}
        unknown = [name for name in variables if name not in known]
        if unknown:
            raise CommandError(
                f"checkpoint {checkpoint} has no variable {', '.join(unknown)}; it has {commands.naming(sorted(known))}"
            )
        return manifest

    def _do_undo(self, cells: int, head: str | None) -> mf.Manifest:
        """Return the checkpoint before the last ``cells`` cells, as the checkpoints' own parents tell."""
        catalogue, session = self._store()
        entries = {entry.id: entry for entry in catalogue.checkpoints("", session.id)}
        at = entries.get(head or "")
        for _ in range(cells):
            at = entries.get(at.parent) if at is not None and at.parent else None
        if at is None:
            raise CommandError(f"there are no checkpoints of {cells} cells ago")
        return self._fetched(at)

    def _do_resume(self) -> mf.Manifest:
        catalogue, session = self._store()
        previous = catalogue.previous_session(session.id)
        if previous is None:
            raise CommandError("there is no earlier session of this notebook with a checkpoint")
        catalogue.adopt(previous.id)
        newest = catalogue.newest(previous.id)
        if newest is None:
            raise CommandError("the earlier session of this notebook has no checkpoint")
        return self._fetched(newest)

    def _do_restored(self, checkpoint: str, restored: list[str], failed: dict[str, str], notes: list[str]) -> Table:
        catalogue, session = self._store()
        catalogue.set_head(session.id, checkpoint)
        manifest = catalogue.manifest(checkpoint)
        wanted = {*restored, *failed}
        problems = [text for text in commands.missing(manifest, failed) if text.partition(" ")[0] in wanted]
        rows = [["back", commands.naming(sorted(restored)) or "nothing"]]
        rows += [["not back", text] for text in [*problems, *notes]]
        return Table(commands.described(manifest), ["", ""], rows)

    # -- in the thread ---------------------------------------------------------------------------------------

    def _store(self) -> tuple[Catalogue, SessionRow]:
        assert self._catalogue is not None
        assert self._session is not None
        self._adopt()
        return self._catalogue, self._session

    def _fetched(self, entry: Entry) -> mf.Manifest:
        """Return a checkpoint whose packs are in this session's directory, whichever session it is from."""
        catalogue, session = self._catalogue, self._session
        assert catalogue is not None
        assert session is not None
        manifest = catalogue.manifest(entry.id)
        if entry.session != session.id:
            packs = catalogue.directory(entry.session) / mf.PACKS
            mine = catalogue.directory(session.id) / mf.PACKS
            for pack in manifest.packs:
                name = pack + mf.PACK_SUFFIX
                with contextlib.suppress(FileExistsError):
                    os.link(packs / name, mine / name)
            self._collected = self._number + 1
        return manifest

    def _newest(self) -> mf.Manifest | None:
        catalogue, session = self._store()
        newest = catalogue.newest(session.id)
        return None if newest is None else catalogue.manifest(newest.id)

    def _adopt(self) -> None:
        catalogue, session = self._catalogue, self._session
        assert catalogue is not None
        assert session is not None
        for manifest in catalogue.adopt(session.id):
            self._number = max(self._number, manifest.number)
        if self._number >= self._collected + COLLECT_EVERY:
            self._collected = self._number
            catalogue.collect(session.id, self._policy, time.time(), writing=True)

    async def _adopt_soon(self) -> None:
        await asyncio.sleep(ADOPT_DELAY)
        try:
            await self._in_thread(self._adopt)
        except (CapsuleError, OSError) as error:
            if self._problem is None:
                self._problem = str(error)
                self._warn(f"checkpoints are written, but cannot be listed: {error}")

    async def _in_thread(self, act: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, act)
