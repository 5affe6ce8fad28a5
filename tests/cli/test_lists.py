"""`callspan calls`, `sessions`, `stats`, `compare`: filters, order, sums, keys of `--json`; numbers, money, times."""

from __future__ import annotations

import decimal
import re
import time
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import openai
import pytest
from tests.support.commands import ask
from tests.support.records import SECOND, START_NS, keep, made, reward, session
from tests.support.waiting import HANG_MS

import callspan
from callspan import formatting
from callspan.formatting import UNKNOWN, exact, money
from callspan.records import Attempt, Cost, ErrorInfo, Place, Request, Stream, Timing, Usage
from callspan.runtime.amounts import as_number
from callspan.service import main_name, service_of_command
from callspan.stores.query.aggregates import exact_sum
from callspan.stores.query.filters import whole_micro
from callspan.stores.tables.payloads import picodollars
from callspan.testing import ScriptedProvider


@pytest.mark.parametrize(
    ("arguments", "out", "err"),
    [
        (["sessions"], "", "No sessions in {}.\n"),
        (["calls"], "", "No such calls in {}.\n"),
        (["calls", "--json"], "[]\n", "No such calls in {}.\n"),
        (["reprice", "--json"], '{"calls":0,"changed":0,"written":true}\n', "No such calls in {}.\n"),
        (
            ["show", "x", "--json"],
            "",
            "Nothing in {} has an id that begins with 'x'. See `callspan sessions` and `callspan calls`.\n",
        ),
        (["report"], "", "No such calls in {}; nothing written.\n"),
    ],
)
def test_commands_on_an_empty_store_end_with_exit_code_1(
    store: str, arguments: list[str], out: str, err: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert ask("--store", keep(store), *arguments) == (1, out, err.format(store))
    assert not (tmp_path / "report.html").exists()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--min-reward", "0"], ["s2", "s1"]),
        (["--sort", "score"], ["s0", "s1", "s2", "s3"]),
        (["--min-reward", "0", "--limit", "1"], ["s2"]),
    ],
)
def test_unknown_reward_is_not_zero(store: str, arguments: list[str], expected: list[str]) -> None:
    ends: list[dict[str, Any]] = [{"outcome": "error"}, {"outcome": "success"}, {}, {}]
    sessions = [session(f"s{at}", start_ns=START_NS + at, **fields) for at, fields in enumerate(ends)]
    given = enumerate([-1.0, 0.0, 0.5])
    rewards = [reward(f"r{at}", value, session_id=f"s{at}", scope="session") for at, value in given]
    answer = ask("--store", keep(store, *sessions, *rewards), "sessions", "--json", *arguments)
    assert [row["session_id"] for row in answer.json] == expected
    assert answer.code == (0 if expected else 1)


def test_sums_exclude_and_mark_unknown_values(store: str) -> None:
    keep(
        store,
        made("a", usage=Usage(input_tokens=5), cost=Cost(usd=Decimal("0.1"), source="x")),
        made("b", cost=Cost(usd=Decimal("0.2"), source="x")),
        made("c", usage=Usage(input_tokens=7, output_tokens=0)),
        made("d", request=Request(model="free"), outcome="error", took_ns=None),
        made("e", request=Request(model="begun"), outcome="error", timing=Timing(start_ns=START_NS, first_token_ns=9)),
    )
    by_model = {row["model"]: row for row in ask("--store", store, "stats", "--json").json}
    gpt, free = by_model["gpt-5"], by_model["free"]
    assert (gpt["input_tokens"], gpt["output_tokens"], gpt["cost_usd"]) == (12, 0, "0.3")
    assert (gpt["calls"], gpt["calls_without_cost"], gpt["errors"], gpt["duration_p50_ns"]) == (3, 1, 0, 1e9)
    assert (free["calls"], free["errors"]) == (1, 1)
    unknown = ("input_tokens", "cost_usd", "duration_p50_ns", "duration_p95_ns", "retries")
    assert {free[name] for name in unknown} == {None}
    page = ask("--store", store, "stats").out
    assert "gpt-5: 1 of 3 calls have no known cost" in page
    assert "begun: 1 of 1 calls have no known cost" in page
    assert "free:" not in page
    for command in ("calls", "stats"):
        said = " ".join(ask("--store", store, command).out.partition("no cost: ")[2].split())
        assert said.startswith("1 without a price for gpt-5: ")
        assert (said.count("CALLSPAN_PRICES"), "…" in said) == (1, False), "explained once and whole"
        assert "no cost: 1 failed before the provider reported tokens" in said, "reasons are those of the unknown costs"


