"""The OpenInference attributes of a call, opt-in: flat messages, bounded in number as well as in bytes.

State: openinference-semantic-conventions 0.1.42. OpenTelemetry keeps 128 attributes of a span by default and
drops the rest in order of arrival, so flat messages may not take more than a part of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from callspan.record.call import CallRecord
from callspan.record.codec import encode_json
from callspan.record.finish import normalised
from callspan.record.messages import Conversation, Media, Message, Part, Reasoning, Refusal, Text, ToolCall, ToolResult
from callspan.record.usage import Usage
from callspan.semconv.history import chosen, spoken
from callspan.semconv.parts import tool_definitions
from callspan.semconv.values import Attributes, AttributeValue, ByteBudget, put_encoded, put_json, put_text
from callspan.semconv.wire_json import choices_json, messages_json

SPAN_KIND: Final = "openinference.span.kind"
SYSTEM: Final = "llm.system"
PROVIDER: Final = "llm.provider"
MODEL_NAME: Final = "llm.model_name"
EMBEDDING_MODEL_NAME: Final = "embedding.model_name"
INVOCATION_PARAMETERS: Final = "llm.invocation_parameters"
INPUT_VALUE: Final = "input.value"
INPUT_MIME_TYPE: Final = "input.mime_type"
OUTPUT_VALUE: Final = "output.value"
OUTPUT_MIME_TYPE: Final = "output.mime_type"
INPUT_MESSAGES: Final = "llm.input_messages"
OUTPUT_MESSAGES: Final = "llm.output_messages"
TOOLS: Final = "llm.tools"
FINISH_REASON: Final = "llm.finish_reason"
TOKENS_PROMPT: Final = "llm.token_count.prompt"
TOKENS_COMPLETION: Final = "llm.token_count.completion"
TOKENS_TOTAL: Final = "llm.token_count.total"
TOKENS_CACHE_READ: Final = "llm.token_count.prompt_details.cache_read"
TOKENS_CACHE_WRITE: Final = "llm.token_count.prompt_details.cache_write"
TOKENS_REASONING: Final = "llm.token_count.completion_details.reasoning"
SESSION_ID: Final = "session.id"
USER_ID: Final = "user.id"
METADATA: Final = "metadata"

MAX_FLAT_ATTRIBUTES: Final = 48
"""How many attributes flat messages and tools may take together; the whole is in `input.value` all the same."""

_JSON_TYPE: Final = "application/json"
_KINDS: Final = {"chat": "LLM", "text_completion": "LLM", "embeddings": "EMBEDDING"}
_SYSTEMS: Final = {"messages": "anthropic"}
_PROVIDERS: Final = {
    "azure.ai.openai": "azure",
    "aws.bedrock": "aws",
    "gcp.vertex_ai": "google",
    "gcp.gemini": "google",
    "gcp.gen_ai": "google",
    "mistral_ai": "mistralai",
    "x_ai": "xai",
    "moonshot_ai": "moonshot",
}

_Flat = list[tuple[str, AttributeValue]]


def start(record: CallRecord) -> Attributes:
    """Return what is known before the call is sent: kind, system, provider, model, session."""
    attributes: Attributes = {
        SPAN_KIND: _KINDS.get(record.operation, "LLM"),
        SYSTEM: _SYSTEMS.get(record.api, "openai"),
        PROVIDER: _PROVIDERS.get(record.provider, record.provider),
    }
    if record.request.model:
        attributes[_model_attribute(record)] = record.request.model
    if record.place.session_id:
        attributes[SESSION_ID] = record.place.session_id
    return attributes


def end(record: CallRecord, conversation: Conversation | None, budget: ByteBudget) -> Attributes:
    """Return everything else; unknown values are absent. Without a conversation no content is shown."""
    attributes: Attributes = {}
    response = record.response
    if response is not None:
        if response.model:
            attributes[_model_attribute(record)] = response.model
        if response.finish_reasons and response.finish_reasons[0]:
            attributes[FINISH_REASON] = normalised(response.finish_reasons[0])
    if record.usage is not None:
        _put_usage(attributes, record.usage)
    _put_metadata(attributes, record, budget)
    if conversation is not None:
        if record.request.params:
            put_json(attributes, INVOCATION_PARAMETERS, record.request.params, budget)
        _put_values(attributes, record, conversation, budget)
        _put_messages(attributes, record, conversation, budget)
    return attributes


def _model_attribute(record: CallRecord) -> str:
    return EMBEDDING_MODEL_NAME if record.operation == "embeddings" else MODEL_NAME


def _put_usage(attributes: Attributes, usage: Usage) -> None:
    rows = (
        (TOKENS_PROMPT, usage.input_tokens),
        (TOKENS_COMPLETION, usage.output_tokens),
        (TOKENS_TOTAL, usage.total_tokens),
        (TOKENS_CACHE_READ, usage.cache_read_tokens),
        (TOKENS_CACHE_WRITE, usage.cache_write_tokens),
        (TOKENS_REASONING, usage.reasoning_tokens),
    )
    attributes.update((name, count) for name, count in rows if count is not None)


def _put_metadata(attributes: Attributes, record: CallRecord, budget: ByteBudget) -> None:
    if record.metadata:
        put_json(attributes, METADATA, record.metadata, budget)
        user = record.metadata.get("user_id")
        if isinstance(user, str):
            attributes[USER_ID] = user


def _put_values(attributes: Attributes, record: CallRecord, conversation: Conversation, budget: ByteBudget) -> None:
    """Each value gets at most half the room, so that flat messages find some too."""
    answered = choices_json(record, budget.room // 2, conversation) if budget.room > 1 else None
    if answered is not None:
        put_encoded(attributes, OUTPUT_VALUE, answered[0], budget, answered[1])
        attributes[OUTPUT_MIME_TYPE] = _JSON_TYPE
    asked = messages_json(record, budget.room // 2, conversation) if budget.room > 1 else None
    if asked is not None:
        put_encoded(attributes, INPUT_VALUE, asked[0], budget, asked[1])
        attributes[INPUT_MIME_TYPE] = _JSON_TYPE


def _put_messages(attributes: Attributes, record: CallRecord, conversation: Conversation, budget: ByteBudget) -> None:
    """Output first, then the instructions, then the newest messages, then tools: as far as the count allows."""
    left = MAX_FLAT_ATTRIBUTES
    for index, message in enumerate(conversation.output):
        left = _put_group(attributes, _message(f"{OUTPUT_MESSAGES}.{index}.", message), left, budget)
    asked = _numbered(record, conversation, budget)
    for index, message in asked[:1] + asked[:0:-1]:
        left = _put_group(attributes, _message(f"{INPUT_MESSAGES}.{index}.", message), left, budget)
    for index, tool in enumerate(tool_definitions(conversation.tools)):
        schema = encode_json(tool).decode()
        left = _put_group(attributes, [(f"{TOOLS}.{index}.tool.json_schema", schema)], left, budget)


def _numbered(record: CallRecord, conversation: Conversation, budget: ByteBudget) -> list[tuple[int, Message]]:
    """Messages with their places in the request, the system text first; the middle of a long history is left out."""
    picked = chosen(conversation.input, record, budget)
    system = [Message(role="system", parts=conversation.system)] if conversation.system else []
    head = [*system, *picked.first]
    skipped = len(head) + picked.omitted
    return [*enumerate(head), *((skipped + index, message) for index, message in enumerate(picked.rest))]


def _put_group(attributes: Attributes, flat: _Flat, left: int, budget: ByteBudget) -> int:
    """Set a message's attributes, all or none; return how many more there may be (none after a refusal)."""
    if len(flat) > left or budget.room <= 0:
        return 0
    for name, value in flat:
        if isinstance(value, str):
            put_text(attributes, name, value, budget)
        else:
            attributes[name] = value
    return left - len(flat)


