"""Copies: equal to what came, sharing nothing with it; and merging of what is stated in parts."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from callspan.providers.copies import detached, overlay

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


def test_what_is_nested_too_deep_ends_in_a_note() -> None:
    value: list[object] = []
    value.append(value)

    copied = detached(value)

    assert "<too deep>" in repr(copied)


def test_what_is_no_json_becomes_it() -> None:
    assert detached({"pair": (1, 2)}) == {"pair": [1, 2]}


def test_the_last_value_stated_wins_and_null_erases_nothing() -> None:
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


def test_a_note_stands_for_what_lies_too_deep() -> None:
    deep: object = "bottom"
    for _ in range(70):
        deep = [deep]

    copied = detached(deep)

    for _ in range(64):
        assert isinstance(copied, list)
        (copied,) = copied
    assert copied == "<too deep>"
