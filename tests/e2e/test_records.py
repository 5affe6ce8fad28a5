"""The normalised record: the same parts for every API, joined to its span, with correct times."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

from callspan.record.formats import FORMAT
from callspan.record.messages import Text, ToolCall
from callspan.testing import Captured
from callspan.wiring import Handle
from tests.e2e.ask import APIS, chat, message, respond, response_of, shown
from tests.intercept.mode import Mode
from tests.intercept.test_endings import the_call

pytestmark = pytest.mark.slow

Run = Callable[[Callable[[], Awaitable[Any]]], Any]
LOOK = {"id": "call_1", "name": "look", "arguments": {"at": "sky"}}


def completion(mode: Mode, **options: Any) -> Any:
    """A legacy completion."""
    return mode.openai().completions.create(model="gpt-5", prompt="How are you?", **options)


FOUR: dict[str, Callable[..., Any]] = {
    "chat_completions": chat, "responses": respond, "messages": message, "completions": completion,
}  # fmt: skip


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
@pytest.mark.parametrize("says", ["text", "tools"])
@pytest.mark.parametrize("api", FOUR)
def test_each_api_makes_the_same_record_of_the_same_answer(
    api: str, says: str, stream: bool, mode: Mode, run: Run, seen: Captured
) -> None:
    """What four APIs say in four ways is one golden record: question, answer, tokens, reason, outcome."""
    tools = says == "tools" and api != "completions"
    mode.provider.reply(
        **({"tool_calls": [LOOK]} if tools else {"text": "I am well."}), input_tokens=11, output_tokens=4
    )
    extra: dict[str, Any] = {"stream": stream} if stream else {}
    if stream and api in ("chat_completions", "completions"):
        extra["stream_options"] = {"include_usage": True}

    async def body() -> None:
        result = await mode.wait(FOUR[api](mode, **extra))
        if stream:
            await mode.all(result)

    run(body)
    record, attributes = the_call(seen), shown(seen)
    assert record.conversation is not None
    assert record.conversation.input[0].parts == [Text(text="How are you?")]
    (output,) = record.conversation.output
    (part,) = output.parts
    if tools:
        assert isinstance(part, ToolCall)
        assert (part.id, part.name, json.loads(part.arguments or "")) == ("call_1", "look", {"at": "sky"})
    else:
        assert part == Text(text="I am well.")
    assert (record.api, record.outcome, record.schema_version) == (api, "success", FORMAT)
    assert record.usage is not None
    assert (record.usage.input_tokens, record.usage.output_tokens, record.usage.total_tokens) == (11, 4, 15)
    assert attributes["llm.finish_reason"] == ("tool_calls" if tools else "stop")
    assert record.request.model is not None


@pytest.mark.parametrize("api", APIS)
def test_the_bodies_are_those_of_the_wire(api: str, mode: Mode, run: Run, seen: Captured) -> None:
    """The request to the byte, the answer value for value."""
    run(lambda: response_of(mode, api, extra_body={"zzz": [1, {"é": None}], "aaa": 1}))
    record = the_call(seen)
    assert bytes(record.request.body) == mode.provider.requests[0].content
    assert record.response is not None
    assert json.loads(bytes(record.response.body))["id"] == record.response.id
    assert record.request.body_bytes == len(mode.provider.requests[0].content)


@pytest.mark.parametrize("api", APIS)
def test_times_are_utc_and_agree_with_the_latency(api: str, mode: Mode, run: Run, seen: Captured) -> None:
    """Aware times, start before end, and their difference is the latency within a millisecond."""
    mode.provider.reply(text="well", delay_s=0.03)
    before = datetime.now(timezone.utc)
    run(lambda: response_of(mode, api))
    after = datetime.now(timezone.utc)
    timing = the_call(seen).timing
    assert timing.duration_ns is not None
    started = datetime.fromtimestamp(timing.start_ns / 1e9, timezone.utc)
    ended = datetime.fromtimestamp((timing.start_ns + timing.duration_ns) / 1e9, timezone.utc)
    slack = timedelta(milliseconds=5)
    assert before - slack <= started < ended <= after + slack
    latency = shown(seen)["llm.total_latency"]
    assert abs((ended - started) / timedelta(milliseconds=1) - latency) <= 1
    (span,) = seen.spans
    assert span.start_time == timing.start_ns


@pytest.mark.parametrize("sampled", [True, False])
def test_every_call_is_a_line_and_a_span_and_without_sampling_still_a_line(
    sampled: bool, mode: Mode, run: Run, instrumented: Callable[..., Handle], tmp_path: Path
) -> None:
    """Five calls: five JSON lines, each with the ids of its span; sampled out there are lines all the same."""
    exporter = InMemorySpanExporter()
    own = TracerProvider() if sampled else TracerProvider(sampler=ALWAYS_OFF)
    own.add_span_processor(SimpleSpanProcessor(exporter))
    handle = instrumented(tracer_provider=own, stores=f"jsonl:///{tmp_path}/calls.jsonl")
    for api in (*APIS, *APIS[:2]):
        run(lambda api=api: response_of(mode, api))  # type: ignore[misc]
    assert handle.force_flush(60_000)
    lines = [json.loads(line) for line in (tmp_path / "calls.jsonl").read_bytes().splitlines()]
    assert len({line["call_id"] for line in lines}) == 5
    spans = {f"{span.context.span_id:016x}" for span in exporter.get_finished_spans() if span.context is not None}
    assert len(spans) == (5 if sampled else 0)
    if sampled:
        assert {line["span_id"] for line in lines} == spans
    assert all(line["request"]["body"] for line in lines)
