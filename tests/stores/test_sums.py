"""Sums and groups: by any keys with intervals, exact, alike in all stores, unknown where nothing is known."""

from __future__ import annotations

import json
import random
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from decimal import Decimal
from fractions import Fraction
from itertools import count
from math import sqrt
from pathlib import Path
from statistics import fmean
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from tests.support.records import keep, session
from tests.support.scale import scaled

import callspan
from callspan import open_store
from callspan.comparison.call_sums import CallSums
from callspan.comparison.intervals import of_mean, of_means, of_shares, wilson
from callspan.records import (
    Attempt,
    CallRecord,
    Cost,
    Place,
    Record,
    Request,
    Response,
    RewardRecord,
    Stream,
    Timing,
    Usage,
)
from callspan.stores import CallFilter, Reader, Summary, find_store

from .conftest import SECOND, START_NS, Delivery, Records, event, reward, run, step

Made = list[dict[str, Any]]


def made(number: int) -> Made:
    """Sessions as plain values."""
    chance = random.Random(7)
    found = []
    for at in range(number):
        version = chance.choice(["3", "4"])
        calls = [
            {"in": chance.randrange(5, 900), "usd": Decimal(chance.randrange(1, 10**9)) / 10**12}
            for _ in range(chance.randrange(1, 4))
        ]
        found.append({
            "id": f"s{at:05}", "version": version,
            "task": f"t{chance.randrange(40)}" if chance.random() < 0.9 else None,
            "tags": chance.sample(["a", "b", "c"], chance.randrange(3)), "calls": calls,
            "success": chance.choice([True, False, None]),
            "reward": chance.choice([None, round(chance.gauss(1, 2), 3)]),
            "judge": [round(chance.random() + (version == "4") / 10, 2) for _ in range(chance.randrange(3))],
            "lasted": chance.randrange(1, 90) * SECOND,
        })  # fmt: skip
    return found


def records_of(sessions: Made, records: Records) -> list[Record]:
    found: list[Record] = []
    for at, one in enumerate(sessions):
        start = START_NS + at * SECOND
        metadata = {"prompt_version": int(one["version"]), "tags": one["tags"]}
        found += [
            records.session(
                one["id"], task_id=one["task"], start_ns=start, end_ns=start + one["lasted"], metadata=metadata,
                success=one["success"],
            ),
            *(
                records.call(
                    session_id=one["id"], usage=Usage(input_tokens=call["in"], output_tokens=1), trace_id=None,
                    cost=Cost(usd=call["usd"], source="mine"), timing=Timing(start_ns=start, duration_ns=SECOND),
                )
                for call in one["calls"]
            ),
        ]  # fmt: skip
        values = [("judge", value, "event") for value in one["judge"]]
        values += [("reward", one["reward"], "session")] if one["reward"] is not None else []
        found += [
            reward(f"{one['id']}-{number}", value, session_id=one["id"], objective=name, scope=scope, time_ns=start)
            for number, (name, value, scope) in enumerate(values)
        ]  # fmt: skip
    return found


def exact_mean(values: list[float]) -> float:
    return float(sum(Fraction(str(value)) for value in values) / len(values))


def check_group(row: dict[str, Any], sessions: Made) -> None:
    from scipy import stats

    found = {one["measure"]: one for one in row["measures"]}
    known = [one["success"] for one in sessions if one["success"] is not None]
    success = found["success"]
    assert (row["sessions"], success["n"], success["sum"] or 0) == (len(sessions), len(known), sum(known))
    if known:
        bounds = stats.binomtest(sum(known), len(known)).proportion_ci(method="wilson")
        assert (success["low"], success["high"]) == pytest.approx((bounds.low, bounds.high), abs=1e-12)
    judged = [exact_mean(one["judge"]) for one in sessions if one["judge"]]
    rewards = [one["reward"] for one in sessions if one["reward"] is not None]
    values = {name: some for name, some in (("judge", judged), ("reward", rewards)) if some}
    scores = {name: one for name, one in found.items() if one["kind"] == "score"}
    assert {name: one["n"] for name, one in scores.items()} == {name: len(some) for name, some in values.items()}
    means = {name: exact_mean(some) for name, some in values.items()}
    assert {name: one["mean"] for name, one in scores.items()} == pytest.approx(means, abs=1e-12)
    calls = [call for one in sessions for call in one["calls"]]
    assert found["calls"] == {
        "kind": "sum", "measure": "calls", "sum": len(calls), "mean": len(calls) / len(sessions), "low": None,
        "high": None, "n": len(sessions), "sum_is_lower_bound": False,
    }  # fmt: skip
    assert found["input_tokens"]["sum"] == sum(call["in"] for call in calls)
    spent = sum(call["usd"] for call in calls)
    assert Decimal(found["cost_usd"]["sum"]) == spent
    assert Fraction(found["cost_usd"]["mean"]) == pytest.approx(Fraction(spent) / len(sessions), rel=1e-24)
    assert found["duration_ns"]["sum"] == sum(one["lasted"] for one in sessions)


