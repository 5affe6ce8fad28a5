"""LiveCall: exactly one record, correct times, and a failure loses content before identity."""

from __future__ import annotations

import atexit
import json
import os
import threading
import time
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from callspan.background import Worker
from callspan.fail_open import fail_open, forget_failures
from callspan.observe.deferred_ends import DeferredEnds
from callspan.observe.live_call import CallFactory, LiveCall
from callspan.observe.ports import CallInfo, Clock
from callspan.process.processed import Processed
from callspan.process.processors import Processor, Processors
from callspan.providers import registry
from callspan.providers.base import ResponseInfo
from callspan.providers.openai.chat import ChatCompletions
from callspan.record.codec import exact_json
from callspan.records import CallRecord, Conversation, ErrorInfo, Response

REQUEST = {"model": "gpt-5", "messages": [{"role": "user", "content": "hi"}], "temperature": 0.5}
ANSWER = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "model": "gpt-5-2026",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "hello"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
}


class Time:
    """A clock that advances on request."""

    def __init__(self) -> None:
        self.now_ns = 5_000

    def clock(self) -> Clock:
        return Clock(wall_ns=lambda: 1_700_000_000_000_000_000, monotonic_ns=lambda: self.now_ns)

    def passes(self, nanoseconds: int) -> None:
        self.now_ns += nanoseconds


class Span:
    """A span that remembers its ends."""

    def __init__(self, *, wants_content: bool = True) -> None:
        self.trace_id: str | None = "a" * 32
        self.span_id: str | None = "b" * 16
        self.parent_span_id: str | None = None
        self.trace = None
        self.sampled: bool | None = True
        self.wants_content = wants_content
        self.ends: list[tuple[CallRecord, Conversation | None]] = []

    def end(self, processed: Processed[CallRecord], conversation: Conversation | None) -> None:
        self.ends.append((processed.record, conversation))


class Stage:
    """A factory around one call, with everything it hands out kept for looking at."""

    def __init__(
        self,
        process: Callable[[Any], Any] = lambda record: record,
        *,
        writes_starts: bool = True,
    ) -> None:
        self.time = Time()
        self.span = Span()
        self.written: list[Any] = []
        self.seen: list[CallRecord] = []
        self.kept: list[CallRecord] = []
        self.factory = CallFactory(
            start_span=lambda _record: self.span,
            processors=Processors([Processor(fail_open("run the test's processor"), process)], redacts=False),
            write=lambda processed: self.written.append(processed.record),
            observed=lambda processed: self.seen.append(processed.record),
            writes_starts=lambda: writes_starts,
            keep=self.kept.append,
            ambient=lambda: (None, None, {"purpose": "test"}),
            clock=self.time.clock(),
        )

    def call(self, api: str = "chat_completions", *, stream: bool = False, estimates: bool = False) -> LiveCall:
        endpoint = registry.by_api(api)
        assert endpoint is not None
        factory = msgspec.structs.replace(self.factory, estimates=estimates)
        return factory.start(endpoint, CallInfo(provider="openai", model="gpt-5", stream=stream))

    def exchange(self) -> None:
        """A plain call with its request and its answer."""
        call = self.call()
        send(call)
        call.data(ANSWER)
        call.end()

    @property
    def record(self) -> CallRecord:
        (record,) = [record for record in self.written if record.outcome != "started"]
        assert isinstance(record, CallRecord)
        return record

    @property
    def shown(self) -> Conversation:
        """The messages that the span got."""
        ((_, conversation),) = self.span.ends
        assert conversation is not None
        return conversation


def send(call: LiveCall) -> None:
    call.sent(json.dumps(REQUEST).encode(), REQUEST)


