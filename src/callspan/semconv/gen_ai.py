"""The `gen_ai.*` attributes of a call, and the few of other conventions that belong beside them.

State of the conventions: semantic-conventions-genai of autumn 2026, which has no release yet. The names
are our own constants, since those of the Python package are frozen at an older state.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from callspan.record.bounded import weight
from callspan.record.call import CallRecord, Request, Response
from callspan.record.messages import Conversation
from callspan.record.usage import Usage
from callspan.semconv import anthropic
from callspan.semconv.history import chosen
from callspan.semconv.parts import finish_word, input_messages, output_messages, parts_json, tool_definitions
from callspan.semconv.values import (
    Attributes,
    AttributeValue,
    ByteBudget,
    number,
    put_json,
    spread,
    whole,
    word,
    words,
)
from callspan.semconv.wire_json import body_sizes

OPERATION_NAME: Final = "gen_ai.operation.name"
PROVIDER_NAME: Final = "gen_ai.provider.name"
REQUEST_MODEL: Final = "gen_ai.request.model"
REQUEST_STREAM: Final = "gen_ai.request.stream"
REQUEST_CHOICE_COUNT: Final = "gen_ai.request.choice.count"
REQUEST_SEED: Final = "gen_ai.request.seed"
REQUEST_TOP_K: Final = "gen_ai.request.top_k"
REQUEST_MAX_TOKENS: Final = "gen_ai.request.max_tokens"
REQUEST_TEMPERATURE: Final = "gen_ai.request.temperature"
REQUEST_TOP_P: Final = "gen_ai.request.top_p"
REQUEST_FREQUENCY_PENALTY: Final = "gen_ai.request.frequency_penalty"
REQUEST_PRESENCE_PENALTY: Final = "gen_ai.request.presence_penalty"
REQUEST_STOP_SEQUENCES: Final = "gen_ai.request.stop_sequences"
REQUEST_REASONING_LEVEL: Final = "gen_ai.request.reasoning.level"
REQUEST_PREVIOUS_RESPONSE_ID: Final = "gen_ai.request.previous_response.id"
REQUEST_ENCODING_FORMATS: Final = "gen_ai.request.encoding_formats"
EMBEDDINGS_DIMENSION_COUNT: Final = "gen_ai.embeddings.dimension.count"
OUTPUT_TYPE: Final = "gen_ai.output.type"
RESPONSE_ID: Final = "gen_ai.response.id"
RESPONSE_MODEL: Final = "gen_ai.response.model"
RESPONSE_FINISH_REASONS: Final = "gen_ai.response.finish_reasons"
RESPONSE_TIME_TO_FIRST_CHUNK: Final = "gen_ai.response.time_to_first_chunk"
USAGE_INPUT_TOKENS: Final = "gen_ai.usage.input_tokens"
USAGE_OUTPUT_TOKENS: Final = "gen_ai.usage.output_tokens"
USAGE_CACHE_READ_INPUT_TOKENS: Final = "gen_ai.usage.cache_read.input_tokens"
USAGE_CACHE_WRITE_INPUT_TOKENS: Final = "gen_ai.usage.cache_write.input_tokens"
USAGE_CACHE_CREATION_INPUT_TOKENS: Final = "gen_ai.usage.cache_creation.input_tokens"
"""The older name of cache_write: Jaeger, Phoenix, SigNoz and Langfuse read only this one."""
USAGE_REASONING_OUTPUT_TOKENS: Final = "gen_ai.usage.reasoning.output_tokens"
INPUT_MESSAGES: Final = "gen_ai.input.messages"
OUTPUT_MESSAGES: Final = "gen_ai.output.messages"
SYSTEM_INSTRUCTIONS: Final = "gen_ai.system_instructions"
TOOL_DEFINITIONS: Final = "gen_ai.tool.definitions"
SERVER_ADDRESS: Final = "server.address"
SERVER_PORT: Final = "server.port"
ERROR_TYPE: Final = "error.type"
HTTP_RESEND_COUNT: Final = "http.request.resend_count"
HTTP_STATUS_CODE: Final = "http.response.status_code"
OPENAI_API_TYPE: Final = "openai.api.type"
OPENAI_REQUEST_SERVICE_TIER: Final = "openai.request.service_tier"
OPENAI_RESPONSE_SERVICE_TIER: Final = "openai.response.service_tier"
OPENAI_SYSTEM_FINGERPRINT: Final = "openai.response.system_fingerprint"
AZURE_NAMESPACE: Final = "azure.resource_provider.namespace"

_AZURE: Final = "azure.ai.openai"
_AZURE_NAMESPACE: Final = "Microsoft.CognitiveServices"
_OPENAI_APIS: Final = frozenset({"chat_completions", "responses"})
_OUTPUT_TYPES: Final = {"text": "text", "json_object": "json", "json_schema": "json"}

_Reader = Callable[[object], AttributeValue | None]


def _effort(value: object) -> str | None:
    return word(value.get("effort")) if isinstance(value, dict) else word(value)


def _several(value: object) -> int | None:
    count = whole(value)
    return None if count == 1 else count


def _chosen_tier(value: object) -> str | None:
    return None if value == "auto" else word(value)


def _encodings(value: object) -> tuple[str, ...] | None:
    return words(value)


def _format(value: object) -> str | None:
    kind = value.get("type") if isinstance(value, dict) else None
    return _OUTPUT_TYPES.get(kind) if isinstance(kind, str) else None


def _text_format(value: object) -> str | None:
    return _format(value.get("format")) if isinstance(value, dict) else None


def _speech(value: object) -> str | None:
    return "speech" if isinstance(value, list) and "audio" in value else None


_PARAMS: Final[dict[str, tuple[str, _Reader]]] = {
    "temperature": (REQUEST_TEMPERATURE, number),
    "top_p": (REQUEST_TOP_P, number),
    "top_k": (REQUEST_TOP_K, whole),
    "frequency_penalty": (REQUEST_FREQUENCY_PENALTY, number),
    "presence_penalty": (REQUEST_PRESENCE_PENALTY, number),
    "max_tokens": (REQUEST_MAX_TOKENS, whole),
    "max_completion_tokens": (REQUEST_MAX_TOKENS, whole),
    "max_output_tokens": (REQUEST_MAX_TOKENS, whole),
    "seed": (REQUEST_SEED, whole),
    "n": (REQUEST_CHOICE_COUNT, _several),
    "stop": (REQUEST_STOP_SEQUENCES, words),
    "stop_sequences": (REQUEST_STOP_SEQUENCES, words),
    "reasoning_effort": (REQUEST_REASONING_LEVEL, _effort),
    "reasoning": (REQUEST_REASONING_LEVEL, _effort),
    "output_config": (REQUEST_REASONING_LEVEL, _effort),
    "previous_response_id": (REQUEST_PREVIOUS_RESPONSE_ID, word),
    "encoding_format": (REQUEST_ENCODING_FORMATS, _encodings),
    "dimensions": (EMBEDDINGS_DIMENSION_COUNT, whole),
    "response_format": (OUTPUT_TYPE, _format),
    "text": (OUTPUT_TYPE, _text_format),
    "modalities": (OUTPUT_TYPE, _speech),
}
_CONTENT: Final = frozenset({REQUEST_STOP_SEQUENCES})


def span_name(record: CallRecord) -> str:
    """Return `{operation} {model}`, or just the operation when no model is known."""
    model = record.request.model
    return f"{record.operation} {model}" if model else record.operation


def start(record: CallRecord) -> Attributes:
    """Return what a sampler may need: operation, provider, requested model, streaming, server."""
    attributes: Attributes = {OPERATION_NAME: record.operation, PROVIDER_NAME: record.provider}
    if record.request.model:
        attributes[REQUEST_MODEL] = record.request.model
    if record.request.stream:
        attributes[REQUEST_STREAM] = True
    if record.server_address:
        attributes[SERVER_ADDRESS] = record.server_address
        if record.server_port is not None:
            attributes[SERVER_PORT] = record.server_port
    return attributes


def end(
    record: CallRecord, conversation: Conversation | None, budget: ByteBudget, *, compatibility: bool = True
) -> Attributes:
    """Return everything else; unknown values are absent.

    Without a conversation no content is shown. `compatibility` adds older names that backends still read.
    """
    attributes: Attributes = {}
    if record.request.params:
        _put_params(attributes, record.request, conversation is not None)
    if record.response is not None:
        _put_response(attributes, record.response, record.outcome)
    if record.usage is not None:
        _put_usage(attributes, record.usage, compatibility)
    _put_http(attributes, record)
    if record.api == anthropic.API:
        _put_anthropic(attributes, record)
    else:
        _put_openai(attributes, record)
    if conversation is not None:
        _put_content(attributes, record, conversation, budget)
    return attributes


def _put_params(attributes: Attributes, request: Request, content: bool) -> None:
    for key, value in request.params.items():
        row = _PARAMS.get(key)
        if row is None or (not content and row[0] in _CONTENT):
            continue
        read = row[1](value)
        if read is not None:
            attributes[row[0]] = read


def _put_response(attributes: Attributes, response: Response, outcome: str) -> None:
    if response.id:
        attributes[RESPONSE_ID] = response.id
    if response.model:
        attributes[RESPONSE_MODEL] = response.model
    reasons = response.finish_reasons
    if any(reasons):
        missing = "error" if outcome == "success" else outcome
        attributes[RESPONSE_FINISH_REASONS] = tuple([finish_word(reason) if reason else missing for reason in reasons])


def _put_usage(attributes: Attributes, usage: Usage, compatibility: bool) -> None:
    if usage.input_tokens is not None:
        attributes[USAGE_INPUT_TOKENS] = usage.input_tokens
    if usage.output_tokens is not None:
        attributes[USAGE_OUTPUT_TOKENS] = usage.output_tokens
    if usage.cache_read_tokens is not None:
        attributes[USAGE_CACHE_READ_INPUT_TOKENS] = usage.cache_read_tokens
    if usage.cache_write_tokens is not None:
        attributes[USAGE_CACHE_WRITE_INPUT_TOKENS] = usage.cache_write_tokens
        if compatibility:
            attributes[USAGE_CACHE_CREATION_INPUT_TOKENS] = usage.cache_write_tokens
    if usage.reasoning_tokens is not None:
        attributes[USAGE_REASONING_OUTPUT_TOKENS] = usage.reasoning_tokens


def _put_http(attributes: Attributes, record: CallRecord) -> None:
    if record.retries:
        attributes[HTTP_RESEND_COUNT] = record.retries
    status = record.attempts[-1].status if record.attempts else None
    if record.error is not None:
        status = record.error.status if status is None else status
        if record.outcome != "cancelled":
            attributes[ERROR_TYPE] = record.error.type
    if status is not None:
        attributes[HTTP_STATUS_CODE] = status
    first = record.timing.first_chunk_ns
    if first is not None and record.request.stream:
        attributes[RESPONSE_TIME_TO_FIRST_CHUNK] = first / 1_000_000_000


def _put_anthropic(attributes: Attributes, record: CallRecord) -> None:
    attributes.update(anthropic.end(record))
    params = record.request.params
    for asked in (_text_format(params.get("output_config")), _format(params.get("output_format"))):
        if asked:
            attributes[OUTPUT_TYPE] = asked


def _put_openai(attributes: Attributes, record: CallRecord) -> None:
    if record.api in _OPENAI_APIS:
        attributes[OPENAI_API_TYPE] = record.api
    if tier := _chosen_tier(record.request.params.get("service_tier")):
        attributes[OPENAI_REQUEST_SERVICE_TIER] = tier
    response = record.response
    if response is not None:
        if response.service_tier:
            attributes[OPENAI_RESPONSE_SERVICE_TIER] = response.service_tier
        if response.system_fingerprint:
            attributes[OPENAI_SYSTEM_FINGERPRINT] = response.system_fingerprint
    if record.provider == _AZURE:
        attributes[AZURE_NAMESPACE] = _AZURE_NAMESPACE


def _put_content(attributes: Attributes, record: CallRecord, conversation: Conversation, budget: ByteBudget) -> None:
    said, asked = (0, 0) if budget.plenty else body_sizes(record)
    system = parts_json(conversation.system) if conversation.system else []
    tools = tool_definitions(conversation.tools) if conversation.tools else []
    if 2 * (said + asked) <= budget.left:
        _put_output(attributes, record, conversation, budget)
        _put_input(attributes, record, conversation, budget)
        _put_list(attributes, SYSTEM_INSTRUCTIONS, system, asked, budget)
        _put_list(attributes, TOOL_DEFINITIONS, tools, asked, budget)
        return
    of_system, of_tools = weight(system, asked), weight(tools, asked)
    spread(
        budget,
        (
            (said, partial(_put_output, attributes, record, conversation)),
            (max(0, asked - of_system - of_tools), partial(_put_input, attributes, record, conversation)),
            (of_system, partial(_put_list, attributes, SYSTEM_INSTRUCTIONS, system, None)),
            (of_tools, partial(_put_list, attributes, TOOL_DEFINITIONS, tools, None)),
        ),
    )


def _put_output(attributes: Attributes, record: CallRecord, conversation: Conversation, budget: ByteBudget) -> None:
    if conversation.output:
        answer = record.response
        about = None if answer is None else answer.body_bytes
        put_json(attributes, OUTPUT_MESSAGES, output_messages(record, conversation), budget, about)


def _put_input(attributes: Attributes, record: CallRecord, conversation: Conversation, budget: ByteBudget) -> None:
    if conversation.input:
        picked = chosen(conversation.input, record, budget)
        put_json(attributes, INPUT_MESSAGES, input_messages(picked, record), budget, picked.about)


def _put_list(
    attributes: Attributes, name: str, items: Sequence[object], about: int | None, budget: ByteBudget
) -> None:
    if items:
        put_json(attributes, name, items, budget, about)
