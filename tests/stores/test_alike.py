"""Every store answers what SQLite answers: all lists, sums and look-ups over one set of records."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from decimal import Decimal
from random import Random
from typing import Any, Final, get_args

import pytest
from msgspec.structs import replace
from tests.support.records import keep
from tests.support.scale import scaled

from callspan import open_store
from callspan.records import Cost, ErrorInfo, Place, Record, Stream, Timing, Usage
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


def _ids_of(reader: Reader, kind: str) -> list[str]:
    return SESSIONS if kind == "session" else [call.call_id for call in reader.ids()]


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
    yield "rewards of calls", lambda reader: [[*reader.rewards(call)] for call in reader.calls()]
    for name in ("call_scores", "call_labels"):
        yield name, asked(lambda reader, name: getattr(reader, name)([*reader.ids()], ["judge", "taste"]), name)
    for kind in ("session", "call"):
        yield f"rated {kind}", asked(lambda reader, kind: sorted(reader.rated_ids(kind, _ids_of(reader, kind))), kind)
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


def random_records(seed: int) -> Iterator[Record]:
    """Versions of sessions, in order, and calls, timesteps, events and rewards.

    No other seed has the ids of its calls: a reward that names an id of several is joined by what is there, in SQLite
    when it arrives, in ClickHouse when it is read.

    SQLite and Postgres merge a version with what they have merged before, ClickHouse all versions by their times: an
    older version that comes late may decide there what it does not here.
    """
    random, records, steps = Random(seed), Records(), [f"{seed}-st1", f"{seed}-st2"]

    def any_of(*values: Any) -> Any:
        return random.choice(values)

    def labels() -> dict[str, Any]:
        names = random.sample(["key", "tags", "seed", "user_id"], random.randrange(3))
        return {name: any_of("ann", "bob") if name == "user_id" else random.choice(LABELS) for name in names}

    def place() -> dict[str, Any]:
        return {"session_id": any_of(None, *SESSIONS), "timestep_id": any_of(None, None, *steps)}

    for number in range(random.randrange(1, 8)):
        duration_ns = any_of(None, random.randrange(20 * SECOND))
        outcome = any_of("success", "success", "error", "cancelled", "in_progress")
        tokens = {name: any_of(None, 0, random.randrange(60)) for name in ("input_tokens", "output_tokens")}
        made = records.call(
            call_id=f"{seed}-{number}", span_id=f"{16 * seed + number:016x}", metadata=labels(), outcome=outcome,
            model=any_of("gpt-5", "gpt-4o", "m"),
            timing=Timing(start_ns=START_NS + random.randrange(9) * SECOND, duration_ns=duration_ns),
            usage=any_of(None, Usage(**tokens)),
            cost=any_of(None, Cost(usd=Decimal(random.randrange(10**9)) / 10**10, source="table")),
            error=ErrorInfo(kind="timeout", type="T", message="time is up") if outcome == "error" else None,
            stream=any_of(None, Stream(end="closed"), Stream(end="complete")), place=Place(**place()),
        )  # fmt: skip
        yield replace(made, response=made.response and replace(made.response, id=f"{seed}-answer"))
    for number in range(random.randrange(6)):
        fields = {"user_id": any_of(None, "ann"), "name": any_of(None, "n"), "experiment": any_of(None, "e")}
        ends = {"end_ns": any_of(None, START_NS + 9 * SECOND), "success": any_of(None, True, False)}
        yield records.session(
            random.choice(SESSIONS), 10 * seed + number + 1, start_ns=START_NS, metadata=labels(), **fields, **ends
        )
    for ident in steps:
        if random.random() < 0.5:
            yield step(ident, session_id=random.choice(SESSIONS), index=random.randrange(3), metadata=labels())
    for number in range(random.randrange(4)):
        yield event(f"{seed}-ev{number}", **place(), reward=any_of(None, round(random.random(), 3)), metadata=labels())
    for number in range(random.randrange(6)):
        target = any_of(
            {"scope": "session", "session_id": random.choice(SESSIONS)}, {"scope": "event", "event_id": f"{seed}-ev1"},
            {"scope": "call", "call_id": f"{seed}-{random.randrange(7)}"},
            {"scope": "call", "call_id": f"{seed}-answer"}, {"scope": "event", "timestep_id": random.choice(steps)},
            {"scope": "call", "call_id": f"{seed}-{random.randrange(7)}", "session_id": random.choice(SESSIONS)},
            {"scope": "call", "call_id": f"{16 * seed + random.randrange(9):016x}", "source": "human"},
        )  # fmt: skip
        yield reward(
            f"{seed}-q{number}", any_of(None, round(random.random(), 3), -1.0), objective=any_of("reward", "judge"),
            label=any_of(None, "good"), time_ns=START_NS + number, **target,
        )  # fmt: skip


@pytest.mark.parametrize("part", range(scaled(1, 20)))
@pytest.mark.parametrize("kind", [pytest.param(kind, marks=getattr(pytest.mark, kind)) for kind in READABLE[1:]])
def test_random_store_answers_as_sqlite(
    kind: str, part: int, request: pytest.FixtureRequest, sqlite_url: str, records: Records
) -> None:
    """500 stores at night, each asked ten of all questions; those of a part share a file, schema or directory."""
    number = scaled(3, 25)
    url, twin = str(request.getfixturevalue(f"{kind}_url")), sqlite_url
    for seed in range(part * number, (part + 1) * number):
        written = [*random_records(seed)]
        with closing(open_store(keep(url, *written))) as reader, closing(open_store(keep(twin, *written))) as sqlite:
            for name, answer in Random(seed).sample([*answers()], 10):
                assert answer(reader) == answer(sqlite), (seed, name)
