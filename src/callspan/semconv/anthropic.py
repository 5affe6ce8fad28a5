"""The `anthropic.*` attributes of a call on the Messages API, named as on the anthropic SDK's own span.

callspan's span replaces that span and has the same information. They are part of the `gen_ai` vocabulary.
"""

from __future__ import annotations

from typing import Final

from callspan.record.usage import Usage
from callspan.semconv.table import (
    INT,
    STRING,
    STRINGS,
    Each,
    From,
    Row,
    SetByCode,
    as_int,
    as_text,
    output_type,
    output_type_of_text,
)

BETA: Final = "anthropic.beta"
ORGANIZATION_ID: Final = "anthropic.organization.id"
WORKSPACE_ID: Final = "anthropic.workspace.id"
HTTP_ROUTE: Final = "http.route"
URL_SCHEME: Final = "url.scheme"
URL_PATH: Final = "url.path"
URL_FULL: Final = "url.full"

API: Final = "messages"
"""The endpoint, as `CallRecord.api` has it."""
_INPUT: Final = ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")
NATIVE: Final = (
    Row(BETA, STRINGS, SetByCode("request header"), "The requested betas."),
    Row(ORGANIZATION_ID, STRING, SetByCode("response header"), "As the answer's header states it."),
    Row(WORKSPACE_ID, STRING, SetByCode("response header"), "As the answer's header states it."),
    Row(HTTP_ROUTE, STRING, SetByCode("request"), "The path without ids."),
    Row(URL_SCHEME, STRING, SetByCode("request"), "`https` or `http`."),
    Row(URL_PATH, STRING, SetByCode("request"), "The path."),
    Row(URL_FULL, STRING, SetByCode("request"), "Without credentials and query."),
)
"""Attributes from the HTTP exchange, set by the interception if callspan's span replaces the SDK's own."""


def _output_type(params: dict[str, object]) -> str | None:
    return output_type(params.get("output_format")) or output_type_of_text(params.get("output_config"))


def _thinking(params: dict[str, object]) -> tuple[str | None, int | None] | None:
    thinking = params.get("thinking")
    return (
        (as_text(thinking.get("type")), as_int(thinking.get("budget_tokens"))) if isinstance(thinking, dict) else None
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


_THINKING: Final = Each("request.params", _thinking)
_COMPACTIONS: Final = Each("usage", _compactions)

ROWS: Final = (
    Row(
        "anthropic.request.service_tier", STRING,
        From("request.params", lambda params: as_text(params.get("service_tier"))), "As sent.", apis=(API,),
    ),
    Row("anthropic.thinking.type", STRING, _THINKING, "As sent.", apis=(API,)),
    Row("anthropic.thinking.budget_tokens", INT, _THINKING, "As sent.", apis=(API,)),
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
    Row(
        "gen_ai.output.type", STRING, From("request.params", _output_type),
        "The requested format.", apis=(API,),
    ),
)  # fmt: skip
"""Attributes from the record."""
