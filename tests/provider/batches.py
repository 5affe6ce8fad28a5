"""Batches of the scripted provider: files that are uploaded, batches that are created, and their results as lines.

Each request of a batch uses up one reply of the script, in order, when the batch is created.

Wire references: https://platform.openai.com/docs/guides/batch https://docs.anthropic.com/en/api/creating-message-batches
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus

import msgspec

from callspan.testing import ReceivedRequest, Reply
from callspan.testing.provider.answer import OPENAI, Answer, Wire, base62, encode, objects
from callspan.testing.provider.anthropic_messages import ANTHROPIC
from callspan.testing.provider.rendering import Rendering, Route, family_of, find_route, render
from callspan.testing.provider.script import Json, Script
from tests.provider.pages import page

_WINDOW_S = 86_400
_JSONL = {"content-type": "application/x-jsonl"}

BATCHES, MESSAGE_BATCHES = Wire(OPENAI, lambda _: {}), Wire(ANTHROPIC, lambda _: {})
"""Files and batches; their answers are made by `Batches`."""


@dataclass
class _Line:
    """One request of a batch with its answer."""

    custom_id: str
    answer: Rendering
    id: str = field(default_factory=lambda: f"batch_req_{base62(24)}")
    request_id: str = field(default_factory=lambda: base62(32))

    @property
    def state(self) -> str:
        """How it ended: `succeeded` or `errored`."""
        return "succeeded" if self.answer.status < HTTPStatus.BAD_REQUEST else "errored"

    @property
    def body(self) -> object:
        """The body of its answer."""
        return msgspec.json.decode(self.answer.body)


@dataclass
class _Batch:
    """A batch. It ends after so many polls."""

    id: str
    lines: list[_Line]
    polls: int
    created_s: int = field(default_factory=lambda: int(time.time()))

    def polled(self) -> bool:
        """Whether it has ended, as of this poll."""
        self.polls -= 1
        return self.polls < 0

    @property
    def states(self) -> Counter[str]:
        """Numbers of its requests by how they ended."""
        return Counter(line.state for line in self.lines)


@dataclass
class _FileBatch(_Batch):
    """A batch of OpenAI."""

    url: str = ""
    input_file_id: str = ""
    output_file_id: str = field(default_factory=lambda: f"file-{base62(22)}")
    error_file_id: str = field(default_factory=lambda: f"file-{base62(22)}")

    def shown(self, *, ended: bool) -> Json:
        """The batch as its endpoint returns it."""
        done = self.states["succeeded"] if ended else 0
        return {
            "id": self.id,
            "object": "batch",
            "endpoint": self.url,
            "input_file_id": self.input_file_id,
            "completion_window": "24h",
            "status": "completed" if ended else "in_progress",
            "created_at": self.created_s,
            "expires_at": self.created_s + _WINDOW_S,
            "completed_at": self.created_s + 1 if ended else None,
            "output_file_id": self.output_file_id if done else None,
            "error_file_id": self.error_file_id if ended and done < len(self.lines) else None,
            "request_counts": {
                "total": len(self.lines), "completed": done, "failed": len(self.lines) - done if ended else 0,
            },
            **({"usage": self._usage()} if ended else {}),
        }  # fmt: skip

    def _usage(self) -> Json:
        counted = [usage for line in self.lines if line.state == "succeeded" and (usage := _usage_of(line.body))]
        sums = Counter({name: sum(_tokens(usage, name) for usage in counted) for name in ("input", "output")})
        return {
            "input_tokens": sums["input"],
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": sums["output"],
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": sums.total(),
        }

    def results(self, *, errors: bool) -> bytes:
        """The output file, or the error file."""
        return _lines(_file_line(line) for line in self.lines if (line.state != "succeeded") is errors)


@dataclass
class _MessageBatch(_Batch):
    """A batch of Anthropic."""

    def shown(self, base: str, *, ended: bool) -> Json:
        """The batch as its endpoint returns it; `base` is the provider's address."""
        states, total = self.states, len(self.lines)
        names = ("succeeded", "errored", "canceled", "expired")
        return {
            "id": self.id,
            "type": "message_batch",
            "processing_status": "ended" if ended else "in_progress",
            "request_counts": {
                "processing": 0 if ended else total, **{name: states[name] if ended else 0 for name in names}
            },
            "created_at": _written(self.created_s),
            "ended_at": _written(self.created_s + 1) if ended else None,
            "expires_at": _written(self.created_s + _WINDOW_S),
            "archived_at": None,
            "cancel_initiated_at": None,
            "results_url": f"{base}/v1/messages/batches/{self.id}/results" if ended else None,
        }  # fmt: skip

    def results(self) -> bytes:
        """The results."""
        return _lines({"custom_id": line.custom_id, "result": _result(line)} for line in self.lines)


