"""LiveCall: exactly one record, correct times, and a failure loses content before identity."""

from __future__ import annotations

import atexit
import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from callspan.fail_open import fail_open, forget_failures
from callspan.observe.deferred_ends import DeferredEnds
from callspan.observe.live_call import CallFactory, LiveCall
from callspan.observe.ports import CallInfo, Clock
from callspan.process.processed import Processed
from callspan.process.processors import Processor, Processors
from callspan.providers import registry
from callspan.providers.base import ResponseInfo
from callspan.providers.openai.chat import ChatCompletions
from callspan.records import CallRecord, Conversation

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


def chunk(text: str | None, finish: str | None = None) -> dict[str, Any]:
    delta = {} if text is None else {"content": text}
    return {"id": "c", "model": "m", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}


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


def test_an_error_of_a_body_that_names_a_timeout_is_one() -> None:
    stage = Stage()
    call = stage.call("responses")
    call.data({"id": "resp_1", "status": "failed", "error": {"code": "timeout", "message": "no"}, "output": []})
    call.end()
    assert stage.record.outcome == "timeout"


def test_a_call_that_has_ended_or_is_of_another_process_is_not_noted() -> None:
    stage = Stage()
    ended, foreign = stage.call(stream=True), stage.call(stream=True)
    ended.end()
    foreign.record = msgspec.structs.replace(foreign.record, pid=-1)
    ends = DeferredEnds()
    ends.note(ended, "closed")
    ends.note(foreign, "closed")
    ends.drain()
    assert not foreign.ended
    assert len([record for record in stage.written if record.outcome == "cancelled"]) == 0


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
    assert outcomes[cut.record.call_id] == ("cancelled", "closed")
    assert outcomes[whole.record.call_id] == ("success", "complete")


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


def test_an_answer_to_an_unseen_request_can_be_estimated() -> None:
    stage = Stage()
    call = stage.call(estimates=True)
    call.data({key: value for key, value in ANSWER.items() if key != "usage"})
    call.end()
    assert stage.record.usage is not None
    assert stage.record.usage.output_tokens
