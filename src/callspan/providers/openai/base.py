"""Base: shared by OpenAI's endpoints: parameters and tools of requests, errors and times of responses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from msgspec.structs import replace

from callspan.providers.base import Operation, ResponseInfo, parameters
from callspan.providers.error_kinds import error_in, error_info
from callspan.providers.finishing import GUARDRAIL, STOP_REASON, answer_info, is_blocked
from callspan.providers.openai.usage import usage_of
from callspan.providers.tool_runs import requested_kinds
from callspan.providers.wire_json import (
    dig,
    integer,
    items,
    objects,
    text,
    word,
)
from callspan.record.call import ErrorInfo, Request, Response
from callspan.record.finish_reasons import is_in_table
from callspan.record.messages import tool_name
from callspan.record.usage import Usage

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
_DEFERRED: Final = {"request_id"}
"""The fields of xAI's answer to a request that another one will get the completion of."""
_TEMPLATE: Final = ("id", "version")
_NATIVE: Final = "native_finish_reason"
"""OpenRouter's key of the model's own reason, beside the one it has made of it."""
_SPECIFIC: Final = "provider_specific_fields"
"""LiteLLM's key of an object with the same."""


def unix_time(body: object, *keys: str) -> int | None:
    """Return the Unix time in whole seconds under the first present key of `keys`; gateways send 0 for unknown.

    The SDK's types declare the times of a response as floats.
    """
    fields = body if isinstance(body, dict) else {}
    for key in keys:
        value = fields.get(key)
        if seconds := value if type(value) is int else integer(value // 1 if isinstance(value, float) else value):
            return seconds if seconds in _TIMES else None
    return None


def response_error(body: object) -> ErrorInfo | None:
    """Return the error in a response: at the top level, the response itself, or in a choice."""
    # Google's compatible endpoint wraps its errors in a list.
    if isinstance(body, list):
        body = next(iter(body), body)
    if not isinstance(body, dict):
        return None
    if error := error_in(body):
        return error_of(error)
    choices = body.get("choices")
    for choice in choices if isinstance(choices, list) else ():
        if isinstance(choice, dict) and (error := choice.get("error")):
            return error_of(error)
    return None


def error_of(error: object) -> ErrorInfo:
    """Return the description of one error object or text."""
    return error_info(status=_status(error), body=error)


def _status(error: object) -> int | None:
    """Return the HTTP status that gateways put into stream errors."""
    for key in ("status_code", "status", "code"):
        status = integer(error, key)
        if status in _HTTP_ERRORS:
            return status
    return None


class OpenAIEndpoint:
    """Base of the adapters of OpenAI's endpoints."""

    message_key = "input"
    """The key of the messages in a request."""
    response_key = "choices"
    """A key that every response has."""
    response_type: type = list
    content = _CONTENT
    """The keys of a request with content, which are no parameters."""
    operation: Operation = "generate_content"
    _usage: Callable[[object], Usage | None] = staticmethod(usage_of)

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
            params=_params(body, self.content),
            message_count=len(messages)
            if type(messages) is list and messages and type(messages[0]) is dict
            else _message_count(messages),
            tool_names=_tool_names(body) if "tools" in body or "functions" in body else None,
            hosted_tools=requested_kinds(body["tools"]) if "tools" in body else None,
        )

    def response_info(self, body: object) -> ResponseInfo:
        """Return the info of a complete or folded response. Total."""
        reasons: list[str | None] = []
        native: list[str] = []
        refused = False
        for choice in in_order(body):
            reason, message = word(choice, "finish_reason"), choice.get("message")
            if reason is None and "finish_reason" not in choice:
                reason = word(choice, STOP_REASON)
            reasons.append(reason)
            if _NATIVE in choice or _SPECIFIC in choice:
                native += _native_reasons(choice)
            if isinstance(message, dict) and message.get("refusal"):
                refused = refused or word(message, "refusal") is not None
        identity, content = word(body, "id"), body.get(self.response_key) if isinstance(body, dict) else None
        # A folded stream always has (empty) choices, but an id only if received.
        has_content = isinstance(content, self.response_type) and (
            content != [] or self.response_key != "choices" or identity is not None
        )
        response = Response(
            id=identity,
            model=word(body, "model"),
            created=unix_time(body, "created"),
            finish_reasons=reasons,
            service_tier=word(body, "service_tier"),
            system_fingerprint=word(body, "system_fingerprint"),
        )
        info = answer_info(
            response,
            (*reasons, *native),
            self._usage(body),
            response_error(body),
            recognized=has_content,
            refused=refused or (isinstance(body, dict) and GUARDRAIL in body and is_blocked(body)),
        )
        if has_content or not (isinstance(body, dict) and body.keys() == _DEFERRED):
            return info
        return replace(info, background=True, outcome="in_progress", recognized=True)


def _native_reasons(choice: dict[str, object]) -> list[str]:
    """Return the known ones of the finish reasons that a gateway received and has stated in its own words."""
    reasons = (word(choice, _NATIVE), word(choice.get(_SPECIFIC), _NATIVE))
    return [reason for reason in reasons if reason is not None and is_in_table(reason)]


def _params(body: dict[object, object], content: frozenset[str]) -> dict[str, object]:
    params = parameters(body, content)
    prompt = body.get("prompt")
    if isinstance(prompt, dict):
        # A prompt template. Its variables are content.
        params["prompt"] = {key: prompt[key] for key in _TEMPLATE if isinstance(prompt.get(key), str)}
    return params


def _message_count(messages: object) -> int | None:
    """Return the number of messages; one text, file or array of token ids is one message."""
    if isinstance(messages, str | dict):
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


def in_order(body: object) -> list[dict[str, object]]:
    """Return the choices of a response in order of their index, or else their position."""
    choices = body.get("choices") if type(body) is dict else None
    if type(choices) is list and len(choices) == 1 and type(choices[0]) is dict:
        return choices
    choices = [choice for choice in items(body, "choices") if isinstance(choice, dict)]
    if len(choices) <= 1:
        return choices
    placed = list(enumerate(choices))
    placed.sort(key=lambda entry: entry[0] if (index := integer(entry[1], "index")) is None else index)
    return [choice for _, choice in placed]
