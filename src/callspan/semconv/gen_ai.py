"""The `gen_ai.*` attributes of calls, and related ones of other namespaces.

Version: semantic-conventions-genai 0.1.0. The names are defined here, because the Python package has older ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from callspan.record.apis import APIS
from callspan.record.call import CallRecord
from callspan.semconv.content_attributes import (
    Attributes,
    SpanContent,
    answer_messages,
    finish_word,
    messages_json,
    parts_json,
    put_json,
    request_bound,
    select_messages,
    tool_definitions,
)
from callspan.semconv.table import (
    BOOLEAN,
    DOUBLE,
    INT,
    JSON,
    MAX_TOKENS,
    STRING,
    STRINGS,
    From,
    Parameter,
    Put,
    Row,
    Seconds,
    Table,
    as_float,
    as_int,
    as_text,
    as_texts,
    choice_count,
    guardrail_id,
    output_type,
    output_type_of_media_type,
    output_type_of_modalities,
    output_type_of_schema,
    output_type_of_text,
    reasoning_level,
    service_tier,
)

SCHEMA_URL: Final = "https://opentelemetry.io/schemas/gen-ai-dev/1.42.0-dev"
"""The schema of the instrumentation scope, as stated by the conventions' manifest."""
OPERATION_NAME: Final = "gen_ai.operation.name"
PROVIDER_NAME: Final = "gen_ai.provider.name"
REQUEST_MODEL: Final = "gen_ai.request.model"
RESPONSE_MODEL: Final = "gen_ai.response.model"
INPUT_MESSAGES: Final = "gen_ai.input.messages"
OUTPUT_MESSAGES: Final = "gen_ai.output.messages"
SYSTEM_INSTRUCTIONS: Final = "gen_ai.system_instructions"
TOOL_DEFINITIONS: Final = "gen_ai.tool.definitions"
PROMPT_NAME: Final = "gen_ai.prompt.name"
PROMPT_VERSION: Final = "gen_ai.prompt.version"
WORKFLOW_NAME: Final = "gen_ai.workflow.name"
AGENT_NAME: Final = "gen_ai.agent.name"
EVALUATION_EVENT: Final = "gen_ai.evaluation.result"
COMPACTED: Final = "gen_ai.conversation.compacted"
SERVER_ADDRESS: Final = "server.address"
SERVER_PORT: Final = "server.port"
ERROR_TYPE: Final = "error.type"

_TEMPLATES: Final = ("responses",)
"""Endpoints with requests that may refer to the provider's prompt templates."""
_OUTPUT_TYPES: Final = {
    **dict.fromkeys(("images", "image_edits", "image_variations"), "image"),
    **dict.fromkeys(("transcriptions", "translations"), "text"),
    "speech": "speech",
}
"""The conventions' output type of endpoints for media."""
_MESSAGES: Final = ("messages",)
_OPENAI: Final = ("chat_completions", "responses")
_OPENAI_APIS: Final = tuple(api for api, row in APIS.items() if row.family == "openai")
"""All APIs of OpenAI. Other vendors state a service tier too, which no convention names."""
_RERANKING: Final = tuple(api for api in APIS if api.endswith("rerank"))
"""APIs whose `top_k` is a number of documents, not of tokens to choose from."""
_OWN_WORDS: Final = tuple(api for api, row in APIS.items() if row.family not in ("openai", "anthropic"))
"""APIs of vendors who have other words for some parameters."""
_AZURE: Final = "azure.ai.openai"
_AZURE_NAMESPACE: Final = "Microsoft.CognitiveServices"


def _message_format(params: dict[str, object]) -> str | None:
    return output_type(params.get("output_format")) or output_type_of_text(params.get("output_config"))


def span_name(record: CallRecord) -> str:
    """Return `{operation} {model}`, or just the operation."""
    model = record.request.model
    return f"{record.operation} {model}" if model else record.operation


def status_rows(name: str) -> tuple[Row, Row]:
    """Return the rows for the HTTP status of the last attempt, else of the error."""
    return Row(name, INT, "error.status"), Row(name, INT, "attempts[-1].status")


def _background_status(record: CallRecord) -> str | None:
    return record.response.status if record.is_merged and record.response is not None else None


def _finish_reasons(reasons: Sequence[str | None]) -> tuple[str, ...] | None:
    # The attribute lists them by choice, so none may be omitted.
    return tuple(map(finish_word, reasons)) if all(reasons) else None


def _error_type(record: CallRecord) -> str | None:
    return None if record.error is None or record.outcome == "cancelled" else record.error.type


def _put_prompt(attributes: Attributes, record: CallRecord, _: SpanContent) -> None:
    name, version = record.metadata.get("prompt_id"), record.metadata.get("prompt_version")
    template = record.request.params.get("prompt") if record.api in _TEMPLATES else None
    if isinstance(template, dict) and as_text(template.get("id")):
        name, version = as_text(template.get("id")), as_text(template.get("version"))
    if name is not None:
        attributes[PROMPT_NAME] = str(name)
        if version is not None:
            attributes[PROMPT_VERSION] = str(version)


