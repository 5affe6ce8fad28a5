"""Runs: conversations that nobody opened a session for, as stores join their calls."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from itertools import count, permutations
from pathlib import Path
from typing import Any

import pytest
from msgspec import Raw
from msgspec.structs import replace
from tests.support.records import SECOND, START_NS, made, raw, reward
from tests.support.scale import scaled

from callspan import Settings, erase, import_records, open_store
from callspan.records import CallRecord, EventRecord, Place, Request, Response, encode
from callspan.stores import CallFilter, find_store

from .conftest import Deliver, Delivery, RetentionTimes, caller_processors, cells, joints_of, run, run_id

pytestmark = pytest.mark.transactional("joins calls as it inserts them")
SECRET = "the name of the visitor"


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def said(text: str) -> dict[str, Any]:
    return {"role": "assistant", "content": text}


def asked(ident: str, city: str = "Oslo") -> dict[str, Any]:
    function = {"name": "weather", "arguments": f'{{"city": "{city}"}}'}
    return {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": ident, "type": "function", "function": function}],
    }


def brought(ident: str, content: str = "sunny") -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": ident, "content": content}


def call(call_id: str, messages: Sequence[Any], answer: dict[str, Any], at_s: float = 0, **fields: Any) -> CallRecord:
    return made(
        call_id,
        at_ns=START_NS + round(at_s * SECOND),
        took_ns=SECOND // 2,
        api="chat_completions",
        request=Request(body=raw({"messages": [*messages]})),
        response=Response(body=raw({"choices": [{"index": 0, "message": answer}]})),
        **fields,
    )


def agent(name: str, turns: int = 3, at_s: float = 0, first: str = "Plan my day.", **fields: Any) -> list[CallRecord]:
    """A loop with a tool call in each turn but the last."""
    messages: list[Any] = [{"role": "system", "content": "You plan."}, user(first)]
    calls = []
    for turn in range(turns):
        answer = asked(f"call_{name}{turn}") if turn < turns - 1 else said(f"A fine day, {name}.")
        calls.append(call(f"{name}{turn}", messages, answer, at_s + turn, **fields))
        messages += [answer, brought(f"call_{name}{turn}")]
    return calls


def chat(name: str, *words: str, at_s: float = 0, **fields: Any) -> list[CallRecord]:
    """A conversation without ids."""
    messages: list[Any] = []
    calls = []
    for turn, word in enumerate(words):
        messages.append(user(word))
        calls.append(call(f"{name}{turn}", messages, said(f"You said: {word}, I think."), at_s + turn, **fields))
        messages.append(said(f"You said: {word}, I think."))
    return calls


def runs_of(url: str) -> dict[str | None, set[str]]:
    """The ids of calls by run; None for loose ones."""
    runs: dict[str | None, set[str]] = {}
    with closing(open_store(url)) as reader:
        for one in reader.calls():
            assert one.place.inferred == (one.place.session_id not in (None, "mine"))
            runs.setdefault(one.place.session_id, set()).add(one.call_id)
    return runs


def groups(url: str) -> set[frozenset[str]]:
    return {frozenset(ids) for run, ids in runs_of(url).items() if run not in (None, "mine")}


def test_loops_at_once_are_runs_with_the_id_of_the_first_call(store: Delivery) -> None:
    one, two = agent("a"), agent("b")
    store.write(*[record for pair in zip(one, two, strict=True) for record in pair])
    assert runs_of(store.url) == {run_id("a0"): {"a0", "a1", "a2"}, run_id("b0"): {"b0", "b1", "b2"}}
    with closing(open_store(store.url)) as reader:
        places = {record.call_id: record.place for record in reader.calls(CallFilter(session_id=run_id("a0")))}
    assert [(places[name].previous_call_id, places[name].joined_by) for name in ("a0", "a1", "a2")] == [
        (None, None), ("a0", "tool"), ("a1", "tool"),
    ]  # fmt: skip


def test_single_call_is_in_no_run(store: Delivery) -> None:
    store.write(*agent("a", turns=1))
    assert runs_of(store.url) == {None: {"a0"}}


@pytest.mark.parametrize("size", [1, 2, 6])
@pytest.mark.parametrize("order", [*permutations(range(3))])
def test_calls_in_any_order_and_batches_are_the_same_runs(
    order: tuple[int, ...], size: int, sqlite_url: str, deliver: Deliver
) -> None:
    store = deliver(sqlite_url)
    conversations = agent("a"), chat("b", "Hi", "What is new?", "Bye")
    records = [calls[number] for number in order for calls in conversations]
    for start in range(0, len(records), size):
        store.write(*records[start : start + size])
    assert groups(store.url) == {frozenset({"a0", "a1", "a2"}), frozenset({"b0", "b1", "b2"})}
    assert runs_of(store.url).keys() <= {run_id(record.call_id) for record in records}
    bodies = {record.call_id: bytes(record.request.body) for record in records}
    with closing(open_store(store.url)) as reader:
        assert {record.call_id: bytes(record.request.body) for record in reader.calls()} == bodies
    store.write(*records)
    assert len(groups(store.url)) == 2


def write_each(worker: Delivery, calls: Sequence[CallRecord]) -> None:
    for one in calls:
        worker.write(one)


def test_two_workers_that_deliver_at_once_make_one_run_of_a_conversation(url: str, deliver: Deliver) -> None:
    workers = deliver(url), deliver(url)
    names = [f"n{number}x" for number in range(8)]
    conversations = [agent(name, turns=6, first=f"Plan the day of {name}.") for name in names]
    with ThreadPoolExecutor(2) as threads:
        for turns in zip(*conversations, strict=True):
            # Each worker has every other turn of a conversation, and both write at the same time.
            halves = [
                [one for number, one in enumerate(turns) if (number + int(turns[0].call_id[-1])) % 2 == half]
                for half in (0, 1)
            ]
            for written in [threads.submit(worker.write, *half) for worker, half in zip(workers, halves, strict=True)]:
                written.result()
        rest = [chat(f"c{number}x", "Hi", f"What is {number}?", f"And {number}?") for number in range(1)]
        flat = [one for calls in rest for one in calls]
        for written in [threads.submit(write_each, workers[half], flat[half::2]) for half in (0, 1)]:
            written.result()
    expected = {frozenset(one.call_id for one in calls) for calls in (*conversations, *rest)}
    assert groups(url) == expected


def test_two_candidates_are_none(store: Delivery) -> None:
    store.write(*chat("a", "Hi")[:1], *chat("b", "Hi", at_s=0.1)[:1])
    store.write(*chat("a", "Hi", "What is new?", at_s=2)[1:])
    assert groups(store.url) == set()


def test_join_by_history_is_undone_when_a_late_call_makes_it_ambiguous(store: Delivery) -> None:
    store.write(*chat("a", "Hi", "What is new?", "Bye"))
    assert groups(store.url) == {frozenset({"a0", "a1", "a2"})}
    store.write(*chat("b", "Hi", at_s=0.1))
    assert groups(store.url) == {frozenset({"a1", "a2"})}
    assert run_id("a0") not in runs_of(store.url)


def test_result_of_a_tool_call_that_an_equal_answer_did_not_ask_for_joins_nothing(
    sqlite_url: str, deliver: Deliver
) -> None:
    """The instructions changed to those of a twin, and two answers issued the id, so that it proves nothing."""
    day = user("Plan my day.")
    twin = call("twin", [day], asked("call_1"))
    own = call("own", [{"role": "system", "content": "You plan."}, day], asked("call_2"), 1)
    other = call("other", [user("Else?")], asked("call_2"), 2)
    later = call("later", [day, asked("call_2"), brought("call_2")], said("A fine day."), 3)
    for number, order in enumerate(permutations((twin, own, other, later))):
        store = deliver(f"{sqlite_url}{number}")
        for record in order:
            store.write(record)
        assert groups(store.url) == set(), [record.call_id for record in order]


def test_text_that_names_ids_of_two_runs_joins_neither(sqlite_url: str, deliver: Deliver) -> None:
    """Also if one of them is issued later."""
    early, late = agent("alpha", 2), agent("gamma", 2, at_s=20)
    plan = {"role": "system", "content": "You plan."}
    question = call("which", [plan, user("Compare call_alpha0 with call_gamma0.")], said("Equal."), 10)
    for number, order in enumerate(permutations((early, late, [question]))):
        store = deliver(f"{sqlite_url}{number}")
        for records in order:
            store.write(*records)
        assert groups(store.url) == {frozenset(("alpha0", "alpha1")), frozenset(("gamma0", "gamma1"))}


@pytest.mark.parametrize(("instructions", "joined"), [("You plan.", True), ("You judge.", False)])
def test_text_that_names_an_id_continues_a_call_under_the_same_instructions(
    instructions: str, joined: bool, store: Delivery
) -> None:
    """A judge that reads a transcript does not."""
    messages = [{"role": "system", "content": instructions}, user("Is call_alpha0 right?")]
    judge = call("judge", messages, said("Yes."), 10)
    store.write(*agent("alpha", 2), judge)
    assert groups(store.url) == {frozenset(("alpha0", "alpha1", *(["judge"] if joined else [])))}


def test_clock_that_stepped_back_loses_no_join(store: Delivery) -> None:
    first, then, last = chat("a", "Hi", "What is new?", "Bye", process="p")
    store.write(first, replace(then, timing=replace(then.timing, start_ns=START_NS - 3 * SECOND)), last)
    assert groups(store.url) == {frozenset({"a0", "a1", "a2"})}


def windowed(name: str, at_s: float) -> list[CallRecord]:
    """A chat whose last two requests lack their first question and answer."""
    calls = chat(name, f"I am {name}.", "Hi", "What is new?", at_s=at_s)
    messages = [user("Hi"), said("You said: Hi, I think.")]
    calls[2] = call(f"{name}2", [*messages, user("What is new?")], said("You said: What is new?, I think."), at_s + 2)
    return calls


def test_request_whose_beginning_was_cut_off_continues_no_equal_call(sqlite_url: str, deliver: Deliver) -> None:
    """The other chat says for the first time what this one said before, so its history is what is left of this one."""
    other = chat("b", "Hi", at_s=1)
    calls = [*windowed("a", 0), *other]
    for number, order in enumerate(permutations(calls)):
        store = deliver(f"{sqlite_url}{number}")
        for record in order:
            store.write(record)
        assert groups(store.url) == {frozenset({"a0", "a1"})}, [record.call_id for record in order]


def test_request_whose_beginning_was_cut_off_joins_nothing_by_its_end(store: Delivery) -> None:
    store.write(*windowed("a", 0))
    assert groups(store.url) == {frozenset({"a0", "a1"})}


@pytest.mark.parametrize("size", [1, 2])
def test_single_call_has_no_joint_until_a_request_continues_it(size: int, store: Delivery) -> None:
    first, then = chat("a", "Hi", "What is new?")
    records = [*chat("b", "Ho"), first, then]
    for start in range(0, 2, size):
        store.write(*records[:2][start : start + size])
    assert cells(store, "SELECT key FROM joints") == []
    (offer,) = joints_of(first).offers
    assert (offer,) in cells(store, "SELECT offer FROM calls")
    store.write(then)
    assert groups(store.url) == {frozenset({"a0", "a1"})}
    assert (-1 - offer,) in cells(store, "SELECT offer FROM calls WHERE call_id = 'a0'")
    assert {ident for (ident,) in cells(store, "SELECT call_id FROM joints")} == {"a0", "a1"}


@pytest.mark.parametrize("at_s", [0.5, 60])
def test_twin_makes_a_join_uncertain_whenever_it_began(at_s: float, sqlite_url: str, deliver: Deliver) -> None:
    """The call that a request continues need not be in the store: age alone chooses none."""
    for number, order in enumerate(permutations([*chat("a", "Hi", "What is new?"), *chat("b", "Hi", at_s=at_s)])):
        store = deliver(f"{sqlite_url}{number}")
        for record in order:
            store.write(record)
        assert groups(store.url) == set(), [record.call_id for record in order]


def test_later_twin_of_another_user_leaves_a_join(store: Delivery) -> None:
    first, then = chat("a", "Hi", "What is new?")
    (twin,) = chat("b", "Hi", at_s=60)
    store.write(*(replace(record, metadata={"user_id": "u1"}) for record in (first, then)))
    store.write(replace(twin, metadata={"user_id": "u2"}))
    assert groups(store.url) == {frozenset({"a0", "a1"})}


def test_id_that_two_answers_issued_is_none_whichever_comes_first(store: Delivery) -> None:
    one = call("a0", [user("x")], asked("call_0"))
    two = call("b0", [user("y")], asked("call_0"), 0.1)
    then = call("b1", [user("cut off"), asked("call_0"), brought("call_0")], said("Yes."), 2)
    store.write(one, then)
    assert groups(store.url) == {frozenset({"a0", "b1"})}
    store.write(two)
    assert groups(store.url) == set()


@pytest.mark.parametrize(
    "other",
    [
        {"service": "other"}, {"content_level": "metadata"}, {"metadata": {"user_id": "u2"}},
        {"metadata": {"user_id": "u1", "organization_id": "o"}}, {"place": Place(session_id="mine")},
    ],
)  # fmt: skip
def test_calls_of_others_never_join(other: dict[str, Any], store: Delivery) -> None:
    same = {"service": "shop", "metadata": {"user_id": "u1", "organization_id": "p"}}
    first, then, *_ = agent("a", **same)
    store.write(first, replace(then, **(same | other)))
    assert groups(store.url) == set()


def test_unknown_user_joins_two_known_ones_to_no_run(store: Delivery) -> None:
    first, then, last = agent("a")
    known = [replace(first, metadata={"user_id": "u1"}), then, replace(last, metadata={"user_id": "u2"})]
    store.write(*known)
    assert groups(store.url) == {frozenset({"a0", "a1"})}


def test_two_runs_that_prove_to_be_one_keep_the_older_id_and_are_found_by_both(store: Delivery) -> None:
    calls = agent("a", turns=5)
    for number in (3, 4):  # it sends the last tool call alone, so that only the calls beside each other are joined
        window = [user("cut"), asked(f"call_a{number - 1}"), brought(f"call_a{number - 1}")]
        calls[number] = call(f"a{number}", window, asked(f"call_a{number}"), number)
    store.write(*calls[:2])
    store.write(*calls[3:])
    assert runs_of(store.url) == {run_id("a0"): {"a0", "a1"}, run_id("a3"): {"a3", "a4"}}
    store.write(calls[2])
    assert runs_of(store.url) == {run_id("a0"): {"a0", "a1", "a2", "a3", "a4"}}
    with closing(open_store(store.url)) as reader:
        for ident in (run_id("a0"), run_id("a3")):
            found = reader.session(ident)
            assert found is not None
            assert found.session.session_id == run_id("a0")
            selection = CallFilter(session_id=ident)
            assert [row.session.session_id for row in reader.sessions(selection)] == [run_id("a0")]
            assert len([*reader.calls(selection)]) == 5
    assert erase(store.url, sessions=[run_id("a3")]).stores[0].calls == 5
    assert cells(store, "SELECT * FROM run_ids") == []


def test_call_that_names_a_session_later_leaves_its_run(store: Delivery) -> None:
    calls = agent("a", turns=4)
    store.write(*calls)
    store.write(replace(calls[1], place=Place(session_id="mine"), part="answered", seen_ns=1))
    assert runs_of_all(store) == {run_id("a0"): {"a0", "a2", "a3"}, "mine": {"a1"}}


@pytest.mark.parametrize("other", [{"user_id": "u2"}, {"user_id": 2}, {"tenant": "t2"}, {"service": "other"}], ids=str)
@pytest.mark.parametrize("stating", [0, 1, 2])
def test_version_that_is_stated_to_be_another_ones_leaves_its_run(
    other: dict[str, Any], stating: int, store: Delivery
) -> None:
    """Whichever call stated whose the run is; the rest stays, and so it is whoever comes next."""
    calls = [replace(one, seen_ns=1) for one in agent("a", turns=4)]
    calls[stating] = replace(calls[stating], metadata={"user_id": "1", "tenant": "t1"})
    calls = [replace(one, service="shop") for one in calls]
    store.write(*calls[:3])
    service, metadata = other.get("service", "shop"), {k: v for k, v in other.items() if k != "service"}
    store.write(replace(calls[1], service=service, metadata=metadata, part="answered", seen_ns=2))
    store.write(calls[3])
    assert groups(store.url) == {frozenset({"a0", "a2", "a3"})}


def test_user_that_a_later_version_names_is_the_run_s(store: Delivery) -> None:
    calls = [replace(one, seen_ns=1) for one in agent("a", turns=4)]
    store.write(*calls[:2])
    store.write(replace(calls[0], metadata={"user_id": 1}, part="answered", seen_ns=2))
    store.write(replace(calls[2], metadata={"user_id": "2"}), replace(calls[3], metadata={"user_id": "1"}))
    assert groups(store.url) == {frozenset({"a0", "a1", "a3"})}


def runs_of_all(store: Delivery) -> dict[str | None, set[str]]:
    runs: dict[str | None, set[str]] = {}
    with closing(open_store(store.url)) as reader:
        for ids in reader.ids():
            runs.setdefault(ids.session_id, set()).add(ids.call_id)
    return runs


def test_messages_of_a_run_are_stored_once(store: Delivery) -> None:
    store.write(*agent("a", turns=10))
    assert len(cells(store, "SELECT n FROM contents WHERE role = 'user'")) == 1
    assert {owner for (owner,) in cells(store, "SELECT DISTINCT owner FROM contents")} == {"c:a0"}


def test_reward_of_a_call_is_in_its_run_whichever_comes_first(store: Delivery) -> None:
    calls = agent("a")
    store.write(calls[0], reward("r1", 1.0, call_id="a0", scope="call", objective="helpful"))
    store.write(calls[1])
    store.write(reward("r2", 0.0, call_id="a1", scope="call", objective="helpful"))
    with closing(open_store(store.url)) as reader:
        summary = reader.session(run_id("a0"))
        assert summary is not None
        assert summary.scores["helpful"].mean == 0.5
        assert (summary.outcome, summary.succeeded, summary.reward) == (None, None, None)


def test_nothing_is_left_of_an_erased_call_or_run_and_nothing_torn(store: Delivery, tmp_path: Path) -> None:
    kept = agent("kept", first="Plan my week.")
    calls = agent("erased", turns=4)
    calls[0] = replace(calls[0], request=Request(body=raw({"messages": [user(SECRET)]})))
    calls = [calls[0], *[replace(one, metadata={}) for one in calls[1:]]]
    store.write(*kept, *calls)
    assert run_id("erased0") in runs_of(store.url)
    erase(store.url, calls=["erased0"], vacuum=True)
    assert runs_of(store.url)[run_id("erased0")] == {"erased1", "erased2", "erased3"}
    texts = [text or "" for (text,) in cells(store, "SELECT text FROM contents")]
    assert not any(SECRET in text for text in texts)
    for table, columns in {"contents": "owner", "calls": "owner, previous_call_id", "joints": "call_id"}.items():
        assert "erased0" not in str(cells(store, f"SELECT {columns} FROM {table}"))
    with closing(open_store(store.url)) as reader:
        assert {one.call_id: bytes(one.request.body) for one in reader.calls()} == {
            one.call_id: bytes(one.request.body) for one in (*kept, *calls[1:])
        }
    erase(store.url, sessions=[run_id("erased0")])
    assert groups(store.url) == {frozenset({"kept0", "kept1", "kept2"})}
    assert {ident.rstrip("012") for (ident,) in cells(store, "SELECT call_id FROM joints")} == {"kept"}
    store.write(*calls)
    assert groups(store.url) == {frozenset({"kept0", "kept1", "kept2"})}


def test_run_of_a_user_is_erased_with_its_calls_that_name_nobody(store: Delivery) -> None:
    calls = agent("a", first=SECRET)
    store.write(replace(calls[0], metadata={"user_id": "u1"}), *calls[1:], *agent("b"))
    erase(store.url, CallFilter(user_id="u1"))
    assert groups(store.url) == {frozenset({"b0", "b1", "b2"})}
    assert SECRET not in str(cells(store, "SELECT text FROM contents"))


def test_expired_calls_take_what_no_later_call_of_the_run_repeats(store: Delivery) -> None:
    store.write(*agent("a", turns=4))
    with closing(find_store(store.url).database(writes=True)) as database:  # type: ignore[attr-defined]
        before = RetentionTimes(quiet_ns=START_NS, before_ns=START_NS + 2 * SECOND)
        assert sum(find_store(store.url).retain(before)) == 2  # type: ignore[attr-defined]
        del database
    assert groups(store.url) == {frozenset({"a2", "a3"})}
    with closing(open_store(store.url)) as reader:
        assert [len(one.conversation.input) for one in reader.calls(CallFilter(newest_first=False))] == [6, 8]  # type: ignore[union-attr]
    assert {ident for (ident,) in cells(store, "SELECT call_id FROM joints")} == {"a2", "a3"}
    assert sum(find_store(store.url).retain(before._replace(before_ns=START_NS + 9 * SECOND))) == 2  # type: ignore[attr-defined]
    assert cells(store, "SELECT owner FROM contents") == cells(store, "SELECT key FROM joints") == []


def test_expired_content_leaves_no_joint(store: Delivery) -> None:
    store.write(*agent("a", turns=3))
    times = RetentionTimes(quiet_ns=START_NS, content_before_ns=START_NS + 9 * SECOND)
    assert sum(find_store(store.url).retain(times)) == 3  # type: ignore[attr-defined]
    assert cells(store, "SELECT owner FROM contents") == cells(store, "SELECT key FROM joints") == []
    assert cells(store, "SELECT call_id FROM calls WHERE offer IS NOT NULL") == []
    assert groups(store.url) == {frozenset({"a0", "a1", "a2"})}


def test_import_makes_runs_anew(sqlite_url: str, tmp_path: Path, deliver: Deliver) -> None:
    lines = deliver(f"jsonl:///{tmp_path}/calls.jsonl")
    lines.write(*agent("a"), *agent("b", turns=1))
    import_records(f"{tmp_path}/calls.jsonl", sqlite_url)
    assert groups(sqlite_url) == {frozenset({"a0", "a1", "a2"})}
    import_records(sqlite_url, f"{tmp_path}/other.db")
    assert runs_of(f"{tmp_path}/other.db") == runs_of(sqlite_url)


def test_setting_switches_joins_off(sqlite_url: str) -> None:
    store = find_store(sqlite_url)
    store.joins = False
    store.write(agent("a"))
    assert groups(sqlite_url) == set()


def tools_of(url: str, run: str) -> list[EventRecord]:
    with closing(open_store(url)) as reader:
        entries = [*reader.entries(run)]
        links = {link.ident for link in reader.tree_links(run, 2**62)}
    tools = [entry for entry in entries if isinstance(entry, EventRecord)]
    assert {tool.event_id for tool in tools} <= links
    assert all(tool.inferred and tool.event_type == "tool" for tool in tools)
    return tools


def test_tools_of_a_run_are_what_lies_between_answer_and_result(store: Delivery) -> None:
    both = asked("call_1")
    both["tool_calls"] = [*both["tool_calls"], *asked("call_2", "Rome")["tool_calls"]]
    messages = [user("Hi"), both, brought("call_2", "rainy"), brought("call_1", "sunny")]
    store.write(call("a0", [user("Hi")], both), call("a1", messages, said("Fine."), at_s=3))
    tools = tools_of(store.url, run_id("a0"))
    assert [(tool.tool_call_id, tool.data) for tool in tools] == [
        ("call_1", {"arguments": {"city": "Oslo"}, "result": "sunny"}),
        ("call_2", {"arguments": {"city": "Rome"}, "result": "rainy"}),
    ]
    assert {(tool.name, tool.call_id, tool.time_ns, tool.duration_ns) for tool in tools} == {
        ("weather", "a0", START_NS + SECOND // 2, 5 * SECOND // 2)
    }
    assert "tool weather" in run(store.url, "show", run_id("a0"))
    assert "≤ 2.50 s → sunny" in run(store.url, "show", run_id("a0"))


def test_tools_without_ids_are_found_by_their_places(store: Delivery) -> None:
    def part(kind: str, **fields: Any) -> dict[str, Any]:
        return {"role": "user" if kind == "functionResponse" else "model", "parts": [{kind: fields}]}

    answer = part("functionCall", name="w", args={"a": 1})
    sent = [{"role": "user", "parts": [{"text": "Hi"}]}]
    later = [*sent, answer, part("functionResponse", name="w", response={"r": 2})]
    bodies = [(sent, answer), (later, {"role": "model", "parts": [{"text": "2"}]})]
    store.write(*[
        made(
            f"g{number}", at_ns=START_NS + number * SECOND, took_ns=1, api="generate_content",
            request=Request(body=raw({"contents": contents})),
            response=Response(body=raw({"candidates": [{"content": content}]})),
        )
        for number, (contents, content) in enumerate(bodies)
    ])  # fmt: skip
    (tool,) = tools_of(store.url, run_id("g0"))
    assert (tool.tool_call_id, tool.data) == (None, {"arguments": {"a": 1}, "result": {"r": 2}})


def test_tool_that_failed_or_whose_result_did_not_come(store: Delivery) -> None:
    use = {"type": "tool_use", "id": "toolu_1", "name": "w", "input": {}}
    result = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "no such city", "is_error": True}
    first = [user("Hi")]
    then = [*first, {"role": "assistant", "content": [use]}, {"role": "user", "content": [result]}]
    bodies = [(first, [use]), (then, [{**use, "id": "toolu_2"}])]
    store.write(*[
        made(
            f"m{number}", at_ns=START_NS + number * SECOND, took_ns=1, api="messages",
            request=Request(body=raw({"messages": sent})), response=Response(body=raw({"content": content})),
        )
        for number, (sent, content) in enumerate(bodies)
    ])  # fmt: skip
    (tool,) = tools_of(store.url, run_id("m0"))
    assert tool.error is not None
    assert tool.error.type == "tool_error"


def test_command_lists_runs_and_leaves_them_out(store: Delivery) -> None:
    store.write(*agent("a"))
    assert "inferred" in run(store.url, "sessions")
    assert run(store.url, "sessions", "--explicit", code=1) == ""


def test_command_says_how_to_see_single_calls(store: Delivery) -> None:
    store.write(*agent("a", turns=1), *agent("b", turns=1, first="Hello."))
    assert "2 single calls: `callspan calls`" in " ".join(run(store.url, "sessions").split())
    assert run(store.url, "sessions", "--json") == "[]\n", "which is no failure for a program either"


def test_run_without_outcome_is_in_no_mean(store: Delivery) -> None:
    store.write(*agent("a"), *agent("b"), reward("r1", 1.0, session_id=run_id("b0"), scope="session"))
    with closing(open_store(store.url)) as reader:
        rated = {one.session.session_id: one.is_rated for one in reader.sessions()}
        assert rated == {run_id("a0"): False, run_id("b0"): True}
        assert {one.session.session_id for one in reader.sessions(CallFilter(inferred=False))} == set()
        assert reader.count_sessions(CallFilter(inferred=True)) == 2


def test_runs_of_a_user_are_listed(store: Delivery) -> None:
    store.write(*agent("a", metadata={"user_id": "u1"}), *agent("b", metadata={"user_id": "u2"}))
    with closing(open_store(store.url)) as reader:
        (one,) = reader.sessions(CallFilter(user_id="u1"))
        assert (one.session.session_id, one.session.user_id, one.inferred) == (run_id("a0"), "u1", True)


def test_calls_in_sessions_have_no_joint(store: Delivery) -> None:
    store.write(*agent("a", place=Place(session_id="mine")))
    assert cells(store, "SELECT * FROM joints") == []
    assert cells(store, "SELECT call_id FROM calls WHERE offer IS NOT NULL") == []


def test_millionth_call_looks_up_what_the_tenth_does(sqlite_url: str, deliver: Deliver) -> None:
    """Equal ids and histories, of which there may be many, are not all read."""
    store, numbers = deliver(sqlite_url), count()
    for _ in range(60):
        store.write(*[call(f"n{next(numbers)}", [user("Hi")], asked("call_0"), number) for number in range(10)])
    then = [user("Hi"), asked("call_0"), brought("call_0")]
    store.write(call("last", then, said("Yes."), 700))
    assert groups(store.url) == set()


def kept(number: int, **request: Any) -> CallRecord:
    return made(
        f"k{number:05}", at_ns=START_NS + number * SECOND, api="responses",
        request=Request(body=raw({"input": f"q{number}"}), **request), response=Response(id=f"resp_{number}"),
    )  # fmt: skip


def in_container(number: int) -> CallRecord:
    name = "container_011CPR5CNjB"
    return replace(
        kept(number, **({"params": {"container": name}} if number else {})), api="messages",
        response=Response(body=raw({"container": {"id": name}})),
    )  # fmt: skip


FAN = call("k00000", [user("q")], asked("call_0"))


def fan(number: int, **fields: Any) -> CallRecord:
    messages = [user("q"), asked("call_0"), brought("call_0", f"r{number}")]
    return call(f"k{number:05}", messages, said(f"Answer {number}."), number, **fields)


GROWING: dict[str, Any] = {
    "chain": lambda n: kept(n, **({"continues": f"resp_{n - 1}"} if n else {})),
    "one response": lambda n: kept(n, **({"continues": "resp_0"} if n else {})),
    "conversation": lambda n: kept(n, conversation_id="conv_1"),
    "container": in_container,
    "tool call": lambda n: fan(n) if n else FAN,
    "anonymous run": lambda n: fan(n, metadata={"user_id": "ann"}) if n else FAN,
}


@pytest.mark.parametrize("kind", GROWING)
def test_call_of_a_long_run_costs_what_one_of_a_short_run_does(kind: str, sqlite_url: str, deliver: Deliver) -> None:
    """Counted in steps of SQLite's machine, in hundreds; every call is in the run."""
    store, costs, steps = deliver(sqlite_url), [], count()
    store.sink._database.connection.set_progress_handler(lambda: next(steps) and None, 100)  # type: ignore[attr-defined]
    records = [GROWING[kind](number) for number in range(scaled(500, 10_000))]
    for start in range(0, len(records), 50):
        before = next(steps)
        store.write(*records[start : start + 50])
        costs.append(next(steps) - before)
    assert costs[-1] < 1.5 * costs[2]
    assert [len(ids) for ids in groups(store.url)] == [len(records)]


