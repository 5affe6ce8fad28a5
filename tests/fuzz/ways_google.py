"""Ways of google-genai: contents, chats, automatic function calling, embeddings, and requests that are no calls."""

from __future__ import annotations

from typing import Any

from tests.fuzz.ways import Call, Caller, contents

_MODEL = "gemini-2.5-flash"
_SCHEMA = {"type": "OBJECT", "properties": {"to": {"type": "STRING"}}}
_CONFIGS: dict[str, dict[str, Any]] = {
    "extra": {
        "temperature": 0.5,
        "http_options": {"headers": {"x-own": "1"}, "extra_body": {"own": [1, None], "labels": {"a": "b"}}},
    },
    "timeout": {"http_options": {"timeout": 3500}},
    "tools": {"tools": [{"function_declarations": [{"name": "move", "parameters": _SCHEMA}]}]},
    "usage": {"candidate_count": 2, "response_mime_type": "application/json", "system_instruction": "Be brief."},
}
"""What the kinds of requests have beside an ordinary one."""


def _turns(request: str) -> Any:
    text = contents(request)
    if request == "turns":
        parts = [{"text": text}, {"inline_data": {"mime_type": "image/png", "data": b"\xfb\xff\xfe"}}]
        return [{"role": "user", "parts": parts}, {"role": "model", "parts": [{"text": "Well."}]}]
    return (part for part in [text]) if request == "generator" else text


def _options(caller: Caller, request: str) -> dict[str, Any]:
    given: dict[str, Any] = {"model": None if request == "no model" else _MODEL}
    if request in _CONFIGS:
        given["config"] = dict(_CONFIGS[request])
    if request == "wrong argument":
        given["no_such_argument"] = 1
    return given


def _call(method: str, content: str = "contents") -> Call:
    def call(caller: Caller, wrap: str, request: str) -> Any:
        return getattr(caller.client.models, method)(**_options(caller, request), **{content: _turns(request)})

    return call


def weather(city: str) -> str:
    """The weather of a city."""
    return f"Sunny in {city}"


async def weather_later(city: str) -> str:
    """The weather of a city."""
    return f"Sunny in {city}"


for _function in (weather, weather_later):
    _function.__annotations__ = {"city": str, "return": str}  # older versions read no texts


def _with_functions(caller: Caller, options: dict[str, Any]) -> dict[str, Any]:
    config = options.get("config", {})
    return {**options, "config": {**config, "tools": [weather_later if caller.is_async else weather]}}


def _loop(method: str) -> Call:
    def call(caller: Caller, wrap: str, request: str) -> Any:
        given = _with_functions(caller, _options(caller, request))
        return getattr(caller.client.models, method)(**given, contents=_turns(request))

    return call


def _chat(method: str, *, loop: bool = False) -> Call:
    def call(caller: Caller, wrap: str, request: str) -> Any:
        given = _options(caller, request)
        wrong = {"no_such_argument": given.pop("no_such_argument")} if "no_such_argument" in given else {}
        chat = caller.client.chats.create(**_with_functions(caller, given) if loop else given)
        return getattr(chat, method)(contents(request), **wrong)

    return call


GOOGLE: dict[str, Call] = {
    "contents.create": _call("generate_content"),
    "contents.stream": _call("generate_content_stream"),
    "contents.loop": _loop("generate_content"),
    "contents.streamed loop": _loop("generate_content_stream"),
    "contents.chat": _chat("send_message"),
    "contents.streamed chat": _chat("send_message_stream"),
    "contents.chat loop": _chat("send_message", loop=True),
    "contents.streamed chat loop": _chat("send_message_stream", loop=True),
    "content_embeddings.create": _call("embed_content"),
    "count_tokens": _call("count_tokens"),
    "models.get": lambda caller, _wrap, request: caller.client.models.get(
        model=_MODEL, **{"no_such_argument": 1} if request == "wrong argument" else {}
    ),
}

_VERBS = ("generateContent", "streamGenerateContent", "embedContent", "batchEmbedContents")


def reaches_gemini(method: str, url: str) -> bool:
    """Whether a request of google-genai is a call."""
    path, _, verb = url.partition("?")[0].rpartition(":")
    return method.lower() == "post" and "/models/" in path and verb in _VERBS
