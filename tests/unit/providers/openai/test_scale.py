"""Long streams: time grows with their length, memory with their text."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Iterator
from typing import Any

import pytest
from tests.points import points

from callspan.providers.openai.chat import ChatCompletions
from callspan.providers.openai.responses import Responses

CHUNKS = 20_000
TEXT = "tokens "


def chat_chunks(count: int) -> Iterator[dict[str, Any]]:
    for number in range(count):
        text = TEXT + str(number)
        choice = {"index": 0, "delta": {"content": text}, "logprobs": None, "finish_reason": None}
        yield {
            "id": "c",
            "object": "chat.completion.chunk",
            "created": 1,
            "model": "m",
            "choices": [choice],
            "usage": None,
        }


def argument_chunks(count: int) -> Iterator[dict[str, Any]]:
    for number in range(count):
        call = {"index": 0, "id": "a", "function": {"name": "f", "arguments": TEXT + str(number)}}
        yield {"id": "c", "choices": [{"index": 0, "delta": {"tool_calls": [call]}, "finish_reason": None}]}


def response_events(count: int) -> Iterator[dict[str, Any]]:
    for number in range(count):
        yield {"type": "response.output_text.delta", "output_index": 0, "content_index": 0, "delta": TEXT + str(number)}


STREAMS = [(ChatCompletions(), chat_chunks), (ChatCompletions(), argument_chunks), (Responses(), response_events)]


@points(("endpoint", "chunks"), STREAMS, ids=["text", "arguments", "events"])
def test_memory_stays_within_three_times_the_text(endpoint: Any, chunks: Any) -> None:
    count = CHUNKS // 4
    length = sum(len(TEXT + str(number)) for number in range(count))
    tracemalloc.start()
    try:
        accumulator = endpoint.accumulator()
        for chunk in chunks(count):
            accumulator.add(chunk)
        _, while_streaming = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert while_streaming < 3 * length
    assert accumulator.body() is not None


@pytest.mark.timing
@points(("endpoint", "chunks"), STREAMS, ids=["text", "arguments", "events"])
def test_time_grows_with_the_length_only(endpoint: Any, chunks: Any) -> None:
    """Sixteen times the chunks may not take a hundred times as long; quadratic work would take 256 times."""

    def spent(count: int) -> float:
        ready = list(chunks(count))
        accumulator = endpoint.accumulator()
        start = time.process_time()
        for chunk in ready:
            accumulator.add(chunk)
        return time.process_time() - start

    short = min(spent(CHUNKS // 16) for _ in range(5))
    assert min(spent(CHUNKS) for _ in range(2)) < 100 * short
