"""Sub-commands on small and empty stores, and with unknown values."""

from __future__ import annotations

import contextlib
import json
import tempfile
from decimal import Decimal
from pathlib import Path
from typing import Any

import click
import msgspec
import pytest

from callspan.cli.call_text import outcome_text
from callspan.cli.filter_options import KeyValue, Money
from callspan.cli.reprice import CostChanges, Rewriter
from callspan.cli.screen import session_style
from callspan.records import (
    CallRecord,
    Conversation,
    Cost,
    Place,
    Redaction,
    Request,
    Response,
    RewardRecord,
    Stream,
    TimestepRecord,
    Usage,
)
from callspan.stores.urls import open_store, sinks_for

from .conftest import MINUTE, SECOND, START_NS, ask, body, keep, made, session

DASH = "\N{EN DASH}"
_QUESTION = {"model": "gpt-5", "messages": [{"role": "user", "content": "Which way?"}]}


def chat_call(call_id: str, text: str = "Left.", **fields: Any) -> CallRecord:
    """A chat call with its bodies."""
    answer = {"choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}]}
    given: dict[str, Any] = {
        "provider": "openai",
        "api": "chat_completions",
        "request": Request(model="gpt-5", body=msgspec.Raw(body(_QUESTION))),
        "response": Response(model="gpt-5", finish_reasons=["stop"], body=msgspec.Raw(body(answer))),
    }
    return made(call_id, **(given | fields))


@pytest.mark.parametrize(
    ("arguments", "out", "err"),
    [
        (["sessions"], "", "No sessions in {}. Calls outside a session: `callspan calls`.\n"),
        (["sessions", "--offset", "1"], "", "No such sessions in {}.\n"),
        (["sessions", "--status", "success"], "", "No such sessions in {}.\n"),
        (["sessions", "--json"], "[]\n", ""),
        (["calls"], "", "No such calls in {}.\n"),
        (["calls", "--json"], "[]\n", ""),
        (["stats"], "", "No such calls in {}.\n"),
        (["stats", "--json"], "[]\n", ""),
        (["report", "--json"], "", ""),
        (["report"], "", "No such calls in {}; nothing written.\n"),
    ],
)
def test_commands_on_an_empty_store_end_with_exit_code_1(
    store: str, arguments: list[str], out: str, err: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    answer = ask("--store", keep(store), *arguments)
    assert answer == (1, out, err.format(store))
    assert not (tmp_path / "report.html").exists()


@pytest.mark.parametrize("ident", ["x", "", "%", "_", "\x1b[2J"])
def test_show_of_an_unknown_id_is_exit_code_1_in_every_form(store: str, ident: str) -> None:
    answer = ask("--store", keep(store), "show", ident)
    assert (answer.code, answer.out) == (1, "")
    assert answer.err.startswith(f"Nothing in {store} has an id that begins with ")
    assert "\x1b" not in answer.err


@pytest.mark.parametrize("arguments", [["show"], ["show", "last"]])
def test_show_of_an_empty_store_says_so(store: str, arguments: list[str]) -> None:
    assert ask("--store", keep(store), *arguments) == (1, "", f"There is nothing in {store} yet.\n")


def test_show_names_the_sessions_that_begin_alike(store: str) -> None:
    keep(store, *(session(f"run-{at}", start_ns=START_NS + at) for at in range(5)))
    answer = ask("--store", store, "show", "run-")
    assert (answer.code, answer.err) == (1, "5 sessions begin with 'run-': run-4, run-3, run-2 and 2 more.\n")


def test_a_directory_is_not_a_store(tmp_path: Path) -> None:
    answer = ask("--store", f"sqlite:///{tmp_path}", "calls")
    assert answer.code == 1
    assert "is a directory: name a file in it" in answer.err


def test_show_without_sessions_shows_the_newest_call(store: str) -> None:
    keep(store, made("old", at_ns=START_NS), made("new", at_ns=START_NS + SECOND))
    assert "call        new" in ask("--store", store, "show").out


def test_wildcards_in_an_id_are_literal(store: str) -> None:
    keep(store, made("call-1"), made("call_2"))
    assert ask("--store", store, "show", "call_", "--json").json["call_id"] == "call_2"
    assert ask("--store", store, "show", "call%").code == 1
    assert ask("--store", store, "show", "call").code == 1


def test_a_table_of_calls_has_no_cost_where_none_is_known(store: str) -> None:
    keep(store, made("a"))
    assert "cost" not in ask("--store", store, "calls").out.splitlines()[0]
    keep(store, made("b", cost=Cost(usd=Decimal("0.25"), source="x")))
    head, *rows = ask("--store", store, "calls", "--reverse").out.splitlines()
    assert "cost" in head
    assert rows.pop() == "no cost: 1 without usage from the provider: estimate_usage estimates that of calls to come"
    cells = {row.split()[2]: row.split()[5] for row in rows}
    assert cells == {"a": DASH, "b": "$0.25"}


def test_a_call_that_was_cut_or_cancelled_is_marked_and_its_session_is_no_plain_success(store: str) -> None:
    cut = Response(finish_reasons=["max_tokens"])
    keep(
        store,
        made("a", response=cut, place=Place(session_id="s")),
        made("b", stream=Stream(end="cut_off"), place=Place(session_id="s")),
    )
    keep(store, made("c", outcome="cancelled", place=Place(session_id="s")), session("s", outcome="success"))
    keep(store, made("d", place=Place(session_id="whole")), session("whole", outcome="success"))
    marks = {"a": "cut by length", "b": "cut off", "c": "cancelled"}
    for call_id, mark in marks.items():
        for command in (("calls",), ("show", call_id)):
            assert mark in ask("--store", store, *command).out
    assert "success, 1 cut by length, 1 cut off, 1 cancelled" in ask("--store", store, "sessions").out
    assert "3 calls, 1 cut by length, 1 cut off, 1 cancelled" in ask("--store", store, "show", "s").out
    with contextlib.closing(open_store(store)) as reader:
        styles = {one.session.session_id: session_style(one) for one in reader.sessions()}
        colours = {call.call_id: str(outcome_text(call).spans[0].style) for call in reader.calls()}
    assert styles == {"s": "yellow", "whole": "green"}
    assert colours == {"a": "yellow", "b": "yellow", "c": "yellow", "d": "green"}


@pytest.mark.parametrize(
    ("arguments", "more"),
    [
        ([], ""),
        (["--limit", "2"], "1 more: --offset 2 goes on, --limit N shows more, --json all"),
        (["--limit", "1", "--offset", "2"], ""),
    ],
)
def test_a_table_says_what_it_leaves_out(store: str, arguments: list[str], more: str) -> None:
    out = ask("--store", keep(store, *map(made, "abc")), "calls", *arguments).out
    assert more in out
    assert ("more" in out) == bool(more)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], ["s3", "s2", "s1", "s0"]),
        (["--min-reward", "0"], ["s2", "s1"]),
        (["--max-reward", "0"], ["s1", "s0"]),
        (["--min-reward", "-1", "--max-reward", "0"], ["s1", "s0"]),
        (["--status", "success"], ["s1"]),
        (["--status", "running"], ["s3", "s2"]),
        (["--limit", "1"], ["s3"]),
        (["--offset", "3"], ["s0"]),
        (["--min-reward", "0", "--limit", "1", "--offset", "1"], ["s1"]),
        (["--offset", "4"], []),
        (["--min-reward", "inf"], []),
        (["--since", "2100-01-01"], []),
    ],
)
def test_sessions_by_reward_never_take_an_unknown_one_for_zero(
    anywhere: str, arguments: list[str], expected: list[str]
) -> None:
    ends: list[dict[str, Any]] = [{"outcome": "error"}, {"outcome": "success"}, {}, {}]
    sessions = [session(f"s{at}", start_ns=START_NS + at, **fields) for at, fields in enumerate(ends)]
    rewards = [
        RewardRecord(reward_id=f"r{at}", session_id=f"s{at}", value=value, scope="session", time_ns=START_NS)
        for at, value in enumerate([-1.0, 0.0, 0.5])
    ]
    answer = ask("--store", keep(anywhere, *sessions, *rewards), "sessions", "--json", *arguments)
    assert [row["session_id"] for row in answer.json] == expected
    assert answer.code == (0 if expected else 1)


