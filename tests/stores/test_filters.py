"""Calls and sessions are found and summed by user, name, group, experiment, task and metadata, alike in all stores."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from callspan.records import Place, Request, TimestepRecord
from callspan.stores import CallFilter, Reader, SessionFilter

from .conftest import START_NS, Delivery, Records

CALLS = [
    (CallFilter(user="u1"), "own inherited"),
    (CallFilter(user="u2"), "other"),
    (CallFilter(user="sent"), "alone"),
    (CallFilter(user="nobody"), ""),
    (CallFilter(name="gridworld"), "own inherited other"),
    (CallFilter(group="g1"), "own inherited"),
    (CallFilter(task="t1"), "own inherited"),
    (CallFilter(experiment="x1"), "own inherited"),
    (CallFilter(experiment="x1", user="u2"), ""),
    (CallFilter(experiment="x2"), "other"),
    (CallFilter(metadata=(("seed", "7"),)), "inherited"),
    (CallFilter(metadata=(("seed", "8"),)), "own"),
    (CallFilter(metadata=(("seed", "7"), ("variant", "b"))), "inherited"),
    (CallFilter(metadata=(("variant", "b"),)), "own inherited"),
    (CallFilter(metadata=(("debug", "true"),)), "other"),
    (CallFilter(metadata=(("rate", "0.5"),)), "other"),
    (CallFilter(metadata=(("tags", "x"),)), "alone"),
    (CallFilter(metadata=(("tags", "z"),)), ""),
    (CallFilter(metadata=(("run_id", "r1"),)), "alone"),
    (CallFilter(metadata=(("run_id", "r2"),)), "other"),
    (CallFilter(metadata=(("deep", "{}"),)), ""),
    (CallFilter(metadata=(("deep.a", "1"),)), "other"),
    (CallFilter(metadata=(("deep.a", "2"),)), ""),
    (CallFilter(metadata=(("deep.b.c.d", "x"),)), "other"),
    (CallFilter(metadata=(("deep.list", "y"),)), "other"),
    (CallFilter(metadata=(("deep.list.0", "x"),)), ""),
    (CallFilter(metadata=(("deep.a.b", "1"),)), ""),
    (CallFilter(metadata=(("eval.run", "3"),)), "own"),
    (CallFilter(metadata=(("a.b", "plain"),)), "inherited own"),
    (CallFilter(metadata=(("a.b", "nested"),)), ""),
    (CallFilter(metadata=(("a.b.", "nested"),)), ""),
    (CallFilter(metadata=(("extra.seed", "8"),)), "own"),
    (CallFilter(metadata=(("it's :odd", 'a"b'),)), "other"),
    (CallFilter(metadata=(("missing", ""),)), ""),
    (CallFilter(timestep_id="t-1"), "own"),
    (CallFilter(timestep_id="my-step"), "own"),
    (CallFilter(timestep_id="no-step"), ""),
]
SESSIONS = [
    (SessionFilter(user="u1"), "s1"),
    (SessionFilter(name="gridworld"), "s1 s2"),
    (SessionFilter(group="g1"), "s1"),
    (SessionFilter(task="t1"), "s1"),
    (SessionFilter(experiment="x2"), "s2"),
    (SessionFilter(metadata=(("seed", "7"), ("variant", "b"))), "s1"),
    (SessionFilter(metadata=(("seed", "8"),)), ""),
    (SessionFilter(metadata=(("deep.b.c.d", "x"), ("deep.a", "1"))), "s2"),
    (SessionFilter(metadata=(("a.b", "plain"),)), "s1"),
    (SessionFilter(user="u1", experiment="x2"), ""),
    (CallFilter(user="u2", model="gpt-5"), "s2"),
    (CallFilter(user="u2", model="another"), ""),
    (SessionFilter(), "s1 s2"),
]
SUMS = [
    ("user", {"u1": 2, "u2": 1, "sent": 1}),
    ("name", {"gridworld": 3, None: 1}),
    ("experiment", {"x1": 2, "x2": 1, None: 1}),
    ("hour", {"2025-10-09T08:00Z": 4}),
    ("minute", {"2025-10-09T08:53Z": 4}),
    ("meta:seed", {"7": 1, "8": 1, None: 2}),
    ("meta:variant", {"b": 2, None: 2}),
    ("meta:run_id", {"r1": 1, "r2": 1, None: 2}),
    ("meta:debug", {"true": 1, None: 3}),
    ("meta:tags", {'["x","y"]': 1, None: 3}),
    ("meta:deep", {None: 4}),
    ("meta:deep.a", {"1": 1, None: 3}),
    ("meta:a.b", {"plain": 2, None: 2}),
]
SUMS_OF_TWO = [
    (("user", "meta:seed"), {("u1", "7"): 1, ("u1", "8"): 1, ("u2", None): 1, ("sent", None): 1}),
    (("meta:seed", "meta:deep.a"), {("7", None): 1, ("8", None): 1, (None, "1"): 1, (None, None): 1}),
    (("session", "model"), {("s1", "gpt-5"): 2, ("s2", "gpt-5"): 1, (None, "gpt-5"): 1}),
]


@pytest.fixture
def reader(url: str, records: Records, deliver: Callable[[str], Delivery]) -> Reader:
    store = deliver(url)
    named: dict[str, object] = {"name": "gridworld", "start_ns": START_NS}
    one = {"user_id": "u1", "group_id": "g1", "task_id": "t1", "experiment": "x1"}
    deep = {"a": 1, "b": {"c": {"d": "x"}}, "list": ["x", "y"]}
    own = {"seed": 7, "variant": "b", "a.b": "plain", "a": {"b": "nested"}}
    run = {"debug": True, "rate": 0.5, "deep": deep, "run_id": "r2", "it's :odd": 'a"b'}
    store.write(
        records.session("s1", **named, **one, metadata=own),
        records.session("s2", **named, user_id="u2", experiment="x2", metadata=run),
        TimestepRecord(timestep_id="t-1", session_id="s1", seen_ns=1, index=0, user_step_id="my-step"),
        records.call(
            call_id="own",
            place=Place(session_id="s1", session_name="gridworld", timestep_id="t-1"),
            metadata={"user_id": "u1", "extra": {"seed": 8, "eval": {"run": 3}}},
        ),
        records.call(call_id="inherited", session_id="s1"),
        records.call(call_id="other", session_id="s2", metadata={"user_id": "u2"}),
        records.call(
            call_id="alone",
            request=Request(model="gpt-5", params={"user": "sent"}),
            metadata={"tags": ["x", "y"], "run_id": "r1"},
        ),
    )
    return store.read()


def test_calls_and_sessions_are_found_and_summed(reader: Reader) -> None:
    for which, names in CALLS:
        expected = names.split()
        assert {call.call_id for call in reader.calls(which)} == set(expected), which
        assert reader.count_calls(which) == len(expected), which
        assert sum(one.calls for one in reader.summary("model", which, latencies=False)) == len(expected), which
    for wanted, names in SESSIONS:
        expected = names.split()
        assert {one.session.session_id for one in reader.sessions(which=wanted)} == set(expected), wanted
        assert len(list(reader.sessions(which=wanted, limit=1))) == min(1, len(expected)), wanted
    for known in ("t-1", "my-step"):
        step = reader.timestep(known)
        assert step is not None
        assert (step.timestep_id, step.session_id, step.user_step_id) == ("t-1", "s1", "my-step")
    assert reader.timestep("no-step") is None
    for by, sums in SUMS:
        for latencies in (True, False):
            assert {one.key: one.calls for one in reader.summary(by, latencies=latencies)} == sums, by
    for two, sums_of_two in SUMS_OF_TWO:
        for latencies in (True, False):
            found = list(reader.summary(two, latencies=latencies))
            assert {one.keys: one.calls for one in found} == sums_of_two, two
            assert all(one.p50_ms == (1000 if latencies else None) for one in found)
    for by in ("users", "meta:", "", (), ("user", "users")):
        with pytest.raises(
            ValueError, match="use model, provider, session, day, hour, minute, user, name, experiment or meta:KEY"
        ):
            list(reader.summary(by))
