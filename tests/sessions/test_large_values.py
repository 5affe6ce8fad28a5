"""Values of an application that are very large: read in part on its thread, with a note of what is left out."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import pytest

import callspan
from callspan.testing import capture

NUMBER = 300_000
KEYS = {f"key {i}": f"value {i}" for i in range(NUMBER)}
TEXTS = [f"text {i}" for i in range(NUMBER)]
PAIRS = [{"a": i, "b": str(i)} for i in range(NUMBER)]


def _metadata(**fields: Any) -> Callable[[Any], object]:
    def record(session: Any) -> None:
        with callspan.metadata(**fields):
            session.event("reset")

    return record


def _tool(session: Any) -> None:
    with session.tool("search", arguments=PAIRS) as tool:
        tool.output = PAIRS


def _inner(session: Any) -> None:
    callspan.session("inner", metadata=KEYS).start().end()


def _endless() -> Iterator[str]:
    yield from map(str, count())


WAYS: dict[str, tuple[Callable[[Any], object], str]] = {
    "metadata": (_metadata(**KEYS, user_id="ann"), "metadata"),
    "extra": (_metadata(extra=KEYS), "metadata"),
    "one value": (_metadata(rows=PAIRS), "metadata"),
    "tags": (_metadata(tags=TEXTS), "metadata"),
    "session": (_inner, "metadata"),
    "update": (lambda session: session.update(metadata=KEYS), "metadata"),
    "event": (lambda session: session.event("reset", metadata=KEYS), "metadata"),
    "nested": (lambda session: session.event("reset", metadata={"inner": {"rows": PAIRS}}), "metadata"),
    "data": (lambda session: session.event("reset", PAIRS), "data"),
    "keys": (lambda session: session.event("reset", KEYS), "data"),
    "observation": (lambda session: session.observation(PAIRS), "content"),
    "tool": (_tool, "data"),
    "causes": (lambda session: session.message("go", causal_influence=TEXTS), "causal_influence"),
    "endless": (lambda session: session.message("go", causal_influence=_endless()), "causal_influence"),
}


@pytest.mark.parametrize("way", WAYS)
def test_large_value_is_cheap_and_notes_omissions(way: str) -> None:
    record, what = WAYS[way]
    with capture() as seen, callspan.session("large") as session:
        before = time.thread_time()
        record(session)
        took_s = time.thread_time() - before
        noted = [one for one in seen.everything if (what, "size") in {(note.what, note.why) for note in one.redactions}]
    assert noted
    assert took_s < (0.5 if what in {"metadata", "causal_influence"} else 3)


def test_standard_fields_come_first() -> None:
    with capture() as seen, callspan.session("large") as session:
        _metadata(**KEYS, user_id="ann")(session)
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
