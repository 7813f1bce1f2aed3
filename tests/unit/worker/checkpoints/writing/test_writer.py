"""Checkpoints on their way to the disk: what is written, what is not written again, and what a crash leaves."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import signal
import stat
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import pytest

from capsule_durable.checkpoints.catalogue import Catalogue
from capsule_durable.checkpoints.retention import Retention
from capsule_durable.storage.process_identity import this_process
from capsule_worker.checkpoints.pickling.placeholder import variable_of
from capsule_worker.checkpoints.storage import pack_writer
from capsule_worker.checkpoints.storage.pack_format import StorageError
from capsule_worker.checkpoints.writing import compaction, pickle_stream
from capsule_worker.checkpoints.writing.job import CheckpointJob, dump_outcome, load_outcome
from capsule_worker.checkpoints.writing.writer import Writer
from capsule_worker.protocol import manifest as mf
from tests.support.saved_notebook import Notebook, manifest_paths, pack_paths, size_on_disk

MB = 1_000_000
LATEST_ONLY = Retention(count=0, age=None, size=None)

#: A cell that makes objects of several kinds, all of which tell in which version of the namespace they are.
MAKE = """
import numpy as np
import pandas as pd

version = {version}
array = np.arange(60_000) * version
view = array[1000:2000]
frame = pd.DataFrame({{"a": np.arange(30_000) * version, "b": ["text"] * 30_000}})
items = [{{"number": number, "version": version}} for number in range(3000)]
alias = items

class Thing:
    made_in = version

    def __init__(self):
        self.things = [self, version]