KEYS: dict[str, Callable[[dict[str, Any]], list[Any]]] = {
    "meta:prompt_version": lambda one: [one["version"]],
    "tag": lambda one: one["tags"] or [None],
    "task,meta:prompt_version": lambda one: [(one["task"], one["version"])],
}


FACTS = {"task": "task_id", "group": "group_id", "user": "user_id", "session": "session_id"}
"""The names of groupings in JSON, where these differ."""


def check_groups(url: str, sessions: Made) -> None:
    for by, keys in KEYS.items():
        expected: dict[Any, Made] = defaultdict(list)
        for one in sessions:
            for key in keys(one):
                expected[key].append(one)
        rows = json.loads(run(url, "sessions", "--by", by, "--json"))
        assert len(rows) == len(expected)
        for row in rows:
            key = tuple(row[FACTS.get(name, name)] for name in by.split(","))
            check_group(row, expected[key if "," in by else key[0]])


@pytest.mark.parametrize("name", FACTS)
def test_groups_have_the_names_of_facts(name: str, store: Delivery, records: Records) -> None:
    store.write(records.session("s", user_id="s", group_id="s", task_id="s"), records.call(session_id="s"))
    for command in {"user": ("sessions", "stats"), "session": ("stats",)}.get(name, ("sessions",)):
        for by in (name, FACTS[name]):
            (row,) = json.loads(run(store.url, command, "--by", f"{by},model", "--json"))
            assert [*row][:2] == [FACTS[name], "model"]
            assert row[FACTS[name]] == "s"
    if name != "session":
        assert "1 session" in run(store.url, "compare", f"{FACTS[name]}=s", f"{name}=s")


def test_summaries_have_the_labels_of_calls(store: Delivery, records: Records) -> None:
    """Only where they are asked for, from the call or else from its session."""
    labels: dict[str, list[dict[str, object]]] = {"s1": [{"v": "b"}, {"v": ["a", "b"]}], "s2": [{}], "s3": []}
    store.write(*(records.session(name, metadata={"v": 7} if name == "s2" else {}) for name in labels))
    store.write(*(records.call(session_id=name, metadata=own) for name, of_calls in labels.items() for own in of_calls))
    with open_store(store.url) as reader:
        asked = {one.session.session_id: one.call_labels for one in reader.sessions(call_labels=["v", "w"])}
        assert asked == {"s1": {"v": ["a", "b"], "w": []}, "s2": {"v": ["7"], "w": []}, "s3": {"v": [], "w": []}}
        assert all(one.call_labels == {} for one in reader.sessions())


def check_comparison(url: str, sessions: Made) -> None:
    """Of tasks that both versions were given, by the mean of each."""
    measures = {one["measure"]: one for one in json.loads(run(url, *COMPARED, "--json"))["measures"]}
    values: dict[str, Callable[[dict[str, Any]], float | None]] = {
        "judge": lambda one: exact_mean(one["judge"]) if one["judge"] else None,
        "success": lambda one: None if one["success"] is None else float(one["success"]),
        "calls": lambda one: len(one["calls"]),
    }
    for name, value in values.items():
        found: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
        for one in sessions:
            if one["task"] is not None and (known := value(one)) is not None:
                found[one["version"]][one["task"]].append(known)
        common = found["3"].keys() & found["4"].keys()
        apart = [exact_mean(found["4"][task]) - exact_mean(found["3"][task]) for task in common]
        shown = measures[name]
        assert (shown["paired"], shown["n"]) == (True, [len(common)] * 2)
        assert shown["difference"] == pytest.approx(fmean(apart), abs=1e-9)
        assert shown["low"] < shown["difference"] < shown["high"]
    cost = measures["cost_usd"]
    assert Decimal(cost["b"]) - Decimal(cost["a"]) == Decimal(cost["difference"])