@pytest.mark.parametrize("last", ["issuer", "twin"])
def test_call_that_many_wait_for_is_joined_with_all_of_them(last: str, store: Delivery) -> None:
    """Another answer with the same id parts all of them."""
    followers = [fan(number) for number in range(1, 131)]
    twin = replace(FAN, call_id="twin")
    for records in [followers, [FAN]] if last == "issuer" else [[FAN], followers, [twin]]:
        for start in range(0, len(records), 100):
            store.write(*records[start : start + 100])
    assert [len(ids) for ids in groups(store.url)] == ([131] if last == "issuer" else [])
    assert cells(store, "SELECT call_id FROM joints WHERE key = 0") == []


def below_full(level: Any, *calls: CallRecord, **settings: Any) -> list[CallRecord]:
    return [caller_processors(Settings(content=level, **settings)).process(one).record for one in calls]


@pytest.mark.parametrize("level", ["metadata", "off"])
def test_ids_join_calls_of_which_no_content_is_kept(level: Any, store: Delivery) -> None:
    ids = "call_Vt8xQ1fWeJ5bx", "toolu_01Tji2ki8TTX"
    messages: list[Any] = [user("Plan my day.")]
    calls = []
    for number, answer in enumerate((asked(ids[0]), asked(ids[1]), said("A fine day."))):
        calls.append(call(f"a{number}", messages, answer, number))
        messages += [answer, brought(ids[min(number, 1)])]
    kept = below_full(level, *calls)
    assert not any(ident.encode() in encode(record) for record in kept for ident in (*ids, "Oslo"))
    store.write(*kept[1:])
    store.write(kept[0])
    assert groups(store.url) == {frozenset({"a0", "a1", "a2"})}
    rules = {one.call_id: one.place.joined_by for one in open_store(store.url).calls()}
    assert rules == {"a0": None, "a1": "tool", "a2": "tool"}


