"""Switches another instrumentation on and off between blocks by applying and removing its patches.

Their own `uninstrument()` is not enough: some leave patches behind, and then the bare SDK of the next block is none.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Container, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import wrapt

_PACKAGES = ("openai", "anthropic", "httpx", "httpx2")
_ABSENT: Any = object()
_GENERATED = ("__pydantic", "__signature__", "__abstractmethods__", "_abc_impl")
"""What classes fill in about themselves when they are first used."""
_LOADED = (type, ModuleType)
"""What a lazy module has found meanwhile; a patch is a function."""
_Names = dict[int, tuple[Any, dict[str, Any]]]


@dataclass(frozen=True)
class Change:
    """One name of a module or class: what it meant before, and since."""

    owner: Any
    name: str
    before: Any
    after: Any


class Toggle:
    """What `switch_on` changes in the SDKs; off when made."""

    def __init__(self, switch_on: Callable[[], object], packages: Container[str] = _PACKAGES) -> None:
        before = _names(packages)
        switch_on()
        self.changes = list(_changes(before, _names(packages)))
        self._put(on=False)

    @contextmanager
    def on(self) -> Iterator[None]:
        """Have the changes in force within."""
        self._put(on=True)
        try:
            yield
        finally:
            self._put(on=False)

    def _put(self, *, on: bool) -> None:
        for change in self.changes:
            value = change.after if on else change.before
            if value is not _ABSENT:
                setattr(change.owner, change.name, value)
            elif change.name in vars(change.owner):
                delattr(change.owner, change.name)


def _names(packages: Container[str]) -> _Names:
    """Every module and class of the SDKs that is loaded: its id -> itself and its names as they are now."""
    modules = [module for name, module in list(sys.modules.items()) if _is_of(name, packages)]
    found: _Names = {}
    for module in modules:
        if isinstance(module, ModuleType):
            found[id(module)] = (module, dict(vars(module)))
            for value in list(vars(module).values()):
                if isinstance(value, type) and _is_of(value.__module__, packages):
                    found[id(value)] = (value, dict(vars(value)))
    return found


def _is_of(module: object, packages: Container[str]) -> bool:
    return isinstance(module, str) and module.partition(".")[0] in packages


def _changes(before: _Names, after: _Names) -> Iterator[Change]:
    for key, (owner, names) in after.items():
        if key not in before:
            # Loaded meanwhile: what it was like is known from within the wrappers only.
            yield from (Change(owner, name, now.__wrapped__, now) for name, now in names.items() if _is_wrapper(now))
            continue
        known = before[key][1]
        for name in {*known, *names}:
            was, now = known.get(name, _ABSENT), names.get(name, _ABSENT)
            if was is not now and not (name.startswith(_GENERATED) or isinstance(now, _LOADED)):
                yield Change(owner, name, was, now)


def _is_wrapper(value: object) -> bool:
    return isinstance(value, wrapt.FunctionWrapper)
