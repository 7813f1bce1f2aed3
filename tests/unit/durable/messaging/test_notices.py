"""Notices are shown below the running cell, or below the next one."""

from __future__ import annotations

import pytest

from capsule_durable.messaging.notices import Notices
from capsule_worker.protocol.messages import StreamOutput


@pytest.fixture
def shown() -> list[tuple[str, str]]:
    return []


@pytest.fixture
def notices(shown: list[tuple[str, str]]) -> Notices:
    def stream(execution_id: str, output: StreamOutput) -> None:
        assert output.name == "stderr"
        shown.append((execution_id, output.text))

    notices = Notices()
    notices.connect(stream)
    return notices


def test_a_notice_is_shown_below_the_running_cell(notices: Notices, shown: list) -> None:
    notices.set_cell("e1")
    notices.add("the disk is full")
    assert shown == [("e1", "capsule: the disk is full\n")]


def test_a_notice_between_cells_waits_for_the_next_one(notices: Notices, shown: list) -> None:
    notices.add("first")
    notices.set_cell("silent")
    notices.set_cell(None)
    notices.add("second")
    assert shown == []
    notices.set_cell("e1")
    notices.drain()
    notices.drain()
    assert shown == [("e1", "capsule: first\n"), ("e1", "capsule: second\n")]


def test_draining_between_cells_loses_nothing(notices: Notices, shown: list) -> None:
    notices.add("text")
    notices.drain()
    notices.set_cell("e1")
    notices.drain()
    assert shown == [("e1", "capsule: text\n")]


def test_a_notice_before_there_is_a_client_waits() -> None:
    notices, shown = Notices(), []
    notices.set_cell("e1")
    notices.add("early")
    notices.connect(lambda execution_id, output: shown.append((execution_id, output.text)))
    notices.drain()
    assert shown == [("e1", "capsule: early\n")]