@pytest.mark.parametrize("ident", ["call_1", "functions.weather:0", "weather", "weather-of-Oslo", "an id of 2 words"])
def test_id_that_others_may_have_joins_nothing_without_arguments(ident: str) -> None:
    first = call("a0", [user("x")], asked(ident))
    then = call("a1", [user("x"), asked(ident), brought(ident)], said("Yes."), 2)
    records = below_full("metadata", first, then)
    assert [(one.request.returned, one.response and one.response.issued) for one in records] == [(None, None)] * 2


def test_ids_are_not_hashed_in_sessions_with_content_or_without_runs() -> None:
    answered = call("a0", [user("x")], asked("call_Vt8xQ1fWeJ5bx"))
    records = [
        *below_full("metadata", replace(answered, place=Place(session_id="mine"))),
        *below_full("full", answered),
        *below_full("metadata", answered, runs=False),
    ]
    assert [one.response and one.response.issued for one in records] == [None] * 3
    (kept,) = below_full("metadata", answered)
    assert kept.response is not None
    assert kept.response.issued is not None


def test_container_and_signature_join_without_content(store: Delivery) -> None:
    def turn(call_id: str, messages: Sequence[Any], answer: Any, at_s: float, **fields: Any) -> CallRecord:
        params = fields.pop("params", {})
        return made(
            call_id, at_ns=START_NS + round(at_s * SECOND), took_ns=SECOND // 2, api="messages",
            request=Request(params=params, body=raw({"messages": [*messages], **params})),
            response=Response(body=raw({"role": "assistant", "content": answer, **fields})),
        )  # fmt: skip

    thought = [{"type": "thinking", "thinking": "x", "signature": "Es" * 40}, {"type": "text", "text": "Hm."}]
    sent = turn("a0", [user("x")], thought, 0)
    back = turn("a1", [user("x"), {"role": "assistant", "content": thought}, user("y")], thought[1:], 1)
    ran = turn("b0", [user("x")], thought[1:], 0, container={"id": "container_011CPR5CNjB"})
    again = turn("b1", [user("y")], thought[1:], 1, params={"container": "container_011CPR5CNjB"})
    store.write(*below_full("off", sent, back, ran, again))
    assert groups(store.url) == {frozenset({"a0", "a1"}), frozenset({"b0", "b1"})}


