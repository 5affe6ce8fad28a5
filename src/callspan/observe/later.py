"""Later: calls that are known only from a later request or from their answer.

A background response is completed by the request that fetches it or by a webhook. Each line of batch results is a call,
and so is a request to an unknown path if its answer states usage. Their ids are derived from the provider's, so that
every read of an answer, in any process, writes a version of the same record. A request to a stranger's host is a call
if its answer proves the API.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextvars import copy_context
from functools import partial
from typing import Any, Final

import msgspec

from callspan.observe import background_responses
from callspan.observe.background_responses import version_of
from callspan.observe.call import LARGE_BYTES, Call, Ending
from callspan.observe.factory import CallFactory, CallInfo
from callspan.observe.lines import LineReader
from callspan.process.processed import ProcessedRecord
from callspan.providers import registry
from callspan.providers.base import NOT_RECOGNIZED, Endpoint, ResponseInfo
from callspan.providers.batches import ResultLine, endpoint_of, identity_of, result_in
from callspan.providers.error_kinds import error_in
from callspan.providers.generic_body import has_running_total, stating_usage
from callspan.providers.hosted_tools import has_runs
from callspan.providers.kinds import proves
from callspan.providers.wire_json import unix_ns, word
from callspan.record.apis import APIS
from callspan.record.call import Attempt, CallRecord, Request, Response, Timing
from callspan.record.codec import encode_json
from callspan.record.ids import CallIdCell, batch_call_id, response_call_id
from callspan.record.messages import without_media_bytes
from callspan.record.span_handle import with_span_ids
from callspan.runtime.fail_open import fail_open

_LINES: Final = fail_open("read the lines of a batch")
_READ_REQUEST: Final = fail_open("read the request of a call")
_MAX_IDS: Final = 100_000
"""Number of lines of a batch that are checked for repeated ids."""
_COUNT: Final = fail_open("count a request that leaves no record")
_MAX_FOREIGN: Final = 16
"""Events that prove no API after which no other can make a stream its answer."""
_SUCCESS: Final = 2
"""The first digit of the statuses of answers."""


class Fetch(Call):
    """A request that fetches or cancels a background response, and completes the call once that has ended.

    The first one in this process to do so has a span, with the usage.
    """

    __slots__ = ("_context", "_is_first")
    has_span_from_start = False

    def __init__(self, factory: CallFactory, info: CallInfo, context: Any, api: str = "responses") -> None:
        self._context = context
        self._is_first: bool | None = None
        super().__init__(factory, registry.fetch(api), info, alone=True)

    def _finish(self, ending: Ending) -> None:
        body = self._fold()
        if not (isinstance(body, dict) and body.get("status") in background_responses.UNENDED_STATES):
            record = self._without_keys(msgspec.structs.replace(self.record, **self._fields(ending)[1]))
            if record.part == "answered" and record.response is not None:
                self._write(record, record.response, body)
        self._body = None

    def _write(self, record: CallRecord, response: Response, body: object) -> None:
        factory = self._factory
        if self._is_first is None:
            self._is_first = factory.recorded_calls.is_first(record.call_id)
        if not self._is_first:
            return
        place, call_span = factory.requested_in(record.call_id)
        record = msgspec.structs.replace(record, place=place)
        span = factory.start_later(factory.processors.started(record), self._context, call_span)
        record = with_span_ids(record, span)
        factory.recorder.write(factory.processors.process(background_responses.completion(record, response)))
        processed = factory.processors.process(record)
        span.end(processed, registry.conversation_of(processed.record) if span.wants_content else None)
        if factory.metrics is not None:
            factory.metrics.measure_call(processed)
        if has_runs(body, record.usage):
            factory.tools_ran(self.endpoint.conversation(None, body), record)
        processed.go_on()


class InteractionFetch(Fetch):
    """A request that fetches or cancels an interaction of Google.

    An interaction does not say whether it went on in the background, as agents always do. A model's interaction is
    therefore completed only by the process that started it.
    """

    __slots__ = ()

    def __init__(self, factory: CallFactory, info: CallInfo, context: Any) -> None:
        super().__init__(factory, info, context, "interactions")

    def _write(self, record: CallRecord, response: Response, body: object) -> None:
        _, call_span = self._factory.requested_in(record.call_id)
        if call_span is not None or word(body, "agent") is not None:
            super()._write(record, response, body)


def record_webhook(factory: CallFactory, server: CallInfo, response_id: str, status: str, at_ns: int | None) -> None:
    """Write the end of a background response that a webhook reports, at a Unix time; its answer is fetched later."""
    at_ns = time.time_ns() if at_ns is None else at_ns
    record = background_responses.end_of(server, response_id, status, at_ns)
    if record is not None and factory.recorded_calls.get(f"webhook {record.call_id}") is None:
        processed = factory.processors.process(record)
        factory.recorder.write(processed)
        factory.recorded_calls.is_first(f"webhook {record.call_id}")
        processed.go_on()


class GenericCall(Call):
    """A request to a path without an adapter: a call if its answer states usage, else only counted.

    Answers with a running total are only counted too, because summing them would count tokens twice. The span is
    created once the answer is known, with the times of the request.
    """

    __slots__ = ("_context", "_is_decided", "_unrecorded")
    has_span_from_start = False

    def __init__(
        self, factory: CallFactory, info: CallInfo, context: Any, *, endpoint: Endpoint,
        unrecorded: Callable[[], object],
    ) -> None:  # fmt: skip
        """`unrecorded` counts requests that are no calls."""
        self._context, self._unrecorded, self._is_decided = context, unrecorded, False
        super().__init__(factory, endpoint, info)

    def _finish(self, ending: Ending) -> ProcessedRecord[CallRecord] | None:
        if not self._is_decided:
            body = self._fold()
            if stating_usage(body) is None or has_running_total(self.endpoint.api, body):
                self._leave(ending)
                return None
            self._begin_span(body)
            self._is_decided = True
        return super()._finish(ending)

    def _leave(self, ending: Ending) -> None:
        """Count the request, unless it failed. An answer that is no JSON, such as audio, is no failure."""
        self._body = None
        if ending.outcome == "success" or (ending.outcome == "cancelled" and ending.error is None):
            with _COUNT:
                self._unrecorded()

    def _begin_span(self, body: object) -> None:
        answer = self.endpoint.response_info(body).response
        if answer.id is not None:
            call_id = object_call_id(self.record.provider, answer)
            self.record = msgspec.structs.replace(self.record, call_id=call_id)
            if not self._factory.recorded_calls.is_first(call_id):  # the same object was already counted
                self._is_measured, self._call_ended = False, None
                return
        processed = self._factory.processors.started(self.record)
        self.span = self._factory.start_later(processed, self._context, None)

    def _fields(self, ending: Ending) -> tuple[ResponseInfo, dict[str, Any]]:
        info, fields = super()._fields(ending)
        if info.response.id is not None:
            fields |= {
                "part": "answered",
                "seen_ns": self._factory.answers.seen_ns(self.record.call_id, time.time_ns()),
            }
        return info, fields


class UndecidedCall(Call):
    """A request to a stranger's host: its answer tells whether it is a call.

    It is a call from the first event, or the body, that proves its API; a request that shows one has a span before. A
    2xx answer that proves none is another program's, and nothing is written. All other ends (an error, no answer in
    time, a cut before the first event) are a call's if the request alone has shown that it is one, else another
    program's too.

    What the request has shown leaves a first version once it is long, as the process may be killed. If its answer then
    proves none, it ends as `cancelled`, without content.
    """

    __slots__ = (
        "_add_chunk", "_agrees", "_around", "_dropped", "_is_foreign", "_is_known", "_is_shown", "_is_written",
        "_known",
    )  # fmt: skip
    has_span_from_start = False

    def __init__(
        self, factory: CallFactory, endpoint: Endpoint, info: CallInfo, *, alone: bool = False, is_shown: bool,
        known: Callable[[CallIdCell], object], dropped: Callable[[], object],
    ) -> None:  # fmt: skip
        """`is_shown`: whether the request alone shows a call. `known` is called once it is known, else `dropped`."""
        self._known, self._dropped, self._is_shown = known, dropped, is_shown
        self._is_known = self._is_foreign = self._is_written = False
        self._agrees: bool | None = None
        """Whether an event has proved its API; None before the first one."""
        self._around = copy_context()
        super().__init__(factory, endpoint, info, alone=alone)
        if is_shown:
            self._begin(is_call=True)
            self._start_context = None

    @property
    def is_known_as_call(self) -> bool:
        """Whether its answer has shown that it is a call."""
        return self._is_known

    def mark_foreign(self) -> None:
        """Record that the answer came whole, and has no body that any API may have sent."""
        self._is_foreign = True

    def look_at(self, event: object) -> None:
        """Record whether an event, as it was sent, proves that the stream is the API's."""
        self._agrees = self._agrees or self._is_answer(event)

    def _add_first(self, data: object) -> bool:
        has_content = super()._add_first(data)
        if self._add is not None:
            self._add_chunk, self._add = self._add, self._add_unknown
            self._decide(data)
        return has_content

    def _add_unknown(self, data: object) -> bool:
        has_content = self._add_chunk(data)
        self._decide(data)
        return has_content

    def _decide(self, event: object) -> None:
        self.look_at(event)
        if self._agrees:
            self._add = self._add_chunk
            self._take_for_call()
            if self.streaming:
                self.write_first_version_from_worker()
        elif self.chunks >= _MAX_FOREIGN:
            self.leave()

    def write_first_version_from_worker(self) -> bool:
        """Do so too before the answer has begun, if the request shows a call. One in the background awaits its id."""
        if self._request.params.get("background") is True:
            return False
        if self._is_known or self._is_written or self._agrees is not None or not self._is_shown:
            return super().write_first_version_from_worker()
        self._is_written = True
        self._around.copy().run(self._write_started, self._first_version())
        return False

    def _is_answer(self, body: object) -> bool:
        """Return whether a body proves its API, or states the error of a call that the request has shown."""
        is_error = self._is_shown and isinstance(body, dict) and error_in(body) is not None
        return is_error or proves(body, APIS[self.endpoint.api].answered)

    def _take_for_call(self) -> None:
        """Start its span, as of its start, with the context of that, unless its request has."""
        self._is_known = True
        self._known(self.id_cell)
        if self._is_shown:
            self._start_context = self._around
            return
        self._around.run(partial(self._begin, is_call=True))
        if self.span.wants_content:
            with _READ_REQUEST:
                body = self._request.body
                asked = self.endpoint.conversation(registry.decoded(body), None)
                self._input = without_media_bytes(asked) if len(memoryview(body)) > LARGE_BYTES else asked

    def _finish(self, ending: Ending) -> ProcessedRecord[CallRecord] | None:
        if not self._is_known:
            if self._is_of_another_program(ending):
                self._drop()
                if not self._is_written:
                    return None
                self.forget_response()  # and the request: a store may have its first version, which this one empties
                self._input = None
                self._request, ending = self.record.request, ending._replace(how=None, outcome="cancelled", error=None)
            self._take_for_call()
        return super()._finish(ending)

    def _is_of_another_program(self, ending: Ending) -> bool:
        if self._agrees is not None:
            return not self._agrees
        status = self.attempts.last_status
        if status is None or status // 100 != _SUCCESS:
            return not self._is_shown
        body = self._fold()
        if body is not None:
            return not self._is_answer(body)
        is_whole = ending.outcome == "success" and ending.error is None and not self._partly_unobserved
        return is_whole or self._is_foreign or not self._is_shown

    def _drop(self) -> None:
        stop_counting, self._stop_counting = self._stop_counting, None
        if stop_counting is not None:
            stop_counting()
        self.id_cell.value = self._body = self._accumulator = self._add = None
        with _COUNT:
            self._dropped()


