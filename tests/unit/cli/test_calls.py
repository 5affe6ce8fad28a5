"""`callspan calls`, `sessions` and `stats`: filters, order, sums, `--follow`, and the stable keys of `--json`."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any

import click
import pytest

from callspan.cli import sessions
from callspan.cli.call_text import outcome_text
from callspan.cli.filter_options import MOMENT
from callspan.cli.json_rows import (
    call_row,
    short_ids,
)
from callspan.cli.screen import session_style
from callspan.cli.unknown_costs import why_unknown
from callspan.records import (
    Attempt,
    Cost,
    ErrorInfo,
    MessageRecord,
    Place,
    Request,
    Response,
    RewardRecord,
    Stream,
    TimestepRecord,
    Timing,
    Usage,
)
from callspan.stores.urls import open_store
from tests.reports.reading import data

from .conftest import MINUTE, SECOND, START_NS, ask, drawn, keep, made, session


@pytest.mark.parametrize(
    ("text", "ago_s"),
    [
        ("30s", 30), ("30 s", 30), ("30m", 1800), ("2h", 7200), ("3d", 259_200), ("1w", 604_800), ("0.5h", 1800),
        (" 5m ", 300), ("0s", 0),
    ],
)  # fmt: skip
def test_a_time_ago_is_counted_from_now(text: str, ago_s: int) -> None:
    before = time.time_ns()
    read = MOMENT.convert(text, None, None)
    assert before - ago_s * SECOND <= read <= time.time_ns() - ago_s * SECOND


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01T00:00:00.000001Z", 1000),
        ("1969-12-31T23:59:59+00:00", -SECOND),
        ("2026-11-20T08:01:40+00:00", 1_795_161_700 * SECOND),
        ("2026-11-20 10:01:40+02:00", 1_795_161_700 * SECOND),
        ("2262-04-12T00:00:00+00:00", 2**63 - 1),
    ],
)
def test_iso_times_with_a_zone(text: str, ns: int) -> None:
    assert MOMENT.convert(text, None, None) == ns


def test_a_time_without_a_zone_is_local(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "UTC-05")
        time.tzset()
        assert MOMENT.convert("2026-11-20T05:00", None, None) == MOMENT.convert("2026-11-20T00:00Z", None, None)
    time.tzset()


@pytest.mark.parametrize(
    "text", ["", "h", "30", "30 minutes", "-5m", "1e3s", "2026-13-01", "2026-11-20T25:00", "5m5s", "½h"]
)
def test_an_invalid_time_is_reported_with_an_example(text: str) -> None:
    with pytest.raises(click.BadParameter, match=r"write 30m, 2h, 3d"):
        MOMENT.convert(text, None, None)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], ["e", "d", "c", "b", "a"]),
        (["--reverse"], ["a", "b", "c", "d", "e"]),
        (["--limit", "2"], ["e", "d"]),
        (["--limit", "2", "--offset", "4"], ["a"]),
        (["--offset", "1", "--limit", "1", "--reverse"], ["b"]),
        (["--failed"], ["e", "d"]),
        (["--no-failed"], ["b", "a"]),
        (["--session", "run-1"], ["b"]),
        (["--session", "run"], ["b"]),
        (["--since", "2026-11-18T00:00:00Z"], ["e", "d", "c", "b", "a"]),
        (["--since", "2100-01-01"], []),
        (["--until", "2000-01-01"], []),
        (["--model", "gpt"], []),
        (["--model", "gpt-5", "--provider", "unknown"], ["e", "d", "c", "b", "a"]),
        (["--provider", "openai"], []),
    ],
)
def test_calls_are_chosen_and_in_order_in_every_store(anywhere: str, arguments: list[str], expected: list[str]) -> None:
    outcomes = ["success", "success", "cancelled", "error", "timeout"]
    calls = [
        made(
            name,
            at_ns=START_NS + at * MINUTE,
            outcome=outcome,
            place=Place(session_id="run-1" if name == "b" else None),
        )
        for at, (name, outcome) in enumerate(zip("abcde", outcomes, strict=True))
    ]
    arguments = [a if a != "2026-11-18T00:00:00Z" else "2020-01-01" for a in arguments]
    answer = ask("--store", keep(anywhere, session("run-1", start_ns=START_NS), *calls), "calls", "--json", *arguments)
    assert [row["call_id"] for row in answer.json] == expected
    assert answer.code == (0 if expected else 1)


@pytest.mark.parametrize("command", ["calls", "stats", "report", "reprice"])
def test_no_such_session_is_exit_code_1_in_every_command(store: str, command: str, tmp_path: Path) -> None:
    prices = tmp_path / "prices.json"
    prices.write_text('{"version": "v", "models": {}}')
    more = ["--prices", str(prices)] if command == "reprice" else []
    answer = ask("--store", keep(store, made()), command, "--session", "ghost\x1b", *more)
    assert (answer.code, answer.out) == (1, "")
    assert answer.err == f"No session ghost\ufffd in {store}.\n"
    assert not (tmp_path / "report.html").exists()


@pytest.fixture
def full(anywhere: str) -> str:
    first = {"name": "grid", "user_id": "u1", "group_id": "g1", "task_id": "t1", "experiment": "x1"}
    return keep(
        anywhere,
        session("session-a", start_ns=START_NS, **first, metadata={"seed": 7}),
        session("session-b", start_ns=START_NS, name="chat", metadata={"seed": 8}),
        TimestepRecord(timestep_id="t-1", session_id="session-a", seen_ns=1, index=0, user_step_id="my-step"),
        made(
            "call-a",
            trace_id="a" * 32,
            place=Place(session_id="session-a", session_name="grid", timestep_id="t-1"),
            metadata={"user_id": "u1", "extra": {"variant": "b"}},
            response=Response(id="msg_1"),
            attempts=[Attempt(number=1, start_ns=0, request_id="req_1")],
        ),
        made("call-b", place=Place(session_id="session-b")),
        made("call-c"),
    )


@pytest.mark.parametrize(
    ("options", "calls", "sessions"),
    [
        (["--user", "u1"], ["call-a"], ["session-a"]),
        (["--name", "chat"], ["call-b"], ["session-b"]),
        (["--group", "g1"], ["call-a"], ["session-a"]),
        (["--experiment", "x1", "--task", "t1"], ["call-a"], ["session-a"]),
        (["--meta", "seed=8"], ["call-b"], ["session-b"]),
        (["--meta", "seed=7", "--meta", "variant=b"], ["call-a"], []),
        (["--step", "my-step"], ["call-a"], ["session-a"]),
        (["--user", "nobody"], [], []),
    ],
)
def test_calls_and_sessions_are_chosen(full: str, options: list[str], calls: list[str], sessions: list[str]) -> None:
    answer = ask("--store", full, "--json", "calls", *options)
    assert [row["call_id"] for row in answer.json] == calls
    assert answer.code == (0 if calls else 1)
    answer = ask("--store", full, "--json", "sessions", *options)
    assert [row["session_id"] for row in answer.json] == sessions
    assert answer.code == (0 if sessions else 1)
    assert ask("--store", full, "--json", "stats", *options).code == (0 if calls else 1)


def test_calls_are_summed_by_user_name_experiment_and_metadata(full: str) -> None:
    for by, expected in (("user", "u1"), ("name", "grid"), ("experiment", "x1"), ("meta:seed", "7")):
        rows = ask("--store", full, "--json", "stats", "--by", by).json
        assert expected in {row[by] for row in rows}
        assert sum(row["calls"] for row in rows) == 3
        assert expected in ask("--store", full, "stats", "--by", by).out


def test_a_comma_separates_keys_but_not_within_a_key_of_metadata(full: str) -> None:
    keep(full, made("call-d", metadata={"a,b": "1", "user_id": "u2"}))
    twice = ask("--store", full, "--json", "stats", "--by", "user", "--by", "model").json
    assert ask("--store", full, "--json", "stats", "--by", "user, model").json == twice
    rows = ask("--store", full, "--json", "stats", "--by", "meta:a,b,user").json
    assert {"meta:a,b": "1", "user": "u2"}.items() <= next(row for row in rows if row["user"] == "u2").items()
    for by in ("user,", ",", "user,modle"):
        answer = ask("--store", full, "stats", "--by", by)
        assert (answer.code, "is not one of" in answer.err) == (2, True), by


def test_wrong_groupings_and_metadata_are_wrong_usage(full: str) -> None:
    answer = ask("--store", full, "stats", "--by", "experimnt")
    assert answer.code == 2
    assert "Did you mean 'experiment'?" in answer.err
    answer = ask("--store", full, "calls", "--meta", "seed")
    assert answer.code == 2
    assert "write key=value" in answer.err
    assert "--experiment" in ask("--store", full, "calls", "--experimnt", "x").err


def test_lists_show_who_and_what_for(full: str, tmp_path: Path) -> None:
    row = next(row for row in ask("--store", full, "--json", "calls").json if row["call_id"] == "call-a")
    assert row["user"] == "u1"
    assert row["metadata"] == {"user_id": "u1", "extra": {"variant": "b"}}
    assert (row["response_id"], row["request_id"]) == ("msg_1", "req_1")
    assert "u1" in ask("--store", full, "calls").out
    assert "u1" in ask("--store", full, "sessions").out
    tree = ask("--store", full, "show", "session-a").out
    assert "user=u1  group=g1  task=t1  experiment=x1  seed=7" in " ".join(tree.split("\n"))
    assert "step 0 (my-step)" in tree
    page = tmp_path / "page.html"
    assert ask("--store", full, "report", "-o", str(page), "--user", "u1").code == 0
    assert [row["user"] for row in data(page.read_text())["rows"]] == ["u1"]
    assert "session-b" not in page.read_text()


def test_completion_offers_groupings() -> None:
    from click.shell_completion import ShellComplete

    from callspan.cli.commands import callspan

    found = ShellComplete(callspan, {}, "callspan", "_CALLSPAN_COMPLETE").get_completions(["stats", "--by"], "ex")
    assert [one.value for one in found] == ["experiment"]
    found = ShellComplete(callspan, {}, "callspan", "_CALLSPAN_COMPLETE").get_completions(["calls"], "--me")
    assert "--meta" in {one.value for one in found}


def test_lists_and_trees_mark_responses_that_were_not_recognized(anywhere: str) -> None:
    """A body of which nothing is known is no empty success."""
    place = Place(session_id="session-a")
    keep(anywhere, session("session-a"), made("call-a", place=place, response=Response(unrecognized=True)))
    assert "success, not recognized" in ask("--store", anywhere, "calls").out
    assert "success, not recognized" in ask("--store", anywhere, "show", "session-a").out


@pytest.fixture
def rewarded(anywhere: str) -> str:
    """Three sessions of two calls each, worth -1, 0.5 and 2, one without reward, and a call outside all."""
    records: list[Any] = [made("loose", at_ns=START_NS)]
    for at, worth in enumerate((-1.0, 0.5, 2.0, None)):
        name = f"s{at}"
        records.append(session(name, start_ns=START_NS + at * SECOND))
        for number in range(2):
            start = START_NS + (10 * at + number) * SECOND
            records.append(made(f"{name}-c{number}", at_ns=start, place=Place(session_id=name)))
        if worth is not None:
            given = {"reward_id": f"r{at}", "session_id": name, "scope": "session", "time_ns": START_NS}
            records.append(RewardRecord(**given, value=worth))  # type: ignore[arg-type]
    return keep(anywhere, *records)


@pytest.mark.parametrize(("least", "sessions"), [("0.5", {"s1", "s2"}), ("-1", {"s0", "s1", "s2"}), ("2", {"s2"})])
def test_lists_and_sums_have_only_sessions_with_enough_reward(rewarded: str, least: str, sessions: set[str]) -> None:
    def rows(*arguments: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = ask("--store", rewarded, *arguments, "--json", "--min-reward", least).json
        return found

    assert {row["session_id"] for row in rows("sessions")} == sessions
    assert {row["session_id"] for row in rows("calls")} == sessions
    assert {row["session"] for row in rows("stats", "--by", "session")} == sessions
    assert sum(row["calls"] for row in rows("stats")) == 2 * len(sessions)


def test_pages_apply_to_the_filtered_sessions(rewarded: str) -> None:
    given = ("--store", rewarded, "calls", "--min-reward", "0.5")
    assert [row["call_id"] for row in ask(*given, "--limit", "2", "--offset", "1", "--json").json] == ["s2-c0", "s1-c1"]
    assert "1 more" in ask(*given, "--limit", "3").out
    assert ask("--store", rewarded, "calls", "--min-reward", "3").code == 1


_UNKNOWN_OF_A_CALL = {
    "session_id", "session_name", "batch_id", "custom_id", "timestep_position", "timestep_id", "trace_id", "span_id",
    "user", "response_id", "request_id", "response_model", "error_type",
    "error_kind", "error_message", "http_status", "retries", "stream_end", "input_tokens", "output_tokens",
    "cache_read_tokens", "reasoning_tokens", "cost_usd", "duration_ms", "first_token_ms", "server_ms", "output",
    "rate_limited", "stream", "finish_reason",
}  # fmt: skip


def test_unknown_fields_of_a_call_row_are_none() -> None:
    row = call_row(made(took_ns=None))
    assert {name for name, value in row.items() if value is None} == _UNKNOWN_OF_A_CALL
    assert row["finish_reasons"] == []
    assert (row["model"], row["outcome"]) == ("gpt-5", "success")


def test_all_fields_of_a_call_row() -> None:
    row = call_row(
        made(
            place=Place(session_id="s", session_name="run", timestep=0, timestep_id="t"),
            response=Response(model="gpt-5-x", finish_reasons=["stop", None]),
            usage=Usage(input_tokens=0, output_tokens=2, cache_read_tokens=0, reasoning_tokens=1),
            cost=Cost(usd=Decimal("1E-7"), source="t"),
            timing=Timing(start_ns=START_NS, duration_ns=1_234_567, first_token_ns=0),
            stream=Stream(end="dropped"),
            retries=0,
        ),
        4,
    )
    expected = {
        "session_id": "s", "session_name": "run", "timestep_position": 4, "timestep_id": "t",
        "response_model": "gpt-5-x",
        "finish_reasons": ["stop", None], "input_tokens": 0, "output_tokens": 2, "cache_read_tokens": 0,
        "reasoning_tokens": 1, "cost_usd": "0.0000001", "duration_ms": 1.235, "first_token_ms": 0.0, "server_ms": None,
        "stream_end": "dropped", "retries": 0, "start_ns": START_NS,
    }  # fmt: skip
    assert {name: row[name] for name in expected} == expected


def test_a_call_row_says_why_its_cost_is_estimated_or_absent() -> None:
    usage, estimated = Usage(input_tokens=1), Cost(usd=Decimal(1), source="t", estimated=True, reason="no price for x")
    assert call_row(made(usage=usage, cost=estimated))["cost_reason"] == "no price for x"
    assert call_row(made(usage=usage, cost=Cost(usd=Decimal(1), source="t")))["cost_reason"] is None
    assert "without a price for gpt-5: " in str(call_row(made(usage=usage))["cost_reason"])
    assert "without usage from the provider" in str(call_row(made())["cost_reason"])
    assert call_row(made(outcome="started"))["cost_reason"] == "not ended"


def _error(status: int | None) -> ErrorInfo:
    return ErrorInfo(kind="server", type="server_error", status=status)


@pytest.mark.parametrize(
    ("error", "attempts", "status"),
    [
        (None, [], None),
        (None, [200], 200),
        (None, [429, 200], 200),
        (None, [None], None),
        (_error(500), [200], 500),
        (_error(None), [503], 503),
        (_error(None), [], None),
    ],
)
def test_the_status_is_the_errors_else_that_of_the_last_attempt(
    error: ErrorInfo | None, attempts: list[int | None], status: int | None
) -> None:
    tried = [Attempt(number=at, start_ns=0, status=one) for at, one in enumerate(attempts, 1)]
    assert call_row(made(error=error, attempts=tried))["http_status"] == status


@pytest.mark.parametrize(
    ("ids", "besides", "short"),
    [
        (["a"], [], {"a": "a"}),
        (["x" * 40], [], {"x" * 40: "x" * 13 + "…"}),
        (["abcdefghijkl-mnop"], [], {"abcdefghijkl-mnop": "abcdefghijkl…"}),
        (
            ["0123456789abcXa", "0123456789abcXb"],
            [],
            {"0123456789abcXa": "0123456789abcXa", "0123456789abcXb": "0123456789abcXb"},
        ),
        (["same", "same"], ["same"], {"same": "same"}),
        (["", "b"], [], {"": "", "b": "b"}),
    ],
)
def test_ids_are_shortened_to_unique_prefixes(ids: list[str], besides: list[str], short: dict[str, str]) -> None:
    assert short_ids(ids, besides) == short


def test_shortened_ids_are_unique_beginnings() -> None:
    ids = [f"01990000-0000-7000-8000-{number:012x}" for number in range(0, 4000, 37)]
    short = short_ids(ids)
    for one, shown in short.items():
        assert [other for other in ids if other.startswith(shown.rstrip("…"))] == [one]


DASH = "\N{EN DASH}"


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


def test_a_directory_is_not_a_store(tmp_path: Path) -> None:
    answer = ask("--store", f"sqlite:///{tmp_path}", "calls")
    assert answer.code == 1
    assert "is a directory: name a file in it" in answer.err


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
    assert "no cost: 1 without a price for gpt-5: " in page


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"api": "chat_completions", "request": Request(stream=True)}, "1 streamed without usage: set stream_usage"),
        ({"usage": Usage(input_tokens=1)}, "1 without a price for gpt-5"),
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


@pytest.mark.parametrize(
    ("fields", "shown", "hidden"),
    [
        ({"outcome": "cancelled", "error": ("cancelled", None, "Cancelled via scope 7f")}, "cancelled", "via scope"),
        ({"outcome": "error", "error": ("connection", None, "peer closed")}, "error connection", "unknown"),
        ({"outcome": "error", "error": ("rate_limit", 429, "slow down")}, "error 429", "rate_limit"),
        ({"outcome": "error", "error": ("unknown", None, "odd")}, "error", "unknown"),
        ({"outcome": "timeout", "error": ("timeout", None, "late")}, "timeout", "timeout timeout"),
    ],
)
def test_a_line_says_how_a_call_failed(store: str, fields: dict[str, Any], shown: str, hidden: str) -> None:
    kind, status, message = fields.pop("error")
    keep(store, made("a", error=ErrorInfo(kind=kind, type="X", status=status, message=message), **fields))
    page = ask("--store", store, "calls").out
    assert shown in page
    assert hidden not in page


def test_a_prefix_of_several_ids_says_so_everywhere(store: str) -> None:
    one, other = "01a211da-9261-aaaa", "01a211da-9261-bbbb"
    keep(store, made(one), made(other))
    for command in (("show", "01a211"), ("replay", "01a211"), ("calls", "--session", "01a211")):
        answer = ask("--store", store, *command)
        assert answer.code == 1
        assert "2 calls begin with '01a211'" in answer.out + answer.err, command


def test_an_id_that_is_cut_in_a_pipe_says_so_and_can_be_given_so(store: str) -> None:
    keep(store, made("01a211da-9261-7c3e-aaaa"))
    page = ask("--store", store, "calls").out
    assert "01a211da-9261…" in page
    assert ask("--store", store, "show", "01a211da-9261…", "--json").json["call_id"] == "01a211da-9261-7c3e-aaaa"


def test_all_calls_without_a_cost_are_explained_once_and_whole(store: str) -> None:
    keep(
        store,
        made("a", usage=Usage(input_tokens=1)),
        made("b", outcome="error"),
        made("c", outcome="started"),
        made("d", cost=Cost(usd=Decimal(1), source="x")),
    )
    for command in ("calls", "stats"):
        hint = ask("--store", store, command).out.partition("no cost: ")[2]
        said = " ".join(hint.split())
        assert said.startswith("1 without a price for gpt-5: ")
        assert "…" not in said
        assert said.count("CALLSPAN_PRICES") == 1
        assert "no cost: 1 failed before the provider reported tokens no cost: 1 not ended" in said


@pytest.mark.parametrize("installed", [True, False])
def test_a_hint_names_what_is_missing(monkeypatch: pytest.MonkeyPatch, installed: bool) -> None:
    monkeypatch.setattr("callspan.cli.unknown_costs.find_spec", lambda _: object() if installed else None)
    (hint,) = why_unknown([made(request=Request(model="my-policy-4b"), usage=Usage(input_tokens=1))])
    assert hint.startswith("no cost: 1 without a price for my-policy-4b: ")
    assert ("pip install" in hint) is not installed


def test_where_no_cost_is_known_the_way_to_one_is_reported(store: str) -> None:
    page = ask("--store", keep(store, made(usage=Usage(input_tokens=1))), "stats").out
    assert "gpt-5: 1 of 1 calls have no known cost" in page
    assert "`callspan reprice`" in page


def test_following_waits_for_the_first_record(anywhere: str, tmp_path: Path) -> None:
    code = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from callspan.cli import main; main()"
    )
    follower = subprocess.Popen(
        [sys.executable, "-c", code, "--store", anywhere, "calls", "--follow", "--json"],
        cwd=tmp_path, env=os.environ | {"PYTHONUNBUFFERED": "1"}, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert follower.stdout is not None
        time.sleep(0.5)
        keep(anywhere, made("first", at_ns=time.time_ns()))
        assert json.loads(follower.stdout.readline())["call_id"] == "first"
        follower.send_signal(signal.SIGINT)
        assert follower.wait(20) == 0
        assert follower.communicate()[1] == ""
    finally:
        follower.kill()


def test_waiting_prints_what_it_waits_for_and_ends_at_ctrl_c(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("callspan.cli.follow.time.sleep", interrupt)
    answer = ask("--store", store, "calls", "-f")
    assert (answer.code, answer.out) == (0, "")
    assert answer.err.endswith(
        "calls.db: there is no such file; nothing was recorded there yet; waiting for the first record\n"
    )


def test_sessions_have_what_was_said_first_where_there_is_room(store: str) -> None:
    said = {"message_id": "m1", "session_id": "s-1", "message_type": "question", "time_ns": START_NS}
    keep(store, session("s-1", start_ns=START_NS), MessageRecord(**said, content="Where is\nmy \x1b[31mtent?"))
    with closing(open_store(store)) as reader:
        found = list(reader.sessions())
        assert "Where is my" in drawn(sessions._table(reader, (), found, 200))
        assert "Where" not in drawn(sessions._table(reader, (), found, 40), 40)
    assert "\nWhere is my" in ask("--store", store, "show", "s-1").out
