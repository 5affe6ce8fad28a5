"""Long streams: the time of an accumulator grows with their length. Their memory: tests/faults/test_memory.py."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

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


@pytest.mark.parametrize(("endpoint", "chunks"), STREAMS, ids=["text", "arguments", "events"])
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
