"""The command's output: closed pipes, Ctrl-C, colours, narrow terminals."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support.processes import plain_environment
from tests.support.records import keep, made, session
from tests.support.scale import scaled

from callspan.records import Place, Response, Stream

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
        while True:
            try:
                piece = os.read(main, 65536)
            except OSError:  # the terminal's other end is closed
                break
            if not piece:
                break
            written += piece
        process.wait(60)
    os.close(main)
    return written.decode()


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_a_closed_output_pipe_ends_the_command_silently(directory: Path, options: list[str]) -> None:
    with subprocess.Popen(
        [*COMMAND, "calls", "--limit", "3000", *options],
        cwd=directory,
        # Unbuffered, Python itself forgets what a pipe did not take.
        env=plain_environment(PYTHONUNBUFFERED=""),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.read(10)
        process.stdout.close()
        stderr = process.stderr.read()
        assert (process.wait(60), stderr) == (141, b"")


def test_an_interrupt_is_exit_code_130(directory: Path) -> None:
    # A shell that runs the tests in the background may ignore SIGINT, which children inherit.
    start = (
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "from callspan.cli import stats; import click;"
        "stats.stats_command.callback = lambda **_: (print('here', flush=True), signal.pause());"
        "from callspan.cli import main; main()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", start, "stats"],
        cwd=directory,
        env=plain_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "here\n"
        process.send_signal(signal.SIGINT)
        assert (process.wait(60), process.stderr.read()) == (130, "")


def test_colours_are_for_terminals_that_want_them(directory: Path) -> None:
    assert "\x1b[36m" in on_a_terminal(directory, "calls", "--limit", "3")
    assert "\x1b[36m" not in on_a_terminal(directory, "calls", "--limit", "3", NO_COLOR="1")


def test_what_was_cut_or_cancelled_is_marked_and_a_session_with_it_is_no_plain_success(tmp_path: Path) -> None:
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


@pytest.mark.parametrize("columns", scaled(["40", "200"], ["40", "60", "80", "200"]))
def test_no_line_is_wider_than_the_terminal(directory: Path, columns: str) -> None:
    for arguments in (["calls", "--limit", "3"], ["stats"], ["sessions"], ["show", "call-00001"]):
        shown = on_a_terminal(directory, *arguments, NO_COLOR="1", TERM="dumb", COLUMNS=columns)
        if arguments != ["sessions"]:  # says on stderr that there are none, in one line
            assert max(len(line.rstrip("\r")) for line in shown.split("\n")) <= int(columns)