COMPARED = ("compare", "meta:prompt_version=3", "=4")


def test_groups_and_differences_match_an_independent_computation(store: Delivery, records: Records) -> None:
    sessions = made(scaled(200, 10_000))
    find_store(store.url).write(records_of(sessions, records))
    check_groups(store.url, sessions)
    check_comparison(store.url, sessions)


def test_confidence_intervals() -> None:
    assert wilson(0, 10) == pytest.approx((0, 0.2775), abs=1e-4)
    assert wilson(8, 10) == pytest.approx((0.4902, 0.9433), abs=1e-4)
    assert of_shares((48, 80), (56, 70)) == pytest.approx((0.0524, 0.3339), abs=1e-4)  # Newcombe 1998, method 10
    assert of_shares((1, 4), (5, 9)) is None
    assert of_mean([1.0] * 4) is of_mean([1.0] * 50) is None
    assert {of_mean([1.0, odd, 2, 3, 4, 5]) for odd in (float("inf"), float("nan"), 1.7e308, -1e103)} == {None}
    assert of_mean([0, 0, 0, 0, 1e-120]) is of_means([0] * 5, [0, 0, 0, 0, 1e-300]) is None
    assert of_mean([0.5377317942344237] * 5 + [0.5377317942344239]) is None  # no mean of a resample is less
    first, second = [0.1, 0.5, 0.2, 0.9, 0.4, 0.3], [1.1, 1.5, 1.2, 1.9, 1.4, 1.3]
    found = of_means(first, second)
    assert found.low < 1 < found.high
    assert of_means(first, second) == found  # the seed is fixed


@pytest.mark.parametrize("number", [5, 30, 200, 500])
@pytest.mark.parametrize("power", [1, 3], ids=["even", "skewed"])
def test_mean_intervals_equal_scipy(number: int, power: int) -> None:
    from numpy import mean, var
    from numpy.random import default_rng
    from scipy import stats

    chance = random.Random(number)
    first = [chance.random() ** power for _ in range(number)]
    second = [2 * chance.random() for _ in range(number + 2)]

    def bounds(*samples: list[float], statistic: Callable[..., Any]) -> Any:
        biased, unbiased = (sum(var(one, ddof=free) / len(one) for one in samples) for free in (0, 1))
        freedom = unbiased**2 / sum((var(one, ddof=1) / len(one)) ** 2 / (len(one) - 1) for one in samples)
        level = 1 - 2 * stats.norm.sf(stats.t.ppf(0.975, freedom) * sqrt(unbiased / biased))
        return stats.bootstrap(
            samples, statistic, n_resamples=20_000, batch=500, method="BCa", rng=default_rng(0), confidence_level=level
        ).confidence_interval

    one, two = of_mean(first), of_means(first, second)
    expected = bounds(first, statistic=mean)
    assert one == pytest.approx(tuple(expected), abs=(expected.high - expected.low) / 10)
    apart = bounds(first, second, statistic=lambda a, b, axis: b.mean(axis=axis) - a.mean(axis=axis))
    assert two == pytest.approx(tuple(apart), abs=(apart.high - apart.low) / 10)


