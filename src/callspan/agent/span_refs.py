"""Span references: the spans of the last sessions, timesteps and calls by id, so that late rewards find them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from callspan.agent.runtime import Runtime, ScopeSpanHandle, SpanRef
from callspan.record.call import CallRecord, Place


class LRUCache:
    """The newest spans by the id of what they are of: as many as are allowed, the oldest go first.

    Without a lock, which a signal handler could wait for that has interrupted its holder: each step is one of C.
    """

    __slots__ = ("_known", "_limit")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._known: OrderedDict[str, SpanRef] = OrderedDict()

    def keep(self, identity: str, where: SpanRef) -> None:
        """Keep it as the newest."""
        known = self._known
        known.pop(identity, None)
        known[identity] = where
        if len(known) > self._limit:
            known.popitem(last=False)

    def get(self, identity: str) -> SpanRef | None:
        """Return what is kept under the id, or None."""
        return self._known.get(identity)

    @contextmanager
    def forgotten(self) -> Iterator[None]:
        """Know nothing of before within the block, and nothing of the block afterwards. For tests, one at a time."""
        before, self._known = self._known, OrderedDict()
        try:
            yield
        finally:
            self._known = before


SPAN_REFS: Final = {"session": LRUCache(4096), "timestep": LRUCache(1024), "call": LRUCache(4096)}


def remember(kind: str, identity: str, span: ScopeSpanHandle, place: Place) -> None:
    """Keep where a session or timestep and its span are."""
    where = SpanRef(trace_id=span.trace_id, span_id=span.span_id, sampled=span.sampled, place=place)
    SPAN_REFS[kind].keep(identity, where)


def remember_call(record: CallRecord) -> None:
    """Keep where a call and its span are."""
    where = SpanRef(
        trace_id=record.trace_id,
        span_id=record.span_id,
        sampled=record.sampled is not False,
        place=record.place,
        response_id=record.response.id if record.response is not None else None,
    )
    SPAN_REFS["call"].keep(record.call_id, where)


def found(runtime: Runtime | None, **ids: str | None) -> SpanRef | None:
    """Return where the first of these is whose id is given and known, here or to the runtime; else None."""
    for kind, identity in ids.items():
        if identity is not None:
            where = SPAN_REFS[kind].get(identity) or (runtime.find(kind, identity) if runtime is not None else None)
            if where is not None:
                return where
    return None
