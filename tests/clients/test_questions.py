"""Questions that people ask of the shell: what could stand here, what is this, what did I do earlier."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.kernels import KERNEL
from tests.support.waiting import poll_until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.conversation import Conversation
    from tests.support.kernels import Opened

COLOUR = re.compile(r"\x1b\[[0-9;]*m")
PREPARATION = """
import os
class Probe:
    "What a probe is."
    colour = 1
    def measure(self, depth, unit="m"):
        "Measure it."
        return depth
probe, probes = Probe(), [Probe()]
table = {"key one": 1, "inner": {"deep": 2}}
os.makedirs("a_folder", exist_ok=True)
open("a_file.txt", "w").close()
"""


def complete(kernel: Conversation, code: str, cursor: int | None = None) -> dict[str, Any]:
    (exchange,) = kernel.finish(kernel.client.complete(code, len(code) if cursor is None else cursor))
    assert exchange.reply["status"] == "ok"
    return exchange.reply


def inspect(kernel: Conversation, code: str, detail: int = 0) -> dict[str, str]:
    """Return what is said of the name at the end of the code, by mime type and without colours."""
    (exchange,) = kernel.finish(kernel.client.inspect(code, len(code), detail))
    assert exchange.reply["status"] == "ok"
    return {kind: COLOUR.sub("", text) for kind, text in exchange.reply["data"].items()}


def history(kernel: Conversation, **wanted: Any) -> list[Any]:
    (exchange,) = kernel.finish(kernel.client.history(**wanted))
    assert exchange.reply["status"] == "ok"
    return list(exchange.reply["history"])


@pytest.fixture
def prepared(kernel: Conversation, tmp_path: Path) -> Conversation:
    kernel.run(f"%cd -q {tmp_path}")
    kernel.run(PREPARATION)
    return kernel


def test_completion_knows_attributes_keys_files_modules_and_magics(prepared: Conversation) -> None:
    for code, match in {
        "probe.": "measure",
        "probes[0].me": "measure",
        "table['": "key one",
        "table['inner']['": "deep",
        "import jso": "json",
        "from json import du": "dumps",
        "open('a_fi": "a_file.txt",
        "%cd a_fo": "a_folder/",
        "%tim": "%timeit",
        "%%tim": "%%timeit",
        "%config IPCompleter.use_j": "use_jedi",
        "lambda: probe.col": "colour",
        "\\alph": "\\alpha",
    }.items():
        reply = complete(prepared, code)
        assert [each for each in reply["matches"] if match in each], (code, reply["matches"][:20])
    assert complete(prepared, "nothing_of_this_name.")["matches"] == []


def test_completion_tells_types_signatures_and_positions_in_code_points(prepared: Conversation) -> None:
    # A machine may be busy.
    prepared.run("%config IPCompleter.jedi_compute_type_timeout = 4000")
    reply = complete(prepared, "probe.")
    prepared.run("%config IPCompleter.jedi_compute_type_timeout = 400")
    (found,) = [each for each in reply["metadata"]["_jupyter_types_experimental"] if each["text"] == "measure"]
    assert (found["type"], found["signature"]) == ("function", "(depth, unit='m')")
    for code, cursor, start, end in (
        ("'😀😀'; probe.col", 15, 12, 15),
        ("1\nprobe.col\n2", 11, 8, 11),
    ):
        reply = complete(prepared, code, cursor)
        assert (reply["cursor_start"], reply["cursor_end"]) == (start, end), code


def ask(kernel: Conversation, kind: str, **content: Any) -> dict[str, Any]:
    """Send a request as it stands, and return the reply."""
    message = kernel.client.session.msg(f"{kind}_request", content)
    kernel.client.shell_channel.send(message)
    (exchange,) = kernel.finish(message["header"]["msg_id"])
    (reply,) = [one for one in exchange.heard if one.channel == "shell"]
    assert reply.kind == f"{kind}_reply"
    return exchange.reply


def test_a_question_without_a_position_is_about_the_end_of_the_code(prepared: Conversation) -> None:
    # Beyond it ipykernel says nothing.
    for cursor in (None, 8, *((9, 1_000_000) if KERNEL == "capsule" else ())):
        reply = ask(prepared, "complete", code="probe.me", cursor_pos=cursor)
        assert (reply["status"], reply["cursor_end"]) == ("ok", 8), cursor
        assert [each for each in reply["matches"] if "measure" in each]
    for cursor in (5, 6, 1_000_000):
        reply = ask(prepared, "inspect", code="probe", cursor_pos=cursor, detail_level=0)
        assert (reply["status"], reply["found"]) == ("ok", True), cursor
    if KERNEL == "capsule":
        assert ask(prepared, "complete", code="probe.me")["cursor_end"] == 8
        assert ask(prepared, "inspect", code="probe")["found"]
        assert ask(prepared, "inspect", code="probe", cursor_pos=None)["found"]
        assert ask(prepared, "complete", code="probe.me", cursor_pos=-1)["cursor_end"] == 0


@pytest.mark.capsule_only  # ipykernel says nothing, and its client waits
def test_a_request_that_makes_no_sense_is_answered_with_an_error(prepared: Conversation) -> None:
    for kind, content in {
        "complete": {"cursor_pos": 0},
        "inspect": {"code": "probe", "cursor_pos": "at the end"},
        "is_complete": {},
        "history": {"hist_access_type": "no such way", "output": False, "raw": True},
        "execute": {},
    }.items():
        reply = ask(prepared, kind, **content)
        assert reply["status"] == "error", kind
        assert {"ename", "evalue", "traceback"} <= set(reply)
    assert prepared.run("1 + 1").result == "2"


def test_completion_obeys_its_configuration_and_the_notebooks_own_completers(prepared: Conversation) -> None:
    prepared.run("%config IPCompleter.use_jedi = False")
    assert complete(prepared, "probe.")["matches"] == [".colour", ".measure"]
    prepared.run("%config IPCompleter.use_jedi = True")
    assert complete(prepared, "probe.")["matches"] == ["colour", "measure"]
    prepared.run(
        "get_ipython().set_hook('complete_command', lambda shell, event: ['apple', 'pear'], str_key='%fruit')\n"
        "get_ipython().set_custom_completer(lambda shell, text: ['zz_of_my_own'])"
    )
    assert "apple" in complete(prepared, "%fruit ap")["matches"]
    assert "zz_of_my_own" in complete(prepared, "probe.zz_")["matches"]


def test_inspection_shows_documentation_or_source_of_objects_and_magics(prepared: Conversation) -> None:
    plain = inspect(prepared, "probe")["text/plain"]
    assert "What a probe is." in plain
    assert "return depth" not in plain
    assert "return depth" in inspect(prepared, "print(probe.measure(1", 1)["text/plain"]
    prepared.run("get_ipython().enable_html_pager = True")
    assert "text/html" in inspect(prepared, "probe")
    prepared.run("get_ipython().enable_html_pager = False")
    if KERNEL in {"capsule", "python3"}:
        # Others say it in HTML in any case.
        assert list(inspect(prepared, "probe")) == ["text/plain"]
    assert "Time execution" in inspect(prepared, "%timeit")["text/plain"]
    (page,) = prepared.run("probe.measure??").reply["payload"]
    assert "return depth" in COLOUR.sub("", page["data"]["text/plain"])


@pytest.mark.capsule_only
def test_what_a_running_cell_has_made_is_known_while_it_runs(prepared: Conversation, tmp_path: Path) -> None:
    cell = prepared.start(
        "import time, pathlib\nnew_object = Probe()\nprint('started')\n"
        f"while not pathlib.Path({str(tmp_path / 'end')!r}).exists(): time.sleep(0.01)"
    )
    assert "new_object" in complete(prepared, "new_ob")["matches"]
    assert [each for each in complete(prepared, "new_object.")["matches"] if "measure" in each]
    assert "%timeit" in complete(prepared, "%tim")["matches"]
    assert "return depth" in inspect(prepared, "new_object.measure", 1)["text/plain"]
    assert history(prepared, hist_access_type="tail", n=1)[0][2].startswith("import time, pathlib")
    assert not prepared.exchange(cell).replies
    (tmp_path / "end").touch()
    prepared.finish(cell)


def test_history_is_found_by_range_from_the_tail_and_by_pattern(open_kernel: Callable[..., Opened]) -> None:
    kernel = open_kernel()[1]
    for code in ("'é1'", "%time 2", "3", "3", "1/0"):
        kernel.run(code)
    kernel.run("'silent'", silent=True)
    kernel.run("'not stored'", store_history=False)

    def lines(**wanted: Any) -> list[Any]:
        return [(number, text) for _, number, text in history(kernel, **wanted)]

    assert lines(hist_access_type="tail", n=2) == [(4, "3"), (5, "1/0")]
    assert lines(hist_access_type="tail", n=0) == []
    assert lines(hist_access_type="range", start=1, stop=3) == [(1, "'é1'"), (2, "%time 2")]
    assert lines(hist_access_type="range", start=-2) == [(4, "3"), (5, "1/0")]
    assert lines(hist_access_type="range", start=1, stop=2, output=True) == [(1, ["'é1'", "'é1'"])]
    assert lines(hist_access_type="range", start=2, stop=3, raw=False) == [
        (2, "get_ipython().run_line_magic('time', '2')")
    ]
    # Searching looks at the file, which is written a moment later.
    poll_until(lambda: lines(hist_access_type="search", pattern="1/0", n=9), "the last cell is in the file")
    assert lines(hist_access_type="search", pattern="3", n=9) == [(3, "3"), (4, "3")]
    assert lines(hist_access_type="search", pattern="3", n=9, unique=True) == [(4, "3")]
    assert lines(hist_access_type="search", pattern="*é*", n=9) == [(1, "'é1'")]
    assert kernel.run("%history -n 1-2").text() == "   1: 'é1'\n   2: %time 2\n"


def test_kernels_share_a_history_and_find_what_earlier_ones_did(open_kernel: Callable[..., Opened], home: Path) -> None:
    file = home / "ipython" / "profile_default" / "history.sqlite"

    def rows(query: str) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(file)) as database:
            return database.execute(query).fetchall()

    first, second = open_kernel()[1], open_kernel()[1]
    for number in range(8):
        requests = [
            (kernel, kernel.client.execute(f"{name!r}, {number}")) for kernel, name in ((first, "a"), (second, "b"))
        ]
        for kernel, request in requests:
            kernel.finish(request)
    if KERNEL == "capsule":
        first.run("import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
        assert first.run("In[1], len(In)").result == "(\"'a', 0\", 11)"
    for kernel, name in ((first, "a"), (second, "b")):
        kernel.run(f"{name!r}, 'last'")
    poll_until(
        lambda: len(rows("SELECT * FROM history WHERE source LIKE '_a_, %' OR source LIKE '_b_, %'")) == 18,
        "all written",
    )
    assert rows("PRAGMA integrity_check") == [("ok",)]
    for name in "ab":
        found = rows(f"SELECT line FROM history WHERE source LIKE '_{name}_, %' ORDER BY session, line")
        numbers = [line for (line,) in found]
        assert numbers == sorted(set(numbers)), numbers
    third = open_kernel()[1]
    (session, line, text), *_ = history(third, hist_access_type="search", pattern="'b', 'last'", n=1)
    assert history(third, hist_access_type="range", session=session, start=line, stop=line + 1) == [
        [session, line, text]
    ]
    # The session before is another kernel's, whatever worker it had waiting or lost.
    assert third.run("%history ~1/1-2").text() == "'b', 0\n'b', 1\n"
