"""What lists show of sessions beside their sums, by every store: first words, courses, curves, errors, pages."""

from __future__ import annotations

import socket
from collections.abc import Callable

import pytest

from callspan.records import ErrorInfo, EventRecord, MessageRecord, RewardRecord
from callspan.stores import CallFilter, Order
from callspan.stores.base import ORDERS, CallError
from callspan.stores.session_source import place_of

from .conftest import SECOND, START_NS, Delivery, Records


def rewarded(number: int, value: float, event_type: str = "environment") -> EventRecord:
    return EventRecord(
        event_id=f"e{number}", session_id="a", event_type=event_type, time_ns=START_NS + number, reward=value
    )


def test_lists_show_what_was_said_first_what_ran_and_why_calls_failed(
    url: str, deliver: Callable[[str], Delivery], records: Records
) -> None:
    store = deliver(url)
    error = ErrorInfo(kind="rate_limit", type="RateLimitError", status=429)
    say = [{"role": "system", "content": "Be short."}, {"role": "user", "content": "Where is\n my parcel?"}]
    tool = EventRecord(
        event_id="t1", session_id="a", event_type="tool", name="look", time_ns=START_NS + 9 * SECOND, duration_ns=5
    )
    asked = MessageRecord(
        message_id="m1", session_id="b", message_type="question", time_ns=START_NS, content="Is it sold?"
    )
    again = [
        RewardRecord(
            reward_id=f"again{number}", session_id="a", event_id=event_id, value=8.0, scope=scope, time_ns=START_NS + 4
        )
        for number, (event_id, scope) in enumerate([(rewarded(1, 0.5).event_id, "event"), (None, "call")])
    ]
    store.write(
        records.session("a", start_ns=START_NS, outcome="failure"),
        records.call(session_id="a", at_s=8, messages=[*say, {"role": "user", "content": "later"}]),
        records.call(session_id="a", at_s=1, messages=say, outcome="error", error=error, retries=2),
        tool,
        *(rewarded(number, value) for number, value in ((1, 0.5), (2, -0.25), (3, 1.0))),
        *again,
        records.session("b", start_ns=START_NS + SECOND, outcome="success"),
        records.call(session_id="b", messages=say, cost=None),
        asked,
        records.session("c", start_ns=START_NS + 2 * SECOND),
    )
    reader = store.read()
    assert reader.first_words(["a", "b", "c"]) == {"a": "Where is my parcel?", "b": "Is it sold?"}
    course = reader.courses(["a", "c"])
    assert [(run.kind, run.start_ns, run.outcome, run.retries) for run in course["a"]] == [
        ("call", START_NS + SECOND, "error", 2),
        ("call", START_NS + 8 * SECOND, "success", 0),
        ("tool", START_NS + 9 * SECOND, None, None),
    ]
    assert reader.reward_curves(["a", "b"]) == {"a": [(START_NS + 1, 0.5), (START_NS + 2, 0.25), (START_NS + 3, 1.25)]}
    found = {one.session.session_id: one for one in reader.sessions()}
    assert found["a"].reward == 1.25, "what has a reward, or is a call, adds nothing by another"
    failed = found["a"].first_error
    assert isinstance(failed, CallError)
    assert (failed.kind, failed.status) == ("rate_limit", 429)
    assert (found["b"].first_error, found["b"].calls_without_cost) == (None, 1)
    later = list(reader.events("a", since_ns=START_NS + 3))
    assert [one.event_id for one in later if isinstance(one, EventRecord)] == ["e3", "t1"]


@pytest.mark.parametrize("sort", ORDERS)
def test_pages_of_sessions_begin_where_the_one_before_ended(
    url: str, deliver: Callable[[str], Delivery], records: Records, sort: Order
) -> None:
    store = deliver(url)
    store.write(*(records.session(f"s{number}", start_ns=START_NS + number // 2) for number in range(7)))
    store.write(*(records.call(session_id=f"s{number}", at_s=number % 3, retries=number % 2) for number in range(5)))
    reader = store.read()
    which = CallFilter(sort=sort)
    every = [one.session.session_id for one in reader.sessions(which=which)]
    found: list[str] = []
    after = None
    while page := list(reader.sessions(which=which, after=after, limit=2)):
        found += [one.session.session_id for one in page]
        after = place_of(page[-1], sort)
    assert found == every
    assert len(every) == 7


def test_sessions_are_found_by_their_outcome_and_success(
    url: str, deliver: Callable[[str], Delivery], records: Records
) -> None:
    store = deliver(url)
    gone = {"host": socket.gethostname(), "pid": 2**22 + 1}
    store.write(
        records.session("good", start_ns=START_NS, end_ns=START_NS + 1, outcome="success"),
        records.session("bad", start_ns=START_NS, end_ns=START_NS + 1, outcome="success", success=False),
        records.session("open", start_ns=START_NS),
        records.session("killed", start_ns=START_NS, **gone),
    )
    reader = store.read()

    def ids(**conditions: object) -> list[str]:
        which = CallFilter(**conditions)  # type: ignore[arg-type]
        return sorted(one.session.session_id for one in reader.sessions(which=which, limit=9))

    assert ids(session_outcome="success") == ["bad", "good"]
    assert ids(session_outcome="running") == ["open"]
    assert ids(session_outcome="interrupted") == ["killed"]
    assert ids(success=True) == ["good"]
    assert ids(success=False) == ["bad"]
