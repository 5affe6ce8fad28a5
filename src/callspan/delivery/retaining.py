"""Retaining: has the thread that delivers to SQLite or Postgres delete what is old, or only its content, in batches."""

from __future__ import annotations

import logging
import time
from collections.abc import Generator, Iterator
from typing import Final

from callspan.fail_open import fail_open, log
from callspan.forks import in_child
from callspan.settings import Settings
from callspan.stores.protocol import SqlStore
from callspan.stores.removal import Keep

_IDLE_S: Final = 60.0
"""How long after a pass the next one begins."""
_DAY_NS: Final = 86_400 * 10**9
_GRAIN_NS: Final = 3600 * 10**9
"""What becomes old within this time is deleted together: each time all contents are looked through."""
_QUIET_NS: Final = 2 * _DAY_NS
"""Without an end, nothing is taken for ended earlier; a background response takes up to a day."""


def retains(settings: Settings) -> bool:
    """Return whether something is deleted by itself."""
    return {settings.retain_days, settings.retain_content_days} != {None}


def _before(now_ns: int, until_ns: int, days: float | None) -> int | None:
    """Return before when what ended is older than so many days, and ended before `until_ns`."""
    if days is None:
        return None
    span = int(days * _DAY_NS)
    grain = max(1, min(_GRAIN_NS, span // 100))
    return min(until_ns, (now_ns - span) // grain * grain)


class Retention:
    """The retention of one store in one process. Used by the thread that delivers to the store."""

    def __init__(self, store: SqlStore, settings: Settings) -> None:
        """Do nothing yet."""
        self._store = store
        self._settings = settings
        self._pass: Iterator[int] | None = None
        self._passed: tuple[int | None, int | None] = (None, None)
        """Before when the last pass deleted."""
        self._next = 0.0
        self._has_deleted = False
        self._inherited: list[object] = []
        self._failing = fail_open(f"delete what is old from {store.name}")
        in_child(self, Retention._start_afresh)

    def due_s(self) -> float:
        """Return in how many seconds the next batch may begin."""
        return self._next - time.monotonic()

    def step(self, waits_since_ns: int | None) -> None:
        """Delete a batch, if one is due; the next one is due at once, after what is to be delivered."""
        self._next = time.monotonic() + _IDLE_S
        with self._failing:
            if self._pass is None:
                self._pass = self._begun(waits_since_ns)
            changed = None if self._pass is None else next(self._pass, None)
            if changed is None:
                self._pass = None
            else:
                self._next = 0.0
                self._say(changed)
            return
        self.close()

    def _say(self, changed: int) -> None:
        if changed and not self._has_deleted:
            self._has_deleted = True
            days = self._settings.retain_days, self._settings.retain_content_days
            text = "%s: retention has begun to delete (retain_days=%s, retain_content_days=%s)"
            log(logging.WARNING, text, self._store.name, *days)

    def close(self) -> None:
        """Give up the pass; what was deleted stays deleted."""
        steps, self._pass = self._pass, None
        if isinstance(steps, Generator):
            steps.close()

    def _begun(self, waits_since_ns: int | None) -> Iterator[int] | None:
        """Return the batches of a pass; None where nothing has become old since the last one."""
        now = time.time_ns()
        until = now if waits_since_ns is None else min(now, waits_since_ns)
        before = tuple(
            _before(now, until, days) for days in (self._settings.retain_days, self._settings.retain_content_days)
        )
        if before == self._passed:
            return None
        self._passed = before[0], before[1]
        return self._store.retain(Keep(now - _QUIET_NS, *self._passed))

    def _start_afresh(self) -> None:
        """In a forked child: the connections are the parent's, and must not be closed here."""
        self._inherited.append(self._pass)
        self._pass = None
