"""Lifetime: how a spool learns that its process forks or ends. No signal handlers; nothing at import."""

from __future__ import annotations

import atexit
import os
import sys
import threading
import time
from typing import Final, Protocol

_EXIT_S: Final = 2.0


class Living(Protocol):
    """What is told about forks and the end of the process."""

    def before_fork(self) -> None:
        """Get ready for a fork; on the forking thread."""

    def after_fork_in_parent(self) -> None:
        """Go on in the parent."""

    def after_fork_in_child(self) -> None:
        """Begin anew in the child."""

    def at_exit(self, timeout_s: float) -> None:
        """Do what is left to do within the time."""


_living: Final[list[Living]] = []
_forking: Final[list[list[Living]]] = []
_one_fork: Final = [threading.RLock()]
_hooked: Final[list[bool]] = []


def watch(living: Living) -> None:
    """Tell `living` about forks and the end of this process, until `forget`."""
    if not _hooked:
        _hooked.append(True)
        atexit.register(_at_exit)
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(before=_before, after_in_parent=_in_parent, after_in_child=_in_child)
    if living not in _living:
        _living.append(living)
    # Children of multiprocessing end without atexit, and forget the finalisers of their parent.
    process = sys.modules.get("multiprocessing.process")
    util = sys.modules.get("multiprocessing.util")
    if process is not None and util is not None and process.parent_process() is not None:
        util.Finalize(None, _at_exit, exitpriority=100)


def forget(living: Living) -> None:
    """Tell `living` no more; it holds no file any longer."""
    if living in _living:
        _living.remove(living)


def _at_exit() -> None:
    deadline = time.monotonic() + _EXIT_S
    for living in tuple(_living):
        living.at_exit(max(0.0, deadline - time.monotonic()))


def _before() -> None:
    # Two threads may fork at once; a signal handler may fork within a fork.
    _one_fork[0].acquire()
    _forking.append(list(_living))
    for living in _forking[-1]:
        living.before_fork()


def _in_parent() -> None:
    for living in reversed(_forking.pop()):
        living.after_fork_in_parent()
    _one_fork[0].release()


def _in_child() -> None:
    _one_fork[0] = threading.RLock()
    for living in _forking.pop():
        living.after_fork_in_child()
