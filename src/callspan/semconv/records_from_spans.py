"""Records from spans: makes call records from the spans of other GenAI instrumentations, as far as possible.

It reads `gen_ai.*` (current and deprecated), OpenInference, OpenLLMetry, Logfire and Vercel's AI SDK, but no content.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Final

import msgspec

from callspan.conversion import converter
from callspan.providers.finishing import Finish, finish_of
from callspan.record.call import CallRecord, ErrorInfo, Place, Request, Response, Timing
from callspan.record.plain_json import plain
from callspan.record.usage import Usage

_OPERATIONS: Final = {
    "chat": ("chat", "chat_completions"),
    "generate_content": ("chat", "chat_completions"),
    "text_completion": ("text_completion", "completions"),
    "embeddings": ("embeddings", "embeddings"),
}
_KINDS: Final = {"LLM": "chat", "EMBEDDING": "embeddings"}
_REQUEST_TYPES: Final = {"chat": "chat", "completion": "text_completion", "embedding": "embeddings"}
_VERCEL: Final = "ai.operationId"
_VERCEL_REQUESTS: Final = {"doGenerate": "chat", "doStream": "chat", "doEmbed": "embeddings"}
"""The last word of its operations that send a request; others are around them."""
_VERCEL_PROVIDERS: Final = {
    "amazon-bedrock": "aws.bedrock", "azure-openai": "azure.ai.openai", "google": "gcp.gemini", "xai": "x_ai",
}  # fmt: skip
"""Vercel's names that are not those of the conventions, without the part after the dot, as in `openai.chat`."""

_PROVIDER: Final = (
    "gen_ai.provider.name", "gen_ai.system", "llm.provider", "llm.system", "llm.vendor", "ai.model.provider",
)  # fmt: skip
_REQUEST_MODEL: Final = (
    "gen_ai.request.model", "llm.request.model_name", "llm.model_name", "llm.request.model", "ai.model.id",
)  # fmt: skip
_RESPONSE_MODEL: Final = ("gen_ai.response.model", "llm.response.model_name", "llm.response.model")
_STREAM: Final = ("gen_ai.request.stream", "gen_ai.is_streaming", "llm.is_streaming")
_OPENLLMETRY: Final = "traceloop.association.properties."
"""Prefix under which OpenLLMetry sets what the application says of a span."""
_SESSION: Final = (
    "session.id", "gen_ai.conversation.id", f"{_OPENLLMETRY}session_id", "langfuse.session.id",
    "ai.telemetry.metadata.sessionId",
)  # fmt: skip
_METADATA: Final[Mapping[str, tuple[str, ...]]] = {
    "user_id": (
        "user.id",
        "enduser.id",
        "langfuse.user.id",
        "gen_ai.user",
        "llm.user",
        f"{_OPENLLMETRY}user_id",
        "ai.telemetry.metadata.userId",
    ),
    "agent_id": ("gen_ai.agent.id",),
    "workflow_name": ("gen_ai.workflow.name", "traceloop.workflow.name"),
    "prompt_id": ("gen_ai.prompt.name", "traceloop.prompt.key"),
    "prompt_version": ("gen_ai.prompt.version", "traceloop.prompt.version", "llm.prompt_template.version"),
    "tags": ("tag.tags", "logfire.tags", "langfuse.trace.tags"),
}
"""Metadata fields by the attribute names of other instrumentations."""
_convert_usage: Final = converter(Usage)
_COUNTERS: Final[Mapping[str, tuple[str, ...]]] = {
    "input_tokens": (
        "gen_ai.usage.input_tokens",
        "gen_ai.usage.prompt_tokens",
        "llm.token_count.prompt",
        "ai.usage.tokens",
    ),
    "output_tokens": ("gen_ai.usage.output_tokens", "gen_ai.usage.completion_tokens", "llm.token_count.completion"),
    "total_tokens": ("gen_ai.usage.total_tokens", "llm.usage.total_tokens", "llm.token_count.total"),
    "cache_read_tokens": ("gen_ai.usage.cache_read.input_tokens", "llm.token_count.prompt_details.cache_read"),
    "cache_write_tokens": (
        "gen_ai.usage.cache_write.input_tokens",
        "gen_ai.usage.cache_creation.input_tokens",
        "llm.token_count.prompt_details.cache_write",
    ),
    "reasoning_tokens": (
        "gen_ai.usage.reasoning.output_tokens",
        "gen_ai.usage.reasoning_tokens",
        "llm.token_count.completion_details.reasoning",
    ),
}


