"""Which variables cells can have changed: from what their code names to all that shares objects with that.

The walk goes from names to the groups that they are saved in (what shares objects is saved together), from functions
and classes to the names that their code uses, and through the hidden places where a module, a generator or a connection
may keep an object of the notebook (`HiddenReferences`). It looks at no data. When in doubt, the answer is "all".
"""

from __future__ import annotations

import functools
import re
import sys
import types
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from capsule_worker.checkpoints.adapters.known_libraries import INERT, RETAIN_THEIR_OWN
from capsule_worker.checkpoints.adapters.registry import ADAPTERS
from capsule_worker.checkpoints.analysis.name_usage import REACHES_ALL, NameUsage, names_used
from capsule_worker.checkpoints.analysis.small_values import is_atom

#: What is linked to this is linked to every module: cells that may have touched anything have seen it.
EVERY_MODULE = "*"
#: Items of a new container whose code is looked at; what made the others was named by a cell.
_MOST_ITEMS = 64
#: The modules of classes through which any code can be run.
_SHELL = frozenset({"capsule_worker.shell.shell", "capsule_worker.ipykernel_compat.kernel_proxy", "ipykernel.zmqshell"})
_OUTPUT = re.compile(r"_\d+$")
_OUTPUTS = frozenset({"_", "__", "___", "Out", "_oh"})

_FUNCTIONS = (types.FunctionType, types.MethodType, functools.partial, classmethod, staticmethod, property)


class Group(Protocol):
    """Variables and classes that are saved together, as far as it matters here."""

    names: list[str]
    defines: list[str]
    needs: list[str]
    reads: list[str]
    modules: list[str]
    plain: bool


class GroupIndex:
    """Finds groups by the names and by the classes in them."""

    def __init__(self, groups: Iterable[Group]) -> None:
        self.by_name: dict[str, Group] = {}
        self.by_class: dict[str, Group] = {}
        self._add(groups)

    def renew(self, before: Sequence[Group], after: Sequence[Group]) -> None:
        """Replace groups by others, most of which are the same objects as before.

        Args:
            before: the groups that are indexed now.
            after: the groups to index.
        """
        stay, were = set(map(id, after)), set(map(id, before))
        for group in before:
            if id(group) not in stay:
                for found, keys in ((self.by_name, group.names), (self.by_class, group.defines)):
                    for key in keys:
                        if found.get(key) is group:
                            del found[key]
        self._add([group for group in after if id(group) not in were])

    def _add(self, groups: Iterable[Group]) -> None:
        for group in groups:
            self.by_name.update(dict.fromkeys(group.names, group))
            self.by_class.update(dict.fromkeys(group.defines, group))


class HiddenReferences:
    """Knows what may be held where the walk cannot look: by a module, or by an object that cannot be saved.

    A key is the root of a module's name, or that of a variable with ``:`` before it.
    """

    def __init__(self) -> None:
        self._names: dict[str, set[str]] = {}
        self._keys: dict[str, set[str]] = {}

    def join(self, key: str, names: Iterable[str]) -> None:
        """Record that a module or variable may hold objects of variables from now on.

        Args:
            key: root of a module's name, or ``:`` and the name of a variable.
            names: names of variables.
        """
        fresh = set(names)
        self._names.setdefault(key, set()).update(fresh)
        for name in fresh:
            self._keys.setdefault(name, set()).add(key)

    def held_by(self, key: str) -> set[str]:
        """Return the names of variables whose objects a module or variable may hold.

        Args:
            key: as for `join`.
        """
        everywhere = set() if key.startswith(":") else self._names.get(EVERY_MODULE, set())
        return self._names.get(key, set()) | everywhere

    def holders_of(self, names: Iterable[str]) -> set[str]:
        """Return the keys, as for `join`, of modules and variables that may hold objects of given variables.

        Args:
            names: names of variables.
        """
        return {key for name in names for key in self._keys.get(name, ())}


@dataclass
class ReachableNames:
    """What cells can have changed.

    Args:
        names: the names; None for all.
        reason: why it is all.
        joins: what may be held where from now on, for `HiddenReferences.join`.
    """

    names: set[str] | None
    reason: str | None = None
    joins: dict[str, set[str]] = field(default_factory=dict)


