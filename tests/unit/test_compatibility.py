"""The page about compatibility names tests that are there, and all of them."""

from __future__ import annotations

from clients import compatibility


def test_every_line_has_its_tests_and_was_measured() -> None:
    assert not compatibility.missing()
    seen = compatibility.read()
    features = {feature for area in compatibility.FEATURES.values() for feature in area}
    for kernel in compatibility.KERNELS:
        assert seen[kernel].keys() == features
    for kernel in ("capsule", "python3"):
        assert "?" not in seen[kernel].values()