def test_a_plain_call_becomes_one_complete_record() -> None:
    stage = Stage()
    call = stage.call()
    send(call)
    call.attempts.started(call.offset_ns())
    stage.time.passes(1_000)
    call.attempts.headers_received(call.offset_ns(), 200, {"x-request-id": "req_1"})
    call.data(ANSWER)
    stage.time.passes(500)
    call.end()
    record = stage.record
    assert record.part == "ended"
    assert record.request.params["temperature"] == 0.5
    assert json.loads(bytes(record.request.body)) == REQUEST
    assert record.response is not None
    assert (record.response.id, record.response.model) == ("chatcmpl-1", "gpt-5-2026")
    assert json.loads(bytes(record.response.body)) == ANSWER
    assert record.usage is not None
    assert record.usage.total_tokens == 5
    assert (record.timing.duration_ns, record.timing.answer_ns, record.timing.headers_ns) == (1_500, 0, 1_000)
    assert record.attempts[0].request_id == "req_1"
    assert record.metadata == {"purpose": "test"}
    assert (record.trace_id, record.span_id, record.pid) == ("a" * 32, "b" * 16, os.getpid())
    assert stage.seen == [record]
    ((shown, conversation),) = stage.span.ends
    assert shown is record
    assert conversation is not None
    assert [message.role for message in conversation.input + conversation.output] == ["user", "assistant"]


def test_only_the_first_end_counts() -> None:
    stage = Stage()
    call = stage.call()
    call.data(ANSWER)
    call.end()
    call.end(outcome="error", error=ErrorInfo(kind="server", type="late"))
    call.data({"id": "another"})
    assert call.ended
    assert stage.record.outcome == "success"
    assert len(stage.span.ends) == 1


