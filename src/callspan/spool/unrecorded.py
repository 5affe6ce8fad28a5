"""Unrecorded calls: how often requests that may cost money left no record, in the file of losses."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from callspan import forks
from callspan.fail_open import Once, fail_open, log
from callspan.spool.losses import MOST_PATHS, OTHER_PATHS, Loss, Losses, LossLog

_WARNING: Final = (
    "not recorded: %s (logged once). `callspan doctor` counts them; docs/coverage.md says what is recorded"
)
_KEEP: Final = fail_open("count a call that leaves no record")
_warned: Final = Once()
_paths: Final[dict[str, None]] = {}
"""The paths that this process has seen, at most `MOST_PATHS`."""


class UnrecordedCalls:
    """Counts calls that leave no record, warns once of each path, and writes the counts on a background thread.

    Safe from any thread and in signal handlers; never raises.
    """

    def __init__(self, directory: Callable[[], Path | None]) -> None:
        """`directory` gives the spool directory; None: there is no store, and nothing is written."""
        self._directory = directory
        self._logs: dict[Path, LossLog] = {}

    def note(self, path: str) -> None:
        """Count one request, by its method and its path without ids."""
        with _KEEP:
            if len(_paths) < MOST_PATHS or path in _paths:
                _paths[path] = None
            else:
                path = OTHER_PATHS
            if _warned.first(path):
                log(logging.WARNING, _WARNING, path)
            directory = self._directory()
            if directory is None:
                return
            losses = self._logs.get(directory)
            if losses is None:
                forks.register(self)
                # Another thread, or the code that this one has interrupted, may add one at the same time.
                losses = self._logs.setdefault(directory, LossLog(directory))
            now = time.time_ns()
            count = Loss(path, 1, calls=1, first_ns=now, last_ns=now)
            losses.count_later(Losses(unrecorded={path: count}))

    def flush(self, timeout_s: float) -> None:
        """Write what was counted so far."""
        for found in list(self._logs.values()):
            found.finish(timeout_s)

    def before_fork(self) -> None:
        """Do nothing: no lock is held for long."""

    def after_fork_in_parent(self) -> None:
        """Do nothing."""

    def after_fork_in_child(self) -> None:
        """Leave what was noted before to the parent."""
        self._logs = {}

    def at_exit(self, timeout_s: float) -> None:
        """Write what was counted last."""
        self.flush(timeout_s)


def forget_warnings() -> None:
    """Warn of every path again. For tests."""
    _warned.forget()
    _paths.clear()
