"""LiveCall: the state of one running call, which makes one CallRecord at its end; the factory that starts calls.

And exchanges that have a record, of which a call is one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec

from callspan.fail_open import fail_open, reported
from callspan.observe import background_responses
from callspan.observe.attempts import TOO_MANY_REQUESTS, last_limits
from callspan.observe.ending import Ending, bodies
from callspan.observe.exchange import NOWHERE, Exchange, started
from callspan.observe.explicit_times import ExplicitTimes
from callspan.observe.forms import form_fields
from callspan.observe.ports import (
    NO_SPAN,
    CallEnded,
    CallInfo,
    CallPorts,
    CallSpanHandle,
    Clock,
    Timeline,
    nothing,
)
from callspan.observe.stream_timing import ChunkLog, ChunkTiming
from callspan.observe.token_estimates import estimated
from callspan.observe.unrecognized import flag_unrecognized
from callspan.process.processed import Processed
from callspan.process.processors import interrupted
from callspan.providers import registry
from callspan.providers.base import NOT_RECOGNIZED, NULL_BODY, Accumulator, Endpoint, ResponseInfo
from callspan.providers.hosted_tools import has_runs
from callspan.providers.stated_cost import with_header_cost
from callspan.providers.wire_json import text
from callspan.record.call import NO_BODY, CallRecord, ChunkNote, ErrorInfo, Request, Stream, StreamEnd
from callspan.record.codec import encode_json, encode_response, exact_messages
from callspan.record.ids import new_id
from callspan.record.messages import Conversation, RawConversation
from callspan.record.span_handle import span_ids

_READ_REQUEST: Final = fail_open("read the request of a call")
_READ_CHUNK: Final = fail_open("read a chunk of a stream")
_READ_RESPONSE: Final = fail_open("read the response of a call")
_BUILD_RECORD: Final = fail_open("build the record of a call")
_READ_MESSAGES: Final = fail_open("read the messages of a call")
_TOTALS: Final = fail_open("add a call to its session")
_nothing: Final[Callable[[], object]] = bool

_NOTHING_AROUND: Final[tuple[None, None, dict[str, object]]] = (None, None, {})
_START_SPAN: Final = fail_open("start a span")
_READ_AMBIENT: Final = fail_open("read the session and metadata around a call")


def _no_span(begun: Processed[CallRecord]) -> CallSpanHandle:
    del begun
    return NO_SPAN


class RecordedExchange(Exchange):
    """An exchange that becomes a record: folds and times its answer, whole or streamed.

    A failure in here costs content, never the call or its record.
    """

    __slots__ = (
        "_accumulator", "_add", "_endpoint", "_notes", "_raw_output", "_request", "_terminated",
        "_timing", "_unseen", "explicit",
    )  # fmt: skip
    _ports: CallPorts

    def __init__(
        self, ports: CallPorts, endpoint: Endpoint, record: CallRecord, span: CallSpanHandle, zero_ns: int
    ) -> None:
        self._endpoint = endpoint
        self._request: Request = record.request
        self._raw_output: bytes | None = None
        self._accumulator: Accumulator | None = None
        self._terminated = self._unseen = False
        self._add: Callable[[object], bool] | None = None
        self._notes: list[ChunkNote] = []
        self._timing: ChunkTiming | None = None
        self.explicit: ExplicitTimes | None = None
        """What the application says of its times; None: nothing."""
        super().__init__(ports, record, span, zero_ns)

    @property
    def chunks(self) -> int:
        """Number of received chunks of a stream."""
        return 0 if self._timing is None else self._timing.chunks

    @property
    def stream_complete(self) -> bool:
        """True once the stream has signalled its end."""
        return self._complete or (self._accumulator is not None and self._accumulator.complete)

    def set_streaming(self, streaming: bool) -> None:
        """Set whether the response is a stream, if the request did not say."""
        self.streaming = streaming
        if self._request.stream is None:
            self._request = msgspec.structs.replace(self._request, stream=streaming)

    def chunk(self, data: object) -> None:
        """Record one chunk of a stream."""
        if self._endings:
            return
        # The timing is updated inline, because a method call is a large part of the cost of a chunk.
        timing, now_ns = self._timing, self._now_ns()
        if timing is None:
            timing = self._timing = ChunkTiming()
        timing.chunks += 1
        last_ns, timing.last_ns = timing.last_ns, now_ns
        if last_ns is None:
            timing.first_ns = now_ns
        elif now_ns - last_ns > timing.gap_ns:
            timing.gap_ns = now_ns - last_ns
        self._body = data  # its type is that of the last event
        try:
            carried = self._add_first(data, timing) if self._add is None else self._add(data)
        except reported(_READ_CHUNK):
            return
        if carried and timing.content_ns is None:
            timing.content_ns = now_ns

    def _add_first(self, data: object, timing: ChunkTiming) -> bool:
        self._accumulator = self._endpoint.accumulator()
        self._add = self._accumulator.add
        if self._ports.chunk_log:
            log = ChunkLog(self._ports.chunk_log, self._add, timing, self._zero_ns)
            self._add, self._notes = log.add, log.notes
        return self._add(data)

    def mark_partially_observed(self) -> None:
        """Record that a part of the stream was not observed: whether it signalled its end is unknown."""
        self._unseen = True

    def forget_response(self) -> None:
        """Discard the data of a response that was replaced by another one."""
        super().forget_response()
        self._unseen, self._accumulator = False, None
        self._add = None
        self._timing, self._notes = None, []

    def _fold(self, ending: Ending) -> None:
        """Keep the body of the answer with the ending."""
        if ending.body is None:
            whole = self.has_body and self._accumulator is None
            ending.body = self._body if whole else self._folded()
        # The body now has the complete text: keeping its pieces would double the memory.
        self._accumulator = self._add = None

    def _fields(self, ending: Ending) -> tuple[ResponseInfo, dict[str, Any]]:
        """Return what the endpoint reads of the answer, and the fields that it and the ending add to the record."""
        body = ending.body
        try:
            nothing = NULL_BODY if self.has_body else NOT_RECOGNIZED
            info = nothing if body is None else self._endpoint.response_info(body) or NOT_RECOGNIZED
        except reported(_READ_RESPONSE):
            info = NOT_RECOGNIZED
        error = ending.error or info.error
        fields = self._ending_fields(ending, error)
        try:
            content = self._content_fields(ending.duration_ns, info, error, body)
        except reported(_BUILD_RECORD):
            content = {}
        fields.update(content)
        if info.background:
            with _BUILD_RECORD:
                background_responses.set_outcome(fields, self.record, info)
        self.named[:] = [fields.get("call_id", self.record.call_id)]
        return info, fields

    def _folded(self) -> object:
        accumulator, complete = self._accumulator, self.stream_complete
        self._terminated = self._complete or getattr(accumulator, "terminated", complete)
        self._complete = complete
        if accumulator is None or self.has_body:
            return self._body if self.has_body else None
        with _READ_RESPONSE:
            return accumulator.body()
        return None

    def _ending_fields(self, ending: Ending, error: ErrorInfo | None) -> dict[str, Any]:
        """Return the fields of the record that cannot fail: its identity and ending."""
        span, attempts, outcome, how = self.span, self.attempts, ending.outcome, ending.how
        timing = attempts.timing(self.record.timing.start_ns, ending.duration_ns)
        if self._timing is not None:
            timing = self._timing.added_to(timing, self._zero_ns)
        if self.explicit is not None:
            timing = self.explicit.timing(timing)
        retries, rate_limited = attempts.totals()
        if error is not None:
            if outcome == "success":
                outcome = "timeout" if error.kind == "timeout" else "error"
            if rate_limited is None and error.status == TOO_MANY_REQUESTS:
                rate_limited = True
        return {
            "trace_id": span.trace_id,
            "span_id": span.span_id,
            "parent_span_id": span.parent_span_id,
            "sampled": span.sampled,
            "trace": span.trace,
            "part": "ended",
            "request": self._request,
            "timing": timing,
            "retries": retries,
            "rate_limited": rate_limited,
            "outcome": outcome,
            "error": error,
            "stream": self._stream(how, error) if self.streaming and how else None,
        }

    def _stream(self, how: StreamEnd, error: ErrorInfo | None) -> Stream:
        complete = self.stream_complete
        if how == "complete" and not (self._terminated or self.has_body or self._unseen or error):
            how, complete = "cut_off", False
        last = None if self.has_body else text(self._body, "type")
        return Stream(end=how, chunks=self.chunks, complete=complete, last_event=last, log=self._notes)

    def _content_fields(
        self, duration_ns: int, info: ResponseInfo, error: ErrorInfo | None, body: object
    ) -> dict[str, Any]:
        """Return the fields of response, usage and attempts."""
        attempts = self.attempts.records((self.record.timing.start_ns + duration_ns) / 1e9, duration_ns, error)
        if self.explicit is not None:
            attempts = self.explicit.attempts(attempts)
        response = info.response if attempts else None
        if body is not None:
            encoded, self._raw_output = (encode_json(body), None) if self.streaming else encode_response(body)
            response = msgspec.structs.replace(
                info.response, truncated=info.truncated, refused=info.refused, compacted=info.compacted,
                body_bytes=len(encoded), body=msgspec.Raw(encoded),
            )  # fmt: skip
        guess = self._ports.estimates
        usage = estimated(self._endpoint, self._request.body, body, info.usage) if guess else info.usage
        return {
            "response": response,
            "usage": with_header_cost(usage, self.attempts.answer_headers),
            "attempts": attempts,
            "rate_limits": last_limits(attempts) or self.attempts.limits,
        }


class LiveCall(RecordedExchange):
    """One call from its start to its record."""

    __slots__ = ("_begun", "_call_ended", "_input", "_over", "_raw_input", "_started")

    def __init__(
        self, ports: CallPorts, endpoint: Endpoint, record: CallRecord, begun: Processed[CallRecord],
        span: CallSpanHandle, call_ended: CallEnded | None, zero_ns: int,
    ) -> None:  # fmt: skip
        """`begun` is `record` as it may be shown and measured."""
        self._call_ended = call_ended
        self._begun = begun
        self._started: CallRecord | None = None
        self._input: Conversation | None = None
        self._raw_input: list[msgspec.Raw] | None = None
        self._over: Callable[[], object] | None = None
        super().__init__(ports, endpoint, record, span, zero_ns)
        self._over = ports.begun(begun) if ports.are_measured() else _nothing

    def sent(self, content: bytes, body: object, body_bytes: int | None = None) -> None:
        """Record the request as sent: its exact bytes, and the same as plain JSON.

        Only the first one counts; retries send the same. For a stream a small record is written now, so that a
        process that dies leaves an interrupted call. `body_bytes`: size as sent, if not that of `content`; 0: unknown.
        """
        if self._request.body is not NO_BODY or self._endings:
            return
        try:
            exact, self._raw_input = exact_messages(content, body)
            try:
                request = self._endpoint.request(body) or self._request
            except reported(_READ_REQUEST):
                request = self._request
            self._request = msgspec.structs.replace(
                request, model=request.model or self._request.model, stream=self.streaming,
                body_bytes=len(content) if body_bytes is None else body_bytes or None, body=msgspec.Raw(exact),
            )  # fmt: skip
            if self.span.wants_content:
                self._input = self._endpoint.conversation(body, None)
        except reported(_READ_REQUEST):
            self._input = None
        if self.streaming:
            request = msgspec.structs.replace(self._request, body=NO_BODY)
            started = msgspec.structs.replace(self.record, request=request, **span_ids(self.span))
            if background_responses.is_requested(body):
                self._started, self.named[:] = started, [""]  # its first event has the id of the call
            else:
                self._write_started_record(started)

    def state_times(self, *, is_past: bool = False) -> ExplicitTimes:
        """Return its explicit times, to be set. It is in no metric from here on."""
        self._ports = msgspec.structs.replace(self._ports, are_measured=bool)
        self.record = msgspec.structs.replace(self.record, seen_in="import")
        self.explicit = self.explicit or ExplicitTimes(is_past=is_past)
        return self.explicit

    def discard(self) -> None:
        """End a call that turns out not to be one: nothing was sent. It has neither span nor record."""
        self._endings.append(Ending(None, "cancelled", None, 0))
        (self._over or self._ports.begun(self._begun))()

    def form(self, fields: object, files: object, size: int | None) -> None:
        """Record the fields of a form as JSON, with a reference to each file."""
        if self._request.body is NO_BODY:  # a retry sends the same, and its files are not hashed again
            form = form_fields(fields, files)
            self.sent(encode_json(form), form, size or 0)

    def _add_first(self, data: object, timing: ChunkTiming) -> bool:
        carried = super()._add_first(data, timing)
        if self._started is not None and self._accumulator is not None:
            started = background_responses.begun(self._started, self._endpoint, self._accumulator.body())
            self.named[:] = [started.call_id]
            self._write_started_record(started)
        return carried

    def _write_started_record(self, started: CallRecord) -> None:
        if self._ports.writes_starts():
            self._ports.write(self._ports.processors.process(started))
        self._ports.keep(started)

    def _finish(self, ending: Ending) -> None:
        processed = ending.processed or self._processed(ending)
        self.span.end(processed, ending.conversation)
        self._ports.write(processed)
        self._ports.keep(record := processed.record)
        if record.part == "answered":
            self._ports.seen.is_first(record.call_id)
        if self._ports.are_measured():
            self._ports.observed(processed)
        (self._over or self._ports.begun(self._begun))()
        if not ending.is_told:
            ending.is_told = True
            with _TOTALS:
                self._tell(processed, ending)
        ending.processed = ending.conversation = ending.wire = None

    def _finish_again(self, ending: Ending) -> None:
        try:
            self._finish(ending)
        except BaseException:
            if ending.processed is None:  # a redactor that exits would do so each time
                fields = self._ending_fields(ending, ending.error)
                ending.processed = interrupted(msgspec.structs.replace(self.record, **fields))
                self._finish(ending)
            raise

    def _tell(self, processed: Processed[CallRecord], ending: Ending) -> None:
        """Tell the session, timestep or tool around it; record the tools that have run at the provider."""
        if self._call_ended is not None:
            self._call_ended(processed, ending.conversation)
        if ending.wire is not None:
            self._ports.tools_ran(ending.wire, processed.record)

    def _processed(self, ending: Ending) -> Processed[CallRecord]:
        """Return the record, processed; from here on it is kept, and what it is made of is not."""
        self._fold(ending)
        info, fields = self._fields(ending)
        has_answer = self.has_body or self._timing is not None
        if not info.recognized and fields["outcome"] == "success" and has_answer:
            with _BUILD_RECORD:
                flag_unrecognized(fields, self.record, ending.body)
        record = msgspec.structs.replace(self.record, **fields)
        processed = self._ports.processors.process(record)
        ending.has_runs = has_runs(ending.body)
        if ending.has_runs:
            ending.wire = self._conversation(record, record, ending.body)
        if self.span.wants_content:
            same = ending.wire is not None and bodies(processed.record) == bodies(record)
            ending.conversation = ending.wire if same else self._conversation(record, processed.record, ending.body)
        ending.processed = processed
        ending.body = self._body = self._input = self._raw_input = self._raw_output = None
        self._request = self.record.request
        return processed

    def _conversation(self, record: CallRecord, processed: CallRecord, body: object) -> Conversation | None:
        try:
            if processed is not record and bodies(processed) != bodies(record):
                return registry.conversation_of(processed)
            response, request = self._endpoint.conversation(None, body), self._input
            if request is None:
                return response
            return RawConversation(
                system=request.system, input=request.input, output=response.output, tools=request.tools,
                raw_input=self._raw_input, raw_output=self._raw_output,
            )  # fmt: skip
        except reported(_READ_MESSAGES):
            return None


class CallFactory(CallPorts, frozen=True, kw_only=True):
    """Starts calls; one per `instrument()`. Safe from any thread."""

    connection_failed: Callable[[CallInfo, ErrorInfo], object] = nothing
    """Called with each websocket that could not be opened while no call waited for it. Never raises."""

    def without_telemetry(self) -> CallFactory:
        """Return a factory whose calls have a record, and neither a span nor metrics."""
        return msgspec.structs.replace(
            self, start_span=_no_span, start_later=nothing, are_measured=bool, connection_failed=nothing
        )

    def with_clock(self, clock: Clock) -> CallFactory:
        """Return a factory whose calls have this clock."""
        return msgspec.structs.replace(self, clock=clock)

    def start_past(self, endpoint: Endpoint, info: CallInfo, start_ns: int) -> LiveCall:
        """Return a call that began at a Unix time, whose other times are explicit, and which is in no metric."""
        timed = self.with_clock(Timeline(start_ns, start_ns).clock())
        call = msgspec.structs.replace(timed, are_measured=bool, chunk_log=0).start(endpoint, info)
        call.state_times(is_past=True)
        return call

    def start(self, endpoint: Endpoint, info: CallInfo, *, alone: bool = False) -> LiveCall:
        """Return a new call that has just begun, with its span started in the current context.

        `alone` True: there is neither a session nor metadata around it.
        """
        zero_ns, record, call_ended = self.begin(endpoint, info, alone=alone)
        begun = self.processors.begun(record)
        try:
            span = self.start_span(begun)
        except reported(_START_SPAN):
            span = NO_SPAN
        return LiveCall(self, endpoint, record, begun, span, call_ended, zero_ns)

    def begin(
        self, endpoint: Endpoint, info: CallInfo, *, alone: bool = False
    ) -> tuple[int, CallRecord, CallEnded | None]:
        """Return the monotonic time, the record of a call that begins now, and what takes it when it has ended."""
        start_ns, zero_ns = self.clock.wall_ns(), self.clock.monotonic_ns()
        try:
            place, call_ended, metadata = _NOTHING_AROUND if alone else self.ambient()
        except reported(_READ_AMBIENT):
            place, call_ended, metadata = None, None, {}
        record = started(
            self, info, endpoint.api, endpoint.operation, start_ns, new_id(), NOWHERE if place is None else place
        )
        if metadata:
            record = msgspec.structs.replace(record, metadata=metadata)
        return zero_ns, record, call_ended
