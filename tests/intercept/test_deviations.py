"""Deviations of OpenAI-compatible servers, read through the SDK in sync and async code."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import openai
import pytest

from callspan.testing import Captured
from tests.intercept.mode import Mode
from tests.intercept.test_endings import Wire, text_of, the_call

Run = Callable[[Callable[[], Awaitable[Any]]], Any]


async def read(mode: Mode) -> list[Any]:
    return await mode.all(await Wire("chat_completions", mode).stream())


HEAD: dict[str, Any] = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "m"}


def chunk(delta: Any, **fields: Any) -> dict[str, Any]:
    return {**HEAD, "choices": [{"index": 0, "delta": delta, **fields}]}


USAGE = {"prompt_tokens": 2, "completion_tokens": 3, "total_tokens": 5}
CALL = {"type": "function", "function": {"name": "look", "arguments": "{}"}}
DEVIATIONS: dict[str, tuple[list[Any], dict[str, Any]]] = {
    "reasoning of OpenRouter": ([chunk({"reasoning": "hm"}), chunk({"content": "Hi"})], {"reasoning": "hm"}),
    "reasoning of DeepSeek": ([chunk({"reasoning_content": "hm"}), chunk({"content": "Hi"})], {"reasoning": "hm"}),
    "reasoning twice": (
        [chunk({"reasoning_content": "hm", "reasoning": "hm"}), chunk({"content": "Hi"})],
        {"reasoning": "hm"},
    ),
    "details of reasoning": (
        [chunk({"reasoning_details": [{"type": "reasoning.text", "text": "hm"}]}), chunk({"content": "Hi"})],
        {"reasoning": "hm"},
    ),
    "usage of Groq": ([chunk({"content": "Hi"}), {**HEAD, "choices": [], "x_groq": {"usage": USAGE}}], {"input": 2}),
    "usage on every chunk": (
        [{**chunk({"content": "Hi"}), "usage": {**USAGE, "prompt_tokens": 1}}, {**chunk({}), "usage": USAGE}],
        {"input": 2},
    ),
    "usage taken back": ([{**chunk({"content": "Hi"}), "usage": USAGE}, {**chunk({}), "usage": None}], {"input": 2}),
    "cache of DeepSeek": (
        [{**chunk({"content": "Hi"}), "usage": {**USAGE, "prompt_cache_hit_tokens": 1}}],
        {"cache_read": 1},
    ),
    "cost of OpenRouter": ([{**chunk({"content": "Hi"}), "usage": {**USAGE, "cost": 0.003}}], {"cost": "0.003"}),
    "choices null": ([{**HEAD, "choices": None}, chunk({"content": "Hi"})], {}),
    "choices absent": ([HEAD, chunk({"content": "Hi"})], {}),
    "delta null": ([chunk(None), chunk({"content": "Hi"})], {}),
    "no index": ([{**HEAD, "choices": [{"delta": {"content": "Hi"}}]}], {}),
    "whole call in one delta": ([chunk({"tool_calls": [{"index": 0, "id": "c", **CALL}]})], {"call": "look"}),
    "call without index": ([chunk({"tool_calls": [{"id": "c", **CALL}]})], {"call": "look"}),
    "call without id": ([chunk({"tool_calls": [{"index": 0, **CALL}]})], {"call": "look"}),
    "no role": ([chunk({"content": "Hi"})], {"role": "assistant"}),
    "empty finish reason": ([chunk({"content": "Hi"}, finish_reason=""), chunk({}, finish_reason="")], {"end": None}),
    "another finish reason": ([chunk({"content": "Hi"}), chunk({}, finish_reason="eos")], {"end": "eos"}),
    "a stop reason beside": (
        [chunk({"content": "Hi"}), chunk({}, finish_reason="stop", stop_reason=7)],
        {"end": "stop"},
    ),
    "filter results first": (
        [{**HEAD, "id": "", "choices": [], "prompt_filter_results": []}, chunk({"content": "Hi"})],
        {},
    ),
}  # fmt: skip


def facts(record: Any) -> dict[str, Any]:
    parts = [part for message in record.conversation.output for part in message.parts]
    usage = record.usage
    return {
        "reasoning": "".join(part.text for part in parts if type(part).__name__ == "Reasoning"),
        "call": next((part.name for part in parts if type(part).__name__ == "ToolCall"), None),
        "role": record.conversation.output[0].role,
        "end": record.response.finish_reasons[0],
        "input": usage and usage.input_tokens,
        "cache_read": usage and usage.cache_read_tokens,
        "cost": usage and str(usage.cost_usd),
    }


@pytest.mark.parametrize("deviation", DEVIATIONS)
def test_every_known_deviation_of_compatible_servers_is_read(
    deviation: str, mode: Mode, run: Run, seen: Captured
) -> None:
    events, expected = DEVIATIONS[deviation]
    mode.provider.reply(raw=events)
    run(lambda: read(mode))
    record = the_call(seen)
    assert record.outcome == "success"
    assert text_of(record).replace(facts(record)["reasoning"], "", 1) == ("" if "call" in expected else "Hi")
    assert {key: facts(record)[key] for key in expected} == expected


def test_an_error_in_the_stream_of_a_compatible_server_is_an_error(mode: Mode, run: Run, seen: Captured) -> None:
    mode.provider.reply(raw=[chunk({"content": "Hi"}), {"error": {"message": "busy", "code": 503}}])
    with pytest.raises(openai.APIError, match="busy"):
        run(lambda: read(mode))
    record = the_call(seen)
    assert (record.outcome, text_of(record)) == ("error", "Hi")
