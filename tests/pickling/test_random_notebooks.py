"""Made-up notebooks end with the same variables whether or not their process is killed between cells.

Each notebook runs twice: straight through, and with a death before some of its cells and after its last one. In the end
both namespaces are described, and the descriptions are equal: values, and which names share what. What a module keeps
to itself is lost with a process, so the straight run loses it at the same places.

``CAPSULE_TEST_EXAMPLES`` sets how many notebooks are tried; they are others each time then.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import itertools
import json
import os
import re
import select
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, note, settings

from capsule_durable.workers.launcher import Launcher
from capsule_durable.workers.process import AttachedWorker
from capsule_worker.protocol import manifest as mf
from capsule_worker.protocol import messages as m
from tests.support import ROOT
from tests.support import namespace_description as canonical
from tests.support import random_notebooks as notebooks
from tests.support.programs.namespace_forks import FORGET
from tests.support.waiting import DEADLINE
from tests.support.worker import LiveWorker, end, text_of

_ASKED = os.environ.get("CAPSULE_TEST_EXAMPLES")
#: What a cell prints that is never the same: its own duration, and where objects lie.
_TIMES = re.compile(r".*(CPU times|Wall time| per loop ).*\n?|(?<= at )0x[0-9a-f]+")
#: Finding out what is the least that fails takes minutes.
pytestmark = pytest.mark.timeout(900 + 5 * int(_ASKED or 0))

profile = settings(
    max_examples=int(_ASKED or 70),
    derandomize=_ASKED is None,
    database=None,
    deadline=None,
    print_blob=True,
    suppress_health_check=list(HealthCheck),
)


class Lives:
    """A process that lives are copies of.

    Args:
        modules: a directory with modules that cells import.
        imported: what lives find imported.
    """

    def __init__(self, modules: Path, *imported: str) -> None:
        self._modules = modules
        self._imported = imported
        self._begin()

    def live(self, steps: list[Any], **fields: Any) -> dict[str, Any]:
        """Have a life run steps, and return what it answered; it is dead then."""
        request = {"path": [str(self._modules)], "steps": steps, "directory": None, "manifest": None, "number": 1}
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({**request, "describe": False, **fields}).encode() + b"\n")
        self._process.stdin.flush()
        line = self._line()
        if line is None:
            self.close()
            self._begin()
            pytest.fail("a life hangs, or ended before it had answered")
        answer: dict[str, Any] = json.loads(line)
        assert "fault" not in answer, answer["fault"]
        return answer

    def close(self) -> None:
        """End it, and what it forked."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, 9)
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()

    def _begin(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.programs.namespace_forks", *self._imported],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": "0", "OPENBLAS_NUM_THREADS": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )

    def _line(self) -> bytes | None:
        """Return the answer; None where there is none in time."""
        assert self._process.stdout is not None
        fd = self._process.stdout.fileno()
        data = b""
        while not data.endswith(b"\n"):
            if not select.select([fd], [], [], DEADLINE)[0]:
                return None
            piece = os.read(fd, 1 << 20)
            if not piece:
                return None
            data += piece
        return data


