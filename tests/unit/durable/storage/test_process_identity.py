"""The identity of a process, its state, and what other processes may do with its data."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from dataclasses import replace
from typing import get_args

import pytest

from capsule_durable.storage import process_identity
from capsule_durable.storage.process_identity import (
    LockState,
    ProcessIdentity,
    ProcessState,
    Purpose,
    has_same_boot,
    is_allowed,
    state,
    state_of,
    this_process,
)

#: The largest pid that Linux gives is 2**22: no process has this one.
FREE_PID = 2**22 + 1


def test_each_identity_of_a_process_has_its_own_token_and_a_text_form() -> None:
    one, other = this_process(), this_process()
    assert one != other
    assert replace(one, token=other.token) == other
    assert str(one) == f"{one.place}.{os.getpid()}.{one.start}.{one.token}"
    assert ProcessIdentity.parse(str(one)) == one


@pytest.mark.parametrize(
    "text", ["", "p1", "place.1.2", "place.1.2.", "place.x.2.t", ".1.2.t", "place.1.2.t.u", "p.1.-2.t"]
)
def test_a_text_that_is_not_an_identity_has_an_unknown_state(text: str) -> None:
    assert ProcessIdentity.parse(text) is None
    assert state_of(text) == "unknown"


def test_this_process_runs() -> None:
    me = this_process()
    assert me.start > 0
    assert state(me) == state_of(str(me)) == "running"


def test_a_process_whose_pid_is_free_has_ended() -> None:
    assert state(replace(this_process(), pid=FREE_PID)) == "ended"
    assert state(replace(this_process(), pid=0)) == "ended"
    assert state(replace(this_process(), pid=10**30)) == "ended"


def test_a_process_whose_pid_was_reused_has_ended() -> None:
    me = this_process()
    assert state(replace(me, start=me.start + 1)) == "ended"


@pytest.mark.process
def test_a_zombie_has_ended() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        stat = process_identity._stat(child.pid)
        assert stat is not None
        identity = replace(this_process(), pid=child.pid, start=stat[1])
        assert state(identity) == "running"
        assert child.stdin is not None
        child.stdin.close()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert state(identity) == "ended"
        # Whatever its start time was.
        assert state(replace(identity, start=0)) == "ended"
    assert state(identity) == "ended"


@pytest.mark.parametrize("pid", [os.getpid(), FREE_PID], ids=["running", "free"])
def test_the_state_of_a_process_in_another_place_is_unknown(pid: int) -> None:
    me = this_process()
    boot, namespace = me.place.split("-")
    for place in (f"{boot}-{int(namespace) + 1}", f"00000000-{namespace}", "elsewhere"):
        assert state(replace(me, place=place, pid=pid)) == "unknown"


def test_without_start_time_only_the_end_of_a_process_is_known() -> None:
    assert state(replace(this_process(), start=0)) == "unknown"
    assert state(replace(this_process(), start=0, pid=FREE_PID)) == "ended"


def test_another_namespace_of_the_same_boot_differs_from_another_boot() -> None:
    me = this_process()
    boot, namespace = me.place.split("-")
    assert has_same_boot(replace(me, place=f"{boot}-{int(namespace) + 1}"))
    assert not has_same_boot(replace(me, place=f"00000000-{namespace}"))


#: For each purpose and state: whether it is allowed with what is known of the locks, or of the lease.
TABLE: dict[tuple[Purpose, ProcessState], dict[LockState | bool, bool]] = {
    ("recover", "running"): {"free": False, "held": False, "unsupported": False},
    ("recover", "ended"): {"free": True, "held": True, "unsupported": True},
    ("recover", "unknown"): {"free": True, "held": False, "unsupported": False},
    ("collect", "running"): {"free": False, "held": False, "unsupported": False},
    ("collect", "ended"): {"free": True, "held": True, "unsupported": True},
    ("collect", "unknown"): {"free": True, "held": False, "unsupported": False},
    ("take_over", "running"): {True: True, False: False},
    ("take_over", "ended"): {True: True, False: True},
    ("take_over", "unknown"): {True: True, False: False},
}


@pytest.mark.parametrize(("purpose", "known"), TABLE)
def test_what_another_process_may_do(purpose: Purpose, known: ProcessState) -> None:
    locks: tuple[LockState, ...] = get_args(LockState.__value__)
    for lock, expired in itertools.product(locks, (True, False)):
        expected = TABLE[purpose, known][expired if purpose == "take_over" else lock]
        assert is_allowed(purpose, known, locks=lock, expired=expired) is expected, (lock, expired)


def test_the_table_has_all_purposes_and_states() -> None:
    assert set(TABLE) == set(itertools.product(get_args(Purpose.__value__), get_args(ProcessState.__value__)))


def test_by_default_no_lock_is_free_and_no_lease_expired() -> None:
    assert not any(is_allowed(purpose, "unknown") for purpose in get_args(Purpose.__value__))
