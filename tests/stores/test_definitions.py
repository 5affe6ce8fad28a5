"""Sums over calls and sessions are the same in every store: those of the SQL of SQLite, which test_sums.py checks."""

from __future__ import annotations

import atexit
import contextlib
from collections.abc import Iterator, Sequence
from decimal import Decimal
from itertools import count

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from callspan.record import events
from callspan.records import (
    CallRecord,
    Cost,
    EventRecord,
    Place,
    Record,
    Request,
    Response,
    RewardRecord,
    SessionRecord,
    TimestepRecord,
    Timing,
    Usage,
)
from callspan.stores import CallFilter, Grouping, Reader, Summary
from callspan.stores.scratch import scratch_reader

from .conftest import SECOND, START_NS, Delivery

_EXAMPLES = count(1)
_GROUPINGS: tuple[Grouping, ...] = ("model", "provider", "session", "day")
_DAY = 86_400 * SECOND

COUNTS = st.none() | st.integers(0, 9) | st.just(2**40)
TIMES = st.integers(0, 3 * _DAY) | st.sampled_from([0, _DAY - 1, _DAY])
DURATIONS = st.none() | st.integers(0, 10 * SECOND) | st.just(0)
COSTS = st.none() | st.sampled_from(["0", "0.1", "0.0000123", "1E-13", "1E-30", "9000000", "0.3333333333333333"])
REWARDS = st.sampled_from([-1.0, 0.0, 0.1, 0.2, 0.25, 1e9])
SESSIONS = st.sampled_from(["a", "b"])


@st.composite
def calls(draw: st.DrawFn) -> CallRecord:
    cost = draw(COSTS)
    usage = Usage(
        input_tokens=draw(COUNTS),
        output_tokens=draw(COUNTS),
        cache_read_tokens=draw(COUNTS),
        reasoning_tokens=draw(COUNTS),
    )
    return CallRecord(
        call_id="",
        provider=draw(st.sampled_from(["p", "q"])),
        timing=Timing(start_ns=START_NS + draw(TIMES), duration_ns=draw(DURATIONS), first_token_ns=draw(DURATIONS)),
        place=Place(session_id=draw(st.none() | SESSIONS)),
        request=Request(model=draw(st.sampled_from([None, "m", "ä"]))),
        response=draw(st.sampled_from([None, Response(model="r")])),
        usage=draw(st.sampled_from([None, usage])),
        cost=None if cost is None else Cost(usd=Decimal(cost), source="test"),
        outcome=draw(st.sampled_from(["started", "success", "success", "success", "error", "timeout", "cancelled"])),
        retries=draw(st.none() | st.integers(0, 3)),
    )


@st.composite
def episodes(draw: st.DrawFn) -> list[Record]:
    """What happened in one or two sessions, of which one may have no record of its own."""
    found: list[Record] = []
    for session_id in draw(st.sets(SESSIONS, min_size=1)):
        start = START_NS + draw(TIMES)
        if draw(st.booleans()):
            found.append(
                SessionRecord(
                    session_id=session_id, seen_ns=1, start_ns=draw(st.sampled_from([None, start])),
                    end_ns=draw(st.sampled_from([None, start + SECOND])),
                )
            )  # fmt: skip
        for index in range(draw(st.integers(0, 2))):
            end = draw(st.sampled_from([None, start + index]))
            found.append(
                TimestepRecord(
                    timestep_id=f"{session_id}{index}", session_id=session_id, seen_ns=1, index=index,
                    start_ns=start, end_ns=end,
                )
            )  # fmt: skip
        found += draw(st.lists(rewards_of(session_id, start), max_size=5))
        found += draw(tool_runs(session_id, start))
    return found


def rewards_of(session_id: str, start: int) -> st.SearchStrategy[Record]:
    return st.builds(
        RewardRecord,
        reward_id=st.just(""),
        session_id=st.just(session_id),
        scope=st.sampled_from(["session", "event", "call"]),
        event_id=st.sampled_from([None, "e0", "e1"]),
        objective=st.sampled_from(["reward", "reward", "style"]),
        value=st.none() | REWARDS,
        time_ns=st.integers(start, start + 2),
    )


@st.composite
def tool_runs(draw: st.DrawFn, session_id: str, start: int) -> list[Record]:
    """Runs of a tool: each begun, most of them ended; ends may have a reward."""
    found: list[Record] = []
    for number in range(draw(st.integers(0, 2))):
        event_id = f"e{number}"
        found.append(
            EventRecord(
                event_id=events.start_id(event_id), session_id=session_id, event_type=events.TOOL_START, time_ns=start
            )
        )
        if draw(st.booleans()):
            found.append(
                EventRecord(
                    event_id=event_id, session_id=session_id, event_type="tool", time_ns=start + number,
                    reward=draw(st.none() | REWARDS),
                )
            )  # fmt: skip
    return found


