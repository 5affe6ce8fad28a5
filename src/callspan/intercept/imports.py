"""Imports: calls back whenever a module is imported, also anew after it was removed from `sys.modules`.

A module that is imported anew has new classes, without hooks. Test runners and reloaders do that.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, Final, TypeAlias, cast

import wrapt

from callspan.runtime.fail_open import fail_open

Imported: TypeAlias = Callable[[ModuleType], object]
_STEP: Final = fail_open("hook a module after its import")


class _Loader(wrapt.ObjectProxy):  # type: ignore[type-arg] # it has no type arguments at runtime before 2.0
    """Loads a module as the loader does that it stands for, then calls back. The module shows that loader."""

    def exec_module(self, module: Any) -> None:
        """Execute the module."""
        loader = self.__wrapped__
        if getattr(module, "__loader__", None) is self:
            module.__loader__ = loader
        if getattr(module.__spec__, "loader", None) is self:
            module.__spec__.loader = loader
        loader.exec_module(module)
        WATCHED_IMPORTS.executed(module)


class WatchedImports:
    """The modules whose imports are watched; a finder of `sys.meta_path`. Takes no lock."""

    def __init__(self) -> None:
        self._callbacks: dict[str, tuple[Imported, ...]] = {}
        self._searches: set[tuple[str, int]] = set()
        """What threads search for now: other finders that do the same as this one ask it again."""

    def start(self) -> None:
        """See imports from now on."""
        if self not in sys.meta_path:
            sys.meta_path.insert(0, self)

    def stop(self) -> None:
        """See no import until the next `start`."""
        if self in sys.meta_path:
            sys.meta_path.remove(self)

    def watch(self, name: str, imported: Imported) -> None:
        """Call `imported` with the module now if it is imported, and after each import from now on."""
        self.start()
        self._callbacks[name] = (*self._callbacks.get(name, ()), imported)
        if (module := sys.modules.get(name)) is not None:
            imported(module)

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return what the other finders find, with a loader that calls back; None for modules that nobody watches."""
        if name not in self._callbacks:
            return None
        search = name, threading.get_ident()
        if search in self._searches:
            return None
        self._searches.add(search)
        try:
            spec = _spec_of(name, path, target)
        finally:
            self._searches.discard(search)
        if spec is not None and hasattr(spec.loader, "exec_module"):
            spec.loader = cast("Any", _Loader(spec.loader))
        return spec

    def executed(self, module: ModuleType) -> None:
        """Call back for a module that was imported."""
        for imported in self._callbacks.get(module.__name__, ()):
            with _STEP:
                imported(module)


def _spec_of(name: str, path: Sequence[str] | None, target: ModuleType | None) -> ModuleSpec | None:
    finders: list[Any] = [finder for finder in sys.meta_path if finder is not WATCHED_IMPORTS]
    for finder in finders:
        find_spec = getattr(finder, "find_spec", None)
        spec: ModuleSpec | None = None if find_spec is None else find_spec(name, path, target)
        if spec is not None:
            return spec
    return None


WATCHED_IMPORTS: Final = WatchedImports()
