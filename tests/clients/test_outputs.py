"""Output of every origin, and which cell it belongs to."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.support.conversation import Conversation

ORIGINS = {
    "a file descriptor": "import os\nos.write(1, b'from below\\n')",
    "a child process": "import subprocess\nsubprocess.run(['echo', 'from below'])",
    "os.system": "import os\nos.system('echo from below')",
    "C code": "import ctypes\nlibc = ctypes.CDLL(None)\nlibc.printf(b'from below\\n')\nlibc.fflush(None)",
    "a shell magic": "!echo from below",
    "a cell magic": "%%bash\necho from below",
    "the original stdout": "import sys\nprint('from below', file=sys.__stdout__, flush=True)",
}


@pytest.mark.parametrize("origin", ORIGINS)
def test_output_of_c_code_arrives_as_output_of_its_cell(kernel: Conversation, origin: str) -> None:
    request = kernel.client.execute(ORIGINS[origin])
    kernel.listen_until(lambda: "from below" in kernel.exchange(request).text(), "the text")
    kernel.finish(request)


@pytest.mark.capsule_only
@pytest.mark.parametrize("origin", ORIGINS)
def test_output_of_c_code_arrives_before_the_cell_is_idle(kernel: Conversation, origin: str) -> None:
    exchange = kernel.run(ORIGINS[origin])
    assert "from below" in exchange.text()
    assert exchange.published[-1].kind == "status"


@pytest.mark.capsule_only
def test_stderr_of_c_code_keeps_its_name(kernel: Conversation) -> None:
    exchange = kernel.run("import os\nos.write(1, b'out')\nos.write(2, b'err')\nos.system('echo also err >&2')")
    assert exchange.text() == "out"
    assert exchange.text("stderr") == "erralso err\n"


@pytest.mark.capsule_only
def test_a_flood_from_a_child_process_arrives_whole_and_in_order(kernel: Conversation) -> None:
    exchange = kernel.run("import subprocess\nsubprocess.run(['seq', '200000'])")
    assert exchange.text() == "".join(f"{i}\n" for i in range(1, 200_001))


def test_text_of_several_bytes_a_character_arrives_undamaged(kernel: Conversation) -> None:
    exchange = kernel.run("print('\N{SNOWMAN}\N{GRINNING FACE}e\N{COMBINING ACUTE ACCENT}' * 30_000)")
    assert exchange.text() == "\N{SNOWMAN}\N{GRINNING FACE}e\N{COMBINING ACUTE ACCENT}" * 30_000 + "\n"


@pytest.mark.capsule_only
def test_bytes_that_are_not_text_are_shown_and_do_not_stop_the_output(kernel: Conversation) -> None:
    exchange = kernel.run("import os\nos.write(1, b'a\\xff\\xfeb\\n')\nprint('after')")
    assert exchange.text().startswith("a")
    assert exchange.text().endswith("b\nafter\n")


def test_the_first_line_of_a_slow_cell_shows_while_the_cell_runs(kernel: Conversation) -> None:
    request = kernel.start("print('started')\ninput('continue? ')", allow_stdin=True)
    kernel.asked(request)
    assert not kernel.exchange(request).replies
    kernel.answer("")
    kernel.finish(request)


def test_progress_lines_keep_their_carriage_returns(kernel: Conversation) -> None:
    exchange = kernel.run("for i in range(5): print(f'\\r{i}/5', end='', flush=True)\nprint('\\rdone')")
    assert exchange.text().split("\r")[-1] == "done\n"
    assert exchange.text().startswith("\r0/5")


def test_streams_flushed_in_turn_keep_their_order(kernel: Conversation) -> None:
    exchange = kernel.run(
        "import sys\nfor i in range(3):\n    print('out', i, flush=True)\n"
        "    print('err', i, file=sys.stderr, flush=True)"
    )
    turns = itertools.groupby(exchange.of("stream"), key=lambda content: content["name"])
    written = [(name, "".join(content["text"] for content in turn)) for name, turn in turns]
    assert written == [pair for i in range(3) for pair in (("stdout", f"out {i}\n"), ("stderr", f"err {i}\n"))]


@pytest.mark.capsule_only
def test_output_of_a_thread_belongs_to_the_cell_that_started_it(kernel: Conversation) -> None:
    starting = kernel.run(
        "import threading\ngate = threading.Event()\n"
        "def late():\n    gate.wait()\n    print('from the thread', flush=True)\n"
        "thread = threading.Thread(target=late)\nthread.start()"
    )
    later = kernel.run("print('from the later cell')\ngate.set()\nthread.join()")
    kernel.listen_until(lambda: kernel.exchange(starting.request).text() == "from the thread\n", "the thread's output")
    assert later.text() == "from the later cell\n"


def test_output_of_a_background_task_belongs_to_the_cell_that_started_it(kernel: Conversation) -> None:
    starting = kernel.run(
        "import asyncio\nopened = asyncio.Event()\n"
        "async def late():\n    await opened.wait()\n    print('from the task', flush=True)\n"
        "task = asyncio.create_task(late())"
    )
    later = kernel.run("print('from the later cell')\nopened.set()\nawait task")
    kernel.listen_until(lambda: kernel.exchange(starting.request).text() == "from the task\n", "the task's output")
    assert later.text() == "from the later cell\n"


def test_a_thread_may_say_which_cell_its_output_belongs_to(kernel: Conversation) -> None:
    first = kernel.run("from IPython.display import display\nshell = get_ipython()\nfirst = shell.get_parent()")
    second = kernel.run(
        "import threading\n"
        "def work():\n"
        "    token = shell.set_thread_parent(first)\n"
        "    inside = shell.get_parent()['header']['msg_id'], shell.parent_header['header']['msg_id']\n"
        "    print('there', flush=True); display('shown there')\n"
        "    shell.reset_thread_parent(token)\n"
        "    print('here', *inside, flush=True)\n"
        "thread = threading.Thread(target=work)\nthread.start()\nthread.join()"
    )
    shown = kernel.listen_until(lambda: kernel.exchange(first.request).of("display_data"), "what the thread displays")
    assert [content["data"]["text/plain"] for content in shown] == ["'shown there'"]
    assert kernel.exchange(first.request).text() == "there\n"
    assert second.text() == f"here {first.request} {first.request}\n"
    moved = kernel.run("shell.set_parent(first)\nprint('moved', flush=True)")
    assert moved.text() == ""
    kernel.listen_until(lambda: "moved" in kernel.exchange(first.request).text(), "what was moved")
    assert kernel.run("print('not moved')").text() == "not moved\n"


def test_a_thread_continues_to_write_when_no_cell_runs(
    kernel: Conversation, tmp_path_factory: pytest.TempPathFactory
) -> None:
    gate = tmp_path_factory.mktemp("gates") / "open"
    starting = kernel.run(
        f"import pathlib, threading, time\ngate_file = pathlib.Path({str(gate)!r})\n"
        "def late():\n    while not gate_file.exists(): time.sleep(0.01)\n"
        "    print('between cells', flush=True)\n"
        "threading.Thread(target=late).start()"
    )
    gate.touch()
    kernel.listen_until(lambda: kernel.exchange(starting.request).text() == "between cells\n", "the thread's output")


def test_a_thread_displays_for_the_cell_that_started_it(kernel: Conversation) -> None:
    exchange = kernel.run(
        "import threading\nfrom IPython.display import HTML, display\n"
        "t = threading.Thread(target=display, args=(HTML('<b>hi</b>'),))\nt.start()\nt.join()"
    )
    assert [content["data"]["text/html"] for content in exchange.of("display_data")] == ["<b>hi</b>"]


def test_an_update_names_the_display_that_it_changes(kernel: Conversation) -> None:
    exchange = kernel.run("handle = display('one', display_id=True)\nhandle.update('two')")
    (shown,), (update,) = exchange.of("display_data"), exchange.of("update_display_data")
    assert shown["transient"]["display_id"] == update["transient"]["display_id"]
    assert update["data"]["text/plain"] == "'two'"


def test_code_may_send_messages_of_its_own_making(kernel: Conversation) -> None:
    exchange = kernel.run(
        "kernel = get_ipython().kernel\n"
        "def send(kind, text, **more):\n"
        "    content = {'data': {'text/plain': text}, 'metadata': {}, 'transient': {'display_id': 'an id'}, **more}\n"
        "    kernel.session.send(kernel.iopub_socket, kind, content, parent=kernel.get_parent())\n"
        "send('display_data', 'one')\nsend('execute_result', 'two', execution_count=7)\n"
        "send('update_display_data', 'three')"
    )
    kinds = ["display_data", "execute_result", "update_display_data"]
    assert [kind for kind in exchange.kinds if kind in kinds] == kinds
    contents = [content for kind in kinds for content in exchange.of(kind)]
    assert [content["data"]["text/plain"] for content in contents] == ["one", "two", "three"]
    assert {content["transient"]["display_id"] for content in contents} == {"an id"}
    assert contents[1]["execution_count"] == 7


def test_clearing_says_whether_to_wait_for_the_next_output(kernel: Conversation) -> None:
    exchange = kernel.run(
        "from IPython.display import clear_output\nprint('a')\nclear_output(wait=True)\nprint('b')\nclear_output()"
    )
    assert exchange.kinds == ["execute_input", "stream", "clear_output", "stream", "clear_output"]
    assert [content["wait"] for content in exchange.of("clear_output")] == [True, False]


#: Registers a hook of one part of the shell's, which changes, keeps or lets pass what it sees.
HOOKS = """
seen = []
def change(message):
    seen.append(message['header']['msg_type'])
    for key in ('text', 'text/plain'):
        for part in (message['content'], message['content'].get('data', {})):
            if key in part:
                part[key] = part[key].upper()
    return message
