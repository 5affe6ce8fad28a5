"""Later: calls that another request than their own tells of, or whose answer tells that they are calls.

A background response is completed by the request that reads its end, or by a webhook; each line of a batch's results
is a call; so is a request to a path that no adapter knows, if its answer states usage. Their ids are made of the
provider's, so that whoever reads an answer, and how often, writes versions of one record.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Any, Final

import msgspec

from callspan.fail_open import fail_open, reported
from callspan.observe import background_responses
from callspan.observe.background_responses import version_of
from callspan.observe.ending import Ending
from callspan.observe.exchange import NOWHERE, Exchange, started
from callspan.observe.live_call import CallFactory, LiveCall, RecordedExchange
from callspan.observe.ports import NO_SPAN, CallEnded, CallInfo, CallPorts, SeenLines
from callspan.providers import registry
from callspan.providers.base import NOT_RECOGNIZED, Endpoint, ResponseInfo
from callspan.providers.batches import ResultLine, endpoint_of, result_in
from callspan.providers.generic_body import has_running_total, stating_usage
from callspan.providers.hosted_tools import has_runs
from callspan.providers.wire_json import unix_ns
from callspan.record.call import Attempt, CallRecord, Response, Timing
from callspan.record.codec import encode_json, is_json
from callspan.record.ids import batch_call_id, response_call_id
from callspan.record.span_handle import with_span_ids

_LINE: Final = fail_open("read a line of a batch")
_READ_ANSWER: Final = fail_open("read an answer of a batch")
_AMBIENT: Final = fail_open("read the session and metadata around the results of a batch")
_COUNT: Final = fail_open("count a request that leaves no record")
_CUSTOM_ID: Final = b'"custom_id"'
_HEAD_BYTES: Final = 1 << 16
RESULTS: Final = "batch_results"


class FetchExchange(RecordedExchange):
    """A request that fetches or cancels a background response: if that has ended, it completes the call.

    The first one of this process that does has a span, with the usage.
    """

    __slots__ = ("_context", "_is_first")

    def __init__(self, ports: CallPorts, info: CallInfo, context: Any) -> None:  # noqa: ANN401 - OpenTelemetry's
        start_ns, zero_ns = ports.clock.wall_ns(), ports.clock.monotonic_ns()
        endpoint = registry.fetch()
        record = started(ports, info, endpoint.api, endpoint.operation, start_ns)
        self._context = context
        self._is_first: bool | None = None
        super().__init__(msgspec.structs.replace(ports, estimates=False), endpoint, record, NO_SPAN, zero_ns)

    def _finish(self, ending: Ending) -> None:
        self._fold(ending)
        body = ending.body
        if not (isinstance(body, dict) and body.get("status") in background_responses.UNDER_WAY):
            record = msgspec.structs.replace(self.record, **self._fields(ending)[1])
            if background_responses.has_ended(record):
                self._write(record, ending)
        ending.body = self._body = None

    def _write(self, record: CallRecord, ending: Ending) -> None:
        ports = self._ports
        if self._is_first is None:
            self._is_first = ports.seen.is_first(record.call_id)
        if not self._is_first:
            return
        place, requested = ports.requested_in(record.call_id)
        record = msgspec.structs.replace(record, place=place)
        span = ports.start_later(ports.processors.begun(record), self._context, requested) or NO_SPAN
        record = with_span_ids(record, span)
        ports.write(ports.processors.process(background_responses.completion(record)))
        shown = ports.processors.process(record)
        span.end(shown, registry.conversation_of(shown.record) if span.wants_content else None)
        if ports.are_measured():
            ports.observed(shown)
        if has_runs(ending.body):
            ports.tools_ran(self._endpoint.conversation(None, ending.body), record)


def record_webhook(ports: CallPorts, server: CallInfo, response_id: str, status: str, at_ns: int | None) -> None:
    """Write the end of a background response that a webhook states, at a Unix time; its answer is fetched later."""
    at_ns = ports.clock.wall_ns() if at_ns is None else at_ns
    record = background_responses.end_of(server, response_id, status, at_ns)
    if record is not None and ports.seen.is_first(f"webhook {record.call_id}"):
        ports.write(ports.processors.process(record))


class GenericCall(LiveCall):
    """A request to a path that no adapter knows: a call if its answer states usage, else only counted.

    So is one whose answer has a running total: the sum of its versions would count the same tokens again. The span is
    made when the answer is known, with the times of the request.
    """

    __slots__ = ("_context", "_is_decided", "_unrecorded")

    def __init__(
        self, factory: CallFactory, info: CallInfo, context: Any, *, endpoint: Endpoint,  # noqa: ANN401
        unrecorded: Callable[[], object],
    ) -> None:  # fmt: skip
        """`unrecorded` counts a request that is no call."""
        zero_ns, record, call_ended = factory.begin(endpoint, info)
        self._context, self._unrecorded, self._is_decided = context, unrecorded, False
        super().__init__(factory, endpoint, record, factory.processors.begun(record), NO_SPAN, call_ended, zero_ns)

    def _write_started_record(self, started: CallRecord) -> None:
        """Write nothing: whether it is a call is not known yet."""

    def _finish(self, ending: Ending) -> None:
        self._fold(ending)
        if not self._is_decided:
            body = ending.body
            if stating_usage(body) is None or has_running_total(self._endpoint.api, body):
                self._leave(ending)
                return
            self._begin_span(body)
            self._is_decided = True
        super()._finish(ending)

    def _leave(self, ending: Ending) -> None:
        """Count it, unless it failed."""
        (self._over or self._ports.begun(self._begun))()
        self._body = ending.body = None
        if ending.outcome in ("success", "cancelled") and ending.error is None:
            with _COUNT:
                self._unrecorded()

    def _begin_span(self, body: object) -> None:
        identity = self._endpoint.response_info(body).response.id
        if identity is not None:
            call_id = response_call_id(self.record.provider, identity)
            self.record = msgspec.structs.replace(self.record, call_id=call_id)
            if not self._ports.seen.is_first(call_id):  # the same object again: it is counted already
                self._ports = msgspec.structs.replace(self._ports, are_measured=bool)
                self._call_ended = None
                return
        begun = self._ports.processors.begun(self.record)
        self.span = self._ports.start_later(begun, self._context, None) or NO_SPAN

    def _fields(self, ending: Ending) -> tuple[ResponseInfo, dict[str, Any]]:
        info, fields = super()._fields(ending)
        if info.response.id is not None:
            fields |= {"part": "answered", "seen_ns": self._ports.clock.wall_ns()}
        return info, fields


class LineReader:
    """Takes the bytes of a response as they are read, and each line in them. Its methods raise only interrupts."""

    __slots__ = ("_held", "_is_checked", "_lines", "_missed", "_number", "_seen", "_size", "_take")

    def __init__(
        self, take: Callable[[bytes], object], seen: SeenLines, missed: Callable[[], object], *, is_known: bool
    ) -> None:
        """`take` reads a line; `missed` is called if the response was read in a way that is not observed.

        `is_known` False: the bytes may be those of any file.
        """
        self._take, self._seen, self._missed, self._is_checked = take, seen, missed, is_known
        self._held: list[bytes] = []
        self._lines: deque[bytes] | None = deque()
        self._number = self._size = 0

    def add(self, piece: bytes) -> None:
        """Take the next bytes."""
        self._size += len(piece)
        if self._lines is None:
            return
        self._held.append(piece)
        if not self._is_checked and self._size < _HEAD_BYTES:
            return
        if b"\n" in piece or not self._is_checked:
            self._split()

    def _split(self) -> None:
        whole = b"".join(self._held)
        self._is_checked = self._is_checked or _CUSTOM_ID in whole
        if not self._is_checked:
            self._held, self._lines = [], None
        elif self._lines is not None:
            *lines, rest = whole.split(b"\n")
            self._lines.extend(lines)
            self._held = [rest]
            self._take_lines(self._lines)

    def _take_lines(self, lines: deque[bytes]) -> None:
        # A line is taken before it leaves: one that an interrupt cuts off is taken again.
        while lines:
            if self._number >= self._seen.lines and lines[0].strip():
                with _LINE:
                    self._take(lines[0])
            self._number += 1
            self._seen.lines = max(self._seen.lines, self._number)
            lines.popleft()

    def whole(self, content: bytes) -> None:
        """Take the complete response, which is in memory."""
        self.add(content)
        self.finish(complete=True)

    def read_elsewhere(self) -> None:
        """Note that the response was read without this reader, unless some bytes came here."""
        if not self._size:
            self._missed()

    def finish(self, *, complete: bool) -> None:
        """Take the last line, unless the reader stopped within it (`complete` False)."""
        if self._held and self._lines is not None:
            self._split()
        if self._held and (complete or is_json(b"".join(self._held))):
            self._held.append(b"\n")
            self._split()


class ResultsExchange(Exchange):
    """A request for results of a batch: each line that is read is written as a call. It has no record of its own."""

    __slots__ = ("_reader", "byte_reader")

    def __init__(
        self, ports: CallPorts, info: CallInfo, context: object, *, owner: str, is_known: bool,
        missed: Callable[[], object],
    ) -> None:  # fmt: skip
        """`owner` is the id of the batch, or of the file: `is_known` False, which need not be one of results."""
        del context
        start_ns, zero_ns = ports.clock.wall_ns(), ports.clock.monotonic_ns()
        record = started(ports, info, RESULTS, RESULTS, start_ns)
        seen = ports.seen.lines_of(f"{info.provider} {owner}")
        self.byte_reader = self._reader = LineReader(_Lines(ports, record, owner).take, seen, missed, is_known=is_known)
        super().__init__(ports, record, NO_SPAN, zero_ns)

    def _finish(self, ending: Ending) -> None:
        with _LINE:
            self._reader.finish(complete=ending.outcome == "success" and ending.error is None)


class _Lines:
    """Writes the calls of one reading, in the session and with the metadata around it."""

    def __init__(self, ports: CallPorts, reading: CallRecord, owner: str) -> None:
        self._ports, self._owner = ports, owner
        self._call_ended: CallEnded | None = None
        self._reading = reading
        with _AMBIENT:
            place, self._call_ended, metadata = ports.ambient()
            self._reading = msgspec.structs.replace(reading, place=place or NOWHERE, metadata=metadata)

    def take(self, line: bytes) -> None:
        """Write the call of a line, if it is a result."""
        found = result_in(line)
        if found is None:
            return
        ports, record, endpoint = self._ports, *_answered(self._reading, self._owner, found)
        processed = ports.processors.process(record)
        ports.write(processed)
        if ports.are_measured():
            ports.observed(processed)
        if self._call_ended is not None:
            self._call_ended(processed, None)
        if has_runs(found.body):
            ports.tools_ran(endpoint.conversation(None, found.body), processed.record)


def _answered(reading: CallRecord, owner: str, line: ResultLine) -> tuple[CallRecord, Endpoint]:
    """Return the record of a line, and what reads its answer. Providers state no duration of a line."""
    endpoint = endpoint_of(line)
    info = _info(endpoint, line)
    start_ns = unix_ns(info.response.created) or reading.timing.start_ns
    error = line.error or info.error
    attempts = [Attempt(number=1, start_ns=0, status=line.status, request_id=line.request_id)]
    record = version_of(
        reading,
        call_id=batch_call_id(reading.provider, owner, line.custom_id),
        part="answered",
        seen_in="batch",
        seen_ns=time.time_ns(),
        api=endpoint.api,
        operation=endpoint.operation,
        place=reading.place,
        metadata=reading.metadata,
        service=reading.service,
        host=reading.host,
        batch_id=owner,
        custom_id=line.custom_id,
        response=_response(line, info),
        usage=info.usage,
        timing=Timing(start_ns=start_ns),
        attempts=attempts if line.status is not None or line.request_id is not None else [],
        outcome="error" if line.outcome == "success" and error is not None else line.outcome,
        error=error,
    )
    return record, endpoint


def _info(endpoint: Endpoint, line: ResultLine) -> ResponseInfo:
    if line.body is None:
        return NOT_RECOGNIZED
    try:
        return endpoint.response_info(line.body)
    except reported(_READ_ANSWER):
        return NOT_RECOGNIZED


def _response(line: ResultLine, info: ResponseInfo) -> Response | None:
    if line.body is None:
        return None
    body = encode_json(line.body)
    return msgspec.structs.replace(
        info.response, truncated=info.truncated, refused=info.refused, compacted=info.compacted,
        unrecognized=not info.recognized, body_bytes=len(body), body=msgspec.Raw(body),
    )  # fmt: skip
