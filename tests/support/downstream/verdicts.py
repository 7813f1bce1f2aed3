"""What a test of another project says about this kernel. Pure: outcomes in, verdicts and complaints out.

Each suite runs three times: against this kernel, against ipykernel, and against a kernelspec that starts nothing. The
last two tell what a test is about: one that passes without a kernel says nothing of this one, and one that ipykernel
fails as well is wrong itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from xml.etree import ElementTree as ET


class Outcome(StrEnum):
    """How one run of a test ended."""

    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"


class Verdict(StrEnum):
    """What a test says about this kernel."""

    PASSED = "passed"
    FAILED = "failed"
    NOT_APPLICABLE = "not applicable"


#: Reasons that are found, not written down.
NO_KERNEL = "passes without a kernel"
SKIPPED = "the suite skips it"
FAILS_ANYWAY = "ipykernel fails it, too"

type Run = Mapping[str, Outcome]
"""The outcome of each test of a suite."""


@dataclass(frozen=True)
class Group:
    """Tests that are expected not to pass, for one reason."""

    suite: str
    verdict: Verdict
    reason: str
    tests: tuple[str, ...]
    #: Whether they pass now and then, as where it depends on how long a kernel takes to start.
    sometimes: bool = False

    def has(self, suite: str, test: str) -> bool:
        """Whether a test belongs to the group: by its id, or the beginning of its id before a star."""
        return suite == self.suite and any(
            test.startswith(name[:-1]) if name.endswith("*") else test == name for name in self.tests
        )


@dataclass(frozen=True)
class Judged:
    """One test with its verdict, and the reason for it where it has not passed."""

    test: str
    verdict: Verdict
    reason: str = ""


def read_groups(document: Mapping[str, Any]) -> list[Group]:
    """Return the groups of a file of expectations."""
    return [
        Group(
            each["suite"],
            Verdict(each["verdict"]),
            " ".join(each["reason"].split()),
            tuple(each["tests"]),
            each.get("sometimes", False),
        )
        for each in document["group"]
    ]


def read_junit(text: str) -> dict[str, Outcome]:
    """Return the outcome of each test in a report of pytest's; of one that fails at its end, too, the failure."""
    found: dict[str, Outcome] = {}
    for case in ET.fromstring(text).iter("testcase"):
        test = f"{case.get('classname')}::{case.get('name')}"
        kinds = {child.tag for child in case}
        outcome = Outcome.PASSED
        if kinds & {"failure", "error"}:
            outcome = Outcome.FAILED
        elif "skipped" in kinds:
            outcome = Outcome.SKIPPED
        if found.get(test) is not Outcome.FAILED:
            found[test] = outcome
    return found


def judge(suite: str, ours: Run, ipykernel: Run, nothing: Run, groups: Iterable[Group]) -> list[Judged]:
    """Return the verdict on each test of a suite.

    Args:
        suite: the project's name.
        ours: the run against this kernel.
        ipykernel: the run against ipykernel.
        nothing: the run without a kernel; empty where there is none.
        groups: what is expected not to pass.
    """
    known = list(groups)

    def one(test: str, outcome: Outcome) -> Judged:
        alone = nothing.get(test) is Outcome.PASSED
        if outcome is Outcome.SKIPPED:
            return Judged(test, Verdict.NOT_APPLICABLE, SKIPPED)
        if outcome is Outcome.PASSED:
            return Judged(test, Verdict.NOT_APPLICABLE, NO_KERNEL) if alone else Judged(test, Verdict.PASSED)
        group = next((group for group in known if group.has(suite, test)), None)
        if group is not None:
            return Judged(test, group.verdict, group.reason)
        if ipykernel.get(test) is Outcome.FAILED:
            return Judged(test, Verdict.NOT_APPLICABLE, FAILS_ANYWAY)
        return Judged(test, Verdict.FAILED)

    return [one(test, outcome) for test, outcome in ours.items()]


def complaints(suite: str, ours: Run, judged: Iterable[Judged], groups: Iterable[Group]) -> list[str]:
    """Return what was not expected: failures without a reason, and reasons without a failure."""
    found = [
        f"{suite}: {each.test} fails, and expected.toml gives no reason"
        for each in judged
        if each.verdict is Verdict.FAILED and not each.reason
    ]
    for group in groups:
        if group.suite != suite:
            continue
        for name in group.tests:
            members = [test for test in ours if Group(suite, group.verdict, "", (name,)).has(suite, test)]
            if not members:
                found.append(f"{suite}: there is no test {name}, which expected.toml lists")
            found += [
                f"{suite}: {test} {ours[test]}, though expected.toml says that it fails"
                for test in members
                if ours[test] is not Outcome.FAILED and not group.sometimes
            ]
    return found
