"""One module is all that a library needs: its objects, its global state, what it keeps and its threads."""

from __future__ import annotations

import importlib
import sys
import textwrap
import threading
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import pytest

from capsule_worker.checkpoints import adapters, shell_state
from capsule_worker.checkpoints.adapters import registry
from capsule_worker.checkpoints.adapters.registry import AdapterRegistry
from capsule_worker.checkpoints.analysis import reachability, small_values
from capsule_worker.checkpoints.pickling import pickler
from tests.support.saved_notebook import Notebook

if TYPE_CHECKING:
    from collections.abc import Callable

LIBRARY = """
seed = 1

class Handle:
    def __init__(self, number):
        self.number = number
        self.opened = [number]

    def __reduce__(self):
        raise TypeError('cannot be pickled')

class Special(Handle):
    pass
"""
ADAPTER = """
import sys
from capsule_worker.checkpoints.adapters.base import Adapter, RestoreError

def reduce_handle(handle):
    return open_handle, (type(handle), handle.number)

def open_handle(kind, number):
    return kind(number)

def save():
    return str(sys.modules['madeup'].seed).encode()

def restore(state):
    if state == b'bad':
        raise RestoreError('an unknown seed')
    sys.modules['madeup'].seed = int(state)

ADAPTER = Adapter(
    'madeup', {'madeup.Handle+': reduce_handle}, is_small=lambda value: value.number < 10,
    retains=frozenset({'madeup'}), save_state=save, restore_state=restore, fork_unsafe=frozenset({'madeup-pool'}),
)
"""


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., AdapterRegistry]:
    """Return a function that makes up a library and its adapter, and returns the registry that finds it."""

    def made(adapter: str = ADAPTER, *, imported: bool = True) -> AdapterRegistry:
        folders = {"library": LIBRARY, "adapters": adapter}
        for folder, source in folders.items():
            (tmp_path / folder).mkdir()
            (tmp_path / folder / "madeup.py").write_text(textwrap.dedent(source))
        monkeypatch.syspath_prepend(tmp_path / "library")
        monkeypatch.setattr(adapters, "__path__", [*adapters.__path__, str(tmp_path / "adapters")])
        importlib.invalidate_caches()
        found = AdapterRegistry()
        for user in (registry, shell_state, reachability, small_values, pickler):
            monkeypatch.setattr(user, "ADAPTERS", found)
        if imported:
            importlib.import_module("madeup")
        return found

    yield made
    for name in ("madeup", f"{adapters.__name__}.madeup"):
        sys.modules.pop(name, None)


def test_its_objects_come_back(make: Callable[..., AdapterRegistry], tmp_path: Path) -> None:
    make()
    notebook = Notebook(tmp_path / "session")
    notebook.run("import madeup; one = madeup.Handle(1); two = madeup.Special(2); both = [one, two]")
    assert notebook.save().unsaved == {}
    restored = notebook.restored()
    assert type(restored["two"]).__name__ == "Special"
    assert restored["both"] == [restored["one"], restored["two"]]
    assert [handle.opened for handle in restored["both"]] == [[1], [2]]


def test_without_it_they_cannot_be_saved(make: Callable[..., AdapterRegistry], tmp_path: Path) -> None:
    make("from capsule_worker.checkpoints.adapters.base import Adapter; ADAPTER = Adapter('madeup', {})")
    notebook = Notebook(tmp_path / "session")
    notebook.run("import madeup; one = madeup.Handle(1)")
    assert notebook.save().unsaved["one"].reason == "TypeError: cannot be pickled"


def test_its_small_values_are_pickled_in_the_worker(make: Callable[..., AdapterRegistry]) -> None:
    make()
    handle = importlib.import_module("madeup").Handle
    assert small_values.are_small([handle(1)], {})
    assert not small_values.are_small([handle(10)], {})


def test_it_may_keep_objects_of_the_notebook(make: Callable[..., AdapterRegistry]) -> None:
    make(imported=False)
    assert reachability.can_retain("madeup")


def test_its_global_state_is_saved_and_restored(make: Callable[..., AdapterRegistry]) -> None:
    found = make()
    library = importlib.import_module("madeup")
    library.seed = 7
    states = found.save_states()
    assert states["madeup"] == b"7"
    library.seed = 8
    assert found.restore_states(states) == {}
    assert library.seed == 7
    assert found.restore_states({"madeup": b"bad"}) == {"madeup": "RestoreError: an unknown seed"}


def test_it_is_loaded_when_its_library_is_imported(make: Callable[..., AdapterRegistry]) -> None:
    found = make(imported=False)
    assert "madeup" not in found.save_states()
    assert f"{adapters.__name__}.madeup" not in sys.modules
    importlib.import_module("madeup")
    assert found.save_states()["madeup"] == b"1"


def test_its_threads_do_not_survive_a_fork(make: Callable[..., AdapterRegistry]) -> None:
    found = make()
    assert found.fork_unsafe_thread() is None
    stop, named = threading.Event(), threading.Event()

    def wait() -> None:
        Path("/proc/thread-self/comm").write_text("madeup-pool-12")
        named.set()
        stop.wait()

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    named.wait()
    try:
        assert found.fork_unsafe_thread() == "madeup-pool-12"
    finally:
        stop.set()
        thread.join()


def test_an_adapter_that_cannot_be_loaded_is_reported_once_and_skipped(
    make: Callable[..., AdapterRegistry], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reports: list[str] = []
    monkeypatch.setattr(registry, "_report", reports.append)
    found = make("import madeup\nmadeup.gone_in_version_2\n")
    for _ in range(2):
        assert "madeup" not in found.save_states()
    notebook = Notebook(tmp_path / "session")
    notebook.run("import madeup; one = madeup.Handle(1)")
    assert notebook.save().unsaved["one"].reason == "TypeError: cannot be pickled"
    assert len(reports) == 1
    assert "madeup" in reports[0]


def test_a_library_without_adapter_may_keep_anything(make: Callable[..., AdapterRegistry]) -> None:
    found = make()
    assert found.can_retain("unheard_of")
    assert not found.can_retain("sklearn")
    assert found.reducer_for(type("Own", (), {"__module__": "unheard_of"})) is None


@pytest.mark.parametrize("name", ["numpy", "pandas", "polars", "pyarrow", "torch", "matplotlib", "bokeh", "IPython"])
def test_an_adapter_does_not_import_its_library(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in list(sys.modules):
        if module.partition(".")[0] == name:
            monkeypatch.delitem(sys.modules, module)
    full = f"{adapters.__name__}.{name.lower()}"
    monkeypatch.delitem(sys.modules, full, raising=False)
    adapter = AdapterRegistry().load(name)
    assert adapter is not None
    assert adapter.library == name
    assert not isinstance(sys.modules.get(name), ModuleType)
