"""The OpenInference attributes of calls and scopes (opt-in): span kinds, values, and flat messages.

Version: openinference-semantic-conventions 0.1.42. OpenTelemetry keeps 128 attributes per span by default and drops
later ones, so the number of flat messages is limited.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter
from typing import Final

from callspan.record.call import CallRecord
from callspan.record.codec import encode_json
from callspan.record.messages import Conversation, Media, Message, Part, Reasoning, Refusal, Text, ToolCall, ToolResult
from callspan.semconv.body_messages import choices_json, messages_json
from callspan.semconv.content_attributes import (
    Attributes,
    AttributeValue,
    ByteBudget,
    SpanContent,
    put_body,
    put_text,
    select_messages,
)
from callspan.semconv.llm import first_finish_reason, joined_text
from callspan.semconv.table import INT, JSON, STRING, Constant, From, Put, Row, SetByCode, Table, json_row

SPAN_KIND: Final = "openinference.span.kind"
_INPUT_VALUE: Final = "input.value"
_INPUT_MIME_TYPE: Final = "input.mime_type"
_OUTPUT_VALUE: Final = "output.value"
_OUTPUT_MIME_TYPE: Final = "output.mime_type"
_INPUT_MESSAGES: Final = "llm.input_messages"
_OUTPUT_MESSAGES: Final = "llm.output_messages"
_INVOCATION_PARAMETERS: Final = "llm.invocation_parameters"
_METADATA: Final = "metadata"
_TOOLS: Final = "llm.tools"

MAX_FLAT_ATTRIBUTES: Final = 48
"""Maximum number of attributes for flat messages and tools; `input.value` has the complete content."""

_JSON_TYPE: Final = "application/json"
_KINDS: Final = {"chat": "LLM", "text_completion": "LLM", "embeddings": "EMBEDDING"}
_SYSTEMS: Final = {"messages": "anthropic", "text_completions": "anthropic", "sessions": "anthropic"}
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


def _user_id(metadata: dict[str, object]) -> str | None:
    user = metadata.get("user_id")
    return user if isinstance(user, str) else None


def _response_model(record: CallRecord) -> str | None:
    return None if record.response is None else record.response.model


def _is_embedding(record: CallRecord) -> bool:
    return record.operation == "embeddings"


def _put_values(attributes: Attributes, record: CallRecord, shown: SpanContent) -> None:
    """Set input and output values, each in at most half of the budget, so that flat messages fit too."""
    if put_body(attributes, _OUTPUT_VALUE, choices_json, record, shown, 2):
        attributes[_OUTPUT_MIME_TYPE] = _JSON_TYPE
    if put_body(attributes, _INPUT_VALUE, messages_json, record, shown, 2):
        attributes[_INPUT_MIME_TYPE] = _JSON_TYPE


def _put_messages(attributes: Attributes, record: CallRecord, shown: SpanContent) -> None:
    """Set output, instructions, the newest messages and tools, in this order, up to the maximum number."""
    conversation, budget, left = shown.conversation, shown.budget, MAX_FLAT_ATTRIBUTES
    for index, message in enumerate(conversation.output):
        left = _put_group(attributes, _message(f"{_OUTPUT_MESSAGES}.{index}.", message), left, budget)
    numbered = _numbered(record, conversation, budget)
    for index, message in numbered[:1] + numbered[:0:-1]:
        left = _put_group(attributes, _message(f"{_INPUT_MESSAGES}.{index}.", message), left, budget)
    for index, tool in enumerate(shown.tools):
        schema = encode_json(tool).decode()
        left = _put_group(attributes, [(f"{_TOOLS}.{index}.tool.json_schema", schema)], left, budget)


def _numbered(record: CallRecord, conversation: Conversation, budget: ByteBudget) -> list[tuple[int, Message]]:
    """Return messages with their index in the request, system text first, without the middle of a long history."""
    picked = select_messages(conversation.input, record, budget)
    system = [Message(role="system", parts=conversation.system)] if conversation.system else []
    head = [*system, *picked.first]
    skipped = len(head) + picked.omitted
    return [*enumerate(head), *((skipped + index, message) for index, message in enumerate(picked.rest))]


def _put_group(attributes: Attributes, flat: _Flat, left: int, budget: ByteBudget) -> int:
    """Set all attributes of a message, or none if they exceed the limit; return the remaining number of attributes."""
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
    text = joined_text(parts)
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


def _kind(kind: str) -> Table:
    return Table(Row(SPAN_KIND, STRING, Constant(kind), "Kind of the span in Phoenix."))


_VALUES: Final = Put(_put_values)
_MESSAGES: Final = Put(_put_messages)

START: Final = Table(
    Row(SPAN_KIND, STRING, lambda record: _KINDS.get(record.operation, "LLM"), "`LLM` or `EMBEDDING`."),
    Row("llm.system", STRING, lambda record: _SYSTEMS.get(record.api, "openai")),
    Row(
        "llm.provider", STRING, lambda record: _PROVIDERS.get(record.provider, record.provider),
        "The provider under OpenInference's name.",
    ),
    Row(
        "embedding.model_name", STRING, lambda record: record.request.model if _is_embedding(record) else None,
        "Requested model, then the response's; embeddings only.",
    ),
    Row(
        "llm.model_name", STRING, lambda record: None if _is_embedding(record) else record.request.model,
        "Requested model, then the response's.",
    ),
    Row("session.id", STRING, "place.session_id", "The session it belongs to."),
)  # fmt: skip

END: Final = Table(
    Row(
        "embedding.model_name", STRING, lambda record: _response_model(record) if _is_embedding(record) else None,
        "Requested model, then the response's; embeddings only.",
    ),
    Row(
        "llm.model_name", STRING, lambda record: None if _is_embedding(record) else _response_model(record),
        "Requested model, then the response's.",
    ),
    Row("llm.finish_reason", STRING, From("response.finish_reasons", first_finish_reason)),
    Row("llm.token_count.prompt", INT, "usage.input_tokens"),
    Row("llm.token_count.completion", INT, "usage.output_tokens"),
    Row("llm.token_count.total", INT, "usage.total_tokens"),
    Row("llm.token_count.prompt_details.cache_read", INT, "usage.cache_read_tokens"),
    Row("llm.token_count.prompt_details.cache_write", INT, "usage.cache_write_tokens"),
    Row("llm.token_count.completion_details.reasoning", INT, "usage.reasoning_tokens"),
    json_row(_METADATA, attrgetter("metadata"), "Fields of `callspan.metadata(...)`.", when="metadata"),
    Row("user.id", STRING, From("metadata", _user_id), "`user_id` of the metadata."),
    json_row(
        _INVOCATION_PARAMETERS, attrgetter("request.params"), "The request without messages and tools.",
        when="request.params", content=True,
    ),
    Row(_OUTPUT_VALUE, JSON, _VALUES, "Choices as received.", content=True),
    Row(_OUTPUT_MIME_TYPE, STRING, _VALUES, "Always `application/json`.", content=True),
    Row(_INPUT_VALUE, JSON, _VALUES, "Messages as sent.", content=True),
    Row(_INPUT_MIME_TYPE, STRING, _VALUES, "Always `application/json`.", content=True),
    Row(f"{_OUTPUT_MESSAGES}.*", STRING, _MESSAGES, "The choices, flat.", content=True),
    Row(f"{_INPUT_MESSAGES}.*", STRING, _MESSAGES, "The messages, flat: the first and the newest.", content=True),
    Row(f"{_TOOLS}.*", JSON, _MESSAGES, content=True),
)  # fmt: skip

SCOPE_VALUES: Final = Table(
    Row(_INPUT_VALUE, JSON, SetByCode("computed"), "Input messages, or a tool's arguments."),
    Row(_INPUT_MIME_TYPE, STRING, SetByCode("computed"), "Always `application/json`."),
    Row(_OUTPUT_VALUE, JSON, SetByCode("computed"), "Output messages, or a tool's result."),
    Row(_OUTPUT_MIME_TYPE, STRING, SetByCode("computed"), "Always `application/json`."),
)
"""Attributes of the spans of sessions, timesteps and operations."""
_SCOPE_VALUES: Final = (
    (_INPUT_VALUE, _INPUT_MIME_TYPE, ("gen_ai.input.messages", "gen_ai.tool.call.arguments")),
    (_OUTPUT_VALUE, _OUTPUT_MIME_TYPE, ("gen_ai.output.messages", "gen_ai.tool.call.result")),
)


def put_scope_values(attributes: Attributes, budget: ByteBudget) -> None:
    """Copy the `gen_ai.*` input and output of a session, timestep or operation, if they fit into the budget."""
    for value, mime_type, names in _SCOPE_VALUES:
        found = next((attributes[name] for name in names if name in attributes), None)
        if isinstance(found, str) and len(found) <= budget.left:
            attributes[value], attributes[mime_type] = found, _JSON_TYPE
            budget.left -= len(found)


SESSION_START: Final = _kind("CHAIN")
TIMESTEP_START: Final = _kind("CHAIN")
ENVIRONMENT_START: Final = _kind("CHAIN")
TOOL_START: Final = _kind("TOOL")
INVOKED_AGENT_START: Final = _kind("AGENT")
GUARDRAIL_START: Final = _kind("GUARDRAIL")
HANDOFF_START: Final = _kind("CHAIN")
EVALUATION_START: Final = _kind("EVALUATOR")
