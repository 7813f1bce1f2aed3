"""Workers, writers of checkpoints and their parents are killed at any moment, and no checkpoint is lost.

A notebook of many variables keeps running while its processes are killed. After each kill the variables are those of
the latest listed checkpoint, or of a later one, complete; in the end no process and no unused file is left.

``CAPSULE_TEST_KILLS`` sets how many processes are killed, ``CAPSULE_TEST_SEED`` where chance begins; both are printed.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgpack  # type: ignore[import-untyped]
import pytest
import pytest_asyncio

from capsule_durable import ids
from capsule_durable.checkpoints.catalogue import Catalogue
from capsule_durable.config.settings import Settings
from capsule_durable.errors import WorkerDied
from capsule_durable.execution.runtime import Runtime
from capsule_durable.messaging.capabilities import Capabilities
from capsule_durable.workers.launcher import Launcher
from capsule_worker.checkpoints.storage.pack_format import unpack_chunks
from capsule_worker.checkpoints.storage.pack_reader import PackReader
from capsule_worker.process import orphan_cleanup
from capsule_worker.protocol import manifest as mf
from capsule_worker.protocol import messages as m
from tests.support.waiting import DEADLINE, pass_time, poll_until_async

KILLS = int(os.environ.get("CAPSULE_TEST_KILLS") or 40)
SEED = int(os.environ.get("CAPSULE_TEST_SEED") or 20_240_229)
#: Kills that one session lives through.
PER_SESSION = 50
#: Checkpoints that are kept.
KEPT = 5
#: Bytes of packs, at most: what is kept, what was not looked through for a while, and what is being written.
MOST_BYTES = 700_000_000

pytestmark = [pytest.mark.asyncio, pytest.mark.timeout(240 + 4 * KILLS)]

BEGIN = """
import numpy as np
version = 0
log = []
small = {i: [] for i in range(7)}
arrays = {}
big = np.zeros(2_000_000)
view = big[1000:2000]
rows, noise = [], None
def make():
    total = 0
    def add(n):
        nonlocal total
        total += n
        return total
    return add
add = make()
class Point:
    made = 0
    def __init__(self, n):
        self.n, self.log = n, log
points = []
"""
FRAME = """
import pandas as pd
frame = pd.DataFrame({'x': range(20_000), 'y': 0.5, 'z': 'text'})
"""
STEP = """
log.append({v})
small[{v} % 7].append(({v}, log))
add({v})
points.append(Point({v})); Point.made += 1; del points[:-50]
arrays['a%d' % ({v} % 4)] = np.full(50_000 + {v} % 100, {v})
view[:] = {v}
if {v} % 6 == 0: rows = [{{'n': {v}, 'i': i}} for i in range(60_000)]
if {v} % 6 == 3: noise = np.random.default_rng({v}).random(2_000_000)
if {v} % 10 == 5:
    class Point(Point):
        made = 0
        born = {v}
    points = points[-3:]
if {v} % 10 == 9: Point = Point.__mro__[-2]
if frame is not None: frame.loc[{v} % 100, 'x'] = {v}
version = {v}
"""
LOOK = """
def _look():
    import zlib
    crc = lambda array: zlib.crc32(array.tobytes())
    return [
        version, len(log), log[-1:], sum(log),
        [[len(s), all(kept is log for _, kept in s), [n for n, _ in s[-3:]]] for s in small.values()],
        sorted([name, array.shape[0], crc(array)] for name, array in arrays.items()),
        crc(big), bool(np.shares_memory(big, view)), len(rows), rows[-1:], noise is not None and crc(noise),
        add(0), Point.made, [base.__name__ for base in Point.__mro__],
        [[point.n, point.log is log, isinstance(point, Point), type(point).made] for point in points],
        frame is not None and [int(frame['x'].sum()), float(frame['y'].sum()), sorted(set(frame['z']))],
    ]
