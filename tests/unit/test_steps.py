"""How far back some cells are, which session is meant, and what tables and files of checkpoints do."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from capsule_durable.checkpoints.entries import Entry, SessionRow, UnknownSession, resolve_session
from capsule_durable.checkpoints.files import Folder
from capsule_durable.checkpoints.steps import back, is_command
from capsule_durable.checkpoints.tables import Table

OURS = "ours"


def entry(name: str, parent: str | None, cell: int, code: str = "x = 1", session: str = OURS) -> Entry:
    return Entry(
        id=name,
        session=session,
        number=cell,
        parent=parent,
        time=0.0,
        execution_count=cell,
        code=code,
        name=None,
        description="",
        tags=[],
        size=0,
        bytes_written=0,
        duration=0.0,
        head=False,
        variables=0,
        unsaved=0,
        notebook=None,
    )


def chain(*entries: Entry) -> dict[str, Entry]:
    return {one.id: one for one in entries}


# -- going back ----------------------------------------------------------------------------------------------

#: Cells 1, 2 and 3 have a checkpoint each; 4 only asked for one; 5 and 6 share one.
LINE = chain(
    entry("a", None, 1),
    entry("b", "a", 2),
    entry("c", "b", 3),
    entry("d", "c", 4, "%capsule checkpoint name"),
    entry("e", "d", 6),
)


@pytest.mark.parametrize(
    ("head", "cells", "found", "gone"),
    [
        ("c", 1, "b", 1),
        ("c", 2, "a", 2),
        ("c", 3, None, 2),
        ("d", 1, "b", 1),
        ("e", 1, "d", 2),
        ("e", 2, "d", 2),
        ("e", 3, "b", 3),
        ("e", 99, None, 4),
    ],
)
def test_so_many_cells_are_undone_and_no_fewer(head: str, cells: int, found: str | None, gone: int) -> None:
    ran = [number for number in (1, 2, 3, 5, 6) if number <= LINE[head].execution_count]
    before, undone = back(LINE[head], LINE, cells, ran, OURS)
    assert (before and before.id, undone) == (found, gone)


def test_cells_that_were_not_saved_count() -> None:
    assert back(LINE["c"], LINE, 2, [1, 2, 3, 5, 6], OURS) == (LINE["c"], 2)
    assert back(LINE["c"], LINE, 3, [1, 2, 3, 5, 6], OURS) == (LINE["b"], 3)


def test_cells_that_were_undone_do_not_count() -> None:
    # Cells 3 and 4 were undone, then 6 ran.
    line = chain(entry("a", None, 1), entry("b", "a", 2), entry("f", "b", 6))
    assert back(line["f"], line, 1, [1, 2, 6], OURS) == (line["b"], 1)
    assert back(line["f"], line, 2, [1, 2, 6], OURS) == (line["a"], 2)


def test_the_way_goes_on_in_the_session_that_was_resumed() -> None:
    line = chain(
        entry("a", None, 7, session="theirs"),
        entry("b", "a", 8, "%capsule status", session="theirs"),
        entry("c", "b", 3),
    )
    assert back(line["c"], line, 1, [3], OURS) == (line["b"], 1)
    assert back(line["b"], line, 1, [], OURS) == (None, 0)
    assert back(line["c"], line, 2, [3], OURS) == (None, 1)


@pytest.mark.parametrize(
    ("code", "command"),
    [
        ("%capsule undo", True),
        ("  %capsule status\n\n%capsule checkpoints\n", True),
        ("%capsule status\nx = 1", False),
        ("x = 1", False),
        ("", False),
    ],
)
def test_a_cell_that_only_asks_is_a_command(code: str, command: bool) -> None:
    assert is_command(code) is command


# -- sessions ------------------------------------------------------------------------------------------------


def session(name: str, notebook: str | None = None, checkpoints: int = 1) -> SessionRow:
    return SessionRow(
        id=name,
        kernel=f"kernel-{name}",
        notebook=notebook,
        process="place.1.2.token",
        started=0.0,
        ended=None,
        head=None,
        checkpoints=checkpoints,
    )


SESSIONS = [
    session("abcd3", "work/a.ipynb", checkpoints=0),
    session("abcd2", "work/a.ipynb"),
    session("efgh1", "other/a.ipynb"),
    session("efgh0"),
]


@pytest.mark.parametrize(
    ("reference", "found"),
    [
        ("abcd2", "abcd2"),
        (" efgh1 ", "efgh1"),
        ("work/a.ipynb", "abcd2"),
        ("a.ipynb", "abcd2"),
        ("other/a.ipynb", "efgh1"),
        ("kernel-efgh0", "efgh0"),
    ],
)
def test_a_session_is_meant_by_its_id_or_by_its_notebook(reference: str, found: str) -> None:
    assert resolve_session(reference, SESSIONS).id == found


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("abcd", "begins the ids of 2 sessions"),
        ("abc", "there is no session 'abc'"),
        ("b.ipynb", "no session"),
        (".ipynb", "no session"),
        ("", "say which"),
    ],
)
def test_a_session_that_nobody_or_several_may_be_is_refused(reference: str, message: str) -> None:
    with pytest.raises(UnknownSession, match=message):
        resolve_session(reference, SESSIONS)


# -- tables --------------------------------------------------------------------------------------------------


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


# -- files ---------------------------------------------------------------------------------------------------


@pytest.fixture
def folders(tmp_path: Path) -> Iterator[tuple[Folder, Folder]]:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    (tmp_path / "one" / "1.pack").write_bytes(b"data")
    with Folder(tmp_path / "one") as one, Folder(tmp_path / "two") as two:
        yield one, two


def test_a_second_name_keeps_a_file(folders: tuple[Folder, Folder]) -> None:
    one, two = folders
    two.link(one, "1.pack")
    two.link(one, "1.pack")
    assert (one.path / "1.pack").samefile(two.path / "1.pack")
    one.remove("1.pack")
    assert (two.path / "1.pack").read_bytes() == b"data"
    with pytest.raises(FileNotFoundError):
        two.link(one, "1.pack")


def test_where_a_file_can_have_no_second_name_it_is_copied(
    folders: tuple[Folder, Folder], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(source: str, _target: str, **_where: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted", source)

    monkeypatch.setattr(os, "link", refuse)
    one, two = folders
    two.link(one, "1.pack")
    assert (two.path / "1.pack").read_bytes() == b"data"
    assert two.names("") == ["1.pack"]


def test_what_is_no_file_of_the_folder_is_not_there(folders: tuple[Folder, Folder], tmp_path: Path) -> None:
    one, two = folders
    (tmp_path / "secret.pack").write_bytes(b"secret")
    (one.path / "2.pack").symlink_to(tmp_path / "secret.pack")
    os.mkfifo(one.path / "3.pack")
    assert one.names(".pack") == ["1.pack"]
    for name in ("2.pack", "3.pack", "../secret.pack"):
        with pytest.raises(OSError), one.open(name):  # noqa: PT011  # by several numbers
            pass
        with pytest.raises(OSError):  # noqa: PT011
            two.link(one, name)
    one.remove("../secret.pack")
    assert (tmp_path / "secret.pack").exists()
    assert two.names("") == []


def test_a_link_to_a_directory_is_an_empty_folder(folders: tuple[Folder, Folder], tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(folders[0].path)
    with Folder(tmp_path / "link") as linked:
        assert linked.names("") == []
        linked.remove("1.pack")
    # One that is held stays the same, whatever is put in its place.
    one, two = folders
    one.path.rename(tmp_path / "moved")
    one.path.symlink_to(two.path)
    assert one.names("") == ["1.pack"]
