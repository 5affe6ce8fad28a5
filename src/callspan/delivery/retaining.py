"""Retaining: has the thread that delivers to a store delete what is old or too much, or only its content, in slices.

A slice is 50 ms in a second.

A file says which process does this for a store, when the next slice may begin, and what was deleted: beside a store
that is a file, so that it is one whatever spool a process has, else in the spool directory. It is locked during a slice
only, so that neither a fork nor a killed process leaves it locked.
"""

from __future__ import annotations

import hashlib
import logging
import os
import time
from collections import Counter
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from uuid import uuid4

import msgspec

from callspan.fail_open import fail_open, log, ours
from callspan.file_lock import try_lock, unlock
from callspan.forks import in_child
from callspan.formatting import plural
from callspan.record.content_level import at_level
from callspan.record.events import Record
from callspan.settings import Settings
from callspan.spool.segment import make_private
from callspan.spool.sink import Since
from callspan.stores.base import Keep
from callspan.stores.protocol import Retainable, Store

_SUFFIX: Final = ".retained"
_SLICE_S, _EACH_S = 0.05, 1.0
_LAST_STEP_S: Final = 0.012
"""How long before the end of a slice no other step is begun."""
_IDLE_S: Final = 60.0
"""How long after a pass the next one begins."""
_LEASE_S: Final = 5.0
"""How long after the last slice of a process another one may go on."""
_DAY_NS: Final = 86_400 * 10**9
_GRAIN_NS: Final = 3600 * 10**9
"""What becomes old within this time is deleted together: each time all contents are looked through."""
_QUIET_NS: Final = 2 * _DAY_NS
"""Without an end, nothing is taken for ended earlier; a batch takes up to a day."""
_COUNTED: Final = {"sessions": "session", "calls": "call"}
_FLAGS: Final = os.O_RDWR | os.O_CREAT


class Retained(msgspec.Struct):
    """What is known of the retention of a store."""

    counts: dict[str, int] = {}
    """What was deleted, by table."""
    last_ns: int = 0
    """When something was deleted last, Unix time; 0: never."""
    by: str = ""
    """The process that does it."""
    next_ns: int = 0
    """When the next slice may begin."""
    content_ns: int = 0
    """What ended before this Unix time has lost its content, if a pass did that."""

    @property
    def what(self) -> str:
        """The sessions, calls and other records as text."""
        others = sum(self.counts.get(name, 0) for name in ("timesteps", "events", "messages", "rewards"))
        parts = [plural(self.counts.get(name, 0), word) for name, word in _COUNTED.items()]
        reduced = self.counts.get("reduced", 0)
        parts += [plural(others, "other record"), *([f"the content of {plural(reduced, 'record')}"] if reduced else [])]
        return ", ".join(parts)


_decode: Final = msgspec.json.Decoder(Retained).decode


def retained(store: Store, directory: Path) -> Retained | None:
    """Return what was deleted from a store by itself, None if nothing was; `directory` is that of the spool."""
    try:
        known = _decoded(_place(store, directory).read_bytes())
    except ours(OSError):
        return None
    return known if known.last_ns else None


def _place(store: Store, directory: Path) -> Path:
    """Return the file of a store; it is the same for every URL of it."""
    if store.is_file and store.path is not None:
        path = store.path.resolve()
        return path.with_name(path.name + _SUFFIX)
    return directory / (hashlib.sha256(store.address.encode()).hexdigest()[:12] + _SUFFIX)


def _decoded(data: bytes) -> Retained:
    try:
        return _decode(data)
    except ours(msgspec.MsgspecError):
        return Retained()


def retains(settings: Settings) -> bool:
    """Return whether something is deleted by itself."""
    return {settings.retain_days, settings.retain_content_days, settings.retain_bytes} != {None}


