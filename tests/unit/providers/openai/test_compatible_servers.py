"""Dialects: streams of servers that implement OpenAI's API, each folded into one body."""

from __future__ import annotations

from typing import Any

from callspan.providers.base import ResponseInfo
from callspan.providers.openai.chat import ChatCompletions
from callspan.records import Message, Reasoning, Text


def folded(chunks: list[dict[str, Any]]) -> tuple[list[Message], ResponseInfo]:
    endpoint = ChatCompletions()
    accumulator = endpoint.accumulator()
    for chunk in chunks:
        accumulator.add(chunk)
    body = accumulator.body()
    return endpoint.conversation(None, body).output, endpoint.response_info(body)


def choice(delta: Any, finish: Any = None, **fields: Any) -> list[dict[str, Any]]:
    return [{"index": 0, "delta": delta, "finish_reason": finish, **fields}]


def test_azure_begins_with_filter_results_and_repeats_them() -> None:
    clean = {"hate": {"filtered": False, "severity": "safe"}}
    head = {"id": "az", "object": "chat.completion.chunk", "created": 17, "model": "gpt-4o", "system_fingerprint": "fp"}
    opening = {
        "choices": [],
        "created": 0,
        "id": "",
        "model": "",
        "object": "",
        "prompt_filter_results": [{"prompt_index": 0, "content_filter_results": clean}],
    }
    messages, facts = folded(
        [
            opening,
            {**head, "choices": choice({"role": "assistant", "content": ""}, content_filter_results={}, logprobs=None)},
            {**head, "choices": choice({"content": "Hi"}, content_filter_results=clean, logprobs=None)},
            {**head, "choices": choice({"content": "!"}, content_filter_results=clean, logprobs=None)},
            {**head, "choices": choice({}, "stop", content_filter_results={}, logprobs=None)},
        ]
    )
    assert messages == [Message(role="assistant", parts=[Text(text="Hi!")], finish_reason="stop")]
    assert (facts.response.id, facts.response.model, facts.response.created) == ("az", "gpt-4o", 17)
    assert facts.response.system_fingerprint == "fp"


def test_litellm_sends_claudes_thoughts_in_fragments_of_blocks() -> None:
    fragments = [{"type": "thinking", "thinking": f"{number} ", "signature": None} for number in range(200)]
    ends = [{"type": "thinking", "thinking": "", "signature": "s1"}, {"type": "redacted_thinking", "data": "sealed"}]
    second = [{"type": "thinking", "thinking": "Done.", "signature": None}, {"type": "thinking", "signature": "s2"}]
    deltas: list[dict[str, Any]] = [
        {"thinking_blocks": [one], "reasoning_content": one.get("thinking")} for one in [*fragments, *ends, *second]
    ]
    output, _ = folded([{"choices": choice(delta)} for delta in [*deltas, {"content": "Yes."}]])
    thought = "".join(f"{number} " for number in range(200))
    assert output[0].parts == [
        Reasoning(text=thought, signature="s1"),
        Reasoning(sealed="sealed"),
        Reasoning(text="Done.", signature="s2"),
        Text(text="Yes."),
    ]


def test_snowflake_sends_all_fields_with_empty_values() -> None:
    empty = {"id": "", "created": 0, "object": "chat.completion.chunk", "service_tier": "", "system_fingerprint": ""}
    logprobs = {"content": None, "refusal": None}
    messages, facts = folded(
        [
            {
                **empty,
                "model": "claude",
                "choices": [{"delta": {"content": "4", "refusal": ""}, "index": 0, "logprobs": logprobs}],
            },
            {
                **empty,
                "model": "claude",
                "choices": [{"delta": {"content": "2", "refusal": ""}, "index": 0, "logprobs": logprobs}],
            },
            {**empty, "model": "claude", "choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2}},
        ]
    )
    assert messages == [Message(role="assistant", parts=[Text(text="42")])]
    assert (facts.response.id, facts.response.created, facts.response.service_tier) == (None, None, None)
    assert facts.response.finish_reasons == [None]
