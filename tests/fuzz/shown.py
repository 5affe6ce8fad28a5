"""One case for each deliberate fault, which shows it."""

from __future__ import annotations

from typing import Any

from tests.fuzz.case import Act, Answer, Case, Chunk
from tests.fuzz.strategies import wires
from tests.fuzz.ways import is_streamed


def whole(way: str, **fields: Any) -> Case:
    """A call that succeeds, its answer in one piece or event by event."""
    sdk = "anthropic" if way.startswith(("messages", "beta")) else "openai"
    if is_streamed(way):
        events = [
            f"event: {name}\ndata: {wires.as_text(payload)}\n\n" for name, payload in wires.events_of(way, "text")
        ]
        answer = Answer(
            200, [("content-type", "text/event-stream")], [Chunk(text.encode().decode("latin-1")) for text in events]
        )
    else:
        body = wires.as_text(wires.whole_of(way, "text"))
        answer = Answer(200, [("content-type", "application/json")], [Chunk(body.encode().decode("latin-1"))])
    return Case(sdk, way, **{"answers": [answer], **fields})


def failing(way: str) -> Case:
    return whole(way, answers=[Answer(error="ConnectError")])


SHOWN_BY = {
    "a chunk is read ahead": whole("chat.stream", acts=[Act("take", 1), Act("close")]),
    "the cause of an exception is lost": failing("chat.create"),
    "an exception gets a context": failing("messages.create"),
    "a header is added": whole("messages.create"),
    "the parsed body is changed": whole("chat.create"),
    "a response is not closed": whole("messages.stream", acts=[Act("take", 1), Act("close")]),
    "bytes are read at once": whole("chat.create", wrap="streaming", acts=[Act("bytes", 1)], answers=[
        Answer(200, [], [Chunk("{"), Chunk(error="ReadError")]),
    ]),
    "a record is written twice": whole("embeddings.create"),
    "a row is lost": whole("messages.create", profile="stored", wire="socket"),
    "a row is not the record": whole("chat.create", profile="lines"),
    "cancelled calls are forgotten": whole("chat.stream", colour="async", acts=[Act("take"), Act("close")]),
    "dropped streams are forgotten": whole("messages.stream", acts=[Act("next", 1), Act("drop")]),
}  # fmt: skip
