"""Filters: all stores find the same calls and sessions by facts, text and ids, with an index."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.support.identities import BEFORE_RESTART, ELSEWHERE, GONE, HERE
from tests.support.records import raw

from callspan.records import Attempt, ErrorInfo, Place, Request, Response, Timing, Usage
from callspan.stores import ORDERS, CallFilter, Reader

from .conftest import SECOND, START_NS, Deliver, Delivery, Records, recorded, run, step

EXPECTED = json.loads(Path(__file__).with_name("filters.json").read_text())
"""Calls, sessions and sums of `reader` by their labels; calls and sessions of `recorded` by options and by sort key;
talks, and in which of them each text is found; the calls that meet a condition."""


@pytest.fixture
def reader(store: Delivery, records: Records) -> Reader:
    named: dict[str, object] = {"name": "gridworld", "start_ns": START_NS}
    one = {"user_id": "u1", "group_id": "g1", "task_id": "t1", "experiment": "x1"}
    deep = {"a": 1, "b": {"c": {"d": "x"}}, "list": ["x", "y"]}
    own = {"seed": 7, "variant": "b", "a.b": "plain", "a": {"b": "nested"}}
    run = {"debug": True, "rate": 0.5, "deep": deep, "run_id": "r2", "it's :odd": 'a"b'}
    store.write(
        records.session("s1", **named, **one, metadata=own),
        records.session("s2", **named, user_id="u2", experiment="x2", metadata=run),
        step("t-1", session_id="s1", user_step_id="my-step"),
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


def test_duration_of_a_session_ends_with_a_call_that_has_ended(store: Delivery, records: Records) -> None:
    """A call without an end says nothing of it: neither the list nor the filter takes its start for the end."""
    later = START_NS + 3 * SECOND
    store.write(
        records.session("unknown", start_ns=START_NS),
        records.session("known", start_ns=START_NS),
        records.call(call_id="u", session_id="unknown", timing=Timing(start_ns=START_NS)),
        records.call(call_id="k", session_id="known", timing=Timing(start_ns=START_NS, duration_ns=SECOND)),
        records.call(call_id="l", session_id="known", timing=Timing(start_ns=later)),
    )
    reader = store.read()
    durations = {one.session.session_id: one.duration_ns for one in reader.sessions()}
    assert durations == {"unknown": None, "known": 3 * SECOND}
    long = CallFilter(min_duration_ns=0)
    assert [one.session.session_id for one in reader.sessions(long)] == ["known"]


def test_filters_find_and_sum_calls_and_sessions(reader: Reader) -> None:
    for conditions, names in EXPECTED["calls_by_label"]:
        which, expected = msgspec.convert(conditions, CallFilter), names.split()
        assert {call.call_id for call in reader.calls(which)} == set(expected), which
        assert reader.count_calls(which) == len(expected), which
        assert sum(one.calls for one in reader.summary("model", which, latencies=False)) == len(expected), which
    for conditions, names in EXPECTED["sessions_by_label"]:
        wanted, expected = msgspec.convert(conditions, CallFilter), names.split()
        assert {one.session.session_id for one in reader.sessions(wanted)} == set(expected), wanted
        assert len(list(reader.sessions(msgspec.structs.replace(wanted, limit=1)))) == min(1, len(expected)), wanted
    for known in ("t-1", "my-step"):
        step = reader.timestep(known)
        assert (step.timestep_id, step.session_id, step.user_step_id) == ("t-1", "s1", "my-step")
    assert reader.timestep("no-step") is None
    for by, sums in EXPECTED["sums"]:
        for latencies in (True, False):
            assert {one.key: one.calls for one in reader.summary(by, latencies=latencies)} == dict(sums), by
    for two, sums in EXPECTED["sums_of_two"]:
        for latencies in (True, False):
            found = list(reader.summary(two, latencies=latencies))
            assert {one.keys: one.calls for one in found} == {tuple(keys): calls for keys, calls in sums}, two
            assert all(one.duration_p50_ns == (1e9 if latencies else None) for one in found)
    assert [(one.keys, one.calls, one.duration_p50_ns) for one in reader.summary(())] == [((), 4, 1e9)]
    assert list(reader.summary((), CallFilter(user_id="nobody"))) == []
    for by in ("users", "meta:", "", ("user", "users")):
        with pytest.raises(
            ValueError, match="use model, provider, session, day, hour, minute, user, name, experiment or meta:KEY"
        ):
            list(reader.summary(by))


def test_groups_by_metadata_are_those_that_filters_find(store: Delivery, records: Records) -> None:
    values: list[Any] = [
        ["x", "z", "x"],
        ["z", "x"],
        [],
        "x",
        "[draft",
        '["a"',
        [1, True, None, {"x": 1}],
        {"x": 1},
        None,
        1.5,
        False,
    ]
    of_session: list[Any] = ["s1", ["s1", "s2"]]
    store.write(
        *(records.session(f"s{number}", metadata={"key": value}) for number, value in enumerate(of_session)),
        *(
            records.call(
                call_id=f"{number} {name}", session_id=session_id, metadata={} if value is None else {name: value}
            )
            for number, (value, (name, session_id)) in enumerate(
                itertools.product(values, (("key", None), ("key", "s0"), ("key", "s1"), ("tags", None)))
            )
        ),
    )
    reader = store.read()
    for name in ("key", "tags"):
        sums = {one.key: one.calls for one in reader.summary(f"meta:{name}")}
        for value, number in sums.items():
            if value is not None:
                assert reader.count_calls(CallFilter(metadata=((name, value),))) == number, (name, value)
        assert {*sums} >= {"x", "z", None}
    assert sums == {one.keys[0]: one.calls for one in reader.summary(("meta:tags", "model"))}


def listed(url: str, command: str, *arguments: str) -> list[str]:
    shown = json.loads(run(url, command, *arguments, "--json", code=None))
    return [row["call_id" if command == "calls" else "session_id"] for row in shown]


def test_failed_calls_and_sessions(store: Delivery, records: Records, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("callspan.stores.query.reader._READ_AT_ONCE", 3)
    monkeypatch.setattr("callspan.stores.query.listing._ROWS_AT_FIRST", 3)
    url = store.url
    store.write(*recorded(records))
    for options, expected in EXPECTED["calls"].items():
        assert listed(url, "calls", "--reverse", *options.split()) == expected.split(), options
    for options, expected in EXPECTED["sessions"].items():
        assert listed(url, "sessions", *options.split()) == expected.split(), options
    for command, by_key in EXPECTED["sorted"].items():
        for sort, expected in by_key.items():
            assert listed(url, command, "--sort", sort) == expected.split(), (command, sort)
            assert listed(url, command, "--sort", sort, "--limit", "2") == expected.split()[:2]
    for fact, option in (("--finish-reason length", "--finish length"), ("--outcome error", "--status error")):
        assert listed(url, "calls", *fact.split()) == listed(url, "calls", *option.split()) != []
    assert listed(url, "sessions", "--outcome", "success") == listed(url, "sessions", "--status", "success") != []
    for short, name in (("cost", "cost_usd"), ("duration", "duration_ns"), ("start", "start_ns")):
        assert listed(url, "calls", "--sort", name) == EXPECTED["sorted"]["calls"][short].split()
    reader = store.read()
    for sort in ("cost", "duration", "tokens"):
        *known, unknown = EXPECTED["sorted"]["calls"][sort].split()
        assert listed(url, "calls", "--sort", sort, "--reverse") == [*known[::-1], unknown], sort
    assert reader.count_calls(CallFilter(finish_reason="length")) == 2
    (sums,) = reader.summary("session", CallFilter(session_id="s-cut"))
    assert (sums.cut_by_length, sums.cut_off, sums.cancelled) == (1, 1, 1)
    summary = reader.session("s-cut")
    assert (summary.cut_by_length, summary.cut_off, summary.cancelled, summary.retries) == (1, 1, 1, 0)


def test_unknown_sums_of_sessions_are_last(store: Delivery, records: Records) -> None:
    usages = {"s1": None, "s2": Usage(input_tokens=5, output_tokens=2), "s3": None}
    store.write(*(records.call(session_id=name, at_s=at, usage=usages[name]) for at, name in enumerate(usages)))
    reader = store.read()
    for newest_first in (True, False):
        first = next(reader.sessions(CallFilter(sort="tokens", newest_first=newest_first)))
        assert first.session.session_id == "s2"


@pytest.mark.parametrize("fields", [{"sort": "cost"}, {"content": "full"}], ids=str)
def test_a_selection_names_the_possible_words(fields: Mapping[str, str]) -> None:
    (name, word), words = *fields.items(), "start_ns, cost_usd" if "sort" in fields else "all, response, none"
    with pytest.raises(ValueError, match=f"^{name}: '{word}' is none of {words}"):
        CallFilter(**fields)  # type: ignore[arg-type]


def test_truncated_lists_are_marked(store: Delivery, records: Records, monkeypatch: pytest.MonkeyPatch) -> None:
    """JSON has every row, in order, even of calls with the same start, whatever the page size."""
    monkeypatch.setattr("callspan.stores.query.reader._READ_AT_ONCE", 7)
    monkeypatch.setattr("callspan.stores.query.listing._ROWS_AT_FIRST", 7)
    monkeypatch.setattr("callspan.stores.query.listing._IDS_AT_ONCE", 11)
    monkeypatch.setattr("callspan.stores.tables.database._AT_ONCE", 5)
    url = store.url
    store.write(*(records.call(session_id=f"s{number:02}", at_s=number // 4) for number in range(60)))
    for command, key in (("calls", "call_id"), ("sessions", "session_id"), ("stats --by session", "session_id")):
        every = [row[key] for row in json.loads(run(url, *command.split(), "--json"))]
        assert len(set(every)) == 60, command
        assert every == sorted(every, reverse=command != "stats --by session"), command
        page = [row[key] for row in json.loads(run(url, *command.split(), "--json", "--limit", "9"))]
        assert page == every[:9], command
        assert "the first 50: --limit N shows more, --json all" in run(url, *command.split()), command
    for sort in ("start", "cost", "duration", "tokens", "retries"):  # equal except for the start
        found = listed(url, "calls", "--sort", sort)
        assert found == sorted(set(found), reverse=True), sort
        assert len(found) == 60, sort
        assert listed(url, "calls", "--sort", sort, "--reverse") == found[::-1], sort
    reader = store.read()
    for sort in ORDERS:
        which = CallFilter(sort=sort)
        every = [one.session.session_id for one in reader.sessions(which)]
        part = reader.sessions(msgspec.structs.replace(which, offset=9, limit=30))
        assert [one.session.session_id for one in part] == every[9:39], sort


def test_text_search_is_case_insensitive_and_only_in_messages(store: Delivery, records: Records) -> None:
    asked = {"role": "user", "content": "q"}
    body = {"model": "m", "messages": [asked], "user": "hidden-field", "tools": [{"name": "shovel"}]}
    store.write(
        *(records.call(messages, call_id=name) for name, messages in EXPECTED["talks"].items()),
        records.call([asked | {"content": "x " * 3_000 + "needle at the end"}], call_id="long"),
        records.call(call_id="settings", request=Request(body=raw(body)), answer="Indeed."),
        records.call(call_id="empty", request=Request(), response=None),
    )
    reader = store.read()
    for text, names in EXPECTED["texts"].items():
        assert {call.call_id for call in reader.calls(CallFilter(text=text))} == set(names.split()), text


CONDITIONED = {
    "step": CallFilter(timestep_id="x-1234"),
    "workflow": CallFilter(metadata=(("workflow_id", "x-1234"),)),
    "organization": CallFilter(metadata=(("organization_id", "x-1234"),)),
}


def test_call_is_found_by_any_of_its_ids(store: Delivery, records: Records) -> None:
    attempts = [
        Attempt(number=1, start_ns=5, status=429, request_id="req_first"),
        Attempt(number=2, start_ns=9, status=200, request_id="req_last"),
        Attempt(number=3, start_ns=19, error_kind="connection"),
    ]
    early = records.call(trace_id="a" * 32, attempts=attempts, response=Response(id="msg_1"), at_s=1)
    late = records.call(trace_id="a" * 32, response=Response(id="msg_2"), at_s=2)
    store.write(late, early, records.call(trace_id="b" * 32, response=None, attempts=[]))
    reader = store.read()
    known = (early.call_id, early.span_id, "req_last", "msg_1", "a" * 32)
    assert [reader.call(one).call_id for one in known] == [early.call_id] * len(known)
    assert reader.call("msg_2").call_id == late.call_id
    assert reader.call("req_none") is None


@pytest.mark.parametrize("found", CONDITIONED)
def test_lookups_use_an_index(found: str, sqlite_url: str, deliver: Deliver) -> None:
    reader = deliver(sqlite_url).read()
    where, values = reader._lists.condition(CONDITIONED[found])
    for order in ("", " ORDER BY start_ns DESC, call_id DESC LIMIT 20"):
        sql = f"EXPLAIN QUERY PLAN SELECT * FROM calls c WHERE {where}{order}"
        plan = [str(row[3]) for row in reader._database.tuples(sql, values)]
        assert f"SEARCH c USING INDEX calls_{found} ({'timestep' if found == 'step' else found}_id=?)" in plan, plan
        assert not any(step.startswith("SCAN c") for step in plan), plan


def test_open_calls_of_a_dead_process_are_interrupted(store: Delivery, records: Records) -> None:
    begun: dict[str, object] = {"part": "started", "outcome": "in_progress", "response": None, "usage": None}
    now_ns = time.time_ns()
    over: dict[str, object] = {"end_ns": START_NS + 1, "process": GONE, "outcome": "success"}
    waits: dict[str, object] = {"part": "requested", "outcome": "in_progress", "process": GONE}
    store.write(
        records.call(call_id="runs", **begun, process=HERE),
        records.call(call_id="killed", **begun, process=GONE),
        records.call(call_id="before a restart", **begun, process=BEFORE_RESTART),
        records.call(call_id="elsewhere", **begun, process=ELSEWHERE, seen_ns=now_ns),
        records.call(call_id="silent", **begun, process=ELSEWHERE),
        records.call(call_id="of nobody", **begun),
        records.call(call_id="in the background", **waits),
        records.call(call_id="over", process=GONE, session_id="without a record"),
        records.session("open", start_ns=START_NS, process=HERE),
        records.session("left", start_ns=START_NS, process=GONE, version=now_ns),
        records.session("restarted", start_ns=START_NS, process=BEFORE_RESTART, version=now_ns),
        records.session("alive", start_ns=START_NS, process=ELSEWHERE),
        step("of alive", session_id="alive", start_ns=now_ns),
        records.session("gone", start_ns=START_NS, process=ELSEWHERE),
        records.session("ended", **over),
        records.session("failed", **over, success=False),
    )
    reader = store.read()
    found = {
        outcome: sorted(call.call_id for call in reader.calls(CallFilter(outcome=outcome)))
        for outcome in ("in_progress", "interrupted", "unknown", "success")
    }
    assert found == {
        "in_progress": ["elsewhere", "in the background", "runs"], "interrupted": ["before a restart", "killed"],
        "unknown": ["of nobody", "silent"], "success": ["over"],
    }  # fmt: skip
    every = {call.call_id: call.outcome for call in reader.calls()}
    assert every == {call_id: outcome for outcome, ids in found.items() for call_id in ids}
    assert {call_id: call.outcome for call_id in every if (call := reader.call(call_id))} == every
    assert reader.count_calls(CallFilter(outcome="interrupted")) == 2
    for conditions, expected in (
        ({"session_outcome": "in_progress"}, "alive open"), ({"session_outcome": "interrupted"}, "left restarted"),
        ({"session_outcome": "unknown"}, "gone"), ({"success": True}, "ended"), ({"success": False}, "failed"),
    ):  # fmt: skip
        found_sessions = list(reader.sessions(CallFilter(**conditions)))
        assert sorted(one.session.session_id for one in found_sessions) == expected.split()
        wanted = conditions.get("session_outcome")
        assert all(wanted in (None, one.outcome) for one in found_sessions)
    assert reader.session("without a record").outcome is None


def test_call_filters(store: Delivery, records: Records) -> None:
    failed = {"outcome": "error", "error": ErrorInfo(kind="server", type="500", message="Straße gesperrt")}
    made = [
        records.call(at_s=0, session_id="a", answer="The QUICK fox"),
        records.call(at_s=1, session_id="a", model="claude", provider="anthropic"),
        records.call([{"role": "user", "content": [{"type": "text", "text": "Straße"}]}], at_s=2, **failed),
        records.call(at_s=3, outcome="in_progress", part="started", place=Place(session_id="b", timestep_id="t9")),
    ]
    store.write(*made)
    reader = store.read()

    def chosen(**which: object) -> list[int]:
        found = reader.calls(CallFilter(**which))  # type: ignore[arg-type]
        return [[one.call_id for one in made].index(one.call_id) for one in found]

    for which, expected in EXPECTED["conditions"]:
        assert chosen(**which) == expected, which
    assert sum(one.calls for one in reader.summary("session", CallFilter(in_session=False))) == 1
    for hostile in ("5\0", "5\ud800"):
        for name in ("text", "error_text", "user_id", "model", "session_id"):
            assert chosen(**{name: hostile}) == chosen(**{name: hostile}, limit=1) == []
        assert chosen(metadata=(("k", hostile),)) == []
    assert reader.count_calls(CallFilter(session_id="a", limit=1)) == 2


def test_refused_answers_are_selected_and_counted(store: Delivery, records: Records) -> None:
    store.write(
        records.call(call_id="no", session_id="s1", response=Response(refused=True)),
        records.call(call_id="yes", session_id="s1"),
        records.call(call_id="unknown", session_id="s2", response=None),
    )
    reader = store.read()
    for is_refused, calls, sessions in ((True, {"no"}, {"s1"}), (False, {"yes", "unknown"}, {"s1", "s2"})):
        selection = CallFilter(refused=is_refused)
        assert {call.call_id for call in reader.calls(selection)} == calls
        assert {summary.session.session_id for summary in reader.sessions(selection)} == sessions
    assert {summary.session.session_id: summary.refused for summary in reader.sessions()} == {"s1": 1, "s2": 0}


@pytest.mark.parametrize("key", ["k", "project_id", "user_id"])
def test_text_that_looks_like_a_list_is_a_text(store: Delivery, records: Records, key: str) -> None:
    """As a filter, and as what calls are grouped by; also where the key has a column."""
    values = ['["a","b"]', "a", ["a", "b"], "[a"]
    store.write(
        *(records.session(f"s{n}", metadata={key: value}) for n, value in enumerate(values)),
        *(records.call(call_id=f"c{n}", metadata={key: value}) for n, value in enumerate(values)),
        *(records.call(call_id=f"in{n}", session_id=f"s{n}") for n, _ in enumerate(values)),
    )
    reader = store.read()
    for n, text in ((0, '["a","b"]'), (3, "[a")):
        selection = CallFilter(metadata=((key, text),))
        assert {call.call_id for call in reader.calls(selection)} == {f"c{n}", f"in{n}"}
        assert [one.session.session_id for one in reader.sessions(selection)] == [f"s{n}"]
    assert {one.key: one.calls for one in reader.summary(f"meta:{key}")} == {'["a","b"]': 2, "a": 4, "b": 2, "[a": 2}


def test_text_is_folded_as_python_folds_it(store: Delivery, records: Records) -> None:
    """Also where a character becomes several: ligatures, the sharp s, Greek with an iota."""
    changed = [char for char in map(chr, range(0x20, 0x10FFFF)) if char.casefold() != char]
    texts = ["the of\N{LATIN SMALL LIGATURE FI}ce is open", " ".join(changed), "PLAIN words"]
    store.write(*(records.call([{"role": "user", "content": text}], call_id=f"c{n}") for n, text in enumerate(texts)))
    reader = store.read()
    for part, wanted in (("OFFICE", {"c0"}), (texts[1], {"c1"}), (texts[1].casefold(), {"c1"}), ("plain W", {"c2"})):
        assert {call.call_id for call in reader.calls(CallFilter(text=part))} == wanted
