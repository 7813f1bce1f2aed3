"""Connection files: found, filled in, made."""

from __future__ import annotations

import json
import os
import stat
from typing import TYPE_CHECKING, Any

import pytest

from capsule_kernel.jupyter.connection_file import PORTS, ConnectionFileError, place, resolve

if TYPE_CHECKING:
    from pathlib import Path

WHOLE = {port: 50_000 + number for number, port in enumerate(PORTS)} | {"key": "abc", "ip": "127.0.0.1"}


@pytest.fixture(autouse=True)
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return Jupyter's runtime directory, which does not exist yet; the working directory is another."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "run"))
    return tmp_path / "run"


def read(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text()))


def test_what_a_manager_has_written_stays_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "kernel.json"
    path.write_text(json.dumps(WHOLE))
    file = resolve(str(path), {"ip": "0.0.0.0", "hb_port": 7})
    file.publish()
    file.close()
    assert file.values == read(path) == WHOLE


@pytest.mark.parametrize("name", [None, "mine.json", "folder/mine.json"])
def test_a_file_that_is_not_there_is_made_for_us_alone_and_removed(runtime: Path, name: str | None) -> None:
    file = resolve(name, {})
    known = {None: runtime / f"kernel-{os.getpid()}.json", "mine.json": runtime / "mine.json"}
    assert file.path.absolute() == known.get(name, runtime.parent / "work" / "folder" / "mine.json")
    assert not file.path.exists()
    file.publish()
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o600
    values = read(file.path)
    assert len(values["key"]) >= 32
    assert (values["ip"], values["transport"], values["signature_scheme"]) == ("127.0.0.1", "tcp", "hmac-sha256")
    # The key is nowhere but where cells do not look.
    assert file.path.resolve().parent == runtime
    assert [each.name for each in runtime.iterdir()] == [file.path.resolve().name]
    file.close()
    assert not file.path.is_symlink()
    assert list(runtime.iterdir()) == []


def test_ports_that_are_left_open_are_written_where_they_were_missing(tmp_path: Path) -> None:
    path = tmp_path / "kernel.json"
    path.write_text(json.dumps(WHOLE | {"shell_port": 0, "hb_port": 0, "more": 1}))
    before = path.stat().st_ino
    file = resolve(str(path), {"hb_port": 50_900})
    assert (file.values["shell_port"], file.values["hb_port"]) == (0, 50_900)
    file.values["shell_port"] = 50_901
    file.publish()
    assert read(path).items() >= (WHOLE | {"shell_port": 50_901, "hb_port": 50_900, "more": 1}).items()
    file.close()
    assert path.stat().st_ino == before


def test_sockets_in_the_file_system_get_names_that_are_free(tmp_path: Path) -> None:
    (tmp_path / "kernel-ipc-2").touch()
    values = resolve(str(tmp_path / "kernel.json"), {"transport": "ipc"}).values
    assert values["ip"] == str(tmp_path / "kernel-ipc")
    assert sorted(values[port] for port in PORTS) == [1, 3, 4, 5, 6]


@pytest.mark.parametrize("text", ["no JSON", "[1]"])
def test_an_invalid_file_is_reported(tmp_path: Path, text: str) -> None:
    path = tmp_path / "kernel.json"
    path.write_text(text)
    with pytest.raises(ConnectionFileError, match=str(path)):
        resolve(str(path), {})
    assert path.read_text() == text


def test_a_name_is_looked_for_here_first(runtime: Path) -> None:
    assert place("mine.json", 7) == runtime / "mine.json"
    (runtime.parent / "work" / "mine.json").touch()
    assert place("mine.json", 7).absolute() == runtime.parent / "work" / "mine.json"
    assert place(None, 7) == runtime / "kernel-7.json"