EXAMPLES = count(1)
DAY = 86_400 * SECOND
COUNTS = st.none() | st.integers(0, 9) | st.just(2**40)
AMOUNTS = st.sampled_from(["0", "0.1", "0.0000123", "1E-13", "1E-30", "9000000", "0.3333333333333333"])
DURATIONS = st.none() | st.integers(0, 10 * SECOND)
CALLS = st.builds(
    CallRecord,
    call_id=st.just(""),
    provider=st.sampled_from("pq"),
    place=st.builds(Place, session_id=st.sampled_from([None, "a", "b"])),
    request=st.builds(Request, model=st.sampled_from([None, "m", "ä"])),
    response=st.sampled_from([None, Response(model="r")]),
    timing=st.builds(
        Timing,
        start_ns=st.sampled_from([0, 1, DAY - 1, DAY, 2 * DAY]).map(START_NS.__add__),
        duration_ns=DURATIONS,
        first_token_ns=DURATIONS,
    ),
    usage=st.none() | st.builds(Usage, input_tokens=COUNTS, output_tokens=COUNTS),
    cost=st.none() | st.builds(Cost, usd=AMOUNTS.map(Decimal), source=st.just("test")),
    outcome=st.sampled_from(["in_progress", "success", "success", "error", "timeout", "cancelled"]),
    retries=st.none() | st.integers(0, 3),
)
REWARDS = st.builds(
    RewardRecord, reward_id=st.just(""), session_id=st.sampled_from("ab"), event_id=st.sampled_from([None, "e"]),
    scope=st.sampled_from(["session", "event", "call"]), objective=st.sampled_from(["reward", "reward", "style"]),
    value=st.sampled_from([None, -1.0, 0.0, 0.1, 0.25, 1e9]), time_ns=st.integers(START_NS, START_NS + 2),
)  # fmt: skip


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(drawn=st.lists(CALLS, min_size=1, max_size=9), has_session=st.booleans(), rewards=st.lists(REWARDS, max_size=5))
def test_stores_sum_as_defined(
    store: Delivery, tmp_path: Path, drawn: list[CallRecord], has_session: bool, rewards: list[RewardRecord]
) -> None:
    """The definition: the SQL of SQLite over these records alone. Earlier versions of calls come before and after."""
    of = f"{next(EXAMPLES)}-"
    calls = [
        replace(
            one,
            call_id=f"{of}{at}",
            provider=f"{of}{one.provider}",
            place=Place(session_id=one.place.session_id and of + one.place.session_id),
        )
        for at, one in enumerate(drawn)
    ]
    older = [replace(one, part="started", outcome="in_progress") for one in calls[:3]]
    within: list[Record] = [session(f"{of}a", end_ns=START_NS + SECOND)] if has_session else []
    within += [step(f"{of}t{at}", session_id=f"{of}a", index=at, end_ns=end) for at, end in ((0, None), (1, START_NS))]
    within += [event(f"{of}e", session_id=f"{of}a", event_type="tool", reward=0.25)]
    within += [
        replace(one, reward_id=f"{of}r{at}", session_id=of + one.session_id, event_id=one.event_id and f"{of}e")
        for at, one in enumerate(rewards)
    ]
    store.write(*older, *calls, *within, *older)
    with closing(open_store(store.url)) as reader:
        for provider, since_ns in ((f"{of}{one}", since) for one in "pq" for since in (None, START_NS + DAY)):
            chosen = [one for one in calls if one.provider == provider and one.timing.start_ns >= (since_ns or 0)]
            which = CallFilter(provider=provider, since_ns=since_ns)
            with defined(tmp_path, chosen) as definition:
                for by in ("model", "provider", "session", "day"):
                    for latencies in (True, False):
                        answer = map(rounded, reader.summary(by, which, latencies=latencies))
                        assert [*answer] == [*map(rounded, definition.summary(by, latencies=latencies))], (by, which)
        with defined(tmp_path, [*calls, *within]) as definition:
            for summary in definition.sessions():
                assert reader.session(summary.session.session_id) == summary


@contextmanager
def defined(place: Path, records: Sequence[Record]) -> Iterator[Reader]:
    """Yield a reader of a new SQLite file that has these records."""
    with closing(open_store(keep(f"sqlite:///{place}/definition-{next(EXAMPLES)}.db", *records))) as reader:
        yield reader


def rounded(summary: Summary) -> dict[str, object]:
    """A summary with its percentiles to nine digits: databases compute them in other orders."""
    fields = msgspec.structs.asdict(summary)
    return {name: float(f"{value:.9g}") if isinstance(value, float) else value for name, value in fields.items()}


def costs(*amounts: str) -> list[Cost]:
    return [Cost(usd=Decimal(usd), source="x") for usd in amounts]


