"""Bounded values: never more bytes than allowed, always whole characters and valid JSON."""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callspan.record.bounded import fit_json, fit_texts, json_attribute, newest_that_fit

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
    found = json_attribute(value, limit)
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
        ([1, 1, 9, 1], 10, 3),
        ([5, 1, 1, 6], 10, 3),
        ([0, 0, 0, 0], 0, 1),
    ],
)
def test_the_first_and_the_newest_of_a_history_are_kept(sizes: list[int], limit: int, start: int) -> None:
    assert newest_that_fit(len(sizes), sizes.__getitem__, limit) == start


@given(st.lists(st.text(), max_size=6), st.integers(0, 200))
def test_texts_together_are_cut_longest_first(texts: list[str], room: int) -> None:
    kept = fit_texts(texts, room)
    assert sum(len(text.encode("utf-8", "replace")) for text in kept) <= room or kept == texts
    changed = [len(text) for text, now in zip(texts, kept, strict=True) if text != now]
    whole = [len(text.encode("utf-8", "replace")) for text, now in zip(texts, kept, strict=True) if text == now]
    assert not changed or not whole or max(whole) <= 4 * max(changed) + 4


def test_a_small_text_next_to_a_very_large_one_is_complete_and_the_large_one_notes_its_size() -> None:
    small, giant = fit_texts(["question", "ä" * 10_000], 1000)
    assert small == "question"
    assert giant.endswith("…[cut: 20000 bytes]")
    assert 900 < len(giant.encode()) <= 992


PROSE = "The parcel was sent on Monday and arrives tomorrow. " * 60
SEALED = base64.b64encode(bytes(range(256)) * 12).decode()
PICTURE = f"data:image/png;base64,{SEALED}"
HEX = "0123456789abcdef" * 6


@pytest.mark.parametrize(
    ("limit", "whole"),
    [(20_000, {"text", "signature", "image", "id"}), (6_000, {"text", "id"}), (3_500, {"text", "id"}), (1_000, {"id"})],
)
def test_encoded_bytes_are_cut_before_what_people_read(limit: int, whole: set[str]) -> None:
    """Down to a note of their size, before a letter of a text is; ids are no such bytes."""
    value = {"signature": SEALED, "text": PROSE, "image": PICTURE, "id": HEX}
    data, cut = fit_json([value], limit)
    (kept,) = json.loads(data)
    assert len(data) <= limit
    assert {name for name, text in kept.items() if text == value[name]} == whole
    assert all(text.endswith(f"…[cut: {len(value[name])} bytes]") for name, text in kept.items() if name not in whole)
    assert (cut == 0) is (limit == 20_000)
    assert ("text" in whole) or (len(kept["signature"]) < 40 < len(kept["text"]))


@given(st.lists(st.sampled_from([PROSE, SEALED, PICTURE, HEX, "é" * 300]), max_size=6), st.integers(2, 9_000))
def test_values_with_encoded_bytes_stay_within_their_bounds(texts: list[str], limit: int) -> None:
    data, cut = fit_json({"parts": texts}, limit)
    assert len(data) <= limit
    assert (json.loads(data) == {"parts": texts}) is (cut == 0)
