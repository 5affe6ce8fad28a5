"""String builders and lists of typed objects."""

from __future__ import annotations

from typing import Any

import pytest

from callspan.providers.openai.chat_choice import FragmentList
from callspan.providers.wire_json import StringBuilder


def grown(*items: dict[str, Any]) -> list[dict[str, Any]]:
    growing = FragmentList()
    for item in items:
        growing.add(item)
    return growing.body()


def test_pieces_are_joined_in_order() -> None:
    pieces = StringBuilder()
    assert not pieces
    for number in range(200):
        pieces.add(f"{number},")
    assert pieces
    assert pieces.joined() == "".join(f"{number}," for number in range(200))


def test_a_text_is_kept_as_it_is_and_an_empty_one_counts() -> None:
    pieces = StringBuilder()
    pieces.add("")
    assert pieces, "an empty text was added"
    odd = "a\r\nb\rc\n\ud800d\U0001f600\0"
    for piece in odd:
        assert pieces.write(piece) == 1
    assert pieces.joined() == odd
    with pytest.raises(TypeError):
        pieces.write(b"bytes")  # type: ignore[arg-type] # a stream may bring anything
    assert pieces.joined() == odd


def test_pieces_can_be_replaced() -> None:
    pieces = StringBuilder()
    pieces.add("x")
    pieces.add("y")
    pieces.set("whole")
    assert pieces.joined() == "whole"
    pieces.add("!")
    assert pieces.joined() == "whole!"


def test_fragments_of_the_same_type_in_a_row_are_one() -> None:
    assert grown(
        {"type": "text", "text": "a"},
        {"type": "text", "text": "b", "lang": "en"},
        {"type": "thinking", "thinking": "c"},
        {"type": "text", "text": "d"},
    ) == [
        {"type": "text", "lang": "en", "text": "ab"},
        {"type": "thinking", "thinking": "c"},
        {"type": "text", "text": "d"},
    ]


def test_fragments_are_identified_by_index() -> None:
    assert grown(
        {"type": "t", "index": 0, "text": "a"},
        {"type": "t", "index": 1, "text": "b"},
        {"type": "t", "index": 0, "text": "c"},
        {"type": "s", "index": 0, "summary": "d"},
    ) == [
        {"type": "t", "index": 0, "text": "ac"},
        {"type": "t", "index": 1, "text": "b"},
        {"type": "s", "index": 0, "summary": "d"},
    ]


def test_objects_without_text_stay_apart() -> None:
    picture = {"type": "image_url", "image_url": "http://x"}
    assert grown(picture, picture) == [picture, picture]


def test_a_list_that_holds_more_than_texts_is_kept_as_it_is() -> None:
    odd = {"type": "thinking", "thinking": [{"type": "reference", "ids": [1]}]}
    assert grown(odd) == [odd]


def test_new_objects_and_new_text_carry_content() -> None:
    growing = FragmentList()
    assert not growing
    assert growing.add({"type": "text", "text": "a"})
    assert not growing.add({"type": "text", "text": ""})
    assert growing.add({"type": "image_url", "image_url": "x"})
    assert growing


def test_an_object_without_text_does_not_continue_another() -> None:
    assert grown({"type": "text", "text": "a"}, {"type": "text", "signature": "s"}) == [
        {"type": "text", "text": "a"},
        {"type": "text", "signature": "s"},
    ]


def test_an_object_without_text_is_not_continued() -> None:
    assert grown({"type": "text", "id": 1}, {"type": "text", "text": "a"}) == [
        {"type": "text", "id": 1},
        {"type": "text", "text": "a"},
    ]


@pytest.mark.parametrize("odd", [{"type": ["x"], "index": 0}, {"type": {}, "index": 0}, {"type": "t", "index": [0]}])
def test_types_and_numbers_of_another_shape_are_none(odd: dict[str, Any]) -> None:
    assert grown({**odd, "text": "a"}) == [{**odd, "text": "a"}]
