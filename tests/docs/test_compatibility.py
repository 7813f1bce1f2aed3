"""The page about compatibility: its tests exist, each kernel has an answer in each line, and each "no" a reason."""

from __future__ import annotations

import re

import pytest

from tests.support import compatibility


def test_each_line_has_tests_that_are_there() -> None:
    assert not compatibility.missing()
    for area in compatibility.FEATURES.values():
        for feature, several in area.items():
            assert several, feature
            assert "|" not in feature


def test_no_line_is_there_twice() -> None:
    lines = [feature for area in compatibility.FEATURES.values() for feature in area]
    assert len(lines) == len(set(lines))


def test_the_tables_are_those_that_would_be_written() -> None:
    text = compatibility.PAGE.read_text(encoding="utf-8")
    tables = text.split(compatibility.BEGIN)[1].split(compatibility.END)[0]
    assert tables == compatibility.table(compatibility.read())


@pytest.mark.parametrize("kernel", compatibility.KERNELS)
def test_each_line_says_of_each_kernel_whether_it_has_it(kernel: str) -> None:
    seen = compatibility.read()[kernel]
    assert seen.keys() == {feature for area in compatibility.FEATURES.values() for feature in area}
    if kernel == "capsule":
        assert set(seen.values()) == {"yes"}


@pytest.mark.parametrize("kernel", [kernel for kernel in compatibility.KERNELS if kernel != "capsule"])
def test_each_no_has_its_reason(kernel: str) -> None:
    lacking = {feature for feature, has in compatibility.read()[kernel].items() if has == "no"}
    assert compatibility.reasons(kernel).keys() == lacking
    assert all(compatibility.reasons(kernel).values())


def test_features_of_capsule_alone_do_not_apply_to_other_kernels() -> None:
    for kernel in compatibility.KERNELS:
        has = compatibility.judged(kernel, {})
        assert set(has.values()) == ({"?"} if kernel == "capsule" else {"?", "n/a"})


def test_a_line_says_no_if_a_test_fails_and_open_if_one_did_not_run() -> None:
    feature, several = next(
        (feature, several)
        for area in compatibility.FEATURES.values()
        for feature, several in area.items()
        if len(several) > 1
    )
    results = dict.fromkeys(several, "passed")
    assert compatibility.judged("python3", results)[feature] == "yes"
    assert compatibility.judged("python3", results | {several[0]: "skipped"})[feature] == "?"
    assert compatibility.judged("python3", results | {several[0]: "skipped", several[1]: "failed"})[feature] == "no"


def test_versions_and_the_time_of_measuring_are_written() -> None:
    text = compatibility.PAGE.read_text(encoding="utf-8").split(compatibility.BEGIN)[0]
    assert re.search(r"Measured in \w+ 20\d\d", text)
    for name in list(compatibility.KERNELS.values())[1:]:
        assert re.search(rf"{name} \d+\.\d+", text), name
