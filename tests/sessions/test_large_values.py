"""Values of an application that are very large: read in part on its thread, with a note of what is left out."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import cache
from itertools import count
from typing import Any

import pytest

import callspan
from callspan.testing import capture

NUMBER = 300_000


@cache
def keys() -> dict[str, str]:
    return {f"key {i}": f"value {i}" for i in range(NUMBER)}


@cache
def texts() -> list[str]:
    return [f"text {i}" for i in range(NUMBER)]


@cache
def pairs() -> list[dict[str, Any]]:
    return [{"a": i, "b": str(i)} for i in range(NUMBER)]


def _metadata(session: Any, **fields: Any) -> None:
    with callspan.metadata(**fields):
        session.event("reset")


def _tool(session: Any) -> None:
    with session.tool("search", arguments=pairs()) as tool:
        tool.output = pairs()


def _inner(session: Any) -> None:
    callspan.session("inner", metadata=keys()).start().end()


def _endless() -> Iterator[str]:
    yield from map(str, count())


WAYS: dict[str, tuple[Callable[[Any], object], str]] = {
    "metadata": (lambda session: _metadata(session, **keys(), user_id="ann"), "metadata"),
    "extra": (lambda session: _metadata(session, extra=keys()), "metadata"),
    "one value": (lambda session: _metadata(session, rows=pairs()), "metadata"),
    "tags": (lambda session: _metadata(session, tags=texts()), "metadata"),
    "session": (_inner, "metadata"),
    "update": (lambda session: session.update(metadata=keys()), "metadata"),
    "event": (lambda session: session.event("reset", metadata=keys()), "metadata"),
    "nested": (lambda session: session.event("reset", metadata={"inner": {"rows": pairs()}}), "metadata"),
    "data": (lambda session: session.event("reset", pairs()), "data"),
    "keys": (lambda session: session.event("reset", keys()), "data"),
    "observation": (lambda session: session.observation(pairs()), "content"),
    "tool": (_tool, "data"),
    "causes": (lambda session: session.message("go", causal_influence=texts()), "causal_influence"),
    "endless": (lambda session: session.message("go", causal_influence=_endless()), "causal_influence"),
}


@pytest.mark.parametrize("way", WAYS)
def test_large_value_is_cheap_and_notes_omissions(way: str) -> None:
    record, what = WAYS[way]
    keys(), texts(), pairs()
    with capture() as seen, callspan.session("large") as session:
        before = time.thread_time()
        record(session)
        took_s = time.thread_time() - before
        noted = [one for one in seen.everything if (what, "size") in {(note.what, note.why) for note in one.redactions}]
    assert noted
    assert took_s < (0.5 if what in {"metadata", "causal_influence"} else 3)


def test_standard_fields_come_first() -> None:
    with capture() as seen, callspan.session("large") as session:
        _metadata(session, **keys(), user_id="ann")
        (event,) = seen.events
    assert event.metadata["user_id"] == "ann"
    extra = event.metadata["extra"]
    assert len(extra) == 1_000
    assert extra["callspan_truncated"] == {"values": NUMBER + 1 - 1_000}


def test_each_part_notes_its_omissions() -> None:
    with capture() as seen, callspan.session("large") as session:
        session.event("reset", [{"a": i} for i in range(60_000)])
        (event,) = seen.events
    *kept, last = event.data
    assert (kept[0], kept[-2], kept[-1]) == ({"a": 0}, {"a": 49_998}, {"a": 49_999})
    assert last == {"callspan_truncated": {"values": 10_000}}


def test_list_of_numbers_is_one_value() -> None:
    pixels = list(range(NUMBER))
    with capture() as seen, callspan.session("large") as session:
        session.observation({"pixels": pixels})
        (message,) = seen.messages
    assert message.content == {"pixels": pixels}
    assert not message.redactions
