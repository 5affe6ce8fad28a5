"""The byte budget of a span, and the readers of settings."""

from __future__ import annotations

from functools import partial

import pytest

from callspan.records import (
    CallRecord,
    Conversation,
    Media,
    Message,
    Part,
    Reasoning,
    Request,
    Text,
    Timing,
    ToolCall,
    ToolResult,
)
from callspan.semconv.content_attributes import (
    Attributes,
    ByteBudget,
    chosen,
    message_weight,
    put_json,
    put_text,
    spread,
)
from callspan.semconv.llm import joined_text
from callspan.semconv.table import as_float, as_int, as_text, as_texts


def test_content_is_charged_in_bytes_not_characters() -> None:
    attributes: Attributes = {}
    budget = ByteBudget(attribute=100, left=1000)
    put_text(attributes, "a", "é" * 10, budget)
    put_json(attributes, "b", ["é"], budget)
    assert attributes == {"a": "é" * 10, "b": '["é"]'}
    assert (budget.left, budget.cut) == (1000 - 20 - 6, 0)


def test_attribute_without_room_is_absent_and_counted() -> None:
    attributes: Attributes = {}
    budget = ByteBudget(attribute=100, left=0)
    put_text(attributes, "a", "text", budget)
    put_json(attributes, "b", [1], budget)
    assert attributes == {}
    assert budget.cut == 4


def test_share_gives_back_what_it_does_not_use() -> None:
    budget = ByteBudget(attribute=100, left=100)
    share = budget.share(2)
    assert share.left == 50
    put_text({}, "a", "x" * 80, share)
    budget.settle(share, 50)
    assert budget.left == 50
    assert budget.cut == pytest.approx(30, abs=3)


@pytest.mark.parametrize(
    ("value", "as_number", "as_whole", "as_word", "as_words"),
    [
        (1, 1.0, 1, None, None),
        (1.5, 1.5, None, None, None),
        (2.0, 2.0, 2, None, None),
        (True, None, None, None, None),
        (None, None, None, None, None),
        ("x", None, None, "x", ("x",)),
        ("", None, None, None, None),
        (["a", 1, "b"], None, None, None, ("a", "b")),
        ([], None, None, None, None),
        ({}, None, None, None, None),
    ],
)
def test_settings_are_read_by_their_type_alone(
    value: object, as_number: object, as_whole: object, as_word: object, as_words: object
) -> None:
    assert (as_float(value), as_int(value), as_text(value), as_texts(value)) == (as_number, as_whole, as_word, as_words)


@pytest.mark.parametrize(
    ("parts", "text"),
    [
        ([], ""),
        ([Text(text="a")], "a"),
        ([Text(text="a"), Reasoning(text="b"), ToolCall(name="f"), Text(text="c")], "a\nc"),
        ([ToolResult(content="r")], "r"),
        ([ToolResult(content=[{"text": "r"}, {"image": 1}, 7, {"text": 3}])], "r"),
        ([ToolResult(content={"odd": 1}), Media(modality="image")], ""),
    ],
)
def test_the_text_of_a_message_is_its_text_and_tool_results(parts: list[Part], text: str) -> None:
    assert joined_text(parts) == text


def test_weight_of_a_message_grows_with_everything_in_it() -> None:
    parts: list[Part] = [
        Text(text="x" * 100),
        Reasoning(text="x" * 100),
        ToolCall(name="f", arguments="x" * 100),
        ToolResult(content=["x" * 100]),
        Media(modality="image", data="x" * 100),
    ]
    assert message_weight(Message(role="user", parts=parts), 10_000) > 500
    assert message_weight(Message(role="user", parts=parts), 50) < 300, "counting stops at the limit"


def _record(body_bytes: int | None) -> CallRecord:
    return CallRecord(call_id="c", timing=Timing(start_ns=1), request=Request(body_bytes=body_bytes))


def test_small_request_is_taken_whole_without_measuring() -> None:
    messages = Conversation(input=[Message(role="user", parts=[Text(text="x" * 90)])] * 9).input
    picked = chosen(messages, _record(100), ByteBudget(200, 200))
    assert (picked.omitted, len(picked.rest), picked.about) == (0, 9, 100)


@pytest.mark.parametrize("body_bytes", [None, 5000])
def test_long_request_keeps_first_and_newest_messages(body_bytes: int | None) -> None:
    messages = [Message(role="user", parts=[Text(text=f"{index}" * 90)]) for index in range(9)]
    budget = ByteBudget(700, 700)
    picked = chosen(messages, _record(body_bytes), budget)
    assert picked.first == messages[:1]
    assert picked.rest == messages[-2:]
    assert picked.omitted == 6
    assert budget.cut == (0 if body_bytes is None else 4300)


def test_parts_that_do_not_all_fit_are_cut_from_the_largest_down() -> None:
    attributes: Attributes = {}
    budget = ByteBudget(attribute=1000, left=300)
    parts = {"large": "l" * 5000, "small": "s" * 50, "medium": "m" * 400}
    spread(budget, [(len(text), partial(_put, attributes, name, text)) for name, text in parts.items()])
    assert attributes["small"] == parts["small"]
    assert {name: len(str(text)) for name, text in attributes.items()} == {"small": 50, "medium": 123, "large": 123}
    assert budget.left >= 0
    assert budget.cut == 400 - 123 + 5000 - 123


def _put(attributes: Attributes, name: str, text: str, budget: ByteBudget) -> None:
    put_text(attributes, name, text, budget)


@pytest.mark.parametrize(("room", "text", "shown"), [(31, "x" * 32, None), (32, "x" * 33, True), (3, "abc", True)])
def test_a_text_without_room_for_the_note_of_its_size_is_absent(room: int, text: str, shown: bool | None) -> None:
    attributes: Attributes = {}
    budget = ByteBudget(attribute=1000, left=room)
    put_text(attributes, "a", text, budget)
    assert ("a" in attributes) == bool(shown)
    if shown and len(text) > room:
        assert str(attributes["a"]).endswith(f"[cut: {len(text)} bytes]")


def test_json_of_which_nothing_is_left_is_absent_and_a_value_that_is_empty_is_shown() -> None:
    attributes: Attributes = {}
    budget = ByteBudget(attribute=1000, left=5)
    put_json(attributes, "a", ["long" * 100], budget)
    put_json(attributes, "b", {}, budget)
    assert attributes == {"b": "{}"}
    assert budget.cut > 300


def test_a_very_large_message_is_truncated_and_does_not_displace_the_others() -> None:
    messages = [Message(role="user", parts=[Text(text=text)]) for text in ("rules", "x" * 100_000, "question")]
    picked = chosen(messages, _record(100_100), ByteBudget(2000, 2000))
    assert (picked.omitted, picked.rest) == (0, messages)