WITH_USAGE = Request(stream=True, params={"stream_options": {"include_usage": True}})
CONTRADICTORY = Usage(input_tokens=1, cache_write_tokens=0, cache_write_1h_tokens=1)


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"api": "chat_completions", "request": Request(stream=True)}, "1 streamed without usage: set stream_usage"),
        ({"api": "chat_completions", "request": WITH_USAGE}, "1 without usage from the provider"),
        ({"usage": Usage(input_tokens=1)}, "1 without a price for gpt-5"),
        (
            {"usage": Usage(input_tokens=1), "provider": "openai"},
            "1 recorded before their price was known here",
        ),
        ({"usage": CONTRADICTORY}, "1 with counts of tokens that contradict each other"),
        ({"outcome": "cancelled"}, "1 cut off or cancelled before the provider reported tokens"),
        ({}, "1 without usage from the provider: estimate_usage"),
        ({"outcome": "error"}, None),
        ({"cost": Cost(usd=Decimal(0), source="x")}, None),
    ],
)
def test_lists_and_sums_explain_missing_cost(store: str, fields: dict[str, Any], why: str | None) -> None:
    keep(store, made("a", **fields))
    for command in (("calls",), ("stats",), ("show", "a")):
        out = ask("--store", store, *command).out
        assert why in out if why else "no cost" not in out and "without" not in out, command
    (row,) = ask("--store", store, "--json", "calls").json
    assert why is None or why.removeprefix("1 ") in row["cost_reason"]


@pytest.mark.parametrize(
    ("prices", "why"),
    [
        ('{"models": {"gpt-5": {"input": 1}}}', "recorded before their price was known here"),
        ('{"models": {"gpt-6": {"input": 1}}}', "without a price for gpt-5"),
        ("no prices", "without a price for gpt-5"),
    ],
)
def test_price_of_the_own_file_is_known(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prices: str, why: str
) -> None:
    keep(store, made("a", usage=Usage(input_tokens=1)))
    (tmp_path / "own.json").write_text(prices)
    monkeypatch.setenv("CALLSPAN_PRICES", str(tmp_path / "own.json"))
    for command in (("calls",), ("stats",), ("show", "a")):
        assert why in " ".join(ask("--store", store, *command).out.split()), command
    (row,) = ask("--store", store, "--json", "calls").json
    assert why in row["cost_reason"]


def test_estimates_have_reasons_and_errors_a_status(store: str) -> None:
    guess = Cost(usd=Decimal(1), source="t", estimated=True, reason="no price for x")
    failed = ErrorInfo(kind="server", type="server_error", status=500)
    statuses: list[tuple[ErrorInfo | None, list[int | None], int | None]] = [
        (None, [], None),
        (None, [429, 200], 200),
        (None, [None], None),
        (failed, [200], 500),
        (msgspec.structs.replace(failed, status=None), [503], 503),
        (msgspec.structs.replace(failed, status=None), [], None),
    ]
    for number, (error, tried, _) in enumerate(statuses):
        attempts = [Attempt(number=at, start_ns=0, status=status) for at, status in enumerate(tried, 1)]
        keep(store, made(f"c{number}", error=error, attempts=attempts, cost=guess))
    rows = {row["call_id"]: row for row in ask("--store", store, "--json", "calls").json}
    assert {row["cost_reason"] for row in rows.values()} == {"no price for x"}
    assert [rows[f"c{number}"]["http_status"] for number in range(6)] == [status for *_, status in statuses]


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
def test_line_shows_the_failure_of_a_call(store: str, fields: dict[str, Any], shown: str, hidden: str) -> None:
    kind, status, message = fields.pop("error")
    keep(store, made("a", error=ErrorInfo(kind=kind, type="X", status=status, message=message), **fields))
    page = ask("--store", store, "calls").out
    assert shown in page
    assert hidden not in page


