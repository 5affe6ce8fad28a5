"""Token estimates: estimates missing token counts from the text of a call. Optional, and always marked.

They count one token per four letters of Latin script and about one per character of others. The error may be some tens
of per cent; images, audio and hidden reasoning are not counted.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from callspan.process.media_references import without_media
from callspan.providers import registry
from callspan.providers.base import MEDIA_APIS, Endpoint
from callspan.record.call import NO_BODY
from callspan.record.messages import Conversation, Message, Part, Reasoning, Refusal, Text, ToolCall, ToolResult
from callspan.record.usage import Usage
from callspan.runtime.fail_open import fail_open

_PER_MESSAGE: Final = 4
_LETTERS_PER_TOKEN: Final = 4
_NOT_ESTIMATED: Final = frozenset({"embeddings", "moderation", "rerank", "fetch_response"})
"""Operations with messages other than the model's input and output."""
_WITH_MEDIA: Final = MEDIA_APIS | {"realtime", "bidi_generate_content"}
"""APIs that use tokens mostly for audio and images."""
_ESTIMATE: Final = fail_open("estimate the tokens of a call")


def estimated(endpoint: Endpoint, request: msgspec.Raw, response: object, usage: Usage | None) -> Usage | None:
    """Return the usage of a call, completed with estimates from its bodies; unchanged without a response or text."""
    if response is None or endpoint.operation in _NOT_ESTIMATED or endpoint.api in _WITH_MEDIA:
        return usage
    with _ESTIMATE:
        decoded_request = None if request is NO_BODY else registry.decoded(request)
        return with_estimates(usage, endpoint.conversation(decoded_request, response))
    return usage


def with_estimates(usage: Usage | None, conversation: Conversation) -> Usage:
    """Return the usage with estimates of the input or output tokens that the provider did not return."""
    counters = usage if usage is not None else Usage()
    if counters.input_tokens is not None and counters.output_tokens is not None:
        return counters
    input_tokens, output_tokens = counters.input_tokens, counters.output_tokens
    if input_tokens is None:
        input_tokens = (
            _of_parts(conversation.system) + _of_messages(conversation.input) + _of_values(conversation.tools)
        )
    if output_tokens is None:
        output_tokens = _of_messages(conversation.output)
    return msgspec.structs.replace(
        counters, input_tokens=input_tokens, output_tokens=output_tokens,
        total_tokens=counters.total_tokens or input_tokens + output_tokens, estimated=True,
    )  # fmt: skip


def tokens_of(text: str) -> int:
    """Return the estimated number of tokens of a text; 0 for an empty one."""
    wide = sum(character > "\u024f" for character in text)
    narrow = len(text) - wide
    return wide + -(-narrow // _LETTERS_PER_TOKEN)


def _of_messages(messages: Iterable[Message]) -> int:
    return sum(_PER_MESSAGE + _of_parts(message.parts) for message in messages)


def _of_parts(parts: Iterable[Part]) -> int:
    return sum(tokens_of(text) for part in parts for text in _texts(part))


def _texts(part: Part) -> Iterable[str]:
    if isinstance(part, Text | Refusal):
        return (part.text,)
    if isinstance(part, Reasoning):
        return (part.text or "",)
    if isinstance(part, ToolCall):
        return (part.name or "", part.arguments or "")
    if isinstance(part, ToolResult):
        return (_as_text(without_media(part.content)),)
    return ()


def _of_values(values: Iterable[object]) -> int:
    return sum(tokens_of(_as_text(value)) for value in values)


def _as_text(value: object) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
