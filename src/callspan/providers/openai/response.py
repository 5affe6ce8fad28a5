"""Bodies of OpenAI's endpoints: the model, parameters and tools of requests; the choices and errors of responses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Final

import msgspec

from callspan.fail_open import ours
from callspan.providers.base import ResponseInfo
from callspan.providers.errors import error_info
from callspan.providers.openai.usage import usage_of
from callspan.providers.wire_json import UNFIT, detached, dig, integer, items, objects, text, word
from callspan.record.call import ErrorInfo, Request, Response
from callspan.record.codec import encodable, encode_json
from callspan.record.messages import CONTENT_FILTER, LENGTH, normalised, tool_name
from callspan.record.usage import Usage


class _Message(msgspec.Struct):
    refusal: str | None = None


class _Choice(msgspec.Struct):
    finish_reason: str | None = None
    message: _Message | None = None
    error: Any = None


class _Answer(msgspec.Struct):
    """The fields read from a response of the usual shape."""

    choices: Annotated[list[_Choice], msgspec.Meta(min_length=1, max_length=1)]
    id: str | None = None
    model: str | None = None
    created: Annotated[int, msgspec.Meta(ge=1, le=2**63 - 1)] | None = None
    object: str | None = None
    service_tier: str | None = None
    system_fingerprint: str | None = None
    error: Any = None


def in_order(body: object) -> list[dict[str, object]]:
    """Return the choices of a response in order of their index; one without an index has that of its position."""
    choices = body.get("choices") if type(body) is dict else None
    if type(choices) is list and len(choices) == 1 and type(choices[0]) is dict:
        return choices
    choices = [choice for choice in items(body, "choices") if isinstance(choice, dict)]
    if len(choices) <= 1:
        return choices
    placed = list(enumerate(choices))
    placed.sort(key=lambda entry: entry[0] if (index := integer(entry[1], "index")) is None else index)
    return [choice for _, choice in placed]


def choices_info(body: object, *, refused: bool = False, holds: str = "choices") -> ResponseInfo:
    """Return the info of a response with choices.

    `refused`: its content is a refusal. `holds`: key of the list that every response of this API has.
    """
    return _fast(body, refused) or _generic(body, refused, holds)


def _fast(body: object, refused: bool) -> ResponseInfo | None:
    """Return the info of a well-formed response with one choice, read in one step; None for any other."""
    try:
        answer = msgspec.convert(body, _Answer)
    except ours(*UNFIT):
        return None
    choice = answer.choices[0]
    if answer.error or choice.error or answer.object == "error":
        return None
    reason = choice.finish_reason or None
    if not f"{answer.id}{answer.model}{reason}{answer.service_tier}{answer.system_fingerprint}".isascii():
        return None  # There may be a lone surrogate.
    meant = None if reason is None else normalised(reason)
    return ResponseInfo(
        response=Response(
            id=answer.id or None,
            model=answer.model or None,
            created=answer.created,
            finish_reasons=[reason],
            service_tier=answer.service_tier or None,
            system_fingerprint=answer.system_fingerprint or None,
        ),
        usage=usage_of(body),
        truncated=meant == LENGTH,
        refused=refused or meant == CONTENT_FILTER or bool(choice.message and choice.message.refusal),
    )


def _generic(body: object, refused: bool, holds: str = "choices") -> ResponseInfo:
    """Return the info of any response, read field by field."""
    reasons = [finish_reason(choice.get("finish_reason")) for choice in in_order(body)]
    meant = finish_meanings(reasons)
    refused = refused or any(text(choice, "message", "refusal") for choice in items(body, "choices"))
    error = response_error(body)
    return ResponseInfo(
        response=Response(
            id=word(body, "id"),
            model=word(body, "model"),
            created=unix_time(body, "created"),
            finish_reasons=reasons,
            service_tier=word(body, "service_tier"),
            system_fingerprint=word(body, "system_fingerprint"),
        ),
        usage=usage_of(body),
        error=error,
        truncated=LENGTH in meant,
        refused=refused or CONTENT_FILTER in meant,
        recognized=error is not None or _holds(body, holds),
    )


def bare_info(body: object, *, holds: str, usage: Usage | None = None) -> ResponseInfo:
    """Return the info of a response without choices or a model; `holds` as above."""
    error = response_error(body)
    recognized = error is not None or (isinstance(body, dict) and holds in body)
    return ResponseInfo(response=Response(), usage=usage, error=error, recognized=recognized)


def _holds(body: object, key: str) -> bool:
    """Return whether the list is present. A folded stream always has (empty) choices, but an id only if received."""
    found = body.get(key) if isinstance(body, dict) else None
    return isinstance(found, list) and (bool(found) or key != "choices" or word(body, "id") is not None)


_HTTP_ERRORS: Final = range(400, 600)
_TIMES: Final = range(1, 2**63)


def finish_reason(value: object) -> str | None:
    """Return a finish reason as the provider names it; None for an empty or missing one."""
    return encodable(value) if isinstance(value, str) and value else None


def unix_time(body: object, *keys: str) -> int | None:
    """Return the Unix time in seconds under the first present key of `keys`; gateways send 0 for unknown."""
    for key in keys:
        if found := integer(body, key):
            return found if found in _TIMES else None
    return None


def finish_meanings(reasons: Sequence[str | None]) -> set[str]:
    """Return the normalised finish reasons."""
    return {normalised(reason) for reason in reasons if reason is not None}


def response_error(body: object) -> ErrorInfo | None:
    """Return the error in a response: at the top level, the response itself (`"object": "error"`), or in a choice."""
    # Google's compatible endpoint wraps its errors in a list.
    if isinstance(body, list):
        body = next(iter(body), body)
    if not isinstance(body, dict):
        return None
    found = body.get("error") or (body if body.get("object") == "error" else None)
    if not found:
        for choice in items(body, "choices"):
            if isinstance(choice, dict) and (found := choice.get("error")):
                break
    return error_of(found) if found else None


def error_of(error: object) -> ErrorInfo:
    """Return the description of one error object or text."""
    return error_info(status=_status(error), body=error, exception=None, message=None, request_id=None)


def _status(error: object) -> int | None:
    """Return the HTTP status that gateways put into errors within a stream."""
    for key in ("status_code", "status", "code"):
        found = integer(error, key)
        if found in _HTTP_ERRORS:
            return found
    return None


_CONTENT: Final = frozenset(
    {
        "model",
        "stream",
        "messages",
        "input",
        "prompt",
        "tools",
        "instructions",
        "functions",
        "questions",
        "query",
        "filters",
        "grader",
        "item",
        "model_sample",
        "file",
        "image",
        "images",
        "mask",
        "markup",
        "keywords",
        "known_speaker_names",
        "known_speaker_references",
    }
)
_TEMPLATE: Final = ("id", "version")
_MAX_PARAM_BYTES: Final = 4096


class OpenAIEndpoint:
    """The adapters of OpenAI's endpoints share the form of requests."""

    message_key = "input"
    """The key of the messages in a request."""

    def request(self, body: object) -> Request:
        """Return model, stream, parameters and counts of a request, without its body. Total."""
        if not isinstance(body, dict):
            return Request()
        messages = body.get(self.message_key)
        return Request(
            model=word(body, "model"),
            stream=body.get("stream") is True,
            params=_params(body),
            message_count=len(messages)
            if type(messages) is list and messages and type(messages[0]) is dict
            else _message_count(messages),
            tool_names=_tool_names(body) if "tools" in body or "functions" in body else None,
        )


