"""Objects of the notebook and their counterparts at the client talk to each other: comms, and widgets by them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.comms import ECHO, comms_of, model_of, ours, over, say
from tests.support.kernels import KILL
from tests.support.saved_state import run_and_wait_for_standby, saved_value, wait_for_other_value
from tests.support.waiting import poll_until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.conversation import Conversation
    from tests.support.kernels import Opened

#: Has a target that answers what it is told, with the same buffers.


def test_a_message_of_the_client_is_answered_with_its_buffers(kernel: Conversation) -> None:
    kernel.run(ECHO)
    over(kernel, say(kernel, "comm_open", comm_id="c1", target_name="echo", data={"x": 1}))
    done = over(kernel, say(kernel, "comm_msg", [b"abc", b"\x00" * 1000], comm_id="c1", data={"n": 2}))
    (answer,) = comms_of(done)
    assert answer.content == {"comm_id": "c1", "data": {"echo": {"n": 2}}}
    assert answer.message["metadata"] == {"a": 1}
    assert [bytes(each) for each in answer.message["buffers"]] == [b"abc", b"\x00" * 1000]
    assert done.kinds == ["stream", "comm_msg"]
    assert done.states == ["busy", "idle"]
    assert done.text() == "heard {'n': 2}\n"
    over(kernel, say(kernel, "comm_close", comm_id="c1", data={}))
    assert kernel.run("told").result == "[{'x': 1}, 'closed']"


def test_a_comm_of_an_unknown_target_is_closed(kernel: Conversation) -> None:
    done = over(kernel, say(kernel, "comm_open", comm_id="c2", target_name="no such", data={}))
    (closed,) = comms_of(done, "comm_close")
    assert closed.content["comm_id"] == "c2"
    assert kernel.run("6 * 7").result == "42"


def test_a_comm_that_a_cell_opens_is_reported_and_listed(kernel: Conversation) -> None:
    done = kernel.run(
        "from comm import create_comm\nprint('before')\n"
        "ours = create_comm(target_name='ours', data={'a': [1, None]}, metadata={'version': '2'}, buffers=[b'xyz'])"
    )
    assert done.kinds == ["execute_input", "stream", "comm_open"]
    (opened,) = comms_of(done, "comm_open")
    assert opened.content["target_name"] == "ours"
    assert opened.content["data"] == {"a": [1, None]}
    assert opened.message["metadata"] == {"version": "2"}
    assert [bytes(each) for each in opened.message["buffers"]] == [b"xyz"]
    comm_id = opened.content["comm_id"]
    (listed,) = kernel.finish(kernel.client.comm_info(target_name="ours"))
    assert listed.reply["comms"] == {comm_id: {"target_name": "ours"}}
    (others,) = kernel.finish(kernel.client.comm_info(target_name="others"))
    assert others.reply["comms"] == {}
    assert comms_of(kernel.run("ours.close()"), "comm_close")
    (listed,) = kernel.finish(kernel.client.comm_info(target_name="ours"))
    assert listed.reply["comms"] == {}


def test_a_cell_that_awaits_gets_messages_of_the_client(kernel: Conversation) -> None:
    comm = ours(kernel, "lambda message: here.set()")
    request = kernel.start("import asyncio\nhere = asyncio.Event()\nprint('started')\nawait here.wait()\n'heard'")
    say(kernel, "comm_msg", comm_id=comm, data={})
    (done,) = kernel.finish(request)
    assert done.result == "'heard'"


def test_a_cell_that_runs_is_not_disturbed(kernel: Conversation) -> None:
    comm = ours(kernel, "lambda message: print('heard', message['content']['data'])")
    request = kernel.start("print('started')\nimport time; time.sleep(0.5)\nprint('over')")
    message = say(kernel, "comm_msg", comm_id=comm, data={"n": 1})
    (done,) = kernel.finish(request)
    assert "heard" not in done.text()
    assert over(kernel, message).text() == "heard {'n': 1}\n"


def test_an_error_in_a_callback_is_shown_with_its_message(kernel: Conversation) -> None:
    comm = ours(kernel, "lambda message: 1 / 0")
    done = over(kernel, say(kernel, "comm_msg", comm_id=comm, data={}))
    assert "ZeroDivisionError" in done.text("stderr") + str(done.of("error"))
    assert kernel.run("6 * 7").result == "42"


def test_a_callback_is_interrupted(kernel: Conversation) -> None:
    kernel.run("import time\ndef slow(message):\n    print('begun', flush=True); time.sleep(60)")
    request = say(kernel, "comm_msg", comm_id=ours(kernel, "slow"), data={})
    kernel.listen_until(lambda: kernel.exchange(request).text(), "begun")
    kernel.send_control("interrupt_request")
    over(kernel, request)
    assert kernel.run("6 * 7").result == "42"


# -- widgets --------------------------------------------------------------------------------------------------------


def test_a_slider_that_is_moved_calls_its_observers(kernel: Conversation) -> None:
    done = kernel.run(
        "import ipywidgets as widgets\nslider = widgets.IntSlider(3)\n"
        "slider.observe(lambda change: print('now', change['new']), 'value')\nslider"
    )
    model = model_of(done)
    assert model in {one.content["comm_id"] for one in comms_of(done, "comm_open")}
    moved = over(
        kernel,
        say(kernel, "comm_msg", comm_id=model, data={"method": "update", "state": {"value": 7}, "buffer_paths": []}),
    )
    assert moved.text() == "now 7\n"
    assert kernel.run("slider.value").result == "7"
    states = [one.content["data"] for one in comms_of(kernel.run("slider.value = 9"))]
    assert {"value": 9} in [state.get("state") for state in states]


def test_an_output_widget_captures_the_output_of_its_cell(kernel: Conversation) -> None:
    done = kernel.run("import ipywidgets as widgets\nout = widgets.Output()\nwith out: print('inside')")
    captured = [one.content["data"].get("state", {}).get("msg_id") for one in comms_of(done)]
    assert captured == [done.request, ""]


def test_interact_runs_its_function_with_each_value(kernel: Conversation) -> None:
    done = kernel.run(
        "from ipywidgets import interact\ncalls = []\ninteract(lambda n: calls.append(n), n=(0, 10));\ncalls"
    )
    assert done.result == "[5]"
    sliders = [
        one.content["comm_id"]
        for one in comms_of(done, "comm_open")
        if one.content["data"].get("state", {}).get("_model_name") == "IntSliderModel"
    ]
    over(kernel, say(kernel, "comm_msg", comm_id=sliders[0], data={"method": "update", "state": {"value": 8}}))
    assert kernel.run("calls").result == "[5, 8]"


def test_a_progress_bar_of_tqdm_is_a_widget(kernel: Conversation) -> None:
    done = kernel.run("from tqdm.notebook import tqdm\nfor _ in tqdm(range(10), desc='steps'): pass")
    values = [one.content["data"].get("state", {}).get("value") for one in comms_of(done)]
    assert 10 in values or 10.0 in values


# -- deaths ---------------------------------------------------------------------------------------------------------


@pytest.mark.capsule_only
def test_widgets_work_in_a_standby(open_kernel: Callable[..., Opened]) -> None:
    _, kernel = open_kernel()
    done = kernel.run("import ipywidgets as widgets\nslider = widgets.IntSlider(3)\nslider")
    model = model_of(done)
    run_and_wait_for_standby(kernel, "pass")
    assert kernel.run(KILL).reply["ename"] == "WorkerDied"
    assert kernel.run("slider.value").result == "3"
    over(kernel, say(kernel, "comm_msg", comm_id=model, data={"method": "update", "state": {"value": 7}}))
    assert kernel.run("slider.value").result == "7"


@pytest.mark.capsule_only
def test_widgets_that_are_lost_say_so(kernel: Conversation) -> None:
    done = kernel.run(
        "import ipywidgets as widgets, socket\nopen_one = socket.socket()\nslider = widgets.IntSlider(3)\nslider"
    )
    model = model_of(done)
    assert kernel.run(KILL).reply["ename"] == "WorkerDied"
    after = kernel.run("1")
    closed = [one.content["comm_id"] for one in kernel.heard if one.kind == "comm_close"]
    assert model in closed
    assert "ended with the process" in after.text("stderr")
    (listed,) = kernel.finish(kernel.client.comm_info())
    assert model not in listed.reply["comms"]
    # What the client still says to it is taken for what it is.
    over(kernel, say(kernel, "comm_msg", comm_id=model, data={"method": "update", "state": {"value": 7}}))
    assert kernel.run("6 * 7").result == "42"


@pytest.mark.capsule_only
def test_changes_by_a_callback_survive_a_crash(shared_kernel: Opened) -> None:
    manager, kernel = shared_kernel
    front = manager.provisioner.process.pid
    kernel.run(ECHO + "import socket\nopen_one = socket.socket()\nchanged = []")
    over(kernel, say(kernel, "comm_open", comm_id="c7", target_name="echo", data={}))
    kernel.run("get_comm_manager().get_comm('c7').on_msg(lambda message: changed.append(message['content']['data']))")
    kernel.run("%capsule checkpoint before")
    before = saved_value(front, "changed")
    over(kernel, say(kernel, "comm_msg", comm_id="c7", data={"n": 1}))
    wait_for_other_value(front, "changed", before)
    assert kernel.run(KILL).reply["ename"] == "WorkerDied"
    assert kernel.run("changed").result == "[{'n': 1}]"


@pytest.mark.capsule_only
def test_a_callback_finds_variables_that_are_loaded_later(open_kernel: Callable[..., Opened], tmp_path: Path) -> None:
    """After a death they are loaded when a cell names them, or when there is time for it."""
    (tmp_path / "late.py").write_text(
        "import __main__\ndef opened(comm, message): print(len(__main__.large))\n"
        "def register():\n    from comm import get_comm_manager\n"
        "    get_comm_manager().register_target('late', opened)\n"
    )
    _, kernel = open_kernel()
    kernel.run("import os, socket\nopen_one = socket.socket()\nlarge = os.urandom(3_000_000)")
    kernel.run("%capsule checkpoint now")
    kernel.run(KILL)
    kernel.client.execute(f"import sys\nsys.path.insert(0, {str(tmp_path)!r})\nimport late\nlate.register()")
    # As long as it comes before the cell there is no such target.
    opened = poll_until(
        lambda: over(kernel, say(kernel, "comm_open", comm_id="c8", target_name="late", data={})).text(),
        "the target is registered",
    )
    assert opened == "3000000\n"
