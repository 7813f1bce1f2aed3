"""The checkpoints of one kernel: what is removed and what must not be, what is restored, and what the user is told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from capsule_durable.checkpoints.catalogue import Catalogue
from capsule_durable.checkpoints.incoming import Incoming
from capsule_durable.checkpoints.recovery import Recovery
from capsule_durable.checkpoints.service import COLLECT_EVERY, CheckpointService
from capsule_durable.config.settings import Settings
from capsule_durable.execution import checkpoint_requests
from capsule_durable.execution.checkpoint_requests import RequestContext
from capsule_durable.messaging.requests import RequestDispatcher
from capsule_durable.storage.process_identity import ProcessIdentity, this_process
from capsule_worker.protocol import manifest as mf
from capsule_worker.protocol import messages as m
from tests.support.catalogues import ELSEWHERE, ENDED, OTHER_MACHINE, checkpoint, packs_of, publish, writer

pytestmark = pytest.mark.asyncio


class NoStandby:
    """Workers of which none has a standby."""

    async def replace(self, _checkpoint: str) -> bool:
        return False


class Desk:
    """A checkpoint service, and a worker's part played by a test."""

    def __init__(self, home: Path, **settings: Any) -> None:
        self.told: list[str] = []
        self.home = home
        self.service = CheckpointService(Settings(home=str(home), **settings), "kernel-1", "a.ipynb", self.told.append)
        self.recovery = Recovery(self.service)
        self.answers: asyncio.Queue[m.AnswerMessage] = asyncio.Queue()
        self.dispatcher = RequestDispatcher(self.answers.put_nowait, lambda _: {})
        none: Any = None  # what no request of these tests needs
        workers: Any = NoStandby()
        checkpoint_requests.register(
            self.dispatcher, RequestContext(self.service, self.recovery, workers, launcher=none, capabilities=none)
        )
        self.service.start()

    async def begin(self) -> None:
        configuration = await self.service.configure()
        assert configuration is not None
        self.session = configuration.session
        self.directory = Path(configuration.directory)

    def packs(self) -> list[int]:
        """Return the numbers of the packs in the session's directory."""
        with Catalogue(self.home) as catalogue:
            return packs_of(catalogue, self.session)

    async def ask(self, request: m.KernelRequest) -> m.AnswerMessage:
        self.dispatcher.dispatch(m.RequestMessage(id="1", execution_id="", request=request))
        return await self.answers.get()

    async def failure(self, request: m.KernelRequest) -> m.RequestFailure:
        failure = (await self.ask(request)).error
        assert failure is not None
        return failure

    async def plan(self, request: m.KernelRequest) -> m.RestorePlan:
        answer = (await self.ask(request)).answer
        assert isinstance(answer, m.RestorePlan)
        return answer

    def restored(self, manifest: mf.Manifest, *, whole: bool) -> None:
        """Do what a worker does that has restored a checkpoint."""
        self.service.record_restored(m.RestoreFinishedMessage(checkpoint_id=manifest.id, restored=["a"], whole=whole))

    async def write(self, number: int, *older: int, **fields: Any) -> mf.Manifest:
        """Do what a worker does: write a checkpoint that needs the packs of older ones, and tell."""
        manifest = checkpoint(self.session, number, *older, **fields)
        publish(self.directory, manifest)
        self.service.record_saved(m.CheckpointSavedMessage(checkpoint_id=manifest.id, number=number))
        self.service.cells.add(number, manifest.code)
        await self.ask(m.ListCheckpointsRequest())  # imports it
        return manifest


@pytest_asyncio.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    one = Desk(tmp_path / "home", checkpoint_count=1)
    await one.begin()
    yield one
    await one.service.close()


def earlier_session(home: Path, **fields: Any) -> tuple[str, mf.Manifest]:
    """Leave a session with one checkpoint that a killed kernel could not list any more."""
    with Catalogue(home) as catalogue:
        session = catalogue.sessions.begin("kernel-0", "a.ipynb", ENDED).id
        manifest = checkpoint(session, 3, 1, 2, **fields)
        for number in (1, 2):
            publish(catalogue.sessions.directory(session), checkpoint(session, number))
        publish(catalogue.sessions.directory(session), manifest)
    return session, manifest


