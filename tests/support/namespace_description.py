"""Describes a namespace such that two that behave alike have the same description, aliasing included.

Every object that can be changed gets a number where it is met first, and is only referred to after that: two names for
one list read otherwise than two equal lists. The names are taken in their order, so the numbers are the same wherever
the same cells ran. It stands alone: its source can be run as a cell.
"""

from __future__ import annotations

import functools
import re
import sys
import types
from collections.abc import Callable
from typing import Any

_PLAIN = frozenset(
    {bool, int, float, complex, str, bytes, range, slice, type(None), type(Ellipsis), type(NotImplemented)}
)
#: What there is one of in every process; and what cannot be saved, for which there are placeholders afterwards.
_SINGLE: dict[type | str, str] = {
    "ZMQInteractiveShell": "the shell",
    "_HAS_DEFAULT_FACTORY_CLASS": "the default of a field",
    "Placeholder": "gone",
    types.GeneratorType: "gone",
    types.CoroutineType: "gone",
    types.AsyncGeneratorType: "gone",
}
#: Names that are the shell's own, and its numbered inputs.
_SHELL = re.compile(
    r"_(i+|i\d+|oh|ih|dh|exit_code)$|__\w+__$|(In|Out|exit|quit|open|get_ipython|display)$|_canonical_\w+$"
)
_OWN_ATTRIBUTES = frozenset(
    "__dict__ __weakref__ __module__ __firstlineno__ __static_attributes__ _abc_impl __slotnames__".split()
)
_DESCRIPTORS = (types.MemberDescriptorType, types.GetSetDescriptorType)


