"""Forks: renews callspan's locks in a forked child, and notifies listeners of forks and of the process's exit.

A fork waits for callspan, in total for `_FORK_S`: for locks that its threads hold, and for their imports, which a child
could not finish. Whoever holds one may itself wait for a lock that the fork took before, such as `logging`'s lock.
After that time the fork goes on, and the child uses nothing that was held.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
import time
import weakref
from _thread import get_ident
from collections import defaultdict
from collections.abc import Callable
from functools import cache
from importlib import import_module
from types import ModuleType
from typing import Any, Final, NamedTuple, Protocol, TypeVar

from callspan.runtime.clock import monotonic_s

_T = TypeVar("_T")

_owners: weakref.WeakKeyDictionary[Any, Callable[[Any], object]] = weakref.WeakKeyDictionary()

_EXIT_S: Final = 8.0
_LISTENERS_S: Final = 2.0
_FORK_S: Final = 0.2
_POLL_S: Final = 0.001
_CALLSPAN: Final = "callspan."
_listeners: Final[weakref.WeakKeyDictionary[ProcessListener, None]] = weakref.WeakKeyDictionary()
_forks: Final[defaultdict[int, list[_Fork]]] = defaultdict(list)
"""The forks under way by thread; a signal handler may fork within a fork."""
_fork_lock: Final = [threading.RLock()]
_watched: Final[list[bool]] = []
_hooked: Final[list[bool]] = []
_hooked_in_child: Final[list[bool]] = []
_first_at_exit: Final[list[Callable[[], object]]] = []
_exit_until_s: Final[list[float]] = []
"""When the end of this process is over; empty until it begins."""


class _LateImports:
    """Context manager for late imports. A fork waits for its end.

    It holds no lock: two threads may import at once, and an import may wait for any lock of other code.
    """

    __slots__ = ("_forking", "_importing")

    def __init__(self) -> None:
        # Ids of threads, one for each block that a thread is in. Both lists change in one step.
        self._importing: list[int] = []
        self._forking: list[int] = []

    def __enter__(self) -> None:
        """Begin. If another thread is forking, wait for it, at most `_FORK_S`."""
        _watch_forks()
        me = get_ident()
        deadline = monotonic_s() + _FORK_S
        is_inner = me in self._importing or me in self._forking
        self._importing.append(me)
        while self._forking and not is_inner and monotonic_s() < deadline:
            self._importing.remove(me)
            time.sleep(_POLL_S)
            self._importing.append(me)

    def __exit__(self, *raised: object) -> None:
        """End."""
        self._importing.remove(get_ident())

    def is_inner(self) -> bool:
        """Return whether this thread is in a block within another one."""
        return self._importing.count(get_ident()) > 1

    def before_fork(self, deadline: float) -> None:
        """Wait for the imports of other threads until the deadline."""
        me = get_ident()
        self._forking.append(me)
        while any(thread != me for thread in tuple(self._importing)) and monotonic_s() < deadline:
            time.sleep(_POLL_S)

    def after_fork_in_parent(self) -> None:
        """Let the other threads import."""
        self._forking.remove(get_ident())

    def after_fork_in_child(self) -> None:
        """Forget the imports of threads that this process does not have."""
        me = get_ident()
        count = self._importing.count(me)
        if count < len(self._importing):
            _forget_imports_of_others()
        self._importing, self._forking = [me] * count, []


def _forget_imports_of_others() -> None:
    """Forget the modules that other threads of the parent were importing: a new import finds no held lock."""
    locks = getattr(import_module("importlib._bootstrap"), "_module_locks", {})
    for name, owner in _importing_threads():
        if owner not in (None, get_ident()):
            locks.pop(name, None)
            if (module := sys.modules.get(name)) is not None and _is_half(module):
                del sys.modules[name]


LATE_IMPORTS: Final = _LateImports()
"""Entered during late imports."""


def late_import(module: str) -> ModuleType:
    """Import a module; a fork waits for it. Raises ImportError.

    A signal handler may interrupt an import of its thread, and needs the whole module: it imports the module again, and
    the interrupted import returns the same module.
    """
    loaded = sys.modules.get(module)
    if loaded is not None and not _is_half(loaded):
        return loaded
    with LATE_IMPORTS:
        halves = _interrupted_imports(module.partition(".")[0]) if LATE_IMPORTS.is_inner() else {}
        for name in halves:
            del sys.modules[name]
        try:
            return import_module(module)
        finally:
            for name, half in halves.items():
                sys.modules.setdefault(name, half)  # its import raises KeyError without one


def _interrupted_imports(package: str) -> dict[str, ModuleType]:
    """Return the modules of callspan and of a package that this thread has begun to import."""
    return {
        name: module
        for name, owner in _importing_threads()
        if owner == get_ident() and name.startswith((_CALLSPAN, f"{package}."))
        if (module := sys.modules.get(name)) is not None and _is_half(module)
    }


def _importing_threads() -> list[tuple[str, int | None]]:
    """Return the names of modules that are being imported, each with the id of its thread."""
    locks = getattr(import_module("importlib._bootstrap"), "_module_locks", {})
    return [(name, getattr(reference(), "owner", None)) for name, reference in list(locks.items())]


def _is_half(module: ModuleType) -> bool:
    return getattr(getattr(module, "__spec__", None), "_initializing", False)


def late_attribute(reference: str) -> Any:
    """Return the object for `module:name`, imported as by `late_import`."""
    module, _, name = reference.partition(":")
    return getattr(late_import(module), name)


def in_child(owner: _T, renew: Callable[[_T], object]) -> None:
    """Call `renew(owner)` in every forked child, as long as the owner exists.

    Call it once, when the owner is created. `renew` must not reference the owner: pass a function, not a bound method.
    """
    _watch_forks()
    _owners[owner] = renew


def renew_locks(owner: object, *names: str) -> None:
    """Replace the locks in these attributes of `owner` in every forked child, by locks of the same kind."""
    in_child(owner, _renewal(names))


@cache
def _renewal(names: tuple[str, ...]) -> Callable[[object], None]:
    """Return one function for all owners with the same attributes; there may be thousands of owners."""

    def renew(renewed: object) -> None:
        for name in names:
            reentrant = isinstance(getattr(renewed, name), type(threading.RLock()))
            setattr(renewed, name, threading.RLock() if reentrant else threading.Lock())

    return renew


class ProcessListener(Protocol):
    """An object that is notified of forks and of the end of the process."""

    def before_fork(self, deadline: float) -> bool:
        """Prepare for a fork, on the forking thread, until a monotonic time; return whether that was possible."""

    def after_fork_in_parent(self) -> None:
        """Resume in the parent process, if prepared."""

    def after_fork_in_child(self) -> None:
        """Reset the state in the child, prepared or not."""

    def at_exit(self, timeout_s: float) -> None:
        """Finish within the given time."""


def register(listener: ProcessListener) -> None:
    """Notify `listener`, as long as it exists, of forks and of the end of this process.

    Waits for the end of a fork, but not for long.
    """
    _watch_forks()
    # Between the two it would be part of a child that does not notify it.
    lock = _fork_lock[0]
    is_alone = lock.acquire(timeout=_FORK_S)
    _listeners[listener] = None
    if is_alone:
        lock.release()


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


def exit_left_s(most_s: float) -> float:
    """Return how long one part of the end of this process may take: all that hangs takes 8 seconds in total."""
    if not _exit_until_s:
        _exit_until_s.append(monotonic_s() + _EXIT_S)
    return max(0.0, min(most_s, _exit_until_s[0] - monotonic_s()))


def within_exit_s(most_s: float) -> float:
    """Return a limit, shortened to what is left for the end of this process if that has begun."""
    return exit_left_s(most_s) if _exit_until_s else most_s


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
    deadline = monotonic_s() + _LISTENERS_S
    for listener in _registered():
        listener.at_exit(exit_left_s(max(0.0, deadline - monotonic_s())))


class _Fork(NamedTuple):
    is_alone: bool
    """Whether it holds the lock that prevents other threads from forking."""
    listeners: list[ProcessListener]
    prepared: list[ProcessListener]


def _before() -> None:
    deadline = monotonic_s() + _FORK_S
    # Two threads may fork at once, and hooks of other libraries may run in between.
    fork = _Fork(_fork_lock[0].acquire(timeout=_FORK_S), _registered(), [])
    _forks[get_ident()].append(fork)
    for listener in fork.listeners:
        if listener.before_fork(deadline):
            fork.prepared.append(listener)
    LATE_IMPORTS.before_fork(deadline)


def _in_parent() -> None:
    LATE_IMPORTS.after_fork_in_parent()
    fork = _forks[get_ident()].pop()
    if not _forks[get_ident()]:
        del _forks[get_ident()]
    for listener in reversed(fork.prepared):
        listener.after_fork_in_parent()
    if fork.is_alone:
        _fork_lock[0].release()


def _in_child() -> None:
    fork = _forks[get_ident()].pop()
    _forks.clear()
    _fork_lock[0] = threading.RLock()
    _hooked_in_child.clear()
    _exit_until_s.clear()
    LATE_IMPORTS.after_fork_in_child()
    for owner, renew in list(_owners.items()):
        renew(owner)
    for listener in fork.listeners:
        listener.after_fork_in_child()


def _watch_forks() -> None:
    """Register the hooks on first use: `import callspan` does no work."""
    if _watched:
        return
    _watched.append(True)
    # Before a fork, hooks run in the reverse order of registration. Were `logging` imported later, the fork would hold
    # its lock while it waits for imports, which may wait for that lock.
    import logging  # noqa: F401

    if sys.platform != "win32":
        os.register_at_fork(before=_before, after_in_parent=_in_parent, after_in_child=_in_child)