class ForeignSpan(msgspec.Struct, frozen=True, kw_only=True):
    """A span of another instrumentation, in this process or received by OTLP."""

    attributes: Mapping[str, object]
    trace_id: str
    span_id: str
    parent_span_id: str | None
    start_ns: int
    end_ns: int | None
    failed: bool
    scope: str | None
    """Name of the instrumentation."""
    service: str | None = None
    """Name of the service, if another process sent it."""


def call_of(span: ForeignSpan) -> CallRecord | None:
    """Return the record of an LLM call's span, with an id derived from the span's ids; None for other spans."""
    attributes = span.attributes
    operation = _operation(attributes)
    if operation is None:
        return None
    kind, api = _OPERATIONS[operation]
    error_type = _text(attributes, ("error.type",))
    response, finish = _response(attributes)
    error = ErrorInfo(kind="unknown", type=error_type or "unknown") if span.failed or error_type else finish.error
    return CallRecord(
        call_id=str(uuid.uuid5(uuid.NAMESPACE_OID, f"{span.trace_id}/{span.span_id}")),
        provider=_provider(attributes),
        api=api,
        operation=kind,
        sdk=span.scope,
        trace_id=span.trace_id,
        span_id=span.span_id,
        parent_span_id=span.parent_span_id,
        place=Place(session_id=_text(attributes, _SESSION)),
        service=span.service,
        request=Request(model=_text(attributes, _REQUEST_MODEL), stream=_flag(attributes, _STREAM)),
        response=response,
        usage=_usage(attributes),
        timing=Timing(start_ns=span.start_ns, duration_ns=_duration_ns(span)),
        metadata=_metadata(attributes),
        outcome="error" if error is not None else "success",
        error=error,
    )


def _duration_ns(span: ForeignSpan) -> int | None:
    return None if span.end_ns is None or span.end_ns < span.start_ns else span.end_ns - span.start_ns


def _operation(attributes: Mapping[str, object]) -> str | None:
    operation = _text(attributes, ("gen_ai.operation.name",))
    if operation is not None:
        return operation if operation in _OPERATIONS else None
    kind = _text(attributes, ("openinference.span.kind",))
    if kind is not None:
        return _KINDS.get(kind)
    if (vercel := _text(attributes, (_VERCEL,))) is not None:
        return _VERCEL_REQUESTS.get(vercel.rpartition(".")[2])
    return _REQUEST_TYPES.get(_text(attributes, ("llm.request.type",)) or "")


def _provider(attributes: Mapping[str, object]) -> str:
    provider = _text(attributes, _PROVIDER) or "unknown"
    if _VERCEL not in attributes:
        return provider
    name = provider.partition(".")[0]
    return _VERCEL_PROVIDERS.get(name, name)


def _metadata(attributes: Mapping[str, object]) -> dict[str, object]:
    """Return user, agent, workflow, prompt and tags as `callspan.metadata(...)` has them."""
    values = {
        field: next((value for name in names if (value := attributes.get(name)) not in (None, "")), None)
        for field, names in _METADATA.items()
    }
    return {field: plain(value) for field, value in values.items() if value is not None}


def _response(attributes: Mapping[str, object]) -> tuple[Response, Finish]:
    listed_reasons = attributes.get("gen_ai.response.finish_reasons")
    reasons = [str(reason) or None for reason in listed_reasons] if isinstance(listed_reasons, list | tuple) else []
    finish = finish_of(tuple(reasons))
    response = Response(
        id=_text(attributes, ("gen_ai.response.id",)),
        model=_text(attributes, _RESPONSE_MODEL),
        finish_reasons=reasons,
        truncated=finish.truncated,
        refused=finish.refused,
        unknown_finish=finish.unknown_finish,
    )
    return response, finish


def _usage(attributes: Mapping[str, object]) -> Usage | None:
    counters = {
        name: next((value for key in keys if type(value := attributes.get(key)) is int), None)
        for name, keys in _COUNTERS.items()
    }
    counts = {name: value for name, value in counters.items() if value is not None}
    return _convert_usage(counts) if counts else None


def _flag(attributes: Mapping[str, object], names: tuple[str, ...]) -> bool | None:
    return next((value for name in names if isinstance(value := attributes.get(name), bool)), None)


def _text(attributes: Mapping[str, object], names: tuple[str, ...]) -> str | None:
    return next((value for name in names if isinstance(value := attributes.get(name), str) and value), None)
