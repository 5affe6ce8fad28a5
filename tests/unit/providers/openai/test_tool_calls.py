"""Tool calls of chat streams: fragments find their call, with or without index and id."""

from __future__ import annotations

from typing import Any

import pytest

from callspan.providers.openai.tool_calls import ToolCalls


def fold(*deltas: list[Any], cut: bool = False) -> list[dict[str, Any]]:
    calls = ToolCalls()
    for delta in deltas:
        calls.add(delta)
    return calls.body(cut=cut)


def call(index: int | None = None, call_id: Any = None, name: Any = None, arguments: Any = None) -> dict[str, Any]:
    fragment: dict[str, Any] = {"function": {}}
    if index is not None:
        fragment["index"] = index
    if call_id is not None:
        fragment["id"] = call_id
    if name is not None:
        fragment["function"]["name"] = name
    if arguments is not None:
        fragment["function"]["arguments"] = arguments
    return fragment


def shown(*deltas: list[Any]) -> list[tuple[Any, Any, Any]]:
    return [(one.get("id"), one["function"]["name"], one["function"]["arguments"]) for one in fold(*deltas)]


def test_one_call_in_fragments() -> None:
    whole = fold(
        [call(0, "a", "move", "") | {"type": "function"}], [call(0, arguments='{"x"')], [call(0, arguments=":1}")]
    )
    assert whole == [{"id": "a", "type": "function", "function": {"name": "move", "arguments": '{"x":1}'}}]


def test_interleaved_calls_are_rebuilt_exactly() -> None:
    assert shown(
        [call(0, "a", "f", "")],
        [call(1, "b", "g", "")],
        [call(1, arguments="{")],
        [call(0, arguments="[")],
        [call(1, arguments="}"), call(0, arguments="]")],
    ) == [("a", "f", "[]"), ("b", "g", "{}")]


def test_calls_are_in_the_order_of_their_indices() -> None:
    assert [one[0] for one in shown([call(2, "c", "f")], [call(0, "a", "f")], [call(1, "b", "f")])] == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("names", "whole"),
    [
        (["get_", "x"], "get_x"),
        (["move", "move"], "move"),
        (["move", None, ""], "move"),
        (["", "move"], "move"),
    ],
)
def test_names_are_joined_unless_repeated(names: list[str | None], whole: str) -> None:
    assert shown(*[[call(0, "a", name, "")] for name in names])[0][1] == whole


def test_without_an_index_the_id_identifies_the_call() -> None:
    assert shown(
        [call(None, "a", "f", "1")],
        [call(None, "b", "g", "2")],
        [call(None, "a", None, "3")],
        [call(None, "b", None, "4")],
    ) == [("a", "f", "13"), ("b", "g", "24")]


def test_without_index_and_id_the_newest_call_continues() -> None:
    assert shown([call(None, "a", "f", "")], [call(arguments="{")], [call(arguments="}")]) == [("a", "f", "{}")]


def test_whole_calls_without_index_and_id_stay_apart() -> None:
    assert shown([call(None, None, "f", "{}")], [call(None, None, "g", "{}")], [call(None, None, "g", "{}")]) == [
        (None, "f", "{}"),
        (None, "g", "{}"),
        (None, "g", "{}"),
    ]


def test_several_in_one_delta_without_index_and_id_go_by_their_place() -> None:
    assert shown([call(None, None, "f", "1"), call(None, None, "g", "2")]) == [(None, "f", "1"), (None, "g", "2")]


def test_a_name_in_fragments_without_index_and_id() -> None:
    assert shown([call(None, None, "get_")], [call(None, None, "x")], [call(arguments="{}")]) == [(None, "get_x", "{}")]


def test_gateways_that_number_every_call_zero() -> None:
    assert shown([call(0, "a", "f", "{}")], [call(0, "b", "g", "{}")], [call(0, None, None, " ")]) == [
        ("a", "f", "{}"),
        ("b", "g", "{} "),
    ]


def test_a_new_id_on_every_fragment_is_still_one_call() -> None:
    assert shown([call(0, "a", "f", "")], [call(0, "b", None, "{")], [call(0, "c", None, "}")]) == [("a", "f", "{}")]


def test_arguments_as_an_object_become_json_text() -> None:
    assert shown([call(0, "a", "f", {"x": [1]})]) == [("a", "f", '{"x":[1]}')]