class Batches:
    """The files and batches of a provider. Safe from any thread."""

    def __init__(self, url: Callable[[], str], script: Script, routes: Sequence[Route]) -> None:
        """`url` returns the provider's address; `routes` are those that a line of a batch may be for."""
        self._url, self._script, self._routes = url, script, routes
        self._files: dict[str, bytes] = {}
        self._batches: dict[str, _FileBatch | _MessageBatch] = {}
        self._lock = threading.Lock()

    def reply_to(self, request: ReceivedRequest, reply: Reply, wire: Wire) -> Reply:
        """The reply to a request for a file or batch; the given one to any other, or where it is an error or raw."""
        if wire not in (BATCHES, MESSAGE_BATCHES) or reply.raw is not None or reply.status >= HTTPStatus.BAD_REQUEST:
            return reply
        with self._lock:
            answer = self._answer(request, reply)
        if answer is None:
            return Reply(status=404, message="There is no such file or batch.")
        return Reply(raw=answer, headers=_JSONL if isinstance(answer, bytes) else {})

    def _answer(self, request: ReceivedRequest, reply: Reply) -> Json | bytes | None:
        """The answer to a request for a file or batch; None: it is for none that is there."""
        segments = request.path.strip("/").split("/")
        if segments[-1] == "files" and request.method == "POST":
            return self._upload(request)
        if segments[-1] == "batches":
            return self._create(request, reply) if request.method == "POST" else self._list(request.query)
        if segments[-1] == "content" and segments[-3] == "files":
            return self._content(segments[-2])
        return self._of_batch(segments[segments.index("batches") + 1 :])

    def _upload(self, request: ReceivedRequest) -> Json:
        identity = f"file-{base62(22)}"
        content = _file_content(request.headers.get("content-type", ""), request.content) or b""
        self._files[identity] = content
        named = request.body.get("file")
        return {
            "id": identity,
            "object": "file",
            "bytes": len(content),
            "created_at": int(time.time()),
            "filename": named.get("filename") if isinstance(named, Mapping) else None,
            "purpose": request.body.get("purpose"),
            "status": "processed",
        }

    def _create(self, request: ReceivedRequest, reply: Reply) -> Json | None:
        if "requests" in request.body:
            lines = [self._line(one, "/v1/messages", one.get("params")) for one in objects(request.body["requests"])]
            batch = _MessageBatch(f"msgbatch_01{base62(22)}", lines, reply.polls)
            self._batches[batch.id] = batch
            return batch.shown(self._url(), ended=False)
        file_id, url = str(request.body.get("input_file_id")), str(request.body.get("endpoint"))
        content = self._files.get(file_id)
        if content is None:
            return None
        given = [msgspec.json.decode(line) for line in content.splitlines() if line.strip()]
        lines = [self._line(one, url, one.get("body")) for one in given]
        filed = _FileBatch(f"batch_{base62(24)}", lines, reply.polls, url=url, input_file_id=file_id)
        self._batches[filed.id] = filed
        return filed.shown(ended=False)

    def _line(self, given: Json, path: str, body: object) -> _Line:
        request = ReceivedRequest(
            method="POST", path=path, query={}, headers={}, content=encode(body), json=body, time_ns=time.monotonic_ns()
        )
        found, named = find_route(request, self._routes) or (None, {})
        reply = self._script.reply_to(request, inference=found is not None and found.inference)
        answer = Answer(request, reply, family_of(request, found).request_id(), named)
        return _Line(str(given.get("custom_id")), render(answer, found))

    def _list(self, query: Mapping[str, str]) -> Json:
        shown = [self._shown(batch, ended=batch.polls < 0) for batch in self._batches.values()]
        return page(shown, query)

    def _shown(self, batch: _FileBatch | _MessageBatch, *, ended: bool) -> Json:
        return batch.shown(self._url(), ended=ended) if isinstance(batch, _MessageBatch) else batch.shown(ended=ended)

    def _of_batch(self, rest: list[str]) -> Json | bytes | None:
        batch = self._batches.get(rest[0])
        if batch is None:
            return None
        if rest[1:] == ["results"]:
            return batch.results() if isinstance(batch, _MessageBatch) else None
        return self._shown(batch, ended=batch.polled())

    def _content(self, file_id: str) -> bytes | None:
        for batch in self._batches.values():
            if isinstance(batch, _FileBatch) and file_id in (batch.output_file_id, batch.error_file_id):
                return batch.results(errors=file_id == batch.error_file_id)
        return self._files.get(file_id)


def _result(line: _Line) -> Json:
    if line.state == "succeeded":
        return {"type": "succeeded", "message": line.body}
    return {"type": "errored", "error": line.body}


def _file_line(line: _Line) -> Json:
    identity: dict[str, object] = {"id": line.id, "custom_id": line.custom_id}
    answer = {"status_code": line.answer.status, "request_id": line.request_id, "body": line.body}
    return {**identity, "response": answer, "error": None}


def _usage_of(body: object) -> Json:
    usage = body.get("usage") if isinstance(body, Mapping) else None
    return usage if isinstance(usage, Mapping) else {}


def _tokens(usage: Json, kind: str) -> int:
    found = usage.get(f"{kind}_tokens", usage.get({"input": "prompt_tokens", "output": "completion_tokens"}[kind]))
    return found if isinstance(found, int) else 0


def _lines(values: Iterable[Json]) -> bytes:
    return b"".join(encode(value) + b"\n" for value in values)


def _written(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def _file_content(content_type: str, content: bytes) -> bytes | None:
    """Return the content of the first file of a form; None if it has none."""
    boundary = b"--" + content_type.partition("boundary=")[2].strip('"').encode()
    for part in content.split(boundary)[1:-1]:
        head, _, data = part.removeprefix(b"\r\n").partition(b"\r\n\r\n")
        if b"filename=" in head:
            return data.removesuffix(b"\r\n")
    return None
