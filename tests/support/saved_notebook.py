"""A namespace with checkpoints and nothing around it: no kernel, no cells, no front."""

from __future__ import annotations

import contextlib
import itertools
import os
import sys
import textwrap
import types
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from cloudpickle import cloudpickle  # type: ignore[import-untyped]

from capsule_worker.checkpoints.analysis.delta import delta
from capsule_worker.checkpoints.analysis.small_values import is_atom
from capsule_worker.checkpoints.pickling.class_registry import ClassRegistry
from capsule_worker.checkpoints.restorer import Restorer
from capsule_worker.checkpoints.writing.job import CheckpointJob, Outcome, SavedGroup
from capsule_worker.checkpoints.writing.writer import Writer
from capsule_worker.protocol import manifest as mf

_ids = itertools.count(1)


class Notebook:
    """What a worker holds of a notebook, as far as checkpoints are concerned.

    Args:
        directory: where checkpoints lie; it is made if there is none.
        session: the session's id.
    """

    def __init__(self, directory: Path, session: str = "session") -> None:
        self.directory = directory
        self.session = session
        for part in (mf.PACKS, mf.INCOMING):
            (directory / part).mkdir(parents=True, exist_ok=True)
        self.module = types.ModuleType("__main__")
        self.namespace: dict[str, Any] = self.module.__dict__
        self._internal = {*self.namespace, "__builtins__", "__annotations__"}
        self.definitions = ClassRegistry()
        self.kept: list[SavedGroup] = []
        self.shell: SavedGroup | None = None
        self.number = 1
        self._ids: dict[str, int] = {}

    @contextlib.contextmanager
    def as_main(self) -> Iterator[None]:
        """Be the module ``__main__``, as the namespace of a worker is."""
        before = sys.modules["__main__"]
        sys.modules["__main__"] = self.module
        try:
            yield
        finally:
            sys.modules["__main__"] = before

    def run(self, code: str) -> None:
        """Run a cell."""
        with self.as_main():
            exec(compile(textwrap.dedent(code), "<cell>", "exec", dont_inherit=True), self.namespace)

    def __getitem__(self, name: str) -> Any:
        return self.namespace[name]

    def values(self) -> dict[str, Any]:
        return {name: value for name, value in self.namespace.items() if name not in self._internal}

    def job(self, reached: Collection[str] | None = None, changed: Collection[str] | None = None) -> CheckpointJob:
        """Return what the next checkpoint is made of.

        Args:
            reached: names whose objects may have changed; None for all.
            changed: names that were bound anew; None for those that have another value by now.
        """
        present = {name: is_atom(value) for name, value in self.values().items()}
        if changed is None:
            changed = {name for name in present if self._ids.get(name) != id(self.namespace[name])}
        found = delta([kept.group for kept in self.kept], present, changed, reached)
        stale = [self.kept[place] for place in found.stale]
        before = {frozenset([*kept.group.names, *kept.group.defines]): kept for kept in stale}
        if self.shell is not None:
            before[frozenset(self.shell.group.names)] = self.shell
        required = {uid: self.definitions.get(uid) for uid in found.required}
        head = mf.Manifest.model_construct(
            id=f"id{next(_ids):08x}",
            session=self.session,
            number=self.number,
            time=1_000_000.0 + self.number,
            execution_count=self.number,
            variables=[],
            groups=[],
        )
        self.number += 1
        return CheckpointJob(
            directory=self.directory,
            head=head,
            namespace=self.namespace,
            dirty=found.dirty,
            kept=[self.kept[place] for place in found.kept],
            before=before,
            shell={"path": ["/somewhere"]},
            cells={name: mf.SavedCell(number=7, line=f"{name} = ...") for name in present},
            definitions=self.definitions,
            plain=frozenset(name for name, plain in present.items() if plain),
            required={uid: cls for uid, cls in required.items() if cls is not None},
        )

    def save(
        self,
        reached: Collection[str] | None = None,
        changed: Collection[str] | None = None,
        *,
        rewrite: bool = True,
    ) -> Outcome:
        """Make a checkpoint; what it is about is in ``self.manifest``."""
        outcome = self.carry_out(Writer(self.job(reached, changed)), rewrite=rewrite)
        self.take(outcome)
        return outcome

    def carry_out(self, writer: Writer, *, rewrite: bool = True) -> Outcome:
        """Have a writer do its job."""
        with self.as_main():
            writer.prepare(rewrite=rewrite)
            outcome = writer.stage()
            writer.commit()
            return outcome

    def take(self, outcome: Outcome) -> None:
        """Continue from a checkpoint."""
        self.kept, self.shell = outcome.kept, outcome.shell
        self._ids = {name: id(value) for name, value in self.values().items()}

    @property
    def manifest(self) -> mf.Manifest:
        """The latest checkpoint that counts."""
        return self.manifests()[-1]

    def manifests(self) -> list[mf.Manifest]:
        """Return all checkpoints that count, oldest first."""
        return [mf.load(path.read_bytes()) for path in manifest_paths(self.directory)]

    def restored(self, manifest: mf.Manifest | None = None) -> Notebook:
        """Return a new notebook with all variables of a checkpoint restored, as in a new process."""
        forget_classes()
        fresh = Notebook(self.directory)
        fresh.restore(manifest or self.manifest)
        return fresh

    def restore(
        self, manifest: mf.Manifest, wanted: Collection[str] | None = None, *, fresh: bool = True
    ) -> dict[str, str]:
        """Restore a checkpoint into this notebook, and return what was not restored, and why."""
        restorer = Restorer(self.directory, manifest, self.namespace, self.definitions, wanted=wanted, fresh=fresh)
        with self.as_main():
            restorer.load_all()
        self.kept = restorer.all_kept()
        self._ids = {name: id(value) for name, value in self.values().items()}
        self.number = manifest.number + 1
        restorer.close()
        return restorer.failed


def forget_classes() -> None:
    """Have no class be known from the time before, as in a new process."""
    cloudpickle._DYNAMIC_CLASS_TRACKER_BY_CLASS.clear()
    cloudpickle._DYNAMIC_CLASS_TRACKER_BY_ID.clear()


def manifest_paths(directory: Path) -> list[Path]:
    """Return the files of the checkpoints that count, oldest first."""
    return sorted((directory / mf.INCOMING).glob(f"*{mf.MANIFEST_SUFFIX}"))


def pack_paths(directory: Path) -> list[Path]:
    """Return the packs, oldest first."""
    return sorted((directory / mf.PACKS).iterdir())


def size_on_disk(directory: Path) -> int:
    """Return the bytes of all files below a directory."""
    return sum((Path(folder) / name).stat().st_size for folder, _, names in os.walk(directory) for name in names)
