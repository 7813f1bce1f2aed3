"""What a person has of checkpoints: variables that outlive processes, and the words of `%capsule`."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from capsule_durable.checkpoints.catalogue import Catalogue
from capsule_durable.checkpoints.models import Entry
from capsule_worker.protocol import manifest as mf
from tests.support.kernels import NO_STANDBY, UNSAVEABLE, Kernel, kernel
from tests.support.saved_state import wait_for_cell
from tests.support.waiting import pass_time, poll_until

ID = re.compile(r"\b1[0-9a-f]{18}\b")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    """A kernel for the tests that leave it as they found it, or do not care."""
    with kernel(tmp_path_factory.mktemp("shared") / "home", checkpoints="sync") as one:
        yield one


def entries(home: Path) -> list[Entry]:
    """Return what is listed, with what a killed kernel could not list any more; the newest first."""
    with Catalogue(home) as catalogue:
        catalogue.incoming.import_all()
        return catalogue.checkpoints()


def manifest(home: Path, entry: Entry) -> mf.Manifest:
    with Catalogue(home) as catalogue:
        return catalogue.manifest(entry.id)


def names(home: Path, entry: Entry) -> set[str]:
    return {variable.name for variable in manifest(home, entry).variables}


def one_id(text: str) -> str:
    """Return the id of the checkpoint that a table is about."""
    return ID.findall(text)[0]


# -- the crash of a worker -----------------------------------------------------------------------------------


def test_variables_are_restored_after_a_crash_of_the_worker_and_those_that_are_not_are_named(home: Path) -> None:
    with kernel(home, checkpoints="sync") as one:
        one.ok(UNSAVEABLE)
        one.ok(
            """
from dataclasses import dataclass
@dataclass
class Point:
    x: int
    def twice(self): return Point(self.x * factor)