class Walk:
    """One walk over a namespace.

    Args:
        space: the namespace.
    """

    def __init__(self, space: dict[str, Any]) -> None:
        self._space = space
        self._numbers: dict[int, int] = {}
        #: What got a number: it stays, so that nothing else gets its address.
        self._met: list[Any] = []
        self._arrays: list[Any] = []
        #: How objects of a kind are described that get no number, and those that do.
        self._shared: dict[type, Callable[[Any], list[Any]]] = {
            types.ModuleType: lambda value: ["module", value.__name__],
            types.MappingProxyType: lambda value: ["proxy", self.look(dict(value))],
            types.MethodType: lambda value: ["method", self.look(value.__func__), self.look(value.__self__)],
            types.BuiltinFunctionType: self._built_in,
            tuple: lambda value: ["tuple", *map(self.look, value)],
            frozenset: lambda value: ["frozenset", *self._in_any_order(value)],
        }
        self._own: dict[type, Callable[[Any], list[Any]]] = {
            list: lambda value: ["list", *map(self.look, value)],
            dict: lambda value: ["dict", *self._items(value)],
            set: lambda value: ["set", *self._in_any_order(value)],
            types.FunctionType: self._function,
            types.CodeType: self._code,
            types.CellType: self._cell,
            property: lambda value: ["property", *map(self.look, (value.fget, value.fset, value.fdel))],
            staticmethod: lambda value: ["static", self.look(value.__func__)],
            classmethod: lambda value: ["of the class", self.look(value.__func__)],
            functools.partial: lambda value: ["partial", *map(self.look, (value.func, value.args, value.keywords))],
        }

    def describe(self) -> dict[str, Any]:
        """Return the description, made of what JSON knows."""
        names = sorted(name for name in self._space if not _SHELL.match(name))
        described = {name: self.look(self._space[name]) for name in names}
        outputs = {str(number): self.look(value) for number, value in sorted(self._space.get("_oh", {}).items())}
        return {"names": described, "outputs": outputs, "memory": self._memory()}

    def look(self, value: Any) -> Any:
        """Describe one value."""
        kind = type(value)
        if kind in _PLAIN:
            return [kind.__name__, repr(value)]
        single = "the namespace" if value is self._space else _SINGLE.get(kind) or _SINGLE.get(kind.__name__)
        if single is not None:
            return single
        if kind in self._shared:
            return self._shared[kind](value)
        if isinstance(value, (type, types.FunctionType)) and value.__module__ != "__main__":
            return ["imported", f"{value.__module__}.{value.__qualname__}"]
        number = self._numbers.get(id(value))
        if number is not None:
            return ["see", number]
        number = self._numbers[id(value)] = len(self._numbers)
        self._met.append(value)
        return [number, *self._contents(value, kind)]

    def _contents(self, value: Any, kind: type) -> list[Any]:
        if kind in self._own:
            return self._own[kind](value)
        if isinstance(value, type):
            return self._class(value)
        root = kind.__module__.partition(".")[0]
        if root == "numpy":
            return self._array(value)
        if root == "pandas":
            return self._frame(value)
        return self._instance(value, kind)

    def _items(self, value: dict[Any, Any]) -> list[Any]:
        return [[self.look(key), self.look(item)] for key, item in dict.items(value)]

    def _in_any_order(self, value: Any) -> list[Any]:
        return sorted(map(self.look, value), key=repr)

    def _built_in(self, function: types.BuiltinFunctionType) -> list[Any]:
        owner = function.__self__
        bound = None if owner is None or isinstance(owner, (types.ModuleType, type)) else self.look(owner)
        return ["built in", function.__qualname__, bound]

    def _cell(self, cell: types.CellType) -> list[Any]:
        try:
            return ["cell", self.look(cell.cell_contents)]
        except ValueError:
            return ["empty cell"]

    def _function(self, function: types.FunctionType) -> list[Any]:
        look = self.look
        return [
            "function",
            function.__qualname__,
            function.__doc__,
            "here" if function.__globals__ is self._space else "elsewhere",
            self._code(function.__code__),
            look(function.__defaults__),
            look(function.__kwdefaults__),
            look(function.__closure__),
            {str(name): look(item) for name, item in function.__annotations__.items()},
            look(function.__dict__),
        ]

    def _code(self, code: types.CodeType) -> list[Any]:
        constants = [
            self._code(item) if isinstance(item, types.CodeType) else self.look(item) for item in code.co_consts
        ]
        names = [code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars]
        return ["code", code.co_name, code.co_firstlineno, code.co_code.hex(), *map(list, names), constants]

    def _class(self, cls: type) -> list[Any]:
        attributes = {
            name: self.look(value)
            for name, value in sorted(vars(cls).items())
            if name not in _OWN_ATTRIBUTES and not isinstance(value, _DESCRIPTORS)
        }
        bases = [self.look(base) for base in cls.__bases__]
        return ["class", cls.__qualname__, self.look(type(cls)), bases, attributes]

    def _instance(self, value: Any, kind: type) -> list[Any]:
        described: list[Any] = [self.look(kind)]
        state = getattr(value, "__dict__", None)
        if state is not None:
            described.append({name: self.look(item) for name, item in state.items()})
        if kind.__module__ == "__main__":
            described += [[name, self.look(getattr(value, name))] for name in _slots(kind) if hasattr(value, name)]
        if isinstance(value, dict):
            described.append(self._items(value))
        elif isinstance(value, (set, frozenset)):
            described.append(self._in_any_order(value))
        elif isinstance(value, (list, tuple)):
            described.append([self.look(item) for item in value])
        elif isinstance(value, BaseException):
            described.append(self.look(value.args))
        elif kind.__module__ != "__main__" and state is None:
            described.append(self._reduced(value))
        return described

    def _reduced(self, value: Any) -> Any:
        """Describe an object of a library by what it would be pickled as."""
        try:
            _, *parts = value.__reduce_ex__(4)
        except TypeError:
            return "cannot be pickled"
        # An iterator that has ended has forgotten what it went through.
        return "ended" if _has_ended(parts) else [self.look(part) for part in parts]

    def _array(self, value: Any) -> list[Any]:
        if type(value).__name__ != "ndarray":
            return ["scalar", str(getattr(value, "dtype", "")), repr(value)]
        self._arrays.append(value)
        items = [self.look(item) for item in value.ravel()] if value.dtype.hasobject else repr(value.tolist())
        # That an array of objects must not be written to does not come back.
        locked = not (value.flags.writeable or value.dtype.hasobject)
        return ["array", value.dtype.str, list(value.shape), locked, items]

    def _frame(self, value: Any) -> list[Any]:
        name = type(value).__name__
        if name == "DataFrame":
            columns = [
                [repr(label), str(column.dtype), list(map(self.look, column))] for label, column in value.items()
            ]
            return ["frame", repr(value.index.tolist()), columns, self.look(value.attrs)]
        if name == "Series":
            values = [self.look(item) for item in value]
            return ["series", repr(value.name), str(value.dtype), repr(value.index.tolist()), values]
        return [name, repr(value)]

    def _memory(self) -> list[list[int]]:
        """Return which arrays lie in the same memory, and how far apart they begin."""
        numpy = sys.modules.get("numpy")
        found = []
        for index, one in enumerate(self._arrays):
            for place, other in enumerate(self._arrays[:index]):
                if numpy is not None and numpy.shares_memory(one, other):
                    start, begin = (each.__array_interface__["data"][0] for each in (one, other))
                    found.append([place, index, start - begin])
        return found


def _slots(kind: type) -> list[str]:
    """Return the names of a class's slots, in the order of its bases."""
    found: list[str] = []
    for cls in kind.__mro__:
        slots = vars(cls).get("__slots__", ())
        found += [slots] if isinstance(slots, str) else slots
    return [name for name in found if name not in _OWN_ATTRIBUTES]


def _has_ended(parts: list[Any]) -> bool:
    """Whether this is what is left of an iterator that has ended: nothing to go through."""
    arguments = parts[0] if parts else None
    return type(arguments) is tuple and len(arguments) == 1 and type(arguments[0]) in {list, tuple} and not arguments[0]
