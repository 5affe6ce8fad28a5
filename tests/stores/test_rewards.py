"""Rewards: joined with their targets once these are recorded; scores and labels in lists, filters, exports, pairs."""

from __future__ import annotations

import itertools
import json
import re
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from callspan import erase, open_store
from callspan.records import CallRecord, Place, Response, RewardRecord, Usage

from .conftest import START_NS, CallIds, Delivery, Records, event, reward, run, step


def given(reward_id: str, number: int, **target: Any) -> RewardRecord:
    return reward(reward_id, objective="feedback", time_ns=START_NS + number, **target)


def test_reward_by_any_call_id_belongs_to_the_call(url: str, store: Delivery, records: Records) -> None:
    call = records.call(call_id="c", place=Place(session_id="s"), span_id="1" * 16)
    names = {"own": "c", "response": "chatcmpl-1", "request": "req_1", "span": "1" * 16}
    store.write(*(given(name, number, call_id=ident) for number, (name, ident) in enumerate(names.items())))
    assert "call chatcmpl-1" in run(url, "calls", "--rewards")
    store.write(call)
    assert {one.reward_id for one in store.read().rewards(call)} == {*names}
    (summary,) = store.read().sessions()
    assert (summary.scores["feedback"].mean, summary.scores["feedback"].count) == (1.0, 4)
    assert run(url, "show", "c").count("feedback +1") == 4


def test_reward_joins_its_call_in_any_order(url: str, store: Delivery, records: Records) -> None:
    places = set()
    for number, order in enumerate(itertools.permutations(range(4))):
        call_id, event_id, step_id, of = f"c{number}", f"e{number}", f"t{number}", f"s{number}"
        response = Response(id=f"resp_{number}", model="m")
        some = (
            records.call(call_id=call_id, place=Place(session_id=of, timestep_id=step_id), response=response),
            event(event_id, session_id=of, timestep_id=step_id),
            step(step_id, session_id=of),
            (
                given(f"by-call {number}", 1, call_id=f"resp_{number}"),
                given(f"by-event {number}", 1, event_id=event_id),
                given(f"by-step {number}", 1, timestep_id=step_id),
                given(f"in-session {number}", 1, session_id=of, call_id=f"resp_{number}"),
                given(f"in-session-by-event {number}", 1, session_id=of, event_id=event_id),
            ),
        )
        for at in order:
            found = some[at]
            store.write(*(found if isinstance(found, tuple) else (found,)))
        with closing(open_store(url)) as reader:
            inside = [one for one in reader.events(of) if isinstance(one, RewardRecord)]
        of_call = [one.call_id and one.call_id.rstrip("0123456789") for one in inside]
        steps = [one.timestep_id == step_id for one in inside]
        places.add((*(one.reward_id.split()[0] for one in inside), *of_call, *steps))
    names = ("by-call", "by-event", "by-step", "in-session", "in-session-by-event")
    assert places == {(*names, "c", None, None, "c", None, *([True] * 5))}


def shared(records: Records) -> list[CallRecord]:
    """Two calls of two sessions with the same response id, as after a replay; the later one is listed first."""
    response = Response(id="resp_1", model="m")
    return [
        records.call(call_id=name, session_id=f"s-{name}", at_s=at_s, response=response, attempts=[])
        for name, at_s in (("replay", 5), ("own", 1))
    ]


@pytest.mark.parametrize(("erased", "rewards"), [("replay", ["r"]), ("own", [])])
@pytest.mark.transactional("erases")
def test_reward_is_deleted_with_its_call(
    erased: str, rewards: list[str], url: str, store: Delivery, records: Records
) -> None:
    store.write(*shared(records), given("r", 9, call_id="resp_1"))
    assert erase(url, calls=[erased]).stores[0].rewards == 1 - len(rewards)
    assert [one.reward_id for one in store.read().rewards()] == rewards


ANSWERS: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({"cached": "portkey"}, {}, "second"),
    ({}, {"cached": "client"}, "first"),
    ({"created": 7}, {"created": 7}, "first"),
    ({"created": 7}, {"created": 8}, "resp_1"),
    ({"model": "a"}, {"model": "b"}, "resp_1"),
]
"""What two calls with one response id are besides, and the call that a reward by it names: none of two answers."""


@pytest.mark.parametrize(("first", "second", "expected"), ANSWERS)
def test_repeated_server_id_names_no_call(
    first: dict[str, Any], second: dict[str, Any], expected: str, store: Delivery, records: Records
) -> None:
    names = {"first": first, "second": second}
    store.write(
        *(
            records.call(call_id=name, at_s=number, attempts=[], response=Response(**{"id": "resp_1", **fields}))
            for number, (name, fields) in enumerate(names.items())
        ),
        given("r", 9, call_id="resp_1"),
    )
    assert [one.call_id for one in store.read().rewards()] == [expected]