def test_sums_leave_the_unknown_out_and_say_so(anywhere: str) -> None:
    keep(
        anywhere,
        made("a", usage=Usage(input_tokens=5), cost=Cost(usd=Decimal("0.1"), source="x")),
        made("b", cost=Cost(usd=Decimal("0.2"), source="x")),
        made("c", usage=Usage(input_tokens=7, output_tokens=0)),
        made("d", request=Request(model="free"), outcome="error", took_ns=None),
    )
    by_model = {row["model"]: row for row in ask("--store", anywhere, "stats", "--json").json}
    gpt, free = by_model["gpt-5"], by_model["free"]
    assert (gpt["input_tokens"], gpt["output_tokens"], gpt["cost_usd"]) == (12, 0, "0.3")
    assert (gpt["calls"], gpt["calls_without_cost"], gpt["errors"], gpt["p50_ms"]) == (3, 1, 0, 1000.0)
    assert (free["calls"], free["errors"]) == (1, 1)
    assert {free[name] for name in ("input_tokens", "cost_usd", "p50_ms", "p95_ms", "retries")} == {None}
    page = ask("--store", anywhere, "stats").out
    assert "gpt-5: 1 of 3 calls have no known cost" in page
    assert "free:" not in page
    assert "no cost: 1 without a price: gpt-5\n" in page


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"api": "chat_completions", "request": Request(stream=True)}, "1 streamed without usage: set stream_usage"),
        ({"usage": Usage(input_tokens=1)}, "1 without a price: gpt-5"),
        ({"stream": Stream(end="cut_off")}, "1 cut off or cancelled before the provider reported tokens"),
        ({"outcome": "cancelled"}, "1 cut off or cancelled before the provider reported tokens"),
        ({}, "1 without usage from the provider: estimate_usage"),
        ({"outcome": "error"}, None),
        ({"outcome": "started"}, None),
        ({"cost": Cost(usd=Decimal(0), source="x")}, None),
    ],
)
def test_lists_and_sums_say_why_there_is_no_cost(fields: dict[str, Any], why: str | None) -> None:
    with tempfile.TemporaryDirectory() as folder:
        url = keep(f"sqlite:///{folder}/calls.db", made("a", **fields))
        for command in (("calls",), ("stats",), ("show", "a")):
            out = ask("--store", url, *command).out
            assert why in out if why else "no cost" not in out and "without" not in out, command


