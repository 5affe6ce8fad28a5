"""What received spans state of a request's messages and of the answer is in the records, at the level of the sender."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.receive.conftest import GEN_AI, Kept, Sender, span, traces

from callspan.records import CallRecord, Media, Message, Reasoning, Text, ToolCall, ToolResult

CHAT = {key: item for key, item in GEN_AI.items() if key != "gen_ai.conversation.id"}
ARGUMENTS = {"city": "Oslo"}
STATED: dict[str, dict[str, Any]] = {
    "conventions": {
        **CHAT,
        "gen_ai.system_instructions": json.dumps([{"type": "text", "content": "Be brief."}]),
        "gen_ai.input.messages": json.dumps([
            {"role": "user", "parts": [{"type": "text", "content": "Where to?"}]},
            {"role": "assistant", "parts": [{"type": "tool_call", "id": "t1", "name": "trip", "arguments": ARGUMENTS}]},
            {"role": "tool", "parts": [{"type": "tool_call_response", "id": "t1", "response": "by train"}]},
        ]),
        "gen_ai.output.messages": json.dumps([
            {"role": "assistant", "finish_reason": "stop", "parts": [
                {"type": "reasoning", "content": "Oslo is near."}, {"type": "text", "content": "To Oslo."}]},
        ]),
    },
    "Vercel": {
        "ai.operationId": "ai.generateText.doGenerate",
        "ai.model.id": "gpt-5",
        "ai.model.provider": "openai.responses",
        "ai.prompt.messages": json.dumps([
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": "Where to?"}]},
            {"role": "assistant", "content": [
                {"type": "tool-call", "toolCallId": "t1", "toolName": "trip", "input": ARGUMENTS}]},
            {"role": "tool", "content": [{"type": "tool-result", "toolCallId": "t1", "toolName": "trip",
                                          "output": {"type": "text", "value": "by train"}}]},
        ]),
        "ai.response.reasoning": "Oslo is near.",
        "ai.response.text": "To Oslo.",
    },
    "OpenInference": {
        "openinference.span.kind": "LLM",
        "llm.model_name": "gpt-5",
        "llm.input_messages.0.message.role": "system",
        "llm.input_messages.0.message.content": "Be brief.",
        "llm.input_messages.1.message.role": "user",
        "llm.input_messages.1.message.contents.0.message_content.type": "text",
        "llm.input_messages.1.message.contents.0.message_content.text": "Where to?",
        "llm.input_messages.2.message.role": "assistant",
        "llm.input_messages.2.message.tool_calls.0.tool_call.id": "t1",
        "llm.input_messages.2.message.tool_calls.0.tool_call.function.name": "trip",
        "llm.input_messages.2.message.tool_calls.0.tool_call.function.arguments": json.dumps(ARGUMENTS),
        "llm.input_messages.3.message.role": "tool",
        "llm.input_messages.3.message.tool_call_id": "t1",
        "llm.input_messages.3.message.content": "by train",
        "llm.output_messages.0.message.role": "assistant",
        "llm.output_messages.0.message.contents.0.message_content.type": "reasoning",
        "llm.output_messages.0.message.contents.0.message_content.text": "Oslo is near.",
        "llm.output_messages.0.message.contents.1.message_content.type": "text",
        "llm.output_messages.0.message.contents.1.message_content.text": "To Oslo.",
    },
    "OpenLLMetry": {
        "llm.request.type": "chat",
        "gen_ai.request.model": "gpt-5",
        "gen_ai.prompt.0.role": "system",
        "gen_ai.prompt.0.content": "Be brief.",
        "gen_ai.prompt.1.role": "user",
        "gen_ai.prompt.1.content": "Where to?",
        "gen_ai.prompt.2.role": "assistant",
        "gen_ai.prompt.2.tool_calls.0.id": "t1",
        "gen_ai.prompt.2.tool_calls.0.name": "trip",
        "gen_ai.prompt.2.tool_calls.0.arguments": json.dumps(ARGUMENTS),
        "gen_ai.prompt.3.role": "tool",
        "gen_ai.prompt.3.tool_call_id": "t1",
        "gen_ai.prompt.3.content": "by train",
        "gen_ai.completion.0.role": "assistant",
        "gen_ai.completion.0.content": json.dumps([
            {"type": "thinking", "thinking": "Oslo is near."}, {"type": "text", "text": "To Oslo."}]),
    },
}  # fmt: skip
BARE = {"conventions": CHAT} | {
    name: {key: item for key, item in attributes.items() if not key.startswith(("ai.prompt", "ai.response", "llm.in"))
           and not key.startswith(("llm.out", "gen_ai.prompt", "gen_ai.completion"))}
    for name, attributes in STATED.items() if name != "conventions"
}  # fmt: skip


def one_call(kept: Kept) -> CallRecord:
    (call,) = kept.calls.values()
    return call


@pytest.mark.parametrize("vocabulary", STATED)
def test_messages_of_every_vocabulary(kept: Kept, vocabulary: str) -> None:
    kept.take(traces(span(STATED[vocabulary])), "traces")
    call = one_call(kept)
    assert call.conversation is not None
    system, asked, called, answered = call.conversation.input
    assert [(message.role, message.text) for message in (system, asked)] == [
        ("system", "Be brief."), ("user", "Where to?"),
    ]  # fmt: skip
    (tool_call,), (result,) = called.parts, answered.parts
    assert isinstance(tool_call, ToolCall)
    assert (tool_call.id, tool_call.name, json.loads(tool_call.arguments or "")) == ("t1", "trip", ARGUMENTS)
    assert result == ToolResult(id="t1", content="by train")
    (answer,) = call.conversation.output
    assert answer.parts == [Reasoning(text="Oslo is near."), Text(text="To Oslo.")]
    assert (call.text, call.api, call.redactions) == ("To Oslo.", "span_messages", [])


@pytest.mark.parametrize("vocabulary", BARE)
def test_a_span_without_messages_says_so(kept: Kept, vocabulary: str) -> None:
    kept.take(traces(span(BARE[vocabulary])), "traces")
    removed = [(redaction.what, redaction.why) for redaction in one_call(kept).redactions]
    assert removed == [("request.body", "not_received"), ("response.body", "not_received")]
    assert one_call(kept).api != "span_messages"


def test_parts_without_their_content_are_no_messages(kept: Kept) -> None:
    """As pydantic-ai writes them with `include_content=False`."""
    stated = json.dumps([{"role": "user", "parts": [{"type": "text"}]}])
    kept.take(traces(span({**CHAT, "gen_ai.input.messages": stated})), "traces")
    assert one_call(kept).request.body == CallRecord(call_id="", timing=one_call(kept).timing).request.body


def test_messages_of_an_event(kept: Kept) -> None:
    details = {name: STATED["conventions"][name] for name in ("gen_ai.input.messages", "gen_ai.output.messages")}
    event = {"name": "gen_ai.client.inference.operation.details", "attributes": span(details)["attributes"]}
    kept.take(traces(span(CHAT, events=[event])), "traces")
    assert one_call(kept).text == "To Oslo."


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_a_call_has_the_messages_of_the_span_around_it(kept: Kept, order: tuple[int, int]) -> None:
    spans = [span(CHAT, 2, parent=1), span(STATED["conventions"], 1)]
    for number in order:
        kept.take(traces(spans[number]), "traces")
    (call,) = {call.span_id: call for call in kept.calls.values() if call.usage is not None}.values()
    assert (call.span_id, call.text, call.api) == (f"{2:016x}", "To Oslo.", "span_messages")
    assert call.redactions == []


def test_a_span_around_two_calls_has_the_messages_of_neither(kept: Kept) -> None:
    kept.take(traces(span(CHAT, 2, parent=1), span({**CHAT, "gen_ai.response.id": "b"}, 3, parent=1)), "traces")
    kept.take(traces(span({**STATED["conventions"], "gen_ai.response.id": "c"}, 1)), "traces")
    assert [(call.text, call.api) for call in kept.calls.values()] == [(None, "unknown")] * 2


def test_an_image_is_a_medium(kept: Kept) -> None:
    blob = {"type": "blob", "modality": "image", "mime_type": "image/png", "content": "aGVsbG8="}
    uri = {"type": "uri", "modality": "image", "uri": "https://x.test/a.png"}
    stated = json.dumps([{"role": "user", "parts": [blob, uri]}])
    kept.take(traces(span({**CHAT, "gen_ai.input.messages": stated})), "traces")
    conversation = one_call(kept).conversation
    assert conversation is not None
    (inline, linked) = conversation.input[0].parts
    assert isinstance(inline, Media)
    assert isinstance(linked, Media)
    assert (inline.mime, linked.url) == ("image/png", "https://x.test/a.png")


@pytest.mark.parametrize("stated", ["Where to?", '{"role": "user"', "[1, null, []]", json.dumps({"parts": 3})])
def test_any_value_is_read(kept: Kept, stated: str) -> None:
    attributes = {**CHAT, "gen_ai.input.messages": stated, "gen_ai.output.messages": stated,
                  f"llm.input_messages.{'0.' * 4000}x": "y"}  # fmt: skip
    kept.take(traces(span(attributes)), "traces")
    call = one_call(kept)
    assert call.usage is not None
    if stated == "Where to?":
        assert call.conversation is not None
        assert call.conversation.input == [Message(role="user", parts=[Text(text=stated)])]


def test_the_level_of_the_sender_holds(kept: Kept) -> None:
    assert kept.take(traces(span(STATED["conventions"])), "traces", Sender(level="metadata"))
    assert kept.levels == {"metadata"}
