"""Restores a checkpoint, group by group, when a group is needed."""

from __future__ import annotations

import gc
import io
import pickle
from collections.abc import Collection
from pathlib import Path
from typing import Any

import msgpack  # type: ignore[import-untyped]

from capsule_worker.checkpoints.pickling.class_registry import ClassRegistry
from capsule_worker.checkpoints.pickling.pickler import NamespaceUnpickler
from capsule_worker.checkpoints.pickling.placeholder import Placeholder
from capsule_worker.checkpoints.storage.pack_format import DamagedError, unpack_chunks
from capsule_worker.checkpoints.storage.pack_reader import PackReader
from capsule_worker.checkpoints.writing.job import SHELL, SavedGroup, content_digest, describe
from capsule_worker.protocol import manifest as mf

#: Bytes of a pickle that are looked at at a time.
_READ = 128 * 1024


class _Loaded(BaseException):
    """A group was loaded while the classes that it is made of were, since they refer to it in turn."""


class Restorer:
    """Loads the groups of one checkpoint into a namespace.

    Args:
        directory: the session's, where the packs are.
        manifest: the checkpoint.
        namespace: the notebook's globals.
        definitions: the classes.
        wanted: names to restore; None for all.
        fresh: whether all classes are made anew; otherwise those that live here are taken.
    """

    def __init__(
        self,
        directory: Path,
        manifest: mf.Manifest,
        namespace: dict[str, Any],
        definitions: ClassRegistry,
        *,
        wanted: Collection[str] | None = None,
        fresh: bool = True,
    ) -> None:
        self.namespace = namespace
        self.manifest = manifest
        #: Why names could not be restored.
        self.failed: dict[str, str] = {}
        self._reader = PackReader(directory)
        self._definitions = definitions
        self._fresh = fresh
        self._wanted = None if wanted is None else frozenset(wanted)
        self._variables = {variable.name: variable for variable in manifest.variables}
        self._definers = {uid: index for index, group in enumerate(manifest.groups) for uid in group.defines}
        self._classes: dict[str, type] = {}
        #: Why classes could not be restored, by id.
        self._broken: dict[str, str] = {}
        #: Groups that are being loaded, each because of the one before it.
        self._loading: list[int] = []
        #: Groups that are still to be loaded, by their place in the manifest.
        self._waiting = {
            index: group
            for index, group in enumerate(manifest.groups)
            if wanted is None or not self._wanted.isdisjoint(group.names)  # type: ignore[union-attr]  # not None here
        }
        #: What was loaded, or failed to be, as it is on disk.
        self.kept: dict[int, SavedGroup] = {}
        for variable in manifest.variables:
            if variable.reason is not None and (self._wanted is None or variable.name in self._wanted):
                self.failed[variable.name] = variable.reason
                namespace[variable.name] = Placeholder(variable)

    @property
    def done(self) -> bool:
        """Whether everything is loaded that was wanted."""
        return not self._waiting

    def waiting(self) -> set[str]:
        """Return the names that are not loaded yet."""
        return {name for group in self._waiting.values() for name in group.names}

    def load(self, names: Collection[str]) -> None:
        """Load the groups of variables. A variable that cannot be loaded is in ``failed``, and gets a placeholder.

        Args:
            names: names of variables.
        """
        for index, group in list(self._waiting.items()):
            # Loading one may have loaded another: a second time its classes would get other contents.
            if index in self._waiting and (not group.names or any(name in names for name in group.names)):
                self._load(index)

    def load_all(self) -> None:
        """Load everything that is wanted."""
        while self._waiting:
            self.load_next()

    def load_next(self) -> None:
        """Load one more group: small ones first, so that most names exist soon."""
        if self._waiting:
            self._load(min(self._waiting, key=lambda index: self._waiting[index].size))

    def shell_state(self) -> dict[str, Any]:
        """Return the interpreter's own state.

        Raises:
            DamagedError: it is damaged.
        """
        record = self._reader.blob(self.manifest.shell.record)
        values, _ = self._unpickle(record)
        state: dict[str, Any] = values[SHELL]
        return state

    def all_kept(self) -> list[SavedGroup]:
        """Return all groups of the checkpoint as they are on disk; those that are damaged are left out."""
        found = []
        for index, group in enumerate(self.manifest.groups):
            kept = self.kept.get(index)
            if kept is None and not any(name in self.failed for name in group.names):
                try:
                    kept = self._kept(group, self._reader.blob(group.record))
                except DamagedError:
                    continue
            if kept is not None:
                found.append(kept)
        return found

    def close(self) -> None:
        """Close the files."""
        self._reader.close()

    # -- as the unpickler's definer --------------------------------------------------------------------------

    def begin(self, uid: str, cls: type) -> None:
        """Record a class whose attributes follow.

        Args:
            uid: the id of the class.
            cls: the class, without attributes.
        """
        # A class that refers to itself in its arguments is made twice, and the second one is dropped.
        if self._classes.setdefault(uid, cls) is cls:
            self._definitions.remember(uid, cls)

    def find(self, uid: str) -> type:
        """Return a class, loading it if need be.

        Args:
            uid: the id of the class.

        Raises:
            UnpicklingError: it is not in this checkpoint.
        """
        cls = self._classes.get(uid)
        if cls is None and not self._fresh:
            cls = self._definitions.get(uid)
        if cls is None and uid in self._definers and uid not in self._broken:
            begun = self._has_begun()
            self._load(self._definers[uid])
            if not begun and self._has_begun():
                raise _Loaded
            cls = self._classes.get(uid)
        if cls is None:
            raise pickle.UnpicklingError(f"its class was not restored: {self._broken.get(uid, 'it was not saved')}")
        return cls

    # -- loading ---------------------------------------------------------------------------------------------

    def _load(self, index: int) -> None:
        """Load a group, its names only if they are waiting: otherwise it is for its classes."""
        group = self.manifest.groups[index]
        collecting = gc.isenabled()
        gc.disable()  # what is made here is kept, and looking through it again and again takes as long as making it
        self._loading.append(index)
        there = len(self._classes)
        try:
            record = self._reader.blob(group.record)
            values, _ = self._unpickle(record)
        except _Loaded:
            return
        # Data that is damaged, a library that is not installed or that cannot read what another version wrote.
        except (Exception, SystemExit) as error:
            self._drop_classes(there)
            self._fail(index, str(error) if isinstance(error, DamagedError) else describe(error))
            return
        except BaseException:
            self._drop_classes(there)
            raise
        finally:
            self._loading.pop()
            if collecting:
                gc.enable()
        self.kept[index] = self._kept(group, record)
        if self._waiting.pop(index, None) is None:
            return
        for name, value in values.items():
            if self._wanted is None or name in self._wanted:
                self.namespace[name] = value

    def _has_begun(self) -> bool:
        """Whether the classes of the group that is being loaded exist, though not all of their attributes."""
        defines = self.manifest.groups[self._loading[-1]].defines if self._loading else []
        return bool(defines) and all(uid in self._classes for uid in defines)

    def _drop_classes(self, there: int) -> None:
        """Forget all classes but the first ones: those after them may be made in part, or of what is."""
        for uid in list(self._classes)[there:]:
            del self._classes[uid]

    def _fail(self, index: int, reason: str) -> None:
        group = self.manifest.groups[index]
        self._broken.update(dict.fromkeys(group.defines, reason))
        if self._waiting.pop(index, None) is None:
            return
        for name in group.names:
            if self._wanted is None or name in self._wanted:
                self.failed[name] = reason
                if self._wanted is not None and name in self.namespace:
                    continue  # the value in the namespace is better than none
                self.namespace[name] = Placeholder(self._variables[name].model_copy(update={"reason": reason}))

    def _unpickle(self, record: bytes) -> Any:
        fields = msgpack.unpackb(record)
        packs = fields["packs"]
        read = self._reader.chunk
        data = b"".join(read(chunk) for chunk in unpack_chunks(fields["stream"], packs))
        stream = io.BufferedReader(io.BytesIO(data), _READ)
        buffers = []
        for size, readonly, references in fields["buffers"]:
            view = self._reader.buffer(list(unpack_chunks(references, packs)), size)
            buffers.append(view.toreadonly() if readonly else view)
        return NamespaceUnpickler(stream, buffers, self).load()

    def _kept(self, group: mf.Group, record: bytes) -> SavedGroup:
        fields = msgpack.unpackb(record)
        references = [fields["stream"], *(item[2] for item in fields["buffers"])]
        chunks = [chunk for each in references for chunk in unpack_chunks(each, fields["packs"])]
        variables = {name: self._variables[name] for name in group.names}
        return SavedGroup(group, record, variables, content_digest(chunks))