import json
print(json.dumps(_look()))
del _look
"""


class Model:
    """The notebook as it is in a process that is never killed, version by version."""

    def __init__(self, *, frames: bool) -> None:
        self.begin = BEGIN + (FRAME if frames else "frame = None\n")
        self._space: dict[str, Any] = {"__name__": "model"}
        exec(self.begin, self._space)
        self._states = [self._look()]

    @staticmethod
    def step(version: int) -> str:
        """Return the cell that makes a version of the one before it."""
        return STEP.format(v=version)

    def at(self, version: int) -> Any:
        """Return what there is to see of a version."""
        while len(self._states) <= version:
            exec(self.step(len(self._states)), self._space)
            self._states.append(self._look())
        return self._states[version]

    def _look(self) -> Any:
        printed: list[str] = []
        self._space["print"] = printed.append
        exec(LOOK, self._space)
        return json.loads(printed[0])


@dataclass
class Figures:
    """What happened."""

    kills: Counter[str] = field(default_factory=Counter)
    back: Counter[str] = field(default_factory=Counter)
    cells: int = 0
    verified: int = 0
    largest: int = 0
    lost: Counter[int] = field(default_factory=Counter)


class Victims:
    """The processes of one front, by what they do.

    Args:
        cookie: marks them.
    """

    def __init__(self, cookie: str) -> None:
        self._marks = {
            name: f"{name}={cookie}".encode() for name in (orphan_cleanup.PROCESS_TAG, orphan_cleanup.WRITER_TAG)
        }

    def marked(self, *names: str) -> dict[int, int]:
        """Return the processes with the cookie under one of these names (all if none is given), and their parents."""
        marks = [self._marks[name] for name in names or self._marks]
        found = {}
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError, ValueError):
                environment = (process / "environ").read_bytes()
                if any(mark in environment for mark in marks):
                    found[int(process.name)] = int((process / "stat").read_text().rpartition(")")[2].split()[1])
        return found

    def guardians(self, worker: int | None) -> dict[int, int]:
        """Return the writers of checkpoints that are at work, each with the process that watches it."""
        # A worker carries the other name itself for the moment in which it forks.
        aside = {pid: parent for pid, parent in self.marked(orphan_cleanup.WRITER_TAG).items() if pid != worker}
        return {pid: parent for pid, parent in aside.items() if parent in aside}

    def kill(self, what: str, worker: int | None) -> str:
        """Kill; return what was there to be killed."""
        writers = self.guardians(worker) if what != "worker" else {}
        victims: dict[str, list[int | None]] = {
            "worker": [worker],
            "writer": list(writers),
            "guardian": list(writers.values()),
            "worker and writer": [worker, *writers],
            "writer and guardian": [*writers, *writers.values()],
            "all": [worker, *self.marked(orphan_cleanup.WRITER_TAG)],
        }
        killed = 0
        for pid in victims[what]:
            with contextlib.suppress(ProcessLookupError):
                if pid is not None:
                    os.kill(pid, signal.SIGKILL)
                    killed += 1
        return what if killed else "none"


WHAT = ["worker"] * 8 + ["worker and writer", "worker and writer", "all", "all", "all"]
WHAT += ["writer", "writer", "writer", "guardian", "guardian", "writer and guardian"]


class Session:
    """A notebook that continues while its processes are killed.

    Args:
        home: for the checkpoints.
        model: what it is to be.
        chance: decides when and whom.
        figures: gets what happened.
    """

    def __init__(self, home: Path, model: Model, chance: random.Random, figures: Figures) -> None:
        settings = Settings.model_validate({"home": str(home), "checkpoint_count": KEPT})
        self._launcher = Launcher()
        self._text = ""
        #: What a person is told, at the end of which there is the reason why something failed.
        self._told: list[str] = []
        capabilities = Capabilities(self._stream, lambda *_: None, lambda question: None)
        self.runtime = Runtime("kills", settings, capabilities, self._launcher)
        self._home, self._model, self._chance, self._figures = home, model, chance, figures
        self.victims = Victims(self._launcher.front_tag)
        self._count = 0
        #: The version after each cell that ended, by the cell's number.
        self._versions: dict[int, int] = {}
        self._version = 0
        #: What was listed when the latest writer was killed.
        self._spared = -1

    async def run(self, kills: int) -> None:
        """Live through a number of kills."""
        self.runtime.start()
        await self._cell(self._model.begin, 0)
        await self._listed(0)
        for number in range(kills):
            await self._go_on(self._chance.randrange(4))
            listed = await self._step_and_kill()
            await self._find(listed)
            if number % 5 == 4:
                await self.verify()
        await self._go_on(3)
        await self._listed(self._version)
        await self._find(self._version)

    async def close(self) -> None:
        """End it; what is left is looked at then."""
        await asyncio.wait_for(self.runtime.close(), DEADLINE)
        await poll_until_async(lambda: not self.victims.marked(), "no process left")
        self._no_file_is_left()

    # -- cells -----------------------------------------------------------------------------------------------

    def _stream(self, _execution_id: str, output: m.StreamOutput) -> None:
        if output.name == "stdout":
            self._text += output.text
        else:
            self._told.append(output.text)

    async def _cell(self, code: str, version: int) -> str:
        """Run a cell after which the notebook has a version; return what it printed."""
        self._count += 1
        self._figures.cells += 1
        count, self._text = self._count, ""
        request = m.ExecuteMessage(id=ids.new_execution_id(), code=code, execution_count=count)
        result = await asyncio.wait_for(self.runtime.cells.execute(request), DEADLINE)
        assert result.status == "ok", f"{result.ename}: {result.evalue}\n{''.join(self._told[-10:])}"
        self._versions[count] = version
        return self._text

    async def _go_on(self, cells: int) -> None:
        for _ in range(cells):
            await self._cell(self._model.step(self._version + 1), self._version + 1)
            self._version += 1

    async def _step_and_kill(self) -> int:
        """Run a cell, and kill at some moment from its beginning on; return the version that was listed then."""
        what = self._chance.choice(WHAT)
        if "writer" in what:
            # What two writers of one checkpoint die of is taken to be at fault.
            what = "worker" if self._spared == await self._newest() else what
            self._spared = await self._newest()
        moment = self._chance.random() * self._chance.choice([0.01, 0.05, 0.2, 0.6])
        cell = asyncio.get_running_loop().create_task(self._go_on(1))
        await asyncio.to_thread(pass_time, moment)
        listed = await self._newest()
        worker = self.runtime.workers.current
        before = self.runtime.checkpoints.recovery
        self._figures.kills[self.victims.kill(what, None if worker is None else worker.pid)] += 1
        try:
            await cell
        except WorkerDied as error:
            self._told.append(f"{error}\n")
        self._back = before
        return listed

    async def _find(self, listed: int) -> None:
        """See which version the notebook has, and that it is all of that one."""
        while True:
            try:
                seen = json.loads(await self._cell(LOOK, self._version))
                break
            # The cell before was through when its process was killed.
            except WorkerDied:
                continue
        version = seen[0]
        if not listed <= version <= self._version:
            entries = await self._in_store(lambda catalogue, session: catalogue.checkpoints("", session))
            rows = [f"#{e.number} {e.id} of {e.parent}, In [{e.execution_count}]{' head' * e.head}" for e in entries]
            pytest.fail(f"version {version} came back, {listed} was listed; {self._versions}\n" + "\n".join(rows))
        assert seen == self._model.at(version)
        back = self.runtime.checkpoints.recovery
        if back is not None and back != self._back:
            self._figures.back[f"a {back.source}"] += 1
            self._figures.lost[self._version - version] += 1
        self._version = self._versions[self._count] = version

    # -- the store -------------------------------------------------------------------------------------------

    async def _in_store(self, act: Any) -> Any:
        """Do something with the catalogue when nothing else does."""
        service = self.runtime.checkpoints
        catalogue, session = service._catalogue, service._session
        assert catalogue is not None
        assert session is not None
        return await service._in_thread(lambda: act(catalogue, session.id))

    async def _newest(self) -> int:
        """Return the latest version that is in a checkpoint; -1 if there is none."""

        def look(catalogue: Catalogue, session: str) -> int:
            incoming = catalogue.sessions.directory(session) / mf.INCOMING
            counts = [mf.load(path.read_bytes()).execution_count for path in incoming.glob(f"*{mf.MANIFEST_SUFFIX}")]
            newest = catalogue.newest(session)
            return max([*counts, 0 if newest is None else newest.execution_count])

        count: int = await self._in_store(look)
        return self._versions.get(count, -1)

    async def _listed(self, version: int) -> None:
        """Wait until a version is in a checkpoint."""

        async def is_listed() -> bool:
            return await self._newest() >= version

        await poll_until_async(is_listed, f"version {version} in a checkpoint")

    async def verify(self) -> None:
        """Read all that the listed checkpoints are made of, and look at how much there is."""
        await self._in_store(self._verify)

    def _verify(self, catalogue: Catalogue, session: str) -> None:
        directory = catalogue.sessions.directory(session)
        reader = PackReader(directory)
        seen: set[Any] = set()
        try:
            entries = catalogue.checkpoints("", session)
            assert len(entries) <= KEPT + 30
            for entry in entries:
                manifest = catalogue.manifest(entry.id)
                for group in [*manifest.groups, manifest.shell]:
                    fields = msgpack.unpackb(reader.blob(group.record))
                    for references in [fields["stream"], *(buffer[2] for buffer in fields["buffers"])]:
                        for chunk in unpack_chunks(references, fields["packs"]):
                            if chunk not in seen:
                                seen.add(chunk)
                                reader.chunk(chunk)
                self._figures.verified += 1
        finally:
            reader.close()
        size = catalogue.sessions.disk_use(session)
        self._figures.largest = max(self._figures.largest, size)
        assert size < MOST_BYTES

    def _no_file_is_left(self) -> None:
        """See that after the end there is nothing but what the kept checkpoints need."""
        with Catalogue(self._home) as catalogue:
            (session,) = [one.id for one in catalogue.sessions.all() if one.kernel == "kills" and one.checkpoints][:1]
            directory = catalogue.sessions.directory(session)
            entries = catalogue.checkpoints("", session)
            assert 0 < len(entries) <= KEPT
            needed = {pack + mf.PACK_SUFFIX for entry in entries for pack in catalogue.manifest(entry.id).packs}
            assert {path.name for path in (directory / mf.PACKS).iterdir()} == needed
            assert not list((directory / mf.INCOMING).glob(f"*{mf.MANIFEST_SUFFIX}"))
            self._verify(catalogue, session)


@pytest_asyncio.fixture
async def figures() -> AsyncIterator[Figures]:
    found = Figures()
    started = time.monotonic()
    yield found
    print(
        f"\nseed {SEED}: {sum(found.kills.values())} kills {dict(found.kills)}, back from {dict(found.back)},"
        f" cells gone {dict(sorted(found.lost.items()))}, {found.cells} cells, {found.verified} checkpoints read,"
        f" store {found.largest / 1e6:,.0f} MB at most, {time.monotonic() - started:.0f} s"
    )


async def test_no_listed_checkpoint_is_lost_when_any_process_is_killed(tmp_path: Path, figures: Figures) -> None:
    print(f"\nseed {SEED}, {KILLS} kills")
    for number, first in enumerate(range(0, KILLS, PER_SESSION)):
        model = Model(frames=number % 4 == 3)
        session = Session(tmp_path / str(number), model, random.Random(SEED + number), figures)
        try:
            await session.run(min(PER_SESSION, KILLS - first))
        finally:
            await session.close()
