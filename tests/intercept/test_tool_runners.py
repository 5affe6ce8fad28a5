"""Tool loops of the SDKs: one span and one record per request."""

from __future__ import annotations

from typing import Any

import anthropic
import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind

from callspan.records import CallRecord, Part, ToolCall, ToolResult
from callspan.testing import Captured
from tests.intercept import sdks
from tests.intercept.calls import QUESTION, Run, text_of
from tests.intercept.mode import Mode

MESSAGE: dict[str, Any] = {"model": "claude-sonnet-5", "max_tokens": 64, "messages": QUESTION}
TOOL_CALL = {"name": "weather", "arguments": {"city": "Paris"}, "id": "call_1"}
plain_and_streamed = pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])


def two_turns(seen: Captured) -> tuple[CallRecord, CallRecord]:
    """The call that asked for the tool and the one that was given its answer, each with a span of its own."""
    asking, last = seen.records
    assert {record.span_id for record in seen.records} == {
        f"{span.context.span_id:016x}" for span in calls_of(seen) if span.context is not None
    }
    assert len(calls_of(seen)) == 2
    assert {record.outcome for record in seen.records} == {"success"}
    assert "weather" in [part.name for part in parts(asking, "output") if isinstance(part, ToolCall)]
    results = [part for part in parts(last, "input") if isinstance(part, ToolResult)]
    assert ["Sunny in Paris" in str(result.content) for result in results] == [True]
    assert text_of(last) == "It is sunny."
    return asking, last


def calls_of(seen: Captured) -> list[ReadableSpan]:
    """The spans of calls."""
    return [span for span in seen.spans if span.kind is SpanKind.CLIENT]


def parts(record: CallRecord, side: str) -> list[Part]:
    assert record.conversation is not None
    return [part for message in getattr(record.conversation, side) for part in message.parts]


def weather_tool(mode: Mode) -> Any:
    def weather(city: str) -> str:
        """Say the weather.

        Args:
            city: Where.
        """
        return f"Sunny in {city}"

    async def weather_later(city: str) -> str:
        return weather(city)

    if mode.is_async:
        return anthropic.beta_async_tool(weather_later, name="weather", description=weather.__doc__)
    return anthropic.beta_tool(weather)


def script(mode: Mode) -> None:
    mode.provider.reply(tool_calls=[TOOL_CALL], input_tokens=11, output_tokens=3)
    mode.provider.reply(text="It is sunny.", input_tokens=20, output_tokens=5)


@plain_and_streamed
def test_a_tool_runner_of_anthropic_makes_one_call_per_request(
    stream: bool, mode: Mode, run: Run, seen: Captured
) -> None:
    sdks.needs("anthropic", "0.125", "a tool runner")
    script(mode)

    async def body() -> Any:
        runner = mode.anthropic().beta.messages.tool_runner(**MESSAGE, tools=[weather_tool(mode)], stream=stream)
        return await mode.wait(runner.until_done())

    assert run(body).content[0].text == "It is sunny."
    asking, last = two_turns(seen)
    assert [bool(record.stream) for record in (asking, last)] == [stream, stream]
    assert [record.usage and record.usage.input_tokens for record in (asking, last)] == [11, 20]
    assert asking.request.continues is None
    # Later versions send a thread, and with it only what is new.
    sent = mode.provider.requests[-1].body.get("thread")
    assert last.request.continues == (None if sent is None else asking.response and asking.response.id)


def test_a_streamed_tool_runner_left_early_ends_its_open_stream(mode: Mode, run: Run, seen: Captured) -> None:
    sdks.needs("anthropic", "0.125", "a tool runner")
    mode.provider.reply(text="one two three four five six")

    async def body() -> None:
        runner = mode.anthropic().beta.messages.tool_runner(**MESSAGE, tools=[weather_tool(mode)], stream=True)
        async for turn in mode.items(runner):
            async for _ in mode.items(turn):
                break
            await mode.wait(turn.close())
            break

    run(body)
    (record,) = seen.records
    assert record.stream is not None
    assert (record.outcome, record.stream.end) == ("cancelled", "closed")
    assert len(mode.provider.requests) == 1


@plain_and_streamed
def test_a_tool_runner_of_responses_makes_one_call_per_request(
    stream: bool, mode: Mode, run: Run, seen: Captured
) -> None:
    runners = pytest.importorskip("openai.lib.responses_tool_runner", reason="this openai has no tool runners")
    script(mode)
    tool = {
        "type": "function", "name": "weather", "strict": True, "description": "Say the weather.",
        "parameters": {
            "type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"],
            "additionalProperties": False,
        },
    }  # fmt: skip

    def execute(arguments: dict[str, Any]) -> str:
        return f"Sunny in {arguments['city']}"

    async def execute_later(arguments: dict[str, Any]) -> str:
        return execute(arguments)

    async def body() -> Any:
        if mode.is_async:
            functions = [runners.AsyncRegisteredFunction(tool=tool, execute=execute_later)]
            runner = runners.AsyncResponsesToolRunner(functions=functions)
        else:
            functions = [runners.RegisteredFunction(tool=tool, execute=execute)]
            runner = runners.ResponsesToolRunner(functions=functions)
        return await mode.wait(runner.run(mode.openai(), {"model": "gpt-5", "input": QUESTION}, stream=stream))

    assert run(body).output_text == "It is sunny."
    asking, last = two_turns(seen)
    assert [bool(record.stream) for record in (asking, last)] == [stream, stream]
    assert asking.api == "responses"


ANSWER = {
    "type": "choice", "name": "next_action", "choice": "north", "confidence": 0.9,
    "probabilities": [{"value": "north", "probability": 0.9}, {"value": "done", "probability": 0.1}],
}  # fmt: skip
DECISION = {
    "model": "gpt-6-luna", "answers": [ANSWER],
    "usage": {
        "input_tokens": 20, "input_tokens_details": {"cached_tokens": 8, "cache_write_tokens": 0},
        "output_tokens": 4, "output_tokens_details": {"reasoning_tokens": 2}, "total_tokens": 24,
    },
}  # fmt: skip


def test_a_runner_of_decisions_makes_one_call_per_decision(mode: Mode, run: Run, seen: Captured) -> None:
    sdks.needs_name(mode.openai(), "decisions")
    runners = pytest.importorskip("openai.lib.decisions_tool_runner", reason="this openai has no runner of decisions")
    done = {**DECISION, "answers": [{**ANSWER, "choice": "done"}]}
    mode.provider.reply(raw=DECISION, on="/decisions")
    mode.provider.reply(raw=done, on="/decisions")
    walked: list[str] = []

    async def walk_later() -> None:
        walked.append("north")

    def walk() -> None:
        walked.append("north")

    def candidates(observation: object) -> list[Any]:
        action = {"id": "north", "description": "Go north.", "execute": walk_later if mode.is_async else walk}
        return [action, {"id": "done", "description": "Stop.", "done": True}]

    async def see() -> str:
        return "A fork."

    async def candidates_later(observation: object) -> list[Any]:
        return candidates(observation)

    async def body() -> Any:
        if mode.is_async:
            runner = runners.AsyncDecisionsToolRunner(observe=see, candidates=candidates_later)
        else:
            runner = runners.DecisionsToolRunner(observe=lambda: "A fork.", candidates=candidates)
        return await mode.wait(runner.run(mode.openai(), {"model": "gpt-6-luna", "input": "Find the exit."}))

    run(body)
    assert walked == ["north"]
    assert [record.api for record in seen.records] == ["decisions", "decisions"]
    assert len(calls_of(seen)) == 2