def _put_output(attributes: Attributes, record: CallRecord, content: SpanContent) -> None:
    size_bound = None if record.response is None else record.response.body_bytes
    messages = answer_messages(record.outcome, content.conversation.output)
    put_json(attributes, OUTPUT_MESSAGES, messages, content.budget, size_bound)


def _put_input(attributes: Attributes, record: CallRecord, content: SpanContent) -> None:
    messages = messages_json(select_messages(content.conversation.input, record, content.budget))
    put_json(attributes, INPUT_MESSAGES, messages, content.budget, request_bound(record))


def _put_system(attributes: Attributes, record: CallRecord, content: SpanContent) -> None:
    parts = parts_json(content.conversation.system)
    put_json(attributes, SYSTEM_INSTRUCTIONS, parts, content.budget, request_bound(record))


def _put_tools(attributes: Attributes, record: CallRecord, content: SpanContent) -> None:
    if tools := tool_definitions(content.conversation.tools):  # definitions that are not objects are omitted
        put_json(attributes, TOOL_DEFINITIONS, tools, content.budget, request_bound(record))


_PROMPT: Final = Put(_put_prompt)
_PROMPT_ABOUT: Final = "`prompt_id` and `prompt_version` of the metadata; of Responses the requested `prompt`."

START: Final = Table(
    Row(
        OPERATION_NAME,
        STRING,
        "operation",
        "`chat`, `generate_content` (Gemini, images, sound), `text_completion`, `embeddings`, `decisions`, "
        "`moderation`, `rerank`, `evaluation`.",
    ),
    Row(PROVIDER_NAME, STRING, "provider", "The provider under the conventions' name."),
    Row(REQUEST_MODEL, STRING, "request.model"),
    Row("gen_ai.request.stream", BOOLEAN, "request.stream", if_true=True),
    Row(SERVER_ADDRESS, STRING, "server_address"),
    Row(SERVER_PORT, INT, "server_port", when="server_address"),
)
"""Start attributes, for samplers."""