def test_ambiguous_prefix_is_reported_everywhere(store: str) -> None:
    one, other = "01a211da-9261-aaaa", "01a211da-9261-bbbb"
    keep(store, made(one), made(other))
    for command in (("show", "01a211"), ("replay", "01a211"), ("calls", "--session", "01a211")):
        answer = ask("--store", store, *command)
        assert answer.code == 1
        assert "2 calls begin with '01a211'" in answer.out + answer.err, command


def test_narrow_screen_drops_optional_columns_first(store: str) -> None:
    labels = {"metadata": {"user_id": "user-of-01"}, "custom_id": "line-of-a-batch"}
    known = {"usage": Usage(input_tokens=10_000, output_tokens=5000), "cost": Cost(usd=Decimal("0.0123"), source="t")}
    keep(store, made("a", request=Request(model="gpt-4.1-mini"), **labels, **known))
    assert "  gpt-4.1-mini  " in ask("--store", store, "calls").out
    assert "2025-10-09T08:00Z  gpt-4.1-mini" in ask("--store", store, "stats", "--by", "day,minute,hour,model").out


@pytest.mark.parametrize("command", ["calls", "sessions"])
@pytest.mark.parametrize("width", [60, 80, 100])
def test_narrow_screen_names_the_columns_it_leaves_out(
    store: str, command: str, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = {"usage": Usage(input_tokens=300, output_tokens=40), "cost": Cost(usd=Decimal("0.0123"), source="t")}
    place, user = Place(session_id="s1"), {"metadata": {"user_id": "user-of-01"}}
    keep(store, session("s1", start_ns=START_NS, name="support", outcome="success", end_ns=START_NS + 10**9))
    keep(store, made("a", place=place, request=Request(model="gpt-4.1-mini"), retries=1, **known, **user))

    def lines(columns: int) -> list[str]:
        monkeypatch.setenv("COLUMNS", str(columns))
        return ask("--store", store, command).out.splitlines()

    def names(header: str) -> list[str]:
        return [name.strip() for name in header.split("  ") if name.strip()]

    narrow, wide = lines(width), lines(1_000)
    shown = [re.compile(re.escape(name).replace("…", ".*")) for name in names(narrow[0])]
    hidden = [name for name in names(wide[0]) if not any(pattern.fullmatch(name) for pattern in shown)]
    assert " ".join(narrow[2:]) == (f"too narrow to show: {', '.join(hidden)}" if hidden else "")
    assert len(wide) == 2


def test_groups_are_named_by_key_and_value(store: str) -> None:
    keep(
        store,
        session("s1", start_ns=START_NS, experiment="one", name="a", outcome="success", metadata={"tags": ["x", "y"]}),
        session("s2", start_ns=START_NS, experiment="two", name="a", outcome="failure"),
    )
    answer = ask("--store", store, "--json", "compare", "one", "two")
    assert (answer.json["a"], answer.json["b"]) == (
        {"group": "experiment=one", "sessions": 1}, {"group": "experiment=two", "sessions": 1},
    )  # fmt: skip
    assert answer.json["measures"][0] | {"low": None} == {
        "kind": "success", "measure": "success", "a": 1.0, "b": 0.0, "difference": -1.0, "low": None, "high": None,
        "n": [1, 1], "paired": False, "too_few": True,
    }  # fmt: skip
    assert ask("--store", store, "compare", "tag=x", "=").code == 0
    assert "No session with experiment=three" in ask("--store", store, "compare", "one", "three").err
    assert "cannot be grouped by 'colour'" in ask("--store", store, "compare", "colour=1", "=2").err
    assert ask("--store", store, "compare", "colour=1", "=2").code == 2
    rows = ask("--store", store, "--json", "sessions", "--by", "tag").json
    assert [(row["tag"], row["sessions"], row["measures"][0]["sum"]) for row in rows] == [
        (None, 1, 0), ("x", 1, 1), ("y", 1, 1),
    ]  # fmt: skip
    assert "write one of" in ask("--store", store, "sessions", "--by", "colour").err
    assert "cannot be combined with --sort" in ask("--store", store, "sessions", "--by", "tag", "--sort", "cost").err


def test_sessions_are_grouped_by_what_their_calls_carry(store: str) -> None:
    """A key set within a session is in its calls alone. A session with calls of both values compares with neither."""
    versions = {"s1": ["3"], "s2": ["3", "3"], "s3": ["4"], "s4": ["3", "4"], "s5": []}
    keep(store, *(session(name, start_ns=START_NS, outcome="success") for name in versions))
    keep(store, session("s6", start_ns=START_NS, metadata={"v": "3"}), made("own", place=Place(session_id="s6")))
    keep(store, session("s7", start_ns=START_NS, metadata={"v": "4"}))
    calls = [(name, f"{name}-{number}", v) for name, of in versions.items() for number, v in enumerate(of)]
    keep(store, *(made(ident, place=Place(session_id=name), metadata={"v": v}) for name, ident, v in calls))
    answer = ask("--store", store, "--json", "compare", "meta:v=3", "=4").json
    assert [answer["a"]["sessions"], answer["b"]["sessions"], answer["in_both"]] == [3, 2, 1]
    assert "1 session with both values, in neither group." in ask("--store", store, "compare", "meta:v=3", "=4").out
    rows = ask("--store", store, "--json", "sessions", "--by", "meta:v").json
    assert {row["meta:v"]: row["sessions"] for row in rows} == {"3": 4, "4": 3, None: 1}


def test_sums_of_groups_are_those_of_stats(store: str) -> None:
    """A call without usage leaves its session out of the means alone: what is known of it still counts."""
    priced = {"usage": Usage(input_tokens=9, output_tokens=1), "cost": Cost(usd=Decimal("0.01"), source="t")}
    keep(store, *(session(name, start_ns=START_NS, experiment="x") for name in "AB"))
    keep(store, made("a", place=Place(session_id="A"), **priced), made("b", place=Place(session_id="B"), **priced))
    keep(store, made("c", place=Place(session_id="B"), stream=Stream(end="closed"), outcome="cancelled"))
    (stats,) = ask("--store", store, "--json", "stats", "--by", "experiment").json
    (group,) = ask("--store", store, "--json", "sessions", "--by", "experiment").json
    sums = {row["measure"]: row for row in group["measures"]}
    for name in ("calls", "errors", "input_tokens", "output_tokens", "cost_usd"):
        assert sums[name]["sum"] == stats[name], name
    assert [sums[name]["n"] for name in ("calls", "input_tokens", "cost_usd")] == [2, 1, 1]
    assert [sums[name]["mean"] for name in ("input_tokens", "cost_usd")] == [9, "0.01"]
    bounds = [name for name in sums if sums[name]["sum_is_lower_bound"]]
    assert bounds == ["input_tokens", "output_tokens", "reasoning_tokens", "cost_usd"]


def test_partly_unknown_cost_is_a_lower_bound(store: str) -> None:
    priced = {"usage": Usage(input_tokens=9, output_tokens=1), "cost": Cost(usd=Decimal("0.01"), source="t")}
    calls = [
        ("A", "a1", priced),
        ("A", "a2", priced),
        ("B", "b1", priced),
        ("B", "b2", {"stream": Stream(end="complete")}),
    ]
    keep(store, *(session(name, start_ns=START_NS, experiment=name) for name in "AB"))
    keep(store, *(made(ident, place=Place(session_id=name), **fields) for name, ident, fields in calls))
    rows = {
        row["measure"]: (row["a"], row["b"])
        for row in ask("--store", store, "--json", "compare", "A", "B").json["measures"]
    }
    assert [rows[name] for name in ("calls", "cost_usd", "input_tokens")] == [(2, 2), ("0.02", None), (18, None)]
    for command in (("sessions",), ("sessions", "--by", "experiment"), ("stats",), ("show", "B")):
        assert "at least $0.0" in ask("--store", store, *command).out, command


def begun_since(store: str, text: str) -> list[str]:
    answer = ask("--store", store, "calls", "--since", text, "--json")
    assert answer.code <= 1, answer.err
    return [row["call_id"] for row in answer.json]


@pytest.mark.parametrize(
    ("text", "ago_s"), [("30 s", 30), ("30m", 1800), ("0.5h", 1800), ("3d", 259_200), ("1w", 604_800)]
)
def test_relative_time_is_counted_from_now(store: str, text: str, ago_s: int) -> None:
    at_ns = time.time_ns() - ago_s * SECOND
    keep(store, made("before", at_ns=at_ns - SECOND), made("after", at_ns=at_ns + 20 * SECOND))
    assert begun_since(store, text) == ["after"]


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("1970-01-01T00:00:00.000001Z", 1000),
        ("2026-11-20 10:01:40+02:00", 1_795_161_700 * SECOND),
        ("2262-04-12T00:00:00+00:00", 2**63 - 1),
    ],
)
def test_iso_times_accept_a_zone(store: str, text: str, ns: int) -> None:
    keep(store, made("before", at_ns=ns - 1, took_ns=None), made("at", at_ns=ns, took_ns=None))
    assert begun_since(store, text) == ["at"]


