"""What stands in a variable whose value could not be saved."""

from __future__ import annotations

from typing import Any

from capsule_worker.protocol.manifest import Variable


class NotRestoredError(RuntimeError):
    """A variable is used whose value could not be brought back. The message says why, and which cell to run again."""


class Placeholder:
    """Holds the place of a value that is gone. Whatever is done with it raises; only ``repr`` says what it was."""

    __slots__ = ("_capsule_variable",)

    def __init__(self, variable: Variable) -> None:
        object.__setattr__(self, "_capsule_variable", variable)

    def __repr__(self) -> str:
        return f"<{message_for(object.__getattribute__(self, '_capsule_variable'))}>"

    def __getattribute__(self, name: str) -> Any:
        if name in ("__class__", "__reduce__", "__reduce_ex__", "__doc__", "__module__", "__repr__", "__dict__"):
            return object.__getattribute__(self, name)
        if name.startswith(("_repr_", "_ipython_")):
            raise AttributeError(name)
        raise NotRestoredError(message_for(object.__getattribute__(self, "_capsule_variable")))

    def __reduce__(self) -> Any:
        from capsule_worker.checkpoints.pickling.reconstruct import make_placeholder

        variable: Variable = object.__getattribute__(self, "_capsule_variable")
        return make_placeholder, (variable.model_dump(),)


def _refuse(self: Placeholder, *_: Any, **__: Any) -> Any:
    raise NotRestoredError(message_for(object.__getattribute__(self, "_capsule_variable")))


for _operation in (
    "call setattr delattr getitem setitem delitem len iter next contains bool enter exit await aiter anext "
    "add radd sub rsub mul rmul truediv rtruediv floordiv rfloordiv mod rmod pow rpow matmul rmatmul and rand or ror "
    "xor rxor lshift rlshift rshift rrshift divmod rdivmod neg pos abs invert int float complex index bytes hash eq ne "
    "lt le gt ge iadd isub imul round trunc floor ceil reversed fspath aenter aexit"
).split():
    setattr(Placeholder, f"__{_operation}__", _refuse)


def variable_of(value: Any) -> Variable | None:
    """Return what a placeholder stands for; None for any other value."""
    if type(value) is not Placeholder:
        return None
    variable: Variable = object.__getattribute__(value, "_capsule_variable")
    return variable


def message_for(variable: Variable) -> str:
    """Say what a variable was, why it is not there, and what to do."""
    text = f"{variable.name!r} ({variable.type}) did not come back: {variable.reason or 'it was not saved'}"
    if variable.cell is not None:
        text += f". Run In [{variable.cell.number}] again to make it anew: {variable.cell.line}"
    return text
