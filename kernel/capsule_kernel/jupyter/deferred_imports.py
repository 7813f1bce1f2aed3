"""Packages whose import waits until they are used: the first worker is then sooner on its way."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any


def defer(*packages: str) -> None:
    """Import packages when one of their attributes is used. Modules in them can be imported without that.

    The SDK imports its HTTP client (70 ms) for engines on servers; the embedded one needs none. ipykernel imports an
    error class of IPython's, and with it all of IPython (100 ms), which only the workers need. The modules of ipykernel
    and jupyter_client that the front uses do not need the rest of these packages (30 ms).

    Args:
        packages: their names. One that is imported already, or does not exist, is left alone.
    """
    import importlib.util  # not before the first worker is on its way

    for name in packages:
        spec = importlib.util.find_spec(name) if name not in sys.modules else None
        if spec is not None:
            module = sys.modules[name] = _DeferredPackage(name)
            module.__spec__, module.__file__ = spec, spec.origin
            module.__path__ = list(spec.submodule_search_locations or ())


class _DeferredPackage(ModuleType):
    """Stands for a package until it is used (an ``import`` statement ends what ``importlib.util.LazyLoader`` does)."""

    def __getattr__(self, name: str) -> Any:
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
            package = importlib.import_module(self.__name__)
            # Modules of it that were imported before are not its attributes yet.
            for attribute, module in vars(self).items():
                if isinstance(module, ModuleType) and not hasattr(package, attribute):
                    setattr(package, attribute, module)
        return getattr(importlib.import_module(self.__name__), name)
