"""Published SQL: the reader sums, filters and sorts as the views and the queries of the documents answer."""

from __future__ import annotations

import math
import re
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from decimal import Decimal
from fractions import Fraction
from itertools import count
from pathlib import Path
from random import Random
from typing import Any

import pytest
from msgspec.structs import replace
from tests.support.records import SECOND, START_NS, Delivery, Records, event, keep, reward, session, step
from tests.support.scale import scaled

from callspan import erase, open_store
from callspan.records import CallRecord, Cost, Place, Record, Response, RewardRecord, Timing, Usage
from callspan.stores import CallFilter, Reader, find_store

from .conftest import RetentionTimes, definitions, new_schema

STORES = scaled(15, 500)
VALUES = [-1.0, -0.1, 0.0, 0.1, 0.25, 0.3, 0.8, 1 / 3, 2 / 3, 5.0, 1e9, 1e-7]
OBJECTIVES = ["reward", "reward", "judge", "style"]
PAGE = (Path(__file__).parents[2] / "docs/sql.md").read_text()
DOCUMENTED = {
    words: sql
    for block in re.findall(r"```sql\n(.*?)```", PAGE, re.DOTALL)
    for words, sql in re.findall(r"-- ([^\n]*)\n((?:(?!--)[^\n]*\n)+)", block)
}
"""The queries of the page by the comment above them."""
Query = Callable[..., list[tuple[Any, ...]]]


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def urls(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """New stores."""
    if request.param == "sqlite":
        return (f"sqlite:///{tmp_path}/{number}.db" for number in count())
    server = request.getfixturevalue("postgres_server")
    return (new_schema(server) for _ in count())


def drawn(chance: Random, records: Records) -> list[Record]:
    """Return a random store: sessions with nested steps, calls in and outside of them, and rewards of all of these."""
    sessions = [f"s{number}" for number in range(chance.randrange(1, 5))]
    made: list[Record] = [
        session(one, experiment=chance.choice(["x", "y"])) for one in sessions if chance.random() < 0.9
    ]
    steps = {one: [f"{one}-t{number}" for number in range(chance.randrange(4))] for one in sessions}
    for one, ids in steps.items():
        parents = [None, *ids]
        made += (
            step(ident, session_id=one, parent_timestep_id=chance.choice(parents[: at + 1]))
            for at, ident in enumerate(ids)
        )
    events = [(f"e{number}", chance.choice(sessions)) for number in range(chance.randrange(6))]
    made += (
        event(
            ident, session_id=of, timestep_id=chance.choice([None, *steps[of]]),
            reward=chance.choice([chance.choice(VALUES), None]), time_ns=START_NS + chance.randrange(3),
        )
        for ident, of in events
    )  # fmt: skip
    calls = [(f"c{number}", chance.choice([None, *sessions])) for number in range(chance.randrange(8))]
    made += (records.call(call_id=ident, place=Place(session_id=of), at_s=chance.randrange(4)) for ident, of in calls)
    made += (_given(chance, f"r{number:02}", sessions, steps, events, calls) for number in range(chance.randrange(25)))
    return made


def _given(
    chance: Random, reward_id: str, sessions: list[str], steps: dict[str, list[str]], events: Any, calls: Any
) -> Record:
    common = {
        "objective": chance.choice(OBJECTIVES), "time_ns": START_NS + chance.randrange(4),
        "label": chance.choice([None, None, "good", "rude", ""]),
    }  # fmt: skip
    value, of = chance.choice([None, *VALUES]), chance.choice(sessions)
    match chance.choice(["session", "step", "event", "call"]):
        case "event" if events:
            ident, of = chance.choice(events)
            return reward(reward_id, value, session_id=of, event_id=ident, **common)
        case "call" if calls:
            ident, at = chance.choice(calls)
            return reward(reward_id, value, session_id=at, call_id=ident, scope="call", **common)
        case "session":
            return reward(reward_id, value, session_id=of, scope="session", **common)
    return reward(reward_id, value, session_id=of, timestep_id=chance.choice([None, *steps[of]]), **common)


def queried(reader: Reader) -> Query:
    return lambda sql, **values: [*reader._database.tuples(sql, values)]


@pytest.mark.timeout(1200)
def test_reader_agrees_with_the_published_sql(urls: Iterator[str]) -> None:
    chance = Random(77)
    for _, url in zip(range(STORES), urls, strict=False):
        made = drawn(chance, Records())
        with closing(open_store(keep(url, *made))) as reader:
            query = queried(reader)
            check_sessions(reader, query, made)
            check_steps(reader, query)
            for _ in range(4):
                check_filters(reader, query, chance)


@pytest.mark.timeout(1200)
def test_tables_of_scores_equal_their_definition(urls: Iterator[str]) -> None:
    """After each of any deliveries and deletions, also of values that come before what they are given to."""
    chance = Random(20)
    for _, url in zip(range(scaled(30, 100)), urls, strict=False):
        made = drawn(chance, Records())
        waiting = [chance.choice(made) for _ in range(3)]  # once more
        waiting += [_named_otherwise(chance, record) for record in made]
        chance.shuffle(waiting)
        with closing(Delivery(url)) as store:
            while waiting:
                batch = [waiting.pop() for _ in range(min(len(waiting), chance.randrange(1, 6)))]
                store.write(*batch)
                check_scores(store.read(), url)
                if chance.random() < 0.3:
                    erase(url, chance.choice(DELETED))
                    check_scores(store.read(), url)
                if chance.random() < 0.2:
                    times = RetentionTimes(chance.choice(TIMES), chance.choice(TIMES))
                    deque(find_store(url).retain(times), maxlen=0)  # type: ignore[attr-defined]
                    check_scores(store.read(), url)


def _named_otherwise(chance: Random, record: Record) -> Record:
    """A reward that takes its session from its target, names another one, or its call by the provider's id."""
    if isinstance(record, CallRecord):
        return replace(record, response=Response(id=f"answer-{record.call_id}"))
    if not isinstance(record, RewardRecord):
        return record
    anywhere = [replace(record, session_id=None), replace(record, session_id="s0")]
    by_answer = [replace(record, call_id=f"answer-{record.call_id}", session_id=None)] if record.call_id else []
    return chance.choice([record, *anywhere, *by_answer * 3])


def test_processes_that_reward_one_session_miss_no_value(urls: Iterator[str]) -> None:
    """Each waits for the other, and then reads what it wrote."""
    url = next(urls)

    def rewarded(writer: int) -> None:
        with closing(Delivery(url)) as store:
            for number in range(60):
                ident = f"{writer}-{number}"
                store.write(
                    event(f"e{ident}", session_id="s", reward=0.1),
                    reward(f"r{ident}", 1, session_id="s", objective="judge"),
                )

    keep(url, session("s"))
    with ThreadPoolExecutor(4) as writers:
        deque(writers.map(rewarded, range(4)), maxlen=0)
    with closing(open_store(url)) as reader:
        assert queried(reader)("SELECT objective, score, n FROM session_scores ORDER BY 1") == [
            ("judge", 1.0, 240),
            ("reward", 24.0, 240),
        ]
        check_scores(reader, url)


TIMES = [START_NS - 1, START_NS + SECOND, START_NS + 3 * SECOND]
DELETED = [CallFilter(session_id="s0"), CallFilter(ids=("c0", "c2")), CallFilter(ids=("s1", "c3"))]


def check_scores(reader: Reader, url: str) -> None:
    query = queried(reader)
    for table, definition in definitions("sqlite" if url.startswith("sqlite") else "postgres").items():
        rows, defined = (sorted(query(f"SELECT * FROM {source}")) for source in (table, f"({definition}) d"))
        assert rows == [pytest.approx(row) for row in defined]


def check_sessions(reader: Reader, query: Query, made: list[Record]) -> None:
    found = {one.session.session_id: one for one in reader.sessions()}
    published: dict[str, dict[str, tuple[float, int]]] = defaultdict(dict)
    for ident, objective, score, number in query("SELECT session_id, objective, score, n FROM session_scores"):
        published[ident][objective] = (score, number)
    for ident, summary in found.items():
        scores = {name: one.mean for name, one in summary.scores.items()}
        scores |= {} if summary.reward is None else {"reward": summary.reward}
        assert scores == {name: score for name, (score, _) in published[ident].items()}
        assert scores == pytest.approx(defined(made, ident), rel=1e-11, abs=1e-11)
        counts = {name: one.count for name, one in summary.scores.items()}
        assert counts == {name: number for name, (_, number) in published[ident].items() if name != "reward"}
        rows = query(DOCUMENTED["the reward and the scores of a session"], session_id=ident)
        assert {name: score for name, score, _ in rows} == scores
    best = query(DOCUMENTED["best episodes of an experiment"], experiment="x")
    of_x = [one for one in found.values() if one.session.experiment == "x" and one.reward is not None]
    assert dict(best) == {one.session.session_id: one.reward for one in of_x}
    assert [score for _, score in best] == sorted((score for _, score in best), reverse=True)


def defined(made: list[Record], session_id: str) -> dict[str, float]:
    """Return the reward and scores of a session as the documents define them, in fractions."""
    own = {one.event_id: one for one in made if one.__struct_config__.tag == "event" and one.reward is not None}
    given = sorted((one for one in made if isinstance(one, RewardRecord)), key=lambda one: (one.time_ns, one.reward_id))
    values: dict[str, list[float]] = defaultdict(list)
    values["reward"] += [one.reward for one in own.values() if one.session_id == session_id]
    of_session, rewarded = [], {*own}
    for one in given:
        if one.value is None:
            continue
        of_event = one.scope == "event" and one.objective == "reward" and one.event_id is not None
        if of_event and one.event_id in rewarded:
            continue
        rewarded |= {one.event_id} if of_event else set()
        if one.session_id == session_id and one.objective == "reward":
            of_session += [one.value] if one.scope == "session" else []
            values["reward"] += [one.value] if one.scope == "event" else []
        elif one.session_id == session_id:
            values[one.objective].append(one.value)
    sums = {name: sum(Fraction(str(value)) for value in some) for name, some in values.items() if some}
    found = {name: float(total if name == "reward" else total / len(values[name])) for name, total in sums.items()}
    return found | ({"reward": of_session[-1]} if of_session else {})


def check_steps(reader: Reader, query: Query) -> None:
    sql = next(sql for words, sql in DOCUMENTED.items() if words.startswith("the reward of each step"))
    for summary in reader.sessions():
        ident = summary.session.session_id
        rewards = {key: of["reward"] for key, of in reader.timestep_scores(ident).items() if "reward" in of}
        documented = {key: float(value) for key, value in query(sql, session_id=ident)}
        assert rewards == pytest.approx(documented, rel=1e-11, abs=1e-9)


def minimum(query: Query, chance: Random, objectives: tuple[str, ...]) -> float | None:
    """Return none, a number, or a score of these objectives or the nearest number above or below one."""
    scores = [
        score
        for view in ("session_scores", "call_scores")
        for name, score in query(f"SELECT objective, score FROM {view} ORDER BY score")
        if name in objectives
    ]
    if not scores or chance.random() < 0.5:
        return chance.choice([None, None, *VALUES, 2e9, -2e9])
    return math.nextafter(score := chance.choice(scores), chance.choice([score, math.inf, -math.inf]))


OTHERS: list[dict[str, Any]] = [
    {}, {}, {"experiment": "x"}, {"since_ns": START_NS + SECOND}, {"session_id": "s0"}, {"ids": ("s1", "c0", "c2")},
    {"experiment": "y", "until_ns": START_NS + 3 * SECOND}, {"in_session": True}, {"max_duration_ns": 10 * SECOND},
]  # fmt: skip
"""Conditions beside those on scores."""
CALLS = """
SELECT c.call_id, coalesce(own.score, s.score), earned.score FROM calls c
  LEFT JOIN call_scores own ON own.call_id = c.call_id AND own.objective = :objective
  LEFT JOIN session_scores s ON s.session_id = c.session_id AND s.objective = :objective
  LEFT JOIN session_scores earned ON earned.session_id = c.session_id AND earned.objective = 'reward'
 ORDER BY c.start_ns DESC, c.call_id DESC
"""
LABELS = "SELECT session_id, call_id, scope, objective, label FROM rewards WHERE label <> ''"
SESSIONS = "SELECT session_id, score FROM session_scores WHERE objective = :objective"


def check_filters(reader: Reader, query: Query, chance: Random) -> None:
    """Of calls and sessions, with their order, number and sums."""
    objectives = tuple(chance.sample(["reward", "judge", "style", "none"], chance.randrange(3)))
    judged = objectives or ("reward",)
    least, least_reward = (minimum(query, chance, names) for names in (judged, ("reward",)))
    label = chance.choice([None, None, "good", "rude", ""])
    others = CallFilter(**chance.choice(OTHERS))
    selection = replace(
        others, objectives=objectives, min_score=least, min_reward=least_reward, label=label,
        sort=chance.choice(["start_ns", "score"]), newest_first=chance.random() < 0.7,
    )  # fmt: skip
    of_calls = {name: {row[0]: row[1:] for row in query(CALLS, objective=name)} for name in judged}
    rows = query(LABELS)
    places = dict(query("SELECT call_id, session_id FROM calls"))

    def enough(score: float | None, minimum: float | None) -> bool:
        return minimum is None or (score is not None and score >= minimum)

    def labels(call_id: str) -> set[str]:
        some = [row for row in rows if not objectives or row[3] in objectives]
        own = {row[4] for row in some if row[1] == call_id and row[2] == "call"}
        return own or {row[4] for row in some if places[call_id] and row[0] == places[call_id] and row[2] != "call"}

    other_calls = {call.call_id for call in reader.calls(others)}
    fitting = [
        ident
        for ident, (_, earned) in of_calls[judged[0]].items()
        if ident in other_calls
        and all(enough(of_calls[name][ident][0], least) for name in judged)
        and enough(earned, least_reward)
        and (label is None or label in labels(ident))
    ]
    scores = {ident: score for ident, (score, _) in of_calls[judged[0]].items()}
    page = replace(selection, limit=chance.randrange(1, 6), offset=chance.choice([0, 0, 1, 3]))
    within_page = slice(page.offset, page.offset + (page.limit or 0))
    in_place = in_order(fitting, scores, selection)
    assert [one.call_id for one in reader.calls(selection)] == in_place
    assert [one.call_id for one in reader.calls(page)] == in_place[within_page], page
    assert {one.call_id for one in reader.ids(selection)} == {*fitting}
    summed = sum(one.calls for one in reader.summary("session", selection))
    assert (reader.count_calls(selection), summed) == (len(fitting), len(fitting))
    of_sessions = {name: dict(query(SESSIONS, objective=name)) for name in (*judged, "reward")}
    within = {row[0] for row in rows if row[4] == label and (not objectives or row[3] in objectives)}
    chosen = [
        one.session.session_id
        for one in reader.sessions(others)
        if all(enough(of_sessions[name].get(one.session.session_id), least) for name in judged)
        and enough(of_sessions["reward"].get(one.session.session_id), least_reward)
        and (label is None or one.session.session_id in within)
    ]
    in_place = in_order(chosen, of_sessions[judged[0]], selection)
    assert [one.session.session_id for one in reader.sessions(selection)] == in_place
    assert [one.session.session_id for one in reader.sessions(page)] == in_place[within_page], page
    assert reader.count_sessions(selection) == len(in_place)


def test_sum_just_below_a_power_of_ten_is_rounded(urls: Iterator[str]) -> None:
    made = [event(f"e{value}", session_id="s", reward=value, time_ns=START_NS) for value in (1 / 3, 2 / 3)]
    with closing(open_store(keep(next(urls), session("s"), *made))) as reader:
        assert [one.reward for one in reader.sessions()] == [1.0]


def test_call_with_its_own_score_inherits_another(urls: Iterator[str]) -> None:
    """From its session, which is not that of its own score."""
    made = [
        session("s"), Records().call(call_id="c", place=Place(session_id="s")),
        reward("1", 0.9, session_id="another", call_id="c", scope="call", objective="judge"),
        reward("2", 0.8, session_id="s", objective="style"),
    ]  # fmt: skip
    both = CallFilter(objectives=("judge", "style"), min_score=0.5)
    with closing(open_store(keep(next(urls), *made))) as reader:
        assert ([call.call_id for call in reader.calls(both)], reader.count_calls(both)) == (["c"], 1)


def test_pages_by_score_are_parts_of_the_list(urls: Iterator[str]) -> None:
    chance = Random(7)
    for _, url in zip(range(scaled(4, 20)), urls, strict=False):
        values = chance.sample(VALUES, chance.choice([2, 11]))
        with closing(open_store(keep(url, *judged(chance, Records(), values)))) as reader:
            for _ in range(40):
                selection = CallFilter(
                    objectives=chance.choice([("judge",), ("judge", "reward")]),
                    sort=chance.choice(["start_ns", "score"]),
                    newest_first=chance.random() < 0.5, min_score=chance.choice([None, None, *values]),
                    min_reward=chance.choice([None, None, 0.2]), content="none",
                    **chance.choice([{}, {"since_ns": START_NS + 6}, {"experiment": "x"}, {"until_ns": START_NS + 8}]),
                )  # fmt: skip
                first, number = chance.choice([0, 0, 2, 5, 70]), chance.randrange(6)
                page = replace(selection, offset=first, limit=number)
                calls, sessions = [*reader.calls(selection)], [*reader.sessions(selection)]
                assert [*reader.calls(page)] == calls[first : first + number], page
                assert [*reader.sessions(page)] == sessions[first : first + number], page


def judged(chance: Random, records: Records, values: list[float]) -> Iterator[Record]:
    """Yield 60 calls in and outside of 12 sessions, and scores of half of the calls and of some sessions."""
    for number in range(12):
        yield session(f"s{number}", start_ns=START_NS + number, experiment="xy"[number % 2])
        yield reward(f"earned{number}", chance.choice([0.1, 0.3]), session_id=f"s{number}", scope="session")
        if number % 3:
            yield reward(f"s{number}", chance.choice(values), session_id=f"s{number}", objective="judge")
    for number in range(60):
        ident, of = f"c{number:02}", chance.choice([None, *(f"s{place}" for place in range(12))])
        yield records.call(call_id=ident, place=Place(session_id=of), at_s=number)
        for again in range(chance.choice([0, 0, 0, 1, 1, 2])):
            yield reward(
                f"{ident}-{again}", chance.choice(values), session_id=of, call_id=ident, scope="call",
                objective="judge", time_ns=START_NS,
            )  # fmt: skip


def in_order(newest_first: list[str], scores: dict[str, Any], selection: CallFilter) -> list[str]:
    ids = newest_first if selection.newest_first else newest_first[::-1]
    if selection.sort == "start_ns":
        return ids
    sign = 1 if selection.newest_first else -1
    return sorted(ids, key=lambda one: (scores.get(one) is None, sign * (scores.get(one) or 0.0)))


COSTS = [None, "0", "0.0000004", "0.0000123", "0.1", "0.3333333333333333", "1E-13", "9999.5", "5000000", "9000000"]
COUNTS = [None, 0, 1, 10, 900]


def test_bounds_and_orders_of_cost_duration_and_tokens(urls: Iterator[str]) -> None:
    """Of calls and of sessions, whose sums exceed 63 bits of picodollars; nothing unknown is within a bound."""
    chance = Random(5)
    for _, url in zip(range(scaled(4, 100)), urls, strict=False):
        made = [costing(chance, Records(), number) for number in range(12)]
        with closing(open_store(keep(url, *made))) as reader:
            for _ in range(8):
                check_bounds(reader, made, chance)


def costing(chance: Random, records: Records, number: int) -> CallRecord:
    usd = chance.choice(COSTS)
    return records.call(
        call_id=f"c{number:02}",
        session_id=chance.choice("abc"),
        cost=None if usd is None else Cost(usd=Decimal(usd), source="x"),
        usage=Usage(input_tokens=chance.choice(COUNTS), output_tokens=chance.choice(COUNTS)),
        timing=Timing(start_ns=START_NS + number, duration_ns=chance.choice([None, 0, 5, SECOND])),
    )


def check_bounds(reader: Reader, made: list[CallRecord], chance: Random) -> None:
    measure = chance.choice(["cost", "duration", "tokens"])
    unit = {"cost": "cost_usd", "duration": "duration_ns", "tokens": "tokens"}[measure]
    limit = {
        "cost": Decimal(chance.choice([one for one in COSTS if one])) * chance.randrange(1, 4),
        "duration": chance.choice([0, 5, 7, SECOND]),
        "tokens": chance.choice([0, 1, 10, 20, 910]),
    }[measure]
    side = chance.choice(["min", "max"])
    selection = CallFilter(**{f"{side}_{unit}": limit, "sort": unit})

    def within(value: Any) -> bool:
        if value is None:
            return False
        return bool(value >= whole(limit) if side == "min" else value <= whole(limit))

    calls = {one.call_id: measured(measure, [one]) for one in made}
    chosen = [ident for ident, value in calls.items() if within(value)]
    chosen.sort(key=lambda one: (calls[one], one), reverse=True)
    assert [one.call_id for one in reader.calls(selection)] == chosen, selection
    assert reader.count_calls(selection) == len(chosen)
    by_session = {of: [one for one in made if one.place.session_id == of] for of in "abc"}
    sessions = {of: measured(measure, some) for of, some in by_session.items() if some}
    lacks = {"cost": "calls_without_cost", "tokens": "calls_without_usage"}.get(measure)
    for summary in reader.sessions():
        of = summary.session.session_id
        if side == "max" and lacks is not None and getattr(summary, lacks):
            sessions[of] = None
        if measure == "cost":
            assert summary.cost_usd == known(sum, [one.cost.usd for one in by_session[of] if one.cost])
    newest = {of: some[0].timing.start_ns for of, some in by_session.items() if some}
    fitting = [of for of, value in sessions.items() if within(value)]
    fitting.sort(key=lambda of: (sessions[of], newest[of]), reverse=True)
    assert [one.session.session_id for one in reader.sessions(selection)] == fitting, selection


def measured(measure: str, calls: list[CallRecord]) -> Any:
    """Return the cost in whole picodollars, the tokens, or the time from the first start to the last end.

    None if nothing states it: no cost, no tokens, no end.
    """
    if measure == "cost":
        return known(sum, [whole(one.cost.usd) for one in calls if one.cost is not None])
    if measure == "tokens":
        counts = [(one.usage.input_tokens, one.usage.output_tokens) for one in calls if one.usage is not None]
        return known(sum, [sum(filter(None, pair)) for pair in counts if pair != (None, None)])
    if all(one.timing.duration_ns is None for one in calls):
        return None
    ends = [one.timing.start_ns + (one.timing.duration_ns or 0) for one in calls]
    return max(ends) - min(one.timing.start_ns for one in calls)


def known(combine: Callable[[Any], Any], values: list[Any]) -> Any:
    return combine(values) if values else None


def whole(limit: Any) -> Any:
    return int(limit * 10**12) if isinstance(limit, Decimal) else limit
