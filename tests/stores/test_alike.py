"""Every store answers what SQLite answers: all lists, sums and look-ups over one set of records."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from decimal import Decimal
from typing import Any, Final, get_args

import pytest
from tests.support.records import keep

from callspan import open_store
from callspan.records import Record
from callspan.stores import CallFilter, Grouping, Reader

from .conftest import READABLE, SECOND, START_NS, Records, event, recorded, reward, step

LABELS: Final[list[Any]] = [
    ["x", "z", "x"], ["z", "x"], [], "x", "[draft", '["a"', [1, True, None, {"x": 1}], {"x": 1}, None, 1.5, False,
]  # fmt: skip
FILTERS: Final[list[dict[str, Any]]] = [
    {}, {"errors": True}, {"errors": False}, {"user_id": "ann"}, {"name": "n"}, {"experiment": "e"}, {"success": True},
    {"success": False}, *({"session_outcome": word} for word in ("unknown", "in_progress", "success")),
    *({"metadata": (pair,)} for pair in (("key", "x"), ("tags", "z"), ("seed", "7"), ("key", "[draft"))),
    {"min_cost_usd": Decimal("0.01")}, {"max_cost_usd": Decimal("0.01")}, {"min_duration_ns": 8 * SECOND},
    {"max_duration_ns": SECOND}, {"min_tokens": 20}, {"max_tokens": 30}, {"min_score": 0.2}, {"min_reward": 0.1},
    {"objectives": ("judge",), "min_score": 0.5}, {"label": "good"}, {"session_id": "s-cut"}, {"in_session": True},
    {"in_session": False}, {"model": "gpt-5"}, {"since_ns": START_NS + 3 * SECOND}, {"until_ns": START_NS + 3 * SECOND},
    *({"outcome": word} for word in ("error", "in_progress", "unknown")), {"finish_reason": "length"},
    {"finish_reason": "stop"}, {"stream_end": "closed"}, {"min_retries": 1}, {"rate_limited": True},
    {"rate_limited": False}, {"cut": True}, {"cut": False}, {"cut_off": True}, {"refused": False}, {"cached": False},
    {"text": "hello"}, {"text": "nowhere"}, {"error_text": "time"}, {"ids": ("s-cut", "whole")}, {"timestep_id": "st1"},
    {"response_id": "chatcmpl-1"}, {"sort": "score", "objectives": ("judge",)},
    *(
        {"sort": sort, "newest_first": newest_first}
        for sort in ("cost_usd", "duration_ns", "tokens", "retries", "score") for newest_first in (True, False)
    ),
]  # fmt: skip
SESSIONS: Final = ["s-cut", "s-storm", "s1", "s-plain"]
Answer = Callable[[Reader], Any]


def kept(records: Records) -> Iterator[Record]:
    yield from (*records.every_kind(), *recorded(records))
    for number, value in enumerate(LABELS):
        for name, session_id in (("key", None), ("key", "s0"), ("key", "s1"), ("tags", None)):
            metadata = {} if value is None else {name: value}
            yield records.call(call_id=f"{number} {name} {session_id}", session_id=session_id, metadata=metadata)
    yield records.session("s0", metadata={"key": "s1"})
    yield records.session("s1", 2, metadata={"key": ["s1", "s2"]}, user_id="ann", name="n", experiment="e")
    yield from (step("st1", session_id="s-storm"), step("st2", session_id="s-storm", parent_timestep_id="st1", index=1))
    yield from (event("ev1", session_id="s-storm", timestep_id="st1"), event("ev2", session_id="s-storm", reward=0.3))
    yield event("ev3", session_id="s-storm", reward=0.1, timestep_id="st2")
    yield from (
        reward("q1", 0.8, session_id="s-cut", scope="session"),
        reward("q2", 0.1, call_id="dear", scope="call", objective="judge"),
        reward("q3", 0.7, call_id="off", scope="call", objective="judge"),
        reward("q4", None, session_id="s-plain", label="good", scope="session", objective="taste"),
        reward("q5", 0.2, event_id="ev1", scope="event"),
        reward("q6", 0.4, event_id="ev1", scope="event", time_ns=START_NS + 1),
    )


def asked(read: Callable[..., Any], *arguments: object) -> Answer:
    return lambda reader: read(reader, *arguments)


def each(name: str) -> Answer:
    """What a method answers for each session."""
    return lambda reader: [_listed(getattr(reader, name)(session_id)) for session_id in SESSIONS]


def _listed(answer: Any) -> Any:
    return [*answer] if isinstance(answer, Iterator) else answer


def answers() -> Iterator[tuple[str, Answer]]:
    for fields in FILTERS:
        chosen = CallFilter(**fields)
        yield f"calls {fields}", asked(lambda reader, which: [call.call_id for call in reader.calls(which)], chosen)
        yield f"sessions {fields}", asked(lambda reader, which: [*reader.sessions(which)], chosen)
        yield f"numbers {fields}", asked(lambda one, which: (one.count_calls(which), one.count_sessions(which)), chosen)
    for by in (*get_args(Grouping), "meta:key", "meta:tags", ("meta:tags", "model"), ("meta:key", "meta:tags"), ()):
        yield f"sums {by}", asked(lambda reader, by: [*reader.summary(by)], by)
    for name in ("timesteps", "events", "entries", "session", "timestep_scores", "step_sums"):
        yield name, each(name)
    yield "courses", lambda reader: {name: sorted(map(str, runs)) for name, runs in reader.courses(SESSIONS).items()}
    for name in ("first_words", "reward_curves", "score_labels", "step_positions"):
        yield name, asked(lambda reader, name: getattr(reader, name)(SESSIONS), name)
    yield "rewards", lambda reader: [*reader.rewards()]
    yield "call", lambda reader: [reader.call(one) for one in ("dear", "chatcmpl-1", "req_1", "zz")]
    yield "bodies", lambda reader: [(bytes(one.request.body), one.conversation) for one in reader.calls()]
    yield "ids", lambda reader: (reader.ids_like("session", "s"), reader.ids_like("call", "0"))
    yield "labels", lambda reader: [*reader.sessions(call_labels=["key", "tags"])]
    yield "erased", lambda reader: reader.is_erased("call", "dear")


@pytest.mark.parametrize("kind", [pytest.param(kind, marks=getattr(pytest.mark, kind)) for kind in READABLE[1:]])
def test_every_answer_is_that_of_sqlite(
    kind: str, request: pytest.FixtureRequest, sqlite_url: str, records: Records
) -> None:
    written = [*kept(records)]
    url = keep(str(request.getfixturevalue(f"{kind}_url")), *written)
    with closing(open_store(url)) as reader, closing(open_store(keep(sqlite_url, *written))) as sqlite:
        for name, answer in answers():
            assert answer(reader) == answer(sqlite), name
