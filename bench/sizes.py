"""Bytes on disk: of a service's calls in SQLite by how many share a session, and of a long history in the spool."""

from __future__ import annotations

import json
import tempfile
import time
import zlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import msgspec

import workload
from callspan.records import CallRecord, Place, encode
from callspan.spool.segment import Segment
from callspan.stores import find_store

CALLS = 2_000
_INSTRUCTIONS, _TOOLS, _DESCRIPTION = 8_000, 4, 350
"""Characters of the instructions, number of tools, and characters that describe each."""
_BATCH = 100
_TURNS, _SENT, _RECEIVED = 80, 2_048, 2_048
"""Turns of the agent, and characters of a question and of an answer."""


def service(calls: int, per_session: int = 0) -> Iterator[CallRecord]:
    """Yield calls with equal instructions and tools, and a new question and answer each; 0: outside of sessions."""
    parameters = {"type": "object", "properties": {"query": {"type": "string"}, "limit": {"type": "integer"}}}
    instructions, *descriptions = _texts(_INSTRUCTIONS, *[_DESCRIPTION] * _TOOLS)
    tools = [
        {"type": "function", "function": {"name": f"find_{number}", "description": text, "parameters": parameters}}
        for number, text in enumerate(descriptions)
    ]
    for number, call in enumerate(workload.records(calls)):
        body = json.loads(bytes(call.request.body))
        body["messages"][0]["content"] = instructions
        session_id = f"01990000-0000-7000-8000-5{number // per_session:011x}" if per_session else None
        yield msgspec.structs.replace(_sending({**body, "tools": tools}, call), place=Place(session_id=session_id))


def agent() -> Iterator[CallRecord]:
    """Yield the calls of an agent that sends its whole history with each."""
    texts = _texts(*[_SENT, _RECEIVED] * _TURNS)
    messages = [
        {"role": role, "content": text} for role, text in zip(["user", "assistant"] * _TURNS, texts, strict=True)
    ]
    for turn, call in enumerate(workload.records(_TURNS)):
        body = json.loads(bytes(call.request.body))
        body["messages"] = messages[: 2 * turn + 1]
        yield _sending(body, call)


def _sending(body: dict[str, Any], call: CallRecord) -> CallRecord:
    sent = msgspec.Raw(msgspec.json.encode(body))
    return msgspec.structs.replace(call, request=msgspec.structs.replace(call.request, body=sent))


def _texts(*sizes: int) -> list[str]:
    """Return consecutive pieces of the documents, which are English."""
    text, texts, start = _documents(), list[str](), 0
    for size in sizes:
        texts.append(text[start : start + size])
        start += size
    return texts


@cache
def _documents() -> str:
    pages = Path(__file__).resolve().parents[1] / "docs"
    return "".join(page.read_text() for page in sorted(pages.glob("*.md")))


def stored_bytes(path: Path, calls: int, per_session: int = 0) -> int:
    """Write the service's calls to a new SQLite file; return its size."""
    sink = find_store(f"sqlite:///{path}").sink()
    sink.open()
    records = [*service(calls, per_session)]
    for start in range(0, calls, _BATCH):
        sink.deliver(records[start : start + _BATCH])
    sink.close()
    return path.stat().st_size


def _print_spool(directory: Path) -> None:
    """Print bytes and CPU of a turn as appended and as deflated, and its bytes that the turn before lacks."""
    segment = Segment.create(directory, frozenset())
    appended_ns = deflated_ns = deflated_bytes = new_bytes = 0
    earlier = b""
    for call in agent():
        payload, body = encode(call), bytes(call.request.body)
        before = time.thread_time_ns()
        segment.append(payload)
        between = time.thread_time_ns()
        deflated_bytes += len(zlib.compress(payload, 1))
        deflated_ns += time.thread_time_ns() - between
        appended_ns += between - before
        new_bytes += len(payload) - (len(earlier) if body.startswith(earlier) else 0)
        earlier = body.rpartition(b"]")[0]
    segment.close()
    for words, size, took_ns in (
        ("as appended", segment.path.stat().st_size, appended_ns),
        ("deflated", deflated_bytes, deflated_ns),
        ("without what the turn before has", new_bytes, None),
    ):
        cpu = "" if took_ns is None else f", {took_ns / _TURNS / 1000:.0f} µs of CPU"
        print(f"a turn of {_TURNS} in the spool, {words}: {size / _TURNS / 1000:.1f} KB{cpu}", flush=True)


def main() -> None:
    """Measure."""
    with tempfile.TemporaryDirectory() as directory:
        for per_session in (0, 1, 2, 5, 10, 50):
            size = stored_bytes(Path(directory, f"{per_session}.db"), CALLS, per_session)
            print(f"{per_session or 'no'} calls in a session: {size / CALLS / 1000:.2f} KB a call", flush=True)
        _print_spool(Path(directory))


if __name__ == "__main__":
    main()
