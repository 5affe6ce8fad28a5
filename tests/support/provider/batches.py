"""Batches of the scripted provider: forms that upload files, batches that are created, and their results as lines.

Each request of a batch uses up one reply of the script, in order, when the batch is created.

Wire references: https://platform.openai.com/docs/guides/batch https://docs.anthropic.com/en/api/creating-message-batches
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from email.message import Message
from email.parser import BytesHeaderParser
from email.policy import HTTP
from http import HTTPStatus
from typing import Any

import msgspec

from callspan.testing import ReceivedRequest, Reply
from callspan.testing.provider.answer import OPENAI, Answer, Wire, base62, encode
from callspan.testing.provider.anthropic_messages import ANTHROPIC
from callspan.testing.provider.rendering import Rendering, Route, family_of, find_route, render
from callspan.testing.provider.script import Json, Script

BATCHES, MESSAGE_BATCHES = Wire(OPENAI, lambda _: {}), Wire(ANTHROPIC, lambda _: {})
"""Files and batches; their answers are made by `Batches`."""


def form_parts(content_type: str, content: bytes) -> Iterator[tuple[Message, bytes]]:
    """Yield the parts of a form: headers and data."""
    boundary = b"--" + content_type.partition("boundary=")[2].strip('"').encode()
    for part in content.split(boundary)[1:-1]:
        head, _, data = part.removeprefix(b"\r\n").partition(b"\r\n\r\n")
        yield BytesHeaderParser(policy=HTTP).parsebytes(head + b"\r\n\r\n"), data.removesuffix(b"\r\n")


def form_fields(content_type: str, content: bytes) -> dict[str, object]:
    """Return the fields of a form by name; files as name, type and size."""
    fields: dict[str, object] = {}
    for headers, data in form_parts(content_type, content):
        disposition: Any = headers["content-disposition"]
        if disposition is None:
            continue
        name, filename = disposition.params.get("name", ""), disposition.params.get("filename")
        value: object = data.decode("utf-8", "replace")
        if filename is not None:
            value = {"filename": filename, "type": headers.get_content_type(), "bytes": len(data)}
        known = fields.setdefault(name.removesuffix("[]"), []) if name.endswith("[]") else None
        if isinstance(known, list):
            known.append(value)
        else:
            fields[name] = value
    return fields


@dataclass
class _Line:
    """One request of a batch with its answer."""

    custom_id: str
    answer: Rendering
    id: str = field(default_factory=lambda: f"batch_req_{base62(24)}")

    @property
    def is_error(self) -> bool:
        return self.answer.status >= HTTPStatus.BAD_REQUEST

    def of_openai(self) -> Json:
        body = msgspec.json.decode(self.answer.body)
        answer = {"status_code": self.answer.status, "request_id": f"req_{self.id}", "body": body}
        return {"id": self.id, "custom_id": self.custom_id, "response": answer, "error": None}

    def of_anthropic(self) -> Json:
        body = msgspec.json.decode(self.answer.body)
        result = {"type": "errored", "error": body} if self.is_error else {"type": "succeeded", "message": body}
        return {"custom_id": self.custom_id, "result": result}


class Batches:
    """The files and batches of a provider, by their ids. A batch ends after so many polls. Safe from any thread."""

    def __init__(self, url: Callable[[], str], script: Script, routes: Sequence[Route]) -> None:
        """`url` returns the provider's address; `routes` are those that a line of a batch may be for."""
        self._url, self._script, self._routes = url, script, routes
        self._files: dict[str, bytes] = {}
        self._polls: dict[str, int] = {}
        self._lock = threading.Lock()

    def reply_to(self, request: ReceivedRequest, reply: Reply, wire: Wire) -> Reply:
        """The reply to a request for a file or batch; the given one to any other, or where it is an error or raw."""
        if wire not in (BATCHES, MESSAGE_BATCHES) or reply.raw is not None or reply.status >= HTTPStatus.BAD_REQUEST:
            return reply
        with self._lock:
            return Reply(raw=self._answer(request, reply))

    def _answer(self, request: ReceivedRequest, reply: Reply) -> Json | bytes:
        *_, owner, last = request.path.split("/")
        if last == "files":
            return {"id": self._keep(_file_of(request)), "object": "file"}
        if last == "batches":
            return self._create(request.body, reply)
        if last in ("content", "results"):
            return self._files[owner]
        self._polls[last] -= 1
        return self._shown(last)

    def _keep(self, content: bytes, name: str | None = None) -> str:
        name = name or f"file-{base62(22)}"
        self._files[name] = content
        return name

    def _create(self, body: Json, reply: Reply) -> Json:
        given: Any = body.get("requests")
        if given is not None:
            batch_id = f"msgbatch_01{base62(22)}"
            lines = [self._line(one["custom_id"], "/v1/messages", one["params"]) for one in given]
            self._keep(_jsonl([line.of_anthropic() for line in lines]), batch_id)
        else:
            batch_id = f"batch_{base62(24)}"
            given = map(msgspec.json.decode, self._files[str(body["input_file_id"])].splitlines())
            lines = [self._line(one["custom_id"], str(body["endpoint"]), one["body"]) for one in given]
            for name, is_error in (("output", False), ("errors", True)):
                content = _jsonl([line.of_openai() for line in lines if line.is_error is is_error])
                self._keep(content, f"file-{name}-{batch_id}")
        self._polls[batch_id] = reply.polls
        return self._shown(batch_id)

    def _line(self, custom_id: str, path: str, body: object) -> _Line:
        request = ReceivedRequest(
            method="POST", path=path, query={}, headers={}, content=encode(body), json=body, time_ns=time.monotonic_ns()
        )
        found, named = find_route(request, self._routes) or (None, {})
        reply = self._script.reply_to(request, inference=found is not None and found.inference)
        answer = Answer(request, reply, family_of(request, found).request_id(), named)
        return _Line(custom_id, render(answer, found))

    def _shown(self, batch_id: str) -> Json:
        """The batch as its endpoint returns it."""
        ended = self._polls[batch_id] < 0
        if batch_id.startswith("msgbatch_"):
            results = f"{self._url()}/v1/messages/batches/{batch_id}/results" if ended else None
            status = "ended" if ended else "in_progress"
            return {"id": batch_id, "type": "message_batch", "processing_status": status, "results_url": results}
        names = [f"file-{name}-{batch_id}" for name in ("output", "errors")]
        output, errors = [name if ended and self._files[name] else None for name in names]
        status = "completed" if ended else "in_progress"
        return {
            "id": batch_id, "object": "batch", "status": status, "output_file_id": output, "error_file_id": errors,
        }  # fmt: skip


def _jsonl(values: list[Json]) -> bytes:
    return b"".join(encode(value) + b"\n" for value in values)


def _file_of(request: ReceivedRequest) -> bytes:
    """Return the content of the file of a form."""
    parts = form_parts(request.headers["content-type"], request.content)
    return next(data for headers, data in parts if "filename=" in headers["content-disposition"])
