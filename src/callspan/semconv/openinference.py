"""The OpenInference attributes of calls and scopes (opt-in): span kinds, values, and flat messages.

Version: openinference-semantic-conventions 0.1.42. OpenTelemetry keeps 128 attributes per span by default and drops
later ones, so the number of flat messages is limited.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, islice
from operator import attrgetter
from typing import Final, TypeAlias

import msgspec

from callspan.record.apis import APIS
from callspan.record.call import CallRecord
from callspan.record.codec import encode_json
from callspan.record.finish_reasons import normalised
from callspan.record.messages import Conversation, Media, Message, Part, Reasoning, Refusal, Text, ToolCall, ToolResult
from callspan.semconv.body_messages import choices_json, messages_json
from callspan.semconv.content_attributes import (
    Attributes,
    SpanContent,
    answer_messages,
    put_body,
    put_json,
    put_text,
    request_bound,
    select_messages,
    tool_definitions,
)
from callspan.semconv.content_attributes import messages_json as conventional_messages
from callspan.semconv.gen_ai import INPUT_MESSAGES, OUTPUT_MESSAGES
from callspan.semconv.llm import joined_text
from callspan.semconv.table import INT, JSON, STRING, Constant, From, Put, Row, Table, as_text, json_row

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
_TEXT_TYPE: Final = "text/plain"
_EMBEDDINGS: Final = tuple(name for name, row in APIS.items() if row.has_vectors)
_SYSTEM_OF: Final = {"openai": "openai", "anthropic": "anthropic", "google": "vertexai", "cohere": "cohere"}
_SYSTEMS: Final = {api: _SYSTEM_OF.get(row.family) for api, row in APIS.items()} | {"fim_completions": "mistralai"}
"""The AI product behind the API of a call, where OpenInference has a word for it."""
_IN_SEVERAL_FIELDS: Final = frozenset(
    name for name, row in APIS.items() if len(row.said) > 1 or (row.instructions and not row.has_plain_messages)
)
"""The APIs without a field that has all messages of a request."""
_KINDS: Final = {"chat": "LLM", "text_completion": "LLM", "embeddings": "EMBEDDING", "rerank": "RERANKER"}
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

_Flat: TypeAlias = list[tuple[str, str]]


def _put_values(attributes: Attributes, record: CallRecord, content: SpanContent) -> None:
    """Set both sides as on the wire where it has messages, else as messages of the conventions."""
    conversation, budget = content.conversation, content.budget
    if not put_body(attributes, _OUTPUT_VALUE, choices_json, record, budget) and conversation.output:
        put_json(attributes, _OUTPUT_VALUE, answer_messages(record.outcome, conversation.output), budget)
    is_set = record.api not in _IN_SEVERAL_FIELDS and put_body(attributes, _INPUT_VALUE, messages_json, record, budget)
    if not is_set and (asked := _asked(conversation)):
        messages = conventional_messages(select_messages(asked, record, budget))
        put_json(attributes, _INPUT_VALUE, messages, budget, request_bound(record))
    for value, mime_type in ((_INPUT_VALUE, _INPUT_MIME_TYPE), (_OUTPUT_VALUE, _OUTPUT_MIME_TYPE)):
        if value in attributes:
            attributes[mime_type] = _JSON_TYPE


def _asked(conversation: Conversation) -> list[Message]:
    """Return the messages of a request after its separate instructions."""
    system = conversation.system
    return [*([Message(role="system", parts=system)] if system else ()), *conversation.input]


def _put_messages(attributes: Attributes, record: CallRecord, content: SpanContent) -> None:
    """Set output, instructions, the newest messages and tools, in this order, up to the maximum number.

    The attributes of a message are set together or not at all.
    """
    room, budget = MAX_FLAT_ATTRIBUTES, content.budget
    for group in chain(_outputs(content), _inputs(record, content), _tools(content)):
        room -= len(group)
        if room < 0 or budget.room <= 0:
            return
        for name, value in group:
            put_text(attributes, name, value, budget)


def _outputs(content: SpanContent) -> Iterator[_Flat]:
    for index, message in enumerate(content.conversation.output):
        yield _message(f"{_OUTPUT_MESSAGES}.{index}.message.", message)


def _inputs(record: CallRecord, content: SpanContent) -> Iterator[_Flat]:
    """Yield the first message, which is separate instructions if there are any, then the newest ones."""
    messages = _asked(content.conversation)
    selected = select_messages(messages, record, content.budget)
    for position in (*range(min(1, len(selected))), *range(len(selected) - 1, 0, -1)):
        index = position and position + len(messages) - len(selected)
        yield _message(f"{_INPUT_MESSAGES}.{index}.message.", selected[position])


def _tools(content: SpanContent) -> Iterator[_Flat]:
    for index, tool in enumerate(tool_definitions(content.conversation.tools)):
        yield [(f"{_TOOLS}.{index}.tool.json_schema", encode_json(tool).decode())]


def _message(prefix: str, message: Message) -> _Flat:
    flat = [(prefix + "role", message.role)]
    if message.name:
        flat.append((prefix + "name", message.name))
    parts = message.parts
    if any(isinstance(part, Media | Reasoning | Refusal) for part in parts):
        for index, part in enumerate(filter(None, map(_content, parts))):
            flat += [(f"{prefix}contents.{index}.message_content.{name}", value) for name, value in part]
    elif text := joined_text(parts):
        flat.append((prefix + "content", text))
    for index, call in enumerate(message.tool_calls):
        flat += _tool_call(f"{prefix}tool_calls.{index}.tool_call.", call)
    answered_ids = (part.id for part in parts if isinstance(part, ToolResult) and part.id)
    return flat + [(prefix + "tool_call_id", ident) for ident in islice(answered_ids, 1)]


def _content(part: Part) -> _Flat:
    match part:
        case Text() | Refusal():
            return [("type", "text" if isinstance(part, Text) else "refusal"), ("text", part.text)]
        case Reasoning(text=str(text)):
            return [("type", "reasoning"), ("text", text)]
        case Media():
            url = part.url if part.modality == "image" else None
            return [("type", part.modality), *([] if url is None else [("image.image.url", url)])]
    return []


def _tool_call(prefix: str, call: ToolCall) -> _Flat:
    fields = (("function.name", call.name or call.tool_type), ("id", call.id), ("function.arguments", call.arguments))
    return [(prefix + name, value) for name, value in fields if value is not None]


_VALUES: Final = Put(_put_values)
_MESSAGES: Final = Put(_put_messages)
START: Final = Table(
    Row(SPAN_KIND, STRING, lambda record: _KINDS.get(record.operation, "LLM")),
    Row("llm.system", STRING, lambda record: _SYSTEMS.get(record.api)),
    Row("llm.provider", STRING, lambda record: _PROVIDERS.get(record.provider, record.provider)),
    Row("embedding.model_name", STRING, "request.model", apis=_EMBEDDINGS),
    Row("llm.model_name", STRING, "request.model", not_apis=_EMBEDDINGS),
)  # fmt: skip

END: Final = Table(
    Row("embedding.model_name", STRING, "response.model", apis=_EMBEDDINGS),
    Row("llm.model_name", STRING, "response.model", not_apis=_EMBEDDINGS),
    Row("llm.finish_reason", STRING, From("finish_reason", normalised)),
    Row("llm.token_count.prompt", INT, "usage.input_tokens"),
    Row("llm.token_count.completion", INT, "usage.output_tokens"),
    Row("llm.token_count.total", INT, "usage.total_tokens"),
    Row("llm.token_count.prompt_details.cache_read", INT, "usage.cache_read_tokens"),
    Row("llm.token_count.prompt_details.cache_write", INT, "usage.cache_write_tokens"),
    Row("llm.token_count.completion_details.reasoning", INT, "usage.reasoning_tokens"),
    json_row(_METADATA, attrgetter("metadata"), when="metadata", content=None),
    Row("user.id", STRING, From("metadata", lambda metadata: as_text(metadata.get("user_id")))),
    json_row(_INVOCATION_PARAMETERS, attrgetter("request.params"), when="request.params"),
    Row(_OUTPUT_VALUE, JSON, _VALUES, content=True),
    Row(_OUTPUT_MIME_TYPE, STRING, _VALUES, content=True),
    Row(_INPUT_VALUE, JSON, _VALUES, content=True),
    Row(_INPUT_MIME_TYPE, STRING, _VALUES, content=True),
    Row(f"{_OUTPUT_MESSAGES}.*", STRING, _MESSAGES, content=True),
    Row(f"{_INPUT_MESSAGES}.*", STRING, _MESSAGES, content=True),
    Row(f"{_TOOLS}.*", JSON, _MESSAGES, content=True),
)  # fmt: skip


def _copied(value: str, mime_type: str, *names: str) -> Put:
    """Return the source that copies the first of the attributes of these names, if it fits.

    Of messages it copies the text of the last one, which people can read in any backend.
    """

    def put(attributes: Attributes, _: object, content: SpanContent) -> None:
        name = next((name for name in names if name in attributes), None)
        text = None if name is None else attributes[name]
        text = str(text).lower() if isinstance(text, bool) else text
        if isinstance(text, str) and len(text) <= content.budget.remaining_bytes:
            plain = _last_text(text) if name in _SCOPE_MESSAGES else None
            attributes[value], attributes[mime_type] = (text, _JSON_TYPE) if plain is None else (plain, _TEXT_TYPE)
            content.budget.spend(len(text))

    return Put(put)


def _last_text(messages: str) -> str | None:
    """Return the texts of the last message in a list in JSON; None if it has none, or says more than they do."""
    try:
        *_, last = _messages(messages)
    except (ValueError, msgspec.MsgspecError, RecursionError):
        return None
    texts = [part.content for part in last.parts if part.type not in _THOUGHTS]
    return "\n".join(map(str, texts)) if texts and {part.type for part in last.parts} <= _SAID else None


class _ScopePart(msgspec.Struct):
    type: str = ""
    content: object = ""


class _ScopeMessage(msgspec.Struct):
    parts: list[_ScopePart] = []


_THOUGHTS: Final = frozenset({"reasoning", "sealed_reasoning"})
_SAID: Final = _THOUGHTS | {"text"}
"""Types of parts of a message whose texts are all that it says to anybody."""
_messages: Final = msgspec.json.Decoder(list[_ScopeMessage]).decode
_SCOPE_MESSAGES: Final = (INPUT_MESSAGES, OUTPUT_MESSAGES)
_INPUT: Final = _copied(
    _INPUT_VALUE, _INPUT_MIME_TYPE, INPUT_MESSAGES, "gen_ai.tool.call.arguments", "callspan.input",
    "callspan.observation.before",
)  # fmt: skip
_OUTPUT: Final = _copied(
    _OUTPUT_VALUE, _OUTPUT_MIME_TYPE, OUTPUT_MESSAGES, "gen_ai.tool.call.result", "callspan.output",
    "callspan.observation", "callspan.guardrail.triggered",
)  # fmt: skip
SCOPE_VALUES: Final = Table(
    Row(_INPUT_VALUE, STRING, _INPUT, "The text of the last message; other content is JSON."),
    Row(_INPUT_MIME_TYPE, STRING, _INPUT),
    Row(_OUTPUT_VALUE, STRING, _OUTPUT, "The text of the last message; other content is JSON."),
    Row(_OUTPUT_MIME_TYPE, STRING, _OUTPUT),
)
"""Attributes of the spans of sessions, timesteps and operations, set after their other ones."""


def kind_row(kind: str) -> Row:
    """Return the row for the kind of a span that is not a call's."""
    return Row(SPAN_KIND, STRING, Constant(kind))