def _params(body: dict[object, object]) -> dict[str, object]:
    params: dict[str, object] = {}
    for key, value in body.items():
        if key not in _CONTENT and value is not None and isinstance(key, str):
            if isinstance(value, int | float):
                params[key] = value
            elif _is_small(value):
                params[key] = detached(value)
    prompt = body.get("prompt")
    if isinstance(prompt, dict):
        # A template of the provider: its variables are content.
        params["prompt"] = {key: prompt[key] for key in _TEMPLATE if isinstance(prompt.get(key), str)}
    return params


def _is_small(value: object) -> bool:
    if isinstance(value, str):
        return len(value) <= _MAX_PARAM_BYTES
    return len(encode_json(value)) <= _MAX_PARAM_BYTES


def _message_count(messages: object) -> int | None:
    """Return the number of messages; one text or one array of token ids is one message."""
    if isinstance(messages, str):
        return 1
    if not isinstance(messages, list):
        return None
    return 1 if messages and isinstance(messages[0], int) else len(messages)


def _tool_names(body: object) -> list[str] | None:
    if not isinstance(dig(body, "tools"), list) and not isinstance(dig(body, "functions"), list):
        return None
    names = [tool_name(tool) for tool in objects(body, "tools")]
    names += [text(function, "name") for function in items(body, "functions")]
    return [name for name in names if name]