END: Final = Table(
    Row("gen_ai.request.temperature", DOUBLE, Parameter("temperature", as_float)),
    Row("gen_ai.request.top_p", DOUBLE, Parameter("top_p", as_float)),
    Row("gen_ai.request.top_k", INT, Parameter("top_k", as_int), not_apis=_RERANKING),
    Row("gen_ai.request.frequency_penalty", DOUBLE, Parameter("frequency_penalty", as_float)),
    Row("gen_ai.request.presence_penalty", DOUBLE, Parameter("presence_penalty", as_float)),
    *(Row("gen_ai.request.max_tokens", INT, Parameter(name, as_int)) for name in MAX_TOKENS),
    *(Row("gen_ai.request.seed", INT, Parameter(name, as_int)) for name in ("seed", "random_seed")),
    Row("gen_ai.request.choice.count", INT, Parameter("n", choice_count)),
    *(
        Row("gen_ai.request.reasoning.level", STRING, Parameter(name, reasoning_level))
        for name in ("reasoning_effort", "reasoning", "output_config")
    ),
    Row("gen_ai.request.previous_response.id", STRING, Parameter("previous_response_id", as_text)),
    Row("gen_ai.request.encoding_formats", STRINGS, Parameter("encoding_format", as_texts)),
    Row("gen_ai.embeddings.dimension.count", INT, Parameter("dimensions", as_int)),
    *(
        Row(
            "gen_ai.output.type", STRING, Parameter(name, read),
            "Requested, or made by the endpoint: `text`, `json`, `image`, `speech`.",
        )
        for name, read in (
            ("response_format", output_type), ("text", output_type_of_text), ("modalities", output_type_of_modalities),
        )
    ),
    *(
        Row(attribute, kind, Parameter(name, read), apis=_OWN_WORDS)
        for attribute, kind, read, names in (
            ("gen_ai.request.max_tokens", INT, as_int, ("max_new_tokens",)),
            ("gen_ai.request.previous_response.id", STRING, as_text, ("previous_interaction_id",)),
            ("gen_ai.request.reasoning.level", STRING, reasoning_level, ("thinking_level", "thinking_config", "think")),
            ("gen_ai.request.encoding_formats", STRINGS, as_texts, ("embedding_types", "embeddingTypes")),
            (
                "gen_ai.embeddings.dimension.count", INT, as_int,
                ("output_dimension", "outputDimensionality", "output_dimensionality"),
            ),
            ("gen_ai.output.type", STRING, output_type_of_media_type, ("response_mime_type",)),
            ("gen_ai.output.type", STRING, output_type_of_modalities, ("response_modalities",)),
            ("gen_ai.output.type", STRING, output_type_of_schema, ("format",)),
            ("aws.bedrock.guardrail.id", STRING, guardrail_id, ("guardrail_config",)),
        )
        for name in names
    ),
    *(
        Row("gen_ai.request.stop_sequences", STRINGS, Parameter(name, as_texts), content=True)
        for name in ("stop", "stop_sequences")
    ),
    Row("gen_ai.output.type", STRING, From("request.params", _message_format), apis=_MESSAGES),
    Row("gen_ai.output.type", STRING, lambda record: _OUTPUT_TYPES[record.api], apis=tuple(_OUTPUT_TYPES)),
    Row(PROMPT_NAME, STRING, _PROMPT, _PROMPT_ABOUT, when="metadata", not_apis=_TEMPLATES),
    Row(PROMPT_VERSION, STRING, _PROMPT, _PROMPT_ABOUT, when="metadata", not_apis=_TEMPLATES),
    Row(PROMPT_NAME, STRING, _PROMPT, apis=_TEMPLATES),
    Row(PROMPT_VERSION, STRING, _PROMPT, apis=_TEMPLATES),
    Row(COMPACTED, BOOLEAN, "request.compacted", if_true=True),
    Row(COMPACTED, BOOLEAN, "response.compacted", if_true=True),
    Row("gen_ai.response.id", STRING, "response.id"),
    Row(RESPONSE_MODEL, STRING, "response.model"),
    Row(
        "gen_ai.response.status", STRING, _background_status, "Of a background response.",
        apis=("responses",),
    ),
    Row(
        "gen_ai.response.finish_reasons", STRINGS, From("response.endings", _finish_reasons),
        "Why each choice stopped; absent if any choice has none.",
    ),
    Row("gen_ai.usage.input_tokens", INT, "usage.input_tokens"),
    Row("gen_ai.usage.output_tokens", INT, "usage.output_tokens"),
    Row("gen_ai.usage.cache_read.input_tokens", INT, "usage.cache_read_tokens"),
    Row("gen_ai.usage.cache_write.input_tokens", INT, "usage.cache_write_tokens"),
    Row("gen_ai.usage.cache_creation.input_tokens", INT, "usage.cache_write_tokens"),
    Row("gen_ai.usage.reasoning.output_tokens", INT, "usage.reasoning_tokens"),
    *(
        Row(f"gen_ai.usage.{kind}.{name}_tokens", INT, f"usage.{field.format(kind)}_tokens")
        for name, field in (
            ("input", "input_{}"),
            ("output", "output_{}"),
            ("cache_read.input", "cache_read_{}"),
        )
        for kind in ("text", "image", "audio")
    ),
    Row("http.request.resend_count", INT, "retries", if_true=True),
    Row(
        ERROR_TYPE, STRING, _error_type,
        when="error",
    ),
    *status_rows("http.response.status_code"),
    Row(
        "gen_ai.response.time_to_first_chunk", DOUBLE, Seconds("timing.first_chunk_ns"),
        "Seconds from the start of the call to the first chunk.", when="request.stream",
    ),
    Row("openai.api.type", STRING, "api", apis=_OPENAI),
    Row(
        "openai.request.service_tier", STRING,
        From("request.params", lambda params: service_tier(params.get("service_tier"))),
        "As sent, unless `auto`.", apis=_OPENAI_APIS,
    ),
    Row(
        "openai.response.service_tier", STRING, "response.service_tier",
        apis=_OPENAI_APIS,
    ),
    Row(
        "openai.response.system_fingerprint", STRING, "response.system_fingerprint",
        apis=_OPENAI_APIS,
    ),
    Row("anthropic.request.service_tier", STRING, Parameter("service_tier", as_text), "As sent.", apis=_MESSAGES),
    Row("anthropic.response.service_tier", STRING, "response.service_tier", apis=_MESSAGES),
    *(
        Row(
            f"anthropic.usage.cache_creation.ephemeral_{life}_input_tokens", INT, f"usage.cache_write_{life}_tokens",
            apis=_MESSAGES,
        )
        for life in ("5m", "1h")
    ),
    Row(
        "azure.resource_provider.namespace", STRING, From("provider", {_AZURE: _AZURE_NAMESPACE}.get),
        not_apis=_MESSAGES,
    ),
    Row(OUTPUT_MESSAGES, JSON, Put(_put_output), content=True, if_content="conversation.output"),
    Row(INPUT_MESSAGES, JSON, Put(_put_input), content=True, if_content="conversation.input"),
    Row(SYSTEM_INSTRUCTIONS, JSON, Put(_put_system), content=True, if_content="conversation.system"),
    Row(TOOL_DEFINITIONS, JSON, Put(_put_tools), content=True, if_content="conversation.tools"),
)  # fmt: skip