PAIRS: list[tuple[dict[str, Any], dict[str, Any], bool]] = [
    ({"answer": "Yes."}, {"answer": "Yes."}, True),
    ({"answer": "Yes."}, {"answer": "No."}, False),
    ({"answer": "Yes."}, {"answer": "No.", "of": "other"}, False),
    ({"answer": "Yes."}, {"answer": "Yes.", "of": "other"}, True),
    ({"answer": "Yes."}, {"answer": "Yes!", "cached": "client"}, True),
    ({"answer": None, "tokens": 5}, {"answer": None, "tokens": 5}, True),
    ({"answer": None, "tokens": 5}, {"answer": None, "tokens": 6}, False),
    ({"answer": "Yes.", "tokens": 5}, {"answer": None, "tokens": None}, True),
]
"""What two calls of one second with one response id say, and whether that is the same answer, as far as is known."""


@pytest.mark.parametrize(("first", "second", "is_same"), PAIRS)
@pytest.mark.parametrize("order", ["reward first second", "first reward second", "second first reward", "together"])
def test_id_of_different_answers_names_none_of_them_in_any_order(
    first: dict[str, Any], second: dict[str, Any], is_same: bool, order: str, store: Delivery, records: Records
) -> None:
    written = {"reward": given("reward", 9, call_id="resp_1", scope="call")}
    for number, (name, of) in enumerate({"first": first, "second": second}.items()):
        answer, tokens = of["answer"], of.get("tokens", 5)
        call = records.call(answer=answer or "")
        response = Response(body=call.response.body) if call.response and answer else Response()
        written[name] = records.call(
            call_id=name, at_s=number, session_id=f"of-{of.get('of', 'one')}", attempts=[],
            response=msgspec.structs.replace(response, id="resp_1", model="m", cached=of.get("cached")),
            usage=None if tokens is None else Usage(input_tokens=3, output_tokens=tokens),
        )  # fmt: skip
    if order == "together":
        store.write(*written.values())
    else:
        for name in order.split():
            store.write(written[name])
    reader = store.read()
    (kept,) = reader.rewards()
    assert (kept.call_id, kept.session_id) == (("first", "of-one") if is_same else ("resp_1", None))
    call = reader.call("first")
    assert call is not None
    assert [*reader.call_scores([CallIds(call.call_id, call.place.session_id)], ["feedback"]).get("first", {})] == (
        ["feedback"] if is_same else []
    )


def test_reward_belongs_to_the_session_of_its_narrowest_target(store: Delivery, records: Records) -> None:
    store.write(
        event("e", session_id="of-event"),
        records.call(call_id="c", place=Place(session_id="of-call")),
        records.call(call_id="outside", at_s=1, response=Response(id="alone", model="m")),
        step("t", session_id="of-step"),
        given("r1", 1, timestep_id="t", call_id="chatcmpl-1"),
        given("r2", 2, timestep_id="t", call_id="c", event_id="e"),
        given("r3", 3, timestep_id="t", call_id="alone", event_id="unknown"),
    )
    expected = {"of-event": ["r2"], "of-call": ["r1"], "of-step": ["r3"]}
    for session_id, rewards in expected.items():
        assert [one.reward_id for one in store.read().events(session_id) if isinstance(one, RewardRecord)] == rewards


def test_reward_that_names_its_session_counts_in_the_step_of_its_event(store: Delivery) -> None:
    store.write(
        step("t", session_id="s"), event("e", session_id="s", timestep_id="t"),
        event("other", session_id="another", timestep_id="t"),
        score(1, "reward", 0.5, session_id="s", event_id="e"),
        score(2, "reward", 4.0, session_id="s", event_id="other"),
    )  # fmt: skip
    assert store.read().timestep_scores("s") == {"t": {"reward": 0.5}}


def score(number: int, objective: str, value: float, scope: str = "event", **target: Any) -> RewardRecord:
    return reward(f"r{number}", value, objective=objective, scope=scope, time_ns=START_NS + number, **target)


@pytest.fixture
def judged(store: Delivery, records: Records) -> str:
    """Two sessions of a task, one rated 0.8 three times, and two calls outside, one liked and one not."""
    question = [{"role": "user", "content": "Which way?"}]
    store.write(
        records.session("good", name="maze", task_id="t", start_ns=START_NS, outcome="success"),
        records.session("bad", name="maze", task_id="t", start_ns=START_NS + 1, outcome="success"),
        records.session("none", name="maze", start_ns=START_NS + 2),
        records.call(question, "East.", call_id="c-good", session_id="good"),
        records.call(question, "West.", call_id="c-bad", session_id="bad"),
        records.call(question, "Up.", call_id="c-liked", at_s=5),
        records.call(question, "Down.", call_id="c-disliked", at_s=6),
        *(score(number, "judge", 0.8, session_id="good") for number in range(3)),
        *(score(10 + number, "reward", 0.8, session_id="good") for number in range(3)),
        score(3, "judge", 0.2, session_id="bad"),
        score(4, "feedback", 1, "call", session_id="good", call_id="c-good"),
        score(5, "feedback", -1, "call", session_id="bad", call_id="c-bad"),
        score(6, "feedback", 1, "call", call_id="c-liked"),
        score(7, "feedback", 0, "call", call_id="c-disliked"),
    )
    return store.url


