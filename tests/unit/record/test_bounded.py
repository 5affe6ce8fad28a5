"""Bounded values: never more bytes than allowed, always whole characters and valid JSON."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callspan.record.bounded import fit_json, newest_that_fit

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**6), 10**6) | st.text(max_size=30),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=15,
)


@pytest.mark.parametrize(
    ("value", "limit", "kept"),
    [
        (list(range(1_000)), 60, '{"callspan_truncated":{"bytes":3891}}'),
        (list(range(1_000)), 36, "{}"),
        (list(range(1_000)), 2, "{}"),
        (list(range(1_000)), 1, "0"),
        ("x" * 50, 20, '"…[cut: 50 bytes]"'),
        (None, 4, "null"),
        ([], 2, "[]"),
    ],
)
def test_what_cannot_be_shortened_is_replaced_by_its_size(value: object, limit: int, kept: str) -> None:
    found = fit_json(value, limit)[0].decode()
    if "truncated" in kept:
        assert json.loads(found).keys() == {"callspan_truncated"}
    else:
        assert found == kept


@pytest.mark.parametrize(
    ("sizes", "limit", "start"),
    [
        ([], 10, 0),
        ([99], 10, 0),
        ([1, 1], 10, 1),
        ([1, 99], 10, 1),
        ([1, 1, 1, 1], 10, 1),
        ([1, 5, 5, 1], 10, 2),
        ([1, 5, 3, 1], 10, 1),
        ([1, 1, 9, 1], 10, 1),
        ([1, 4, 9, 1], 10, 2),
        ([5, 1, 1, 6], 10, 3),
        ([0, 0, 0, 0], 0, 1),
    ],
)
def test_the_first_and_the_newest_of_a_history_are_kept(sizes: list[int], limit: int, start: int) -> None:
    assert newest_that_fit(len(sizes), sizes.__getitem__, limit) == start


@pytest.mark.parametrize(
    ("limit", "whole"), [(9_000, {"text", "quote", "id"}), (4_000, {"quote", "id"}), (500, {"id"})]
)
def test_the_longest_texts_are_cut_first_and_note_their_size(limit: int, whole: set[str]) -> None:
    value = {"text": "ä" * 3_000, "quote": "x" * 900, "id": "0123456789abcdef"}
    data, cut = fit_json([value], limit)
    (kept,) = json.loads(data)
    assert len(data) <= limit
    assert {name for name, text in kept.items() if text == value[name]} == whole
    sizes = {name: len(text.encode()) for name, text in value.items()}
    assert all(text.endswith(f"…[cut: {sizes[name]} bytes]") for name, text in kept.items() if name not in whole)
    assert (cut == 0) is (limit == 9_000)


@given(st.lists(st.sampled_from(["prose " * 600, "é" * 300, '"' * 90, "id"]), max_size=6), st.integers(2, 9_000))
def test_values_of_many_texts_stay_within_their_bounds(texts: list[str], limit: int) -> None:
    data, cut = fit_json({"parts": texts}, limit)
    assert len(data) <= limit
    assert (json.loads(data) == {"parts": texts}) is (cut == 0)
