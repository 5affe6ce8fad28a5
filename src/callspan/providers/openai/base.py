"""Base: shared by OpenAI's endpoints: parameters and tools of requests, errors and times of responses."""

from __future__ import annotations

from typing import Final

from callspan.providers.base import ResponseInfo, parameters
from callspan.providers.error_kinds import error_in, error_info
from callspan.providers.wire_json import (
    dig,
    integer,
    items,
    objects,
    text,
    word,
)
from callspan.record.call import ErrorInfo, Request, Response
from callspan.record.messages import tool_name
from callspan.record.usage import Usage

_UNEXPLAINED: Final = ErrorInfo(kind="unknown", type="error")
"""The error of a choice that ends by one without saying which."""
_HTTP_ERRORS: Final = range(400, 600)
_TIMES: Final = range(1, 2**63)

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


def bare_info(
    body: object, *, recognized: bool, usage: Usage | None = None, created: int | None = None
) -> ResponseInfo:
    """Return the info of a response without choices or a model; an error is always `recognized`."""
    error = response_error(body)
    response = Response(created=created)
    return ResponseInfo(response=response, usage=usage, error=error, recognized=recognized or error is not None)


def unix_time(body: object, *keys: str) -> int | None:
    """Return the Unix time in seconds under the first present key of `keys`; gateways send 0 for unknown."""
    fields = body if isinstance(body, dict) else {}
    for key in keys:
        given = fields.get(key)
        if found := given if type(given) is int else integer(given):
            return found if found in _TIMES else None
    return None


def response_error(body: object) -> ErrorInfo | None:
    """Return the error in a response: at the top level, the response itself, or in a choice."""
    # Google's compatible endpoint wraps its errors in a list.
    if isinstance(body, list):
        body = next(iter(body), body)
    if not isinstance(body, dict):
        return None
    if found := error_in(body):
        return error_of(found)
    choices = body.get("choices")
    for choice in choices if isinstance(choices, list) else ():
        if not isinstance(choice, dict):
            continue
        if found := choice.get("error"):
            return error_of(found)
        if choice.get("finish_reason") == "error":
            return _UNEXPLAINED
    return None


def error_of(error: object) -> ErrorInfo:
    """Return the description of one error object or text."""
    return error_info(status=_status(error), body=error)


def _status(error: object) -> int | None:
    """Return the HTTP status that gateways put into errors within a stream."""
    for key in ("status_code", "status", "code"):
        found = integer(error, key)
        if found in _HTTP_ERRORS:
            return found
    return None


class OpenAIEndpoint:
    """The adapters of OpenAI's endpoints share the form of requests."""

    message_key = "input"
    """The key of the messages in a request."""

    def __init__(self, api: str) -> None:
        self.api = api

    def request(self, body: object) -> Request:
        """Return model, stream, parameters and counts of a request, without its body. Total."""
        if not isinstance(body, dict):
            return Request()
        messages, model = body.get(self.message_key), body.get("model")
        return Request(
            model=model if type(model) is str and model and model.isascii() else word(body, "model"),
            stream=body.get("stream") is True,
            params=_params(body),
            message_count=len(messages)
            if type(messages) is list and messages and type(messages[0]) is dict
            else _message_count(messages),
            tool_names=_tool_names(body) if "tools" in body or "functions" in body else None,
        )


def _params(body: dict[object, object]) -> dict[str, object]:
    params = parameters(body, _CONTENT)
    prompt = body.get("prompt")
    if isinstance(prompt, dict):
        # A template of the provider: its variables are content.
        params["prompt"] = {key: prompt[key] for key in _TEMPLATE if isinstance(prompt.get(key), str)}
    return params


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
