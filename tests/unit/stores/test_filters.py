"""Filters of calls, their order and pages."""

from __future__ import annotations

from typing import Any

import pytest

from callspan.records import Stream
from callspan.stores import CallFilter, Reader

from .conftest import MIDNIGHT_NS, SECOND, Holding, chat, made


def ids(reader: Reader, **which: Any) -> list[str]:
    found = [call.call_id for call in reader.calls(CallFilter(**which))]
    unpaged = {name: value for name, value in which.items() if name not in {"limit", "offset"}}
    if found or not {"limit", "offset"} & which.keys():
        assert len(found) <= reader.count_calls(CallFilter(**unpaged))
    return found


@pytest.fixture(scope="module")
def mixed(holding: Holding) -> Reader:
    """Six calls, a second apart, delivered out of order."""
    return holding(
        made("d", 3, model="gpt-5", response_model="gpt-5-1", provider="openai", outcome="timeout", session_id="s2"),
        made("a", 0, model="gpt-5", provider="openai", outcome="success", session_id="s1", timestep_id="t1"),
        made("f", 5, outcome="in_progress"),
        made(
            "b", 1, response_model="claude-1", provider="anthropic", outcome="error", session_id="s1", timestep_id="t2"
        ),
        made(
            "e", 4, model="x", provider="anthropic", outcome="cancelled", session_id="s2", stream=Stream(end="closed")
        ),
        made(
            "c",
            2,
            model="gpt-5-1",
            provider="openai",
            outcome="success",
            session_id="s1",
            timestep_id="t1",
            stream=Stream(end="cut_off"),
        ),
    )


@pytest.mark.parametrize(
    ("which", "expected"),
    [
        ({}, "fedcba"),
        ({"newest_first": False}, "abcdef"),
        ({"session_id": "s1"}, "cba"),
        ({"session_id": "s"}, ""),
        ({"session_id": ""}, ""),
        ({"timestep_id": "t1"}, "ca"),
        ({"timestep_id": "t1", "session_id": "s2"}, ""),
        ({"model": "gpt-5"}, "da"),
        ({"model": "gpt-5-1"}, "dc"),
        ({"model": "claude-1"}, "b"),
        ({"model": "gpt"}, ""),
        ({"model": "GPT-5"}, ""),
        ({"provider": "anthropic"}, "eb"),
        ({"provider": "unknown"}, "f"),
        ({"errors": True}, "db"),
        ({"errors": False}, "ca"),
        ({"errors": True, "provider": "openai"}, "d"),
        ({"cut_off": True}, "c"),
        ({"cut_off": True, "errors": True}, ""),
        ({"cut_off": False}, "fedba"),
        ({"in_progress": True}, "f"),
        ({"in_progress": False}, "edcba"),
        ({"since_ns": MIDNIGHT_NS + 3 * SECOND}, "fed"),
        ({"since_ns": MIDNIGHT_NS + 3 * SECOND + 1}, "fe"),
        ({"until_ns": MIDNIGHT_NS + 3 * SECOND}, "cba"),
        ({"until_ns": MIDNIGHT_NS + 3 * SECOND + 1}, "dcba"),
        ({"since_ns": MIDNIGHT_NS + SECOND, "until_ns": MIDNIGHT_NS + 4 * SECOND}, "dcb"),
        ({"since_ns": MIDNIGHT_NS + SECOND, "until_ns": MIDNIGHT_NS + SECOND}, ""),
        ({"since_ns": 0, "until_ns": 0}, ""),
        ({"limit": 0}, ""),
        ({"limit": 2}, "fe"),
        ({"limit": 2, "offset": 1}, "ed"),
        ({"limit": 2, "offset": 5}, "a"),
        ({"limit": 9, "offset": 6}, ""),
        ({"offset": 4}, "ba"),
        ({"offset": 4, "newest_first": False}, "ef"),
        ({"limit": 1, "session_id": "s1", "newest_first": False}, "a"),
        ({"text": "anything"}, ""),
    ],
)
def test_every_field_narrows_and_pages_cut_what_is_left(mixed: Reader, which: Any, expected: str) -> None:
    assert ids(mixed, **which) == list(expected)


@pytest.fixture(scope="module")
def talking(holding: Holding) -> Reader:
    ask = {"role": "user", "content": "Where is the RED key?"}
    call = {"id": "k", "type": "function", "function": {"name": "open_door", "arguments": '{"door":"north"}'}}
    long = "x " * 3_000 + "needle at the end"
    return holding(
        chat("system", [{"role": "system", "content": "Speak like a pirate"}, ask], "Arr"),
        chat("first", [ask], "Under the mat"),
        chat("second", [ask, {"role": "assistant", "content": "Under the mat"}, {"role": "user", "content": "100%"}]),
        chat("tool", [{"role": "user", "content": "go"}], {"role": "assistant", "content": None, "tool_calls": [call]}),
        chat("wide", [{"role": "user", "content": "STRASSE\u00a0\u0130 Ünder_score"}]),
        chat("long", [{"role": "user", "content": long}]),
        chat(
            "settings", [{"role": "user", "content": "q"}], also={"user": "hidden-field", "tools": [{"name": "shovel"}]}
        ),
        made("empty"),
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("red key", {"system", "first", "second"}),
        ("RED KEY?", {"system", "first", "second"}),
        ("pirate", {"system"}),
        ("under the mat", {"first", "second"}),
        ("arr", {"system"}),
        ("100%", {"second"}),
        ("1%0", set()),
        ("_", {"tool", "wide"}),
        ("under_s", set()),
        ("ünder_s", {"wide"}),
        ("ÜNDER_S", {"wide"}),
        ("straße", {"wide"}),
        ("open_door(", {"tool"}),
        ("north", {"tool"}),
        ("needle at the END", {"long"}),
        ("hidden-field", set()),
        ("shovel", set()),
        ("assistant", set()),
        ("no such words", set()),
        ("'; DROP TABLE calls; --", set()),
    ],
)
def test_text_is_looked_for_in_messages_only(talking: Reader, text: str, expected: set[str]) -> None:
    assert set(ids(talking, text=text)) == expected


@pytest.mark.parametrize(
    ("prefix", "found"),
    [
        ("abc-1", "abc-1"),
        ("abc-12", "abc-12"),
        ("abc-2", "abc-2"),
        ("abc-", None),
        ("abd", "abd"),
        ("ab", None),
        ("z", None),
        ("", None),
        ("ABD", None),
        ("%", None),
        ("abc-3", None),
        ("feedfacefeedface", "abd"),
        ("feedface", None),
    ],
)
def test_a_call_is_known_by_its_whole_id_a_beginning_of_its_own_or_its_span(
    holding: Holding, prefix: str, found: str | None
) -> None:
    reader = holding(
        made("abc-1"),
        made("abc-12"),
        made("abc-2"),
        made("abd", span_id="feedfacefeedface"),
        made("b", span_id="b" * 16),
    )
    record = reader.call(prefix)
    assert (record.call_id if record else None) == found
