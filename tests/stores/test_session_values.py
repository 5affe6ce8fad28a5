"""Session values: of every session the numbers and groups that its summary has, in every store."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from decimal import Decimal
from random import Random
from typing import Any

import pytest
from tests.support.identities import ELSEWHERE, GONE, HERE
from tests.support.records import SECOND, START_NS, Records, event, keep, made, message, reward, session, step

from callspan import open_store
from callspan.records import Cost, ErrorInfo, Place, Record, Usage, labels
from callspan.stores import SESSION_FACTS, CallFilter, Reader, SessionSummary

from .conftest import READABLE

KINDS = [pytest.param(kind, marks=() if kind == "sqlite" else getattr(pytest.mark, kind)) for kind in READABLE]
KEYS = ("v", "tags")
COSTS = (Decimal("0.1"), Decimal("0.000001234567"), Decimal("1e-15"), Decimal(9_300_000), Decimal(0))
FACTS = (*SESSION_FACTS, "start_ns", "models")
SUMS = ("timesteps", "calls", "errors", "input_tokens", "output_tokens", "reasoning_tokens", "cost_usd", "duration_ns")
FILTERS = (
    CallFilter(), CallFilter(errors=True), CallFilter(newest_first=False), CallFilter(limit=7, offset=2),
    CallFilter(sort="cost_usd"), CallFilter(since_ns=START_NS + 30 * SECOND), CallFilter(experiment="e1"),
    CallFilter(inferred=True), CallFilter(objectives=("judge",)),
)  # fmt: skip


def random_records(random: Random, number: int) -> Iterator[Record]:
    """Yield the records of sessions that lack now this, now that."""
    pick = random.choice
    processes = (None, HERE, GONE, ELSEWHERE)
    for index in range(number):
        session_id, start_ns = f"s{index:03}", START_NS + random.randrange(100) * SECOND
        if random.random() < 0.85:
            yield session(
                session_id,
                start_ns=pick([start_ns, start_ns, None]),
                end_ns=pick([None, start_ns + random.randrange(99) * SECOND, start_ns - SECOND]),
                outcome=pick([None, None, "success", "failure"]),
                success=pick([None, None, True, False]),
                seen_ns=pick([1, start_ns, 4 * 10**18]),
                process=pick(processes),
                experiment=pick([None, "e1", "e2"]),
                task_id=pick([None, *(f"t{task}" for task in range(7))]),
                group_id=pick([None, "g"]),
                name=pick([None, "n1", "n2"]),
                user_id=pick([None, "ann", "bob"]),
                metadata=pick([{}, {"v": 1}, {"v": ["1", 2, 2]}, {"tags": ["x"]}, {"extra": {"v": "3"}}]),
            )
        for turn in range(random.randrange(5)):
            at_ns = start_ns + random.randrange(20) * SECOND
            outcome = pick(["success", "success", "error", "cancelled"])
            tokens = pick([None, random.randrange(10**6)])
            yield made(
                f"{session_id}-{turn}",
                at_ns=at_ns,
                took_ns=pick([None, SECOND, random.randrange(9 * SECOND)]),
                place=Place(session_id=session_id),
                outcome=outcome,
                error=ErrorInfo(kind="server", type="E") if outcome == "error" else None,
                usage=pick([None, Usage(input_tokens=tokens, output_tokens=7, reasoning_tokens=pick([None, 3]))]),
                cost=pick([None, *(Cost(usd=usd, source="stated") for usd in COSTS)]),
                metadata=pick([{}, {"v": "2"}, {"tags": ["x", "y"]}, {"user_id": "eve"}]),
            )
            if random.random() < 0.4:
                yield step(f"{session_id}-t{turn}", session_id=session_id, index=turn, start_ns=at_ns)
                yield event(
                    f"{session_id}-e{turn}", session_id=session_id, time_ns=at_ns,
                    event_type=pick(["tool", "environment"]),
                    duration_ns=pick([None, 4 * SECOND]), reward=pick([None, 0.1, 1 / 3]),
                )  # fmt: skip
        for kind in ("reward", "judge", "taste"):
            if random.random() < 0.4:
                value = pick([0.1, 1 / 3, -2.5, 1e300])
                yield reward(f"{session_id}-{kind}", value, session_id=session_id, scope="session", objective=kind)
        if random.random() < 0.2:
            yield message(f"{session_id}-m", session_id=session_id, time_ns=START_NS + 500 * SECOND)


def of_summary(summary: SessionSummary) -> dict[str, Any]:
    """What a summary says, as values have it."""
    return {
        **{name: getattr(summary, name) for name in (*SUMS, "active_ns")},
        "succeeded": summary.succeeded,
        "scores": {name: score.mean for name, score in summary.scores.items()}
        | ({} if summary.reward is None else {"reward": summary.reward}),
        "is_rated": summary.is_rated,
        "lacks_usage": bool(summary.calls_without_usage),
        "lacks_cost": bool(summary.calls_without_cost),
        **{name: getattr(summary.session, name) for name in (*SESSION_FACTS, "start_ns")},
        "models": summary.models,
        **{key: summary.call_labels[key] or labels(summary.session.metadata, key) for key in KEYS},
    }


def read(reader: Reader, selection: CallFilter) -> dict[str, dict[str, Any]]:
    values = reader.session_values(selection, groupings=FACTS, label_keys=KEYS)
    named = {"active_ns": values.sums["active_ns"], **{name: values.sums[name] for name in SUMS}}
    columns = {**named, "succeeded": values.succeeded}
    return {
        session_id: {
            **{name: column[position] for name, column in columns.items()},
            "scores": {
                name: column[position] for name, column in values.scores.items() if column[position] is not None
            },
            "is_rated": bool(values.is_rated[position]),
            "lacks_usage": bool(values.lacks_usage[position]),
            "lacks_cost": bool(values.lacks_cost[position]),
            **{name: values.facts[name][position] for name in SESSION_FACTS},
            "start_ns": values.facts["start_ns"][position],
            "models": values.facts["models"][position] or [],
            **{key: values.labels[key].get(position, []) for key in KEYS},
        }
        for position, session_id in enumerate(values.ids)
    }


@pytest.mark.parametrize("kind", KINDS)
def test_values_are_those_of_the_summaries(
    kind: str, request: pytest.FixtureRequest, records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the sessions come in several batches."""
    written = [*random_records(Random(7), 150), *records.every_kind()]
    url = keep(str(request.getfixturevalue(f"{kind}_url")), *written)
    with closing(open_store(url)) as reader:
        for selection in FILTERS:
            summaries = {
                one.session.session_id: of_summary(one) for one in reader.sessions(selection, call_labels=KEYS)
            }
            for at_once in (2_000, 40):
                monkeypatch.setattr("callspan.stores.query.session_values._AT_ONCE", at_once)
                values = read(reader, selection)
                assert [*values] == [*summaries]
                for session_id, said in summaries.items():
                    assert values[session_id] == said, (selection, session_id)