thing = Thing()
"""
#: A cell that looks at them.
LOOK = """
assert (array == np.arange(60_000) * version).all() and np.shares_memory(array, view)
assert frame["a"].iloc[-1] == 29_999 * version and frame["b"].iloc[0] == "text"
assert alias is items and items[7] == {"number": 7, "version": version}
assert type(thing) is Thing and Thing.made_in == version and thing.things[0] is thing and thing.things[1] == version
"""


@pytest.fixture
def notebook(tmp_path: Path) -> Notebook:
    return Notebook(tmp_path)


def version_of(notebook: Notebook, manifest: mf.Manifest) -> int:
    """Restore a checkpoint, check that it is complete, and return its version."""
    fresh = Notebook(notebook.directory)
    assert fresh.restore(manifest) == {}
    fresh.run(LOOK)
    return fresh["version"]


# -- what is written ---------------------------------------------------------------------------------------------


def test_what_did_not_change_is_not_written_again(notebook):
    notebook.run("import random\ndata = {name: random.Random(name).randbytes(300_000) for name in 'abcdef'}")
    first = notebook.save()
    assert first.written > 1.8 * MB
    files = size_on_disk(notebook.directory)
    assert notebook.save().written == 0
    assert size_on_disk(notebook.directory) - files < 2000
    assert notebook.restored()["data"] == notebook["data"]


def test_one_column_of_ten_changes_and_only_that_is_written(notebook):
    notebook.run("""
        import numpy as np
        import pandas as pd

        rng = np.random.default_rng(1)
        frame = pd.DataFrame({f"c{number}": rng.random(250_000) for number in range(10)})
    """)
    column = 2 * MB
    assert notebook.save().written < 10 * column * 1.02
    notebook.run("frame['c3'] = rng.random(250_000)")
    assert column <= notebook.save(reached={"frame"}).written <= 1.2 * column
    notebook.run("frame.loc[1000, 'c7'] = 5.0")
    assert notebook.save(reached={"frame"}).written <= 0.2 * column
    assert notebook.save(reached={"frame"}).written == 0
    assert notebook.restored()["frame"].equals(notebook["frame"])


def test_arrays_of_equal_content_are_written_once(notebook):
    notebook.run("import numpy as np\nfirst = np.random.default_rng(1).random(250_000)\nsecond = first.copy()")
    assert notebook.save().written < 2.1 * MB
    restored = notebook.restored()
    restored.run("first[0] = 9\nassert second[0] != 9 and (first[1:] == second[1:]).all()")


def test_a_new_array_in_each_cell_is_written_once_each(notebook):
    notebook.run("import numpy as np\nrng = np.random.default_rng(1)")
    written = 0
    for number in range(10):
        notebook.run(f"array_{number} = rng.random(125_000)")
        written += notebook.save(reached={"rng", f"array_{number}"}).written
    assert written < 1.1 * 10 * MB


@pytest.mark.parametrize("change", ["['score'] = 0.5", "['score'] = 5", "['name'] = 'another'", "['tag'] = 'new'"])
def test_one_dict_of_many_changes_and_little_is_written_whatever_its_new_size(notebook, change):
    notebook.run("""
        data = [{"id": number, "name": f"name {number}", "score": number * 0.37} for number in range(60_000)]
    """)
    full = notebook.save().written
    notebook.run(f"data[7777]{change}")
    assert 0 < notebook.save().written < 0.2 * full
    assert notebook.restored()["data"] == notebook["data"]


def test_data_that_can_be_made_smaller_is_and_data_that_cannot_does_not_grow(notebook):
    notebook.run("text = 'again and again; ' * 60_000")
    assert notebook.save().written < 0.1 * MB
    notebook.run("import random\nnoise = random.Random(1).randbytes(1_000_000)")
    assert MB <= notebook.save(reached=set()).written < 1.01 * MB


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(bytes(64 * 1024), id="as long as a frame"),
        pytest.param(b"\x95" + (200_000 - 9).to_bytes(8, "little") + bytes(200_000 - 9), id="looks like a frame"),
        pytest.param(b"\x80\x05\x95" + (200_000 - 11).to_bytes(8, "little") + bytes(200_000 - 11), id="like a pickle"),
        pytest.param(b"\x95" + (3).to_bytes(8, "little") + os.urandom(5 * MB), id="begins like a frame"),
        pytest.param((0x95).to_bytes(1, "little") * 100_000, id="nothing but marks"),
    ],
)
def test_long_bytes_and_texts_come_back_whatever_they_look_like(notebook, data):
    notebook.namespace.update(
        single=data,
        several=[data, data[:-1], data + b"x", [1, 2, 3], data.decode("latin-1"), bytearray(data)],
        first=(data.decode("latin-1"), 5),
    )
    notebook.save()
    restored = notebook.restored()
    assert restored.values() == notebook.values()


def test_a_long_text_is_not_copied_as_a_whole(notebook, monkeypatch):
    """What a checkpoint needs in addition to the namespace is bounded."""
    monkeypatch.setattr(pickle_stream, "_COLLECT", 100_000)
    longest = []
    cuts = pickle_stream.cuts

    def watched(data, *, last):
        longest.append(len(data))
        return cuts(data, last=last)

    monkeypatch.setattr(pickle_stream, "cuts", watched)
    notebook.run("text = 'long' * 1_000_000")
    notebook.save()
    assert max(longest) < 0.5 * MB


def test_the_manifest_tells_what_there_is(notebook):
    notebook.run("import math, sys\nnumber = 5\nitems = [1]\nalias = items")
    notebook.run("def area(r):\n    return math.pi * r * later(r)")
    notebook.save()
    manifest = notebook.manifest
    assert [variable.name for variable in manifest.variables] == ["alias", "area", "items", "math", "number", "sys"]
    types = {variable.name: variable.type for variable in manifest.variables}
    assert types == {
        "alias": "list",
        "area": "function",
        "items": "list",
        "math": "module",
        "number": "int",
        "sys": "module",
    }
    assert all(variable.reason is None and variable.size > 0 for variable in manifest.variables)
    assert sorted(sorted(group.names) for group in manifest.groups) == [
        ["alias", "items"],
        ["area"],
        ["math", "number", "sys"],
    ]
    (function,) = [group for group in manifest.groups if group.names == ["area"]]
    assert {"math", "later"} <= set(function.reads), "names that are bound only later count as well"
    assert manifest.python
    assert manifest.bytes_written == sum(path.stat().st_size for path in pack_paths(notebook.directory))


def test_a_variable_is_known_by_its_content(notebook):
    notebook.run("number = 5\nother = 6\nitems = [1]")
    notebook.save()
    before = {variable.name: variable.digest for variable in notebook.manifest.variables}
    notebook.run("other = 7\nitems = [1]")
    notebook.save()
    after = {variable.name: variable.digest for variable in notebook.manifest.variables}
    assert (before["number"], before["items"]) == (after["number"], after["items"])
    assert before["other"] != after["other"]


def test_an_outcome_can_be_handed_to_another_process(notebook):
    notebook.run(MAKE.format(version=1))
    notebook.save()
    notebook.run("items.append(1)\nimport socket\nsock = socket.socket()")
    job = notebook.job(reached={"items"})
    outcome = notebook.carry_out(Writer(job))
    assert load_outcome(dump_outcome(outcome, job), job) == outcome
    notebook["sock"].close()


# -- what cannot be saved ----------------------------------------------------------------------------------------


def test_what_cannot_be_saved_is_listed_and_the_rest_is_saved(notebook):
    notebook.run("""
        import threading

        class Stubborn:
            def __reduce__(self):
                raise ValueError("not me,\\nnever")

        class Quitter:
            def __reduce__(self):
                raise SystemExit(3)

        stubborn, quitter, fine = Stubborn(), Quitter(), [1, 2]
        both = [fine, stubborn]
        numbers = (count for count in range(3))
    """)
    outcome = notebook.save()
    reasons = {variable.name: variable.reason for variable in notebook.manifest.variables if variable.reason}
    assert reasons.keys() == outcome.unsaved.keys() == {"stubborn", "quitter", "both", "numbers"}
    assert reasons["stubborn"] == reasons["both"] == "ValueError: not me, never"
    assert "SystemExit" in reasons["quitter"]
    assert "generator" in reasons["numbers"]
    restored = notebook.restored()
    assert restored["fine"] == [1, 2]
    assert {name for name, value in restored.values().items() if variable_of(value)} == reasons.keys()


def test_what_is_shared_stays_shared_though_something_next_to_it_cannot_be_saved(notebook):
    notebook.run("shared = []\nfirst = [shared]\nsecond = {'s': shared}\nbad = [shared, (n for n in ())]")
    notebook.save()
    restored = notebook.restored()
    assert restored["first"][0] is restored["second"]["s"] is restored["shared"]
    assert variable_of(restored["bad"]) is not None


def test_a_class_that_cannot_be_saved_any_more_costs_its_instances_and_names_them(notebook):
    notebook.run("class Thing:\n    pass\nfirst = Thing()\nsecond = Thing()\nother = [1]")
    notebook.save()
    notebook.run("Thing.numbers = (n for n in ())")
    notebook.save(reached={"Thing"})
    reasons = {variable.name: variable.reason for variable in notebook.manifest.variables if variable.reason}
    assert reasons.keys() == {"Thing", "first", "second"}
    assert all("its class Thing cannot be saved" in reason for reason in reasons.values())
    restored = notebook.restored()
    assert restored["other"] == [1]
    assert all(variable_of(restored[name]) is not None for name in reasons)


def test_what_was_at_fault_is_left_out_with_the_reason(notebook):
    notebook.run("first = [1]\nsecond = [2]\nthird = [first]")
    job = notebook.job()
    labels: list[str] = []
    Writer(job, lambda _, unit: labels.append(unit) if unit else None).prepare(rewrite=False)
    guilty = next(label for label in labels if label.endswith(" second"))
    outcome = notebook.carry_out(Writer(job, blamed={guilty: "saving it took the process along"}))
    assert {name: variable.reason for name, variable in outcome.unsaved.items()} == {
        "second": "saving it took the process along"
    }
    assert notebook.restored()["third"][0] == [1]


# -- a front that takes a writer for dead -----------------------------------------------------------------------


def test_a_checkpoint_that_a_front_has_finished_meanwhile_is_whole(notebook):
    notebook.run("a = [1, 2, 3]")
    writer = Writer(notebook.job())
    writer.prepare(rewrite=False)
    writer.stage()
    draft = writer._draft
    packs = sorted((notebook.directory / mf.PACKS).iterdir())
    finished = draft.rename(draft.with_suffix(mf.MANIFEST_SUFFIX))
    finished.unlink()  # it is in the catalogue now
    writer.commit()
    writer.discard()
    assert packs
    assert sorted((notebook.directory / mf.PACKS).iterdir()) == packs


def test_what_a_front_has_finished_is_not_removed_by_a_writer_that_fails(notebook):
    notebook.run("a = [1, 2, 3]")
    writer = Writer(notebook.job())
    writer.prepare(rewrite=False)
    writer.stage()
    packs = sorted((notebook.directory / mf.PACKS).iterdir())
    writer._draft.rename(writer._draft.with_suffix(mf.MANIFEST_SUFFIX))
    writer.discard()
    assert packs
    assert sorted((notebook.directory / mf.PACKS).iterdir()) == packs


def test_what_no_front_has_finished_is_removed_by_a_writer_that_fails(notebook):
    notebook.run("a = [1, 2, 3]")
    writer = Writer(notebook.job())
    writer.prepare(rewrite=False)
    writer.stage()
    writer.discard()
    assert not list((notebook.directory / mf.PACKS).iterdir())
    assert not list((notebook.directory / mf.INCOMING).iterdir())


# -- old packs ---------------------------------------------------------------------------------------------------


def fill(notebook: Notebook) -> None:
    """Make checkpoints until most of the first one's pack is of no use."""
    notebook.run("import random\nnoise = {name: random.Random(name).randbytes(100_000) for name in 'abcdef'}")
    notebook.run("globals().update(noise)\ndel noise")
    notebook.save()
    notebook.run("b, c, d, e, f = 1, 2, 3, 4, 5")
    notebook.save(changed=set("bcdef"), reached=set())


