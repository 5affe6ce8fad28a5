"""Agent and environment: events around the calls, in their session and step."""

from __future__ import annotations

import time

import callspan
from callspan.testing import Captured


def test_an_event_of_any_kind_is_on_the_steps_span_and_in_the_log(seen: Captured) -> None:
    """Type, data, error, system and time of a custom event: span event and record."""
    before = time.time_ns()
    with callspan.session("s") as session, session.timestep() as step:
        session.event("retrieval", {"hits": 3}, "docs", system="search", error="slow index", metadata={"k": 5})
        step.action([1, "left"])
    event, action = seen.events
    assert (event.event_type, event.data, event.name, event.system) == ("retrieval", {"hits": 3}, "docs", "search")
    assert event.error is not None
    assert event.error.message == "slow index"
    assert before <= event.time_ns <= action.time_ns
    assert event.sequence is not None
    assert action.sequence == event.sequence + 1
    assert action.data == [1, "left"]
    (span,) = [span for span in seen.spans if span.name == "timestep"]
    attributes = {one.name: dict(one.attributes or {}) for one in span.events}
    assert attributes["callspan.retrieval"]["callspan.system"] == "search"
    assert "callspan.action" in attributes
