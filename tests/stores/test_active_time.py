"""The active time of a session: the time in which its calls and tools ran, alike in all stores."""

from __future__ import annotations

from collections.abc import Callable

from callspan.records import CallRecord, EventRecord, Timing

from .conftest import SECOND, START_NS, Delivery, Records


def test_time_in_which_nothing_ran_is_not_active(
    url: str, records: Records, deliver: Callable[[str], Delivery]
) -> None:
    def ran(session_id: str, at_s: float, lasted_ns: int | None) -> CallRecord:
        timing = Timing(start_ns=START_NS + int(at_s * SECOND), duration_ns=lasted_ns)
        return records.call(session_id=session_id, timing=timing)

    def tool(session_id: str, at_s: float, lasted_ns: int | None, kind: str = "tool") -> EventRecord:
        at = START_NS + int(at_s * SECOND)
        return EventRecord(
            event_id=records.new_id(), session_id=session_id, event_type=kind, time_ns=at, duration_ns=lasted_ns
        )

    store = deliver(url)
    store.write(
        records.session("chat", start_ns=START_NS, end_ns=START_NS + 90_000 * SECOND),
        ran("chat", 0, 4 * SECOND),
        ran("chat", 1, SECOND),  # within the first
        tool("chat", 3, 3 * SECOND),  # begins within it and ends later
        ran("chat", 6, SECOND),  # begins as it ends
        ran("chat", 6, None),  # runs
        tool("chat", 40_000, 2 * SECOND),
        tool("chat", 50_000, 9 * SECOND, "environment"),
        tool("chat", 60_000, None),
        ran("unknown", 0, None),
        records.session("empty", start_ns=START_NS),
        ran("hostile", 0, 2**63 - 1),
        ran("hostile", 1, 2**62 - 2),
        ran("hostile", 2, SECOND),
    )
    store.sink.close()
    reader = store.read()
    found = {one.session.session_id: one.active_ns for one in reader.sessions()}
    assert found == {"chat": 9 * SECOND, "unknown": None, "empty": None, "hostile": 2**62 - 2}