def rows(url: str, *arguments: str) -> list[Any]:
    return json.loads(run(url, *arguments, "--json"))


def test_lists_filter_sort_and_show_scores(judged: str) -> None:
    def ids(command: str, *arguments: str) -> list[str]:
        return [row["session_id" if command == "sessions" else "call_id"] for row in rows(judged, command, *arguments)]

    assert ids("sessions", "--sort", "score", "--objective", "judge") == ["bad", "good", "none"]
    assert ids("sessions", "--objective", "judge", "--min-score", "0.5") == ["good"]
    assert ids("sessions", "--objective", "judge", "--objective", "feedback", "--min-score", "-1") == ["bad", "good"]
    assert ids("sessions", "--min-score", "2.4") == ["good"]
    assert ids("calls", "--objective", "feedback", "--min-score", "1") == ["c-liked", "c-good"]
    assert ids("calls", "--objective", "judge", "--min-score", "0") == ["c-good", "c-bad"]
    by_score = ("calls", "--objective", "feedback", "--sort", "score")
    assert ids(*by_score) == ["c-bad", "c-disliked", "c-liked", "c-good"]
    assert ids(*by_score, "--reverse", "--limit", "2") == ["c-good", "c-liked"]
    (sums,) = rows(judged, "stats", "--objective", "feedback", "--min-score", "1")
    assert sums["calls"] == 2
    assert rows(judged, "calls", "--objective", "feedback", "--limit", "1")[0]["scores"]["feedback"] == 0.0
    table = run(judged, "sessions", "--objective", "judge", "--objective", "feedback")
    assert re.search(r"judge +feedback\n", table), table
    assert re.search(r"good .*\+0\.8 \(3\) +\+1\n", table), table
    assert re.search(r"feedback\n.*\+0\n", run(judged, "calls", "--objective", "feedback"))


def test_liked_answers_are_exported_and_pairs_ranked(judged: str, tmp_path: Path) -> None:
    def exported(format_: str, *options: str) -> list[Any]:
        run(judged, "export", format_, "-o", str(tmp_path / "rows.jsonl"), *options)
        return [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]

    liked = exported("openai", "--objective", "feedback", "--min-score", "1", "--metadata")
    assert [row["messages"][-1]["content"] for row in liked] == ["East.", "Up."]
    assert liked[0]["metadata"]["scores"] == {"judge": 0.8, "feedback": 1.0}
    (pair,) = exported("preferences", "--objective", "judge", "--margin", "0.5")
    assert pair["preferred_output"][0]["content"] == "East."


def test_lists_filter_and_show_labels(store: Delivery, records: Records) -> None:
    """A label without a value is no score."""
    url, question = store.url, [{"role": "user", "content": "Which way?"}]

    def said(number: int, label: str, scope: Any, **target: str) -> RewardRecord:
        return reward(f"r{number}", None, objective="feedback", label=label, scope=scope, **target)

    store.write(
        *(records.session(name, start_ns=START_NS) for name in ("s", "t")),
        records.call(question, "East.", call_id="c-s", session_id="s"),
        records.call(question, "West.", call_id="c-t", session_id="t", at_s=1),
        records.call(question, "Up.", call_id="c-alone", at_s=2),
        said(1, "rude", "call", call_id="c-alone"),
        said(2, "rude", "call", call_id="c-s", session_id="s"),
        said(3, "polite", "session", session_id="t"),
    )
    assert [row["call_id"] for row in rows(url, "calls", "--label", "rude")] == ["c-alone", "c-s"]
    assert [row["call_id"] for row in rows(url, "calls", "--label", "polite")] == ["c-t"]
    assert [row["session_id"] for row in rows(url, "sessions", "--label", "rude")] == ["s"]
    assert rows(url, "stats", "--label", "rude")[0]["calls"] == 2
    assert run(url, "calls", "--label", "rude", "--objective", "judge", "--json", code=1).strip() == "[]"
    listed = run(url, "calls", "--objective", "feedback")
    assert re.search(r"c-alone .*rude\n", listed), listed
    assert re.search(r"c-t .*polite\n", listed), listed
    assert {row["label"] for row in rows(url, "calls", "--rewards")} == {"rude", "polite"}
    assert [row["scores"] for row in rows(url, "sessions", "--objective", "feedback", "--sort", "score")] == [{}, {}]
    assert "rude" in run(url, "show", "s")
    for command in ("sessions", "calls"):
        assert run(url, command, "--objective", "feedback", "--min-score", "-1", "--json", code=1).strip() == "[]"
