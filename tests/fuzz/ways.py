"""Ways: every kind of call of each SDK, by name, as an application would write it."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from types import ModuleType
from typing import Any

from pydantic import BaseModel
from tests.fuzz.transport import connections_of
from tests.support import loops
from tests.support.mode import Colour


class Caller(Colour):
    """A client of one SDK and colour."""

    def __init__(self, sdk: str, colour: str, client: Any, library: ModuleType) -> None:
        """`library`: the HTTP library of the SDK."""
        super().__init__(colour)
        self.sdk, self.client, self.library = sdk, client, library

    def consumed(self, result: Any) -> Any:
        """Return what the application goes on with of the result of a call."""
        return result

    def connections(self) -> list[str]:
        """Return the connections that are in use."""
        return connections_of(self.client._client)

    async def close(self) -> None:
        """Close the client."""
        await self.wait(self.client.close())


Call = Callable[[Caller, str, str], Any]
"""Takes how the call is wrapped and which request is made; returns what the SDK does."""

INFERENCE = (
    "/chat/completions",
    "/completions",
    "/embeddings",
    "/responses",
    "/responses/compact",
    "/v1/messages",
    "/decisions",
    "/moderations",
    "/images/generations",
    "/images/edits",
    "/images/variations",
    "/audio/transcriptions",
    "/audio/translations",
    "/audio/speech",
)
"""Ends of the paths that reach a model; a list of the fuzzer's own, so that a mistake in callspan's shows."""


def reaches_a_model(method: str, url: str) -> bool:
    """Whether a request of the SDK is a call that has to have a span and a record."""
    path = url.partition("?")[0]
    return method.lower() == "post" and path.endswith(INFERENCE)


_CONTENTS: dict[str, object] = {"unsendable": object(), "surrogate": "\ud800", "big": "word " * 20_000}
_EXTRAS: dict[str, dict[str, Any]] = {
    "extra": {
        "extra_body": {"own": [1, None], "model": "other"},
        "extra_headers": {"x-own": "1"},
        "extra_query": {"q": "1"},
    },
    "timeout": {"timeout": 3.5},
    "no model": {"model": None},
    "wrong argument": {"no_such_argument": 1},
}
"""What the kinds of requests have beside an ordinary one."""


def contents(request: str) -> Any:
    """What the user says in a kind of request."""
    return _CONTENTS.get(request, "How are you? \u00e4\U0001f600")


def _messages(request: str) -> Any:
    question = {"role": "user", "content": contents(request)}
    if request == "generator":
        return (message for message in [question])
    return [question, {"role": "assistant", "content": "Well."}] if request == "turns" else [question]


def _tools(request: str, sdk: str) -> dict[str, Any]:
    if request != "tools":
        return {}
    schema = {"type": "object", "properties": {"to": {"type": "string"}}, "required": ["to"]}
    if sdk == "openai":
        return {"tools": [{"type": "function", "function": {"name": "move", "parameters": schema}}]}
    return {"tools": [{"name": "move", "description": "Move.", "input_schema": schema}]}


def _chat(request: str) -> dict[str, Any]:
    options = {"stream_options": {"include_usage": True}} if request == "usage" else {}
    return {
        "model": "gpt-5",
        "messages": _messages(request),
        **options,
        **_tools(request, "openai"),
        **_EXTRAS.get(request, {}),
    }


def _responses(request: str) -> dict[str, Any]:
    made = _messages(request)
    return {"model": "gpt-5", "input": made if request != "plain" else "How are you?", **_EXTRAS.get(request, {})}


def _message(request: str) -> dict[str, Any]:
    return {
        "model": "claude-sonnet-5",
        "max_tokens": 64,
        "messages": _messages(request),
        **_tools(request, "anthropic"),
        **_EXTRAS.get(request, {}),
    }


def _wrapped(owner: Any, wrap: str) -> Any:
    return owner if wrap == "none" else getattr(owner, f"with_{wrap}_response")


def _found(client: Any, *paths: str) -> Any:
    """Return what stands at the first path the client has."""
    for path in paths:
        owner = client
        for name in path.split("."):
            owner = getattr(owner, name, None)
        if owner is not None:
            return owner
    raise AttributeError(f"{type(client).__name__} has no {paths[0]}")


def _call(path: str, method: str, made: Callable[[str], dict[str, Any]], **fixed: Any) -> Call:
    def call(caller: Caller, wrap: str, request: str) -> Any:
        owner = _found(caller.client, *(one.strip() for one in path.split("|")))
        return getattr(_wrapped(owner, wrap), method)(**made(request), **fixed)

    return call


def _plain(**fixed: Any) -> Callable[[str], dict[str, Any]]:
    return lambda request: {**fixed, **_EXTRAS.get(request, {})}


def _form(**fixed: Any) -> Callable[[str], dict[str, Any]]:
    """The arguments of a request that is sent as a form, with the same boundary on both sides."""

    def options(request: str) -> dict[str, Any]:
        given = {**fixed, **_EXTRAS.get(request, {})}
        boundary = {"Content-Type": "multipart/form-data; boundary=fuzz"}
        return {**given, "extra_headers": {**given.get("extra_headers", {}), **boundary}}

    return options


class Point(BaseModel):
    """What `parse` is asked for."""

    x: int
    y: int = 0


def _parsed(made: Callable[[str], dict[str, Any]], name: str) -> Callable[[str], dict[str, Any]]:
    return lambda request: {**made(request), name: Point}


def _post(path: str, made: Callable[[str], dict[str, Any]], kind: str) -> Call:
    def call(caller: Caller, wrap: str, request: str) -> Any:
        body = {name: value for name, value in made(request).items() if not name.startswith("extra_")}
        if kind != "stream":
            cast_to = {"object": object, "text": str, "response": caller.library.Response}[kind]
            return caller.client.post(path, cast_to=cast_to, body=body)
        streaming = importlib.import_module(f"{caller.sdk}._streaming")
        cls = streaming.AsyncStream if caller.is_async else streaming.Stream
        fixed: dict[str, Any] = {"cast_to": object, "stream": True, "stream_cls": cls[object]}
        return caller.client.post(path, body={**body, "stream": True}, **fixed)

    return call


def _weather(city: str) -> str:
    return f"Sunny in {city}"


def _runner(**options: Any) -> Call:
    return lambda caller, _wrap, request: loops.anthropic_runner(
        caller, caller.client, _weather, **_message(request), **options
    )


def _responses_runner(method: str, *, stream: bool) -> Call:
    def call(caller: Caller, wrap: str, request: str) -> Any:
        run = getattr(loops.of_openai(caller, _weather), method)
        return run(caller.client, _responses(request), max_steps=3, stream=stream)

    return call


def _decisions_runner(caller: Caller, wrap: str, request: str) -> Any:
    return loops.of_decisions(caller).run(caller.client, {"model": "gpt-6-luna", "input": "Go."}, max_steps=3)


def _thread(caller: Caller, wrap: str, request: str) -> Any:
    thread = caller.client.beta.messages.thread(**{n: v for n, v in _message(request).items() if n != "messages"})
    return thread.send("How are you?")


_QUESTION = {"type": "choice", "instructions": "Where?", "choices": [{"value": "north"}, {"value": "done"}]}
OPENAI: dict[str, Call] = {
    "chat.create": _call("chat.completions", "create", _chat),
    "chat.stream": _call("chat.completions", "create", _chat, stream=True),
    "chat.parse": _call("beta.chat.completions | chat.completions", "parse", _parsed(_chat, "response_format")),
    "chat.helper": _call("beta.chat.completions | chat.completions", "stream", _chat),
    "completions.create": _call("completions", "create", _plain(model="gpt-3.5", prompt="How are you?")),
    "completions.stream": _call("completions", "create", _plain(model="gpt-3.5", prompt=["a", "b"]), stream=True),
    "embeddings.create": _call("embeddings", "create", _plain(model="embed", input=["a", "b"])),
    "embeddings.floats": _call("embeddings", "create", _plain(model="embed", input="a", encoding_format="float")),
    "responses.create": _call("responses", "create", _responses),
    "responses.stream": _call("responses", "create", _responses, stream=True),
    "responses.parse": _call("responses", "parse", _parsed(_responses, "text_format")),
    "responses.helper": _call("responses", "stream", _responses),
    "responses.runner": _responses_runner("run", stream=False),
    "responses.streamed runner": _responses_runner("run", stream=True),
    "responses.iterator": _responses_runner("iterate", stream=False),
    "responses.streamed iterator": _responses_runner("iterate", stream=True),
    "decisions.create": _call("decisions", "create", _plain(model="gpt-6-luna", input="Go.", questions=[_QUESTION])),
    "decisions.runner": _decisions_runner,
    "post.chat.object": _post("/chat/completions", _chat, "object"),
    "post.chat.text": _post("/chat/completions", _chat, "text"),
    "post.chat.response": _post("/chat/completions", _chat, "response"),
    "post.chat.stream": _post("/chat/completions", _chat, "stream"),
    "models.list": _call("models", "list", lambda _: {}),
    "models.retrieve": _call("models", "retrieve", lambda _: {"model": "gpt-5"}),
    "moderations.create": _call("moderations", "create", _plain(input="a")),
    "vector_stores.search": _call("vector_stores", "search", _plain(vector_store_id="vs_1", query="a")),
    "images.generate": _call("images", "generate", _plain(model="gpt-image-1", prompt="a")),
    "images.stream": _call("images", "generate", _plain(model="gpt-image-1", prompt="a"), stream=True),
    "images.edit": _call("images", "edit", _form(model="gpt-image-1", image=b"pixels", prompt="a")),
    "images.create_variation": _call("images", "create_variation", _form(image=b"pixels")),
    "transcriptions.create": _call("audio.transcriptions", "create", _form(model="whisper-1", file=("a.wav", b"s"))),
    "transcriptions.text": _call(
        "audio.transcriptions", "create", _form(model="whisper-1", file=("a.wav", b"s"), response_format="text")
    ),
    "transcriptions.stream": _call(
        "audio.transcriptions", "create", _form(model="gpt-4o-transcribe", file=("a.wav", b"s")), stream=True
    ),
    "translations.create": _call("audio.translations", "create", _form(model="whisper-1", file=("a.wav", b"s"))),
    "speech.create": _call("audio.speech", "create", _plain(model="tts-1", voice="alloy", input="a")),
    "responses.retrieve": _call("responses", "retrieve", lambda _: {"response_id": "resp_1"}),
    "responses.resume": _call("responses", "retrieve", lambda _: {"response_id": "resp_1"}, stream=True),
}

ANTHROPIC: dict[str, Call] = {
    "messages.create": _call("messages", "create", _message),
    "messages.stream": _call("messages", "create", _message, stream=True),
    "messages.parse": _call("messages", "parse", _parsed(_message, "output_format")),
    "messages.helper": _call("messages", "stream", _message),
    "beta.create": _call("beta.messages", "create", _message),
    "beta.stream": _call("beta.messages", "create", _message, stream=True),
    "beta.parse": _call("beta.messages", "parse", _parsed(_message, "output_format")),
    "beta.helper": _call("beta.messages", "stream", _message),
    "beta.runner": _runner(),
    "beta.streamed runner": _runner(stream=True),
    "beta.thread": _thread,
    "post.messages.object": _post("/v1/messages", _message, "object"),
    "post.messages.text": _post("/v1/messages", _message, "text"),
    "post.messages.response": _post("/v1/messages", _message, "response"),
    "post.messages.stream": _post("/v1/messages", _message, "stream"),
    "models.list": _call("models", "list", lambda _: {}),
    "count_tokens": _call(
        "messages", "count_tokens", lambda r: {n: v for n, v in _message(r).items() if n != "max_tokens"}
    ),
    "batches.create": _call("messages.batches", "create", lambda _: {"requests": []}),
}

STREAMED = ("stream", "helper", "resume")


def is_streamed(way: str) -> bool:
    name = way.rpartition(".")[2]
    return name in STREAMED or name.startswith("streamed ")