def test_what_is_useful_of_a_pack_that_is_not_is_written_again(notebook):
    fill(notebook)
    first = pack_paths(notebook.directory)[0]
    assert first.stem not in notebook.manifest.packs
    first.unlink()
    assert notebook.restored().values() == notebook.values()


def test_a_pack_is_not_written_again_when_that_would_take_time(notebook, monkeypatch):
    monkeypatch.setattr(compaction, "_MAX_BYTES", 50_000)
    fill(notebook)
    assert pack_paths(notebook.directory)[0].stem in notebook.manifest.packs


def test_a_damaged_pack_does_not_keep_checkpoints_from_being_written(notebook):
    notebook.run("import random\nnoise = {name: random.Random(name).randbytes(100_000) for name in 'abcdef'}")
    notebook.run("globals().update(noise)\ndel noise")
    notebook.save()
    first = pack_paths(notebook.directory)[0]
    os.truncate(first, first.stat().st_size - 150_000)
    notebook.run("b, c, d, e = 1, 2, 3, 4\nadded = [1]")
    notebook.save(changed=set("bcde") | {"added"}, reached=set())
    fresh = Notebook(notebook.directory)
    lost = fresh.restore(notebook.manifest)
    assert "f" in lost
    assert "a" not in lost
    assert (fresh["a"], fresh["added"]) == (notebook["a"], [1])


