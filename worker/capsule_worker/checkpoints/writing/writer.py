"""Takes the state of a namespace to disk: pickles what may have changed, keeps the rest as it was."""

from __future__ import annotations

import contextlib
import os
import pickle
import platform
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType, ModuleType

import msgpack  # type: ignore[import-untyped]

from capsule_worker.checkpoints.analysis.name_usage import names_used
from capsule_worker.checkpoints.analysis.sharing import partition
from capsule_worker.checkpoints.pickling.pickler import NamespacePickler, PlainPickler, Unit
from capsule_worker.checkpoints.pickling.reducers import stand_in
from capsule_worker.checkpoints.storage.pack_format import (
    Chunk,
    StorageError,
    digest_of,
    pack_chunks,
)
from capsule_worker.checkpoints.storage.pack_writer import PackWriter, only_in, write_file
from capsule_worker.checkpoints.writing.compaction import compact
from capsule_worker.checkpoints.writing.forked_writer import HANGS
from capsule_worker.checkpoints.writing.job import (
    SHELL,
    CheckpointJob,
    Outcome,
    SavedGroup,
    chunks_of,
    content_digest,
    describe,
    type_name,
)
from capsule_worker.checkpoints.writing.pickle_stream import PickleStream, Progress
from capsule_worker.checkpoints.writing.publish import draft_of, pack_name, publish
from capsule_worker.protocol import manifest as mf

_PYTHON = platform.python_version()


@dataclass
class _Pickled:
    unit: Unit
    pickler: NamespacePickler | PlainPickler
    stream: list[Chunk]