def killed_session(home: Path, process: ProcessIdentity) -> tuple[str, mf.Manifest]:
    """Leave a session of this kernel whose front was killed while its last checkpoint was staged."""
    with Catalogue(home) as catalogue:
        session = catalogue.sessions.begin("kernel-1", "a.ipynb", process).id
        publish(catalogue.sessions.directory(session), checkpoint(session, 1))
        draft = publish(catalogue.sessions.directory(session), checkpoint(session, 2))
        draft.rename(draft.with_suffix(mf.DRAFT_SUFFIX))
        (catalogue.sessions.directory(session) / mf.LOCK).touch()
    return session, checkpoint(session, 2)


@pytest.mark.parametrize("process", [ENDED, ELSEWHERE], ids=["here", "container"])
async def test_a_kernel_that_was_killed_is_recovered_with_what_was_staged(
    tmp_path: Path, process: ProcessIdentity
) -> None:
    session, last = killed_session(tmp_path, process)
    desk = Desk(tmp_path)
    found = await desk.recovery.at_start()
    assert found is not None
    assert found.manifest == last
    assert found.text.startswith(
        "The kernel was killed and has restarted. Variables are restored to their state after In [2]."
    )
    with Catalogue(tmp_path) as catalogue:
        assert catalogue.sessions.get(session).ended is not None
    await desk.service.close()


async def test_what_was_staged_on_another_machine_may_be_lost_and_is_not_finished(tmp_path: Path) -> None:
    session, _ = killed_session(tmp_path, OTHER_MACHINE)
    desk = Desk(tmp_path)
    found = await desk.recovery.at_start()
    assert found is not None
    assert found.manifest == checkpoint(session, 1)
    await desk.service.close()


@pytest.mark.parametrize(
    ("process", "recovered"), [(ENDED, True), (ELSEWHERE, False)], ids=["front ended", "front unknown"]
)
async def test_a_writer_that_does_not_end_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, process: ProcessIdentity, recovered: bool
) -> None:
    monkeypatch.setattr("capsule_durable.checkpoints.recovery.LAST_WRITERS_SECONDS", 0.1)
    session, _ = killed_session(tmp_path, process)
    desk = Desk(tmp_path)
    with Catalogue(tmp_path) as catalogue:
        directory = catalogue.sessions.directory(session)
        with writer(directory):
            found = await desk.recovery.at_start()
        assert found is not None
        assert "its last checkpoint was not finished after 0.1 s" in found.text
        assert found.manifest == (checkpoint(session, 1) if recovered else None)
        assert (catalogue.sessions.get(session).ended is not None) is recovered
    assert len(list((directory / mf.INCOMING).glob(f"*{mf.DRAFT_SUFFIX}"))) == 1
    await desk.service.close()


@pytest.mark.parametrize("process", [this_process(), ELSEWHERE], ids=["here", "container"])
@pytest.mark.parametrize("resume", ["offer", "auto"])
async def test_the_variables_of_a_kernel_that_runs_are_not_offered(
    tmp_path: Path, process: ProcessIdentity, resume: str
) -> None:
    with Catalogue(tmp_path) as other:
        session = other.sessions.begin("kernel-0", "a.ipynb", process).id
        publish(other.sessions.directory(session), checkpoint(session, 1))
        other.incoming.import_session(session)
        desk = Desk(tmp_path, resume=resume)
        assert await desk.recovery.at_start() is None
        await desk.service.close()
        other.sessions.end(session)
    # Its kernel has ended: that is said, and the lock is free.
    desk = Desk(tmp_path, resume=resume)
    found = await desk.recovery.at_start()
    assert found is not None
    assert (found.manifest is not None) is (resume == "auto")
    await desk.service.close()


