"""A directory that cells can write to: only its own regular files are read, linked and removed."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from capsule_durable.storage.safe_directory import SafeDirectory


@pytest.fixture
def directories(tmp_path: Path) -> Iterator[tuple[SafeDirectory, SafeDirectory]]:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    (tmp_path / "one" / "1.pack").write_bytes(b"data")
    with SafeDirectory(tmp_path / "one") as one, SafeDirectory(tmp_path / "two") as two:
        yield one, two


def test_a_linked_file_survives_the_removal_of_the_original(directories: tuple[SafeDirectory, SafeDirectory]) -> None:
    one, two = directories
    two.link(one, "1.pack")
    two.link(one, "1.pack")
    assert (one.path / "1.pack").samefile(two.path / "1.pack")
    one.remove("1.pack")
    assert (two.path / "1.pack").read_bytes() == b"data"
    with pytest.raises(FileNotFoundError):
        two.link(one, "1.pack")


def test_where_files_cannot_be_linked_they_are_copied(
    directories: tuple[SafeDirectory, SafeDirectory], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(source: str, _target: str, **_where: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted", source)

    monkeypatch.setattr(os, "link", refuse)
    one, two = directories
    two.link(one, "1.pack")
    assert (two.path / "1.pack").read_bytes() == b"data"
    assert two.names("") == ["1.pack"]


def test_links_pipes_and_other_directories_count_as_missing(
    directories: tuple[SafeDirectory, SafeDirectory], tmp_path: Path
) -> None:
    one, two = directories
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


def test_a_link_to_a_directory_is_an_empty_directory(
    directories: tuple[SafeDirectory, SafeDirectory], tmp_path: Path
) -> None:
    (tmp_path / "link").symlink_to(directories[0].path)
    with SafeDirectory(tmp_path / "link") as linked:
        assert linked.names("") == []
        linked.remove("1.pack")
    # One that is held stays the same, whatever is put in its place.
    one, two = directories
    one.path.rename(tmp_path / "moved")
    one.path.symlink_to(two.path)
    assert one.names("") == ["1.pack"]
