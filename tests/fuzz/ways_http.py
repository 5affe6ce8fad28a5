"""Ways of a program that sends requests to models by an HTTP library itself, and requests that only look like them."""

from __future__ import annotations

import json
from typing import Any

from tests.fuzz.ways import Call, Caller, contents

_GEMINI = "/v1beta/models/gemini-2.5-flash:"
_FIELDS = {
    "/v1/chat/completions": "messages",
    "/v1/messages": "messages",
    f"{_GEMINI}generateContent": "contents",
    f"{_GEMINI}streamGenerateContent": "contents",
}
"""The paths that reach a model, and the field that a body must have; a list of the fuzzer's own."""


def reaches_by_http(method: str, path: str, body: bytes) -> bool:
    """Whether a request of an HTTP client is a call: by its path, the fields of its JSON body, and the model."""
    try:
        fields = json.loads(body)
    except ValueError:
        return False
    field = _FIELDS.get(path)
    if method != "POST" or field is None or not isinstance(fields, dict):
        return False
    return bool(fields.get(field)) and (":" in path or bool(fields.get("model")))


def _message(request: str) -> dict[str, Any]:
    question = {"role": "user", "content": contents(request)}
    tools = [{"type": "function", "function": {"name": "move", "parameters": {"type": "object"}}}]
    made = {
        "model": None if request == "no model" else "m-1",
        "messages": [question, {"role": "assistant", "content": "Well."}] if request == "turns" else [question],
        **({"tools": tools} if request == "tools" else {}),
        **({"stream_options": {"include_usage": True}} if request == "usage" else {}),
    }
    return made


def _gemini(request: str) -> dict[str, Any]:
    turn = {"role": "user", "parts": [{"text": contents(request)}]}
    return {} if request == "no model" else {"contents": [turn], "generationConfig": {"temperature": 0.5}}


def _sent(path: str, make: Any, **fixed: Any) -> Call:
    """A request of this path, its answer read at once, or opened as a stream."""

    def call(caller: Caller, wrap: str, request: str) -> Any:
        given: dict[str, Any] = {"json": {**make(request), **fixed}}
        if request == "generator":  # an upload, which no one but the server reads
            given = {"content": _upload(caller, json.dumps(given["json"]).encode())}
        elif request == "extra":
            given = {"content": json.dumps(given["json"]), "headers": {"x-own": "1"}, "params": {"q": "1"}}
        elif request == "timeout":
            given["timeout"] = 3.5
        elif request == "wrong argument":
            given["no_such_argument"] = 1
        client = caller.client
        return client.post(path, **given) if wrap == "none" else client.stream("POST", path, **given)

    return call


def _upload(caller: Caller, content: bytes) -> Any:
    if not caller.is_async:
        return iter([content])

    async def pieces() -> Any:
        yield content

    return pieces()


def _other(path: str, **options: Any) -> Call:
    def call(caller: Caller, wrap: str, request: str) -> Any:
        more = {"no_such_argument": 1} if request == "wrong argument" else {}
        given = {"method": "POST", "json": _message("plain"), **options, **more}
        method = given.pop("method")
        return (
            caller.client.request(method, path, **given)
            if wrap == "none"
            else caller.client.stream(method, path, **given)
        )

    return call


HTTP: dict[str, Call] = {
    "chat.create": _sent("/v1/chat/completions", _message),
    "chat.stream": _sent("/v1/chat/completions", _message, stream=True),
    "messages.create": _sent("/v1/messages", _message, max_tokens=64),
    "messages.stream": _sent("/v1/messages", _message, max_tokens=64, stream=True),
    "contents.create": _sent(f"{_GEMINI}generateContent", _gemini),
    "contents.stream": _sent(f"{_GEMINI}streamGenerateContent", _gemini),
    "models.chat by get": _other("/v1/chat/completions", method="GET"),
    "models.no messages": _other("/v1/chat/completions", json={"model": "m-1", "title": "A chat"}),
    "models.list for a body": _other("/v1/messages", json=[1]),
    "models.text": _other("/v1/chat/completions", json=None, content=b"messages"),
    "models.other path": _other("/v1/chat/completions/search"),
    "models.count": _other(f"{_GEMINI}countTokens", json=_gemini("plain")),
}