@pytest.mark.parametrize(
    ("field", "values", "summed"),
    [
        ("cost", costs(*["9000000"] * 3), {"cost_usd": Decimal(27_000_000)}),
        ("cost", costs(*["-9999.000000000001"] * 999), {"cost_usd": Decimal("-9989001.000000000999")}),
        (
            "cost",
            costs("1E-50", "0.1", "12345678901234567890.5"),
            {"cost_usd": Decimal(f"12345678901234567890.6{'0' * 48}1"), "calls_without_cost": 0},
        ),
        ("cost", costs("1E+40", "1E-7", "-3"), {"cost_usd": Decimal(f"{'9' * 39}7.0000001")}),
        (
            "usage",
            [Usage(input_tokens=2**62), Usage(input_tokens=2**62), Usage(output_tokens=2**63 - 1)],
            {"input_tokens": None},
        ),
        (
            "timing",
            [Timing(start_ns=START_NS, duration_ns=2**62, first_token_ns=number) for number in (0, 1, 7)],
            {"duration_p50_ns": pytest.approx(2**62), "first_token_p50_ns": 1},
        ),
        ("retries", [0, None, 2**31], {"retries": 2**31}),
    ],
    ids=["dear", "many", "tiny", "huge", "tokens", "times", "retries"],
)
def test_extreme_sums_are_exact(store: Delivery, field: str, values: list[object], summed: dict[str, object]) -> None:
    bare = CallRecord(call_id="", outcome="success", timing=Timing(start_ns=START_NS))
    made = [replace(bare, call_id=f"c{at:03}", **{field: value}) for at, value in enumerate(values)]
    store.write(*made)
    reader = store.read()
    assert list(reader.calls(CallFilter(newest_first=False))) == made, "the records stay whole"
    (found,) = reader.summary("day")
    assert {name: getattr(found, name) for name in summed} == summed


@pytest.mark.parametrize("outcome", ["error", "timeout"])
def test_only_a_failed_call_without_usage_is_free(outcome: Any, store: Delivery, records: Records) -> None:
    """Another failed call, whose cost is known, hides nothing."""
    free = {"outcome": outcome, "usage": None, "cost": None, "timing": Timing(start_ns=START_NS)}
    begun = Timing(start_ns=START_NS, first_token_ns=SECOND)
    lacking = ({"outcome": "success"}, {"usage": Usage(input_tokens=1)}, {"timing": begun})
    store.write(records.call(outcome=outcome), *(records.call(**{**free, **one}) for one in ({}, *lacking)))
    (found,) = store.read().summary("provider")
    assert (found.calls, found.errors, found.calls_without_cost) == (5, 4, 3)


@pytest.mark.parametrize(
    ("fields", "lacks"),
    [
        ({"outcome": "success", "response": Response(finish_reasons=["stop"])}, True),
        ({"outcome": "success", "stream": Stream(end="complete")}, True),
        ({"outcome": "success"}, False),  # as of a moderation, which counts no tokens
        ({"outcome": "cancelled"}, True),
        ({"outcome": "in_progress"}, True),
        ({"outcome": "error"}, False),
        ({"outcome": "timeout", "timing": Timing(start_ns=START_NS, first_token_ns=SECOND)}, True),
    ],
)
def test_call_whose_tokens_are_unknown_lacks_them(fields: Any, lacks: bool, store: Delivery, records: Records) -> None:
    """And the sum of its session meets no maximum."""
    unknown = {"usage": None, "cost": None, "response": None, "timing": Timing(start_ns=START_NS)}
    store.write(*(records.call(session_id="s", **each) for each in ({}, unknown | fields)))
    reader = store.read()
    (summary,) = reader.sessions()
    assert summary.calls_without_usage == lacks
    assert len([*reader.sessions(CallFilter(max_tokens=10**9))]) == (not lacks)