def keep(message): seen.append('kept')
import sys
ip = get_ipython()
parts = {'display_pub': ip.display_pub, 'displayhook': ip.displayhook, 'stdout': sys.stdout}
"""


def test_hooks_see_outputs_before_they_are_sent_and_may_change_or_drop_them(kernel: Conversation) -> None:
    kernel.run(HOOKS)
    for part, code, kind in (
        ("display_pub", "display({'text/plain': 'a'}, raw=True)", "display_data"),
        ("display_pub", "display({'text/plain': 'a'}, raw=True, display_id='d', update=True);", "update_display_data"),
        ("display_pub", "ip.display_pub.clear_output()", "clear_output"),
        ("displayhook", "a", "execute_result"),
    ):
        kernel.run("class A:\n    def __repr__(self): return 'a'\na = A(); seen.clear()")
        kernel.run(f"parts[{part!r}].register_hook(change)")
        exchange = kernel.run(code)
        assert exchange.kinds[1:] == [kind]
        assert all(content.get("data", {"text/plain": "A"})["text/plain"] == "A" for content in exchange.of(kind))
        kernel.run(f"parts[{part!r}].register_hook(keep);")
        assert kernel.run(code).kinds[1:] == []
        assert kernel.run(
            f"print(seen, [parts[{part!r}].unregister_hook(f) for f in (keep, change, keep)])"
        ).text() == (f"{[kind, kind, 'kept']} [True, True, False]\n")
        assert kernel.run(code).kinds[1:] == [kind]


@pytest.mark.capsule_only  # in ipykernel text is sent by a thread of its own, which has no hooks
def test_hooks_see_what_their_thread_writes(kernel: Conversation) -> None:
    kernel.run(HOOKS)
    kernel.run("sys.stdout.register_hook(change)")
    exchange = kernel.run(
        "import threading\nprint('loud'); print('error', file=sys.stderr)\n"
        "other = threading.Thread(target=print, args=('quiet',)); other.start(); other.join()"
    )
    assert (exchange.text(), exchange.text("stderr")) == ("LOUD\nquiet\n", "error\n")
    kernel.run("def talk(message):\n    print('hooked')\n    return message\nsys.stdout.register_hook(talk)")
    assert kernel.run("sys.stdout.write('one\\n');").text() == "hooked\nONE\n"
    kernel.run("sys.stdout.unregister_hook(talk), sys.stdout.unregister_hook(change)")
    assert kernel.run("print('as ever', type(sys.stdout.write).__name__)").text() == "as ever partial\n"


def test_a_display_must_be_a_bundle(kernel: Conversation) -> None:
    assert kernel.run("get_ipython().display_pub.publish('notadict')").reply["ename"] == "TypeError"


def test_publishers_show_outputs_below_a_request(kernel: Conversation) -> None:
    kernel.run("import sys\nip = get_ipython()\nfirst = ip.get_parent()")
    first = kernel.heard[-1].parent
    assert (
        kernel.run(
            "ip.display_pub.topic, ip.display_pub.parent_header['msg_id'] == sys.stdout.parent_header['msg_id']"
        ).result
        == "(b'display_data', True)"
    )
    exchange = kernel.run(
        "import threading\ndef show():\n    ip.display_pub.set_thread_parent(first)\n"
        "    sys.stdout.set_thread_parent(first)\n    display(1)\n    print('two')\n"
        "other = threading.Thread(target=show); other.start(); other.join()"
    )
    kernel.listen_until(lambda: kernel.exchange(first).text() == "two\n", "the first cell has it")
    assert (len(kernel.exchange(first).of("display_data")), exchange.kinds[1:]) == (1, [])
