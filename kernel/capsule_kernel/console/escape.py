"""Makes text that cells have chosen safe for a terminal, which obeys control characters. Pure."""

from __future__ import annotations

import re

#: Control characters, and those that change the direction of text; not the end of a line, or a tabulator.
_OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")
#: The same, except for colours and other styles (``ESC [ ... m``), and a return to the beginning of the line.
_BUT_COLOURS = re.compile(f"\x1b\\[[0-9;:]{{0,64}}m|\r|({_OBEYED.pattern})")


def visible(text: str) -> str:
    """Return a text whose control characters are replaced by visible symbols (``␛``).

    Args:
        text: the text.
    """
    return _OBEYED.sub(_symbol, text)


def coloured(text: str) -> str:
    """Return a cell's output whose control characters are replaced by visible symbols; colours stay.

    Args:
        text: the output.
    """
    return _BUT_COLOURS.sub(lambda match: _symbol(match) if match[1] else match[0], text)


def _symbol(match: re.Match[str]) -> str:
    code = ord(match[0])
    if code < 0x20:  # noqa: PLR2004  # Unicode has a picture for each of these
        return chr(0x2400 + code)
    return "\u2421" if code == 0x7F else "\ufffd"  # noqa: PLR2004