def test_free_is_the_same_in_sums_as_of_a_record(store: Delivery, records: Records) -> None:
    """Every ending, with and without an attempt that may have been billed."""
    unsent, answered = Attempt(number=1, start_ns=0), Attempt(number=2, start_ns=1, status=200)
    billed = Attempt(number=1, start_ns=0, error_kind="timeout", may_be_billed=True)
    ends = [
        {"attempts": attempts, "outcome": outcome, "retries": retries, "response": response, "timing": timing}
        for attempts in ([], [unsent], [billed], [billed, answered])
        for outcome in ("success", "error", "timeout", "cancelled")
        for retries in (None, 0)
        for response in (None, Response(cached="litellm"))
        for timing in (Timing(start_ns=START_NS), Timing(start_ns=START_NS, first_token_ns=5))
    ]
    made: list[CallRecord] = [records.call(**end, usage=None, cost=None, error=None, stream=None) for end in ends]
    store.write(*made)
    reader = store.read()
    (sums,) = reader.summary("provider")
    assert sums.calls_without_cost == sum(not call.is_free for call in made)
    assert sums.may_be_billed == sum(call.may_be_billed for call in made)
    assert sums.calls == len(made)


def test_sums_exclude_cached_answers(url: str, store: Delivery, records: Records) -> None:
    """Not in tokens and costs, nor among the calls that lack them."""
    copy = {
        "usage": Usage(raw={"prompt_tokens": 10}),
        "cost": None,
        "response": Response(id="chatcmpl-1", cached="portkey"),
    }
    free = {**copy, "cost": Cost(usd=Decimal(0), source="provider")}
    store.write(*(records.call(session_id="s", **fields) for fields in ({}, copy, free)))
    reader = store.read()
    (found,) = reader.summary("session")
    (session,) = reader.sessions()
    for sums in (found, session):
        assert (sums.calls, sums.cached, sums.input_tokens, sums.output_tokens) == (3, 2, 10, 5)
        assert (sums.cost_usd, sums.calls_without_cost, sums.calls_without_usage) == (Decimal("0.0000123"), 0, 0)
    assert [reader.count_calls(CallFilter(cached=cached)) for cached in (None, True, False)] == [3, 2, 1]
    assert len(run(url, "calls", "--cached", "--json").splitlines()) == 2
    assert "no cost" not in run(url, "stats")
    assert next(reader.calls(CallFilter(cached=True))).response.cached == "portkey"  # type: ignore[union-attr]
    assert reader.count_calls(CallFilter(min_cost_usd=Decimal("0.00000001"))) == 1