def _message(prefix: str, message: Message) -> _Flat:
    prefix += "message."
    flat: _Flat = [(prefix + "role", message.role)]
    if message.name:
        flat.append((prefix + "name", message.name))
    flat += _content(prefix, message.parts)
    calls = [part for part in message.parts if isinstance(part, ToolCall)]
    for index, call in enumerate(calls):
        flat += _tool_call(f"{prefix}tool_calls.{index}.tool_call.", call)
    for part in message.parts:
        if isinstance(part, ToolResult) and part.id:
            flat.append((prefix + "tool_call_id", part.id))
            break
    return flat


def _content(prefix: str, parts: Sequence[Part]) -> _Flat:
    if any(isinstance(part, Media | Reasoning | Refusal) for part in parts):
        rows = (_content_part(part) for part in parts)
        shown = [row for row in rows if row]
        return [
            (f"{prefix}contents.{index}.message_content.{name}", value)
            for index, row in enumerate(shown)
            for name, value in row
        ]
    text = spoken(parts)
    return [(prefix + "content", text)] if text else []


def _content_part(part: Part) -> _Flat:
    match part:
        case Text():
            return [("type", "text"), ("text", part.text)]
        case Refusal():
            return [("type", "refusal"), ("text", part.text)]
        case Reasoning(text=str(text)):
            return [("type", "reasoning"), ("text", text)]
        case Media(modality="image", url=str(url)):
            return [("type", "image"), ("image.image.url", url)]
        case Media():
            return [("type", part.modality)]
    return []


def _tool_call(prefix: str, call: ToolCall) -> _Flat:
    flat: _Flat = [(prefix + "function.name", call.name or call.tool_type)]
    if call.id:
        flat.append((prefix + "id", call.id))
    if call.arguments is not None:
        flat.append((prefix + "function.arguments", call.arguments))
    return flat
