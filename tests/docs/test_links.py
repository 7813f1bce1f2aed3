"""Links in all Markdown files lead somewhere: the file exists, and so does the heading."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support import ROOT
from tests.support.markdown import PAGES, anchors, without_code

#: A link or an image in Markdown. The target ends at a space or a bracket.
LINK = re.compile(r"\]\(([^)\s]+)\)")


def links(page: Path) -> list[str]:
    """Return the targets of all links in a page that stay in the repository."""
    targets = LINK.findall(without_code(page.read_text(encoding="utf-8")))
    return [target for target in targets if not re.match(r"[a-z]+:", target)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files_and_headings_that_exist(page: Path) -> None:
    broken = []
    for target in links(page):
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        exists = file.is_file() and file.is_relative_to(ROOT)
        if not exists or (anchor and anchor not in anchors(file.read_text(encoding="utf-8"))):
            broken.append(target)
    assert not broken


def test_every_page_of_the_documentation_is_linked_from_its_index() -> None:
    docs = ROOT / "docs"
    index = docs / "index.md"
    text = index.read_text(encoding="utf-8")
    listed = {(docs / target).resolve() for target in links(index)}
    in_navigation = {docs / f"{line}.md" for line in re.findall(r"^[\w-]+/[\w-]+$", text, re.MULTILINE)}
    pages = set(docs.rglob("*.md")) - {index}
    assert pages <= listed
    assert pages == in_navigation


def test_the_names_of_headings_are_those_that_forges_make() -> None:
    text = (
        "# One\n\n## What `it` does, and *why*\n\n```\n# no heading\n```\n\n## One\n\n### snake_case & more-or-less\n"
    )
    assert anchors(text) == {"one", "what-it-does-and-why", "one-1", "snake_case--more-or-less"}