@pytest.fixture
def store(url: str) -> Iterator[Delivery]:
    delivery = Delivery(url)
    yield delivery
    delivery.close()


@settings(
    max_examples=min(12, settings().max_examples // 2),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(made=st.lists(calls(), min_size=1, max_size=10), episode=episodes())
def test_every_store_returns_the_results_of_the_definition(
    store: Delivery, made: list[CallRecord], episode: list[Record]
) -> None:
    records = renamed([*made, *episode], next(_EXAMPLES))
    older = [msgspec.structs.replace(one, part="started", outcome="started") for one in records[:3] if is_call(one)]
    store.write(*older, *records, *older)
    found = [one for one in records if isinstance(one, CallRecord)]
    reader = store.read()
    for provider in sorted({one.provider for one in found}):
        some = [one for one in found if one.provider == provider]
        late = START_NS + _DAY
        for which, chosen in (
            (CallFilter(provider=provider), some),
            (CallFilter(provider=provider, since_ns=late), [one for one in some if one.timing.start_ns >= late]),
        ):
            for by in _GROUPINGS:
                for latencies in (True, False):
                    answer = list(reader.summary(by, which, latencies=latencies))
                    expected = list(defined(chosen).summary(by, latencies=latencies))
                    assert [about(one) for one in answer] == [about(one) for one in expected], (by, which)
    for summary in defined(records).sessions():
        assert reader.session(summary.session.session_id) == summary


def renamed(records: list[Record], example: int) -> list[Record]:
    """The same records with ids, sessions and providers of their own, so that examples share one store."""
    names = count(1)
    found: list[Record] = []
    for record in records:
        if isinstance(record, CallRecord):
            session_id = record.place.session_id
            place = Place(session_id=None if session_id is None else f"{example}-{session_id}")
            provider = f"{example}-{record.provider}"
            found.append(
                msgspec.structs.replace(record, call_id=f"{example}-{next(names)}", place=place, provider=provider)
            )
            continue
        key = "session_id" if isinstance(record, SessionRecord) else events.record_key(record)[0] + "_id"
        ident = getattr(record, key) or str(next(names))
        session_id = f"{example}-{record.session_id}"
        changes = {key: f"{session_id}-{ident}", "session_id": session_id}
        if isinstance(record, EventRecord) and record.event_type == events.TOOL_START:
            inner = ident.removesuffix(events.start_id("")) if ident.endswith(events.start_id("")) else ident
            changes[key] = events.start_id(f"{session_id}-{inner}")
        if isinstance(record, RewardRecord) and record.event_id is not None:
            changes["event_id"] = f"{session_id}-{record.event_id}"
        found.append(msgspec.structs.replace(record, **changes))
    return found


def defined(records: Sequence[Record]) -> Reader:
    opened = contextlib.ExitStack()
    atexit.register(opened.close)
    return opened.enter_context(scratch_reader(records))


def is_call(record: Record) -> bool:
    return isinstance(record, CallRecord)


def about(summary: Summary) -> dict[str, object]:
    """A summary with its percentiles to nine digits: databases compute them in other orders."""
    fields = msgspec.structs.asdict(summary)
    return {name: float(f"{value:.9g}") if isinstance(value, float) else value for name, value in fields.items()}


@pytest.mark.parametrize(
    "fields",
    [
        {"cost": [Cost(usd=Decimal(9000000), source="x")] * 3},
        {"cost": [Cost(usd=Decimal(usd), source="x") for usd in ("1E-50", "0.1", "12345678901234567890.5")]},
        {"cost": [Cost(usd=Decimal(usd), source="x") for usd in ("1E+40", "1E-7", "-3")]},
        {"usage": [Usage(input_tokens=2**62), Usage(input_tokens=2**62), Usage(output_tokens=2**63 - 1)]},
        {"timing": [Timing(start_ns=START_NS, duration_ns=2**62, first_token_ns=number) for number in (0, 1, 7)]},
        {"retries": [0, None, 2**31]},
    ],
    ids=["dear", "tiny", "huge", "tokens", "times", "retries"],
)
def test_sums_of_extreme_amounts_are_exact(store: Delivery, fields: dict[str, list[object]]) -> None:
    ((name, values),) = fields.items()
    timing = Timing(start_ns=START_NS)
    bare = [CallRecord(call_id=f"c{number}", outcome="success", timing=timing) for number in range(len(values))]
    made = [msgspec.structs.replace(one, **{name: value}) for one, value in zip(bare, values, strict=True)]
    store.write(*made)
    assert list(store.read().calls(CallFilter(newest_first=False))) == made, "the records stay whole"
    for which in (CallFilter(), CallFilter(since_ns=0)):
        (answer,) = store.read().summary("day", which)
        (expected,) = defined(made).summary("day")
        assert about(answer) == about(expected)