def function_calls(work: Any) -> int:
    work()
    calls = 0

    def note(_: Any, event: str, __: Any) -> None:
        nonlocal calls
        calls += event == "call"

    sys.setprofile(note)
    work()
    sys.setprofile(None)
    return calls


@pytest.mark.parametrize("level", ["metadata", "off"])
def test_ids_of_a_long_loop_cost_the_caller_what_those_of_a_short_one_do(level: Any) -> None:
    """Only the last results of a request are parsed."""
    processors = {runs: caller_processors(Settings(content=level, runs=runs)) for runs in (True, False)}
    added = []
    for turns in (3, 40):
        record = agent("Ab3xQ1fWeJ5", turns)[-2]
        with_ids, without = (function_calls(partial(processors[runs].process, record)) for runs in (True, False))
        added.append(with_ids - without)
    assert added[0] == added[1] <= 90


@pytest.mark.parametrize("body", [b"", b"no JSON, but a tool", b'{"messages": {"tool": 1}}', b'{"messages": [tool]}'])
def test_body_without_messages_has_no_ids(body: bytes, caplog: pytest.LogCaptureFixture) -> None:
    sent = replace(call("a0", [], said("x")), request=Request(body=raw(None)), response=Response(body=raw(None)))
    sent = replace(sent, request=replace(sent.request, body=Raw(body)), response=Response(body=Raw(body)))
    (kept,) = below_full("off", sent)
    assert (kept.request.returned, kept.response and kept.response.issued) == (None, None)
    assert caplog.records == []


