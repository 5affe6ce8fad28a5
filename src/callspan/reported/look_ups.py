"""Look-ups: finds in the application's stores the calls, sessions and spans that this process does not know.

A store may wait for a lock, so it is only opened on a thread of callspan's own, and for seconds only.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final, TypeVar, cast

from callspan.agent.runtime import SpanRef, UnansweredError
from callspan.background import on_own_thread
from callspan.fail_open import fail_open, ours, reported
from callspan.forks import late_import
from callspan.record.call import Place
from callspan.spool.losses import add_unanswered
from callspan.stores.base import EmptyStoreError, LookUp, StoredCall
from callspan.stores.urls import parse

LOOK_UP_S: Final = 5.0
"""The longest time that a look-up takes, and for which a store that has not answered is left alone afterwards."""
_UNREADABLE: Final = fail_open("look up what a store knows")
_COUNT: Final = fail_open("count a look-up that no store has answered")
_T = TypeVar("_T")


def is_before(stored_ns: int | None, read_ns: int | None) -> bool:
    """Return whether a stored end had been read before the one of this process, or nobody knows when.

    What this process has written may be stored before the store is asked: that is not before.
    """
    return stored_ns is None or read_ns is None or stored_ns < read_ns


class LookUps:
    """The stores that can be asked: SQLite files, by an indexed look-up. Other stores are not asked."""

    def __init__(self, stores: Iterable[str], directory: Callable[[], Path | None] = lambda: None) -> None:
        """`directory` gives the spool directory, where look-ups without an answer are counted; None: nowhere."""
        self._directory = directory
        self.paths = [path for url in stores if (path := parse(url).path) is not None and parse(url).kind == "sqlite"]
        self._silent_until: dict[Path, float] = {}

    def __bool__(self) -> bool:
        """Return whether there is a store to ask."""
        return bool(self.paths)

    def find(self, kind: str, identity: str) -> SpanRef | None:
        """Return the reference of a span (`session`, `timestep`, `call`); None if no store has it.

        Raises UnansweredError.
        """
        known = next(iter(self._answers(lambda store: store.span(kind, identity))), None)
        if known is None:
            return None
        return SpanRef(
            trace_id=known.trace_id,
            span_id=known.span_id,
            sampled=known.sampled,
            place=Place(session_id=known.session_id, timestep_id=known.timestep_id, timestep=known.timestep),
            level=known.level,
            response_id=known.response_id,
            complete=known.has_end,
            has_answer=known.has_answer,
            read_ns=known.read_ns,
        )

    def complete(self, call_ids: Sequence[str]) -> Mapping[str, StoredCall]:
        """Return those of the calls that are stored with their end. Raises UnansweredError."""
        found: dict[str, StoredCall] = {}
        for answer in self._answers(lambda store: store.ended_calls(call_ids)):
            found |= answer
        return found

    def model(self, session_id: str) -> str | None:
        """Return the recorded model of a hosted agent's session; None if unknown. Raises UnansweredError."""
        return next(iter(self._answers(lambda store: store.agent_model(session_id))), None)

    def _answers(self, ask: Callable[[LookUp], _T | None]) -> list[_T]:
        """Return what the stores know. Raises UnansweredError if none knows it, and one has not answered."""
        if not on_own_thread():
            raise UnansweredError("a store is only opened on a thread of callspan's own")
        deadline = time.monotonic() + LOOK_UP_S
        answers: list[_T] = []
        answered = True
        for path in self.paths:
            now = time.monotonic()
            if now >= deadline or now < self._silent_until.get(path, 0.0):
                answered = False
                continue
            try:
                answer = ask(_look_up(path, deadline - now))
            except ours(EmptyStoreError):
                continue
            except reported(_UNREADABLE):
                answered = False
                self._silent_until[path] = time.monotonic() + LOOK_UP_S
                continue
            if answer:
                answers.append(answer)
        if not answers and not answered:
            with _COUNT:
                directory = self._directory()
                if directory is not None:
                    add_unanswered(directory)
            raise UnansweredError(f"no answer within {LOOK_UP_S:.0f} s")
        return answers


def _look_up(path: Path, wait_s: float) -> LookUp:
    return cast("LookUp", late_import("callspan.stores.sqlite.look_ups").SQLiteLookUp(path, wait_s))
