"""Call: one observed request of an SDK, from its start to its first end, which makes one CallRecord.

Interception reports events to it: `sent` (the body as sent) or `form`, attempts, parsed data (a complete body or one
chunk), and the end. Only the first report of an end counts. `later` has the kinds of requests that may turn out to be
calls, or report on calls that run elsewhere.

A call can end in a dozen ways, and several of them at once: the last chunk, `close`, an exception, a cancelled task, a
time-out on another thread, the garbage collector. So a reported end is appended to a list, which is atomic, and the
first item counts. With a lock, a signal handler could wait forever for the thread that it interrupts. A finalizer may
run inside any code, under any lock, so it only queues the end.

The record is written before the caller has the answer or the exception: what the caller knows survives `kill -9`. The
first version of a stream is written once its request is known, so that a killed process leaves a row that says so. A
background response waits for the id that the provider gives it: the call's id is derived from it.

An interrupt can come between any two instructions, also in `_finish`. The end then runs again from its start, on
another thread, since the application's callbacks may have caused it. So each step can be repeated: the processed record
is kept in `_processed`, and the span and the recorder take a record once. `_call_ended` is cleared before it is called,
because a call missing from a sum is better than a call counted twice.

Reading what the provider sent may fail in any way; each reader is a step of its own, so that a failure costs its part
of the content and never the identity, the times and the outcome of the record.

`chunk` is written for speed: it runs for every event of every stream, and a method call is a large part of its cost.
"""

from __future__ import annotations

import os
import time
import weakref
from collections.abc import Callable, Mapping
from contextvars import Context, copy_context
from copy import copy
from functools import partial
from typing import Any, ClassVar, Final, NamedTuple

import msgspec

from callspan.errors import call_error, outcome_of
from callspan.observe import background_responses
from callspan.observe.attempts import TOO_MANY_REQUESTS, AttemptLog, without_usage
from callspan.observe.factory import NO_SPAN, CallFactory, CallInfo, CallSpanHandle, ExplicitTimes
from callspan.observe.forms import form_fields
from callspan.observe.lines import LineReader
from callspan.observe.token_estimates import estimated
from callspan.observe.unrecognized import flag_unrecognized
from callspan.process.known_keys import fields_without_known_keys
from callspan.process.processed import ProcessedRecord
from callspan.process.processors import interrupted
from callspan.process.sent_keys import without_repeated_keys
from callspan.providers import registry
from callspan.providers.base import NOT_RECOGNIZED, NULL_BODY, Accumulator, Endpoint, ResponseInfo
from callspan.providers.cached_answers import CLIENT, REPEATED, stated_cache, unbought, unbought_response
from callspan.providers.hosted_tools import has_runs
from callspan.providers.stated_cost import with_header_cost
from callspan.providers.token_headers import with_header_counts
from callspan.providers.tool_runs import with_cache_ttl
from callspan.providers.wire_json import integer, objects, text
from callspan.record.billing import states_usage
from callspan.record.call import (
    NO_BODY,
    CallRecord,
    ChunkNote,
    ErrorInfo,
    Outcome,
    Place,
    Request,
    Response,
    SeenIn,
    Stream,
    StreamEnd,
    Timing,
)
from callspan.record.codec import encode_json, exact_json
from callspan.record.ids import CallIdCell, new_id
from callspan.record.messages import Conversation, without_media_bytes
from callspan.record.span_handle import span_ids
from callspan.runtime.fail_open import fail_open
from callspan.runtime.process_identity import cached_identity_of, own_identity

_READ_REQUEST: Final = fail_open("read the request of a call")
_READ_CHUNK: Final = fail_open("read a chunk of a stream")
_READ_RESPONSE: Final = fail_open("read the response of a call")
_BUILD_RECORD: Final = fail_open("build the record of a call")
_READ_MESSAGES: Final = fail_open("read the messages of a call")
_FINISH: Final = fail_open("record the end of a call")
_TOTALS: Final = fail_open("add a call to its session")
_DROPPED: Final = fail_open("end a call that was dropped")
_START_SPAN: Final = fail_open("start a span")
_READ_AMBIENT: Final = fail_open("read the session and metadata around a call")
_NOTHING_AROUND: Final[tuple[None, None, dict[str, object]]] = (None, None, {})
_NOWHERE: Final = Place()
_now_ns: Final = time.perf_counter_ns
_ENDING_S: Final = 0.2
"""Seconds to wait for an end on another thread."""
LARGE_BYTES: Final = 65_536
"""Larger requests are not in first versions, and no media bytes are kept beside them while the call runs."""
_OF_START: Final = (
    "call_id", "seen_in", "process", "trace_id", "span_id", "parent_span_id", "sampled", "trace",
)  # fmt: skip
"""What a call knows of its start only after the redactor has run."""