async def test_retention_is_applied_now_and_then(desk: Desk) -> None:
    for number in range(1, COLLECT_EVERY + 1):
        await desk.write(number)
    assert desk.packs() == [COLLECT_EVERY]


async def test_what_was_resumed_is_kept_until_a_checkpoint_needs_it_and_as_long_as_one_does(tmp_path: Path) -> None:
    session, theirs = earlier_session(tmp_path)
    desk = Desk(tmp_path, checkpoint_count=1)
    await desk.begin()
    for number in range(1, COLLECT_EVERY):
        await desk.write(number)
    plan = await desk.plan(m.ResumeRequest())
    assert mf.load(plan.manifest).id == theirs.id
    linked = {path.name for path in (desk.directory / mf.PACKS).iterdir()}
    # The worker was in the middle of a checkpoint of its own: nothing of what is resumed is in it.
    await desk.write(COLLECT_EVERY)
    desk.restored(theirs, whole=True)
    await desk.ask(m.ListCheckpointsRequest())
    with Catalogue(tmp_path) as catalogue:
        assert {entry.id for entry in [catalogue.head(desk.session)] if entry} == {theirs.id}
        wanted = {pack + mf.PACK_SUFFIX for pack in theirs.packs}
        assert wanted <= linked
        assert wanted <= {path.name for path in (desk.directory / mf.PACKS).iterdir()}
        # One of the packs is of use from now on. That session may lose all it has.
        for number in range(COLLECT_EVERY + 1, 3 * COLLECT_EVERY):
            await desk.write(number, 2)
        assert catalogue.garbage.delete([theirs.id]) == 1
        for path in (catalogue.sessions.directory(session) / mf.PACKS).iterdir():
            path.unlink()
    kept = {path.name for path in (desk.directory / mf.PACKS).iterdir()}
    assert [name for name in sorted(wanted) if name in kept] == [sorted(wanted)[1]]
    await desk.service.close()


async def test_a_pack_that_is_lost_does_not_keep_the_rest_from_coming_back(desk: Desk) -> None:
    session, theirs = earlier_session(desk.home)
    with Catalogue(desk.home) as catalogue:
        next((catalogue.sessions.directory(session) / mf.PACKS).glob("00000001-*")).unlink()
    plan = await desk.plan(m.ResumeRequest(session=session))
    assert mf.load(plan.manifest) == theirs
    assert desk.packs() == [2, 3]


async def test_the_current_checkpoint_is_restored(desk: Desk) -> None:
    first = await desk.write(1)
    second = await desk.write(2)
    assert (await desk.recovery.after_death()).manifest == second
    desk.restored(first, whole=False)
    assert (await desk.recovery.after_death()).manifest == second
    desk.restored(first, whole=True)
    assert (await desk.recovery.after_death()).manifest == first
    third = await desk.write(3)
    assert (await desk.recovery.after_death()).manifest == third


async def test_where_the_newest_checkpoint_is_damaged_the_one_before_comes_back(desk: Desk) -> None:
    first = await desk.write(1)
    second = await desk.write(2)
    with Catalogue(desk.home) as catalogue, catalogue._database.writing() as connection:
        connection.execute("UPDATE checkpoints SET manifest = 'nonsense' WHERE id = ?", (second.id,))
    found = await desk.recovery.after_death()
    assert found.manifest == first
    assert found.text == (
        "Your variables are restored to their state after In [1]. You can continue."
        " Not restored: s (open). Changes from In [2] are lost. Re-run that cell if you need it."
    )
    assert (found.restored_to, found.lost) == (1, [2])


async def test_a_new_worker_counts_on_from_what_others_have_listed(desk: Desk) -> None:
    await desk.write(1)
    publish(desk.directory, checkpoint(desk.session, 2))
    with Catalogue(desk.home) as catalogue:
        catalogue.incoming.import_all()
    await desk.recovery.after_death()
    configuration = await desk.service.configure()
    assert configuration is not None
    assert configuration.number == 3