def test_where_no_cost_is_known_the_way_to_one_is_reported(store: str) -> None:
    page = ask("--store", keep(store, made(usage=Usage(input_tokens=1))), "stats").out
    assert "gpt-5: 1 of 1 calls have no known cost" in page
    assert "`callspan reprice`" in page


def test_a_session_as_json_holds_its_steps_and_what_is_loose(anywhere: str) -> None:
    keep(
        anywhere,
        session("s", start_ns=START_NS),
        TimestepRecord(timestep_id="t", session_id="s", seen_ns=1, index=0, start_ns=START_NS),
        made("in", place=Place(session_id="s", timestep_id="t")),
        made("out", place=Place(session_id="s")),
        made("strayed", place=Place(session_id="s", timestep_id="of a step that was not recorded")),
        RewardRecord(reward_id="r", session_id="s", timestep_id="t", value=1.0, time_ns=START_NS),
    )
    shown = ask("--store", anywhere, "show", "s", "--json").json
    (step,) = shown["steps"]
    assert [call["call_id"] for call in step["calls"]] == ["in"]
    assert [reward["value"] for reward in step["rewards"]] == [1.0]
    assert sorted(call["call_id"] for call in shown["loose_calls"]) == ["out", "strayed"]
    assert shown["loose_rewards"] == shown["loose_tools"] == step["tools"] == []
    assert (step["outcome"], step["end_ns"], step["totals"]) == (None, None, None)


# Export


@pytest.mark.parametrize(
    ("text", "amount"), [("0.25", "0.25"), ("0", "0"), ("1e-9", "1E-9"), ("-1", "-1"), (" 2 ", "2")]
)
def test_an_amount_is_exact(text: str, amount: str) -> None:
    assert Money().convert(text, None, None) == Decimal(amount)


