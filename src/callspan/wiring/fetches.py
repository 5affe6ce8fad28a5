"""Fetches: `responses.retrieve`, `cancel` and webhooks complete the calls of background responses, once.

A fetch is observed as a call is, without span or record of its own until it finds a response that has ended.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec
from opentelemetry import context as otel_context
from opentelemetry.context import Context
from opentelemetry.trace import SpanContext, TraceFlags

from callspan.agent.runtime import SPAN_REFS, SpanRef
from callspan.fail_open import fail_open
from callspan.observe import background_responses
from callspan.observe.background_responses import Completions
from callspan.observe.factory import CallFactory, nowhere
from callspan.observe.ports import CallInfo
from callspan.process import callbacks
from callspan.record.call import CallRecord
from callspan.record.events import Record
from callspan.record.ids import is_of_response
from callspan.record.merging import ANSWER_VERSION, ENDED_VERSION
from callspan.record.messages import Conversation
from callspan.record.span_handle import SpanHandle
from callspan.spans.call import CallSpan, CallSpans

_COMPLETE: Final = fail_open("complete the call of a background response")
_ALONE: Final = SpanRef()
_WRITE, _SHOW, _MEASURE, _DONE = range(4)
"""The steps of a completion. One that was interrupted is repeated, except the last."""


class Fetches:
    """Completes the calls of background responses. Safe from any thread."""

    def __init__(
        self,
        find: Callable[[str, str], SpanRef | None],
        write: Callable[[Record], None],
        measure: Callable[[CallRecord], None],
    ) -> None:
        """`find` looks up a call in local stores, see `SpanFinder`; `write` stores a processed record."""
        self._find, self._write, self._measure = find, write, measure
        self.completions = Completions()

    def factory(self, calls: CallFactory, spans: CallSpans) -> CallFactory:
        """Return the factory that observes fetches, with the settings of `calls`."""
        return calls.without_records(start_span=lambda _: _Fetch(self, spans), surroundings=nowhere)

    def ended(self, calls: CallFactory, server: CallInfo, response_id: str, status: str, at_ns: int | None) -> None:
        """Record the end of a background response, reported by a webhook; its answer is fetched later."""
        at_ns = calls.clock.wall_ns() if at_ns is None else at_ns
        record = background_responses.end_of(server, response_id, status, at_ns)
        if record is None or not self.completions.claim(record.call_id, ENDED_VERSION, object()):
            return
        where = self._find("call", record.call_id)
        if where is None or not where.complete:
            callbacks.write(calls.process(record), self._write)

    def created(self, record: CallRecord) -> None:
        """Note a call's record: a background response that ended with its request needs no fetch."""
        if is_of_response(record.call_id) and record.outcome != background_responses.IN_PROGRESS:
            self.completions.claim(record.call_id, ANSWER_VERSION, object())

    def claim(self, record: CallRecord, token: object) -> SpanRef | None:
        """Claim the completion of an ended response's call and return its span; None if it is claimed or complete."""
        if not background_responses.has_ended(record):
            return None
        if not self.completions.claim(record.call_id, ANSWER_VERSION, token):
            return None
        where = self._find("call", record.call_id)
        if where is not None and where.complete:
            return None
        return SPAN_REFS["call"].get(record.call_id) or where or _ALONE

    def write(self, fetched: CallRecord) -> None:
        """Write the version of the call's record that has the answer."""
        callbacks.write(background_responses.completion(fetched), self._write)

    def measure(self, fetched: CallRecord) -> None:
        """Measure the tokens, once per process."""
        self._measure(fetched)


class _Fetch:
    """Replaces the span of a fetch: creates one only if the fetched response has ended."""

    __slots__ = ("_context", "_of", "_span", "_spans", "_step", "_token", "_where", "wants_content")
    trace_id: str | None = None
    span_id: str | None = None
    parent_span_id: str | None = None
    sampled: bool | None = None

    def __init__(self, of: Fetches, spans: CallSpans) -> None:
        self._of, self._spans = of, spans
        self._context: Context = otel_context.get_current()
        self._where: SpanRef | None = None
        self._span: CallSpan | None = None
        self._step, self._token = _WRITE, object()
        self.wants_content = spans.content or spans.content_elsewhere

    def within(self, context: Context) -> Context:
        """Return `context`: there is no span yet."""
        return context

    def end(self, record: CallRecord, conversation: Conversation | None) -> None:
        """Complete the call if this fetch found its answer."""
        with _COMPLETE:
            self._where = self._where or self._of.claim(record, self._token)
            if self._where is None:
                return
            if self._step == _WRITE:
                self._of.write(record)
                self._step = _SHOW
            if self._step == _SHOW:
                shown = msgspec.structs.replace(record, place=self._where.place)
                self._span = self._span or self._spans.of_fetch(shown, self._context, span_context(self._where))
                if self._span is not None:
                    self._span.end(shown, conversation)
                self._step = _MEASURE
            if self._step == _MEASURE:
                self._step = _DONE
                self._of.measure(record)


def span_context(span: SpanHandle[Any, Any] | SpanRef | None) -> SpanContext | None:
    """Return the span context for a link; None if there is no span."""
    if span is None or span.trace_id is None or span.span_id is None:
        return None
    flags = TraceFlags(TraceFlags.SAMPLED if span.sampled else TraceFlags.DEFAULT)
    return SpanContext(int(span.trace_id, 16), int(span.span_id, 16), is_remote=True, trace_flags=flags)