class Writer:
    """Carries out one job.

    Args:
        job: what is to be done.
        progress: called while it is written; None if nothing watches.
        blamed: what is not to be tried, as ``progress`` was told, and why.
        everywhere: whether chunks are looked for in all groups, which takes milliseconds a gigabyte.
    """

    def __init__(
        self,
        job: CheckpointJob,
        progress: Progress | None = None,
        blamed: Mapping[str, str] = MappingProxyType({}),
        *,
        everywhere: bool = True,
    ) -> None:
        self._job = job
        self._progress = progress
        self._blamed = blamed
        known: dict[bytes, Chunk] = {}
        for kept in [*(job.kept if everywhere else ()), *job.before.values()]:
            for chunk in chunks_of(kept.record):
                known[chunk.digest] = chunk
        self._known = known
        report = None if progress is None else lambda written: progress(written, None)
        self._pack = PackWriter(job.directory, pack_name(job.head), known, report)
        self._process = os.getpid()
        self._published = False
        self._draft: Path | None = None
        #: Why variables cannot be saved.
        self._reasons = {name: variable.reason or "" for name, variable in job.unsaveable.items()}
        #: Why classes cannot be saved, by id.
        self._broken: dict[str, str] = {}
        #: Types of values over which a writer has hung.
        self._hanging: dict[type, str] = {}
        #: What could not be pickled in one piece.
        self._apart: set[frozenset[str]] = set()
        #: Variables that could not be saved.
        self._unsaved = dict(job.unsaveable)

    def prepare(self, *, rewrite: bool) -> None:
        """Take the state: after this the namespace may change.

        Args:
            rewrite: whether to free packs that are mostly of no use, which reads them.

        Raises:
            StorageError: the disk is full, or cannot be written.
        """
        pieces, kept = self._without_broken_classes(self._pickle_all())
        kept = [*kept, *[self._keep(piece) for piece in pieces]]
        kept.append(self._keep(self._pickle(Unit({SHELL: self._job.shell}))))
        if self._progress is not None:
            self._progress(self._pack.written, "")  # no variable is to blame for what follows
        if rewrite:
            kept = compact(kept, self._job.directory, self._pack)
        self._shell = kept.pop()
        self._kept = kept

    def stage(self) -> Outcome:
        """Hand all of it to the system, the manifest last, as a draft; return what comes of it if nothing fails.

        If this process ends before ``commit``, a front that goes on can do the rest.

        Raises:
            StorageError: the disk is full, or cannot be written.
        """
        self._pack.stage()
        only_in(self._process)
        kept, shell, unsaved = self._kept, self._shell, self._unsaved
        size = sum([one.group.size for one in kept]) + shell.group.size
        written, duration = self._pack.written, time.time() - self._job.head.time
        head = self._job.head.model_copy(update={"bytes_written": written, "duration": duration, "python": _PYTHON})
        data = mf.assemble(
            head,
            [*[variable for one in kept for variable in one.packed[1]], *map(mf.pack, unsaved.values())],
            [one.packed[0] for one in kept],
            shell.packed[0],
        )
        draft = draft_of(self._job.directory, head)
        try:
            write_file(draft, data)
        except OSError as error:
            with contextlib.suppress(OSError):
                draft.unlink()
            raise StorageError(f"{draft}: {error.strerror}") from error
        self._draft = draft
        return Outcome(kept, shell, unsaved, size, written, duration)

    def commit(self) -> None:
        """Bring it to the disk, after ``stage``; its manifest gets its name, and counts, when all else is there.

        Raises:
            StorageError: the disk is full, or cannot be written.
        """
        assert self._draft is not None, "stage() comes first"
        self._pack.finish()
        publish(self._draft, self._note_published)

    def discard(self) -> None:
        """Remove what was written of a checkpoint that comes to nothing.

        The draft stands for the data: if it is there no more, a front has finished what it took for a dead writer's,
        and the data is needed.
        """
        if self._published:
            return
        if self._draft is not None:
            try:
                self._draft.unlink()
            except FileNotFoundError:
                return
            except OSError:
                pass  # then it refers to nothing, and is set aside
        self._pack.discard()

    def _note_published(self) -> None:
        self._published = True

    # -- pickling --------------------------------------------------------------------------------------------

    def _pickle_all(self) -> list[_Pickled]:
        """Pickle what is dirty, and merge what turns out to share objects."""
        job = self._job
        waiting = [
            Unit({name: job.namespace[name] for name in names if name not in self._reasons}) for names in job.dirty
        ]
        done: list[_Pickled] = []
        waiting += [Unit({}, {uid: cls}) for uid, cls in job.required.items()]
        defined = {uid for kept in job.kept for uid in kept.group.defines} | job.required.keys()
        while waiting:
            for unit in waiting:
                done.extend(self._try(unit))
            waiting = []
            for piece in done:
                for uid, cls in piece.pickler.needs.items():
                    if uid not in defined:
                        defined.add(uid)
                        waiting.append(Unit({}, {uid: cls}))
            if not waiting:
                done, waiting = self._merge(done)
        return done

    def _merge(self, done: list[_Pickled]) -> tuple[list[_Pickled], list[Unit]]:
        """Return the pieces that share nothing, and units of what belongs together."""
        if len(done) < 2:  # noqa: PLR2004  # one shares nothing with others
            return done, []
        groups = partition({index: piece.pickler.shareable() for index, piece in enumerate(done)})
        alone, merged = [], []
        for group in groups:
            unit = Unit({})
            for index in group:
                unit = unit.merged(done[index].unit)
            if len(group) == 1 or unit.key in self._apart:
                alone += [done[index] for index in group]
            else:
                merged.append(unit)
        return alone, merged

    def _try(self, unit: Unit) -> list[_Pickled]:
        """Pickle a unit; where that fails, its parts one by one, and note why one cannot be."""
        if not unit.values and not unit.classes:
            return []
        label = label_of(unit) if self._blamed or self._progress is not None else ""
        try:
            fault = self._blamed.get(label) or self._suspicion(unit)
            if fault is not None:
                if HANGS in fault:
                    self._hanging.update((type(value), fault) for value in unit.values.values())
                raise pickle.PicklingError(fault)
            if self._progress is not None:
                self._progress(self._pack.written, label)
            return [self._pickle(unit)]
        except StorageError:
            raise
        # Whatever the user's objects raise when they are asked for their state.
        except BaseException as error:
            only_in(self._process)
            parts = unit.parts()
            if len(parts) > 1:
                self._apart.add(unit.key)
                return [piece for part in parts for piece in self._try(part)]
            for name in unit.values:
                self._give_up(name, describe(error))
            for uid, cls in unit.classes.items():
                self._broken[uid] = f"its class {cls.__qualname__} cannot be saved: {describe(error)}"
            return []

    def _suspicion(self, unit: Unit) -> str | None:
        """Return why a value is not tried: one of its type has hung, and each that hangs takes its time."""
        if len(unit.values) != 1 or unit.classes:
            return None
        kind = type(*unit.values.values())
        return self._hanging.get(kind) if kind.__module__ != "builtins" else None

    def _give_up(self, name: str, reason: str) -> None:
        self._reasons[name] = reason
        self._unsaved[name] = self._variable(name, 0, b"", reason)

    def _without_broken_classes(self, done: list[_Pickled]) -> tuple[list[_Pickled], list[SavedGroup]]:
        """Leave out what needs a class that cannot be saved, what did not change included."""
        kept = self._job.kept
        while self._broken:
            whole = [
                piece for piece in done if self._is_whole(piece.pickler.needs, piece.unit.values, piece.unit.classes)
            ]
            rest = [one for one in kept if self._is_whole(one.group.needs, one.group.names, one.group.defines)]
            if len(whole) + len(rest) == len(done) + len(kept):
                break
            done, kept = whole, rest
        return done, kept

    def _is_whole(self, needs: Iterable[str], names: Iterable[str], classes: Iterable[str]) -> bool:
        """Return whether all classes that are needed can be saved; note what that costs otherwise."""
        reason = next((self._broken[uid] for uid in needs if uid in self._broken), None)
        if reason is None:
            return True
        for name in names:
            self._give_up(name, reason)
        self._broken.update(dict.fromkeys(classes, reason))
        return False

    def _pickle(self, unit: Unit) -> _Pickled:
        stream = PickleStream(self._pack, self._progress)
        if self._is_plain(unit):
            plain = PlainPickler(stream)
            plain.dump((unit.values, {}))
            return _Pickled(unit, plain, stream.finish())
        pickler = NamespacePickler(stream, self._job.namespace, self._job.definitions, unit.classes)
        ready = self._job.ready
        values = {
            name: ready.get(id(value)) or stand_in(value, self._job.namespace) for name, value in unit.values.items()
        }
        pickler.dump((values, unit.classes))
        only_in(self._process)
        return _Pickled(unit, pickler, stream.finish())

    def _is_plain(self, unit: Unit) -> bool:
        """Whether there is nothing in a unit that a pickler would have to be told about."""
        if unit.classes or ModuleType in map(type, unit.values.values()):
            return False
        return SHELL in unit.values or self._job.plain.issuperset(unit.values)

    # -- keeping ---------------------------------------------------------------------------------------------

    def _keep(self, piece: _Pickled) -> SavedGroup:
        """Write a group's buffers and record, unless all of it is there already."""
        pickler, unit = piece.pickler, piece.unit
        if self._progress is not None:
            self._progress(self._pack.written, label_of(unit))  # a file that an array is mapped from may be gone
        buffers = []
        for buffer in pickler.buffers:
            with buffer.raw() as raw:
                buffers.append((raw.nbytes, raw.readonly, self._pack.buffer(raw)))
        chunks = [*piece.stream, *[chunk for _, _, several in buffers for chunk in several]]
        digest = content_digest(chunks)
        size = sum([chunk.size for chunk in chunks])
        before = self._job.before.get(unit.key)
        variables = self._variables(unit, size, digest)
        if before is not None and before.digest == digest:
            return replace(before, variables=variables)
        packs: list[str] = []
        record = msgpack.packb(
            {
                "stream": pack_chunks(piece.stream, packs),
                "buffers": [[size, readonly, pack_chunks(several, packs)] for size, readonly, several in buffers],
                "packs": packs,
            }
        )
        group = mf.Group(
            names=list(unit.values),
            defines=list(unit.classes),
            needs=list(pickler.needs),
            reads=sorted(names_used(pickler.codes)),
            modules=sorted(pickler.modules),
            plain=bool(unit.values) and self._job.plain.issuperset(unit.values),
            record=self._pack.blob(record),
            packs=sorted({chunk.pack for chunk in chunks if chunk.stored}),
            size=size,
        )
        return SavedGroup(group, record, variables, digest)

    def _variables(self, unit: Unit, size: int, digest: bytes) -> dict[str, mf.Variable]:
        """Describe the variables of a unit: by what the group is, or one by one where they are plain."""
        if not self._job.plain.issuperset(unit.values):
            return {name: self._variable(name, size, digest, None) for name in unit.values}
        described = {}
        for name, value in unit.values.items():
            if name in self._job.same:
                described[name] = self._job.same[name]
                continue
            data = value.__name__.encode() if isinstance(value, ModuleType) else pickle.dumps(value, 5)
            described[name] = self._variable(name, len(data), digest_of(data), None)
        return described

    def _variable(self, name: str, size: int, digest: bytes, reason: str | None) -> mf.Variable:
        value = self._job.namespace.get(name)
        return mf.Variable(
            name=name,
            type=type_name(value),
            size=size,
            cell=self._job.cells.get(name),
            reason=reason,
            digest=digest,
        )


def label_of(unit: Unit) -> str:
    """Return by what a unit is known where its progress is told: a hash, and its names as far as they fit."""
    names = [*sorted(unit.values), *sorted(unit.classes)]
    return f"{digest_of(chr(0).join(names).encode('utf-8', 'replace')).hex()} {', '.join(names)}"[:1000]