def _before(now_ns: int, until_ns: int, days: float | None) -> int | None:
    """Return before when what ended is older than so many days, and ended before `until_ns`."""
    if days is None:
        return None
    span = int(days * _DAY_NS)
    grain = max(1, min(_GRAIN_NS, span // 100))
    return min(until_ns, (now_ns - span) // grain * grain)


def _reduced(record: Record) -> Record:
    return at_level(record, "metadata", why="retention")


class Retention:
    """The retention of one store in one process. Used by the thread that delivers to the store."""

    def __init__(self, store: Store, settings: Settings, directory: Path) -> None:
        """`directory` is that of the spool."""
        self._store = store
        self._settings = settings
        self._directory = directory
        self._path = _place(store, directory)
        self._me = f"{uuid4()}"
        self._pass: Iterator[None] | None = None
        self._counts = Counter[str]()
        self._content_ns = 0
        """`Retained.content_ns` after this pass."""
        self._next = 0.0
        self._descriptor: int | None = None
        self._inherited: list[object] = []
        self._failing = fail_open(f"delete what is old from {store.name}")
        in_child(self, Retention._start_afresh)

    def due_s(self) -> float:
        """Return in how many seconds the next slice may begin."""
        return self._next - time.monotonic()

    def step(self, waits_since_ns: Since) -> None:
        """Work for a slice, if no other process does."""
        started = time.monotonic()
        self._next = started + _IDLE_S
        wait_s = _IDLE_S
        with self._failing:
            wait_s = self._slice(waits_since_ns, started)
        # What takes longer is made up for.
        took_s = time.monotonic() - started
        self._next = started + max(wait_s, took_s * _EACH_S / _SLICE_S)

    def close(self) -> None:
        """Give up the pass; what was deleted stays deleted."""
        steps, self._pass = self._pass, None
        if isinstance(steps, Generator):
            steps.close()

    def _slice(self, waits_since_ns: Since, started: float) -> float:
        """Work, and return in how many seconds to look again."""
        with self._locked() as descriptor:
            if descriptor is None:
                return _EACH_S
            known = _decoded(os.read(descriptor, 1 << 16))
            now = time.time_ns()
            # After a step back of the clock a time may be far ahead.
            wait_ns = min(
                known.next_ns - now + (0 if known.by in ("", self._me) else int(_LEASE_S * 1e9)), int(_IDLE_S * 1e9)
            )
            if wait_ns > 0:
                return wait_ns / 1e9
            if known.by != self._me:
                self.close()
            return self._work(descriptor, known, waits_since_ns, started)

    def _work(self, descriptor: int, known: Retained, waits_since_ns: Since, started: float) -> float:
        self._counts = counts = self._counts if self._pass is not None else Counter(known.counts)
        before = counts.total()
        done = True
        try:
            if self._pass is None:
                self._pass = self._begun(waits_since_ns, known)
            done = self._work_on(self._pass, started)
            if done:
                known.content_ns = self._content_ns
        finally:
            if done:
                self.close()
            took_s = time.monotonic() - started
            wait_s = _IDLE_S if done else max(_EACH_S, took_s * _EACH_S / _SLICE_S)
            now = time.time_ns()
            deleted = counts.total() > before
            fresh = Retained(
                dict(counts),
                now if deleted else known.last_ns,
                self._me,
                now + int(wait_s * 1e9),
                known.content_ns,
            )
            data = msgspec.json.encode(fresh)
            # In one write, which a kill does not cut; never shorter than before, so that nothing is left behind it.
            os.lseek(descriptor, 0, os.SEEK_SET)
            os.write(descriptor, data.ljust(os.fstat(descriptor).st_size))
            if deleted and not known.last_ns:
                self._say(fresh)
        return wait_s

    def _work_on(self, steps: Iterator[None], started: float) -> bool:
        """Take steps until the slice ends; return whether the pass has ended."""
        return all(time.monotonic() - started < _SLICE_S - _LAST_STEP_S for _ in steps)

    def _begun(self, waits_since_ns: Since, known: Retained) -> Iterator[None]:
        now = time.time_ns()
        since = waits_since_ns()
        until = now if since is None else min(now, since)
        before = _before(now, until, self._settings.retain_days)
        content_before = _before(now, until, self._settings.retain_content_days)
        self._content_ns = known.content_ns if content_before is None else content_before
        if content_before == known.content_ns:
            content_before = None
        if not isinstance(self._store, Retainable):
            raise TypeError(self._store)
        most = self._settings.retain_bytes
        keep = Keep(until, now - _QUIET_NS, before, most, content_before, _reduced)
        return self._store.retention(keep, self._counts)

    def _say(self, first: Retained) -> None:
        settings = self._settings
        text = (
            "%s: retention has begun to delete (retain_days=%s, retain_content_days=%s, retain_bytes=%s): %s so far,"
            " more may follow; `callspan doctor` counts all"
        )
        limits = settings.retain_days, settings.retain_content_days, settings.retain_bytes
        log(logging.WARNING, text, self._store.name, *limits, first.what)

    @contextmanager
    def _locked(self) -> Iterator[int | None]:
        """Open the file and hold its lock; None if another process holds it."""
        make_private(self._path.parent)
        self._descriptor = descriptor = os.open(self._path, _FLAGS, 0o600)
        try:
            if not try_lock(descriptor):
                yield None
                return
            try:
                yield descriptor
            finally:
                unlock(descriptor)
        finally:
            self._descriptor = None
            os.close(descriptor)

    def _start_afresh(self) -> None:
        """In a forked child: the lock and the connections are the parent's."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
        self._inherited.append(self._pass)
        self._pass, self._me = None, f"{uuid4()}"