def test_each_parallel_call_of_a_tool_and_a_later_question_name_the_answer(store: Delivery) -> None:
    """The last result is searched for behind texts, and any of the ids of an answer joins."""
    both = asked("call_Vt8xQ1fWeJ5bx")
    both["tool_calls"] += asked("call_Zz8xQ1fWeJ5bz")["tool_calls"]
    told = [user("x"), both, brought("call_Vt8xQ1fWeJ5bx"), brought("call_Zz8xQ1fWeJ5bz")]
    later = [*told, said("Sunny."), user("And a tool for tomorrow?")]
    store.write(
        *below_full("off", call("a0", told[:1], both), call("a1", told, said("Sunny."), 1)),
        *below_full("off", call("a2", later, said("No."), 2)),
    )
    assert groups(store.url) == {frozenset({"a0", "a1", "a2"})}


def test_questions_of_a_run_are_its_first_words_in_every_form(store: Delivery) -> None:
    """Results of tools have the user's role on some APIs; an input may be one text."""

    def turn(call_id: str, api: str, field: str, sent: Any, received: dict[str, Any], at_s: float) -> CallRecord:
        return made(
            call_id, at_ns=START_NS + round(at_s * SECOND), took_ns=SECOND // 2, api=api,
            request=Request(body=raw({field: sent})), response=Response(id=f"resp_{call_id}", body=raw(received)),
        )  # fmt: skip

    asks = [{"type": "tool_use", "id": "toolu_01Tji2ki8TTX", "name": "weather", "input": {"city": "Oslo"}}]
    result = {"type": "tool_result", "tool_use_id": "toolu_01Tji2ki8TTX", "content": "rainy and cold all day"}
    told = [user("Is it dry?"), {"role": "assistant", "content": asks}, {"role": "user", "content": [result]}]
    more = [*told, said("No, it rains."), {"role": "user", "content": [{"type": "text", "text": "And tomorrow?"}]}]
    message = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Hello, stranger."}]}
    second = turn("b1", "responses", "input", "Who are you?", {"output": [message]}, 9)
    store.write(
        turn("a0", "messages", "messages", told[:1], {"role": "assistant", "content": asks}, 0),
        turn(
            "a1", "messages", "messages", told, {"role": "assistant", "content": [{"type": "text", "text": "No."}]}, 1
        ),
        turn("a2", "messages", "messages", more, {"role": "assistant", "content": [{"type": "text", "text": "!"}]}, 2),
        turn("b0", "responses", "input", "Hello there.", {"output": [message]}, 8),
        replace(second, request=replace(second.request, continues="resp_b0")),
    )
    words = store.read().first_words([run_id("a0"), run_id("b0")])
    assert words == {run_id("a0"): "Is it dry? · And tomorrow?", run_id("b0"): "Hello there. · Who are you?"}


