"""Tables as text and as HTML."""

from __future__ import annotations

from capsule_durable.checkpoints.tables import Table


def test_a_table_has_titles_where_there_are_any() -> None:
    assert Table("T", ["a", "bb"], [["1", "2"], ["333", ""]]).to_text() == "T\na    bb\n---  --\n1    2\n333"
    assert Table("T", ["", ""], [["1", "2"]]).to_text() == "T\n1  2"
    assert "<th" not in Table("T", ["", ""], [["1", "2"]]).to_html()
    assert "<th" in Table("T", ["", "b"], [["1", "2"]]).to_html()


def test_a_table_without_rows_says_so() -> None:
    assert Table("<T>", ["a"], [], "none").to_mime() == {
        "text/plain": "<T>: none",
        "text/html": "<p>&lt;T&gt;: none</p>",
    }


def test_texts_in_a_table_are_no_markup() -> None:
    assert "<script>" not in Table("<script>", ["<script>"], [["<script>"]]).to_html()
