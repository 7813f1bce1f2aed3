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
from typing import Any

_PLAIN = (bool, int, float, complex, str, bytes, range, slice, type(None), type(Ellipsis), type(NotImplemented))
#: What cannot be saved: a namespace that came back has placeholders for it.
_GONE = (types.GeneratorType, types.CoroutineType, types.AsyncGeneratorType, types.FrameType, memoryview)
#: Names that are the shell's own, and its numbered inputs.
_SHELL = re.compile(
    r"_(i+|i\d+|oh|ih|dh|exit_code)$|__\w+__$|(In|Out|exit|quit|open|get_ipython|display)$|_canonical_\w+$"
)
_OWN_ATTRIBUTES = frozenset(
    "__dict__ __weakref__ __module__ __firstlineno__ __static_attributes__ _abc_impl __slotnames__".split()
)


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
        if value is self._space:
            return "the namespace"
        if kind.__name__ == "ZMQInteractiveShell":
            return "the shell"
        if kind in _GONE or kind.__name__ == "Placeholder":
            return "gone"
        if kind is types.ModuleType:
            return ["module", value.__name__]
        if kind is types.MappingProxyType:
            return ["proxy", self.look(dict(value))]
        if kind.__module__ == "dataclasses" and kind.__name__.startswith("_HAS_DEFAULT"):
            return "the default of a field"
        if kind is tuple:
            return ["tuple", *map(self.look, value)]
        if kind is frozenset:
            return ["frozenset", *sorted(map(self.look, value), key=repr)]
        if kind is types.MethodType:
            return ["method", self.look(value.__func__), self.look(value.__self__)]
        if kind is types.BuiltinFunctionType:
            owner = value.__self__
            bound = None if owner is None or isinstance(owner, (types.ModuleType, type)) else self.look(owner)
            return ["built in", value.__qualname__, bound]
        if isinstance(value, type) and value.__module__ != "__main__":
            return ["class", f"{value.__module__}.{value.__qualname__}"]
        if kind is types.FunctionType and value.__module__ != "__main__":
            return ["function", f"{value.__module__}.{value.__qualname__}"]
        number = self._numbers.get(id(value))
        if number is not None:
            return ["see", number]
        number = self._numbers[id(value)] = len(self._numbers)
        self._met.append(value)
        return [number, *self._contents(value, kind)]

    def _contents(self, value: Any, kind: type) -> list[Any]:
        look = self.look
        if kind is list:
            return ["list", *map(look, value)]
        if kind is dict:
            return ["dict", *([look(key), look(item)] for key, item in value.items())]
        if kind is set:
            return ["set", *sorted(map(look, value), key=repr)]
        if kind is types.FunctionType:
            return ["function", *self._function(value)]
        if kind is types.CodeType:
            return ["code", *self._code(value)]
        if kind is types.CellType:
            try:
                return ["cell", look(value.cell_contents)]
            except ValueError:
                return ["empty cell"]
        if isinstance(value, type):
            return ["class", *self._class(value)]
        if kind is property:
            return ["property", look(value.fget), look(value.fset), look(value.fdel)]
        if kind in {staticmethod, classmethod}:
            return [kind.__name__, look(value.__func__)]
        if kind is functools.partial:
            return ["partial", look(value.func), look(value.args), look(value.keywords)]
        root = kind.__module__.partition(".")[0]
        if root == "numpy":
            return self._array(value)
        if root == "pandas":
            return self._frame(value)
        return self._instance(value, kind)

    def _function(self, function: types.FunctionType) -> list[Any]:
        look = self.look
        return [
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
        return [code.co_qualname, code.co_firstlineno, code.co_code.hex(), *map(list, names), constants]

    def _class(self, cls: type) -> list[Any]:
        attributes = {
            name: self.look(value)
            for name, value in sorted(vars(cls).items())
            if name not in _OWN_ATTRIBUTES
            and not isinstance(value, (types.MemberDescriptorType, types.GetSetDescriptorType))
        }
        return [cls.__name__, self.look(type(cls)), [self.look(base) for base in cls.__bases__], attributes]

    def _instance(self, value: Any, kind: type) -> list[Any]:
        described: list[Any] = [self.look(kind)]
        state = getattr(value, "__dict__", None)
        if state is not None:
            described.append({name: self.look(item) for name, item in state.items()})
        for cls in kind.__mro__ if kind.__module__ == "__main__" else ():
            slots = vars(cls).get("__slots__", ())
            for name in [slots] if isinstance(slots, str) else slots:
                if hasattr(value, name) and name not in _OWN_ATTRIBUTES:
                    described.append([name, self.look(getattr(value, name))])
        if isinstance(value, dict):
            described.append([[self.look(key), self.look(item)] for key, item in dict.items(value)])
        elif isinstance(value, (set, frozenset)):
            described.append(sorted(map(self.look, value), key=repr))
        elif isinstance(value, (list, tuple)):
            described.append([self.look(item) for item in value])
        elif isinstance(value, BaseException):
            described.append(self.look(value.args))
        elif kind.__module__ != "__main__" and state is None:
            try:
                _, *parts = value.__reduce_ex__(4)
            except TypeError:
                return ["opaque", f"{kind.__module__}.{kind.__qualname__}"]
            # An iterator that has ended has forgotten what it went through.
            described.append("ended" if _has_ended(parts) else [self.look(part) for part in parts])
        elif kind.__module__ == "collections":
            described.append(self.look(tuple(value)))
        return described

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


def _has_ended(parts: list[Any]) -> bool:
    """Whether this is what is left of an iterator that has ended: nothing to go through."""
    arguments = parts[0] if parts else None
    return type(arguments) is tuple and len(arguments) == 1 and type(arguments[0]) in {list, tuple} and not arguments[0]
