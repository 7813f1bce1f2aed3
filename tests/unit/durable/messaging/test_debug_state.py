"""What the next worker's debugger gets of a client's debugger."""

from __future__ import annotations

from capsule_durable.messaging.debug_state import DebugState

DONE, FAILED = {"success": True}, {"success": False}


def request(command: str, **arguments: object) -> dict:
    return {"command": command, "arguments": arguments}


def breakpoints(path: str, *lines: int) -> dict:
    return request("setBreakpoints", source={"path": path}, breakpoints=[{"line": line} for line in lines])


def test_a_new_debugger_gets_the_last_request_of_each_kind_and_all_breakpoints() -> None:
    state = DebugState()
    for each in (
        request("initialize"),
        breakpoints("a.py", 1),
        request("attach"),
        breakpoints("b.py", 2),
        request("setExceptionBreakpoints", filters=["raised"]),
        breakpoints("a.py", 3),
        request("setExceptionBreakpoints", filters=[]),
        request("stackTrace"),
    ):
        state.record_request(each, DONE)
    assert state.requests() == [
        request("initialize"),
        request("attach"),
        request("setExceptionBreakpoints", filters=[]),
        breakpoints("a.py", 3),
        breakpoints("b.py", 2),
    ]


def test_requests_that_failed_are_not_repeated() -> None:
    state = DebugState()
    state.record_request(request("initialize"), DONE)
    state.record_request(request("attach"), FAILED)
    state.record_request(breakpoints("a.py", 1), FAILED)
    assert state.requests() == [request("initialize")]


def test_nothing_is_repeated_before_a_debugger_is_initialized_and_after_it_has_left() -> None:
    state = DebugState()
    state.record_request(breakpoints("a.py", 1), DONE)
    assert state.requests() == []
    state.record_request(request("initialize"), DONE)
    state.record_request(request("disconnect"), FAILED)
    assert state.requests() == []


def test_the_client_hears_that_stopped_code_continues_once() -> None:
    state = DebugState()
    assert state.clear_stopped() == []
    state.record_event({"event": "stopped"})
    state.record_event({"event": "output"})
    assert state.stopped
    (event,) = state.clear_stopped()
    assert event["event"] == "continued"
    assert state.clear_stopped() == []
    state.record_event({"event": "stopped"})
    state.record_event({"event": "continued"})
    assert state.clear_stopped() == []