class BatchResults(Call):
    """A request for batch results: each line that is read is recorded as a call. It has no record of its own."""

    __slots__ = ("_owner", "_repetitions", "byte_reader")
    has_span_from_start = False
    byte_reader: LineReader

    def __init__(self, factory: CallFactory, info: CallInfo, context: object, *, owner: str) -> None:
        """`owner` is the id of the batch, or of a file that may not contain results."""
        del context
        self._owner = owner
        self._repetitions: dict[str, int] = {}
        """How often lines have repeated each id, which Gemini lets the application choose."""
        self.byte_reader = LineReader(self._take)
        super().__init__(factory, registry.generic("batch_results"), info)

    def _finish(self, ending: Ending) -> None:
        with _LINES:
            self.byte_reader.finish(complete=ending.outcome == "success" and ending.error is None)

    def _take(self, line: bytes) -> bool:
        """Record the call of a line; return whether it is a result."""
        result = result_in(line)
        if result is not None:
            self._write(result)
        return result is not None

    def _write(self, result: ResultLine) -> None:
        factory, identity = self._factory, identity_of(result)
        repetition = self._repetitions.get(identity, -1) + 1
        if repetition or len(self._repetitions) < _MAX_IDS:
            self._repetitions[identity] = repetition
        identity = f"{identity}\n{repetition}" if repetition else identity
        record, endpoint = _answered(self.record, self._owner, result, identity)
        if factory.recorded_calls.get(record.call_id) is not None:
            return
        processed = factory.processors.process(self._without_keys(record))
        factory.recorder.write(processed)
        # Last, so that a line interrupted here is recorded when read again.
        if not factory.recorded_calls.is_first(record.call_id):
            return
        if factory.metrics is not None:
            factory.metrics.measure_call(processed)
        if self._call_ended is not None:
            self._call_ended(processed, None)
        if has_runs(result.body, record.usage):
            factory.tools_ran(endpoint.conversation(None, result.body), processed.record)
        processed.go_on()


def object_call_id(provider: str, answer: Response) -> str:
    """Return the id of the call of an object. It depends on the time too, else on the model: servers repeat ids."""
    return response_call_id(provider, f"{answer.id}\n{answer.created or answer.model or ''}")


def _answered(reading: CallRecord, owner: str, line: ResultLine, identity: str) -> tuple[CallRecord, Endpoint]:
    """Return the record of a line and the endpoint for its answer. Providers state no duration of lines."""
    endpoint = endpoint_of(line)
    info = NOT_RECOGNIZED if line.body is None else endpoint.response_info(line.body)
    start_ns = unix_ns(info.response.created) or reading.timing.start_ns
    error = line.error or info.error
    attempts = [Attempt(number=1, start_ns=0, status=line.status, request_id=line.request_id)]
    record = version_of(
        reading,
        call_id=batch_call_id(reading.provider, owner, identity),
        request=Request(model=line.model),
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


def _response(line: ResultLine, info: ResponseInfo) -> Response | None:
    if line.body is None:
        return None
    body = encode_json(line.body)
    return msgspec.structs.replace(
        info.response, unrecognized=not info.recognized, body_bytes=len(body), body=msgspec.Raw(body)
    )
