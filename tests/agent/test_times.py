"""Times given by the application are stored, used for ordering and on spans; invalid ones are flagged and harmless."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import callspan
from callspan import Handle, feedback, reward, session
from callspan.records import EventRecord, MessageRecord, RewardRecord, SessionRecord, TimestepRecord

if TYPE_CHECKING:
    from tests.agent.conftest import Seen

T0 = 1_700_000_000_000_000_000
SECOND = 1_000_000_000


def test_every_recording_function_takes_a_time(seen: Seen) -> None:
    with session("s", at=T0) as own:
        with own.timestep(at=T0 + SECOND) as step:
            step.observation("x", at=T0 + 2)
            step.action(1, at=T0 + 3)
            step.environment("y", reward=1, at=T0 + 4)
            step.event("other", at=T0 + 5)
            step.reward(1, at=T0 + 6)
            step.end(at=T0 + 3 * SECOND)
        own.outcome(reward=1, at=T0 + 7)
        own.end(at=T0 + 4 * SECOND)
    reward(1, session_id=own.id, at=T0 + 8)
    feedback("c", 1, at=T0 + 9)
    assert [one.time_ns - T0 for one in seen.of(MessageRecord) + seen.of(EventRecord)] == [2, 3, 4, 5]
    assert [one.time_ns - T0 for one in seen.of(RewardRecord)] == [6, 7, 8, 9]
    (whole,), (turn,) = seen.ended(SessionRecord), seen.ended(TimestepRecord)
    assert (whole.start_ns, whole.end_ns) == (T0, T0 + 4 * SECOND)
    assert (turn.start_ns, turn.end_ns) == (T0 + SECOND, T0 + 3 * SECOND)
    (span,), (above,) = seen.named("timestep"), seen.named("invoke_workflow s")
    assert (span.start_time, span.end_time) == (turn.start_ns, turn.end_ns)
    assert (above.start_time, above.end_time) == (whole.start_ns, whole.end_ns)
    assert [event.timestamp - T0 for event in span.events] == [2, 3, 4, 4, 5, 6]
    late = [one for one in seen.spans if one.name.startswith("evaluation")]
    assert [(one.start_time - T0, one.end_time - T0) for one in late] == [(8, 1008), (9, 1009)]


@pytest.mark.parametrize(
    "given",
    [
        T0,
        T0 / SECOND,
        datetime.fromtimestamp(T0 // SECOND, tz=timezone.utc),
        datetime.fromtimestamp(T0 // SECOND, tz=timezone(timedelta(hours=-8))),
    ],
)
def test_nanoseconds_seconds_and_datetimes_mean_the_same(seen: Seen, given: Any) -> None:
    with session("s") as own:
        own.event("x", at=given)
    (event,) = seen.of(EventRecord)
    assert event.time_ns == T0


def test_a_datetime_keeps_its_microseconds(seen: Seen) -> None:
    with session("s") as own:
        own.event("x", at=datetime(2026, 11, 20, 1, 2, 3, 123_457, tzinfo=timezone.utc))
    assert seen.of(EventRecord)[0].time_ns == 1_795_136_523_123_457_000


@pytest.mark.parametrize(
    "given",
    [
        datetime(2023, 11, 14, 22, 13, 20),  # noqa: DTZ001 - the zone is what it lacks
        1_700_000_000, 10**17 - 1, -1, 2**63, float("nan"), float("inf"), -0.5, "2026-11-20",
    ],
)  # fmt: skip
def test_with_an_invalid_time_nothing_is_recorded(seen: Seen, given: Any) -> None:
    with session("s") as own:
        own.event("x", at=given)
    assert seen.of(EventRecord) == []


def test_tools_and_steps_of_the_environment_may_be_recorded_afterwards(seen: Seen) -> None:
    with session("s") as own, own.timestep() as step:
        tool = step.tool("dig").start(at=T0)
        tool.result = "gold"
        tool.end(at=T0 + SECOND)
        world = step.environment_step().start(at=T0 + SECOND)
        world.set_result("wall", reward=1)
        world.end(at=T0 + 3 * SECOND)
    dug, moved = seen.of(EventRecord)
    assert (dug.time_ns, dug.duration_ns) == (T0, SECOND)
    assert (moved.time_ns, moved.duration_ns) == (T0 + SECOND, 2 * SECOND)
    assert seen.named("environment")[0].end_time == T0 + 3 * SECOND
    assert seen.ended(TimestepRecord)[0].totals.tool_ns == SECOND


@pytest.fixture
def stored(tmp_path: Path) -> Iterator[tuple[Handle, str]]:
    url = f"sqlite:///{tmp_path / 'records.db'}"
    handle = callspan.instrument(stores=url)
    yield handle, url
    handle.uninstrument()