# -- a disk that does not take it --------------------------------------------------------------------------------

CALLS = ("open", "write", "fsync", "rename")


def count_calls(patch: pytest.MonkeyPatch, act: Callable[[str, Callable[..., Any], tuple[Any, ...]], Any]) -> None:
    """Have ``act`` carry out, or not, each call of the system by which files are written."""
    for name in CALLS:
        real = getattr(os, name)

        def call(*arguments: Any, _name: str = name, _real: Callable[..., Any] = real) -> Any:
            return act(_name, _real, arguments)

        patch.setattr(os, name, call)


def open_files() -> list[str]:
    return sorted(path.name for path in Path("/proc/self/fd").iterdir())


@pytest.mark.process
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_no_trouble_at_any_call_leaves_anything_half_done(notebook, monkeypatch, code):
    monkeypatch.setattr(pack_writer, "_COLLECT", 64 * 1024)
    notebook.run(MAKE.format(version=1))
    notebook.save()
    before = sorted(path for path in notebook.directory.rglob("*"))
    notebook.run(MAKE.format(version=2))
    files = open_files()
    failures = 0
    for number in range(1000):
        made = []

        def act(name: str, real: Callable[..., Any], arguments: tuple[Any, ...], made=made, number=number) -> Any:
            made.append(name)
            if len(made) == number + 1:
                raise OSError(code, os.strerror(code))
            return real(*arguments)

        one = Writer(notebook.job())
        with monkeypatch.context() as patch, contextlib.suppress(StorageError):
            count_calls(patch, act)
            write(one, notebook, os.strerror(code))
        if len(made) <= number:
            break
        one.discard()
        failures += 1
        assert open_files() == files
        assert version_of(notebook, notebook.manifests()[0]) == 1
        if len(manifest_paths(notebook.directory)) == 2:
            # What could not be read can stay where it is; and whether the last step outlasts the machine is not known.
            assert version_of(notebook, notebook.manifest) == 2
            manifest_paths(notebook.directory)[-1].unlink()
            for pack in set(pack_paths(notebook.directory)) - set(before):
                pack.unlink()
        assert sorted(path for path in notebook.directory.rglob("*")) == before
    assert failures > 10
    assert version_of(notebook, notebook.manifest) == 2


def write(one: Writer, notebook: Notebook, trouble: str) -> None:
    """Have a writer do its job; if it cannot, it says what the trouble was."""
    said = trouble
    try:
        notebook.carry_out(one)
    except StorageError as error:
        said = str(error)
        raise
    finally:
        assert trouble in said


