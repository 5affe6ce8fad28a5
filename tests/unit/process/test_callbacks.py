"""Running sums, episodes, callbacks and flagged, each on its own."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.processed import processed

from callspan import Settings, session
from callspan.agent import episode
from callspan.agent.episode import RunningTotals
from callspan.fail_open import fail_open, failures, forget_failures
from callspan.process import callbacks
from callspan.process.processors import Processor, Processors, caller_processors, write
from callspan.records import (
    CallRecord,
    EventRecord,
    MessageRecord,
    Record,
    SessionRecord,
    TimestepRecord,
    Timing,
    Totals,
    Usage,
    encode,
)
from callspan.settings import Content


def call(outcome: Any = "success", duration_ns: int | None = None, usage: Usage | None = None) -> CallRecord:
    return CallRecord(call_id="c", outcome=outcome, usage=usage, timing=Timing(start_ns=1, duration_ns=duration_ns))


@pytest.mark.parametrize(
    ("calls", "totals"),
    [
        ([], Totals()),
        ([call()], Totals(calls=1)),
        ([call("error"), call("timeout"), call("cancelled"), call("started")], Totals(calls=4, errors=2)),
        ([call(duration_ns=5), call(), call(duration_ns=7)], Totals(calls=3, model_ns=12)),
        ([call(usage=Usage())], Totals(calls=1)),
        ([call(usage=Usage(input_tokens=0))], Totals(calls=1, input_tokens=0)),
        ([call(usage=Usage(input_tokens=3)), call(), call(usage=Usage(output_tokens=4))],
         Totals(calls=3, input_tokens=3, output_tokens=4)),
        ([call(usage=Usage(input_tokens=3, output_tokens=1)), call(usage=Usage(input_tokens=4))],
         Totals(calls=2, input_tokens=7, output_tokens=1)),
    ],
)  # fmt: skip
def test_call_totals_are_summed_and_unreported_values_are_unknown(calls: list[CallRecord], totals: Totals) -> None:
    tally = RunningTotals()
    for record in calls:
        tally.add_call(record)
    assert tally.totals() == totals


def environment(reward: float | None) -> EventRecord:
    return EventRecord(event_id="e", event_type="environment", time_ns=1, reward=reward)


@pytest.mark.parametrize(
    ("rewards", "total"), [([], None), ([None], None), ([0.0], 0.0), ([None, 2.0], 2.0), ([1.5, None, -2.0], -0.5)]
)
def test_rewards_add_up_and_unknown_is_not_zero(rewards: list[float | None], total: float | None) -> None:
    tally = RunningTotals()
    for reward in rewards:
        tally.add_reward(environment(reward))
    assert tally.totals().reward == total


def test_totals_do_not_change_with_what_comes_later() -> None:
    tally = RunningTotals()
    tally.add_tool(5)
    before = tally.totals()
    tally.add_tool(6)
    tally.add_timesteps(1)
    assert before == Totals(tools=1, tool_ns=5)
    assert tally.totals() == Totals(tools=2, tool_ns=11, timesteps=1)


def in_threads(work: Callable[[], None], number: int = 4) -> None:
    threads = [threading.Thread(target=work) for _ in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_no_thread_loses_a_count() -> None:
    tally = RunningTotals()
    record = call("error", 2, Usage(input_tokens=1, output_tokens=1))

    def work() -> None:
        for _ in range(300):
            tally.add_call(record)
            tally.add_reward(environment(0.5))
            tally.add_tool(1)
            tally.add_timesteps(1)

    in_threads(work)
    assert tally.totals() == Totals(
        calls=1200, errors=1200, tools=1200, timesteps=1200, input_tokens=1200, output_tokens=1200, reward=600.0,
        model_ns=2400, tool_ns=1200,
    )  # fmt: skip


def test_indexes_sequences_and_versions_are_given_once_each() -> None:
    mine = episode.Episode("s", 5)
    found: list[tuple[int, int, int]] = []

    def work() -> None:
        found.extend((mine.next_index(), mine.next_sequence(), mine.next_time_ns()) for _ in range(200))

    in_threads(work)
    indexes, sequences, versions = zip(*found, strict=True)
    assert sorted(indexes) == list(range(5, 805))
    assert sorted(sequences) == list(range(800))
    assert len(set(versions)) == 800


def test_versions_rise_though_the_clock_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([100, 100, 50, 200])
    monkeypatch.setattr(time, "time_ns", lambda: next(times))
    mine = episode.Episode("s")
    assert [mine.next_time_ns() for _ in range(4)] == [100, 101, 102, 200]


def test_an_episode_begins_once_and_ends_with_the_last_that_is_open() -> None:
    mine, one, other = episode.Episode("s"), session("one"), session("other")
    assert [mine.enter(one, 7), mine.enter(other, 9)] == [True, False]
    assert mine.start_ns == 7
    assert [mine.exit(one), mine.exit(one), mine.exit(other)] == [False, False, True]
    assert mine.enter(one, 11) is False
    assert mine.start_ns == 7


def test_given_ids_are_remembered_and_generated_ones_are_unique() -> None:
    with episode.forgotten():
        first = episode.episode_of("a", 3)
        assert episode.episode_of("a", 9) is first
        assert first.next_index() == 3
        assert episode.episode_of(None) is not episode.episode_of(None)
        with episode.forgotten():
            assert episode.episode_of("a") is not first
        assert episode.episode_of("a") is first


def test_the_number_of_remembered_ids_is_bounded_and_the_oldest_are_evicted() -> None:
    with episode.forgotten():
        for number in range(2_049):
            episode.episode_of(f"n{number}").exit(session("s"))
        assert set(episode.EPISODES) >= {"n1", "n2048"}
        assert "n0" not in episode.EPISODES


@pytest.fixture
def hooked() -> Iterator[Callable[..., Callable[[], None]]]:
    """Add callbacks that are gone afterwards."""
    added: list[Callable[[], None]] = []
    forget_failures()

    def add(*args: Any, **kwargs: Any) -> Callable[[], None]:
        added.append(callbacks.add_callback(*args, **kwargs))
        return added[-1]

    yield add
    for take_away in added:
        take_away()
    forget_failures()


SESSION = SessionRecord(session_id="s", seen_ns=1)
STEP = TimestepRecord(timestep_id="t", session_id="s", seen_ns=1, index=0)
EVENT = EventRecord(event_id="e", event_type="action", time_ns=1)
MESSAGE = MessageRecord(message_id="m", message_type="observation", time_ns=1)


@pytest.mark.parametrize(
    ("kinds", "received"),
    [
        (None, [SESSION, STEP, EVENT, MESSAGE, call()]),
        (["session"], [SESSION]),
        (["timestep", "call"], [STEP, call()]),
        (["action"], [EVENT]),
        (["observation"], [MESSAGE]),
        (["event", "message"], []),
        ([], []),
    ],
)
def test_kinds_are_types_of_events_and_messages_else_kinds_of_records(
    hooked: Any, kinds: list[str] | None, received: list[Record]
) -> None:
    found: list[Record] = []
    hooked("after_record", found.append, kinds=kinds)
    for record in (SESSION, STEP, EVENT, MESSAGE, call()):
        callbacks.call("after_record", record)
    assert found == received


@given(st.lists(st.integers(-2, 2), max_size=8))
def test_callbacks_run_by_priority_then_by_registration(priorities: list[int]) -> None:
    found: list[int] = []
    away = [
        callbacks.add_callback("event", lambda _, number=number: found.append(number), priority=priority)  # type: ignore[misc]
        for number, priority in enumerate(priorities)
    ]
    callbacks.call("event", EVENT)
    for take_away in away:
        take_away()
    callbacks.call("event", EVENT)
    assert found == sorted(range(len(priorities)), key=lambda number: -priorities[number])


@pytest.mark.parametrize(
    ("point", "returned", "kept"),
    [
        ("before_record", msgspec.structs.replace(EVENT, name="new"), "new"),
        ("before_record", None, None),
        ("before_record", SESSION, None),
        ("before_record", {"name": "dict"}, None),
        ("event", msgspec.structs.replace(EVENT, name="new"), None),
        ("after_record", msgspec.structs.replace(EVENT, name="new"), None),
    ],
)
def test_only_a_before_record_callback_can_replace_a_record_and_only_by_the_same_kind(
    hooked: Any, point: Any, returned: object, kept: str | None
) -> None:
    hooked(point, lambda _: returned)
    found = callbacks.call(point, EVENT)
    assert isinstance(found, EventRecord)
    assert found.name == kept


class _OwnEvent(EventRecord, frozen=True, kw_only=True, tag="event"):
    """An application's record with a field of its own."""

    note: str = "secret"


