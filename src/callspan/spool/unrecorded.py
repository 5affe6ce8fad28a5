"""Unrecorded calls: how often requests that are inference, or seem to be, left no record, in a file of the spool.

The file is shared by all processes that have the spool directory, and outlives them.
"""

from __future__ import annotations

import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import msgspec

from callspan import forks
from callspan.background import AtomicFlag, Worker
from callspan.fail_open import Once, fail_open, log, ours, reported
from callspan.file_lock import locked_soon
from callspan.forks import in_child
from callspan.spool.segment import make_private

FILE: Final = "unrecorded.json"
MOST_PATHS: Final = 64
"""How many paths are counted and warned of by their names."""
OTHERS: Final = "other paths"
"""Stands for the paths beyond those."""
_LOCK: Final = "unrecorded.lock"
_LOCKED_S: Final = 1.0
_SOON_S: Final = 0.2
_WARNING: Final = (
    "Calls to %s are not recorded by this version of callspan. `callspan doctor` says how many there were; "
    "docs/coverage.md says what is recorded"
)
_KEEP: Final = fail_open("count a call that leaves no record")
_WRITING: Final = Worker("callspan-unrecorded")
_warned: Final = Once()
_paths: Final[dict[str, None]] = {}
"""The paths that this process has seen, at most `MOST_PATHS`."""


class Count(msgspec.Struct):
    """The calls to one path."""

    calls: int = 0
    first_ns: int = 0
    """When the first of them was counted, Unix time."""
    last_ns: int = 0


_decode: Final = msgspec.json.Decoder(dict[str, Count]).decode


def read_unrecorded(directory: Path) -> dict[str, Count]:
    """Return the counts by path; none where the file is missing or damaged."""
    try:
        return _decode((directory / FILE).read_bytes())
    except ours(OSError, msgspec.MsgspecError):
        return {}


def add_unrecorded(directory: Path, calls: Mapping[str, int]) -> None:
    """Add to the counts. Raises OSError, TimeoutError among them, where the file is locked for long."""
    make_private(directory)
    now = time.time_ns()
    with locked_soon(directory / _LOCK, _LOCKED_S):
        counts = read_unrecorded(directory)
        for path, number in calls.items():
            name = path if path in counts or len(counts.keys() - {OTHERS}) < MOST_PATHS else OTHERS
            known = counts.get(name, Count(first_ns=now))
            counts[name] = Count(known.calls + number, known.first_ns, now)
        fresh = directory / f"{FILE}.new"
        fresh.write_bytes(msgspec.json.encode(counts))
        fresh.chmod(0o600)
        fresh.replace(directory / FILE)


class UnrecordedCalls:
    """Counts calls that leave no record, warns once of each path, and writes the counts on a background thread.

    Safe from any thread and in signal handlers; never raises.
    """

    def __init__(self, directory: Callable[[], Path | None]) -> None:
        """`directory` gives the spool directory; None: there is no store, and nothing is written."""
        self._directory = directory
        self._begin()
        in_child(self, UnrecordedCalls._begin)

    def _begin(self) -> None:
        # What was noted before a fork is the parent's to write.
        # Paths, and how many calls: each entry is taken by one thread, though two may write at the same time.
        self._noted: deque[tuple[str, int]] = deque()
        self._idle = AtomicFlag(is_set=True)
        self._registered = False

    def note(self, path: str, *, warn: bool = True) -> None:
        """Count one call, to a path without ids; `warn` False: the caller has a warning of its own."""
        with _KEEP:
            if len(_paths) < MOST_PATHS or path in _paths:
                _paths[path] = None
            else:
                path = OTHERS
            if warn and _warned.first(path):
                log(logging.WARNING, _WARNING, path)
            if self._directory() is None:
                return
            self._noted.append((path, 1))
            if not self._registered:
                forks.register(self)
                self._registered = True
            try:
                if self._idle.test_and_clear():
                    _WRITING.put_later(_SOON_S, self._write)
            except BaseException:
                self._idle.set()
                raise

    def flush(self, timeout_s: float) -> None:
        """Write what was counted so far."""
        _WRITING.drain(timeout_s, later=True)
        if self._noted:  # what another writer's lock was in the way of
            self._write()

    def _write(self) -> None:
        self._idle.set()
        directory = self._directory()
        counts: Counter[str] = Counter()
        while self._noted:
            try:
                path, number = self._noted.popleft()
            except ours(IndexError):
                break
            counts[path] += number
        if directory is None or not counts:
            return
        try:
            add_unrecorded(directory, counts)
        except reported(_KEEP):
            self._noted.extend(counts.items())

    def before_fork(self) -> None:
        """Do nothing: no lock is held for long."""

    def after_fork_in_parent(self) -> None:
        """Do nothing."""

    def after_fork_in_child(self) -> None:
        """Do nothing: `forks` has reset the counts."""

    def at_exit(self, timeout_s: float) -> None:
        """Write what was counted last."""
        self.flush(timeout_s)


def forget_warnings() -> None:
    """Warn of every path again. For tests."""
    _warned.forget()
    _paths.clear()
