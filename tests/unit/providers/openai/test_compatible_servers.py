"""Dialects: streams of servers that implement OpenAI's API, each folded into one body."""

from __future__ import annotations

from typing import Any

from callspan.providers.base import ResponseInfo
from callspan.providers.openai.chat import ChatCompletions
from callspan.record.messages import Message, Reasoning, Refusal, Text, ToolCall


def folded(chunks: list[dict[str, Any]]) -> tuple[list[Message], ResponseInfo]:
    endpoint = ChatCompletions()
    accumulator = endpoint.accumulator()
    for chunk in chunks:
        accumulator.add(chunk)
    body = accumulator.body()
    return endpoint.conversation(None, body).output, endpoint.response_info(body)


def choice(delta: Any, finish: Any = None, **fields: Any) -> list[dict[str, Any]]:
    return [{"index": 0, "delta": delta, "finish_reason": finish, **fields}]


def test_deepseek_sends_reasoning_first_and_its_own_cache_counters() -> None:
    head = {"id": "ds", "object": "chat.completion.chunk", "created": 17, "model": "deepseek-reasoner", "usage": None}
    usage = {
        "prompt_tokens": 10,
        "completion_tokens": 6,
        "total_tokens": 16,
        "prompt_cache_hit_tokens": 8,
        "prompt_cache_miss_tokens": 2,
        "completion_tokens_details": {"reasoning_tokens": 4},
    }
    messages, facts = folded(
        [
            {**head, "choices": choice({"role": "assistant", "content": None, "reasoning_content": ""}, logprobs=None)},
            {**head, "choices": choice({"content": None, "reasoning_content": "Let me"}, logprobs=None)},
            {**head, "choices": choice({"content": None, "reasoning_content": " see."}, logprobs=None)},
            {**head, "choices": choice({"content": "4", "reasoning_content": None}, logprobs=None)},
            {**head, "choices": choice({"content": "2", "reasoning_content": None}, logprobs=None)},
            {**head, "choices": choice({"content": "", "reasoning_content": None}, "stop"), "usage": usage},
        ]
    )
    assert messages == [
        Message(role="assistant", parts=[Reasoning(text="Let me see."), Text(text="42")], finish_reason="stop")
    ]
    assert facts.usage is not None
    assert (facts.usage.input_tokens, facts.usage.cache_read_tokens, facts.usage.reasoning_tokens) == (10, 8, 4)


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


def test_a_filter_that_stops_an_answer_is_a_refusal() -> None:
    messages, facts = folded([{"id": "az", "choices": choice({"role": "assistant"}, "content_filter")}])
    assert messages == [Message(role="assistant", finish_reason="content_filter")]
    assert facts.refused


def test_openrouter_sends_reasoning_in_two_fields_and_its_cost() -> None:
    def thought(text: str) -> dict[str, Any]:
        details = [{"type": "reasoning.text", "text": text, "index": 0, "format": None}]
        return {"role": "assistant", "content": "", "reasoning": text, "reasoning_details": details}

    head = {"id": "gen-1", "provider": "Novita", "model": "x/y", "object": "chat.completion.chunk", "created": 17}
    messages, facts = folded(
        [
            {**head, "choices": choice(thought("one "), native_finish_reason=None)},
            {**head, "choices": choice(thought("two"), native_finish_reason=None)},
            {**head, "choices": choice({"role": "assistant", "content": "ok"}, native_finish_reason=None)},
            {**head, "choices": choice({"role": "assistant", "content": ""}, "stop", native_finish_reason="STOP")},
            {**head, "choices": choice({"content": ""}), "usage": {"prompt_tokens": 5, "cost": 0.00014}},
        ]
    )
    assert messages[0].parts == [Reasoning(text="one two"), Text(text="ok")]
    assert facts.usage is not None
    assert str(facts.usage.cost_usd) == "0.00014"


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


def test_vllm_counts_in_every_chunk() -> None:
    def chunk(delta: dict[str, Any], count: int, finish: str | None = None) -> dict[str, Any]:
        usage = {"prompt_tokens": 7, "completion_tokens": count, "total_tokens": 7 + count}
        return {"id": "v", "model": "m", "choices": choice(delta, finish, token_ids=[count]), "usage": usage}

    messages, facts = folded(
        [
            chunk({"role": "assistant", "content": ""}, 0),
            chunk({"content": "a"}, 1),
            chunk({"content": "b"}, 2, "length"),
        ]
    )
    assert messages == [Message(role="assistant", parts=[Text(text="ab")], finish_reason="length")]
    assert facts.truncated
    assert facts.usage is not None
    assert (facts.usage.output_tokens, facts.usage.total_tokens) == (2, 9)


def test_gemini_sends_whole_calls_without_index_or_id() -> None:
    def call(name: str, arguments: str) -> dict[str, Any]:
        signed = {"google": {"thought_signature": f"sig-{name}"}}
        function = {"name": name, "arguments": arguments}
        return {"function": function, "id": "", "type": "function", "extra_content": signed}

    head = {"id": "g", "model": "gemini", "object": "chat.completion.chunk", "created": 17}
    messages, _ = folded(
        [
            {**head, "choices": choice({"role": "assistant", "tool_calls": [call("f", '{"a":1}')]})},
            {**head, "choices": choice({"role": "assistant", "tool_calls": [call("g", "{}")]}, "tool_calls")},
        ]
    )
    signatures = [{"extra_content": {"google": {"thought_signature": f"sig-{name}"}}} for name in "fg"]
    assert messages[0].parts == [
        ToolCall(name="f", arguments='{"a":1}', extra=signatures[0]),
        ToolCall(name="g", arguments="{}", extra=signatures[1]),
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


def test_groq_ends_with_an_error_where_the_call_it_made_is_invalid() -> None:
    head = {"id": "q", "model": "m", "object": "chat.completion.chunk", "created": 17}
    messages, facts = folded(
        [
            {**head, "choices": choice({"role": "assistant", "reasoning": "hm", "channel": "analysis"})},
            {"error": {"message": "did not match schema", "type": "invalid_request_error", "code": "tool_use_failed"}},
        ]
    )
    assert messages == [Message(role="assistant", parts=[Reasoning(text="hm")])]
    assert facts.error is not None
    assert (facts.error.type, facts.error.kind) == ("tool_use_failed", "bad_input")


def test_an_early_cut_leaves_no_finish_reason_and_marks_the_call() -> None:
    call = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "move", "arguments": '{"to": "no'}}
    messages, facts = folded(
        [{"id": "c", "choices": choice({"role": "assistant", "content": None, "tool_calls": [call]})}]
    )
    assert messages[0].parts == [ToolCall(id="call_1", name="move", arguments='{"to": "no', incomplete=True)]
    assert facts.response.finish_reasons == [None]


def test_a_streamed_refusal_is_not_content() -> None:
    messages, facts = folded(
        [
            {"id": "c", "choices": choice({"role": "assistant", "content": "", "refusal": None})},
            {"id": "c", "choices": choice({"refusal": "I'm sorry"})},
            {"id": "c", "choices": choice({"refusal": ", no."})},
            {"id": "c", "choices": choice({}, "stop")},
        ]
    )
    assert messages[0].parts == [Refusal(text="I'm sorry, no.")]
    assert facts.refused
