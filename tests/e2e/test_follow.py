"""`callspan calls --follow` shows calls as they finish."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest

import callspan
from callspan.testing import ScriptedProvider

from .conftest import plain_environment
from .test_backlog import killed


@pytest.fixture
def following(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """`calls --follow` of a store that holds one call."""
    ask(tmp_path, "Before?")
    # A shell that runs the tests in the background may ignore SIGINT, which children inherit.
    start = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from callspan.cli import main; main()"
    )
    command = [sys.executable, "-c", start, "calls", "--follow", "--json"]
    with subprocess.Popen(
        command, cwd=tmp_path, env=plain_environment(PYTHONUNBUFFERED="1"), stdout=subprocess.PIPE, text=True
    ) as process:
        yield process
        if process.poll() is None:
            process.kill()


def ask(directory: Path, question: str) -> None:
    """One call, recorded and delivered."""
    handle = callspan.instrument(stores=f"sqlite:///{directory}/callspan.db", spool_dir=directory / "spool")
    with ScriptedProvider() as provider:
        provider.reply(f"Answer to {question} \x1b[31m")
        with openai.OpenAI(base_url=provider.openai_url, api_key="any") as client:
            client.responses.create(model="gpt-5", input=question)
    assert handle.force_flush(20_000)
    handle.uninstrument()


def test_calls_show_as_they_finish_until_it_is_interrupted(following: subprocess.Popen[str], tmp_path: Path) -> None:
    assert following.stdout is not None
    assert json.loads(following.stdout.readline())["output"].startswith("Answer to Before?")
    for question in ("One?", "Two?"):
        ask(tmp_path, question)
        line = following.stdout.readline()
        assert "\x1b" not in line
        assert json.loads(line)["output"].startswith(f"Answer to {question}")
    os.kill(following.pid, signal.SIGINT)
    assert following.wait(20) == 0


def test_what_killed_processes_leave_meanwhile_shows_too(tmp_path: Path) -> None:
    """Also where nothing but a spool was there at the beginning."""
    store = f"sqlite:///{tmp_path}/callspan.db"
    killed(store, 1)
    command = [sys.executable, "-m", "callspan.cli", "--store", store, "calls", "--follow", "--json"]
    with subprocess.Popen(
        command, cwd=tmp_path, env=plain_environment(PYTHONUNBUFFERED="1"), stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            assert json.loads(process.stdout.readline())["output"] == "Hello 0"
            killed(store, 2)
            assert [json.loads(process.stdout.readline())["output"] for _ in range(2)] == ["Hello 0", "Hello 1"]
        finally:
            process.kill()
