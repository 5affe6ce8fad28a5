"""Detached copies and how they merge."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest

from callspan.providers.openai.detach import detached, fill, merge_list, overlay


@pytest.mark.parametrize("value", [None, True, 3, 1.5, "x", [], {}, [1, [2]], {"a": {"b": [None]}}])
def test_a_copy_is_equal(value: Any) -> None:
    assert detached(value) == value


def test_a_copy_shares_no_container() -> None:
    value = {"a": [{"b": 1}], "t": ({"c": 1},)}
    copy = detached(value)
    assert copy["a"] is not value["a"]
    assert copy["a"][0] is not value["a"][0]
    assert copy["t"] == [{"c": 1}]


def test_what_is_no_json_is_made_json() -> None:
    assert detached({1: dt.date(2026, 1, 2)}) == {"1": "2026-01-02"}


def test_cycles_end() -> None:
    value: dict[str, Any] = {}
    value["self"] = value
    assert "<too deep>" in repr(detached(value))
    target: dict[str, Any] = {}
    overlay(target, value)
    fill(target, value)
    overlay(target, value)


@pytest.mark.parametrize(
    ("known", "new", "merged"),
    [
        ({}, {"a": 1}, {"a": 1}),
        ({"a": 1}, {"a": 2}, {"a": 2}),
        ({"a": 1}, {"a": None}, {"a": 1}),
        ({}, {"a": None}, {"a": None}),
        ({"a": None}, {"a": 0}, {"a": 0}),
        ({"a": {"b": 1}}, {"a": {"c": 2}}, {"a": {"b": 1, "c": 2}}),
        ({"a": {"b": 1}}, {"a": {"b": None}}, {"a": {"b": 1}}),
        ({"a": {"b": 1}}, {"a": 3}, {"a": 3}),
        ({"a": [1]}, {"a": [2]}, {"a": [2]}),
    ],
)
def test_overlay_takes_the_last_value_that_is_not_null(
    known: dict[str, Any], new: dict[str, Any], merged: dict[str, Any]
) -> None:
    overlay(known, new)
    assert known == merged


@pytest.mark.parametrize(
    ("known", "new", "merged"),
    [
        ({}, {"a": 1}, {"a": 1}),
        ({"a": 1}, {"a": 2}, {"a": 1}),
        ({"a": None}, {"a": 2}, {"a": 2}),
        ({"a": ""}, {"a": "x"}, {"a": "x"}),
        ({"a": "x"}, {"a": ""}, {"a": "x"}),
        ({}, {"a": ""}, {"a": ""}),
        ({"a": {"b": 1}}, {"a": {"b": 2, "c": 3}}, {"a": {"b": 1, "c": 3}}),
        ({"a": 1}, {"a": {"b": 1}}, {"a": 1}),
    ],
)
def test_fill_takes_the_first_value_that_is_not_empty(
    known: dict[str, Any], new: dict[str, Any], merged: dict[str, Any]
) -> None:
    fill(known, new)
    assert known == merged


def test_merged_values_are_copies() -> None:
    inner = {"b": [1]}
    over: dict[str, Any] = {}
    filled: dict[str, Any] = {}
    listed: list[Any] = []
    overlay(over, {"a": inner})
    fill(filled, {"a": inner})
    merge_list(listed, [inner])
    inner["b"].append(2)
    assert over == filled == {"a": {"b": [1]}}
    assert listed == [{"b": [1]}]


def test_lists_grow_and_update_what_has_the_same_index() -> None:
    target: list[Any] = []
    merge_list(target, [{"index": 0, "a": 1}, "x"])
    merge_list(target, [{"index": 0, "b": 2}, {"index": 1}, {"index": "0"}, None])
    assert target == [{"index": 0, "a": 1, "b": 2}, "x", {"index": 1}, {"index": "0"}, None]


@pytest.mark.parametrize("shape", ["list", "object"])
def test_a_note_stands_for_what_lies_too_deep(shape: str) -> None:
    deep: Any = "bottom"
    for _ in range(70):
        deep = [deep] if shape == "list" else {"a": deep}
    copied = detached(deep)
    for _ in range(64):
        (copied,) = copied if shape == "list" else copied.values()
    assert copied == "<too deep>"