def reachable_names(
    usages: Sequence[NameUsage],
    namespace: Mapping[str, Any],
    index: GroupIndex,
    links: HiddenReferences,
    unsaveable: Collection[str] = (),
) -> ReachableNames:
    """Return what cells can have changed.

    Args:
        usages: what the source of each uses.
        namespace: the variables as they are now.
        index: what shares objects with what, as far as it was saved.
        links: what is held in hidden places.
        unsaveable: names whose values cannot be looked into.
    """
    walk = _Walk(namespace, index, links, unsaveable)
    for each in usages:
        if each.anything is not None:
            walk.reason = each.anything
        walk.use(each.names)
        for root in each.modules:
            walk.meet(root)
    walk.run()
    return walk.result()


class _Walk:
    def __init__(
        self, namespace: Mapping[str, Any], index: GroupIndex, links: HiddenReferences, unsaveable: Collection[str]
    ) -> None:
        self._namespace = namespace
        self._index = index
        self._links = links
        self._unsaveable = unsaveable
        self._names: set[str] = set()
        self._keys: set[str] = set()
        self._queue: list[str] = []
        self._groups: set[int] = set()
        self._classes: set[int] = set()
        self._looked: set[int] = set()
        self._codes: list[types.CodeType] = []
        self.reason: str | None = None

    def use(self, names: Iterable[str]) -> None:
        """Add names that code uses."""
        for name in names:
            if name in self._names:
                continue
            if name in self._namespace or name in self._index.by_name:
                self._names.add(name)
                self._queue.append(name)
            if name in _OUTPUTS:
                self.use(each for each in self._namespace if _OUTPUT.match(each))
                self.use(each for each in self._index.by_name if _OUTPUT.match(each))

    def meet(self, root: str) -> None:
        """Add a module, and those that it may call."""
        if root in self._keys or not can_retain(root):
            return
        for each in sorted(_called_by(root, len(sys.modules))):
            if each not in self._keys:
                self._keys.add(each)
                self.use(self._links.held_by(each))

    def run(self) -> None:
        """Follow everything that was added."""
        while self._queue:
            name = self._queue.pop()
            if name in self._unsaveable:
                self._hidden(name)
            group = self._index.by_name.get(name)
            if group is not None and not group.plain:
                self._enter(group)
            if name in self._namespace:
                self._look(self._namespace[name], _MOST_ITEMS if group is None else 0)
            if self._codes:
                self._use_code()

    def _use_code(self) -> None:
        used = names_used(self._codes)
        self._codes.clear()
        self._read(used)

    def _read(self, names: Collection[str]) -> None:
        dangerous = REACHES_ALL.intersection(names)
        if dangerous:
            self.reason = f"code that uses {min(dangerous)}"
        self.use(names)

    def _hidden(self, name: str) -> None:
        kind = type(self._namespace.get(name))
        if root_of(kind) not in INERT:
            key = f":{name}"
            self._keys.add(key)
            self.use(self._links.held_by(key))

    def _enter(self, group: Group) -> None:
        if id(group) in self._groups:
            return
        self._groups.add(id(group))
        self.use(group.names)
        self._read(group.reads)
        for root in group.modules:
            self.meet(root)
        for uid in group.needs:
            definer = self._index.by_class.get(uid)
            if definer is not None:
                self._enter(definer)

    def _look(self, value: Any, items: int) -> None:
        """Look at code that a value carries, and at ``items`` of what it holds."""
        kind = type(value)
        if kind is types.ModuleType:
            self.meet(value.__name__.partition(".")[0])
        elif isinstance(value, type):
            self._look_at_class(value)
        elif isinstance(value, _FUNCTIONS):
            self._look_at_function(value)
        elif items and kind in {list, tuple, set, frozenset, dict}:
            for item in _some(value, items):
                self._look(item, 0)
        else:
            self._look_at_class(kind)

    def _look_at_class(self, cls: type) -> None:
        if id(cls) in self._classes:
            return
        self._classes.add(id(cls))
        if cls.__module__ in _SHELL:
            self.reason = "the shell, which can run any code"
        if cls.__module__ != "__main__":
            root = root_of(cls)
            # That something is a list does not say that it comes from where a cell may have put things.
            if root != "builtins":
                self.meet(root)
            return
        for base in cls.__mro__[1:]:
            self._look_at_class(base)
        if type(cls) is not type:
            self._look_at_class(type(cls))
        for attribute in list(vars(cls).values()):
            if isinstance(attribute, (*_FUNCTIONS, type)):
                self._look(attribute, 0)

    def _look_at_function(self, value: Any) -> None:
        if isinstance(value, types.FunctionType):
            if value.__module__ != "__main__" and value.__globals__ is not self._namespace:
                self.meet(str(value.__module__).partition(".")[0])
            elif value.__code__ not in self._codes:
                self._codes.append(value.__code__)
                for held in [*(value.__defaults__ or ()), *_contents(value.__closure__)]:
                    if isinstance(held, (*_FUNCTIONS, type)) and held is not value:
                        self._look_once(held)
        else:
            for held in _held_by(value):
                self._look_once(held)

    def _look_once(self, value: Any) -> None:
        if id(value) not in self._looked:
            self._looked.add(id(value))
            self._look(value, 0)

    def result(self) -> ReachableNames:
        """Return what was found."""
        if self.reason is not None:
            names = {*self._namespace, *self._index.by_name}
            shared = self._shared(names)
            return ReachableNames(None, self.reason, dict.fromkeys([EVERY_MODULE, *self._keys], shared))
        shared = self._shared(self._names)
        keys = self._keys | self._links.holders_of(shared)
        return ReachableNames(self._names, None, {key: self._of(key, shared) for key in keys})

    def _shared(self, names: Iterable[str]) -> set[str]:
        """Return the names whose values can be held elsewhere, such that it matters."""
        found = set()
        for name in names:
            if name not in self._namespace:
                if name in self._index.by_name:
                    found.add(name)
                continue
            value = self._namespace[name]
            if not (is_atom(value) or isinstance(value, (types.ModuleType, types.BuiltinFunctionType))):
                found.add(name)
        return found

    def _of(self, key: str, names: set[str]) -> set[str]:
        """Return those of ``names`` that ``key`` may come to hold."""
        if key not in RETAIN_THEIR_OWN:
            return names
        return {name for name in names if self._may_be_of(name)}

    def _may_be_of(self, name: str) -> bool:
        group = self._index.by_name.get(name)
        if group is not None:
            return not RETAIN_THEIR_OWN.isdisjoint(group.modules)
        root = root_of(type(self._namespace.get(name)))
        return root in sys.stdlib_module_names or ADAPTERS.can_retain(root)


