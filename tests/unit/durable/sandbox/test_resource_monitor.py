"""Which limits a usage exceeds, and what the monitor measures of this process."""

from __future__ import annotations

import os

import pytest

from capsule_durable.config.limits import Limits
from capsule_durable.sandbox.resource_monitor import ResourceMonitor, RunningCell, Usage, exceeded

GB = 10**9


@pytest.mark.parametrize(
    ("limits", "usage"),
    [
        (Limits(), Usage(10 * GB, 10 * GB, 10**6, 1e6, 1e6)),
        (Limits(memory=GB), Usage(memory=GB)),
        (Limits(processes=5), Usage(processes=5)),
        (Limits(cell_time=5.0), Usage(cell_time=5.0)),
        (Limits(cpu_time=5.0), Usage(cpu_time=5.0)),
    ],
)
def test_a_usage_within_its_limits_exceeds_none(limits: Limits, usage: Usage) -> None:
    assert exceeded(limits, usage) == []


@pytest.mark.parametrize(
    ("limits", "usage", "setting", "error", "text"),
    [
        (Limits(memory=GB), Usage(memory=2 * GB), "memory_limit", "MemoryError", "1.00 GB of memory is exceeded (2.00"),
        (Limits(processes=5), Usage(processes=6), "process_limit", "OSError", "5 processes and threads is exceeded"),
        (Limits(cell_time=5.0), Usage(cell_time=5.1), "execution_timeout", "TimeoutError", "5 s for a cell"),
        (Limits(cpu_time=5.0), Usage(cpu_time=5.1), "cpu_limit", "TimeoutError", "5 s of processor time"),
    ],
)
def test_a_violation_names_the_limit_and_its_setting(
    limits: Limits, usage: Usage, setting: str, error: str, text: str
) -> None:
    (violation,) = exceeded(limits, usage)
    assert (violation.setting, violation.error) == (setting, error)
    assert text in violation.text


@pytest.mark.parametrize(
    ("files", "ends_all", "is_named"), [(0, False, False), (GB // 5, False, True), (GB, True, True)]
)
def test_where_files_in_memory_take_most_of_it_all_processes_must_end(
    files: int, ends_all: bool, is_named: bool
) -> None:
    (violation,) = exceeded(Limits(memory=GB), Usage(memory=2 * GB, memory_of_files=files))
    assert violation.ends_all is ends_all
    assert ("temporary files" in violation.text) is is_named


def test_several_limits_are_exceeded_at_once() -> None:
    limits, usage = Limits(GB, 5, cell_time=1.0, cpu_time=1.0), Usage(2 * GB, 0, 6, 2.0, 2.0)
    assert [violation.setting for violation in exceeded(limits, usage)] == [
        "memory_limit",
        "process_limit",
        "execution_timeout",
        "cpu_limit",
    ]


def test_the_monitor_measures_a_process_and_the_time_of_its_cell() -> None:
    now = 100.0
    limits = Limits(memory=1, processes=0, cell_time=10.0)
    monitor = ResourceMonitor(limits, os.getpid(), clock=lambda: now)
    assert [one.setting for one in monitor.violations(None)] == ["memory_limit", "process_limit"]
    cell = RunningCell("e1", since=95.0)
    assert [one.setting for one in monitor.violations(cell)] == ["memory_limit", "process_limit"]
    now = 106.0
    assert monitor.violations(cell)[-1].setting == "execution_timeout"
