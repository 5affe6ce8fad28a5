"""Forks: creates callspan's locks again in a child, where a lock held by another thread would stay held.

The lock of a module that is being imported cannot be: a fork waits for imports that come later than start-up.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable
from importlib import import_module
from types import ModuleType
from typing import Any, Final, TypeVar

_T = TypeVar("_T")

_owners: weakref.WeakKeyDictionary[Any, Callable[[Any], object]] = weakref.WeakKeyDictionary()

LATE_IMPORTS: Final = threading.RLock()
"""Held while a module is imported later than at start-up. A fork waits for it."""


def late_import(module: str) -> ModuleType:
    """Return the module, imported now if need be; no fork comes in between. Raises ImportError."""
    with LATE_IMPORTS:
        return import_module(module)


def in_child(owner: _T, renew: Callable[[_T], object]) -> None:
    """Have `renew(owner)` called in every forked child, while the owner exists.

    Call it once, from the owner's construction. `renew` must not hold the owner: give the function, not a bound method.
    """
    _owners[owner] = renew


def renew_locks(owner: object, *names: str) -> None:
    """See to it that a child process has fresh locks in these attributes of `owner`; reentrant ones stay reentrant."""

    def renew(renewed: object) -> None:
        for name in names:
            reentrant = isinstance(getattr(renewed, name), type(threading.RLock()))
            setattr(renewed, name, threading.RLock() if reentrant else threading.Lock())

    in_child(owner, renew)


def _renew() -> None:
    LATE_IMPORTS.release()
    for owner, renew in list(_owners.items()):
        renew(owner)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=LATE_IMPORTS.acquire, after_in_parent=LATE_IMPORTS.release, after_in_child=_renew)
