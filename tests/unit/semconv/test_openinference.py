"""The OpenInference names: flat messages that never push the model off the span."""

from __future__ import annotations

import json
from collections.abc import Callable

from callspan.records import CallRecord, Conversation, Media, Message, Reasoning, Refusal, Text
from callspan.semconv import openinference
from callspan.semconv.content_attributes import Attributes, ByteBudget, SpanContent

Call = tuple[CallRecord, Conversation]


def ended(record: CallRecord, conversation: Conversation | None) -> Attributes:
    return openinference.END.of(record, SpanContent(conversation, ByteBudget(32_768, 131_072)))


def test_every_attribute_of_a_call_has_its_exact_name_and_value(chat_call: Call) -> None:
    attributes = ended(*chat_call)
    for name in (
        "input.value",
        "output.value",
        "llm.invocation_parameters",
        "llm.tools.0.tool.json_schema",
        "metadata",
    ):
        json.loads(str(attributes.pop(name)))
    message = "llm.output_messages.0.message."
    assert attributes == {
        "llm.model_name": "gpt-5-2026-01-01",
        "llm.finish_reason": "tool_calls",
        "llm.token_count.prompt": 15,
        "llm.token_count.completion": 5,
        "llm.token_count.total": 20,
        "llm.token_count.prompt_details.cache_read": 7,
        "llm.token_count.prompt_details.cache_write": 5,
        "llm.token_count.completion_details.reasoning": 2,
        "input.mime_type": "application/json",
        "output.mime_type": "application/json",
        f"{message}role": "assistant",
        f"{message}content": "Looking.",
        f"{message}tool_calls.0.tool_call.id": "call_1",
        f"{message}tool_calls.0.tool_call.function.name": "weather",
        f"{message}tool_calls.0.tool_call.function.arguments": '{"city":"Paris"}',
        "llm.input_messages.0.message.role": "system",
        "llm.input_messages.0.message.content": "Be terse.",
        "llm.input_messages.1.message.role": "user",
        "llm.input_messages.1.message.name": "ann",
        "llm.input_messages.1.message.content": "Weather in Paris?",
    }


def test_parts_that_are_not_text_are_listed_one_by_one(bare_call: CallRecord) -> None:
    parts = [Reasoning(text="hm"), Text(text="x"), Refusal(text="No."), Media(modality="image", url="u"), Reasoning()]
    attributes = ended(bare_call, Conversation(input=[Message(role="user", parts=parts)]))
    prefix = "llm.input_messages.0.message.contents."
    assert {name[len(prefix) :]: value for name, value in attributes.items() if name.startswith(prefix)} == {
        "0.message_content.type": "reasoning",
        "0.message_content.text": "hm",
        "1.message_content.type": "text",
        "1.message_content.text": "x",
        "2.message_content.type": "refusal",
        "2.message_content.text": "No.",
        "3.message_content.type": "image",
        "3.message_content.image.image.url": "u",
    }


def test_flat_messages_are_bounded_in_number_and_keep_first_and_newest(
    agent_call: Callable[[int, int], Call],
) -> None:
    record, conversation = agent_call(100, 50)
    attributes = ended(record, conversation)
    flat = [name for name in attributes if name.startswith("llm.input_messages.")]
    assert len(flat) <= openinference.MAX_FLAT_ATTRIBUTES
    assert attributes["llm.input_messages.0.message.role"] == "system"
    assert "llm.input_messages.100.message.role" in attributes, "the newest keeps its place in the request"
    assert "llm.input_messages.50.message.role" not in attributes
