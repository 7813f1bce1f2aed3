"""Inputs are listed and named from another process, and answered at most once."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from resonate.types import TaskData, Value

from capsule_durable import ids
from capsule_durable.checkpoints.models import SessionRow
from capsule_durable.config.settings import Settings
from capsule_durable.engines.base import EngineContext
from capsule_durable.engines.registry import open_engine
from capsule_durable.execution import answers
from capsule_durable.execution.answers import AlreadySettled
from capsule_durable.queries.inputs import UnknownInput, find, list_inputs

pytestmark = pytest.mark.asyncio

KERNEL = "/notebooks/ask.ipynb"


class Asking:
    """A kernel whose cells request inputs."""

    def __init__(self, home: Path) -> None:
        self.settings = Settings(home=str(home))
        self.engine = open_engine(self.settings.engine, EngineContext(home, ids.slug(KERNEL)))

    async def _create(self, promise_id: str, function: str, *arguments: object) -> None:
        task = TaskData(func=function, args=arguments, kwargs={}, version=1)
        tags = {"resonate:target": self.engine.target}
        if ":" in promise_id:
            tags |= {"resonate:external": "true", ids.INPUT_TAG: "true"}
        await self.engine.promises.create(promise_id, int((time.time() + 60) * 1000), Value(data=task), tags)

    async def cell(self, execution_id: str, number: int) -> None:
        await self._create(
            ids.execution(execution_id), "execute_cell", {"execution_count": number, "code": "\ninput('Who?')\n1"}
        )

    async def input(self, execution_id: str, n: int, key: str | None = None) -> None:
        input_id = ids.execution_input(key or execution_id, n)
        await self._create(input_id, "request_input", execution_id, "Who?", False)
        # A step of the function that requests it is not an input.
        await self._create(f"{input_id}.1", "show_prompt", execution_id)

    async def shown(self) -> list[str]:
        return [one.short for one in await list_inputs(self.settings)]


@pytest_asyncio.fixture
async def asking(tmp_path: Path) -> AsyncIterator[Asking]:
    made = Asking(tmp_path)
    yield made
    await made.engine.close()


async def test_without_a_store_no_input_is_pending(tmp_path: Path) -> None:
    assert await list_inputs(Settings(home=str(tmp_path / "home"))) == []
    assert not (tmp_path / "home").exists()
    with pytest.raises(UnknownInput, match=r'No input "abcd". No pending inputs.'):
        find([], "abcd")


async def test_a_pending_input_is_described(asking: Asking) -> None:
    await asking.cell("da66e9c5aa", 3)
    await asking.input("da66e9c5aa", 1)
    row = {"process": "", "ended": None, "head": None, "checkpoints": 0, "notebook": KERNEL, "started": 1.0}
    sessions = [SessionRow(id=name, kernel=KERNEL, **row) for name in ("new", "old")]  # type: ignore[arg-type]
    (one,) = await list_inputs(asking.settings, sessions)
    assert (one.id, one.short, one.prompt, one.password) == ("exec.da66e9c5aa:input.1", "da66e9c5-3.1", "Who?", False)
    assert (one.session, one.notebook, one.cell, one.code_head) == ("new", KERNEL, 3, "input('Who?')")
    assert (one.state, one.settled) == ("pending", None)
    assert abs(one.asked - time.time()) < 60
    for reference in (one.id, one.short, "da66", "da66e9c5aa:input.1"):
        assert find([one], reference) is one


async def test_an_input_is_answered_once(asking: Asking) -> None:
    await asking.cell("da66e9c5aa", 3)
    await asking.input("da66e9c5aa", 1)
    await asking.input("da66e9c5aa", 2)
    first = "exec.da66e9c5aa:input.1"
    await answers.answer(asking.settings, first, "Ada")
    for settle in (answers.answer(asking.settings, first, "Ada"), answers.cancel(asking.settings, first)):
        with pytest.raises(AlreadySettled, match="was already answered") as refused:
            await settle
        assert refused.value.is_answered
        assert refused.value.at is not None
    await answers.cancel(asking.settings, "exec.da66e9c5aa:input.2")
    with pytest.raises(AlreadySettled, match="was cancelled"):
        await answers.answer(asking.settings, "exec.da66e9c5aa:input.2", "Ada")
    known = await list_inputs(asking.settings, state=None)
    assert [(one.short, one.state) for one in known] == [("da66e9c5-3.1", "answered"), ("da66e9c5-3.2", "cancelled")]
    assert await asking.shown() == []
    # The id of a settled input does not name another one.
    assert find(known, "da66e9c5-3.1").state == "answered"
    with pytest.raises(UnknownInput, match=r'"da66" matches 2 inputs \(choose from da66e9c5-3.1 \(answered\), '):
        find(known, "da66")


async def test_the_inputs_of_a_run_whose_cell_was_changed_have_longer_ids(asking: Asking) -> None:
    for turn, source in enumerate(("1f0a99", "9c4177"), 1):
        await asking.cell(f"da66e9c5aa-3-{turn}", 7)
        await asking.input(f"da66e9c5aa-3-{turn}", 1, key=f"da66e9c5aa-3-{source}")
        if turn == 1:
            assert await asking.shown() == ["da66e9c5-3.1"]
            await answers.answer(asking.settings, "exec.da66e9c5aa-3-1f0a99:input.1", "Ada")
    assert await asking.shown() == ["da66e9c5-3-9c41.1"]
    known = await list_inputs(asking.settings, state=None)
    with pytest.raises(UnknownInput, match=r"da66e9c5-3-1f0a.1 \(answered\), da66e9c5-3-9c41.1 \(pending\)"):
        find(known, "da66e9c5-3.1")
    assert find(known, "da66e9c5-3-9c41.1").state == "pending"