factor = 2
first = Point(1)
"""
        )
        one.ok("shared = []\nholder = {'list': shared}\nsecond = Point(5)")
        said = one.died()
        assert "SIGKILL" in said
        assert "Your variables are restored to their state after In [3]. You can continue." in said
        assert "Not restored: connection (sockets cannot be saved); re-run its cell (In [1])." in said
        # Classes are the same, saved whenever they were; objects are shared as before; functions see live globals.
        assert one.text("print(type(first) is type(second) is Point, isinstance(first, Point))") == "True True\n"
        assert one.text("holder['list'].append(1); print(shared, holder['list'] is shared)") == "[1] True\n"
        assert one.text("factor = 10\nprint(first.twice())") == "Point(x=10)\n"
        done = one.run("connection.send(b'x')")
        assert done.reply["ename"] == "NotRestoredError"
        told = "connection (socket.socket) was not restored: sockets cannot be saved. Re-run its cell (In [1]): "
        assert done.reply["evalue"].startswith(told)


def test_cells_whose_effects_are_not_saved_are_named(home: Path) -> None:
    with kernel(home) as one:
        one.ok(f"{NO_STANDBY}\nx = 1")
        one.ok("%capsule checkpoint base")
        one.ok("import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))")
        one.wait_for_warning("Saving failed")
        one.ok("x = 2")
        one.ok("%capsule checkpoints")
        said = one.died()
        assert "restored to their state after In [2]" in said
        assert "Changes from In [3] and In [4] are lost. Re-run those cells if you need them." in said
        assert one.text("print(x, 'y' in globals())") == "1 False\n"


def test_cells_that_change_nothing_are_saved_together_when_no_more_come(home: Path) -> None:
    with kernel(home) as one:
        one.ok(f"{NO_STANDBY}\nx = 1")
        for _ in range(30):
            one.ok("pass")
        poll_until(lambda: entries(home)[:1] and entries(home)[0].execution_count == 31, "the last one is saved")
        assert len(entries(home)) < 20


def test_a_cell_that_changed_nothing_is_saved_before_one_that_may_end_its_process(home: Path) -> None:
    with kernel(home) as one:
        one.ok(f"{NO_STANDBY}\nx = 1")
        one.ok("print(2)")
        said = one.died()
        assert "restored to their state after In [2]" in said
        assert "are lost" not in said
        assert one.text("print(x, In[2])") == "1 print(2)\n"


def test_a_crash_between_two_cells_is_reported_with_the_next_one(home: Path) -> None:
    with kernel(home, checkpoints="sync") as one:
        one.ok(UNSAVEABLE)
        pid = int(one.text("x = 41\nimport os\nprint(os.getpid())"))
        one.kill_worker(pid)
        done = one.run("print(x + 1)")
        told = done.text("stderr") + str(done.reply.get("evalue", ""))
        assert "Python was killed (SIGKILL, peak memory " in told
        assert "restored" in told
        assert one.text("print(x + 1)") == "42\n"


def test_three_hundred_names_come_back(home: Path) -> None:
    with kernel(home, checkpoints="sync") as one:
        one.ok(UNSAVEABLE)
        one.ok("for i in range(300): globals()[f'v{i}'] = [i, str(i)]")
        assert "state after In [2]" in one.died()
        assert one.text("print(all(globals()[f'v{i}'] == [i, str(i)] for i in range(300)))") == "True\n"
        one.ok("for i in range(300): del globals()[f'v{i}']")
        assert "and 2" in one.shown("%capsule restore 2")
        assert one.text("print(sum(f'v{i}' in globals() for i in range(300)))") == "300\n"


# -- the crash of a kernel -----------------------------------------------------------------------------------


def test_in_mode_sync_a_checkpoint_is_durable_before_the_reply(home: Path) -> None:
    one = Kernel(home, checkpoints="sync")
    try:
        for number in range(1, 4):
            one.ok(f"x = list(range({number}))")
        one.kill()
    finally:
        one.close()
    newest, *older = entries(home)
    assert [entry.execution_count for entry in (newest, *older)] == [3, 2, 1]
    assert newest.head
    assert "x" in names(home, newest)


def test_a_new_kernel_resumes_a_killed_session(home: Path) -> None:
    with kernel(home, checkpoints="sync", checkpoint_count=2) as one:
        one.ok("class Thing:\n    pass\nbig = bytes(range(256)) * 4096\nthing = Thing()")
        one.ok("view = memoryview(big)\nother = Thing()\nnumbers = [1, 2, 3]\ngen = (n for n in numbers)")
        earlier = one.session
        one.kill()
    with kernel(home, checkpoints="sync", checkpoint_count=2) as two:
        refused = two.refused("%capsule resume")
        assert "no earlier session of this notebook" in refused
        assert earlier in refused
        assert "there is no session 'nothing'" in two.refused("%capsule resume nothing")
        assert "own session" in two.refused(f"%capsule resume {two.session}")
        shown = two.shown(f"%capsule resume {earlier[:-2]}")
        assert "after In [2]" in shown
        assert shown.startswith("Restored 6 variables (Thing, big, numbers, other, thing, view) from checkpoint ")
        why = "Not restored: gen (generators cannot be saved); re-run its cell (In [2] of the previous session)."
        assert shown.endswith(why)
        assert two.text("print(len(big), numbers, type(thing) is type(other) is Thing)") == "1048576 [1, 2, 3] True\n"
        # From here on either session can lose its files without a loss to the other.
        with Catalogue(home) as catalogue:
            mine, theirs = (catalogue.sessions.directory(session) / mf.PACKS for session in (two.session, earlier))
            linked = {path.name for path in mine.iterdir()} & {path.name for path in theirs.iterdir()}
            assert linked
            assert all((mine / name).samefile(theirs / name) for name in linked)
        for number in range(25):
            two.ok(f"numbers.append({number})")
        two.shown("%capsule checkpoints")  # lists what was written
        with Catalogue(home) as catalogue:
            kept = catalogue.checkpoints(session=two.session)
            assert 2 <= len(kept) < 25  # two, and those since the latest collection, which may lag behind
            assert catalogue.garbage.delete(entry.id for entry in catalogue.checkpoints(session=earlier)) == 2
        for path in theirs.iterdir():
            path.unlink()
        two.ok(UNSAVEABLE)
        assert "restored to their state after" in two.died()
        assert two.text("print(len(big), len(numbers), isinstance(thing, Thing))") == "1048576 28 True\n"


def test_what_was_resumed_or_restored_is_restored_after_a_crash_though_nothing_was_saved_since(home: Path) -> None:
    with kernel(home, checkpoints="sync") as one:
        one.ok("x = 'earlier'")
        earlier = one.session
    with kernel(home, checkpoints="sync") as two:
        two.ok(NO_STANDBY)
        two.ok(f"%capsule resume {earlier}")
        assert f"state after In [1] of session {earlier}." in two.died()
        assert two.text(f"{NO_STANDBY}\nprint(x)") == "earlier\n"
        two.ok("x = 'later'")
        two.ok("%capsule checkpoint later")
        two.ok("x = 'last'")
        two.ok("%capsule restore later --clear")
        assert "state after In [6]." in two.died()
        assert two.text("print(x)") == "later\n"
        two.ok(f"%capsule resume {earlier}")
        middle = two.session
        two.kill()
    with kernel(home) as three:
        three.ok(f"%capsule resume {middle}")
        assert three.text("print(x)") == "earlier\n"


# -- modes ---------------------------------------------------------------------------------------------------


def test_in_mode_off_nothing_is_saved_and_the_status_says_so(home: Path) -> None:
    with kernel(home, checkpoints="off") as one:
        one.ok("x = 1")
        words_of_commands = (
            "checkpoint a",
            "checkpoints",
            "show a",
            "restore a",
            "undo",
            "diff a",
            "delete a",
            "resume",
        )
        for words in words_of_commands:
            refused = one.refused(f"%capsule {words}")
            assert refused == f"%capsule {words.split()[0]}: no checkpoints are saved: the setting `checkpoints` is off"
        status = one.shown("%capsule status")
        assert "Saving: off: no checkpoints are saved: the setting `checkpoints` is off" in status
        assert "Sandbox: notebook" in status
        assert "no checkpoints are saved" in one.died()
        assert one.run("x").reply["ename"] == "NameError"
        assert {path.name.partition("-")[0] for path in home.iterdir()} == {
            "engine.sqlite3",
            "history.sqlite3",
            "kernels.lock",
            *(["sandbox.json"] if shutil.which("bwrap") else []),
        }


def test_an_unusable_home_is_reported_once_and_cells_run(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a directory")
    with kernel(tmp_path / "file" / "home") as one:
        done = one.ok("x = 1")
        assert "no checkpoints are saved" in done.text("stderr")
        assert one.ok("x").text("stderr") == ""
        assert "no checkpoints are saved" in one.refused("%capsule checkpoint a")
        assert "Saving: not saving: no checkpoints are saved" in one.shown("%capsule status")
        assert "no checkpoints are saved" in one.died()


# -- words ---------------------------------------------------------------------------------------------------


def test_a_checkpoint_has_a_name_a_description_and_tags_and_is_found_by_them(shared: Kernel) -> None:
    number = shared.ok("rows = list(range(5))\nprice = {'x': 1}").reply["execution_count"]
    shown = shared.shown("%capsule checkpoint before-join -m 'both {tables} are $clean' --tag clean --tag Ä")
    assert '"before-join"' in shown
    assert re.search(rf"rows +list .* In \[{number}\] +saved", shown)
    found = {query: shared.shown(f"%capsule checkpoints {query}") for query in ("", "join", "CLEAN ä", "nothing")}
    assert all("before-join" in found[query] for query in ("", "join", "CLEAN ä"))
    assert "both {tables} are $clean [clean, Ä]" in found[""]
    assert found["nothing"] == "Checkpoints matching 'nothing': none"
    status = shared.shown("%capsule status")
    assert "before-join" in status
    assert shared.session in status
    assert str(shared.home) in status


def test_two_checkpoints_are_compared(shared: Kernel) -> None:
    shared.ok("a = 1\nb = [1]\nc = 'gone'")
    shared.ok("%capsule checkpoint one")
    shared.ok("b.append(2)\ndel c\nd = 2.5\na = 'text'")
    shared.ok("%capsule checkpoint two")
    for words in ("one two", "one"):
        shown = shared.shown(f"%capsule diff {words}")
        assert re.search(r"^a +changed +int → str", shown, re.MULTILINE)
        assert re.search(r"^b +changed +list", shown, re.MULTILINE)
        assert re.search(r"^c +removed +str", shown, re.MULTILINE)
        assert re.search(r"^d +added +float", shown, re.MULTILINE)
    assert "no variable differs" in shared.shown("%capsule diff two two")


def test_all_or_some_variables_are_restored(shared: Kernel) -> None:
    shared.ok("a = 1\nb = [1]")
    shared.ok("%capsule checkpoint base")
    shared.ok("a, b, c = 2, [2], 3")
    shown = shared.shown("%capsule restore base a")
    assert shown.startswith('Restored 1 variable (a) from checkpoint "base", after In [')
    assert shared.text("print(a, b, c)") == "1 [2] 3\n"
    shared.ok("%capsule restore base")
    assert shared.text("print(a, b, c)") == "1 [1] 3\n"
    shared.ok("%capsule restore base --clear")
    assert shared.text("print(a, b, 'c' in globals())") == "1 [1] False\n"
    # What was restored in part is saved like any other change.
    shared.ok("a, b = 3, [3]")
    shared.ok("%capsule restore base b")
    shared.ok(UNSAVEABLE)
    shared.ok("%capsule checkpoint mixed")
    shared.died()
    assert shared.text("print(a, b)") == "3 [1]\n"


def test_cells_are_undone(home: Path) -> None:
    with kernel(home, checkpoints="sync") as one:
        for number in range(1, 6):
            one.ok(f"x = {number}\ny{number} = 0")
        one.ok("%capsule checkpoints")
        one.ok("%capsule undo")
        assert one.text("print(x, 'y5' in globals())") == "4 False\n"
        one.ok("x = 'other'")
        # The cells that were undone do not count, nor do those that only asked.
        one.ok("%capsule status")
        one.ok("%capsule undo 3")
        assert one.text("print(x, 'y4' in globals())") == "3 False\n"
        refused = one.refused("%capsule undo 50")
        assert re.search(r"the checkpoints go back \d cells, not 50", refused)
        assert "1 or more" in one.refused("%capsule undo 0")
        assert one.text("print(x)") == "3\n"


def test_deleted_checkpoints_are_gone_but_those_that_are_needed_stay(home: Path) -> None:
    with kernel(home, checkpoints="sync") as one:
        one.ok("x = 1")
        head = one_id(one.shown("%capsule status"))
        refused = one.refused(f"%capsule delete {head}")
        assert "nothing was deleted" in refused
        assert head in refused
        one.ok("%capsule checkpoint old")
        one.ok("x = 2")
        newest = one_id(one.shown("%capsule status"))
        assert "nothing was deleted" in one.refused(f"%capsule delete old {newest}")
        assert "old" in one.shown("%capsule checkpoints")
        assert "old" in one.shown("%capsule delete old")
        assert "no checkpoint 'old'" in one.refused("%capsule restore old")
        one.ok(UNSAVEABLE)
        one.died()
        assert one.text("print(x)") == "2\n"


WRONG = {
    "restore": "arguments are required: checkpoint",
    "restore nothing": "there is no checkpoint 'nothing'",
    "restore bse": "the closest: base",
    "restore base z": "checkpoint base has no variable z; it has ",
    "restore 1a1": "there is no checkpoint",
    "restore 99": "there is no checkpoint '99'",
    "diff base nothing": "there is no checkpoint 'nothing'",
    "delete base nothing": "there is no checkpoint 'nothing'",
    "delete": "arguments are required: checkpoints",
    "undo many": "invalid int value: 'many'",
    "undo -- -1": "1 or more",
    "checkpoint": "arguments are required: name",
    "checkpoint ''": "pass a name",
    "checkpoint 'a": "No closing quotation",
    "resume nothing": "there is no session 'nothing'",
    "nonsense": "invalid choice: 'nonsense'",
    "status more": "unrecognized arguments: more",
}


def test_a_wrong_word_is_refused_with_a_reason_and_nothing_is_lost(shared: Kernel) -> None:
    shared.ok("x = 1")
    shared.ok("%capsule checkpoint base")
    for words, reason in WRONG.items():
        refused = shared.refused(f"%capsule {words}")
        assert reason in refused, words
        assert refused.startswith("%capsule"), words
    assert shared.text("print(x)") == "1\n"
    assert "base" in shared.shown("%capsule checkpoints base")


def test_a_beginning_that_many_ids_have_is_refused(shared: Kernel) -> None:
    shared.ok("x = 2")
    shared.ok("x = 3")
    id_ = one_id(shared.shown("%capsule status"))
    assert "is ambiguous: it begins the ids of" in shared.refused(f"%capsule restore {id_[:4]}")
    assert shared.text("print(x)") == "3\n"


def test_words_are_listed_and_tables_have_text_and_html(shared: Kernel) -> None:
    assert "%capsule undo [N]" in shared.text("%capsule")
    shared.ok("x = '<b>'")
    shared.ok("%capsule checkpoint '<b>'")
    for words in ("status", "checkpoints", "checkpoint two", "diff '<b>' two", "restore '<b>' x", "delete '<b>'"):
        (content,) = shared.ok(f"%capsule {words}").of("display_data")
        assert {"text/plain", "text/html"} <= content["data"].keys()
        html = content["data"]["text/html"]
        assert html.startswith(("<table>", "<p>"))
        assert "<b>" not in html


def test_a_checkpoint_that_takes_long_shows_how_far_it_is(shared: Kernel) -> None:
    shared.ok("import time\nclass Slow:\n    def __reduce__(self): time.sleep(2.5); return (int, ())")
    done = shared.ok("slow = Slow()\n%capsule checkpoint named")
    note, table = done.of("display_data")
    assert note["data"]["text/plain"].startswith("saving: ")
    assert '"named"' in table["data"]["text/plain"]
    assert done.of("update_display_data")[-1]["data"]["text/plain"] == "saved"
    assert shared.text("%capsule restore named slow\nprint(slow)") == "0\n"


# -- damage --------------------------------------------------------------------------------------------------


def test_a_damaged_pack_costs_the_variable_that_lies_there_and_no_other(shared: Kernel) -> None:
    shared.ok("import os\nlost = os.urandom(300_000)")
    beginning = bytes.fromhex(shared.text("print(lost[1000:1040].hex())"))
    shared.ok("kept = os.urandom(300_000)\nnumbers = [1, 2]\nimport hashlib\nbefore = hashlib.sha256(kept).digest()")
    shared.ok("%capsule checkpoint both")
    (pack,) = [path for path in shared.home.rglob("*.pack") if beginning in path.read_bytes()]
    data = bytearray(pack.read_bytes())
    data[data.index(beginning)] ^= 0xFF
    pack.write_bytes(data)
    shared.ok("del lost, kept, numbers")
    restored = shared.ok("%capsule restore both")
    assert re.search(r"not restored: lost: pack .* is damaged at byte ", restored.text("stderr"))
    assert shared.text("print(hashlib.sha256(kept).digest() == before, numbers)") == "True [1, 2]\n"
    done = shared.run("len(lost)")
    assert done.reply["ename"] == "NotRestoredError"
    assert "damaged" in done.reply["evalue"]


def test_no_checkpoint_is_made_in_the_middle_of_a_cell_that_awaits(home: Path) -> None:
    slow = "import time\nclass Slow:\n    def __reduce__(self):\n        time.sleep(0.7)\n        return Slow, ()\n"
    with kernel(home) as one:
        one.ok(UNSAVEABLE)
        pid = int(one.text("import os\nprint(os.getpid())"))
        one.ok("%capsule checkpoint before")  # nothing is being written
        one.ok(slow + "slow = Slow()")
        # It begins while the checkpoint is being written, and awaits when that is done.
        request = one.begin("import asyncio\nhalf = 1\nprint('there')\nawait asyncio.sleep(100)\nwhole = 2")
        wait_for_cell(one.front, 4, home)
        pass_time(1)  # another one would be made now
        one.kill_worker(pid)
        (died,) = one.talk.finish(request)
        assert "restored to their state after In [4]" in died.reply["evalue"]
        assert one.text("print('half' in globals(), type(slow).__name__)") == "False Slow\n"


def test_a_full_disk_is_reported_once_and_cells_continue(small_disk: Path) -> None:
    with kernel(small_disk / "home") as one:
        one.ok("x = 1")
        one.ok("%capsule checkpoint small")
        one.ok("import os\nlarge = os.urandom(6_000_000)")
        assert "No space left on device" in one.wait_for_warning("Saving failed")
        for number in range(5):
            assert one.text(f"y = {number}\nprint(y)") == f"{number}\n"
            refused = one.refused(f"%capsule checkpoint more{number}")
            assert refused.startswith(f'Could not save checkpoint "more{number}": ')
            assert refused.endswith(": No space left on device.")
            assert refused.count("Could not save") == 1
        assert len(one.warnings()) == 1
        one.ok("del large")
        one.ok("%capsule checkpoint again")
        one.wait_for_warning("Saving works again.")
        assert len(one.warnings()) == 2
        one.ok(UNSAVEABLE)
        one.died()
        assert one.text("print(x, y)") == "1 4\n"
