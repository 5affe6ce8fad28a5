"""Forks: renews callspan's locks in a forked child, and notifies listeners of forks and of the process's exit.

Import locks cannot be renewed, so a fork waits for callspan's late imports.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
import weakref
from collections.abc import Callable
from functools import cache
from importlib import import_module
from types import ModuleType
from typing import Any, Final, Protocol, TypeVar

from callspan.clock import monotonic_s

_T = TypeVar("_T")

_owners: weakref.WeakKeyDictionary[Any, Callable[[Any], object]] = weakref.WeakKeyDictionary()

LATE_IMPORTS: Final = threading.RLock()
"""Held during late imports. A fork waits for it."""
_EXIT_S: Final = 2.0
_listeners: Final[weakref.WeakKeyDictionary[ProcessListener, None]] = weakref.WeakKeyDictionary()
_forking: Final[list[list[ProcessListener]]] = []
_fork_lock: Final = [threading.RLock()]
_hooked: Final[list[bool]] = []
_hooked_in_child: Final[list[bool]] = []
_first_at_exit: Final[list[Callable[[], object]]] = []


def late_import(module: str) -> ModuleType:
    """Import a module while no fork can happen. Raises ImportError."""
    with LATE_IMPORTS:
        return import_module(module)


def late_attribute(reference: str) -> Any:
    """Return the object for `module:name`, imported as by `late_import`."""
    module, _, name = reference.partition(":")
    return getattr(late_import(module), name)


def in_child(owner: _T, renew: Callable[[_T], object]) -> None:
    """Call `renew(owner)` in every forked child, as long as the owner exists.

    Call it once, when the owner is created. `renew` must not reference the owner: pass a function, not a bound method.
    """
    _owners[owner] = renew


def renew_locks(owner: object, *names: str) -> None:
    """Replace the locks in these attributes of `owner` in every forked child, by locks of the same kind."""
    in_child(owner, _renewal(names))


@cache
def _renewal(names: tuple[str, ...]) -> Callable[[object], None]:
    """Return one function shared by all owners with the same attributes, of which there may be thousands."""

    def renew(renewed: object) -> None:
        for name in names:
            reentrant = isinstance(getattr(renewed, name), type(threading.RLock()))
            setattr(renewed, name, threading.RLock() if reentrant else threading.Lock())

    return renew


def _renew() -> None:
    LATE_IMPORTS.release()
    for owner, renew in list(_owners.items()):
        renew(owner)


os.register_at_fork(before=LATE_IMPORTS.acquire, after_in_parent=LATE_IMPORTS.release, after_in_child=_renew)


class ProcessListener(Protocol):
    """An object that is notified of forks and of the end of the process."""

    def before_fork(self) -> None:
        """Prepare for a fork, on the forking thread."""

    def after_fork_in_parent(self) -> None:
        """Resume in the parent process."""

    def after_fork_in_child(self) -> None:
        """Reset the state in the child."""

    def at_exit(self, timeout_s: float) -> None:
        """Finish within the given time."""


def register(listener: ProcessListener) -> None:
    """Notify `listener`, as long as it exists, of forks and of the end of this process; waits for the end of a fork."""
    # Between the two it would be part of a child that does not notify it.
    with _fork_lock[0]:
        _listeners[listener] = None


def await_exit() -> None:
    """Have the listeners notified of the end of this process, also of a child of multiprocessing."""
    _hook()
    # These children exit without atexit, and drop the finalizers that there were when they began.
    process = sys.modules.get("multiprocessing.process")
    util = sys.modules.get("multiprocessing.util")
    if process is None or util is None or process.parent_process() is None or _hooked_in_child:
        return
    _hooked_in_child.append(True)
    util.Finalize(None, _at_exit, exitpriority=100)


def first_at_exit(end: Callable[[], object]) -> None:
    """Call `end` at the end of this process, before the listeners; it must not raise."""
    _hook()
    _first_at_exit.append(end)


def _hook() -> None:
    if not _hooked:
        _hooked.append(True)
        atexit.register(_at_exit)


def _registered() -> list[ProcessListener]:
    # Not by iteration: another thread may register one.
    return [listener for reference in _listeners.keyrefs() if (listener := reference()) is not None]


def _at_exit() -> None:
    for end in tuple(_first_at_exit):
        end()
    deadline = monotonic_s() + _EXIT_S
    for listener in _registered():
        listener.at_exit(max(0.0, deadline - monotonic_s()))


def _before() -> None:
    # Two threads may fork at once; a signal handler may fork within a fork.
    _fork_lock[0].acquire()
    _forking.append(_registered())
    for listener in _forking[-1]:
        listener.before_fork()


def _in_parent() -> None:
    for listener in reversed(_forking.pop()):
        listener.after_fork_in_parent()
    _fork_lock[0].release()


def _in_child() -> None:
    _fork_lock[0] = threading.RLock()
    _hooked_in_child.clear()
    for listener in _forking.pop():
        listener.after_fork_in_child()


os.register_at_fork(before=_before, after_in_parent=_in_parent, after_in_child=_in_child)
