"""Copies: equal to the original without shared containers; and merging of partial values."""

from __future__ import annotations

import datetime as dt
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callspan.providers.wire_json import detached, fill, merge_list, overlay

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=15,
)
OBJECTS = st.dictionaries(st.sampled_from("abc"), JSON, max_size=3)


def containers(value: object) -> set[int]:
    if not isinstance(value, dict | list):
        return set()
    inner = value.values() if isinstance(value, dict) else value
    return {id(value)}.union(*(containers(item) for item in inner))


@given(JSON)
def test_a_copy_is_equal_and_shares_no_container(value: object) -> None:
    copied = detached(value)

    assert copied == value
    assert not containers(copied) & containers(value)


def test_every_character_is_kept() -> None:
    assert detached(["\0", "\ud83d", "é"]) == ["\0", "\ud83d", "é"]


@pytest.mark.parametrize(
    "value",
    [
        {"pair": (1, 2)},
        ("\0", "\ud83d", {"x": ("\ud83d",)}),
        {1: "a", 1.5: "b"},
        {True: "c"},
        {None: {False: (None,)}},
    ],
)
def test_a_copy_is_what_the_wire_has(value: Any) -> None:
    """As the SDKs write it, with the standard library."""
    assert detached(value) == json.loads(json.dumps(value))


def test_values_that_are_not_json_are_converted() -> None:
    assert detached({"at": dt.date(2026, 1, 2)}) == {"at": "2026-01-02"}


def test_cyclic_values_are_cut_off() -> None:
    value: dict[str, Any] = {}
    value["self"] = value
    assert "<too deep>" in repr(detached(value))
    target: dict[str, Any] = {}
    overlay(target, value)
    fill(target, value)
    overlay(target, value)


def test_the_last_reported_value_wins_and_null_erases_nothing() -> None:
    known: dict[str, object] = {"a": 1, "b": {"x": 1, "y": 2}, "c": [1]}

    overlay(known, {"a": None, "b": {"x": 5}, "c": [2], "d": None})

    assert known == {"a": 1, "b": {"x": 5, "y": 2}, "c": [2], "d": None}


@given(OBJECTS, OBJECTS)
def test_what_is_merged_is_not_shared(known: dict[str, object], newer: dict[str, object]) -> None:
    ours = detached(known)
    assert isinstance(ours, dict)
    before = repr(newer)

    overlay(ours, newer)

    assert repr(newer) == before
    assert not containers(ours) & containers(newer)
    assert all(ours[key] is not None for key, value in newer.items() if value is not None)


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
def test_a_note_replaces_values_that_are_too_deep(shape: str) -> None:
    deep: Any = "bottom"
    for _ in range(70):
        deep = [deep] if shape == "list" else {"a": deep}
    copied = detached(deep)
    for _ in range(64):
        (copied,) = copied if shape == "list" else copied.values()
    assert copied == "<too deep>"