MILLISECONDS = {
    0: "0 ms", 0.04: "0.0 ms", 9.96: "10 ms", 999.6: "1.00 s", 59_996: "1 min", 61_000: "1 min 01 s",
    93_784_000: "26 h 03 min",
}  # fmt: skip
COUNTS = {0: "0", 999: "999", 1_234: "1.23k", 0.5: "0.5", 999_950: "1M", -999_950: "-1M"}
TOKENS = {(0, None): f"0→{UNKNOWN}", (0, 0): "0→0", (12345, 6): "12,345→6", (99_999, 100_000): "99,999→100k"}
TIMES_NS = {None: None, 999: "1970-01-01T00:00:00.000000Z", 1_795_161_700_498_858_123: "2026-11-20T08:01:40.498858Z"}
MONEY = {
    "0.000": "$0.00", "0.0500": "$0.05", "0.5": "$0.50", "0.1234": "$0.123", "0.000000123456": "$0.000000123",
    "0.0099996": "$0.01", "1E+2": "$100.00", "12345678.9": "$12,345,678.90", "-0.0500": "-$0.05",
}  # fmt: skip
JOINED = "\u0645\u06cc\u200c\u062e \U0001f468\u200d\U0001f467"
"""Persian and an emoji, which the joiners within belong to."""
SHOWN: list[tuple[Callable[..., object], tuple[object, ...], str | None]] = [
    # A unit that suits the size.
    *((formatting.milliseconds, (ms,), shown) for ms, shown in MILLISECONDS.items()),
    *((formatting.duration, (ms * 1e6,), shown) for ms, shown in MILLISECONDS.items()),
    *((formatting.short_count, (count,), shown) for count, shown in COUNTS.items()),
    # Zero is told from unknown.
    *((formatting.tokens, counts, shown) for counts, shown in TOKENS.items()),
    # Never rounded up.
    *((formatting.iso, (ns,), shown) for ns, shown in TIMES_NS.items()),
    # One line, without control characters.
    (formatting.excerpt, ("a <b> \x1b[31mc\n d",), "a <b> \ufffd[31mc d"),
    (
        formatting.excerpt,
        (f"{JOINED} a\u200db \u062e\u200c \u061c\U000e0041",),
        f"{JOINED} a\ufffdb \u062e\ufffd \ufffd\ufffd",
    ),
    (formatting.excerpt, ("abcdef", 4), "abc…"),
    # Cents, or three significant digits.
    *((formatting.money, (Decimal(usd),), shown) for usd, shown in MONEY.items()),
]