def test_custom_tools_have_input() -> None:
    first = {"index": 0, "id": "a", "type": "custom", "custom": {"name": "sql", "input": "sel"}}
    assert fold([first], [{"index": 0, "custom": {"input": "ect"}}]) == [
        {"id": "a", "type": "custom", "custom": {"name": "sql", "input": "select"}}
    ]


def test_signatures_beside_the_call_are_kept() -> None:
    signed = {"google": {"thought_signature": "sig"}}
    whole = fold([call(0, "a", "f", "{}")], [{"index": 0, "extra_content": signed}])
    assert whole[0]["extra_content"] == signed


@pytest.mark.parametrize(
    ("arguments", "cut", "incomplete"),
    [
        ('{"a": 1}', True, False),
        ('{"a": ', True, True),
        ("", True, True),
        ('{"a": ', False, False),
        ("not json", False, False),
    ],
)
def test_a_cut_call_is_marked(arguments: str, cut: bool, incomplete: bool) -> None:
    whole = fold([call(0, "a", "f", arguments)], cut=cut)
    assert whole[0].get("incomplete", False) is incomplete


def test_a_call_without_name_is_marked_and_kept() -> None:
    assert fold([call(0, "a", None, "{}")]) == [
        {"id": "a", "type": "function", "function": {"name": None, "arguments": "{}"}, "incomplete": True}
    ]


def test_a_cut_custom_call_is_always_marked() -> None:
    assert fold([{"custom": {"name": "sql", "input": "1"}}], cut=True)[0]["incomplete"] is True


@pytest.mark.parametrize("junk", [[], [None], ["x"], [[]], [3]])
def test_a_value_that_is_not_a_fragment_makes_no_call(junk: list[Any]) -> None:
    calls = ToolCalls()
    assert calls.add(junk) is False
    assert not calls


@pytest.mark.parametrize("odd", [{}, {"index": "0"}, {"index": True, "id": 3}, {"function": None}, {"function": []}])
def test_invalid_fragments_are_calls_without_a_name(odd: dict[str, Any]) -> None:
    assert fold([odd])[0]["incomplete"] is True


@pytest.mark.parametrize(
    "fragments",
    [
        [{"name": "f", "arguments": '{"a"'}, {"name": "f"}, {"arguments": ":1}"}],
        [{"name": "f", "arguments": '{"a"'}, {"name": "f", "arguments": ":1"}, {"name": "f", "arguments": "}"}],
    ],
    ids=["repeated without arguments", "repeated with every fragment"],
)
def test_a_name_that_is_repeated_begins_no_call(fragments: list[dict[str, str]]) -> None:
    calls = ToolCalls()
    for fragment in fragments:
        calls.add([{"function": fragment}])
    (call,) = calls.body(cut=False)
    assert call["function"] == {"name": "f", "arguments": '{"a":1}'}


def test_arguments_that_open_again_are_the_next_call() -> None:
    calls = ToolCalls()
    for _ in range(2):
        calls.add([{"function": {"name": "f", "arguments": "{}"}}])
    assert [call["function"]["arguments"] for call in calls.body(cut=False)] == ["{}", "{}"]


@pytest.mark.parametrize("index", ["0", True, [], None, 1.5])
def test_an_index_is_a_whole_number(index: object) -> None:
    calls = ToolCalls()
    calls.add([{"index": index, "id": "a", "function": {"name": "f", "arguments": "{}"}}])
    calls.add([{"index": index, "id": "b", "function": {"name": "g", "arguments": "{}"}}])
    assert [call["id"] for call in calls.body(cut=False)] == ["a", "b"]


def test_what_a_gateway_adds_to_a_function_is_kept() -> None:
    calls = ToolCalls()
    calls.add([{"index": 0, "id": "a", "function": {"name": "f", "arguments": "{}", "strict": True}}])
    (call,) = calls.body(cut=False)
    assert call["function"] == {"strict": True, "name": "f", "arguments": "{}"}


@pytest.mark.parametrize(("stated", "kept"), [("builtin_function", "builtin_function"), ("", "function")])
def test_the_type_of_a_call_is_the_one_given(stated: str, kept: str) -> None:
    (one,) = fold([{**call(0, "a", "f", "{}"), "type": stated}])
    assert one["type"] == kept
