"""The normalised record: the same parts for every API, joined to its span, with correct times."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import openai
import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

import callspan
from callspan.record.formats import FORMAT
from callspan.record.messages import Media, Text, ToolCall, ToolResult, UnknownPart
from callspan.stores.base import CallFilter, Reader
from callspan.testing import Captured, ScriptedProvider
from callspan.wiring import Handle
from tests.e2e.ask import APIS, QUESTION, chat, message, respond, response_of, shown
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


HISTORY: list[Any] = [
    {"role": "developer", "content": "Be brief."},
    {"role": "user", "name": "ann", "content": "Look."},
    {"role": "assistant", "content": None, "tool_calls": [
        {"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"at": 1}'}}]},
    {"role": "tool", "tool_call_id": "c1", "content": "A cloud."},
    {"role": "user", "content": [
        {"type": "image_url", "image_url": {"url": "data:image/webp;base64,AAAA"}},
        {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
        {"type": "hologram", "depth": 3}]},
]  # fmt: skip


@pytest.mark.parametrize("typed", [False, True], ids=["dicts", "objects"])
def test_nothing_of_a_history_is_lost(typed: bool, mode: Mode, run: Run, seen: Captured) -> None:
    """Ids of tool results, names, tool calls of earlier turns, parts of any kind, true types, no text "None".

    The SDK's own objects among the messages are read like dicts.
    """
    from openai.types.chat import ChatCompletionMessage

    sent = list(HISTORY)
    if typed:
        sent[2] = ChatCompletionMessage.model_validate(HISTORY[2])
    run(lambda: response_of(mode, "chat_completions", messages=sent, tool_choice="required"))
    record = the_call(seen)
    assert record.conversation is not None
    developer, ann, assistant, tool, parts = record.conversation.input
    assert (developer.role, developer.parts) == ("developer", [Text(text="Be brief.")])
    assert (ann.role, ann.name) == ("user", "ann")
    assert assistant.parts == [ToolCall(id="c1", name="look", arguments='{"at": 1}')]
    assert tool.parts == [ToolResult(id="c1", content="A cloud.")]
    picture, sound, unknown = parts.parts
    assert isinstance(picture, Media)
    assert isinstance(sound, Media)
    assert (picture.modality, picture.mime, sound.modality) == ("image", "image/webp", "audio")
    assert unknown == UnknownPart(data={"type": "hologram", "depth": 3})
    assert record.request.params["tool_choice"] == "required"
    assert "None" not in shown(seen)["gen_ai.input.messages"]


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


def test_records_are_found_by_step_and_by_id_and_what_is_unknown_is_none(
    provider: ScriptedProvider, instrumented: Callable[..., Handle], reading: Callable[[object], Reader], tmp_path: Path
) -> None:
    """The newest call of a step first; nothing for an id nobody has."""
    handle = instrumented(stores=f"sqlite:///{tmp_path}/calls.db")
    with (
        openai.OpenAI(api_key="k", base_url=provider.openai_url) as client,
        callspan.session("s") as session,
        callspan.metadata(run_id="r1"),
    ):
        for _ in range(2):
            with session.timestep() as step:
                for user in ("first", "last"):
                    client.chat.completions.create(model="gpt-5", messages=QUESTION, user=user)
    assert handle.force_flush(60_000)
    reader = reading(tmp_path / "calls.db")
    newest, older = reader.calls(CallFilter(timestep_id=step.id))
    assert (newest.request.params["user"], older.request.params["user"]) == ("last", "first")
    assert newest.metadata["run_id"] == "r1"
    assert reader.call(newest.call_id) == newest
    assert reader.call("f" * 32) is None
    assert list(reader.calls(CallFilter(timestep_id="nobody's"))) == []
    assert reader.session("nobody's") is None
