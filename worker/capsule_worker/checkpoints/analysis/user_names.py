"""Which names of the namespace are the user's."""

from __future__ import annotations

from collections.abc import Iterable

#: Names by which IPython shows the latest outputs; they stand for entries of ``Out``.
OUTPUT_NAMES = ("_", "__", "___")
#: Names that the shell puts into the namespace for its own use: never saved, never removed.
ENGINE_INTERNALS = frozenset(
    {
        *OUTPUT_NAMES,
        "In",
        "Out",
        "_ih",
        "_oh",
        "_dh",
        "_i",
        "_ii",
        "_iii",
        "get_ipython",
        "exit",
        "quit",
        "open",
        "display",
        "_exit_code",
        "__name__",
        "__doc__",
        "__package__",
        "__loader__",
        "__spec__",
        "__builtin__",
        "__builtins__",
        "__session__",
    }
)


def user_names(namespace: Iterable[str], hidden: Iterable[str] = ()) -> list[str]:
    """Return the names that are the user's, in their order.

    Args:
        namespace: all names.
        hidden: names that the shell put there when it started, as far as they still have their first values.
    """
    internal = ENGINE_INTERNALS.union(hidden)
    return [name for name in namespace if name not in internal and not (name[:2] == "_i" and name[2:].isdecimal())]
