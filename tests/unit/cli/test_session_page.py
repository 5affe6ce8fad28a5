"""Long sessions are shown in parts: the entries of a page, the steps they belong to, and how much more there is."""

from __future__ import annotations

import pytest

from callspan.cli.session_tree import Page
from callspan.records import EventRecord, Place, TimestepRecord
from callspan.stores.entries import step_of, when
from callspan.stores.urls import open_store

from .conftest import SECOND, START_NS, ask, keep, made, session


def step(name: str, index: int, parent: str | None = None) -> TimestepRecord:
    return TimestepRecord(
        timestep_id=name, session_id="s", seen_ns=1, index=index, start_ns=START_NS + index * SECOND,
        parent_timestep_id=parent,
    )  # fmt: skip


@pytest.fixture
def long(store: str) -> str:
    """Three steps, the last within the second, each with a call and an event half a second later."""
    records = [session("s", start_ns=START_NS), step("a", 0), step("b", 1), step("c", 2, parent="b")]
    for at, name in enumerate("abc"):
        place, begun = Place(session_id="s", timestep_id=name), START_NS + at * SECOND
        records.append(made(f"call-{name}", at_ns=begun, place=place))
        event = EventRecord(
            event_id=name, session_id="s", timestep_id=name, event_type="action", time_ns=begun + SECOND // 2
        )
        records.append(event)
    return keep(store, *records)


def page(store: str, limit: int | None, offset: int) -> Page:
    reader = open_store(store)
    summary = reader.session("s")
    assert summary is not None
    found = Page.of(reader, summary, limit, offset)
    reader.close()
    return found


def test_a_whole_session_is_in_order_with_every_step(long: str) -> None:
    whole = page(long, None, 0)
    assert not whole.is_part
    assert [step_of(item) for item in whole.items] == ["a", "a", "b", "b", "c", "c"]
    assert [when(item) for item in whole.items] == sorted(when(item) for item in whole.items)
    assert [one.timestep_id for one in whole.steps.values()] == ["a", "b", "c"]
    assert (len(whole.calls), len(whole.events)) == (3, 3)


@pytest.mark.parametrize(
    ("limit", "offset", "entries", "steps"),
    [
        (2, 0, ["a", "a"], ["a"]),
        (2, 1, ["a", "b"], ["a", "b"]),
        (2, 4, ["c", "c"], ["b", "c"]),
        (5, 5, ["c"], ["b", "c"]),
        (5, 9, [], []),
    ],
)
def test_a_part_has_the_steps_of_its_entries_and_those_above_them(
    long: str, limit: int, offset: int, entries: list[str], steps: list[str]
) -> None:
    part = page(long, limit, offset)
    assert part.is_part
    assert part.total == 6
    assert [step_of(item) for item in part.items] == entries
    assert [one.timestep_id for one in part.steps.values()] == steps


def test_show_says_which_part_it_shows(long: str) -> None:
    assert "entries" not in ask("--store", long, "show").out
    output = ask("--store", long, "show", "s", "--limit", "2", "--offset", "1").out
    assert output.splitlines()[-2:] == [
        "entries 2 to 3 of 6",
        "3 more: --offset 3 goes on, --limit N shows more, --json all",
    ]
    assert "3 calls" in output, "the head speaks of the whole session"
    assert len(ask("--store", long, "show", "s", "--json", "--limit", "2").json["steps"][0]["calls"]) == 1
