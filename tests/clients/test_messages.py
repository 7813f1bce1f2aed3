"""Requests and what answers them, held against the Jupyter messaging specification.

https://jupyter-client.readthedocs.io/en/stable/messaging.html
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import zmq
from jupyter_client.session import DELIM

from tests.support.waiting import DEADLINE, poll_until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from jupyter_client.blocking.client import BlockingKernelClient

    from tests.support.conversation import Conversation

REQUESTS: dict[str, Callable[[BlockingKernelClient], str]] = {
    "kernel_info": lambda client: client.kernel_info(),
    "execute": lambda client: client.execute("1"),
    "a failing execute": lambda client: client.execute("1/0"),
    "a silent execute": lambda client: client.execute("1", silent=True),
    "complete": lambda client: client.complete("pri"),
    "inspect": lambda client: client.inspect("print"),
    "is_complete": lambda client: client.is_complete("1"),
    "history": lambda client: client.history(hist_access_type="tail", n=1),
    "comm_info": lambda client: client.comm_info(),
}


@pytest.mark.parametrize("request_name", REQUESTS)
def test_every_request_is_answered_once_between_busy_and_idle(kernel: Conversation, request_name: str) -> None:
    (exchange,) = kernel.finish(REQUESTS[request_name](kernel.client))
    assert len(exchange.replies) == 1
    assert exchange.states == ["busy", "idle"]
    assert [exchange.published[0].kind, exchange.published[-1].kind] == ["status", "status"]


def test_kernel_info_is_answered_on_the_control_channel_too(kernel: Conversation) -> None:
    (exchange,) = kernel.finish(kernel.send_control("kernel_info_request"))
    assert exchange.reply["status"] == "ok"
    assert exchange.reply["language_info"]["name"] == "python"
    assert exchange.states == ["busy", "idle"]


def test_cells_on_the_control_channel_run_one_after_the_other_and_are_answered_there(kernel: Conversation) -> None:
    cells = ["order = [1]", "import time; time.sleep(0.1); order.append(2)", "order.append(3); 1/0", "order"]
    options = {"stop_on_error": False, "user_expressions": {"order": "order"}}
    requests = [kernel.send_control("execute_request", {"code": code, **options}) for code in cells]
    exchanges = kernel.finish(*requests)
    answers = [one for one in kernel.heard if one.kind == "execute_reply" and one.parent in requests]
    assert [(one.channel, one.parent) for one in answers] == [("control", request) for request in requests]
    assert [exchange.reply["status"] for exchange in exchanges] == ["ok", "ok", "error", "ok"]
    assert exchanges[-1].reply["user_expressions"]["order"]["data"]["text/plain"] == "[1, 2, 3]"


def test_all_output_of_a_cell_comes_before_its_idle_state(kernel: Conversation) -> None:
    exchange = kernel.run("import sys\nfor i in range(20_000): print(i)\nprint('e', file=sys.stderr)\n'end'")
    assert exchange.published[-1].kind == "status"
    assert exchange.text() == "".join(f"{i}\n" for i in range(20_000))
    assert exchange.text("stderr") == "e\n"
    assert exchange.result == "'end'"


def test_a_cell_begins_with_its_code_and_count_for_all_clients_to_see(kernel: Conversation) -> None:
    exchange = kernel.run("print('x')\n'y'")
    assert exchange.kinds == ["execute_input", "stream", "execute_result"]
    (echo,) = exchange.of("execute_input")
    assert echo["code"] == "print('x')\n'y'"
    assert echo["execution_count"] == exchange.reply["execution_count"]
    assert exchange.of("execute_result")[0]["execution_count"] == exchange.reply["execution_count"]


def test_each_cell_counts_one_further(kernel: Conversation) -> None:
    counts = [kernel.run(code).reply["execution_count"] for code in ("1", "1/0", "2")]
    assert counts == [counts[0], counts[0] + 1, counts[0] + 2]


def test_a_silent_execution_shows_no_input_and_no_result_and_does_not_count(kernel: Conversation) -> None:
    before = kernel.run("0").reply["execution_count"]
    silent = kernel.run("'not to be seen'", silent=True)
    assert silent.reply["status"] == "ok"
    assert silent.kinds == []
    assert kernel.run("0").reply["execution_count"] == before + 1


def test_without_store_history_nothing_is_counted_and_nothing_remembered(kernel: Conversation) -> None:
    before = kernel.run("0").reply["execution_count"]
    unstored = kernel.run("'an unstored marker'", store_history=False)
    assert unstored.result == "'an unstored marker'"
    assert kernel.run("0").reply["execution_count"] == before + 1
    (history,) = kernel.finish(kernel.client.history(hist_access_type="tail", n=50))
    assert "an unstored marker" not in str(history.reply["history"])


def test_user_expressions_come_with_the_reply_each_with_its_own_status(kernel: Conversation) -> None:
    expressions = {"sum": "a + 1", "broken": "a / 0"}
    reply = kernel.run("a = 41", user_expressions=expressions).reply
    assert reply["status"] == "ok"
    assert reply["user_expressions"]["sum"]["status"] == "ok"
    assert reply["user_expressions"]["sum"]["data"]["text/plain"] == "42"
    assert reply["user_expressions"]["broken"]["status"] == "error"
    assert reply["user_expressions"]["broken"]["ename"] == "ZeroDivisionError"


def test_an_error_is_published_and_replied_with_the_same_fields(kernel: Conversation) -> None:
    exchange = kernel.run("print('before')\nraise ValueError('wrong')")
    assert exchange.kinds == ["execute_input", "stream", "error"]
    (published,) = exchange.of("error")
    for told in (published, exchange.reply):
        assert (told["ename"], told["evalue"]) == ("ValueError", "wrong")
        assert "ValueError" in told["traceback"][-1]
    assert exchange.reply["status"] == "error"
    told = [one.message["content"] for one in exchange.heard if "ename" in one.message["content"]]
    assert {content["ename"] for content in told} == {"ValueError"}


def _queue_behind_a_failing_cell(kernel: Conversation, gate: Path, *, stop_on_error: bool) -> list[str]:
    """Fail a cell when two others are already queued behind it; return the three statuses."""
    first = kernel.start(
        "import pathlib, time\nprint('started')\n"
        f"while not pathlib.Path({str(gate)!r}).exists(): time.sleep(0.01)\n"
        "raise RuntimeError('stop here')",
        stop_on_error=stop_on_error,
    )
    queued = [kernel.client.execute(code, stop_on_error=stop_on_error) for code in ("queued = 1", "queued = 2")]
    kernel.finish(kernel.send_control("kernel_info_request"))
    gate.touch()
    return [exchange.reply["status"] for exchange in kernel.finish(first, *queued)]


def test_an_error_aborts_the_cells_queued_behind_it_and_later_ones_run(kernel: Conversation, tmp_path: Path) -> None:
    kernel.run("queued = 0")
    statuses = _queue_behind_a_failing_cell(kernel, tmp_path / "gate", stop_on_error=True)
    assert statuses == ["error", "aborted", "aborted"]
    assert kernel.run("queued").result == "0"


def test_without_stop_on_error_the_cells_queued_behind_an_error_run(kernel: Conversation, tmp_path: Path) -> None:
    kernel.run("queued = 0")
    statuses = _queue_behind_a_failing_cell(kernel, tmp_path / "gate", stop_on_error=False)
    assert statuses == ["error", "ok", "ok"]
    assert kernel.run("queued").result == "2"


@pytest.mark.capsule_only
def test_a_cell_sent_as_soon_as_the_reply_of_a_failed_one_is_here_runs(kernel: Conversation) -> None:
    for _ in range(100):
        kernel.client.execute("1/0")
        while kernel.client.get_shell_msg(timeout=DEADLINE)["msg_type"] != "execute_reply":
            pass
        kernel.client.execute("'next'")
        reply = kernel.client.get_shell_msg(timeout=DEADLINE)
        assert reply["content"]["status"] == "ok"


@pytest.mark.capsule_only
def test_the_welcome_is_the_first_message_of_a_client_that_comes_while_much_is_printed(kernel: Conversation) -> None:
    request = kernel.start(
        "import time\nprint('started')\nfor i in range(400): print(i, flush=True); time.sleep(0.002)"
    )
    for _ in range(50):
        with kernel.client.context.socket(zmq.SUB) as client:
            client.linger = 0
            client.connect(f"tcp://127.0.0.1:{kernel.client.iopub_port}")
            client.subscribe(b"")
            assert client.poll(DEADLINE * 1000)
            frames = client.recv_multipart()
            assert json.loads(frames[frames.index(DELIM) + 2])["msg_type"] == "iopub_welcome"
    assert len(kernel.finish(request)[0].text().split()) == 401


def test_completion_names_the_matches_and_what_they_replace(kernel: Conversation) -> None:
    kernel.run("a_long_variable_name = 1")
    (exchange,) = kernel.finish(kernel.client.complete("x = a_long_v + 1", cursor_pos=12))
    assert exchange.reply["status"] == "ok"
    assert exchange.reply["matches"] == ["a_long_variable_name"]
    assert (exchange.reply["cursor_start"], exchange.reply["cursor_end"]) == (4, 12)


def test_cursor_positions_count_code_points(kernel: Conversation) -> None:
    kernel.run("a_long_variable_name = 1")
    (exchange,) = kernel.finish(kernel.client.complete("'\N{GRINNING FACE}'; a_long_v", cursor_pos=13))
    assert exchange.reply["matches"] == ["a_long_variable_name"]
    assert (exchange.reply["cursor_start"], exchange.reply["cursor_end"]) == (5, 13)


def test_inspection_finds_what_the_user_defined_and_admits_what_it_does_not_know(
    kernel: Conversation,
) -> None:
    kernel.run("def documented():\n    'Tell the purpose.'")
    found, unknown = kernel.finish(kernel.client.inspect("documented"), kernel.client.inspect("no_such_name"))
    assert found.reply["found"] is True
    assert "Tell the purpose." in found.reply["data"]["text/plain"]
    assert unknown.reply["status"] == "ok"
    assert unknown.reply["found"] is False


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("1 + 1", "complete"),
        ("for i in x:", "incomplete"),
        ("x = = 1", "invalid"),
        ("%%bash\necho", "incomplete"),
    ],
)
def test_is_complete_tells_whether_a_console_should_ask_for_more(kernel: Conversation, code: str, status: str) -> None:
    (exchange,) = kernel.finish(kernel.client.is_complete(code))
    assert exchange.reply["status"] == status


def test_the_page_and_the_next_cell_travel_as_payloads(kernel: Conversation) -> None:
    (page,) = kernel.run("len?").reply["payload"]
    assert page["source"] == "page"
    assert "Return the number of items" in page["data"]["text/plain"]
    (following,) = kernel.run("get_ipython().set_next_input('x = 1')").reply["payload"]
    assert (following["source"], following["text"]) == ("set_next_input", "x = 1")


def test_usage_is_that_of_all_processes(kernel: Conversation) -> None:
    """Of those that run the cells, too, and counted once where several share it."""

    def usage() -> dict[str, Any]:
        (exchange,) = kernel.finish(kernel.send_control("usage_request"))
        return exchange.reply

    before = usage()
    assert {"hostname", "pid", "kernel_cpu", "cpu_count", "host_virtual_memory"} <= set(before)
    kernel.run("held = b'x' * 300_000_000")
    # While processes begin and end a look can miss what one of them shares.
    poll_until(lambda: 200e6 < usage()["kernel_memory"] - before["kernel_memory"] < 500e6, "the memory is counted")
    kernel.run("del held")
