"""Unknown parts of responses: flags those in which an adapter recognises nothing, and estimates missing token counts.

Without the flag, and its warning, a response of another API would look like a success without content or tokens.

Estimates are an option, and always marked as such. The count rests on the text alone: a token for four letters of Latin
script, about one for each character of others. Its error is some tens of per cent; images, audio and hidden reasoning
are not counted.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any, Final

import msgspec

from callspan.fail_open import Once, fail_open, log
from callspan.providers import registry
from callspan.providers.base import MEDIA_APIS, Endpoint
from callspan.record.call import NO_BODY, CallRecord, Response
from callspan.record.messages import Conversation, Message, Part, Reasoning, Refusal, Text, ToolCall, ToolResult
from callspan.record.usage import Usage

_PER_MESSAGE: Final = 4
_LETTERS_PER_TOKEN: Final = 4
_NOT_ESTIMATED: Final = frozenset({"embeddings", "moderation", "retrieval", "evaluation"})
"""Operations whose messages are not the model's input and output."""
_ESTIMATE: Final = fail_open("estimate the tokens of a call")


def estimated(endpoint: Endpoint, request: msgspec.Raw, response: object, counted: Usage | None) -> Usage | None:
    """Return the usage of a call, completed by estimates from its bodies; unchanged without a response or text."""
    if response is None or endpoint.operation in _NOT_ESTIMATED or endpoint.api in MEDIA_APIS:
        return counted
    with _ESTIMATE:
        given = None if request is NO_BODY else registry.decoded(request)
        return with_estimates(counted, endpoint.conversation(given, response))
    return counted


def with_estimates(usage: Usage | None, conversation: Conversation) -> Usage:
    """Return the usage with estimates of the input or output tokens that the provider did not return."""
    known = usage if usage is not None else Usage()
    if known.input_tokens is not None and known.output_tokens is not None:
        return known
    input_tokens, output_tokens = known.input_tokens, known.output_tokens
    if input_tokens is None:
        input_tokens = (
            _of_parts(conversation.system) + _of_messages(conversation.input) + _of_values(conversation.tools)
        )
    if output_tokens is None:
        output_tokens = _of_messages(conversation.output)
    return msgspec.structs.replace(
        known, input_tokens=input_tokens, output_tokens=output_tokens,
        total_tokens=known.total_tokens or input_tokens + output_tokens, estimated=True,
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
        return (_as_text(part.content),)
    return ()


def _of_values(values: Iterable[object]) -> int:
    return sum(tokens_of(_as_text(value)) for value in values)


def _as_text(value: object) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


_MOST_KEYS: Final = 8
_LONGEST_KEY: Final = 40
_warned: Final = Once()


def flag_unrecognized(fields: dict[str, Any], record: CallRecord, body: object) -> None:
    """Flag the response in the fields of a record; warn once for each provider and API.

    `body`: the received body, None if it is null. A stream is not marked `cut_off`: its terminal event is unknown.
    """
    if _warned.first((record.provider, record.api)):
        log(
            logging.WARNING,
            "A response of %s has nothing of the API %r in it (%s): content and usage are unknown, its body is kept "
            "as it is. Use another `api` or an endpoint of your own, see docs/recording.md (logged once)",
            record.provider, record.api, _described(body),
        )  # fmt: skip
    fields["response"] = msgspec.structs.replace(fields["response"] or Response(), unrecognized=True)
    if fields["stream"] is not None and fields["stream"].end == "cut_off":
        fields["stream"] = msgspec.structs.replace(fields["stream"], end="complete")


def forget_warnings() -> None:
    """Forget which warnings were logged. For tests."""
    _warned.forget()


def _described(body: object) -> str:
    """Return the names of the fields, never values, because fields of an unknown body cannot be masked."""
    if not isinstance(body, dict):
        return f"no JSON object but {type(body).__name__}"
    names = [str(key)[:_LONGEST_KEY] for key in body if str(key).isidentifier()]
    return f"fields: {', '.join(names[:_MOST_KEYS])}" if names else "no fields"
