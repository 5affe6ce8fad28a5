"""Health: warnings of a failing store: what failed and why, how much waits since when, and the recovery."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable
from typing import Final, NamedTuple

from callspan.fail_open import log
from callspan.formatting import iso, plural
from callspan.safe_urls import whole_words, without_passwords

_AGAIN_S: Final = 300.0
"""Minimum time between two warnings with the same reason."""
_VARYING: Final = re.compile(r"[0-9a-f]{8,}(?:-[0-9a-f]{4,})*|[0-9]+")
"""Ids and numbers in messages, such as query ids, ports and sizes; they do not make a reason different."""
_LONGEST: Final = 400


class Backlog(NamedTuple):
    """The records that wait for a store."""

    records: int
    since_ns: int | None
    """Earliest possible time at which the first of them was written, Unix time."""
    place: str


class Health:
    """Warns of the failures of one store. Used by the thread that delivers to it."""

    def __init__(self, name: str, backlog: Callable[[], Backlog], clock: Callable[[], float] = time.monotonic) -> None:
        """`backlog` is called only for a warning, because it reads what waits."""
        self._name = name
        self._backlog = backlog
        self._clock = clock
        self._warned: dict[str, float] = {}
        """Time of the last warning of each reason, with its numbers removed."""
        self._failing_since: float | None = None
        self._has_warned = False

    def failed(self, error: Exception) -> None:
        """Warn of a failure, unless its reason was logged some minutes ago."""
        now, why = self._clock(), reason(error)
        kind = _VARYING.sub("", why)
        if self._failing_since is None:
            self._failing_since = now
        if now < self._warned.get(kind, -_AGAIN_S) + _AGAIN_S:
            return
        self._warned = {known: then for known, then in self._warned.items() if now < then + _AGAIN_S} | {kind: now}
        self._has_warned = True
        waits = self._backlog()
        since = "" if waits.since_ns is None else f" since {iso(waits.since_ns)}"
        log(
            logging.WARNING,
            "%s is unavailable (%s): %s%s, kept in %s; retrying",
            self._name,
            why,
            plural(waits.records, "record", "wait"),
            since,
            waits.place,
        )

    def recovered(self) -> None:
        """Log once that the store accepts records again, if its failure was logged."""
        since, has_warned = self._failing_since, self._has_warned
        self._failing_since, self._has_warned = None, False
        if since is not None and has_warned:
            log(logging.WARNING, "%s takes records again, after %.1f s", self._name, self._clock() - since)


def reason(error: Exception) -> str:
    """Return why a store failed, as a short text without passwords."""
    if isinstance(error, OSError) and error.strerror:
        text = f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    else:
        text = next(iter(str(error).strip().splitlines()), "") or type(error).__name__
    text = without_passwords(text)
    return text if len(text) <= _LONGEST else whole_words(text, _LONGEST).rstrip() + "…"
