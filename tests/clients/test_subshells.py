"""Subshells (JEP 91): shells whose cells run alongside those of the main shell, with the same variables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.support.comms import ECHO
from tests.support.kernels import KILL
from tests.support.saved_state import saved_value, wait_for_other_value

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.conversation import Conversation
    from tests.support.kernels import Opened

#: Runs until another shell lets it end.
WAITS = "import time\nover = False\nprint('started', flush=True)\nwhile not over: time.sleep(0.01)\n'at last'"


def control(kernel: Conversation, kind: str, **content: Any) -> dict[str, Any]:
    """Ask something on the control channel."""
    (exchange,) = kernel.finish(kernel.send_control(kind, content))
    return exchange.reply


def create(kernel: Conversation) -> str:
    """Return the id of a new subshell."""
    reply = control(kernel, "create_subshell_request")
    assert reply["status"] == "ok"
    return str(reply["subshell_id"])


def send(kernel: Conversation, subshell: str, kind: str, buffers: list[bytes] | None = None, **content: Any) -> str:
    """Send a request to a subshell, and return its id."""
    message = kernel.client.session.msg(kind, content)
    message["header"]["subshell_id"] = subshell
    kernel.client.session.send(kernel.client.shell_channel.socket, message, buffers=buffers or [])
    return str(message["header"]["msg_id"])


def execute(kernel: Conversation, subshell: str, code: str, **options: Any) -> str:
    """Have a subshell run a cell."""
    return send(kernel, subshell, "execute_request", code=code, **options)


def test_subshells_are_created_listed_and_deleted(kernel: Conversation) -> None:
    info = kernel.client.kernel_info(reply=True)
    assert "kernel subshells" in info["content"]["supported_features"]
    first, second = create(kernel), create(kernel)
    assert control(kernel, "list_subshell_request")["subshell_id"] == [first, second]
    assert control(kernel, "delete_subshell_request", subshell_id=first)["status"] == "ok"
    assert control(kernel, "delete_subshell_request", subshell_id=first)["status"] == "error"
    assert control(kernel, "list_subshell_request")["subshell_id"] == [second]
    (refused,) = kernel.finish(execute(kernel, first, "1"))
    assert refused.reply["status"] == "error"
    assert refused.reply["ename"] == "UnknownSubshellError"
    assert f"subshell list: {[second]!r}" in kernel.run("%subshell").text()
    (inside,) = kernel.finish(execute(kernel, second, "%subshell"))
    assert inside.text().startswith(f"subshell id: {second}\n")
    control(kernel, "delete_subshell_request", subshell_id=second)


@pytest.mark.capsule_only
def test_an_unknown_subshell_is_refused(kernel: Conversation) -> None:
    nonsense: Any
    for nonsense in ([1], {"a": 1}, 5, ""):
        (refused,) = kernel.finish(execute(kernel, nonsense, "1"))
        assert refused.reply["ename"] == "UnknownSubshellError"
        assert control(kernel, "delete_subshell_request", subshell_id=nonsense)["status"] == "error"
    assert kernel.run("6 * 7").result == "42"


def test_a_subshell_answers_while_the_main_shell_runs_a_cell(kernel: Conversation) -> None:
    subshell, other = create(kernel), create(kernel)
    running = kernel.start(WAITS)
    seen, failed, awaited = kernel.finish(
        execute(kernel, subshell, "print('alongside')\nmade = 6 * 7\nmade"),
        execute(kernel, other, "1 / 0"),
        execute(kernel, other, "import asyncio\nawait asyncio.sleep(0.01)\nprint('awaited')\nover"),
    )
    assert (seen.text(), seen.result) == ("alongside\n", "42")
    assert failed.reply["ename"] == "ZeroDivisionError"
    assert [error["ename"] for error in failed.of("error")] == ["ZeroDivisionError"]
    # What was queued behind a cell that failed is aborted, there and nowhere else.
    assert awaited.reply["status"] == "aborted"
    (awaited,) = kernel.finish(
        execute(kernel, other, "import asyncio\nawait asyncio.sleep(0.01)\nprint('awaited')\nover")
    )
    assert (awaited.text(), awaited.result) == ("awaited\n", "False")
    assert not kernel.exchange(running).replies
    kernel.finish(execute(kernel, subshell, "over = True"))
    (done,) = kernel.finish(running)
    assert done.result == "'at last'"
    assert done.text() == "started\n"
    assert kernel.run("made").result == "42"
    assert kernel.finish(execute(kernel, subshell, "made;"))[0].kinds == ["execute_input"]
    for each in (subshell, other):
        control(kernel, "delete_subshell_request", subshell_id=each)


@pytest.mark.capsule_only  # in ipykernel two cells have one number
def test_each_cell_has_a_number_of_its_own(kernel: Conversation) -> None:
    subshell = create(kernel)
    running = kernel.start(WAITS)
    (beside,) = kernel.finish(execute(kernel, subshell, "over = True\n%subshell\n'x'"))
    assert f"subshell id: {subshell}\n" in beside.text()
    (main,) = kernel.finish(running)
    after = kernel.run("1")
    numbers = [each.reply["execution_count"] for each in (main, beside, after)]
    assert numbers == sorted(set(numbers))
    assert beside.of("execute_result")[0]["execution_count"] == numbers[1]
    control(kernel, "delete_subshell_request", subshell_id=subshell)


def test_two_shells_ask_at_the_same_time(kernel: Conversation) -> None:
    subshell = create(kernel)
    main = str(kernel.client.execute("got = input('main? ')\ngot", allow_stdin=True))
    assert kernel.asked(main)["prompt"] == "main? "
    other = execute(kernel, subshell, "input('subshell? ')", allow_stdin=True)
    assert kernel.asked(other)["prompt"] == "subshell? "
    kernel.answer("first", main)
    kernel.answer("second", other)
    first, second = kernel.finish(main, other)
    assert {first.result, second.result} == {"'first'", "'second'"}
    control(kernel, "delete_subshell_request", subshell_id=subshell)


def test_comm_messages_arrive_while_a_cell_runs(kernel: Conversation) -> None:
    subshell = create(kernel)
    kernel.run(ECHO)
    running = kernel.start(WAITS)
    send(kernel, subshell, "comm_open", comm_id="s1", target_name="echo", data={"x": 1})
    said = send(kernel, subshell, "comm_msg", buffers=[b"\x00\xff"], comm_id="s1", data={"y": 2})
    kernel.listen_until(lambda: "idle" in kernel.exchange(said).states, "taken")
    heard = kernel.exchange(said)
    assert heard.text() == "heard {'y': 2}\n"
    (echo,) = [one for one in heard.published if one.kind == "comm_msg"]
    assert echo.content["data"] == {"echo": {"y": 2}}
    assert [bytes(each) for each in echo.message["buffers"]] == [b"\x00\xff"]
    assert not kernel.exchange(running).replies
    kernel.finish(execute(kernel, subshell, "over = True"))
    kernel.finish(running)
    control(kernel, "delete_subshell_request", subshell_id=subshell)


def test_an_answer_goes_to_the_shell_that_asked(kernel: Conversation) -> None:
    """Whichever subshell the client sends it to: the one that asked may wait for it."""
    subshell = create(kernel)
    kernel.run("import asyncio, comm, threading\nasking = comm.create_comm(target_name='asks')")
    running = kernel.client.execute(
        "answer = asyncio.get_running_loop().create_future()\n"
        "asking.on_msg(lambda message: answer.set_result((message['content']['data'], threading.current_thread())))\n"
        "asking.send({'method': 'custom', 'content': {'id': 'q1'}})\n"
        "said, by = await asyncio.wait_for(answer, 20)\nsaid['content']['value'], by is threading.main_thread()"
    )
    (asked,) = kernel.listen_until(lambda: kernel.exchange(running).of("comm_msg"), "the question")
    data = {"method": "custom", "content": {"id": "q1", "value": 42}}
    send(kernel, subshell, "comm_msg", comm_id=asked["comm_id"], data=data)
    assert kernel.finish(running)[0].result == "(42, True)"
    control(kernel, "delete_subshell_request", subshell_id=subshell)


@pytest.mark.capsule_only
def test_subshells_and_their_changes_survive_a_crash(open_kernel: Callable[..., Opened]) -> None:
    manager, kernel = open_kernel()
    front = manager.provisioner.process.pid
    subshell = create(kernel)
    kernel.run("things = [1]")
    kernel.run("%capsule checkpoint now")
    before = saved_value(front, "things")
    running = kernel.start(WAITS)
    kernel.finish(execute(kernel, subshell, "things.append(2); over = True"))
    kernel.finish(running)
    # It is saved when there is time for it, and no message says so.
    wait_for_other_value(front, "things", before)
    dying = execute(kernel, subshell, KILL)
    assert kernel.finish(dying)[0].reply["ename"] == "WorkerDied"
    (after,) = kernel.finish(execute(kernel, subshell, "things"))
    assert after.result == "[1, 2]"
