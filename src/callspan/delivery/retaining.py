"""Retention: deletes old records, or only their content, in batches, on the thread that delivers to the store."""

from __future__ import annotations

import logging
import time
from collections.abc import Generator, Iterator
from typing import Final

from callspan.fail_open import fail_open, log
from callspan.settings import Settings
from callspan.stores.protocol import SqlStore
from callspan.stores.removal import Keep

_IDLE_S: Final = 60.0
"""How long after a pass the next one begins."""
_DAY_NS: Final = 86_400 * 10**9
_GRAIN_NS: Final = 3600 * 10**9
"""Records that expire within this time are deleted together, because each deletion scans all contents."""
_QUIET_NS: Final = 2 * _DAY_NS
"""A session without an end is not treated as ended earlier; a background response may take a day."""


def retains(settings: Settings) -> bool:
    """Return whether something is deleted by itself."""
    return {settings.retain_days, settings.retain_content_days} != {None}


def _before(now_ns: int, until_ns: int, days: float | None) -> int | None:
    """Return the time that was `days` ago, at most `until_ns`, rounded down; None without a limit."""
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
        """The time limits of the last pass."""
        self._next = 0.0
        self._has_deleted = False
        self._failing = fail_open(f"delete old records from {store.name}")

    def tend(self, waits_since_ns: int | None) -> float:
        """Delete a batch, if one is due; return the seconds until the next one. Deliveries come first."""
        if self._next <= time.monotonic():
            self._next = time.monotonic() + _IDLE_S
            changed = None
            with self._failing:
                self._pass = self._pass or self._begun(waits_since_ns)
                changed = None if self._pass is None else next(self._pass, None)
            if changed is None:
                self.close()
            else:
                self._next = 0.0
                self._log_start(changed)
        return self._next - time.monotonic()

    def _log_start(self, changed: int) -> None:
        if changed and not self._has_deleted:
            self._has_deleted = True
            days = self._settings.retain_days, self._settings.retain_content_days
            text = "%s: retention has begun to delete (retain_days=%s, retain_content_days=%s)"
            log(logging.WARNING, text, self._store.name, *days)

    def close(self) -> None:
        """Abandon the pass; deleted records stay deleted."""
        steps, self._pass = self._pass, None
        if isinstance(steps, Generator):
            steps.close()

    def _begun(self, waits_since_ns: int | None) -> Iterator[int] | None:
        """Return the batches of a pass; None where nothing has become old since the last one."""
        now = time.time_ns()
        until = now if waits_since_ns is None else min(now, waits_since_ns)
        days = self._settings.retain_days, self._settings.retain_content_days
        before, content_before = (_before(now, until, one) for one in days)
        if (before, content_before) == self._passed:
            return None
        self._passed = before, content_before
        return self._store.retain(Keep(now - _QUIET_NS, before, content_before))