def test_of_many_threads_that_end_a_call_one_does() -> None:
    stage = Stage()
    call = stage.call()
    call.data(ANSWER)
    gate = threading.Barrier(8)

    def end() -> None:
        gate.wait()
        call.end()

    threads = [threading.Thread(target=end) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(stage.written) == 1


def chunk(text: str | None, finish: str | None = None) -> dict[str, Any]:
    delta = {} if text is None else {"content": text}
    return {"id": "c", "model": "m", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}


def test_a_stream_without_a_listener_is_processed_and_written_at_its_end_only() -> None:
    processed: list[CallRecord] = []

    def process(record: CallRecord) -> CallRecord:
        processed.append(record)
        return record

    stage = Stage(process, writes_starts=False)
    call = stage.call(stream=True)
    send(call)
    assert (stage.written, processed) == ([], [])
    (started,) = stage.kept
    assert (started.call_id, started.trace_id) == (call.record.call_id, stage.span.trace_id), "it can be found"
    call.data(chunk("Hello"))
    call.end()
    assert stage.written == processed
    assert stage.record.outcome == "success"


def test_a_stream_writes_a_started_record_and_then_the_complete_one() -> None:
    stage = Stage()
    call = stage.call(stream=True)
    send(call)
    (started,) = stage.written
    assert (started.outcome, started.part) == ("started", "started")
    assert not bytes(started.request.body)
    for text, pause in (("", 10), ("Hel", 20), ("lo", 70)):
        stage.time.passes(pause)
        call.data(chunk(text))
    stage.time.passes(5)
    call.data(chunk(None, "stop"))
    assert call.stream_complete
    call.end()
    record = stage.record
    assert record.call_id == started.call_id
    assert record.timing.first_chunk_ns == 10
    assert record.timing.first_token_ns == 30, "an empty delta is no token"
    assert record.timing.last_chunk_ns == 105
    assert record.timing.largest_gap_ns == 70
    assert record.stream is not None
    assert (record.stream.chunks, record.stream.complete, record.stream.end) == (4, True, "complete")
    assert record.response is not None
    assert json.loads(bytes(record.response.body))["choices"][0]["message"]["content"] == "Hello"


@pytest.mark.parametrize("garbage", [None, [], "text", 3, {"choices": 4}, {"usage": []}, [[[]]]])
@pytest.mark.parametrize("stream", [True, False])
def test_invalid_data_still_gives_a_record(garbage: object, stream: bool) -> None:
    stage = Stage()
    call = stage.call(stream=stream)
    call.sent(b"\xff not json", garbage)
    call.data(garbage)
    call.end()
    assert stage.record.call_id == call.record.call_id
    msgspec.json.encode(stage.record)


def test_a_processor_that_fails_costs_the_content_and_never_shows_it(caplog: pytest.LogCaptureFixture) -> None:
    forget_failures()

    def failing(record: object) -> object:
        raise RuntimeError("a bug")

    stage = Stage(process=failing)
    stage.exchange()
    forget_failures()
    record = stage.record
    assert record.usage is not None, "numbers are no content"
    assert not bytes(record.request.body)
    assert record.response is not None
    assert not bytes(record.response.body)
    assert stage.span.ends[0][0] is record
    assert "Could not run the test's processor" in caplog.text


def test_without_a_listener_messages_are_not_read() -> None:
    stage = Stage()
    stage.span.wants_content = False
    stage.exchange()
    assert stage.span.ends[0][1] is None
    assert bytes(stage.record.request.body)


def test_changes_of_the_callers_messages_during_a_stream_are_not_recorded() -> None:
    stage = Stage()
    call = stage.call(stream=True)
    mine = {"model": "gpt-5", "messages": [{"role": "user", "content": "as sent"}]}
    call.sent(json.dumps(mine).encode(), mine)
    mine["messages"][0]["content"] = "changed"  # type: ignore[index]
    call.data(chunk("x", "stop"))
    call.end()
    assert getattr(stage.shown.input[0].parts[0], "text", None) == "as sent"
    assert b"as sent" in bytes(stage.record.request.body)


def test_an_ended_call_releases_its_content() -> None:
    stage = Stage()
    call = stage.call()
    send(call)
    call.data(ANSWER)
    call.end()
    held = [getattr(call, name) for name in ("_body", "_input", "_accumulator")]
    assert held == [None, None, None]


def test_a_dropped_stream_is_ended_with_the_time_of_the_drop() -> None:
    stage = Stage()
    call = stage.call(stream=True)
    call.data(chunk("Hel"))
    ends = DeferredEnds()
    stage.time.passes(100)
    ends.note(call, "dropped")
    stage.time.passes(9_000)
    ends.drain()
    record = stage.record
    assert record.timing.duration_ns == 100
    assert record.stream is not None
    assert (record.stream.end, record.outcome) == ("dropped", "cancelled")


@pytest.mark.parametrize(
    ("content", "body", "expected"),
    [
        (b'{"a": NaN}', {"a": float("nan")}, b'{"a":null}'),
        (b'{\n "a": 1\n}', {"a": float("nan")}, b'{"a":1}'),
        (b'{"a":1}', {"a": float("nan")}, b'{"a":1}'),
        (b'{"NaN": "is a word here"}', {"a": float("nan")}, b'{"NaN": "is a word here"}'),
        (b'{"a": "\\ud800", "b": NaN}', {"a": float("nan")}, b'{"a":null}'),
        (b'{"a": "\\ud800"}', {"a": float("nan")}, b'{"a":null}'),
        (b'{"a": ' + b"[" * 2000 + b"]" * 2000 + b"}", {"a": float("nan")}, b'{"a":null}'),
        (b"not json", None, b'"not json"'),
        (b"not json", {"as": "sent"}, b'{"as":"sent"}'),
        (b"\xff\xfe", None, b'"//4="'),
        (b'{"cut": ', None, b'"{\\"cut\\": "'),
        (b'{"a": 1}', None, b'{"a":1}'),
        (b"[1,\r2]", [1, 2], b"[1,2]"),
        (b'{"a": Infinity}', {"a": 1}, b'{"a":1}'),
    ],
)
def test_a_body_is_kept_as_sent_or_as_valid_json(content: bytes, body: object, expected: bytes) -> None:
    assert exact_json(content, body) == expected


def test_an_error_of_a_body_that_names_a_timeout_is_one() -> None:
    stage = Stage()
    call = stage.call("responses")
    call.data({"id": "resp_1", "status": "failed", "error": {"code": "timeout", "message": "no"}, "output": []})
    call.end()
    assert stage.record.outcome == "timeout"


def test_exported_messages_are_those_left_by_the_processors() -> None:
    """The span shows what the record keeps, never what was said before the policy."""

    def secretive(record: Any) -> Any:
        if record.response is None:
            return record
        kept = msgspec.Raw(bytes(record.response.body).replace(b"hello", b"[gone]"))
        return msgspec.structs.replace(record, response=msgspec.structs.replace(record.response, body=kept))

    stage = Stage(process=secretive)
    stage.exchange()
    assert getattr(stage.shown.output[0].parts[0], "text", None) == "[gone]"


def test_a_request_changed_by_a_processor_is_exported_changed() -> None:
    def secretive(record: Any) -> Any:
        kept = msgspec.Raw(bytes(record.request.body).replace(b'"hi"', b'"[gone]"'))
        return msgspec.structs.replace(record, request=msgspec.structs.replace(record.request, body=kept))

    stage = Stage(process=secretive)
    call = stage.call()
    send(call)
    call.end(how=None, outcome="error")
    assert getattr(stage.shown.input[0].parts[0], "text", None) == "[gone]"


def test_estimates_are_made_only_when_requested_and_never_of_vectors() -> None:
    def estimated(api: str, answer: object, *, estimates: bool) -> Any:
        stage = Stage()
        call = stage.call(api, estimates=estimates)
        call.sent(b'{"input":"twelve words"}', {"input": "twelve words"})
        call.data(answer)
        call.end()
        return stage.record.usage

    silent = {key: value for key, value in ANSWER.items() if key != "usage"}
    assert estimated("chat_completions", silent, estimates=False) is None
    assert estimated("chat_completions", silent, estimates=True).estimated
    assert estimated("embeddings", {"data": []}, estimates=True) is None
    assert not estimated("chat_completions", ANSWER, estimates=True).estimated


def test_an_estimate_that_fails_leaves_what_was_reported() -> None:
    stage = Stage()
    call = stage.call(estimates=True)
    half = b'{"messages":[{"role":"user","content":"\\ud800"}]}'
    call.sent(half, json.loads(half))
    call.data({**ANSWER, "usage": {"prompt_tokens": 3}})
    call.end()
    forget_failures()
    assert stage.record.usage is not None
    assert stage.record.usage.input_tokens == 3


def test_a_call_that_has_ended_or_is_of_another_process_is_not_noted() -> None:
    stage = Stage()
    ended, foreign = stage.call(stream=True), stage.call(stream=True)
    ended.end()
    foreign.record = msgspec.structs.replace(foreign.record, pid=-1)
    ends = DeferredEnds()
    ends.note(ended, "dropped")
    ends.note(foreign, "dropped")
    ends.drain()
    assert not foreign.ended
    assert len([record for record in stage.written if record.outcome == "cancelled"]) == 0


def test_no_thread_is_there_before_something_is_put_off_to_it() -> None:
    stage = Stage()
    ends = DeferredEnds(Worker("callspan-of-this-test"))
    call = stage.call(stream=True)
    ends.track(call)
    atexit.unregister(ends.at_exit)

    def threads() -> list[threading.Thread]:
        return [thread for thread in threading.enumerate() if thread.name == "callspan-of-this-test"]

    assert not threads()
    ends.note(call, "dropped")
    while not threads():
        time.sleep(0.001)
    assert all(thread.daemon for thread in threads())


def test_at_the_end_of_the_process_open_streams_are_dropped_and_whole_ones_complete() -> None:
    stage = Stage()
    cut, whole = stage.call(stream=True), stage.call(stream=True)
    ends = DeferredEnds()
    for call in (cut, whole):
        ends.track(call)
        call.data(chunk("x", "stop" if call is whole else None))
    ends.at_exit()
    atexit.unregister(ends.at_exit)
    outcomes = {record.call_id: (record.outcome, record.stream.end) for record in stage.written}
    assert outcomes[cut.record.call_id] == ("cancelled", "dropped")
    assert outcomes[whole.record.call_id] == ("success", "complete")


def test_a_reset_given_as_a_moment_counts_from_the_end_of_the_call() -> None:
    stage = Stage()
    call = stage.call()
    call.attempts.started(call.offset_ns())
    stage.time.passes(2_000_000_000)
    reset = {"x-ratelimit-reset-requests": "1700000012"}
    call.attempts.headers_received(call.offset_ns(), 200, reset)
    call.data(ANSWER)
    call.end()
    assert stage.record.rate_limits is not None
    assert stage.record.rate_limits.requests is not None
    assert stage.record.rate_limits.requests.reset_s == 10


def test_an_answer_to_an_unseen_request_is_shown() -> None:
    stage = Stage()
    call = stage.call()
    call.data(ANSWER)
    call.end()
    assert [message.role for message in stage.shown.output] == ["assistant"]
    assert stage.shown.input == []


@pytest.mark.parametrize(("chunks", "gap"), [(0, None), (1, None), (2, 10)])
def test_a_gap_lies_between_two_chunks(chunks: int, gap: int | None) -> None:
    stage = Stage()
    call = stage.call(stream=True)
    for _ in range(chunks):
        stage.time.passes(10)
        call.data(chunk("x"))
    call.end()
    assert stage.record.timing.largest_gap_ns == gap


def test_what_is_known_of_a_call_cannot_be_changed() -> None:
    info = CallInfo(provider="openai")
    stated = ResponseInfo(response=Response())
    with pytest.raises(AttributeError):
        info.provider = "other"  # type: ignore[misc]
    with pytest.raises(AttributeError):
        stated.truncated = True  # type: ignore[misc]
    with pytest.raises(AttributeError):
        Stage().factory.estimates = True  # type: ignore[misc]


def test_the_first_request_counts_and_none_after_the_end() -> None:
    stage = Stage()
    call = stage.call(stream=True)
    send(call)
    call.sent(b'{"model":"other"}', {"model": "other"})
    assert len(stage.written) == 1
    call.data(chunk("x", "stop"))
    call.end()
    assert json.loads(bytes(stage.record.request.body)) == REQUEST
    late = stage.call(stream=True)
    late.end()
    before = len(stage.written)
    send(late)
    assert len(stage.written) == before


@pytest.mark.parametrize("answers", [True, False])
def test_a_call_without_any_answer_has_no_response(answers: bool) -> None:
    stage = Stage()
    call = stage.call()
    if answers:
        call.attempts.started(0)
        call.attempts.headers_received(1, 500, {})
    call.end(how=None, outcome="error", error=ErrorInfo(kind="connection", type="x"))
    assert (stage.record.response is not None) is answers


class Unreadable(ChatCompletions):
    """An adapter with a fault: it reads no answer."""

    def response_info(self, body: object) -> ResponseInfo:
        raise RuntimeError("a fault")


def test_an_adapter_that_fails_costs_what_it_would_have_read() -> None:
    stage = Stage()
    call = stage.factory.start(Unreadable(), CallInfo(provider="openai", model="gpt-5"))
    call.data(ANSWER)
    call.end()
    forget_failures()
    assert stage.record.outcome == "success"
    assert stage.record.usage is None
    assert stage.record.response is not None
    assert json.loads(bytes(stage.record.response.body)) == ANSWER


def test_only_a_stream_has_an_ending_of_its_own() -> None:
    stage = Stage()
    call = stage.call()
    call.data(ANSWER)
    call.end()
    assert stage.record.stream is None
    refused = Stage()
    refused.call(stream=True).end(how=None, outcome="error")
    assert refused.record.stream is None


def test_a_stream_says_what_its_last_event_was() -> None:
    stage = Stage()
    call = stage.call("responses", stream=True)
    call.data({"type": "response.created", "response": {"id": "resp_1", "output": []}})
    call.data({"type": "response.completed", "response": {"id": "resp_1", "output": []}})
    call.end()
    assert stage.record.stream is not None
    assert stage.record.stream.last_event == "response.completed"


def test_an_answer_to_an_unseen_request_can_be_estimated() -> None:
    stage = Stage()
    call = stage.call(estimates=True)
    call.data({key: value for key, value in ANSWER.items() if key != "usage"})
    call.end()
    assert stage.record.usage is not None
    assert stage.record.usage.output_tokens


def test_an_answer_that_another_has_replaced_is_forgotten() -> None:
    stage = Stage()
    call = stage.call(stream=True)
    call.data(chunk("wrong"))
    call.forget_response()
    assert not call.has_body
    stage.time.passes(10)
    call.data(chunk("right", "stop"))
    call.end()
    assert stage.record.response is not None
    assert b"wrong" not in bytes(stage.record.response.body)
    assert stage.record.stream is not None
    assert (stage.record.stream.chunks, stage.record.timing.first_chunk_ns) == (1, 10)


def test_a_call_that_ends_before_its_body_is_sent_has_the_requested_model() -> None:
    stage = Stage()
    stage.call().end()
    assert stage.record.request.model == "gpt-5"