@pytest.mark.parametrize("content", ["full", "off"])
def test_a_record_of_a_subclass_is_processed_as_one_of_its_kind(hooked: Any, content: Content) -> None:
    given = _OwnEvent(**{name: getattr(EVENT, name) for name in EVENT.__struct_fields__} | {"data": "x" * 9_000})
    hooked("before_record", lambda _: given)
    found = caller_processors(Settings(content=content, max_record_bytes=2_000)).process(EVENT).record
    assert type(found) is EventRecord
    assert [note.why for note in found.redactions] == ["size" if content == "full" else "content"]
    assert (found.data is None) == (content == "off")
    data = encode(found)
    assert len(data) < 4_000
    assert b"secret" not in data


def test_each_callback_gets_the_record_returned_by_the_previous_one(hooked: Any) -> None:
    hooked("before_record", lambda record: msgspec.structs.replace(record, name="a"))
    hooked("before_record", lambda record: msgspec.structs.replace(record, name=f"{record.name}b"))
    assert callbacks.call("before_record", EVENT) == msgspec.structs.replace(EVENT, name="ab")


def test_a_callback_that_raises_leaves_the_record_and_is_counted(hooked: Any, caplog: pytest.LogCaptureFixture) -> None:
    def bad(_: Record) -> None:
        raise ValueError("bad callback")

    hooked("before_record", bad, priority=1)
    hooked("before_record", lambda record: msgspec.structs.replace(record, name="still"))
    assert callbacks.call("before_record", EVENT) == msgspec.structs.replace(EVENT, name="still")
    assert sum(failures().values()) == 1


