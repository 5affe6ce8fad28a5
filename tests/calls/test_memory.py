"""Memory of a very long stream is bounded by its text, with the same work per chunk; that of a session does not grow.

The chunks are as long as a provider's: five letters, one token with the preceding space. They are passed to
`record_call`, so that only callspan's memory is measured, not an SDK's.
"""

from __future__ import annotations

import gc
import resource
import sys
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from tests.conftest import Instrument

import callspan
from callspan import Session

STATM = Path("/proc/self/statm")
CHUNKS = 100_000
LETTERS = 5


class Shape(NamedTuple):
    """A stream: its API, what comes before the pieces, and a piece."""

    api: Any
    before: list[dict[str, Any]]
    piece: Callable[[str], dict[str, Any]]


def chat(**delta: Any) -> dict[str, Any]:
    head = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    return {**head, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]}


def block(**fields: Any) -> dict[str, Any]:
    return {"type": "content_block_start", "index": 0, "content_block": fields}


def block_delta(**fields: Any) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": 0, "delta": fields}


MESSAGE = {"type": "message_start", "message": {"id": "m", "role": "assistant", "content": [], "model": "c"}}
ITEM = {"type": "message", "id": "msg", "role": "assistant", "content": []}
PLACE = {"output_index": 0, "content_index": 0}

SHAPES = {
    "chat text": Shape("chat_completions", [chat(role="assistant")], lambda word: chat(content=word)),
    "chat arguments": Shape(
        "chat_completions",
        [chat(tool_calls=[{"index": 0, "id": "c", "function": {"name": "f", "arguments": ""}}])],
        lambda word: chat(tool_calls=[{"index": 0, "function": {"arguments": word}}]),
    ),
    "messages text": Shape(
        "messages",
        [MESSAGE, block(type="text", text="")],
        lambda word: block_delta(type="text_delta", text=word),
    ),
    "responses text": Shape(
        "responses",
        [{"type": "response.output_item.added", "output_index": 0, "item": ITEM}],
        lambda word: {"type": "response.output_text.delta", "item_id": "msg", **PLACE, "delta": word},
    ),
}


def words(count: int) -> Iterator[str]:
    """Strings of five letters, each an object of its own, as they are when parsed from the wire."""
    return (f" {number % 10_000:04}" for number in range(count))


def tell(shape: Shape, count: int, running: Callable[[], object] = lambda: None) -> None:
    """One stream of so many pieces; `running` is called before it ends."""
    with callspan.record_call(provider="p", api=shape.api, model="m", stream=True) as call:
        for event in shape.before:
            call.chunk(event)
        for word in words(count):
            call.chunk(shape.piece(word))
        running()


def ready(instrumented: Instrument, **settings: Any) -> None:
    """Instrument, and let the first stream make what is made once."""
    handle = instrumented(tracer_provider=TracerProvider(), meter_provider=MeterProvider(), **settings)
    tell(SHAPES["chat text"], 100)
    handle.force_flush(30_000)


def costs(shape: Shape, count: int) -> tuple[float, float]:
    """Bytes per byte of text, while the stream runs and at its end."""
    found: list[int] = []
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        tell(shape, count, lambda: found.append(tracemalloc.get_traced_memory()[1] - before))
        found.append(tracemalloc.get_traced_memory()[1] - before)
    finally:
        tracemalloc.stop()
    running, ending = (size / (count * LETTERS) for size in found)
    return running, ending


def calls_of(shape: Shape, count: int) -> int:
    """How many functions one stream calls, of Python's and of C's."""
    number = 0

    def called(frame: object, event: str, argument: object) -> None:
        nonlocal number
        number += event in ("call", "c_call")

    sys.setprofile(called)
    try:
        tell(shape, count)
    finally:
        sys.setprofile(None)
    return number


@pytest.mark.parametrize("name", SHAPES)
def test_a_very_long_stream_costs_little_more_than_its_text_and_grows_no_faster(
    name: str, instrumented: Instrument
) -> None:
    """In memory while it runs, and in functions called."""
    ready(instrumented)
    assert calls_of(SHAPES[name], 20_000) < 10.5 * calls_of(SHAPES[name], 2_000)
    running, _ = costs(SHAPES[name], CHUNKS)
    assert running < 1.5
    assert running < 1.1 * costs(SHAPES[name], 10_000)[0]


@pytest.mark.parametrize("stores", [False, True], ids=["spans", "a store"])
def test_the_end_of_a_very_long_stream_costs_a_few_times_its_text(
    stores: bool, tmp_path: Path, instrumented: Instrument
) -> None:
    """For a moment: put together, encoded, looked into for what goes on the span; and as a line of the spool."""
    ready(instrumented, **({"stores": f"jsonl:///{tmp_path}/c.jsonl"} if stores else {}))
    _, ending = costs(SHAPES["chat text"], CHUNKS)
    assert ending < 5


@pytest.mark.timeout(900)
@pytest.mark.skipif(not STATM.exists(), reason="reads the resident size from /proc")
@pytest.mark.parametrize("trace_per", ["session", "timestep"])
def test_a_very_long_session_takes_no_more_memory_than_a_long_one(trace_per: str) -> None:
    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(Nowhere()))
    handle = callspan.instrument(tracer_provider=provider, trace_per=trace_per)
    try:
        with callspan.session("endless") as own:
            walk(own, 10_000)
            before = resident_mib()
            walk(own, 30_000)
            grown = resident_mib() - before
    finally:
        handle.uninstrument()
        provider.shutdown()
    assert grown < 1.5, "MiB: 50 bytes a step would be an object that is kept"


def walk(own: Session, steps: int) -> None:
    for index in range(steps):
        own.observation(index)
        with own.timestep() as step, callspan.tool("move") as run:
            run.result = index
            step.environment(index, reward=1.0)


def resident_mib() -> float:
    gc.collect()
    return int(STATM.read_text().split()[1]) * resource.getpagesize() / 2**20


class Nowhere(SpanExporter):
    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        return SpanExportResult.SUCCESS
