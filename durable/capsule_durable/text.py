"""Text that cells have chosen, for people to look at: terminals obey what they read. Pure."""

from __future__ import annotations

import re

#: Control characters, and those that turn the direction of what follows; not the end of a line, or a tabulator.
_OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")
#: The same, but for colours and the like (``ESC [ ... m``), and a return to the beginning of the line.
_BUT_COLOURS = re.compile(f"\x1b\\[[0-9;:]{{0,64}}m|\r|({_OBEYED.pattern})")


def visible(text: str) -> str:
    """Return a text in which a terminal finds nothing to obey: it is shown by what stands for it (``␛``)."""
    return _OBEYED.sub(_stand_in, text)


def coloured(text: str) -> str:
    """Return the same of a cell's output, which may have colours."""
    return _BUT_COLOURS.sub(lambda match: _stand_in(match) if match[1] else match[0], text)


def _stand_in(match: re.Match[str]) -> str:
    code = ord(match[0])
    if code < 0x20:  # noqa: PLR2004  # where Unicode has a picture for each
        return chr(0x2400 + code)
    return "\u2421" if code == 0x7F else "\ufffd"  # noqa: PLR2004