async def test_failures_say_of_which_kind_they_are(desk: Desk) -> None:
    nothing = await desk.failure(m.DiffCheckpointsRequest(before="1"))
    assert (nothing.code, nothing.message) == ("not_found", "there is no checkpoint yet")
    for number in (1, 2):
        await desk.write(number)
    assert (await desk.failure(m.ShowCheckpointRequest(checkpoint="nothing"))).code == "not_found"
    assert (await desk.failure(m.ResumeRequest(session="nothing"))).code == "not_found"
    assert (await desk.failure(m.ResumeRequest(session=desk.session))).code == "invalid"
    assert (await desk.failure(m.DeleteCheckpointsRequest(checkpoints=["2"]))).code == "invalid"
    assert (await desk.failure(m.UndoRequest(cells=5))).code == "not_found"
    assert (await desk.failure(m.ShowCheckpointRequest(checkpoint="id000"))).code == "ambiguous"
    unknown = await desk.failure(m.RestoreRequest(checkpoint="1", variables=["b"]))
    assert (unknown.code, unknown.message) == ("not_found", "checkpoint 1 has no variable b; it has a, s")


async def test_what_a_restore_brings_is_known_before_it(desk: Desk) -> None:
    first = await desk.write(1)
    second = await desk.write(2, parent=first.id)
    plan = await desk.plan(m.UndoRequest(cells=1, head=second.id))
    assert mf.load(plan.manifest) == first
    report = plan.report
    assert (report.checkpoint.id, report.source, report.restored) == (first.id, "checkpoint", ["a"])
    assert [cell.number for cell in report.undone] == [2]
    assert report.redo is not None
    assert report.redo.id == second.id


async def test_several_are_deleted_or_none(desk: Desk) -> None:
    first, second, third = [await desk.write(number, name=f"n{number}") for number in (1, 2, 3)]
    refused = await desk.failure(m.DeleteCheckpointsRequest(checkpoints=["n1", "n3"]))
    assert "nothing was deleted: a running kernel needs n3" in refused.message
    refused = await desk.failure(m.DeleteCheckpointsRequest(checkpoints=["n1", "n4"]))
    assert "no checkpoint 'n4'" in refused.message
    with Catalogue(desk.home) as catalogue:
        assert {one.id for one in catalogue.checkpoints()} == {first.id, second.id, third.id}
        deleted = (await desk.ask(m.DeleteCheckpointsRequest(checkpoints=["n1", "1", "n2"]))).answer
        assert isinstance(deleted, m.Deleted)
        assert [one.name for one in deleted.checkpoints] == ["n1", "n2"]
        assert deleted.freed > 0
        assert {one.id for one in catalogue.checkpoints()} == {third.id}
    assert desk.packs() == [3]


async def test_an_unusable_home_is_reported_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    desk = Desk(tmp_path / "file" / "home")
    assert await desk.service.configure() is None
    assert not await desk.service.is_enabled()
    (told,) = desk.told
    assert told.startswith("no checkpoints are saved: ")
    refused = await desk.failure(m.CheckpointsReadyRequest())
    assert refused.code == "unavailable"
    assert "no checkpoints are saved" in refused.message
    assert "no checkpoints are saved" in (await desk.recovery.after_death()).text
    await desk.service.close()


async def test_an_unlistable_checkpoint_is_reported_once_until_it_can_be_listed(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("capsule_durable.checkpoints.service.IMPORT_DELAY_SECONDS", 0.0)

    def fail(_self: Incoming, _session: str) -> list[mf.Manifest]:
        raise OSError(28, "No space left on device")

    async def save(number: int) -> None:
        publish(desk.directory, checkpoint(desk.session, number))
        desk.service.record_saved(m.CheckpointSavedMessage(checkpoint_id="x", number=number))
        assert desk.service._importing is not None
        await asyncio.wait({desk.service._importing})

    with monkeypatch.context() as patch:
        patch.setattr(Incoming, "import_session", fail)
        await save(1)
        await save(2)
    assert len(desk.told) == 1
    await save(3)
    with Catalogue(desk.home) as catalogue:
        assert [one.number for one in catalogue.checkpoints()] == [3, 2, 1]