def test_a_full_disk_is_reported_and_the_next_checkpoint_is_complete(tmp_path, monkeypatch):
    notebook = Notebook(tmp_path)
    notebook.run(MAKE.format(version=1))
    notebook.save()
    notebook.run(MAKE.format(version=2))

    def full(*_: Any) -> NoReturn:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    one = Writer(notebook.job())
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(StorageError, match=r"packs/00000002-[0-9a-f]{8}\.pack: No space left on device"):
            notebook.carry_out(one)
    one.discard()
    assert version_of(notebook, notebook.manifest) == 1
    notebook.run("version = 3\n" + MAKE.format(version=3))
    notebook.save()
    assert version_of(notebook, notebook.manifest) == 3


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount")
def test_a_disk_that_is_full_indeed(tmp_path):
    notebook = Notebook(tmp_path / "disk" / "session")
    shutil.rmtree(tmp_path / "disk")
    (tmp_path / "disk").mkdir()
    if os.system(f"mount -t tmpfs -o size=4M capsule {tmp_path}/disk 2>/dev/null"):
        pytest.skip("no file system may be mounted here")
    try:
        notebook = Notebook(tmp_path / "disk" / "session")
        notebook.run(MAKE.format(version=1))
        notebook.save()
        before = sorted(notebook.directory.rglob("*"))
        notebook.run(MAKE.format(version=2))
        notebook.run("import os\nmuch = os.urandom(6_000_000)")
        one = Writer(notebook.job())
        with pytest.raises(StorageError, match="No space left on device"):
            notebook.carry_out(one)
        one.discard()
        assert sorted(notebook.directory.rglob("*")) == before
        assert version_of(notebook, notebook.manifest) == 1
        notebook.run("del much")
        notebook.save()
        assert version_of(notebook, notebook.manifest) == 2
    finally:
        os.system(f"umount -l {tmp_path}/disk")


# -- crashes -----------------------------------------------------------------------------------------------------


