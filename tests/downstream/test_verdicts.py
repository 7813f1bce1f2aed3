"""Verdicts on tests of other projects say what their three runs say, and nothing unexpected goes unsaid."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from tests.support.downstream.verdicts import (
    FAILS_ANYWAY,
    NO_KERNEL,
    SKIPPED,
    Group,
    Judged,
    Outcome,
    Verdict,
    complaints,
    judge,
    read_groups,
    read_junit,
)

EXPECTED = Path(__file__).with_name("expected.toml")
PASSED, FAILED, LEFT_OUT = Outcome.PASSED, Outcome.FAILED, Outcome.SKIPPED


@pytest.mark.parametrize(
    ("ours", "ipykernel", "nothing", "verdict", "reason"),
    [
        (PASSED, PASSED, FAILED, Verdict.PASSED, ""),
        (PASSED, FAILED, FAILED, Verdict.PASSED, ""),
        (PASSED, PASSED, PASSED, Verdict.NOT_APPLICABLE, NO_KERNEL),
        (LEFT_OUT, LEFT_OUT, LEFT_OUT, Verdict.NOT_APPLICABLE, SKIPPED),
        (FAILED, FAILED, FAILED, Verdict.NOT_APPLICABLE, FAILS_ANYWAY),
        (FAILED, PASSED, FAILED, Verdict.FAILED, ""),
        (FAILED, PASSED, PASSED, Verdict.FAILED, ""),
        (FAILED, None, None, Verdict.FAILED, ""),
    ],
)
def test_the_three_runs_of_a_test_make_its_verdict(
    ours: Outcome, ipykernel: Outcome | None, nothing: Outcome | None, verdict: Verdict, reason: str
) -> None:
    def run(outcome: Outcome | None) -> dict[str, Outcome]:
        return {"a::test": outcome} if outcome else {}

    assert judge("suite", run(ours), run(ipykernel), run(nothing), []) == [Judged("a::test", verdict, reason)]


def test_only_expected_failures_are_not_reported() -> None:
    groups = [
        Group("suite", Verdict.FAILED, "on purpose", ("a::one", "a::many*", "a::gone")),
        Group("suite", Verdict.FAILED, "a race", ("a::race",), sometimes=True),
        Group("another", Verdict.FAILED, "not ours", ("a::two",)),
    ]
    ours = {"a::one": PASSED, "a::many[1]": FAILED, "a::many[2]": PASSED, "a::two": FAILED, "a::race": PASSED}
    judged = judge("suite", ours, {}, {}, groups)
    assert {each.test: (each.verdict, each.reason) for each in judged if each.verdict is Verdict.FAILED} == {
        "a::many[1]": (Verdict.FAILED, "on purpose"),
        "a::two": (Verdict.FAILED, ""),
    }
    assert complaints("suite", ours, judged, groups) == [
        "suite: a::two fails, and expected.toml gives no reason",
        "suite: a::one passed, though expected.toml says that it fails",
        "suite: a::many[2] passed, though expected.toml says that it fails",
        "suite: there is no test a::gone, which expected.toml lists",
    ]


def test_a_report_gives_each_test_its_outcome() -> None:
    report = """<testsuites><testsuite>
        <testcase classname="a" name="passes"/>
        <testcase classname="a" name="fails"><failure/></testcase>
        <testcase classname="a" name="leaves"><error/></testcase>
        <testcase classname="a" name="skips"><skipped/></testcase>
        <testcase classname="a" name="ends badly"><failure/></testcase>
        <testcase classname="a" name="ends badly"/>
    </testsuite></testsuites>"""
    assert read_junit(report) == {
        "a::passes": PASSED,
        "a::fails": FAILED,
        "a::leaves": FAILED,
        "a::skips": LEFT_OUT,
        "a::ends badly": FAILED,
    }


def test_every_expectation_has_a_reason() -> None:
    groups = read_groups(tomllib.loads(EXPECTED.read_text(encoding="utf-8")))
    assert groups
    assert all(group.reason and group.tests and group.verdict is not Verdict.PASSED for group in groups)
