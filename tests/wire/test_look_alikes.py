"""Look-alikes: requests of other applications to paths that APIs have, by three HTTP libraries, and their mirror image.

An application and its server are a row: what is asked, and what is answered. None is a call. The same paths are calls
with what compatible servers answer: without optional fields, and with fields of their own.
"""

from __future__ import annotations

import asyncio
import base64
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
from tests.support.bodies import wires
from tests.wire.exchanges import recorded

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
    "videos of oEmbed": Row("/api/embed", {"model": "video", "input": "https://v.example/7"}, {"embeddings": []}),
    "rules of DMN": Row(
        "/decisions", {"model": "dmn", "questions": [{"id": "income"}]}, {"answers": [{"id": "income", "ok": True}]}
    ),
    "rules by name": Row(
        "/decisions", {"model": "loan", "questions": [{"name": "age"}]}, {"answers": [{"name": "age", "type": "int"}]}
    ),
    "a runner of jobs": Row("/jobs/responses", {"model": "monthly", "input": "May", "background": True}, {"job": 7}),
    "a runner that fails": Row(
        "/jobs/responses", {"model": "monthly", "input": "May", "background": True},
        {"error": "no such job"}, status=500
    ),
    "scores": Row("/responses", {"model": "churn", "input": "7"}, {"output": [{"type": "score", "value": 0.3}]}),
    "forms": Row("/forms/responses", {"model": "f1", "input": "yes"}, {"object": "response", "status": "completed"}),
    "answers of guests": Row("/calendar/responses", {"model": "invite", "input": "yes"}, {"object": "rsvp"}),
    "a CMS": Row(
        "/v1/messages", {"model": "news", "messages": [{"role": "author", "content": "Hello"}]},
        {"id": 7, "content": [{"type": "paragraph", "text": "Hello"}]},
    ),
    "a CMS of blocks": Row(
        "/v1/messages", {"model": "news", "messages": TURNS},
        {"type": "message", "role": "editor", "content": [{"type": "text", "text": "Hello"}]},
    ),
    "a list of mails": Row("/messages", {"model": "m", "messages": TURNS}, {"role": "assistant", "content": []}),
    "a quiz": Row(
        "/courses/completions", {"model": "course-7", "prompt": "Done?"}, {"choices": [{"text": "yes"}, {"text": "no"}]}
    ),
    "a quiz in order": Row(
        "/courses/completions", {"model": "course-7", "prompt": "?"},
        {"choices": [{"text": "yes", "index": 0}], "id": 7}
    ),
    "a course that is done": Row("/completions", {"model": "c7", "prompt": "u1"}, "", status=204),
    "a room of people": Row("/chat/completions", {"model": "room", "messages": TURNS}, {"id": 7}),
    "a room that takes a message": Row("/chat/completions", {"model": "room", "messages": TURNS}, "", status=204),
    "a room as a page": Row("/chat/completions", {"model": "room", "messages": TURNS}, "<p>Hello</p>", "text/html"),
    "a room of other roles": Row(
        "/chat/completions", {"model": "room", "messages": [{"role": "author", "content": "Hi"}]}, {"detail": "no"},
        status=422,
    ),
    "a room, streamed": Row(
        "/chat/completions", {"model": "room", "messages": TURNS, "stream": True},
        'data: {"choices":[{"text":"a"}]}\n\ndata: {"choices":[{"delta":"Hi"}]}\n\n', EVENTS,
    ),
    "moderation by people": Row(
        "/moderations", {"model": "comment", "input": "text"}, {"results": [{"flagged": True, "by": "ann"}]}
    ),
    "moderation that is queued": Row("/moderations", {"model": "comment", "input": "text"}, {"id": 7}, status=202),
    "a CRM's steps": Row(
        "/crm/interactions", {"model": "call", "input": "called"}, {"steps": [{"type": "callback", "due": "mon"}]}
    ),
    "a CRM's object": Row(
        "/interactions", {"model": "call", "input": "called"}, {"object": "interaction", "status": "completed"}
    ),
    "a CRM that refuses": Row("/interactions", {"model": "call", "input": "x"},
        {"detail": [{"msg": "no"}]}, status=422),
    "a pump that ends": Row("/model/pump7/invoke", {"message": "start"}, {"completion": "2026-05-01T10:00"}),
    "a pump that says so": Row("/model/pump7/invoke", {"message": "start"},
        {"message": "on", "finishReason": "manual"}),
    "a pump's pictures": Row("/model/cam/invoke", {"prompt": "start"}, {"images": ["aGk="], "text": "on"}),
    "bestsellers": Row(
        "/shop/rerank", {"model": "sold", "documents": ["a", "b"], "query": "q"},
        {"results": [{"index": 1, "score": 9}]}
    ),
    "points": Row("/embeddings", {"model": "umap", "input": [1, 2], "dimensions": 2}, {"points": [[0.1, 0.2]]}),
    "points that are stored": Row(
        "/embeddings", {"model": "umap", "input": [1, 2]}, {"data": [{"embedding": "e/7.bin", "index": 0}]}
    ),
    "a bot that hands over": Row(
        "/v1/chat", {"model": "faq", "message": "Hi"}, {"finish_reason": "handed over", "agent": "ann"}
    ),
    "a bot's text": Row("/v1/chat", {"model": "faq", "message": "Hi"}, {"text": "Hello", "response_id": "r1"}),
    "a bot's failure": Row("/v1/chat", {"model": "faq", "message": "Hi"}, {"error": {"code": "busy"}}, status=503),
    "a desk's assistant": Row(
        "/v2/chat", {"model": "desk", "messages": TURNS}, {"message": {"role": "assistant", "content": "Hello"}}
    ),
    "spam": Row("/v1/models/spam:predict", {"instances": [{"text": "Hi"}]}, {"predictions": [{"content": "spam"}]}),
    "spam's vectors": Row(
        "/v1/models/spam:predict", {"instances": [{"content": "Hi"}]}, {"predictions": [{"embeddings": {"id": 7}}]}
    ),
    "a speaking lesson": Row("/lessons/audio/speech", {"model": "l7", "input": "7.mp3"}, {"url": "x"}),
    "a lesson of a voice": Row(
        "/lessons/audio/speech", {"model": "l7", "input": "7.mp3", "voice": "alloy"}, {"audio": "https://x/7.mp3"}
    ),
    "a lesson in text": Row("/audio/speech", {"model": "l7", "input": "7.mp3"}, "queued", "text/plain"),
    "a lesson that fails": Row("/audio/speech", {"model": "l7", "input": "7", "voice": "anna"},
        {"ok": False}, status=400),
    "posters": Row("/images/generations", {"model": "poster", "prompt": "A4"}, {"data": [{"url": "/p.pdf"}]}),
    "posters of a size": Row(
        "/images/generations", {"model": "poster", "prompt": "x", "size": "A4"},
        {"created": "May", "data": [{"url": "x"}]}
    ),
    "posters that fail": Row("/images/generations", {"model": "p", "prompt": "x"}, {"error": "size"}, status=400),
    "a form filler": Row("/fim/completions", {"model": "f", "prompt": "x"}, {"choices": [{"value": "a"}]}),
    "a site generator": Row(
        "/v1/models/site:generateContent", {"contents": "Hello"}, {"candidates": [{"content": "<p>"}]}
    ),
    "a site's index": Row("/v1/models/site:embedContent", {"content": {"id": 7}}, {"embedding": {"html": "<a>"}}),
    "a currency": Row(
        "/model/eur/converse", {"messages": [{"content": [{"eur": 5}]}]}, {"output": {"message": "5 EUR"}}, status=201
    ),
    "a hub's text": Row("/models/acme/report", {"inputs": "May"}, {"text": "Report", "id": 7}),
    "a lake's chat": Row(
        "/ml/v1/text/chat", {"model_id": "m", "messages": TURNS}, {"choices": [{"id": 1}], "message": "Hi"}
    ),
    "a lake's text": Row("/ml/v1/text/generation", {"model_id": "m", "input": "x"}, {"results": [{"text": "a"}]}),
    "a lake's vectors": Row("/ml/v1/text/embeddings", {"model_id": "m", "inputs": ["x"]}, {"results": [{"id": 1}]}),
    "a lake's order": Row(
        "/ml/v1/text/rerank", {"model_id": "m", "inputs": [{"text": "x"}]}, {"results": [{"index": 0, "score": 1}]}
    ),
    "a workflow": Row("/run/@acme/report/v1", {"prompt": "May"}, {"success": True, "result": {"id": 7}}),
    "a report that is accepted": Row("/api/generate", {"model": "invoice", "prompt": "x"}, "", status=202),
    "a report in words": Row("/api/generate", {"model": "invoice", "prompt": "x"}, {"done": True, "response": "ok"}),
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
    "ollama_generate": Row(
        "/api/generate", {"model": "m", "prompt": "Hi"}, {"model": "m", "response": "Hello", "done": True}
    ),
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
        "/v1/embeddings", {"model": "m", "input": "Hi"}, {"data": [{"index": 0, "embedding": "AAAAPwAAAD8="}]}
    ),
    "completions": Row(
        "/v1/completions", {"model": "m", "prompt": "Hi"}, {"choices": [{"text": " there", "finish_reason": "stop"}]}
    ),
    "messages": Row(
        "/v1/messages", {"model": "m", "messages": TURNS, "max_tokens": 9},
        {"role": "assistant", "content": [{"type": "text", "text": "Hello"}], "stop_reason": "end_turn", "x": 1},
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
                is_json = row.media_type == JSON and row.answer != ""
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


RECORDED: Final = [row for row in recorded().values() if row["method"] == "POST" and row["status"] == 200]


@pytest.mark.parametrize("opened", [True, False], ids=["open", "read"])
def test_recorded_answers_are_calls_at_a_host_of_ones_own(opened: bool) -> None:
    """Whatever servers answer, but for words in fields of any program: `{"value": ...}` of Writer's streams."""
    rows = {f"s{number}.internal": row for number, row in enumerate(RECORDED) if '{"value":' not in row["body"]}

    def answered(request: httpx.Request) -> httpx.Response:
        row = rows[request.url.host]
        packed = row.get("body_base64")
        content = base64.b64decode(packed) if packed else row["body"].encode()
        kind = row["headers"].get("content-type", EVENTS if row["body"].startswith(("data:", "event:")) else JSON)
        return httpx.Response(200, content=iter([content]) if opened else content, headers={"content-type": kind})

    expected = {}
    with capture() as seen, httpx.Client(transport=httpx.MockTransport(answered)) as client:
        for host, row in rows.items():
            path = row["path"].partition("?")[0]
            if (wire := wires.of_request("POST", path, row["request"])) is not None and row["body"] + row.get(
                "body_base64", ""
            ):
                expected[host] = wire.api
            client.post(f"https://{host}{row['path']}", json=row["request"])
    assert len(expected) > 100
    assert {call.server_address: call.api for call in seen.records} == expected