def root_of(cls: type) -> str:
    """Return the root of the name of a class's module; a class may say anything there."""
    try:
        return str(cls.__module__).partition(".")[0]
    except Exception:
        return ""


def can_retain(root: str) -> bool:
    """Whether a module may keep objects of the notebook, and change them when it is called without them.

    Args:
        root: root of the module's name.
    """
    if root in sys.stdlib_module_names:
        return ADAPTERS.can_retain(root)
    ours = root in {"", "None", "capsule", "capsule_worker", "ipykernel"}
    return not ours and not root.startswith("_") and ADAPTERS.can_retain(root)


@functools.lru_cache(maxsize=256)
def _called_by(root: str, _count: int) -> frozenset[str]:
    """Return the roots of the modules that may keep something and that one refers to, itself included.

    Args:
        root: the one.
        _count: the number of imported modules: the answer depends on it.
    """
    modules: dict[str, list[types.ModuleType]] = {}
    for name, module in list(sys.modules.items()):
        modules.setdefault(name.partition(".")[0], []).append(module)
    found, waiting = {root}, [] if root in RETAIN_THEIR_OWN else [root]
    while waiting:
        for module in modules.get(waiting.pop(), ()):
            for value in list(getattr(module, "__dict__", {}).values()):
                kind = type(value)
                if kind is types.ModuleType:
                    other = value.__name__.partition(".")[0]
                elif kind is type or kind is types.FunctionType:
                    other = str(value.__module__).partition(".")[0]
                else:
                    continue
                if other not in found and other not in sys.stdlib_module_names and can_retain(other):
                    found.add(other)
                    if other not in RETAIN_THEIR_OWN:
                        waiting.append(other)
    return frozenset(found)


def _held_by(function: Any) -> tuple[Any, ...]:
    """Return what stands behind a callable that is not a plain function."""
    if isinstance(function, types.MethodType):
        return function.__func__, type(function.__self__)
    if isinstance(function, functools.partial):
        return function.func, *function.args, *function.keywords.values()
    if isinstance(function, property):
        return function.fget, function.fset, function.fdel
    return (function.__func__,)  # a class method or a static one


def _some(container: Any, most: int) -> Iterator[Any]:
    items = container.values() if isinstance(container, dict) else container
    for count, item in enumerate(items):
        if count >= most:
            return
        yield item


def _contents(closure: tuple[types.CellType, ...] | None) -> Iterator[Any]:
    for cell in closure or ():
        try:
            yield cell.cell_contents
        except ValueError:
            continue
