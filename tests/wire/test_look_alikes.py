"""Look-alikes: requests of other applications to paths that APIs have, by three HTTP libraries, and their mirror image.

An application and its server are a row: what is asked, and what is answered. None is a call. The same paths are calls
with what compatible servers answer: without optional fields, and with fields of their own.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any, Final, NamedTuple

import aiohttp
import httpx
import pytest
import requests

from callspan.testing import capture

pytestmark = pytest.mark.usefixtures("no_settings")
TURNS: Final = [{"role": "user", "content": "Hi"}]
JSON: Final = "application/json"
EVENTS: Final = "text/event-stream"
LINES: Final = "application/x-ndjson"


class Row(NamedTuple):
    """A request and its answer."""

    path: str
    request: Any
    answer: Any
    """JSON, or a text of another type."""
    media_type: str = JSON
    status: int = 200


OTHERS: Final[dict[str, Row]] = {
    "a chat of people": Row(
        "/v1/chat", {"message": "lunch?", "room": "r1"}, {"id": "m1", "message": "lunch?", "room": "r1"}, status=201
    ),
    "a chat with a bot": Row(
        "/v1/chat", {"message": "Hi", "conversation_id": "c1"},
        {"conversation_id": "c1", "text": "Hello", "message": "Hello", "response_id": 7},
    ),
    "a chat with history": Row(
        "/v1/chat", {"message": "Hi", "chat_history": [{"role": "USER", "message": "Hi"}]},
        {"reply": "Hello", "chat_history": [{"from": "bot", "body": "Hello"}], "meta": {"ms": 4}},
    ),
    "a page's own chat, streamed": Row(
        "/api/chat", {"model": "gpt-5", "messages": TURNS, "id": "c1"},
        'data: {"type":"start","messageId":"m1"}\n\ndata: {"type":"text-delta","delta":"Hi"}\n\ndata: [DONE]\n\n',
        EVENTS,
    ),
    "a page's own chat": Row(
        "/api/chat", {"model": "fast", "messages": TURNS}, {"message": "Hello", "done": True, "sources": []}
    ),
    "a page's own chat in lines": Row(
        "/api/chat", {"model": "fast", "messages": TURNS, "stream": True},
        '{"type":"delta","message":"Hel"}\n{"type":"delta","message":"lo"}\n{"type":"end","done":true}\n', LINES,
    ),
    "a page's own chat as text": Row("/api/chat", {"model": "fast", "messages": TURNS}, "Hello", "text/plain"),
    "a chat's list": Row("/api/chat", {"model": "fast", "messages": TURNS}, [{"role": "assistant", "content": "Hi"}]),
    "a message of an object": Row(
        "/api/chat", {"model": "fast", "messages": TURNS},
        {"message": {"id": 7, "body": "Hello", "created_at": "2026-01-01"}, "done": "yes"},
    ),
    "a message with a role": Row(
        "/api/chat", {"model": "fast", "messages": TURNS}, {"message": {"role": "bot", "text": "Hello"}, "chatId": "c1"}
    ),
    "a report": Row("/api/generate", {"model": "invoice", "prompt": "May"}, {"job": "j1", "done": False}, status=202),
    "a report that is done": Row(
        "/api/generate", {"model": "invoice", "prompt": "May"}, {"response": {"url": "/f.pdf"}, "done": True}
    ),
    "a report with a word": Row(
        "/api/generate", {"model": "invoice", "prompt": "May"}, {"response": "ok", "created_at": "2026-01-01"}
    ),
    "a picture": Row(
        "/api/generate", {"model": "sdxl", "prompt": "a cat"}, {"images": ["aGk="], "seed": 4, "response": "done"}
    ),
    "a support desk": Row(
        "/v2/chat", {"model": "billing", "messages": TURNS}, {"id": "t1", "message": {"content": "Hello"}}
    ),
    "a support desk's thread": Row(
        "/v2/chat", {"model": "billing", "messages": TURNS},
        {"id": "t1", "message": {"role": "agent", "content": "Hello"}, "finish_reason": None},
    ),
    "a CRM": Row(
        "/v1/interactions", {"model": "call", "input": "asked for a price"},
        {"id": "i1", "status": "completed", "model": "call", "created": "2026-01-01"}, status=201,
    ),
    "a CRM with outputs": Row(
        "/v1beta/interactions", {"agent": "ann", "input": "asked for a price"},
        {"id": "i1", "status": "completed", "outputs": [], "agent": "ann"},
    ),
    "a pump": Row("/model/pump7/invoke", {"prompt": "start"}, {"state": "running", "completion": 5}),
    "a chain of LangServe": Row(
        "/joke/invoke", {"input": {"topic": "cats"}, "config": {}, "kwargs": {}},
        {"output": "Why did…", "metadata": {"run_id": "r1", "feedback_tokens": []}},
    ),
    "a chat of LangServe": Row(
        "/model/invoke", {"input": [{"type": "human", "content": "Hi"}]},
        {"output": {"content": "Hello", "type": "ai", "usage_metadata": {"input_tokens": 5, "output_tokens": 2}}},
    ),
    "a stream of LangServe": Row(
        "/joke/stream", {"input": {"topic": "cats"}},
        'event: metadata\ndata: {"run_id":"r1"}\n\nevent: data\ndata: "Why"\n\nevent: end\n\n', EVENTS,
    ),
    "a converter": Row(
        "/model/eur/converse", {"messages": [{"role": "user", "amount": 5}]}, {"output": {"usd": 6}}
    ),
    "a classifier": Row("/predict", {"inputs": "a cat"}, [{"label": "animal", "score": 0.9}]),
    "a classifier of a hub": Row(
        "/models/acme/animals", {"inputs": "a cat"}, [[{"label": "animal", "score": 0.9}]]
    ),
    "tensors": Row(
        "/v2/models/m/infer", {"inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "data": [1]}]},
        {"model_name": "m", "outputs": [{"name": "y", "shape": [1], "datatype": "FP32", "data": [1]}]},
    ),
    "tracks of a player": Row("/v1/embed", {"model": "player", "texts": ["song"]}, {"html": "<i>", "embeddings": 1}),
    "cards of a site": Row(
        "/v1/embed", {"model": "card", "texts": ["a link"]}, {"id": "e1", "embeddings": [{"html": "<a>"}]}
    ),
    "a search": Row(
        "/v1/rerank", {"model": "shop", "query": "q", "documents": ["a"]}, {"results": [{"sku": "a", "score": 0.5}]}
    ),
    "a search's places": Row(
        "/v1/rerank", {"model": "shop", "query": "q", "documents": ["a"]}, {"results": [{"index": 0, "title": "a"}]}
    ),
    "completions of a keyboard": Row(
        "/v1/completions", {"model": "t9", "prompt": "hel"}, {"choices": ["hello", "help"], "id": "k1"}
    ),
    "completions of a form": Row(
        "/v1/completions", {"model": "t9", "prompt": "hel"}, {"choices": [{"value": "hello", "score": 1}]}
    ),
    "completions of a course": Row(
        "/v1/completions", {"model": "course", "prompt": "u1"}, {"choices": [{"text": {"de": "Hallo"}}]}
    ),
    "a mail": Row(
        "/v1/messages", {"model": "newsletter", "messages": [{"role": "to", "content": "Hi"}]},
        {"id": "m1", "queued": 1}, status=202,
    ),
    "a mail with content": Row(
        "/v1/messages", {"model": "newsletter", "messages": TURNS},
        {"id": "m1", "type": "message", "content": "Hi", "status": "sent"},
    ),
    "a survey": Row(
        "/v1/responses", {"model": "form", "input": "yes"}, {"id": "r1", "status": "completed", "answers": ["yes"]},
        status=201,
    ),
    "a survey's output": Row(
        "/v1/responses", {"model": "form", "input": "yes"}, {"id": "r1", "output": [{"question": 1, "answer": "yes"}]}
    ),
    "a map": Row("/v1/embeddings", {"model": "map", "input": "Berlin"}, {"data": [{"lat": 52.5, "lon": 13.4}]}),
    "a map's list": Row(
        "/v1/embeddings", {"model": "map", "input": "Berlin"},
        {"object": "list", "data": [{"object": "place", "index": 0, "embedding": "<iframe>"}]},
    ),
    "GraphQL": Row("/graphql", {"query": "{ chat }", "variables": {"messages": TURNS}}, {"data": {"chat": "Hi"}}),
    "a webhook": Row("/webhook/chat", {"message": "Hi", "model": "m"}, {"ok": True}),
    "a flow of n8n": Row("/webhook/7/chat", {"chatInput": "Hi", "sessionId": "s"}, [{"output": "Hello"}]),
    "Slack": Row("/api/chat.postMessage", {"channel": "C1", "text": "Hi"}, {"ok": True, "message": {"text": "Hi"}}),
    "a moderator": Row("/v1/moderations", {"model": "post", "input": "Hi"}, {"results": [{"allowed": True}]}),
    "a tally": Row("/v1/tokenize", {"model": "m", "text": "Hi"}, {"tokens": ["Hi"]}),
}  # fmt: skip

MIRRORED: Final[dict[str, Row]] = {
    "chat_completions": Row(
        "/v1/chat/completions", {"model": "m", "messages": TURNS},
        {"choices": [{"message": {"content": "Hello"}}], "timings": {"ms": 4}},
    ),
    "ollama_chat": Row(
        "/api/chat", {"model": "m", "messages": TURNS},
        {"message": {"role": "assistant", "content": "Hello"}, "done": True, "backend": "x"},
    ),
    "ollama_generate": Row("/api/generate", {"model": "m", "prompt": "Hi"}, {"response": "Hello", "done": True}),
    "cohere_chat": Row(
        "/v2/chat", {"model": "m", "messages": TURNS},
        {"id": "c1", "message": {"role": "assistant", "content": [{"type": "text", "text": "Hello"}]}, "backend": "x"},
    ),
    "cohere_chat_v1": Row("/v1/chat", {"model": "m", "message": "Hi"}, {"text": "Hello", "generation_id": "g1"}),
    "interactions": Row(
        "/v1beta/interactions", {"model": "m", "input": "Hi"},
        {"object": "interaction", "id": "i1", "status": "completed", "steps": [
            {"type": "model_output", "content": [{"type": "text", "text": "Hello"}]}]},
    ),
    "converse": Row(
        "/model/m/converse", {"messages": [{"role": "user", "content": [{"text": "Hi"}]}]},
        {"output": {"message": {"role": "assistant", "content": [{"text": "Hello"}]}}},
    ),
    "cohere_embed": Row("/v1/embed", {"model": "m", "texts": ["Hi"]}, {"embeddings": [[0.5]], "backend": "x"}),
    "rerank": Row(
        "/v1/rerank", {"model": "m", "query": "q", "documents": ["a"]},
        {"results": [{"index": 0, "relevance_score": 0.5}], "backend": "x"},
    ),
    "embeddings": Row("/v1/embeddings", {"model": "m", "input": "Hi"}, {"data": [{"embedding": [0.5]}]}),
    "embeddings in base64": Row(
        "/v1/embeddings", {"model": "m", "input": "Hi"}, {"data": [{"embedding": "AAAAPwAAAD8="}]}
    ),
    "completions": Row("/v1/completions", {"model": "m", "prompt": "Hi"}, {"choices": [{"text": " there"}]}),
    "messages": Row(
        "/v1/messages", {"model": "m", "messages": TURNS, "max_tokens": 9},
        {"content": [{"type": "text", "text": "Hello"}], "backend": "x"},
    ),
    "responses": Row(
        "/v1/responses", {"model": "m", "input": "Hi"},
        {"output": [{"type": "message", "content": [{"type": "output_text", "text": "Hello"}]}]},
    ),
}  # fmt: skip
"""What compatible servers answer, by the name of the API, or a word more."""


class Server:
    """A server on loopback that answers each path of its rows as an application does."""

    def __init__(self) -> None:
        self.row: Row
        owner = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["content-length"]))
                row = owner.row
                is_json = row.media_type == JSON and row.status != 204
                body = json.dumps(row.answer).encode() if is_json else row.answer.encode()
                self.send_response(row.status)
                if row.status != 204:
                    self.send_header("content-type", row.media_type)
                    self.send_header("content-length", f"{len(body)}")
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                """Nobody reads it."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"