class Crash:
    """Ends this process with SIGKILL at one of the calls by which a checkpoint gets to the disk.

    A machine that goes down takes along what had not been brought to its disk, so the files are first made to look as
    after that.

    Args:
        at: how many calls are made before.
        torn: whether half of the next one is done, too, where it writes.
        loses: "nothing": the machine continues; "data": files have their names, but not what was written to them;
            "names": files are gone that were made, and have their old names, if their directory was not synced.
    """

    def __init__(self, at: int, *, torn: bool, loses: str) -> None:
        self._at = at
        self._torn = torn
        self._loses = loses
        self._paths: dict[int, Path] = {}
        #: Bytes of each file that are on the disk.
        self._synced: dict[Path, int] = {}
        #: What happened to names, by directory: how to undo it.
        self._undo: list[tuple[Path, Callable[[], None]]] = []
        self._count = 0

    def __call__(self, name: str, real: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        if self._count == self._at:
            if self._torn and name == "write":
                real(arguments[0], bytes(arguments[1])[: len(arguments[1]) // 2])
            self._die()
        self._count += 1
        result = real(*arguments)
        getattr(self, f"_{name}")(result, *arguments)
        return result

    def _open(self, file: int, path: Path, flags: int, *_: Any) -> None:
        self._paths[file] = path = Path(path)
        if flags & os.O_CREAT:
            self._synced[path] = 0
            self._undo.append((path.parent, path.unlink))

    def _write(self, *_: Any) -> None:
        """A write is noticed when it is missing."""

    def _fsync(self, _: None, file: int) -> None:
        if stat.S_ISDIR(os.fstat(file).st_mode):
            self._undo = [(folder, undo) for folder, undo in self._undo if folder != self._paths[file]]
        else:
            self._synced[self._paths[file]] = os.fstat(file).st_size

    def _rename(self, _: None, before: Path, after: Path) -> None:
        before, after = Path(before), Path(after)
        self._synced[after] = self._synced.pop(before)
        self._undo.append((after.parent, lambda: after.rename(before)))

    def lose(self) -> None:
        """Have the machine fail."""
        self._at = -1
        if self._loses == "data":
            for path, size in self._synced.items():
                os.truncate(path, size)
        if self._loses == "names":
            for _, undo in reversed(self._undo):
                undo()

    def _die(self) -> NoReturn:
        self.lose()
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError("not reached")


def carry_out_until(notebook: Notebook, job: CheckpointJob, crash: Crash) -> bool:
    """Do a job in a process of its own; return whether it came to its end."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # that threads are not copied does no harm here
        child = os.fork()
    if not child:
        with contextlib.suppress(BaseException):
            count_calls(pytest.MonkeyPatch(), crash)
            notebook.carry_out(Writer(job))
            crash.lose()
            os._exit(0)
        os._exit(1)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in (0, -signal.SIGKILL)
    return status == 0


@pytest.fixture
def home(tmp_path: Path) -> tuple[Path, Notebook]:
    """Return a home with a session, one checkpoint in its catalogue, and a namespace that has changed since."""
    home = tmp_path / "home"
    with Catalogue(home) as catalogue:
        session = catalogue.sessions.begin("kernel", "a.ipynb", this_process()).id
        notebook = Notebook(catalogue.sessions.directory(session), session)
        notebook.run(MAKE.format(version=1))
        notebook.save()
        assert len(catalogue.incoming.import_session(session)) == 1
    notebook.run(MAKE.format(version=2))
    return home, notebook


def calls_of(notebook: Notebook, job: CheckpointJob, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Do a job and return the names of the calls that it takes."""
    made = []

    def act(name: str, real: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        made.append(name)
        return real(*arguments)

    with monkeypatch.context() as patch:
        count_calls(patch, act)
        notebook.carry_out(Writer(job))
    return made


def latest(catalogue: Catalogue, notebook: Notebook) -> mf.Manifest:
    """Return the newest checkpoint in the catalogue."""
    entry = catalogue.newest(notebook.session)
    assert entry is not None
    return catalogue.manifest(entry.id)


@pytest.mark.process
@pytest.mark.parametrize(
    ("loses", "goes_on"),
    [
        pytest.param("nothing", True, id="the worker ends and the front continues"),
        pytest.param("nothing", False, id="both end"),
        pytest.param("data", False, id="the machine fails and files lack what was written"),
        pytest.param("names", False, id="the machine fails and files lack their names"),
    ],
)
def test_a_crash_at_any_call_leaves_the_checkpoint_before_and_all_or_nothing_of_the_new_one(
    home, tmp_path, monkeypatch, loses, goes_on
):
    monkeypatch.setattr(pack_writer, "_COLLECT", 128 * 1024)
    original, notebook = home
    job, next_job = notebook.job(), notebook.job()

    def copied() -> Notebook:
        shutil.copytree(original, tmp_path / "copy")
        return Notebook(tmp_path / "copy" / notebook.directory.relative_to(original), notebook.session)

    calls = calls_of(notebook, replace(job, directory=copied().directory), monkeypatch)
    assert calls.count("write") >= 5
    drafted = max(number for number, name in enumerate(calls) if name == "write")
    counts = calls.index("rename") if loses != "names" else len(calls) - 1
    crashes = [(number, torn) for number, name in enumerate(calls) for torn in {False, name == "write"}]
    for number, torn in [*crashes, (len(calls), False)]:
        shutil.rmtree(tmp_path / "copy")
        place = copied()
        crash = Crash(number, torn=torn, loses=loses)
        assert carry_out_until(notebook, replace(job, directory=place.directory), crash) == (number == len(calls))
        with Catalogue(tmp_path / "copy") as catalogue:
            if goes_on:
                catalogue.incoming.finish(notebook.session)
            new = catalogue.incoming.import_session(notebook.session)
            if goes_on:
                # The data was handed over before the draft, so the front can do the rest once that is whole.
                assert len(new) == (number > drafted)
            else:
                assert len(new) == (number > counts)
            assert version_of(place, latest(catalogue, notebook)) == 1 + len(new)
            assert version_of(place, catalogue.manifest(catalogue.checkpoints()[-1].id)) == 1
            # The next one is made from what its process knows: that the one before did not come to anything.
            notebook.carry_out(Writer(replace(next_job, directory=place.directory)))
            assert len(catalogue.incoming.import_session(notebook.session)) == 1
            assert version_of(place, latest(catalogue, notebook)) == 2
            catalogue.garbage.collect(notebook.session, LATEST_ONLY, 0.0, has_writers=True)
            assert {path.stem for path in pack_paths(place.directory)} == latest(catalogue, notebook).packs
            assert version_of(place, latest(catalogue, notebook)) == 2
            catalogue.garbage.collect(notebook.session, LATEST_ONLY, 0.0, has_writers=False)
            assert not list((place.directory / mf.INCOMING).iterdir())
