"""The `anthropic.*` attributes of a call on the Messages API, named as on the anthropic SDK's own span.

callspan's span replaces that span and has the same information. They are part of the `gen_ai` vocabulary.
"""

from __future__ import annotations

from typing import Final

from callspan.record.call import CallRecord, Http
from callspan.record.usage import Usage
from callspan.semconv.table import (
    INT,
    STRING,
    STRINGS,
    Each,
    From,
    Row,
    as_int,
    as_text,
    as_texts,
    output_type,
    output_type_of_text,
)

API: Final = "messages"
"""The endpoint, as `CallRecord.api` has it."""
_UNKNOWN: Final = Http()
_PORTS: Final = {"https": 443, "http": 80}
_OPTIONS: Final = frozenset({"service_tier", "thinking", "output_format", "output_config"})
_INPUT: Final = ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")


def _exchange(record: CallRecord) -> tuple[str | None, str | None, str | None, str | None]:
    """Return route, scheme, path and URL."""
    http = record.http or _UNKNOWN
    path = http.path
    return http.route or path, path and http.scheme, path, _url(record, http)


def _url(record: CallRecord, http: Http) -> str | None:
    host = record.server_address
    if http.path is None or (host is None and http.host is None):
        return None
    if http.host is not None or host is None:
        return f"{http.scheme}://{http.host}{http.path}"
    host = f"[{host}]" if ":" in host else host
    port = "" if record.server_port in (None, _PORTS.get(http.scheme)) else f":{record.server_port}"
    return f"{http.scheme}://{host}{port}{http.path}"


_EXCHANGE: Final = Each("", _exchange)
NATIVE: Final = tuple(
    row._replace(when="http")
    for row in (
        Row("anthropic.beta", STRINGS, From("http.betas", as_texts), "The requested betas."),
        Row("anthropic.organization.id", STRING, "http.organization_id", "As the answer's header states it."),
        Row("anthropic.workspace.id", STRING, "http.workspace_id", "As the answer's header states it."),
        Row("http.route", STRING, _EXCHANGE, "The path without ids."),
        Row("url.scheme", STRING, _EXCHANGE, "`https` or `http`."),
        Row("url.path", STRING, _EXCHANGE, "The path."),
        Row("url.full", STRING, _EXCHANGE, "Without credentials and query."),
        Row("gen_ai.conversation.id", STRING, "http.conversation_id", "As the SDK's client has it, outside a session."),
    )
)
"""Attributes from the HTTP exchange, as the SDK's own span would have them."""


def _options(params: dict[str, object]) -> tuple[object, ...] | None:
    """Return service tier, type and budget of thinking, and output type; None where none was sent."""
    if _OPTIONS.isdisjoint(params):
        return None
    thinking = params.get("thinking")
    of_thinking = thinking if isinstance(thinking, dict) else {}
    return (
        as_text(params.get("service_tier")),
        as_text(of_thinking.get("type")),
        as_int(of_thinking.get("budget_tokens")),
        output_type(params.get("output_format")) or output_type_of_text(params.get("output_config")),
    )


def _compactions(usage: Usage) -> tuple[int, int] | None:
    entries = None if usage.raw is None else usage.raw.get("iterations")
    if not isinstance(entries, list):
        return None
    found = [entry for entry in entries if isinstance(entry, dict) and entry.get("type") == "compaction"]
    if not found:
        return None
    taken = sum(as_int(entry.get(name)) or 0 for entry in found for name in _INPUT)
    return taken, sum(as_int(entry.get("output_tokens")) or 0 for entry in found)


_SENT: Final = Each("request.params", _options)
_COMPACTIONS: Final = Each("usage", _compactions)

ROWS: Final = (
    Row("anthropic.request.service_tier", STRING, _SENT, "As sent.", apis=(API,)),
    Row("anthropic.thinking.type", STRING, _SENT, "As sent.", apis=(API,)),
    Row("anthropic.thinking.budget_tokens", INT, _SENT, "As sent.", apis=(API,)),
    Row("gen_ai.output.type", STRING, _SENT, "The requested format.", apis=(API,)),
    Row(
        "anthropic.response.service_tier", STRING, "response.service_tier", "The tier that was used.", apis=(API,)
    ),
    Row(
        "anthropic.message.stop_reason", STRING, From("response.finish_reasons", lambda reasons: reasons[0]),
        "As the provider names it; `gen_ai.response.finish_reasons` has the conventions'.", apis=(API,),
    ),
    Row(
        "anthropic.usage.cache_creation.ephemeral_5m_input_tokens", INT, "usage.cache_write_5m_tokens",
        "Input tokens put into the cache for five minutes.", apis=(API,),
    ),
    Row(
        "anthropic.usage.cache_creation.ephemeral_1h_input_tokens", INT, "usage.cache_write_1h_tokens",
        "Input tokens put into the cache for an hour.", apis=(API,),
    ),
    Row(
        "anthropic.usage.compaction.input_tokens", INT, _COMPACTIONS,
        "Input tokens of compactions, a part of `gen_ai.usage.input_tokens`.", apis=(API,),
    ),
    Row(
        "anthropic.usage.compaction.output_tokens", INT, _COMPACTIONS,
        "Output tokens of compactions, a part of `gen_ai.usage.output_tokens`.", apis=(API,),
    ),
)  # fmt: skip
"""Attributes from the record."""
