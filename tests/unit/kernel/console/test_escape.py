"""Text from cells, shown in a terminal."""

from __future__ import annotations

from capsule_kernel.console.escape import coloured, visible


def test_a_terminal_finds_nothing_to_obey() -> None:
    assert visible("a\tb\nc") == "a\tb\nc"
    assert visible("\x1b[2J\x07\x7f\x9b\u202e") == "\u241b[2J\u2407\u2421\ufffd\ufffd"
    assert coloured("\x1b[1;31mred\x1b[0m \x1b[2J\x1b]0;t\x07") == "\x1b[1;31mred\x1b[0m \u241b[2J\u241b]0;t\u2407"