def test_grouped_sums_have_exact_percentiles(store: Delivery, records: Records) -> None:
    """Latencies are those of successes: a failed call lowers no average."""
    for number, milliseconds in enumerate([100, 5, 1, 2, 50]):
        timing = Timing(start_ns=START_NS + (number // 3) * 86_400 * SECOND, duration_ns=milliseconds * 1_000_000)
        store.write(records.call(session_id="a" if number < 4 else None, timing=timing))
    store.write(records.call(provider="anthropic", session_id="a"))
    failed = Timing(start_ns=START_NS, duration_ns=9 * SECOND)
    store.write(records.call(session_id="b", outcome="error", usage=None, cost=None, retries=2, timing=failed))
    reader = store.read()
    assert [(one.key, one.calls) for one in reader.summary("day")] == [("2025-10-09", 5), ("2025-10-10", 2)]
    assert [(one.key, one.calls) for one in reader.summary("session")] == [("a", 5), (None, 1), ("b", 1)]
    openai, other = reader.summary("provider")
    assert (openai.key, openai.calls) == ("openai", 6)
    assert (openai.duration_p50_ns, openai.duration_p95_ns) == (5e6, pytest.approx(90e6))
    assert (openai.errors, openai.calls_without_cost, openai.retries, openai.input_tokens) == (1, 0, 2, 50)
    assert (openai.first_ns, openai.last_ns) == (START_NS, START_NS + 86_400 * SECOND + 50_000_000)
    assert (other.key, other.calls) == ("anthropic", 1)
    (only,) = reader.summary("provider", CallFilter(session_id="a", provider="openai"))
    assert (only.calls, only.first_token_p50_ns) == (4, None)


def test_sessions_are_listed_newest_first_with_counts(store: Delivery, records: Records) -> None:
    store.write(
        records.session("old", start_ns=START_NS, end_ns=START_NS + 1, outcome="success"),
        records.session("new", start_ns=START_NS + SECOND, end_ns=START_NS + 2 * SECOND, outcome="error"),
        records.call(session_id="new", at_s=1),
        records.call(session_id="new", at_s=5, model="claude", outcome="timeout"),
        records.call(session_id="unannounced", at_s=0.5),
        event("e1", session_id="new", time_ns=1, reward=1.5),
        reward("r1", 1.5, session_id="new", event_id="e1", time_ns=2),
        reward("r2", session_id="new", time_ns=3),
        reward("r3", 7.0, session_id="new", objective="style", time_ns=3),
        reward("r4", 1.5, session_id="old", event_id="e1", time_ns=2),
        reward("r5", 9.0, session_id="old", scope="session", time_ns=3),
    )
    reader = store.read()
    new, unannounced, old = reader.sessions()
    assert [one.session.session_id for one in (new, unannounced, old)] == ["new", "unannounced", "old"]
    assert (new.calls, new.errors, new.events, new.models) == (2, 1, 4, ["claude", "gpt-5"])
    assert (new.reward, old.reward, unannounced.reward) == (2.5, 9.0, None)
    assert new.last_ns == START_NS + 6 * SECOND
    assert (new.input_tokens, old.input_tokens, old.cost_usd) == (20, None, None)
    assert [one.session.session_id for one in reader.sessions(CallFilter(limit=1))] == ["new"]
    later = reader.sessions(CallFilter(since_ns=START_NS + 1))
    assert [one.session.session_id for one in later] == ["new", "unannounced"]
    assert reader.session("ne") == new
    assert reader.session("un") == unannounced
    assert reader.session("nothing") is None
    assert reader.session("") is None


def test_call_sums_have_models_reasoning_and_means(store: Delivery, records: Records) -> None:
    """A mean is over the calls that state the number."""
    made = [
        records.call(model=model, session_id="s", usage=usage)
        for model, usage in (
            ("a", Usage(input_tokens=10, output_tokens=4, reasoning_tokens=3)),
            ("b", Usage(input_tokens=5)),
            ("a", Usage(reasoning_tokens=1)),
            ("a", None),
        )
    ]
    store.write(*made)
    sums, (session,) = callspan.summary(made), store.read().sessions()
    assert (sums.models, session.models) == ({"a": 3, "b": 1}, ["a", "b"])
    for found in (sums, session, *store.read().summary("session")):
        assert (found.reasoning_tokens, found.mean_input_tokens, found.mean_output_tokens) == (4, 7.5, 4.0)
    (row,) = json.loads(run(store.url, "sessions", "--json"))
    assert (row["reasoning_tokens"], row["mean_input_tokens"], row["mean_output_tokens"]) == (4, 7.5, 4.0)
    assert sums.duration_ns == sum(one.timing.duration_ns for one in made if one.outcome == "success")
    assert sums.mean_duration_ns == fmean(one.timing.duration_ns for one in made if one.outcome == "success")
    for kind in (CallSums, Summary, type(session)):
        assert not [name for name in kind.__struct_fields__ if name.endswith("_ms")], "facts have one unit"
    nothing = callspan.summary([])
    assert (nothing.models, nothing.reasoning_tokens, nothing.mean_input_tokens) == ({}, None, None)


@pytest.mark.parametrize("chosen", [(), ("cost", "time", "style", "tone", "depth")])
def test_groups_with_many_objectives_keep_the_main_columns(
    sqlite_url: str, records: Records, chosen: tuple[str, ...]
) -> None:
    names = ("reward", "cost", "time", "style", "tone", "depth")
    end_ns = START_NS + SECOND
    keep(
        sqlite_url,
        *(
            records.session(f"s{at}", experiment="x", start_ns=START_NS, end_ns=end_ns, success=at > 2)
            for at in range(9)
        ),
        *(records.call(session_id=f"s{at}") for at in range(9)),
        *(
            reward(f"r{at}-{name}", at / 10, session_id=f"s{at}", scope="session", objective=name)
            for at in range(9)
            for name in names
        ),
    )
    table = run(sqlite_url, "sessions", "--by", "experiment", *(f"--objective={one}" for one in chosen))
    head, row = table.split("\n")[:2]
    assert {"success", "reward", "cost each", "time each"} <= {*re.split(r"  +", head.strip())}, head
    assert ("67 %" in row, "+0.4" in row, "1.00 s" in row) == (True, True, True), row
    assert len(head) <= 100