def test_removing_a_callback_twice_is_not_an_error_and_removes_no_other(hooked: Any) -> None:
    found: list[Record] = []
    away = hooked("event", found.append)
    hooked("event", found.append)
    away()
    away()
    callbacks.call("event", EVENT)
    assert found == [EVENT]


def test_a_callback_may_remove_itself_while_it_runs(hooked: Any) -> None:
    found: list[str] = []
    away: list[Callable[[], None]] = []
    away.append(hooked("event", lambda _: (found.append("once"), away[0]())))
    hooked("event", lambda _: found.append("always"))
    callbacks.call("event", EVENT)
    callbacks.call("event", EVENT)
    assert found == ["once", "always", "always"]


def test_a_coroutine_function_is_refused_as_a_callback() -> None:
    async def callback(_: Record) -> None: ...

    with pytest.raises(TypeError, match="cannot be awaited"):
        callbacks.add_callback("event", callback)  # type: ignore[arg-type]


def test_what_a_callback_returns_goes_through_the_processors_again(hooked: Any) -> None:
    shown: list[Record] = []
    hooked("event", shown.append)
    hooked("before_record", lambda record: msgspec.structs.replace(record, name="secret again"))

    def rename(record: Any) -> Any:
        return msgspec.structs.replace(record, name="clean", metadata={"times": record.metadata.get("times", 0) + 1})

    processors = Processors([Processor(fail_open("rename"), rename)])
    kept = processors.process(msgspec.structs.replace(EVENT, name="secret"), "event").record
    assert (kept.name, kept.metadata) == ("clean", {"times": 2})
    assert [record.name for record in shown] == ["clean"]  # type: ignore[union-attr]


def test_callback_after_a_record_run_once_it_is_written(hooked: Any) -> None:
    order: list[str] = []
    hooked("after_record", lambda _: order.append("called"))
    write(processed(EVENT), lambda _: order.append("written"))
    assert order == ["written", "called"]
