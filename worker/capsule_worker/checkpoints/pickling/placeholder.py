"""The value of a variable that could not be restored: it raises an error when code uses it."""

from __future__ import annotations

from typing import Any

from capsule_worker.protocol.manifest import Variable, plain_reason


class NotRestoredError(RuntimeError):
    """Code uses a variable that was not restored. The message says why, and which cell to run again."""


class Placeholder:
    """Stands for a value that was not restored. Every use raises `NotRestoredError`; only ``repr`` says what it was.

    Args:
        variable: the name and type of the value, the reason, and the cell that assigned it.
    """

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
    """Return the variable that a placeholder stands for; None for any other value.

    Args:
        value: any value.
    """
    if type(value) is not Placeholder:
        return None
    variable: Variable = object.__getattribute__(value, "_capsule_variable")
    return variable


def message_for(variable: Variable) -> str:
    """Return a text that says why a variable was not restored, and which cell to run again.

    Args:
        variable: the variable; its cell is not named if it is not known.
    """
    reason = plain_reason(variable.reason) if variable.reason else "it was not saved"
    text = f"{variable.name} ({variable.type}) was not restored: {reason}"
    if variable.cell is None:
        return text
    text += f". Re-run its cell (In [{variable.cell.number}])"
    # The number is of the session that saved the variable: the line finds the cell in a later one.
    return f"{text}: {variable.cell.line}" if variable.cell.line else f"{text}."