@contextmanager
def serving() -> Iterator[Server]:
    server = Server()
    thread = Thread(target=server.server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.server.shutdown()
    thread.join()
    server.server.server_close()


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


def by_httpx(url: str, request: Any) -> None:
    with httpx.Client() as client:
        client.post(url, json=request)
        with client.stream("POST", url, json=request) as response:
            list(response.iter_lines())


def by_requests(url: str, request: Any) -> None:
    with requests.Session() as session:
        session.post(url, json=request)
        with session.post(url, json=request, stream=True) as response:
            list(response.iter_content(7))


def by_aiohttp(url: str, request: Any) -> None:
    async def sent() -> None:
        async with aiohttp.ClientSession() as session:
            async with session.post(url, json=request) as response:
                await response.read()
            async with session.post(url, json=request) as response:
                [line async for line in response.content]

    asyncio.run(sent())


LIBRARIES: Final[dict[str, Callable[[str, Any], None]]] = {
    "httpx": by_httpx, "requests": by_requests, "aiohttp": by_aiohttp,
}  # fmt: skip
"""Each sends the request twice, and reads the answer at once and in pieces."""


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("name", OTHERS)
def test_application_is_no_call(name: str, library: str, server: Server) -> None:
    server.row = OTHERS[name]
    with capture() as seen:
        LIBRARIES[library](server.url + server.row.path, server.row.request)
    assert [(call.api, bytes(call.request.body)) for call in seen.records] == []
    assert seen.everything == []


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("name", MIRRORED)
def test_compatible_server_is_a_call(name: str, library: str, server: Server) -> None:
    server.row = MIRRORED[name]
    with capture() as seen:
        LIBRARIES[library](server.url + server.row.path, server.row.request)
    assert [(call.api, call.outcome) for call in seen.records] == [(name.partition(" ")[0], "success")] * 2