@pytest.mark.parametrize("text", ["", "a dollar", "$1", "1,5", "NaN", "Infinity", "-inf"])
def test_an_invalid_amount_is_refused(text: str) -> None:
    with pytest.raises(click.BadParameter):
        Money().convert(text, None, None)


@pytest.mark.parametrize(
    ("given", "pair"),
    [
        ("a=b", ("a", "b")),
        ("a=", ("a", "")),
        ("a=b=c", ("a", "b=c")),
        (("a", "b"), ("a", "b")),
        (" a= b", (" a", " b")),
    ],
)
def test_metadata_is_a_key_and_a_value(given: object, pair: tuple[str, str]) -> None:
    assert KeyValue().convert(given, None, None) == pair


@pytest.mark.parametrize("text", ["", "a", "=b", "="])
def test_invalid_metadata_is_refused(text: str) -> None:
    with pytest.raises(click.BadParameter, match="write key=value"):
        KeyValue().convert(text, None, None)


def test_calls_become_rows_of_a_file(anywhere: str, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    keep(anywhere, chat_call("a", "Left."), chat_call("b", "Right.", at_ns=START_NS + MINUTE))
    answer = ask("--store", anywhere, "export", "openai", "-o", str(rows), "--json")
    assert (answer.code, answer.json["file"], answer.json["rows"]) == (0, str(rows), 2)
    assert answer.json["reward"] is None
    texts = {json.loads(line)["messages"][-1]["content"] for line in rows.read_text().splitlines()}
    assert texts == {"Left.", "Right."}


@pytest.mark.parametrize(
    ("arguments", "first", "code"),
    [
        ([], "2 rows would be written", 0),
        (["--limit", "1"], "1 row would be written", 0),
        (["--model", "other"], "no rows, nothing written", 1),
        (["--provider", "anthropic"], "no rows, nothing written", 1),
        (["--until", "2000-01-01"], "no rows, nothing written", 1),
    ],
)
def test_a_dry_run_says_how_many_and_writes_nothing(
    store: str, tmp_path: Path, arguments: list[str], first: str, code: int
) -> None:
    rows = tmp_path / "rows.jsonl"
    keep(store, chat_call("a"), chat_call("b", "Right."))
    answer = ask("--store", store, "export", "openai", "--dry-run", "-o", str(rows), *arguments)
    assert (answer.code, answer.out.splitlines()[0]) == (code, first)
    assert answer.err == ("" if code == 0 else f"Nothing in {store} matches.\n")
    assert not rows.exists()


def test_a_place_that_cannot_be_written_is_named(store: str, tmp_path: Path) -> None:
    keep(store, chat_call("a"))
    for command in (["export", "openai"], ["report"]):
        answer = ask("--store", store, *command, "-o", str(tmp_path / "no" / "such" / "file"))
        assert answer.code == 1
        assert answer.err.startswith(f"Error: {tmp_path}")
        assert "No such file" in answer.err


def test_a_report_says_how_large_it_is_and_what_is_in_it(
    anywhere: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = tmp_path / "page.html"
    inside = Place(session_id="s")
    keep(anywhere, chat_call("a", "<script>alert(1)</script>", place=inside), session("s", start_ns=START_NS))
    answer = ask("--store", anywhere, "report", "-o", str(page), "--json")
    counts = {"calls": 1, "sessions": 1, "whole_sessions": 1}
    assert answer.json == {"file": str(page), "bytes": page.stat().st_size, **counts}
    assert "<script>alert(1)" not in page.read_text()
    monkeypatch.chdir(tmp_path)
    output = ask("--store", anywhere, "report", "-o", "page.html").out.replace("\n", " ")
    assert "1 call, 1 session," in output


# Replay


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"request": Request(model="m")}, "record with content='full'"),
        ({"request": Request(body=msgspec.Raw(b"[1]"))}, "the request is not a JSON object"),
        ({"redactions": [Redaction(what="request.body", why="size")]}, "was not kept in full (size)"),
        (
            {"redactions": [Redaction(what="request.a", why="secret"), Redaction(what="request.b", why="redactor")]},
            "was not kept in full (redactor, secret)",
        ),
        ({"api": "unknown"}, "unknown is not an API that can be replayed"),
        ({"api": "teapots\x1b"}, "teapots\ufffd is not an API that can be replayed"),
    ],
)
def test_what_cannot_be_sent_again_is_reported_before_anything_is_sent(
    store: str, fields: dict[str, Any], expected: str
) -> None:
    answer = ask("--store", keep(store, chat_call("a", **fields)), "replay", "a", "--base-url", "http://127.0.0.1:9")
    assert (answer.code, answer.out) == (1, "")
    assert expected in answer.err


