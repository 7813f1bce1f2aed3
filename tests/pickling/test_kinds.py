"""Objects of every kind come back after the process that made them is killed: as they were, and alive.

Each kind has a test of its own for each way. One kernel runs the cells of many kinds, and the tests read the results:
that is a matter of seconds, most of which are spent once.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest

from capsule_worker.checkpoints.analysis.name_usage import name_usage
from tests.support.kernels import KILL, Kernel, kernel
from tests.support.kinds import TABLES, Kind, is_installed

#: Tables whose cells run in one kernel.
KERNELS = {
    "language": ("values", "containers", "functions", "classes"),
    "library": ("standard", "gone"),
    "data": ("arrays", "frames", "columns"),
    "science": ("science", "models", "pictures"),
}
#: Whether objects come back once, or before they are changed, too.
ONCE, TWICE = "changed", "changed after it came back"
#: Keeps the process from being copied: what comes back comes from a checkpoint.
ALONE = "import socket\nsocket.kept = socket.socket()"
EXPECT_GONE = '''
def expect_gone(name):
    """Show that a variable says why it was not restored, and refuses everything else."""
    value = globals()[name]
    assert repr(value).startswith(f"<{name} (") and " was not restored: " in repr(value), f"{name} is {value!r}"
    for use in (lambda: value(), lambda: value.attribute, lambda: len(value), lambda: value == 1, lambda: [*value]):
        try:
            use()
        except RuntimeError as error:
            assert type(error).__name__ == "NotRestoredError" and str(error).startswith(f"{name} (")
        else:
            raise AssertionError(f"{name} can be used")
'''
_COLORS = re.compile(r"\x1b\[[0-9;]*m")


class Lifecycle:
    """The cells of many kinds in one kernel, whose worker is killed on the way.

    Args:
        one: the kernel.
        kinds: all that it runs.
        twice: whether objects come back before they are changed, too.
    """

    def __init__(self, one: Kernel, kinds: Sequence[Kind], *, twice: bool) -> None:
        self._kernel = one
        self._kinds = [kind for kind in kinds if is_installed(kind) and not (twice and kind.unsaved)]
        self._twice = twice
        #: Why kinds failed, by their names.
        self.failures: dict[str, str] = {}

    def run(self, scratch: Path) -> None:
        """Run all cells."""
        self._kernel.ok(f"{ALONE}\nfrom pathlib import Path\nscratch = Path({str(scratch)!r})")
        # First what touches only what it names: the other cells have everything saved, which hides what is overlooked.
        plain = [kind for kind in self._kinds if not _reaches_all(kind.setup, kind.change)]
        for batch in (plain, [kind for kind in self._kinds if kind not in plain]):
            self._run("setup", batch)
            self._kernel.ok("%capsule checkpoint after-setup")
            if self._twice:
                self._die()
            self._run("change", batch)
            # Saves what cells can have changed since: what is overlooked is lost.
            self._kernel.ok("%capsule checkpoint after-change")
            self._die()
            # First what needs only what it names: the other cells have everything loaded.
            plain_checks = [kind for kind in batch if not (_reaches_all(kind.check) or kind.unsaved)]
            self._run("check", plain_checks)
            self._kernel.ok(EXPECT_GONE)
            self._run("check", [kind for kind in batch if kind not in plain_checks])

    def _run(self, cell: str, kinds: Sequence[Kind]) -> None:
        for kind in kinds:
            done = self._kernel.run(getattr(kind, cell))
            self._kernel.talk.heard.clear()  # it is looked through for every answer
            if done.reply["status"] != "ok":
                traceback = "\n".join(line for error in done.of("error") for line in error["traceback"])
                self.failures.setdefault(kind.name, f"{cell}: {_COLORS.sub('', traceback) or done.reply}")

    def _die(self) -> None:
        self._kernel.died(KILL)
        assert "Last recovery: from a checkpoint" in self._kernel.shown("%capsule status")
        self._kernel.ok(ALONE)


def _reaches_all(*cells: str) -> bool:
    """Whether cells may touch every variable."""
    return any(name_usage(cell).anything is not None for cell in cells)


@pytest.fixture(scope="module")
def failures(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Mapping[str, str]]:
    """Return a function that runs the cells of one kernel, once, and returns why kinds failed, by their names."""

    @functools.cache
    def run(name: str, way: str) -> Mapping[str, str]:
        folder = tmp_path_factory.mktemp(name, numbered=True)
        scratch = folder / "scratch"
        scratch.mkdir()
        kinds = [kind for table in KERNELS[name] for kind in TABLES[table]]
        with kernel(folder / "home", spare=False) as one:
            lifecycle = Lifecycle(one, kinds, twice=way == TWICE)
            lifecycle.run(scratch)
        return lifecycle.failures

    return run


@pytest.mark.parametrize(
    ("name", "way", "kind"),
    [
        # Tests whose names begin alike and end alike run in one process: see tests/conftest.py.
        pytest.param(name, way, kind, id=f"{name}: {kind.name}, {way}")
        for name, tables in KERNELS.items()
        for way in (ONCE, TWICE)
        for table in tables
        for kind in TABLES[table]
        if way == ONCE or not kind.unsaved
    ],
)
def test_it_comes_back(name: str, way: str, kind: Kind, failures: Callable[[str, str], Mapping[str, str]]) -> None:
    if not is_installed(kind):
        pytest.skip(f"needs {', '.join(kind.needs)}")
    failure = failures(name, way).get(kind.name)
    assert failure is None, failure


def test_no_table_is_forgotten() -> None:
    assert sorted(table for tables in KERNELS.values() for table in tables) == sorted(TABLES)
