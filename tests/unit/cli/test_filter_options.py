"""Filters and context: times, options that select calls, and how a command ends."""

from __future__ import annotations

import itertools
import time
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from callspan.cli import command_context
from callspan.cli.command_context import CommandContext, Defaults, with_context
from callspan.cli.filter_options import MOMENT, call_options
from callspan.cli.run import DEFAULT_STORE
from callspan.records import Place
from callspan.stores import CallFilter, StoreError

from .conftest import MINUTE, SECOND, START_NS, ask, keep, made, session


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


def test_what_is_a_number_already_stays() -> None:
    assert MOMENT.convert(17, None, None) == 17


@pytest.mark.parametrize(
    "text", ["", "h", "30", "30 minutes", "-5m", "1e3s", "2026-13-01", "2026-11-20T25:00", "5m5s", "½h"]
)
def test_an_invalid_time_is_reported_with_an_example(text: str) -> None:
    with pytest.raises(click.BadParameter, match=r"write 30m, 2h, 3d"):
        MOMENT.convert(text, None, None)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], CallFilter()),
        (["--failed"], CallFilter(errors=True)),
        (["--no-failed"], CallFilter(errors=False)),
        (["--cut-off"], CallFilter(cut_off=True)),
        (["--no-cut-off"], CallFilter(cut_off=False)),
        (["--in-progress"], CallFilter(in_progress=True)),
        (["--no-in-progress"], CallFilter(in_progress=False)),
        (["--session", "s", "--model", "m", "--provider", "p"], CallFilter(session_id="s", model="m", provider="p")),
        (["--text", ""], CallFilter(text="")),
        (
            ["--since", "1970-01-01T00:00:01Z", "--until", "1970-01-01T00:00:02Z"],
            CallFilter(since_ns=SECOND, until_ns=2 * SECOND),
        ),
        (["--failed", "--no-failed"], CallFilter(errors=False)),
    ],
)
def test_the_options_become_one_filter(arguments: list[str], expected: CallFilter) -> None:
    seen: list[tuple[CallFilter, object]] = []

    @click.command()
    @call_options
    @click.option("--other")
    def command(which: CallFilter, other: str | None) -> None:
        seen.append((which, other))

    result = CliRunner().invoke(command, [*arguments, "--other", "x"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert seen == [(expected, "x")]


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


@pytest.mark.parametrize(
    ("defaults", "arguments", "environment", "expected"),
    [
        (None, [], None, (DEFAULT_STORE, False)),
        (None, [], "jsonl:///a.jsonl, sqlite:///b.db", ("jsonl:///a.jsonl,sqlite:///b.db", False)),
        (Defaults("sqlite:///d.db"), [], "sqlite:///b.db", ("sqlite:///d.db", False)),
        (Defaults("sqlite:///d.db"), ["--store", "x.db"], None, ("x.db", False)),
        (Defaults(json=True), [], None, (DEFAULT_STORE, True)),
        (Defaults(), ["--json"], None, (DEFAULT_STORE, True)),
        (Defaults(), ["--store", ""], None, (DEFAULT_STORE, False)),
    ],
)
def test_the_store_reported_last_wins(
    defaults: Defaults | None,
    arguments: list[str],
    environment: str | None,
    expected: tuple[str, bool],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if environment is not None:
        monkeypatch.setenv("CALLSPAN_STORES", environment)
    seen: list[tuple[str, bool]] = []

    @click.command()
    @with_context
    def command(context: CommandContext) -> None:
        """Help of its own."""
        seen.append((context.store, context.json))

    assert CliRunner().invoke(command, arguments, obj=defaults, catch_exceptions=False).exit_code == 0
    assert seen == [expected]
    assert "Help of its own." in CliRunner().invoke(command, ["--help"]).output


@pytest.mark.parametrize(
    ("values", "text"), [([], "[]\n"), ([1], "[1]\n"), ([None, {"a": "\x9b"}], '[null,\n {"a":"\\u009b"}]\n')]
)
def test_a_json_array_is_printed_as_it_comes(
    values: list[object], text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert CommandContext("x.db", json=True).emit_all(iter(values)) == len(values)
    assert capsys.readouterr().out == text


def test_the_first_element_is_out_before_the_second_is_requested(capsys: pytest.CaptureFixture[str]) -> None:
    seen: list[str] = []

    def values() -> itertools.chain[int]:
        yield 1
        seen.append(capsys.readouterr().out)
        yield 2

    assert CommandContext("x.db", json=True).emit_all(values()) == 2
    assert seen == ["[1"]


@pytest.mark.parametrize(("json", "expected"), [(False, "none of \ufffd\n"), (True, "")])
def test_no_result_is_exit_code_1_and_silent_with_json(
    json: bool, expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(click.exceptions.Exit) as ended:
        CommandContext("x.db", json=json).no_match("none of \x1b")
    captured = capsys.readouterr()
    assert (ended.value.exit_code, captured.out, captured.err) == (1, "", expected)


def test_a_failure_keeps_its_lines_and_nothing_else_of_the_terminal() -> None:
    with pytest.raises(click.ClickException) as failed:
        CommandContext("x.db", json=False).fail("first\x1b[2J\nsecond\u202e")
    assert failed.value.message == "first\ufffd[2J\nsecond\ufffd"
    assert failed.value.exit_code == 1


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (StoreError("x.db is broken: do this"), "x.db is broken: do this"),
        (OSError(5, "no disk"), "{} cannot be read: "),
    ],
)
def test_what_breaks_while_reading_names_the_store_without_its_password(
    store: str, error: Exception, expected: str
) -> None:
    keep(store, made())
    context = CommandContext(store, json=False)
    with pytest.raises(click.ClickException) as failed, context.reader():
        raise error
    assert str(failed.value.message).startswith(expected.format(store))


def test_an_error_of_the_command_is_not_an_error_of_the_store(store: str) -> None:
    context = CommandContext(keep(store, made()), json=False)
    with pytest.raises(ValueError, match="a bug"), context.reader():
        raise ValueError("a bug")


def test_stores_raise_more_where_more_is_named() -> None:
    assert set(command_context.store_errors(KeyError)) - set(command_context.store_errors()) == {KeyError}
    assert {StoreError, OSError} <= set(command_context.store_errors())