@pytest.mark.parametrize(("function", "values", "shown"), SHOWN)
def test_value_has_its_unit(function: Callable[..., object], values: tuple[object, ...], shown: str | None) -> None:
    assert function(*values) == shown


@pytest.mark.parametrize("command", ["calls", "sessions", "stats", "show last"])
def test_empty_store_is_a_case_for_the_doctor(command: str, store: str) -> None:
    """Whoever asks for calls has just run the application: to run it again tells nothing."""
    answer = ask("--store", store, *command.split())
    said = " ".join(answer.err.split())
    assert answer.code == 1
    assert f"`callspan --store {store} doctor` says why" in said
    assert "callspan run" not in said


_ABSURD = ("1E+99999999999", "1E-99999999999", "0E-99999999999", "1E+999999", "1E-999999")


def test_decimal_context_of_the_application_rounds_no_cost(provider: ScriptedProvider, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/c.db"
    found = []
    for precision in (28, 5):
        handle = callspan.instrument(stores=url)
        provider.reply(text="x", input_tokens=1_234_567, output_tokens=333_333)
        with openai.OpenAI(base_url=provider.openai_url, api_key="any") as client, decimal.localcontext() as context:
            context.prec = precision
            context.traps[decimal.Inexact] = precision == 5
            client.chat.completions.create(model="gpt-5", messages=[{"role": "user", "content": "Hi"}])
            assert handle.force_flush(HANG_MS)
            found.append(next(one.cost_usd for one in callspan.open_store(url).summary("model")))
        handle.uninstrument()
    assert len(found[0].as_tuple().digits) > 5
    assert found[1] == 2 * found[0]


@pytest.mark.parametrize("usd", _ABSURD)
def test_absurd_amount_is_unknown(usd: str) -> None:
    amount = Decimal(usd)
    assert (picodollars(amount), exact_sum([amount]), exact(amount), money(amount)) == (None, None, None, money(None))
    assert as_number(amount) is None
    assert whole_micro(amount) in {(0, 0), (9 * 10**18, 0)}


def test_digits_beyond_default_precision_count() -> None:
    assert picodollars(Decimal("1.00000000000000000000000000000001")) is None
    assert whole_micro(Decimal("-1E+999999")) == (-9 * 10**18, 0)
    assert whole_micro(Decimal("-1.0000005")) == (-1_000_000, -500_000)


COMMANDS = {
    "./deep/app.py --its-own x.py": "app", "gunicorn app:application": "gunicorn", "pkg/__main__.py": "pkg",
    "/usr/bin/python3.11 -X dev -u app.py": "app", "python3 -m pkg.mod x": "pkg.mod", "python -c print()": None,
}  # fmt: skip


@pytest.mark.parametrize(("command", "name"), COMMANDS.items())
def test_service_name_from_the_command_line(command: str, name: str | None) -> None:
    assert service_of_command(command.split()) == name


@pytest.mark.parametrize(("arguments", "name"), [(["/x/app.py"], "app"), (["-c"], None), ([""], None), ([], None)])
def test_service_name_inside_a_process(arguments: list[str], name: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    assert main_name(arguments) == name
    monkeypatch.setenv("CALLSPAN_RUN_SERVICE", "shop")
    assert main_name(arguments) == "shop"


def test_command_finds_a_label_that_was_a_truth_value(store: str) -> None:
    """By the word that the API documents, in lists of calls and of sessions."""
    handle = callspan.instrument(stores=store)
    for name, label in (("good", True), ("bad", False)):
        with callspan.session(name), callspan.record_call(provider="p", model=name) as call:
            pass
        callspan.feedback(call.call_id, label=label)
    assert handle.force_flush(HANG_MS)
    handle.uninstrument()
    for word, name in (("true", "good"), ("false", "bad")):
        (found,) = ask("--store", store, "calls", "--label", word, "--json").json
        assert found["model"] == name
        (session,) = ask("--store", store, "sessions", "--label", word, "--json").json
        assert session["name"] == name