@pytest.mark.parametrize("ident", ["b", "call"])
def test_an_id_of_none_or_of_several_is_not_sent(store: str, ident: str) -> None:
    answer = ask("--store", keep(store, chat_call("call-1"), chat_call("call-2")), "replay", ident)
    assert (answer.code, answer.out) == (1, "")
    assert repr(ident) in answer.err


# Reprice


def test_changes_of_cost_are_counted_and_what_stays_unknown() -> None:
    changes = CostChanges()
    old = Cost(usd=Decimal("0.1"), source="v1")
    changes.count(made(cost=old), old)
    changes.count(made(cost=old), None)
    changes.count(made(outcome="started"), None)
    changes.count(made(), None)
    changes.count(made(request=Request()), None)
    changes.count(made(cost=old), Cost(usd=Decimal("0.1"), source="v2"))
    changes.count(made(), Cost(usd=Decimal(0), source="v2"))
    assert changes.calls == 7
    assert changes.changed == [Decimal("0.1"), Decimal(0)]
    assert changes.unknown == {"gpt-5": 1, "unknown": 1}


def test_a_rewriter_writes_a_later_version_and_keeps_the_rest(anywhere: str) -> None:
    calls = [chat_call(f"c{at:03}") for at in range(205)]
    keep(anywhere, *calls)
    (sink,) = sinks_for(anywhere)
    with Rewriter(sink) as rewriter:
        for call in calls:
            rewriter.write(call, Cost(usd=Decimal("0.1"), source="v2"))
    reader = open_store(anywhere)
    found = list(reader.calls())
    reader.close()
    assert len(found) == 205
    assert None not in {call.seen_ns for call in found}
    assert {call.cost for call in found} == {Cost(usd=Decimal("0.1"), source="v2")}
    assert {bytes(call.request.body) for call in found} == {bytes(calls[0].request.body)}


def test_a_rewriter_without_a_store_writes_nothing() -> None:
    with Rewriter(None) as rewriter:
        for _ in range(101):
            rewriter.write(made(conversation=Conversation()), Cost(usd=Decimal(1), source="x"))


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "1 of 3 calls got a new cost, $0.0003 together"),
        (["--dry-run"], "1 of 3 calls would get a new cost, $0.0003 together"),
        (["--all"], "2 of 3 calls got a new cost, $0.0006 together"),
        (["--no-failed"], "1 of 2 calls got a new cost, $0.0003 together"),
        (["--failed"], "0 of 1 calls got a new cost"),
    ],
)
def test_the_output_of_reprice(store: str, tmp_path: Path, arguments: list[str], expected: str) -> None:
    prices = tmp_path / "prices.json"
    prices.write_text(json.dumps({"version": "v9", "models": {"m": {"input": "3"}}}))
    keep(
        store,
        made("a", request=Request(model="m"), usage=Usage(input_tokens=100)),
        made("b", request=Request(model="m"), usage=Usage(input_tokens=100), cost=Cost(usd=Decimal(9), source="v1")),
        made("c", request=Request(model="nobody\x1b"), outcome="error"),
    )
    out = ask("--store", store, "reprice", "--prices", str(prices), *arguments).out
    assert out.splitlines()[0] == expected
    unpriced = "no price or no tokens: nobody\ufffd (1)"
    assert (unpriced in out) == ("--no-failed" not in arguments)


def test_sessions_without_calls_show_dashes(store: str) -> None:
    keep(store, session("s", start_ns=START_NS, end_ns=START_NS + SECOND))
    head, row = ask("--store", store, "sessions").out.splitlines()
    assert "cost" not in head
    assert row.split()[3:] == [DASH, "running", DASH, "0", "0", "0", DASH, "1.00", "s"]