@pytest.fixture(scope="module")
def modules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory with the modules that the notebooks import."""
    directory = tmp_path_factory.mktemp("modules")
    for name, source in notebooks.MODULES.items():
        (directory / f"{name}.py").write_text(source)
    return directory


@pytest.fixture(scope="module")
def lives(modules: Path) -> Iterator[Callable[[list[notebooks.Cell]], Lives]]:
    """Return a function that says where a notebook can live: frames cost time even where there are none."""
    without, with_frames = Lives(modules, "numpy"), Lives(modules, "numpy", "pandas")
    yield lambda cells: with_frames if any("pandas" in cell.code for cell in cells) else without
    without.close()
    with_frames.close()


@contextlib.contextmanager
def store() -> Iterator[Path]:
    """Make a directory for the checkpoints of one notebook, in memory if there is a place for that."""
    memory = Path("/dev/shm")
    directory = Path(tempfile.mkdtemp(prefix="capsule-test-", dir=memory if os.access(memory, os.W_OK) else None))
    try:
        for part in (mf.PACKS, mf.INCOMING):
            (directory / part).mkdir()
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def newest(directory: Path) -> Path | None:
    """Return the manifest of the newest checkpoint."""
    return max((directory / mf.INCOMING).glob(f"*{mf.MANIFEST_SUFFIX}"), default=None)


def listing(cells: list[notebooks.Cell]) -> str:
    """Return a notebook as text."""
    parts = []
    for number, cell in enumerate(cells, 1):
        step = cell.step
        if step.die:
            parts.append("# ---- the process is killed ----")
        flags = f"{'' if step.settle else ', the next cell runs beside the checkpoint'}{', load' if step.load else ''}"
        parts.append(f"# In [{number}] ({step.kind}{flags})\n{cell.code}")
    return "\n".join(parts)


def request_of(number: int, cell: notebooks.Cell) -> dict[str, Any]:
    """Return a cell as a life takes it."""
    return {"code": cell.code, "count": number, "settle": cell.step.settle, "load": cell.step.load}


def run_straight(lives: Lives, cells: list[notebooks.Cell]) -> dict[str, Any]:
    """Run a notebook in one life."""
    steps: list[Any] = []
    for number, cell in enumerate(cells, 1):
        if cell.step.die:
            steps.append(FORGET)
        steps.append(request_of(number, cell))
    return lives.live(steps, describe=True)


def run_with_deaths(lives: Lives, cells: list[notebooks.Cell]) -> dict[str, Any]:
    """Run a notebook in several lives, the last of which only looks at what came back."""
    parts: list[list[Any]] = [[]]
    for number, cell in enumerate(cells, 1):
        if cell.step.die:
            parts.append([])
        parts[-1].append(request_of(number, cell))
    printed: list[str] = []
    answer: dict[str, Any] = {}
    with store() as directory:
        for steps in [*parts, []]:
            manifest = newest(directory)
            number = 1 if manifest is None else int(manifest.name.partition("-")[0]) + 1
            answer = lives.live(
                steps,
                directory=str(directory),
                manifest=manifest and str(manifest),
                number=number,
                describe=not steps,
            )
            assert not answer["warnings"]
            note(f"not saved: {answer['unsaved']}; not restored: {answer['problems']}")
            printed += answer["printed"]
    return {**answer, "printed": printed}


def compare(straight: dict[str, Any], killed: dict[str, Any]) -> None:
    """Assert that two runs printed the same, and ended with the same."""
    texts = [[_TIMES.sub("", text) for text in run["printed"]] for run in (straight, killed)]
    for number, (one, other) in enumerate(itertools.zip_longest(*texts), 1):
        assert one == other, f"In [{number}] printed {other!r}, and {one!r} in a process that lives on"
    found = difference(straight["described"], killed["described"], "")
    assert found is None, f"after the deaths {found}"


def difference(one: Any, other: Any, path: str) -> str | None:
    """Return where two descriptions differ first."""
    if isinstance(one, dict) and isinstance(other, dict):
        pairs = [(f"{path}.{key}", one.get(key), other.get(key)) for key in [*one, *(other.keys() - one.keys())]]
    elif isinstance(one, list) and isinstance(other, list):
        pairs = [(f"{path}[{n}]", *pair) for n, pair in enumerate(itertools.zip_longest(one, other))]
    else:
        return None if one == other else f"{path} is {other}, and {one} in a process that lives on"
    return next((found for pair in pairs if (found := difference(pair[1], pair[2], pair[0])) is not None), None)


@profile
@given(steps=notebooks.notebooks())
def test_a_notebook_ends_the_same_with_and_without_deaths(
    lives: Callable[[list[notebooks.Cell]], Lives], steps: list[notebooks.Step]
) -> None:
    cells = notebooks.write(steps)
    note(listing(cells))
    where = lives(cells)
    compare(run_straight(where, cells), run_with_deaths(where, cells))


# -- in real workers ----------------------------------------------------------------------------------------------

#: What a cell runs to describe the namespace that it is in.
_DESCRIBE = (
    "import json as _canonical_json\n"
    "_canonical_space = {{'__name__': 'canonical'}}\n"
    "exec({source!r}, _canonical_space)\n"
    "print(_canonical_json.dumps(_canonical_space['Walk'](globals()).describe()))"
)


class Workers:
    """Worker processes, one after the other: while one runs cells the next one starts."""

    def __init__(self) -> None:
        self._launcher = Launcher()
        self._next: LiveWorker | None = None

    async def take(self) -> LiveWorker:
        """Return a worker that is ready."""
        worker = self._next or await self._start()
        assert isinstance(await worker.receive(), m.ReadyMessage)
        self._next = await self._start()
        return worker

    async def end(self, worker: LiveWorker) -> None:
        """Kill a worker, and wait until the writers of its checkpoints are done."""
        worker.worker.kill()
        await worker.worker.exited
        assert await worker.worker.writers_done(DEADLINE)
        worker.worker.transport.close()

    async def close(self) -> None:
        """End the one that no test took."""
        if self._next is not None:
            await self.end(self._next)
            end(self._launcher)

    async def _start(self) -> LiveWorker:
        return LiveWorker(await AttachedWorker.adopt(self._launcher.launch()))


class RealRun:
    """A notebook in real workers, which are killed at once: what no checkpoint has is run again in the next one.

    Args:
        workers: where they come from.
        directory: for the checkpoints.
    """

    def __init__(self, workers: Workers, directory: Path) -> None:
        self._workers = workers
        self._directory = directory
        self.printed: dict[int, str] = {}
        self.deaths = 0

    async def run(self, cells: list[notebooks.Cell]) -> dict[str, Any]:
        """Run the cells, with a death after the last one, and return what is known of them in the end."""
        worker, done = await self._begin()
        while done < len(cells):
            number, cell = done + 1, cells[done]
            if cell.step.die and self.deaths < sum(each.step.die for each in cells[:number]):
                worker, done = await self._die(worker)
                continue
            await self._run(worker, cell.code, number)
            done += 1
            if cell.step.settle:
                await self._saved(worker, number)
        worker, done = await self._die(worker)
        for number in range(done + 1, len(cells) + 1):
            await self._run(worker, cells[number - 1].code, number)
        text = text_of(await worker.run(_DESCRIBE.format(source=inspect.getsource(canonical)), store_history=False))
        await self._workers.end(worker)
        return {"printed": [self.printed[n + 1] for n in range(len(cells))], "described": json.loads(text)}

    async def _begin(self) -> tuple[LiveWorker, int]:
        """Return a worker with what the latest checkpoint has, and after which cell that was made."""
        worker, path = await self._workers.take(), newest(self._directory)
        manifest = None if path is None else mf.load(path.read_bytes())
        number = 1 if manifest is None else manifest.number + 1
        worker.worker.transport.send(
            m.ConfigureCheckpointsMessage(directory=str(self._directory), session="random", number=number)
        )
        if manifest is None:
            return worker, 0
        worker.worker.transport.send(m.RestoreMessage(id="r", manifest=mf.dump(manifest)))
        await worker.until(lambda message: isinstance(message, m.RestoreReplyMessage))
        return worker, manifest.execution_count

    async def _die(self, worker: LiveWorker) -> tuple[LiveWorker, int]:
        self.deaths += 1
        await self._workers.end(worker)
        return await self._begin()

    async def _run(self, worker: LiveWorker, code: str, number: int) -> None:
        messages = await worker.run(code, execution_count=number)
        result = messages[-1]
        assert isinstance(result, m.ResultMessage)
        text = text_of(messages) + (result.ename or "")
        # A cell that is run again prints what it printed before.
        before = self.printed.setdefault(number, text)
        assert _TIMES.sub("", before) == _TIMES.sub("", text)

    async def _saved(self, worker: LiveWorker, number: int) -> None:
        while (path := newest(self._directory)) is None or mf.load(path.read_bytes()).execution_count < number:
            await worker.until(lambda message: isinstance(message, m.CheckpointSavedMessage))


@pytest.fixture(scope="module")
def workers() -> Iterator[tuple[asyncio.Runner, Workers]]:
    """Return the loop on which workers are spoken to, and where they come from."""
    with asyncio.Runner() as runner:
        found = Workers()
        yield runner, found
        runner.run(found.close())


@settings(profile, max_examples=max(12, int(_ASKED or 0) // 20))
@given(steps=notebooks.notebooks(12, without={*notebooks.FORGETFUL, "surroundings", "frame", "change_frame"}))
def test_a_notebook_ends_the_same_in_workers_that_are_killed(
    lives: Callable[[list[notebooks.Cell]], Lives],
    workers: tuple[asyncio.Runner, Workers],
    steps: list[notebooks.Step],
) -> None:
    cells = notebooks.write(steps)
    note(listing(cells))
    runner, source = workers
    with store() as directory:
        killed = runner.run(RealRun(source, directory).run(cells))
    compare(run_straight(lives(cells), cells), killed)
