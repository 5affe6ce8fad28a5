"""The fast path of plain chunks, which runs without `attempt`."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.providers.openai.test_properties import JSON

from callspan.providers.anthropic.stream import MessageAccumulator
from callspan.providers.openai.chat_stream import ChatAccumulator

MAKERS: list[Any] = [ChatAccumulator, MessageAccumulator]
PIECE = {
    ChatAccumulator: {"id": "c", "choices": [{"index": 0, "delta": {"content": "Hi"}, "finish_reason": None}]},
    MessageAccumulator: {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hi"}},
}


class Awkward:
    """Answers to every subscript with another object of its kind."""

    def __getitem__(self, key: object) -> Awkward:
        return self

    def __len__(self) -> int:
        return 1


def mutated(piece: Any, path: list[int], value: object) -> Any:
    """A piece with something else at one place of it."""
    if not path or not isinstance(piece, dict | list) or not piece:
        return value
    keys = list(piece) if isinstance(piece, dict) else list(range(len(piece)))
    key = keys[path[0] % len(keys)]
    piece[key] = mutated(piece[key], path[1:], value)
    return piece


@pytest.mark.parametrize("maker", MAKERS)
@given(data=st.data())
def test_the_fast_path_takes_a_chunk_or_leaves_it_to_the_slow_path(maker: Any, data: st.DataObject) -> None:
    short, long = maker(), maker()
    pieces = JSON | st.builds(
        mutated,
        st.builds(copy.deepcopy, st.just(PIECE[maker])),
        st.lists(st.integers(0, 5), max_size=5),
        JSON | st.just(Awkward()) | st.just(b"bytes") | st.just({1}),
    )
    for chunk in data.draw(st.lists(st.builds(dict, st.just(PIECE[maker])) | pieces, max_size=6)):
        if isinstance(chunk, dict) and "delta" in chunk:
            # The fast path does not look at it: no other event has the delta of a piece.
            chunk["type"] = "content_block_delta"
        before = copy.deepcopy(short.body())
        carried = short.add_piece(chunk) > 0
        if not carried:
            assert short.body() == before, "what is refused has left nothing"
            carried = short.add(chunk) if not isinstance(chunk, Awkward) else False
        assert isinstance(carried, bool)
        if not isinstance(chunk, Awkward):
            assert long.add(chunk) == carried
    assert short.body() == long.body()


@pytest.mark.parametrize("maker", MAKERS)
def test_the_first_piece_takes_the_slow_path_and_later_ones_the_fast_path(maker: Any) -> None:
    accumulator = maker()
    assert accumulator.add_piece(PIECE[maker]) == 0
    assert accumulator.add(PIECE[maker]) is True
    assert accumulator.add_piece(PIECE[maker]) == len("Hi")
    assert "HiHi" in str(accumulator.body())