class Ending(NamedTuple):
    """The first reported end of a call."""

    how: StreamEnd | None
    outcome: Outcome
    error: ErrorInfo | None
    duration_ns: int
    is_presumed: bool = False
    """Whether the process ends, and the call was still open."""


class Call:
    """One call. Its methods raise only interrupts; a failure costs content, never the record.

    Events come from one thread or task at a time, as in the SDK; `end` may be called from any. If an interrupt cuts off
    the end, it runs again from its start on another thread.
    """

    __slots__ = (
        "__weakref__", "_accumulator", "_add", "_answer_complete", "_body", "_call_ended", "_content_ns",
        "_conversation", "_endings", "_factory", "_first_ns", "_gap_ns", "_input", "_is_measured", "_is_presumed_left",
        "_is_unread", "_last_event", "_last_ns", "_notes", "_partly_unobserved", "_processed", "_request",
        "_saw_terminal_event", "_start_context", "_started", "_stop_counting", "_tool_messages", "_zero_ns",
        "attempts", "chunks", "endpoint", "explicit", "has_body", "hides_usage", "id_cell", "is_raw", "record", "span",
        "streaming",
    )  # fmt: skip

    byte_reader: LineReader | None = None
    """Reads the bytes of the response; None if the response is parsed."""
    has_span_from_start: ClassVar[bool] = True
    """Whether it is a call regardless of its answer, so that it has a span and counts as in progress from its start."""
    span: CallSpanHandle
    _input: Conversation | None
    _conversation: Conversation | None
    _tool_messages: Conversation | None
    """Its messages, until the tools are recorded that the provider ran for it."""
    _processed: ProcessedRecord[CallRecord] | None
    """The record; None before it is built and after the end."""
    _stop_counting: Callable[[], object] | None
    """Ends counting the call as in progress, if it was counted."""
    _endings: list[Ending]

    def __init__(
        self, factory: CallFactory, endpoint: Endpoint, info: CallInfo, *, alone: bool = False,
        began_ns: int | None = None, past_ns: int | None = None, call_id: str | None = None,
    ) -> None:  # fmt: skip
        """Begin a call, with its span started in the current context.

        `alone` True: no session or metadata applies. `began_ns`: the monotonic time of its start, if earlier.
        `past_ns`: the Unix time of its start; its other times are explicit, and it is in no metric. `call_id`: its id,
        if derived from the provider's id.
        """
        # First the Unix time: if the thread is suspended between the two, the recorded end is not after the real one.
        start_ns = time.time_ns() if past_ns is None else past_ns
        self._zero_ns = _now_ns() if began_ns is None else began_ns
        if began_ns is not None:
            start_ns -= _now_ns() - began_ns
        self._factory = factory
        self.endpoint = endpoint
        if factory.workers.unregistered:
            factory.workers.first_call()
        try:
            place, self._call_ended, metadata = _NOTHING_AROUND if alone else factory.ambient()
        except Exception as error:
            _READ_AMBIENT.report(error)
            place, self._call_ended, metadata = _NOTHING_AROUND
        self._request = Request(model=info.model, stream=info.stream)
        # More than fifteen keywords in one call go through a dictionary, which takes five times as long.
        self.record = CallRecord(
            call_id=call_id or new_id(),
            part="started",
            outcome="in_progress",
            provider=info.provider,
            api=endpoint.api,
            operation=endpoint.operation,
            sdk=info.sdk,
            server_address=info.server_address,
            server_port=info.server_port,
            place=place or _NOWHERE,
            service=factory.service,
            host=factory.host,
            pid=os.getpid(),
            request=self._request,
            timing=Timing(start_ns=start_ns),
        )
        if metadata or past_ns is not None:
            seen_in: SeenIn = "call" if past_ns is None else "import"
            self.record = msgspec.structs.replace(self.record, metadata=metadata, seen_in=seen_in)
        self.id_cell = CallIdCell(self.record.call_id)
        """Shared with everything that refers to the call, because the provider may name it later."""
        self.streaming = info.stream is True
        if self.streaming:
            self.id_cell.stream = weakref.ref(self)
        self.is_raw = info.raw
        self.hides_usage = False
        """Whether callspan requested the last chunk of the stream and hides it from the caller."""
        self.attempts = AttemptLog(self._zero_ns)
        self.explicit = None if past_ns is None else ExplicitTimes(is_past=True)
        """Times given by the application, or None."""
        self._is_measured = past_ns is None
        self._is_presumed_left = self._is_unread = False
        self._input = self._conversation = self._tool_messages = self._processed = self._stop_counting = None
        self.forget_response()
        self.span = NO_SPAN
        # list.append is atomic, so the first item is the accepted end, without a lock.
        self._endings = []
        self._begin(is_call=self.has_span_from_start)
        factory.ends.track(self)

    def forget_response(self) -> None:
        """Discard the data of a response that was replaced by another one."""
        self._body: object = None
        self.has_body = self._answer_complete = self._saw_terminal_event = self._partly_unobserved = False
        self._last_event: str | None = None
        self._accumulator: Accumulator | None = None
        self._add: Callable[[object], bool] | None = None
        self.chunks = 0
        self._notes: list[ChunkNote] = []
        self._first_ns: int | None = None
        self._last_ns: int | None = None
        self._content_ns: int | None = None
        self._gap_ns = -1

    def _begin(self, *, is_call: bool) -> None:
        """Start its span, if it is known to be a call."""
        factory, metrics, processed = self._factory, self._factory.metrics, None
        self._started: CallRecord | None = None
        """Its redacted start, which its span and first version show; None without a redactor."""
        if is_call:
            processed = factory.processors.started(self.record)
            self._started = processed.record if factory.processors.redacts else None
            try:
                self.span = NO_SPAN if factory.spans is None else factory.spans.start(processed)
            except Exception as error:
                _START_SPAN.report(error)
                self.span = NO_SPAN
        self._start_context: Context | None = copy_context() if is_call else None
        """The context of its start until its first version is written, because a redactor may read its variables."""
        if processed is not None and self._is_measured and metrics is not None and metrics.are_wanted():
            self._stop_counting = metrics.count_running(processed)
        if processed is not None and processed.interrupt is not None:
            raise processed.interrupt

    @property
    def is_known_as_call(self) -> bool:
        """Whether it is known to be a call, by its request or by its answer so far."""
        return self.has_span_from_start

    @property
    def ended(self) -> bool:
        """True once the call has ended or is ending."""
        return bool(self._endings)

    @property
    def answer_complete(self) -> bool:
        """True once the stream has signalled its end."""
        return self._answer_complete or (self._accumulator is not None and self._accumulator.complete)

    @property
    def is_over(self) -> bool:
        """True once the stream has sent its last event; its reader may stop then."""
        return getattr(self._accumulator, "ended", False)

    def answered(self) -> CallRecord | None:
        """Return its record with an answer that is complete while more may be read; None otherwise.

        Waits for an end that runs on another thread, but not for long.
        """
        accumulator = self._accumulator
        if accumulator is not None and accumulator.complete:
            with _READ_RESPONSE:
                answer = Response(body=msgspec.Raw(encode_json(accumulator.body())))
                return msgspec.structs.replace(self.record, response=answer)
        if self._endings:
            self._factory.ends.drain(_ENDING_S)
        return None

    def offset_ns(self) -> int:
        """Return the monotonic time since the start."""
        return _now_ns() - self._zero_ns

    def sent(
        self, content: bytes | None, body: object, body_bytes: int | None = None, *, write_version: bool = True,
        header_params: Mapping[str, object] | None = None,
    ) -> None:  # fmt: skip
        """Record the request as sent: its exact bytes, None if they are unknown, and the same as plain JSON.

        Only the first one counts, because retries send the same. Writes the first version of a stream, unless
        `write_version` is False: then `write_first_version` or the first event does. `body_bytes`: size as sent; None:
        the size of `content`; 0: unknown. `header_params`: parameters that its headers state.
        """
        if self._request.body is not NO_BODY or self._endings:
            return
        try:
            exact = encode_json(body) if content is None else exact_json(content, body)
            if body_bytes is None and content is not None:
                body_bytes = len(content)
            try:
                request = self.endpoint.request(body) or self._request
            except Exception as error:
                _READ_REQUEST.report(error)
                request = self._request
            request = msgspec.structs.replace(
                request, model=request.model or self._request.model, stream=self.streaming,
                body_bytes=body_bytes or None, body=msgspec.Raw(exact),
            )  # fmt: skip
            if header_params:
                request = msgspec.structs.replace(request, params={**request.params, **header_params})
            if self.has_span_from_start and request.params.get("background") is True:
                self.id_cell.value = None  # the id of the call is in its answer or first event
            self._request = request
            if self.span.wants_content:
                self._input = self.endpoint.conversation(body, None)
                if len(exact) > LARGE_BYTES:
                    self._input = without_media_bytes(self._input)
        except Exception as error:
            _READ_REQUEST.report(error)
            self._input = None
        if self.streaming and write_version:
            self.write_first_version()

    def forget_request(self) -> None:
        """Let `sent` take the request again, once more of it is known."""
        self._request = msgspec.structs.replace(self._request, body=NO_BODY)

    def await_name(self) -> None:
        """Defer the first version until the provider has named the call."""
        self.id_cell.value = None

    def name(self, call_id: str) -> None:
        """Take the id derived from the provider's id, then write the first version."""
        self.record = msgspec.structs.replace(self.record, call_id=call_id)
        self.id_cell.value = call_id
        self.write_first_version_from_worker()

    def withdraw(self) -> bool:
        """End the call without a record or span, because another one records it; return False if it has ended."""
        ending = Ending(None, "cancelled", None, 0)
        self._endings.append(ending)
        is_first = self._endings[0] is ending
        if is_first and self._stop_counting is not None:
            self._stop_counting()
        return is_first

    def write_first_version(self) -> None:
        """Write the first version once, so that the call is visible while it runs and after its process has died.

        A background response must wait for its id; a call of the Responses API for its request, which may start one.
        Safe from any thread.
        """
        # The request first: `sent` marks the id as unknown before it stores the request, so whoever sees the request
        # sees that too.
        is_sent = self._request.body is not NO_BODY or self.endpoint.api != "responses"
        if is_sent and self.id_cell.value is not None and self._start_context is not None:
            self._write_started(self._first_version())

    def write_first_version_from_worker(self) -> bool:
        """Do the same from another thread, in the context of the call's start; return whether it is too early."""
        start_context = self._start_context
        if start_context is not None:
            start_context.copy().run(self.write_first_version)
        return self._start_context is not None and self.id_cell.value is not None

    def _first_version(self) -> CallRecord:
        request = self._request
        if len(memoryview(request.body)) > LARGE_BYTES:
            request = msgspec.structs.replace(request, body=NO_BODY)
        return msgspec.structs.replace(self.record, request=request, process=own_identity(), **span_ids(self.span))

    def _write_started(self, first_version: CallRecord) -> None:
        if self._endings:
            return
        self._start_context = None
        factory = self._factory
        processed, redacted_start = None, self._started
        if factory.recorder.writes_starts():
            if redacted_start is None or first_version.response is not None:
                processed = factory.processors.process(first_version)
            else:
                ids = {name: getattr(first_version, name) for name in _OF_START}
                processed = factory.processors.with_callbacks(msgspec.structs.replace(redacted_start, **ids))
        if processed is not None:
            factory.recorder.write(processed)
        factory.keep(first_version)
        if processed is not None:
            processed.go_on()

    def form(self, fields: object, files: object, size: int | None) -> None:
        """Record the fields of a form as JSON, with a reference to each file."""
        if self._request.body is NO_BODY:  # a retry sends the same; its files need not be hashed again
            form = form_fields(fields, files)
            self.sent(None, form, size)

    def take_body(self, body: object) -> None:
        """Record the complete body of a plain response."""
        if not self._endings:
            self._body, self.has_body = body, True

    def mark_complete(self) -> None:
        """Note that the answer was read to its end, so that the call is a success even if nothing more reports it."""
        self._answer_complete = True

    def chunk(self, data: object) -> None:
        """Record one chunk of a stream."""
        if self._endings:
            return
        # The timing is updated inline, because a method call is a large part of the cost of a chunk.
        now_ns, last_ns = _now_ns(), self._last_ns
        self._last_ns = now_ns
        self.chunks += 1
        if last_ns is None:
            self._first_ns = now_ns
        elif now_ns - last_ns > self._gap_ns:
            self._gap_ns = now_ns - last_ns
        self._body = data  # the type of the last event
        try:
            has_content = self._add_first(data) if self._add is None else self._add(data)
        except Exception as error:
            _READ_CHUNK.report(error)
            return
        if has_content and self._content_ns is None:
            self._content_ns = now_ns

    def refused_chunk(self, data: object) -> None:
        """Record what a chunk states that the SDK has raised as an error, which is not counted."""
        if not self._endings:
            with _READ_CHUNK:
                (self._add_first if self._add is None else self._add)(data)

    def counted_chunks(self, data: object, number: int) -> None:
        """Record several chunks that were only counted as one, because their times are unknown."""
        if not self._endings and self._add is not None:
            self.chunks += number
            self._last_ns = _now_ns()
            with _READ_CHUNK:
                self._add(data)

    def _add_first(self, data: object) -> bool:
        self._accumulator = self.endpoint.accumulator()
        self._add = self._accumulator.add
        if self._factory.chunk_log and not (self.explicit is not None and self.explicit.is_past):
            self._add = self._add_and_note
        has_content = self._add(data)
        if self._start_context is not None and self._request.body is not NO_BODY:
            body = self._accumulator.body()
            first_version = background_responses.started_version(
                self._first_version(), self.endpoint, body, self._factory.answers
            )
            self._start_context = None
            self.id_cell.value = first_version.call_id
            self._write_started(self._without_keys(first_version))
        return has_content

    def _add_and_note(self, data: object) -> bool:
        has_content = self._accumulator is not None and self._accumulator.add(data)
        if len(self._notes) < self._factory.chunk_log and self._last_ns is not None:
            self._notes.append(chunk_note(data, self._last_ns - self._zero_ns, content=has_content))
        return has_content

    def set_streaming(self, streaming: bool) -> None:
        """Set whether the response is a stream, unless the request did."""
        self.streaming = streaming
        if self._request.stream is None:
            self._request = msgspec.structs.replace(self._request, stream=streaming)

    def state_times(self) -> ExplicitTimes:
        """Return its explicit times, to be set. It is then in no metric."""
        self._is_measured = False
        self.record = msgspec.structs.replace(self.record, seen_in="import")
        self.explicit = self.explicit or ExplicitTimes()
        return self.explicit

    @property
    def received_body(self) -> object:
        """The complete body of a plain response; None before it was read."""
        return self._body if self.has_body else None

    def mark_unread(self) -> None:
        """Record that the application read the answer where callspan does not see it."""
        self._is_unread = self._partly_unobserved = True

    def mark_partly_unobserved(self) -> None:
        """Record that part of the stream was not observed, so that it may have signalled its end."""
        self._partly_unobserved = True

    def fail(self, error: BaseException | str, *, in_stream: bool = True, at_ns: int | None = None) -> None:
        """End the call with an exception; `in_stream` False: the request failed before there was a stream."""
        self.end(*failure(error, in_stream=in_stream), at_ns=at_ns)

    def leave(self, at_ns: int | None = None) -> None:
        """End a call when its stream is no longer read; a success if the stream had signalled the end of the answer."""
        self.end("closed", "success" if self.answer_complete else "cancelled", at_ns=at_ns)

    def abandon(self, error: BaseException | None) -> None:
        """End a call without the part that callspan failed to observe: the rest of the answer or of the exception."""
        if error is not None:
            self.fail(error, in_stream=False)
        elif not self._endings:
            self.mark_partly_unobserved()
            self.end("complete" if self.streaming else None)

    def presume_left(self, at_ns: int) -> None:
        """Record an open call, as the process ends, as left: with its span, in metrics and sums.

        If it ends after all, that end replaces the record. If only the answer shows whether it is a call, it ends now.
        """
        if not self.is_known_as_call:
            self.leave(at_ns)
            return
        if self._endings or self._is_presumed_left:
            return
        presumed = copy(self)  # what both share is only read
        self._is_presumed_left = True
        self._call_ended = self._stop_counting = None
        self._is_measured = False
        presumed.end_copy(at_ns)

    def end_copy(self, at_ns: int) -> None:
        """End this copy of an open call as left; the call itself stays open."""
        ending = Ending("closed", "success" if self.answer_complete else "cancelled", None, at_ns, is_presumed=True)
        self._endings = [ending]
        self._finish(ending)

    def end(
        self, how: StreamEnd | None = "complete", outcome: Outcome = "success", error: ErrorInfo | None = None, *,
        at_ns: int | None = None,
    ) -> CallRecord | None:  # fmt: skip
        """End the call; return its record. Only the first end counts; a later one, or one that fails, returns None.

        `how` None: there was no stream, or the request failed before its response.
        `at_ns` is the offset of the end when it is reported later than it happened.
        """
        endings = self._endings
        if endings:
            return None
        ending = Ending(how, outcome, error, _now_ns() - self._zero_ns if at_ns is None else at_ns)
        try:
            endings.append(ending)
            processed = self._finish(ending) if endings[0] is ending else None
        except BaseException as failure:
            # Not here, because it may call the application, which has a time limit.
            if endings[:1] == [ending]:
                self._factory.ends.put(partial(self._finish_again, ending))
            if not _FINISH.swallow(failure):
                raise
            return None
        if processed is not None and processed.interrupt is not None:
            raise processed.interrupt
        return None if processed is None else processed.record

    def count_later(self, record: CallRecord, body: object) -> None:
        """Write a version of its ended record, which has no bodies, with the usage in what was received later."""
        with _READ_RESPONSE:
            info = self.endpoint.response_info(body)
            if info is None or info.usage is None:
                return
            seen_ns = self._factory.answers.seen_ns(record.call_id, time.time_ns())
            counted = msgspec.structs.replace(record, part="answered", seen_ns=seen_ns, usage=info.usage)
            processed = self._factory.processors.process(counted)
            self._factory.recorder.write(processed)
            processed.go_on()

    def lost(self, error: ErrorInfo | None = None) -> None:
        """Queue the end of an abandoned call, as of now, with the error of its answer. Safe in a finalizer."""
        if not self._is_presumed_left:
            self._factory.ends.note(self, error)

    def __del__(self) -> None:
        """End a call that was interrupted before anything else could report its end."""
        try:
            endings = self._endings
        except AttributeError:
            return  # the constructor failed
        if not endings:
            with _DROPPED:  # a finalizer that raises is reported as the application's
                self.lost()

    def _finish(self, ending: Ending) -> ProcessedRecord[CallRecord] | None:
        """Process the end; return what was written as the record of the call."""
        factory, processed = self._factory, self._processed or self._process(ending)
        record = processed.record
        if not self._is_presumed_left:
            self.span.end(processed, self._conversation)
        factory.recorder.write(processed, replaces=self._is_presumed_left)
        factory.keep(record)
        if record.part == "answered":
            factory.recorded_calls.is_first(record.call_id)
        if self._is_measured and factory.metrics is not None and factory.metrics.are_wanted():
            factory.metrics.measure_call(processed)
        if self._stop_counting is not None:
            self._stop_counting()
        # Cleared first, so that after an interrupt it is not added twice.
        call_ended, self._call_ended = self._call_ended, None
        tool_messages, self._tool_messages = self._tool_messages, None
        try:
            if call_ended is None:
                factory.loose_calls[0] += 1
            else:
                call_ended(processed, self._conversation)
            if tool_messages is not None:
                factory.tools_ran(tool_messages, record)
        except Exception as error:
            _TOTALS.report(error)
        self._processed = self._conversation = None
        return processed

    def _finish_again(self, ending: Ending) -> None:
        try:
            self._finish(ending)
        except BaseException:
            if self._processed is None:  # a redactor that exits would do so again
                fields = self._ending_fields(ending, ending.error)
                self._processed = interrupted(msgspec.structs.replace(self.record, **fields))
                self._finish(ending)
            raise

    def _process(self, ending: Ending) -> ProcessedRecord[CallRecord]:
        """Return the processed record; its sources are released."""
        if self.span.is_shared and not self._is_presumed_left:
            self.span = self.span.still_open()
        info, fields = self._fields(ending)
        if not info.recognized and fields["outcome"] == "success" and (self.has_body or self.chunks):
            with _BUILD_RECORD:
                flag_unrecognized(fields, self.record, self._body)
        received = msgspec.structs.replace(self.record, **fields)
        record = self._without_keys(received)
        processed = self._factory.processors.process(record)
        processed_record = processed.record
        is_same = processed_record is received or _bodies(processed_record) == _bodies(received)
        # The tools that the provider ran for an answer did not run again for its copy.
        have_tools_run = has_runs(self._body, processed_record.usage) and processed_record.is_bought
        wants_content = self.span.wants_content
        messages = self._messages() if have_tools_run or (wants_content and is_same) else None
        self._tool_messages = messages if have_tools_run else None
        if wants_content:
            self._conversation = messages if is_same else registry.conversation_of(processed_record)
        self._processed = processed
        self._body = self._input = self._start_context = None
        self._request = self.record.request
        if not ending.is_presumed:
            self.attempts.request = self.attempts.sent_by_sdk = None
        return processed

    def _without_keys(self, record: CallRecord) -> CallRecord:
        """Return a record with its answer without the keys of its request."""
        return without_repeated_keys(record, self.attempts.request)

    def _fold(self) -> object:
        """Return the body of the answer, folded from the chunks of a stream; None if nothing was received."""
        accumulator = self._accumulator
        if accumulator is not None:
            complete = self.answer_complete
            self._saw_terminal_event = self._saw_terminal_event or getattr(accumulator, "terminated", complete)
            if not self.has_body:
                self._last_event, body = text(self._body, "type"), None
                with _READ_RESPONSE:
                    body = accumulator.body()
                self._body = body
            # The body now has the complete text: keeping its pieces would double the memory.
            self._answer_complete, self._accumulator, self._add = complete, None, None
        return self._body

    def _fields(self, ending: Ending) -> tuple[ResponseInfo, dict[str, Any]]:
        """Return the info of the answer, and the fields that it and the ending add to the record."""
        body = self._body if self._accumulator is None else self._fold()
        try:
            fallback = NULL_BODY if self.has_body and not self._partly_unobserved else NOT_RECOGNIZED
            info = fallback if body is None else self.endpoint.response_info(body) or NOT_RECOGNIZED
        except Exception as failure:
            _READ_RESPONSE.report(failure)
            info = NOT_RECOGNIZED
        error = ending.error or info.error
        fields = self._ending_fields(ending, error)
        try:
            self._add_content(fields, info, body)
        except Exception as error:
            _BUILD_RECORD.report(error)
            fields["response"] = None
        if fields.get("usage") is None and fields["attempts"] and self._lacks_usage(fields, info):
            fields["attempts"] = without_usage(fields["attempts"])
        if info.background:
            with _BUILD_RECORD:
                background_responses.set_outcome(fields, self.record, info, self._factory.answers)
        self.id_cell.value = fields.get("call_id", self.record.call_id)
        return info, fields

    def _lacks_usage(self, fields: dict[str, Any], info: ResponseInfo) -> bool:
        """Return whether the answer ended before the usage that was to come."""
        stream: Stream | None = fields["stream"]
        if info.error is not None or info.background or self._is_unread or self.has_body:
            return False
        is_over = fields["outcome"] == "success" if stream is None else stream.complete or stream.end == "complete"
        return not is_over and states_usage(self.endpoint.api, self._request)

    def _ending_fields(self, ending: Ending, error: ErrorInfo | None) -> dict[str, Any]:
        """Return the fields of the record that cannot fail: its identity and ending."""
        span, outcome, start_ns = self.span, ending.outcome, self.record.timing.start_ns
        if error is not None:
            self.attempts.remember_keys(self._request.body)
        fields = self.attempts.fields(start_ns, ending.duration_ns, error, is_last=not ending.is_presumed)
        if self._first_ns is not None:
            fields["timing"] = self._with_chunks(fields["timing"])
        if self.explicit is not None:
            fields = self.explicit.applied(fields)
        if error is not None:
            error = fields_without_known_keys(error)
            if outcome == "success":
                outcome = "timeout" if error.kind == "timeout" else "error"
            if fields["rate_limited"] is None and error.status == TOO_MANY_REQUESTS:
                fields["rate_limited"] = True
        fields.update(
            trace_id=span.trace_id,
            span_id=span.span_id,
            parent_span_id=span.parent_span_id,
            sampled=span.sampled,
            trace=span.trace,
            part="requested" if ending.is_presumed else "ended",
            request=self._request,
            outcome=outcome,
            error=error,
            stream=self._stream(ending.how, error) if self.streaming and ending.how else None,
            process=cached_identity_of(self.record.pid),
        )
        return fields

    def _with_chunks(self, timing: Timing) -> Timing:
        zero_ns, content_ns, last_ns, first_ns = self._zero_ns, self._content_ns, self._last_ns, self._first_ns
        return msgspec.structs.replace(
            timing,
            first_chunk_ns=None if first_ns is None else first_ns - zero_ns,
            first_token_ns=None if content_ns is None else content_ns - zero_ns,
            last_chunk_ns=None if last_ns is None else last_ns - zero_ns,
            largest_gap_ns=None if self._gap_ns < 0 else self._gap_ns,
        )

    def _stream(self, how: StreamEnd, error: ErrorInfo | None) -> Stream:
        complete = self.answer_complete
        # As far as the stream was observed.
        is_over = self._saw_terminal_event or self.has_body or self._partly_unobserved
        if how == "complete" and not (is_over or error):
            how, complete = "cut_off", False
        elif how == "closed" and complete and is_over:
            how = "complete"
        return Stream(end=how, chunks=self.chunks, complete=complete, last_event=self._last_event, log=self._notes)

    def _add_content(self, fields: dict[str, Any], info: ResponseInfo, body: object) -> None:
        """Add the fields of response and usage."""
        fields["response"] = info.response if fields["attempts"] else None
        if self._is_unread:
            fields["response"] = msgspec.structs.replace(info.response, unread=True)
        encoded = b""
        if body is not None:
            encoded = encode_json(body)
            fields["response"] = msgspec.structs.replace(
                info.response, body_bytes=len(encoded), body=msgspec.Raw(encoded)
            )
        usage, headers = info.usage, self.attempts.headers
        if (cached := self._cache(fields, info, body, encoded)) is not None:
            fields["response"] = unbought_response(fields["response"] or info.response, cached)
            fields["usage"] = unbought(usage, headers)
            return
        if usage is None or usage.input_tokens is None or usage.output_tokens is None:
            usage = with_header_counts(usage, headers)
        if self._factory.estimates:
            usage = estimated(self.endpoint, self._request.body, body, usage)
        fields["usage"] = usage = with_header_cost(usage, headers)
        if usage is not None and usage.cache_write_tokens and usage.cache_write_1h_tokens is None:
            fields["request"] = with_cache_ttl(fields["request"])

    def _cache(self, fields: dict[str, Any], info: ResponseInfo, body: object, encoded: bytes) -> str | None:
        """Return the cache that served the answer; None if it was bought.

        A background response is bought by its request, whatever serves the fetches of it.
        """
        if info.background:
            return None
        attempts = self.attempts
        if attempts.is_from_cache:
            return CLIENT
        cache = stated_cache(attempts.headers, body)
        if cache is not None or fields["outcome"] != "success":
            return cache
        repeats = self._factory.answers.repeats(
            self.endpoint.api, self._request, info.response, encoded,
            start_ns=self.record.timing.start_ns, has_connection=attempts.has_connection,
        )  # fmt: skip
        return REPEATED if repeats else None

    def _messages(self) -> Conversation | None:
        """Return the messages as sent and received."""
        try:
            response, request = self.endpoint.conversation(None, self._body), self._input
            if request is None:
                return response
            return Conversation(system=request.system, input=request.input, output=response.output, tools=request.tools)
        except Exception as error:
            _READ_MESSAGES.report(error)
            return None


def _bodies(record: CallRecord) -> tuple[int, int]:
    """Return the identities of a record's bodies, to detect that a processor has changed them."""
    return id(record.request.body), id(record.response.body if record.response is not None else None)


def failure(error: BaseException | str, *, in_stream: bool = True) -> tuple[StreamEnd | None, Outcome, ErrorInfo]:
    """Return the arguments of `Call.end` for an exception, or the text of an error."""
    info = call_error(error)
    outcome = outcome_of(error, info)
    how: StreamEnd = "cancelled" if outcome == "cancelled" else "error"
    return how if in_stream else None, outcome, info


def chunk_note(chunk: object, offset_ns: int, *, content: bool) -> ChunkNote:
    """Return the note of a chunk that came at an offset from the start of its call."""
    return ChunkNote(offset_ns=offset_ns, event=text(chunk, "type"), choice=_choice(chunk), content=content)


def _choice(chunk: object) -> int | None:
    """Return the index of a chunk's choice (chat), output item (Responses) or content block (Messages)."""
    indexes = (
        integer(next(objects(chunk, "choices"), None), "index"),
        integer(chunk, "output_index"),
        integer(chunk, "index"),
    )
    return next((index for index in indexes if index is not None), None)
