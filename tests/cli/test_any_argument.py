"""No argument makes the command fail with a traceback: invalid values for each option of each sub-command."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from tests.support.commands import callspan
from tests.support.records import START_NS, keep, made, session
from tests.support.scale import FULL, scaled

LONG = "x" * 100_000
TELLING = [
    "", " ", "-1", "nan", "9" * 5000, "\udcff", "\ud800", "directory.db", "no/such/directory/file", LONG,
    "foo://x", "http://[::1", "clickhouse://127.0.0.1:x/y", "sqlite:///notes.db", "a\x00b.db", "0001-01-01",
    "99999999999999d", ",",
]  # fmt: skip
MORE = [
    "0", "999999999999999999999999", "1e400", "inf", "-inf", "directory", "notes.txt", "notes.db",
    "bad.jsonl",
    "loop", "link", "http://x:99999/", "http://x:abc", "sqlite://", "sqlite:///",
    "sqlite:///directory", "sqlite:////proc/x/y.db", "sqlite:///a\x00b.db", "sqlite:///\udcff\ud800.db", "x\udcff.db",
    "jsonl:///bad.jsonl", "jsonl:///directory", "jsonl:///x?acks=maybe", "unix://", f"unix:///{'s' * 300}",
    "postgresql://[", "postgresql://127.0.0.1:1/x", "postgresql://127.0.0.1:x/x", "clickhouse://127.0.0.1:1/x",
    "clickhouse://[", "console://", "://", f"sqlite:///{LONG}.db", ",,foo", "2026-13-45", "99999-01-01",
    "9999-12-31T23:59:59+14:00", "1e9d", "12:00", "é→𝄞", "%", "'; drop table calls; --", "\x1b[31m", "-", "--", "~",
    "~nobody/x.db", "a=b", "=", "{}", "[]", "null", "last", "locked/x.db",
]  # fmt: skip
FIRST = {
    "delete": ["--older-than", "9000d", "--yes"], "export": ["openai", "--dry-run"],
    "replay": ["nobody"], "report": ["-o", "page.html"], "demo": ["--live"],
}  # fmt: skip
"""What each needs besides, so that the option under test is what decides."""


@pytest.fixture(scope="module", autouse=True)
def _nothing_is_served() -> Iterator[None]:
    """A port that is taken ends `view`, which would serve its page until it is interrupted."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        FIRST["view"] = ["--port", str(taken.getsockname()[1])]
        yield


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with a store and with what is none."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    keep("sqlite:///callspan.db", session("s", start_ns=START_NS), made("c"))
    for name in ("directory", "directory.db"):
        (tmp_path / name).mkdir()
    for name in ("notes.txt", "notes.db"):
        (tmp_path / name).write_text("These are notes. " * 200)
    (tmp_path / "bad.jsonl").write_bytes(b'{"x":\n\xff\x00\n[]\nnull\n')
    (tmp_path / "loop").symlink_to("loop")
    # Not those of the machine: who runs the tests may be allowed to replace them.
    (tmp_path / "link").symlink_to("notes.txt")
    return tmp_path


def options() -> Iterator[tuple[str, click.Parameter]]:
    """Every option and argument that takes a value; what several sub-commands share is tried with each of them."""
    context = click.Context(callspan)
    for name in callspan.list_commands(context):
        command = callspan.get_command(context, name)
        assert command is not None
        yield from ((name, one) for one in command.params if not (isinstance(one, click.Option) and one.is_flag))


def command_lines(values: list[str]) -> Iterator[list[str]]:
    for name, parameter in options():
        for value in values:
            first = FIRST.get(name, [])
            if isinstance(parameter, click.Argument):
                yield [name, *first[1:], "--", value]
            elif (name, parameter.opts[-1], value) != ("view", "--port", "0"):  # any port that is free
                yield [name, *first, parameter.opts[-1], value]
    for value in values:
        yield from (["--store", value, "calls"], [value], [f"--{value}", "calls"], ["calls", f"--{value}"])


def is_new(arguments: list[str], seen: set[tuple[str, str]]) -> bool:
    """Whether the value has not been tried with an option of that name yet."""
    what = ("".join(arguments[-2:-1]), arguments[-1])
    return what not in seen and not seen.add(what)


def check(arguments: list[str]) -> None:
    result = CliRunner().invoke(callspan, arguments)
    shown = [word[:60] for word in arguments]
    assert result.exception is None or isinstance(result.exception, SystemExit), (shown, result.exception)
    assert result.exit_code in (0, 1, 2), shown
    assert "Traceback" not in result.output, shown
    assert result.exit_code == 0 or result.stderr or result.stdout, shown


@pytest.mark.timeout(400)
@pytest.mark.usefixtures("place")
def test_no_option_value_causes_a_traceback() -> None:
    """The telling values once for each name of an option; at night all, and the telling ones with each sub-command."""
    seen: set[tuple[str, str]] = set()
    for arguments in command_lines(scaled(TELLING, [*TELLING, *MORE])):
        if is_new(arguments, seen) or (FULL and arguments[-1] in TELLING):
            check(arguments)


def test_a_deleted_working_directory_causes_no_traceback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    for arguments in (["calls"], ["ship"], ["delete", "--older-than", "1d", "--yes"], ["run", "app.py"], ["report"]):
        check(arguments)


WRONG = [
    *((f"{command} --store foo://x", "unknown kind of store 'foo://x'")
      for command in ("ship", "delete --older-than 1d", "calls", "calls -f", "export atif --dry-run")),
    *((arguments, "Usage: callspan") for arguments in (
        "--store teapot://x calls", "calls --since yesterday-ish", "calls --limit 0", "stats --by weather",
        "show a b c", "calls --rewards --failed", "calls --follow --sort cost", "teapot", "prune", "export openai",
        "export csv --dry-run", "export openai --dry-run --meta seed", "export openai --dry-run --min-cost much",
    )),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "said"), WRONG)
@pytest.mark.usefixtures("place")
def test_wrong_usage_is_exit_code_2_and_says_what_is_wrong(arguments: str, said: str) -> None:
    answer = CliRunner().invoke(callspan, arguments.split())
    assert (answer.exit_code, answer.stdout) == (2, "")
    assert said in answer.stderr
