"""Helpers: calls before they are priced."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from callspan.records import CallRecord, Request, Response, Timing, Usage

NOVEMBER_2026_NS = 1_795_000_000_000_000_000
MakeCall = Callable[..., CallRecord]


@pytest.fixture
def call() -> MakeCall:
    """Make a call of `model` at `provider` with these token counts."""

    def make(model: str | None = "gpt-4o", provider: str = "openai", **fields: Any) -> CallRecord:
        usage = fields.pop("usage", Usage(**{name: fields.pop(name) for name in list(fields) if "tokens" in name}))
        response = Response(model=fields.pop("response_model", None), service_tier=fields.pop("tier", None))
        given = {
            "call_id": "c1",
            "provider": provider,
            "api": "chat_completions",
            "request": Request(model=model),
            "response": response,
            "usage": usage,
            "timing": Timing(start_ns=NOVEMBER_2026_NS, duration_ns=1),
        }
        return CallRecord(**(given | fields))

    return make
