"""Modules of libraries that nothing of ours calls, loaded once something does call them. Knows no library."""

import importlib
import sys
from types import ModuleType
from typing import Any


def defer(name: str, *callables: str) -> None:
    """Whoever imports `callables` from this module gets stand-ins, which load it when they are called.

    For libraries that import a whole world for an option that is off, and names that are called only, never subclassed
    or compared. Before the library is imported; a module that is loaded already stays as it is.
    """
    if name in sys.modules:
        return
    stand_in = ModuleType(name, f"Stands in for {name} until it is called.")
    for attribute in callables:
        setattr(stand_in, attribute, _make_caller(stand_in, attribute))
    sys.modules[name] = stand_in


def _make_caller(stand_in: ModuleType, attribute: str) -> Any:
    def call(*arguments: Any, **named: Any) -> Any:
        if sys.modules.get(stand_in.__name__) is stand_in:
            del sys.modules[stand_in.__name__]
        return getattr(importlib.import_module(stand_in.__name__), attribute)(*arguments, **named)

    call.__name__ = call.__qualname__ = attribute
    return call
