"""Views as text and as HTML."""

from __future__ import annotations

from capsule_kernel.console.html import to_html
from capsule_kernel.console.tables import Facts, Paragraph, Table, to_text


def test_a_table_has_titles_facts_have_names() -> None:
    table = Table("T", ["a", "bb"], [["1", "2"], ["333", ""]])
    assert to_text(table) == "T\na    bb\n---  --\n1    2\n333"
    assert "<th" in to_html(table)
    facts = Facts("T", [("a", "1"), ("b c", "2")])
    assert to_text(facts) == "T\na: 1\nb c: 2"
    assert "<th" not in to_html(facts)
    assert to_html(facts).count("<tr>") == 2


def test_a_table_without_rows_says_so() -> None:
    table = Table("<T>", ["a"], [], "nothing")
    assert to_text(table) == "<T>: nothing"
    assert to_html(table) == "<p>&lt;T&gt;: nothing</p>"


def test_texts_are_neither_markup_nor_obeyed_by_a_terminal() -> None:
    bad = "<script>\x1b[2J"
    for view in (Table(bad, [bad], [[bad]]), Table(bad, [], []), Facts(bad, [("a", bad)]), Paragraph(bad)):
        assert "<script>" not in to_html(view)
        assert "\x1b" not in to_text(view), view
