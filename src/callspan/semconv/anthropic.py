"""The `anthropic.*` attributes of a call on the Messages API, by the names the anthropic SDK's own span has them.

Ours stands in that span's place, and is to say no less. What is not known of the record but of the exchange itself
is the interception's to show, under the names at the end.
"""

from __future__ import annotations

from typing import Final

from callspan.record.call import CallRecord
from callspan.record.usage import Usage
from callspan.semconv.values import Attributes, whole, word

API: Final = "messages"
REQUEST_SERVICE_TIER: Final = "anthropic.request.service_tier"
RESPONSE_SERVICE_TIER: Final = "anthropic.response.service_tier"
THINKING_TYPE: Final = "anthropic.thinking.type"
THINKING_BUDGET: Final = "anthropic.thinking.budget_tokens"
STOP_REASON: Final = "anthropic.message.stop_reason"
"""The provider's own word; `gen_ai.response.finish_reasons` has the conventions'."""
CACHE_WRITE_5M: Final = "anthropic.usage.cache_creation.ephemeral_5m_input_tokens"
CACHE_WRITE_1H: Final = "anthropic.usage.cache_creation.ephemeral_1h_input_tokens"
COMPACTION_INPUT: Final = "anthropic.usage.compaction.input_tokens"
"""Beside `gen_ai.usage.input_tokens`, which leaves them out."""
COMPACTION_OUTPUT: Final = "anthropic.usage.compaction.output_tokens"
BETA: Final = "anthropic.beta"
"""This and what follows: where ours stands in place of the SDK's own span (`native=replace`)."""
ORGANIZATION_ID: Final = "anthropic.organization.id"
WORKSPACE_ID: Final = "anthropic.workspace.id"
HTTP_METHOD: Final = "http.request.method"
HTTP_ROUTE: Final = "http.route"
URL_SCHEME: Final = "url.scheme"
URL_PATH: Final = "url.path"
URL_FULL: Final = "url.full"
"""Without credentials and query."""

_INPUT: Final = ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")


def end(record: CallRecord) -> Attributes:
    """Return what is known of the record; unknown values are absent. No content."""
    found: Attributes = {}
    params, response, usage = record.request.params, record.response, record.usage
    if params:
        _put(found, REQUEST_SERVICE_TIER, word(params.get("service_tier")))
        thinking = params.get("thinking")
        if isinstance(thinking, dict):
            _put(found, THINKING_TYPE, word(thinking.get("type")))
            _put(found, THINKING_BUDGET, whole(thinking.get("budget_tokens")))
    if response is not None:
        _put(found, RESPONSE_SERVICE_TIER, response.service_tier)
        _put(found, STOP_REASON, response.finish_reasons[0] if response.finish_reasons else None)
    if usage is not None:
        _put(found, CACHE_WRITE_5M, usage.cache_write_5m_tokens)
        _put(found, CACHE_WRITE_1H, usage.cache_write_1h_tokens)
        _put_compactions(found, usage)
    return found


def _put(found: Attributes, name: str, value: str | int | None) -> None:
    if value is not None:
        found[name] = value


def _put_compactions(found: Attributes, usage: Usage) -> None:
    entries = None if usage.raw is None else usage.raw.get("iterations")
    if not isinstance(entries, list):
        return
    compactions = [entry for entry in entries if isinstance(entry, dict) and entry.get("type") == "compaction"]
    if compactions:
        found[COMPACTION_INPUT] = sum(whole(entry.get(name)) or 0 for entry in compactions for name in _INPUT)
        found[COMPACTION_OUTPUT] = sum(whole(entry.get("output_tokens")) or 0 for entry in compactions)
