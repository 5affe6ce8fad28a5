"""Calls made of the bodies of a request and its answer, as a provider sends them, or of counts, and their cost."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from tests.support.bodies import endpoint, folded
from tests.support.records import made

from callspan.cost import Pricer, read_prices
from callspan.record.content_level import without_content
from callspan.records import CallRecord, Cost, Request, Response, Timing, Usage

Body = Mapping[str, Any]
START_NS: Final = 1_795_000_000_000_000_000
"""A time at which the prices of today are in force."""
_PROVIDERS: Final = {
    "messages": "anthropic",
    "responses": "openai",
    "chat_completions": "openai",
    "decisions": "openai",
}


def call_of(api: str, request: Body, answer: Body | list[Body], level: str = "full", **fields: Any) -> CallRecord:
    """Return the record of one exchange, as it is kept at a content level; a list is the events of a stream."""
    info = endpoint(api).response_info(dict(answer) if isinstance(answer, Mapping) else folded(api, *answer))
    given = {"provider": _PROVIDERS[api], "call_id": "c1", "api": api, "timing": Timing(start_ns=START_NS)}
    about = {"request": endpoint(api).request(dict(request)), "response": info.response, "usage": info.usage}
    record = CallRecord(**(given | about | fields))
    return record if level == "full" else without_content(record, keep_outline=level == "metadata", why="content")


def cost_of(record: CallRecord, prices: Path | None = None) -> Cost | None:
    """Return what a call costs by this price file, else by published prices."""
    return Pricer(None if prices is None else read_prices(prices)).priced(record).cost


def counted(model: str | None = "gpt-4o", provider: str = "openai", **fields: Any) -> CallRecord:
    """Return a call of `model` at `provider` with these counts of tokens, none out; `tier` is that of the answer."""
    counts = {"output_tokens": 0} | {name: fields.pop(name) for name in list(fields) if "tokens" in name}
    usage = fields.pop("usage", Usage(**counts))
    about = {"request": Request(model=model), "response": Response(service_tier=fields.pop("tier", None))}
    given = {"call_id": "c1", "at_ns": START_NS, "provider": provider, "api": "chat_completions", "usage": usage}
    return made(**(given | about | fields))
