"""Stream usage: has OpenAI's chat streams state their tokens, and keeps the extra chunk from the caller.

Without `stream_options.include_usage` a chat stream says nothing of its usage; with it comes a last chunk
that has no choices, which breaks consumers that take the first choice of every chunk.
"""

from __future__ import annotations

from typing import Any

from callspan.fail_open import fail_open
from callspan.providers.base import Endpoint

_ASK = fail_open("ask for the usage of a stream")


def ask(endpoint: Endpoint, options: Any) -> bool:  # noqa: ANN401 - FinalRequestOptions of either SDK
    """Ask for usage where the caller has said nothing about it; True if that was done.

    The caller's own objects stay as they are. Raw responses have to be left out by the caller of this:
    who reads the bytes would see the chunk.
    """
    if endpoint.api != "chat_completions":
        return False
    with _ASK:
        body, extra = options.json_data, getattr(options, "extra_json", None) or {}
        if not isinstance(body, dict) or "stream_options" in extra:
            return False
        said = body.get("stream_options") or {}
        if not isinstance(said, dict) or "include_usage" in said:
            return False
        options.json_data = {**body, "stream_options": {**said, "include_usage": True}}
        return True
    return False


def is_extra(chunk: object) -> bool:
    """True for the chunk that says nothing but the usage."""
    return getattr(chunk, "choices", None) == [] and getattr(chunk, "usage", None) is not None