def test_list_reads_of_a_long_run_what_it_shows(store: Delivery) -> None:
    """Neither results of tools nor questions behind the last one that is shown."""
    chats = [
        chat(name, *[f"{name} {number} " + "z" * 90 for number in range(turns)])
        for name, turns in (("c", 5), ("d", 40))
    ]
    loops = [agent(name, turns, first=f"Plan {name}.") for name, turns in (("a", 5), ("b", 40))]
    for calls in (*chats, *loops):
        store.write(*calls)
    reader = store.read()
    read = [function_calls(partial(reader.first_words, [run_id(name)])) for name in ("a0", "b0", "c0", "d0")]
    assert read[0] == read[1]
    assert read[2] == read[3]


@pytest.mark.parametrize("conversations", [20, 40])
def test_calls_alike_in_question_and_answer_are_told_apart_by_their_history_up_to_a_number(
    conversations: int, store: Delivery
) -> None:
    """The request behind more than 32 such calls joins none of them."""
    calls = [
        chat(f"n{number}-", f"I am number {number}.", "Hello?", "Bye.", at_s=9 * number)
        for number in range(conversations)
    ]
    for turn in range(3):
        store.write(*(one[turn] for one in calls))
    joined = groups(store.url)
    assert all(len({call_id.partition("-")[0] for call_id in ids}) == 1 for ids in joined)
    ends = [{call_id.partition("-")[2] for call_id in ids} for ids in joined]
    assert len(joined) == conversations
    assert all(end == ({"0", "1", "2"} if conversations == 20 else {"0", "1"}) for end in ends)
