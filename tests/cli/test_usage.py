"""Usage: options, help, exit codes, pipes, terminals; no argument makes the command fail with a traceback."""

from __future__ import annotations

import json
import os
import pty
import re
import shlex
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any
from zlib import crc32

import click
import openai
import pytest
from click.testing import CliRunner
from tests.support.commands import Answer, ask, callspan, in_its_own
from tests.support.left_behind import end_instrumentation
from tests.support.processes import plain_environment, ran
from tests.support.records import START_NS, keep, made, session
from tests.support.scale import FULL, scaled
from tests.support.waiting import HANG_S

from callspan.records import Place, Response, Stream, encode

DATA: dict[str, Any] = json.loads(Path(__file__).with_name("usage.json").read_text())


def without_click(place: Path, *arguments: str) -> Answer:
    """The command in a process that can import neither click nor rich, nor can those it starts."""
    hidden = place / "hidden"
    hidden.mkdir()
    for name in ("click", "rich"):
        (hidden / f"{name}.py").write_text(f"raise ModuleNotFoundError('No module named {name}', name={name!r})")
    return in_its_own(*arguments, cwd=place, env={"PYTHONPATH": str(hidden)})


def test_application_runs_without_click(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text("import os, sys; print(os.environ['CALLSPAN_STORES'], sys.argv[1:]); sys.exit(7)")
    answer = without_click(tmp_path, "run", "--json", "--store", "calls.jsonl", "--", "app.py", "--store", "--", "-x")
    assert answer == (
        7,
        f"jsonl:///{tmp_path}/calls.jsonl ['--store', '--', '-x']\n",
        "callspan: recording to calls.jsonl; to see it: callspan --store calls.jsonl calls;"
        " if nothing is there: callspan --store calls.jsonl doctor\n"
        "callspan: no call recorded by this process\n",
    )


@pytest.mark.parametrize(
    "arguments", [[], ["calls"], ["--help"], ["--json", "show", "run"], ["runs"], ["--stor", "run"]]
)
def test_commands_without_click_name_the_extra(tmp_path: Path, arguments: list[str]) -> None:
    answer = without_click(tmp_path, *arguments)
    assert (answer.code, answer.out) == (1, "")
    expected = 'The callspan command needs click: pip install "callspan[cli]" (`callspan run` works without it)\n'
    assert answer.err == expected


@pytest.mark.parametrize("name", ["a,b", "a?b"])
def test_run_rejects_a_path_that_variables_cannot_hold(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / name)
    answer = ask("run", "--store", "sqlite:///calls.db", "nothing.py")
    assert (answer.code, f"{name}/calls.db has a comma or a question mark" in answer.err) == (2, True)


@pytest.mark.parametrize(("arguments", "expected"), DATA["wrong usage of run"])
def test_run_usage_error_exits_with_2(arguments: list[str], expected: str) -> None:
    answer = ask("run", *arguments)
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.startswith("usage: callspan run [OPTIONS] APP [ARGS]...\n")
    assert expected in answer.err
    assert "\x00" not in answer.err


def test_help_fits_a_screen_and_starts_with_examples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    (tmp_path / "mine.json").touch()
    context = click.Context(callspan)
    for name in callspan.list_commands(context):
        command = callspan.get_command(context, name)
        lines = ask(name, "--help").out.splitlines()
        assert len(lines) <= 25, name
        if name == "run":  # parses its own arguments
            continue
        examples = [shlex.split(line.split("   ")[0]) for line in lines[2:4]]
        for words in (example[example.index(name) + 1 :] for example in examples):
            command.make_context(name, words, resilient_parsing=False)


LONG = "x" * 100_000
TELLING = [*DATA["telling values"], LONG, "9" * 5000]
MORE = [*DATA["more values"], f"sqlite:///{LONG}.db", f"unix:///{'s' * 300}"]
FIRST = {
    "delete": ["--older-than", "9000d", "--yes"], "export": ["openai", "--dry-run"],
    "replay": ["nobody"], "report": ["-o", "page.html"], "demo": ["--live"],
}  # fmt: skip
"""What each needs besides, so that the option under test is what decides."""


@pytest.fixture(scope="module", autouse=True)
def _nothing_is_served() -> Iterator[None]:
    """A port that is taken ends `view` and `receive`, which would serve until they are interrupted."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        FIRST["view"] = FIRST["receive"] = ["--port", str(taken.getsockname()[1])]
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
        yield from ((name, one) for one in command.params if not (isinstance(one, click.Option) and one.is_flag))


def command_lines(values: list[str]) -> Iterator[list[str]]:
    for name, parameter in options():
        for value in values:
            first = FIRST.get(name, [])
            if isinstance(parameter, click.Argument):
                yield [name, *first[1:], "--", value]
            elif name not in {"view", "receive"} or (parameter.opts[-1], value) != ("--port", "0"):  # a free port
                yield [name, *first, parameter.opts[-1], value]
    for value in values:
        yield from (["--store", value, "calls"], [value], [f"--{value}", "calls"], ["calls", f"--{value}"])


def check(arguments: list[str]) -> None:
    result = CliRunner().invoke(callspan, arguments)
    shown = [word[:60] for word in arguments]
    assert result.exception is None or isinstance(result.exception, SystemExit), (shown, result.exception)
    assert result.exit_code in (0, 1, 2), shown
    assert "Traceback" not in result.output, shown
    assert result.exit_code == 0 or result.stderr or result.stdout, shown


@pytest.mark.usefixtures("place")
def test_option_values_never_cause_a_traceback() -> None:
    """An eighth of the telling values for each name of an option; at night all, the telling ones by sub-command."""
    seen = set[tuple[str, ...]]()
    for arguments in command_lines(scaled(TELLING, [*TELLING, *MORE])):
        option_and_value = (*arguments[-2:],)
        if option_and_value not in seen or (FULL and arguments[-1] in TELLING):
            seen.add(option_and_value)
            if FULL or crc32(repr(option_and_value).encode()) % 8 == 0:
                check(arguments)
    end_instrumentation()  # of the demo, whose process is this one here


def test_deleted_working_directory_causes_no_traceback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    for arguments in (["calls"], ["ship"], ["delete", "--older-than", "1d", "--yes"], ["run", "app.py"], ["report"]):
        check(arguments)


@pytest.mark.parametrize(("arguments", "said"), DATA["wrong usage"])
@pytest.mark.usefixtures("place")
def test_usage_error_exits_with_2_and_explains(arguments: str, said: str) -> None:
    answer = CliRunner().invoke(callspan, arguments.split())
    assert (answer.exit_code, answer.stdout) == (2, "")
    assert said in answer.stderr


def test_json_keys_are_stable(demo: str) -> None:
    assert set(ask("--store", demo, "calls", "--limit", "1", "--json").json[0]) == set(DATA["keys of a call"])


@pytest.mark.parametrize(
    "command", ["sessions", "calls", "show x", "stats", "delete --older-than 1d --yes", "delete --user u"]
)
def test_missing_store_is_a_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    monkeypatch.chdir(tmp_path)
    answer = ask(*command.split())
    assert (answer.code, answer.out) == (1, "")
    assert "callspan.db" in answer.err
    assert "Traceback" not in answer.err
    assert "callspan doctor" in answer.err
    assert "--store" in answer.err
    assert not list(tmp_path.iterdir())


def test_directory_is_not_a_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("callspan.db", "demo.db", "calls.jsonl"):
        Path(name).mkdir()
    for command in ("calls", "view", "demo", "import calls.db --into callspan.db", "import calls.jsonl"):
        keep("sqlite:///calls.db", made())
        answer = ask(*command.split())
        assert (answer.code, "is a directory: name a file" in answer.err) == (1, True), command


def test_reading_command_ignores_invalid_environment(tmp_path: Path) -> None:
    answer = in_its_own("calls", cwd=tmp_path, env={"CALLSPAN_MEDIA": "carrier pigeon"})
    assert (answer.code, "no such file" in answer.err) == (1, True), "the command itself has run"


def test_only_readable_stores_of_the_environment_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CALLSPAN_STORES", "teapot://u:pass/word-8@h/db,b.db")
    answer = ask("calls")
    assert (answer.code, "teapot" in answer.err, "b.db: there is no such file" in answer.err) == (1, True, True)
    monkeypatch.setenv("CALLSPAN_STORES", "teapot://u:pass/word-8@h/db")
    refused = ask("calls")
    assert (refused.code, "teapot" in refused.err) == (2, True), "no other store is read instead"
    assert "word-8" not in answer.err + refused.err


def test_version_equals_the_package() -> None:
    assert ask("--version").out == f"callspan {metadata.version('callspan')}\n"


def test_doctor_reports_sdks_hooks_and_store(demo: str) -> None:
    answer = ask("--store", demo, "doctor", "--json")
    assert answer.code == 0
    found = {(check["area"], check["name"]): check for check in answer.json["checks"]}
    hooks = {}
    for sdk in ("openai", "anthropic", "http"):
        check = found["SDKs", sdk]
        assert check["state"] == "ok"
        set_ = re.search(r", (\d+) of \1 hooks can be set$", check["detail"])
        assert set_
        hooks[sdk] = int(set_[1])
    more = hooks["openai"] > hooks["anthropic"]
    assert more == hasattr(openai.OpenAI, "webhooks"), "those of websockets and webhooks are looked at too"
    store = found["stores", demo]
    assert (store["state"], store["detail"]) == ("ok", "can be written")


COMMAND = [sys.executable, "-m", "callspan.cli"]


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a store of 3,000 calls: more than a pipe holds."""
    place = tmp_path_factory.mktemp("many")
    calls = [made(f"call-{at:05}", at_ns=at + 1, took_ns=None) for at in range(3000)]
    keep(f"sqlite:///{place / 'callspan.db'}", *calls)
    return place


def on_a_terminal(directory: Path, *arguments: str, **environment: str) -> str:
    """What the command writes to a terminal of 80 columns and 24 lines."""
    main, terminal = pty.openpty()
    env = plain_environment(**({"COLUMNS": "80", "LINES": "24", "TERM": "xterm"} | environment))
    with subprocess.Popen(
        [*COMMAND, *arguments], cwd=directory, env=env, stdin=terminal, stdout=terminal, stderr=terminal
    ) as process:
        os.close(terminal)
        written = b""
        with suppress(OSError):  # the terminal's other end is closed
            while piece := os.read(main, 65536):
                written += piece
        process.wait(HANG_S)
    os.close(main)
    return written.decode()


@pytest.mark.parametrize(
    ("command", "first_said"),
    [
        ("calls --limit 3000", b""),
        ("calls --json --limit 3000", b""),
        ("--store sqlite:///demo.db demo", b"Agents play in a small grid world"),
    ],
)
def test_closed_output_pipe_ends_the_command_silently(directory: Path, command: str, first_said: bytes) -> None:
    """The demo says what it does before it plays; of the pipe nobody says anything."""
    with subprocess.Popen(
        [*COMMAND, *command.split()],
        cwd=directory,
        # Unbuffered, Python itself forgets what a pipe did not take.
        env=plain_environment(PYTHONUNBUFFERED=""),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout.read(10)
        process.stdout.close()
        stderr = process.stderr.read()
        assert process.wait(HANG_S) == 141
        assert stderr.startswith(first_said)
        assert stderr.count(b"\n") == bool(first_said)


@pytest.mark.parametrize(("closed", "command"), [(1, "calls"), (2, "show x"), (0, "delete --call call-00001")])
def test_closed_standard_stream_is_none(directory: Path, closed: int, command: str) -> None:
    done = subprocess.run(
        ["sh", "-c", f'exec "$@" {closed}>&-', "sh", *COMMAND, *command.split()],
        cwd=directory, env=plain_environment(), capture_output=True, text=True, check=False, timeout=HANG_S,
    )  # fmt: skip
    assert (done.returncode, "Traceback" in done.stderr) == ({0: 2, 1: 0, 2: 1}[closed], False), done.stderr


def test_interrupt_exits_with_130(directory: Path) -> None:
    # A shell that runs the tests in the background may ignore SIGINT, which children inherit.
    start = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "from callspan.cli import main, stats;"
        "stats.stats_command.callback = lambda **_: signal.raise_signal(signal.SIGINT);"
        "main()"
    )
    assert ran("-c", start, "stats", cwd=directory, code=130).stderr == ""


def test_progress_shows_a_bar(directory: Path) -> None:
    assert "\x1b[?25l" not in on_a_terminal(directory, "reprice", "--dry-run", "--model", "none"), "nothing to do"
    assert "\x1b[?25l" in on_a_terminal(directory, "reprice", "--dry-run")


def test_colours_follow_the_terminal(directory: Path) -> None:
    assert "\x1b[36m" in on_a_terminal(directory, "calls", "--limit", "3")
    assert "\x1b[36m" not in on_a_terminal(directory, "calls", "--limit", "3", NO_COLOR="1")


def test_cut_and_cancelled_calls_are_marked(tmp_path: Path) -> None:
    cut, place = Response(finish_reasons=["max_tokens"]), Place(session_id="s")
    keep(
        f"sqlite:///{tmp_path}/callspan.db",
        made("a", response=cut, place=place), made("b", stream=Stream(end="cut_off"), place=place),
        made("c", outcome="cancelled", place=place), session("s", outcome="success"),
        made("d", place=Place(session_id="whole")), session("whole", outcome="success"),
        made("e", response=Response(unrecognized=True)),
    )  # fmt: skip
    yellow, green = "\x1b[33m", "\x1b[32m"
    commands = (["calls"], ["sessions"], ["show", "s"], ["show", "a"])
    calls, sessions, tree, call = (on_a_terminal(tmp_path, *command, COLUMNS="120") for command in commands)
    for mark in ("cut by length", "cut off", "cancelled"):
        assert f"{yellow}{mark}" in calls
        assert f"{yellow}, 1 {mark}" in tree
    assert f"{green}success, not recognized" in calls
    assert re.search(rf"whole\S*\s+{re.escape(green)}success", sessions)
    assert f"{yellow}success, 1 cut by length, 1 cut off, 1 cancelled" in sessions
    assert "cut by length" in call


def test_message_leaves_a_path_whole_on_any_screen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / ("a-directory-" * 12) / "b.jsonl"
    path.parent.mkdir()
    (path.parent / "b.jsonl").write_bytes(encode(made()) + b"\n")
    shown = on_a_terminal(tmp_path, "import", str(path), COLUMNS="40", TERM="dumb")
    monkeypatch.chdir(tmp_path)
    without = ask("import", str(path)).out
    for out, width in ((shown.replace("\r", ""), 40), (without, 100)):
        assert f"{path}:\n" in out
        assert max(len(line) for line in out.split("\n") if str(path) not in line) <= width
    assert "1 call" in without


@pytest.mark.parametrize("columns", scaled(["40", "200"], ["40", "60", "80", "200"]))
def test_lines_fit_the_terminal(directory: Path, columns: str) -> None:
    for arguments in (["calls", "--limit", "3"], ["stats"], ["sessions"], ["show", "call-00001"]):
        shown = on_a_terminal(directory, *arguments, NO_COLOR="1", TERM="dumb", COLUMNS=columns)
        if arguments != ["sessions"]:  # says on stderr that there are none, in one line
            assert max(len(line.rstrip("\r")) for line in shown.split("\n")) <= int(columns)
