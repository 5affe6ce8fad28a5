"""Bodies: split and joined, and their human-readable text."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callspan.stores import bodies
from callspan.stores.bodies import fragments


def compact(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def rebuilt(body: bytes, key: str | None = None) -> bytes:
    parts = bodies.split(body, key)
    apart = parts.others if parts.system is None else [*parts.others, parts.system]
    known = {part.hash: part.json for part in apart}
    return bodies.join(parts.skeleton.json, [part.json for part in parts.history], known.__getitem__)


@pytest.mark.parametrize(
    "body",
    [
        {"model": "m", "messages": [], "n": 1},
        {"messages": [{"role": "user", "content": "x"}], "model": "m"},
        {"b": 1, "a": 2, "messages": [1, None, "text", {"z": 1, "a": 2}], "c": 3},
        {"input": "one text", "model": "m"},
        {"input": [{"role": "user", "content": "x"}], "prompt": {"id": "p"}},
        {"prompt": ["a", "b"]},
        {"system": "short", "messages": {"not": "a list"}},
        {"instructions": "x" * 1_000, "tools": [{"name": "t"}], "text": {"format": {"schema": "y" * 500}}},
        {"messages": None, "tools": None, "system": None},
        {"": "an empty key"},
        {},
    ],
)
def test_a_body_comes_back_byte_for_byte(body: dict[str, object]) -> None:
    assert rebuilt(compact(body)) == compact(body)


def test_numbers_and_escapes_keep_their_spelling() -> None:
    body = rb'{"a":1.0,"b":1e5,"messages":[{"content":"\u00e9\ud83d\ude00\u0000","n":10000000000000000000000}],"c":-0}'
    assert rebuilt(body) == body


def test_the_system_prompt_is_apart_from_other_large_values() -> None:
    parts = bodies.split(compact({"system": "s", "tools": [1], "messages": []}), "messages")
    assert ([part.json for part in parts.others], parts.system and parts.system.json) == ([b"[1]"], b'"s"')
    assert bodies.split(b"{}", None).system is None


def test_each_of_several_equal_messages_is_a_piece() -> None:
    turn = [{"role": "user", "content": "next"}, {"role": "assistant", "content": "done"}]
    first, second = (bodies.split(compact({"messages": turn * times}), "messages").history for times in (2, 3))
    assert len({part.hash for part in second}) == 6
    assert [part.hash for part in first] == [part.hash for part in second[:4]]
    assert all(bodies.is_hash_of(part.hash, part.json) for part in second)


TEXTS = st.text(st.characters(codec="utf-8"), max_size=60)
PARTS = st.fixed_dictionaries(
    {"role": st.sampled_from(["user", "assistant", "tool"])},
    optional={
        "content": TEXTS | st.lists(st.fixed_dictionaries({"type": st.just("text"), "text": TEXTS}), max_size=3),
        "tool_calls": st.lists(
            st.fixed_dictionaries({"function": st.fixed_dictionaries({"name": TEXTS, "arguments": TEXTS})}), max_size=2
        ),
        "name": TEXTS,
    },
)


@given(PARTS, st.booleans())
def test_any_message_is_stored_without_loss(message: dict[str, object], escaped: bool) -> None:
    exact = json.dumps(message, ensure_ascii=escaped).encode()
    row = bodies.to_row(bodies.piece(exact, ""))
    assert bodies.from_row(*row) == exact
    assert row.role == message["role"]


def test_a_text_with_the_marking_byte_is_kept() -> None:
    for content in ("\x1a0,5;", "long enough to be lifted \x1a3,4; and more"):
        for exact in (compact({"role": "user", "content": content}), compact({"content": [{"text": content}]})):
            row = bodies.to_row(bodies.piece(exact, ""))
            assert bodies.from_row(*row) == exact


def test_a_body_that_is_no_json_is_kept() -> None:
    for exact in (b'{"text": "long enough to be lifted \x1a0,9;"}', b"\x1a0,9;", b""):
        row = bodies.to_row(bodies.piece(exact, "assistant"))
        assert bodies.from_row(*row) == exact


def test_deep_nesting_is_cut_off() -> None:
    value: object = "deep"
    for _ in range(500):
        value = {"content": [value]}
    assert fragments(value) == []


@given(st.recursive(st.none() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
def test_reading_never_fails(value: object) -> None:
    assert all(isinstance(fragment.text, str) for fragment in fragments(value))
