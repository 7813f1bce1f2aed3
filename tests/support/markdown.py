"""The Markdown files of the repository, and what is in them."""

from __future__ import annotations

import re
from collections import Counter

from tests.support import ROOT

#: All pages that people read: those at the top of the repository, and those in its folders for documents.
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "benchmarks").rglob("*.md")])

_FENCE = re.compile(r"^( *)(`{3,}|~{3,}).*?^ *\2`*$", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"(`+)(?!`).+?(?<!`)\1(?!`)", re.DOTALL)
_GENERATED = re.compile(r"<!-- generated: .*?<!-- /generated -->", re.DOTALL)


def without_fences(text: str) -> str:
    """Return the text of a page without its blocks of code."""
    return _FENCE.sub("", text)


def without_code(text: str) -> str:
    """Return the text of a page without its code, be it a block or part of a line."""
    return _CODE.sub("", without_fences(text))


def by_hand(text: str) -> str:
    """Return the text of a page without the parts that come from the code."""
    return _GENERATED.sub("", text)


def anchors(text: str) -> set[str]:
    """Return the names by which links refer to the headings of a page, as forges and MyST make them."""
    seen: Counter[str] = Counter()
    names = set()
    for heading in re.findall(r"^#{1,6} +(.+?) *$", without_fences(text), re.MULTILINE):
        name = re.sub(r"[^\w\- ]", "", heading.replace("`", "").lower()).replace(" ", "-")
        names.add(f"{name}-{seen[name]}" if seen[name] else name)
        seen[name] += 1
    return names
