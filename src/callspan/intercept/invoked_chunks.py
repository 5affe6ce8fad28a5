"""Invoked chunks: Bedrock streams the chunks of the model that it invokes inside its own events."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from callspan.observe.call import Call
from callspan.providers.bedrock.invoke import as_chunk
from callspan.providers.bedrock.usage import METRICS
from callspan.providers.token_headers import as_headers
from callspan.providers.wire_json import mapping

_CHAT: Final = "chat_completions"


def take_invoked(call: Call, chunk: object, take: Callable[[object], object]) -> None:
    """Pass the chunk of an event to `take`; the last event has the counts that a plain answer has in headers."""
    take(as_chunk(chunk) if call.endpoint.api == _CHAT else chunk)
    if isinstance(chunk, dict) and (counts := mapping(chunk, METRICS)) is not None:
        call.attempts.headers = {**call.attempts.headers, **as_headers(counts)}
