"""Fixtures: the demo's store, two ways to run the command, and those of interception with stores of real files."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from click.testing import CliRunner

import callspan as package
from callspan import Handle
from callspan.stores import Reader
from tests.commands import Answer, callspan
from tests.commands import ask as in_process
from tests.intercept import sdks
from tests.intercept.conftest import mode, run, seen, wire
from tests.otel.receiver import OtlpReceiver

__all__ = ["Answer", "in_process", "mode", "run", "seen", "wire"]

ROOT = Path(__file__).parents[2]
VOICE_CALLS = 2 if find_spec("websockets") and sdks.version("websockets") >= (15,) and sdks.OPENAI >= (2, 30) else 0
"""Calls of the demo by voice: what the user says, and the answer."""
SPOKEN = ("chat gpt-realtime", "generate_content whisper-1")
"""Names of their spans."""
DEMO_SPANS = 105 + VOICE_CALLS


Instrument = Callable[..., Handle]
Read = Callable[[str | Path], Reader]


class Demo(NamedTuple):
    """One run of `callspan demo` in a directory of its own."""

    directory: Path

    @property
    def store(self) -> str:
        return f"sqlite:///{self.directory / 'callspan.db'}"


def plain_environment(**more: str) -> dict[str, str]:
    """The environment without settings of callspan, OpenTelemetry or the SDKs."""
    ours = ("CALLSPAN_", "OTEL_", "OPENAI_", "ANTHROPIC_", "COLUMNS", "PYTHONPATH")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)} | more


def in_its_own(*arguments: str, cwd: Path, env: Mapping[str, str] | None = None) -> Answer:
    """The command as people start it."""
    done = subprocess.run(
        [sys.executable, "-m", "callspan.cli", *arguments],
        cwd=cwd,
        env=plain_environment(**(env or {})),
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    return Answer(done.returncode, done.stdout, done.stderr)


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in set(os.environ) - set(plain_environment()):
        monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    made = Demo(tmp_path_factory.mktemp("demo"))
    settings = dict.fromkeys(set(os.environ) - set(plain_environment()))
    result = CliRunner().invoke(
        callspan, ["--store", made.store, "demo", "--json"], catch_exceptions=False, env=settings
    )
    assert (result.exit_code, result.stderr) == (0, "")
    return made


@pytest.fixture
def ask(demo: Demo) -> Any:
    """Ask the command about the demo's store."""

    def ask(*arguments: str) -> Answer:
        return in_process("--store", demo.store, *arguments)

    return ask


@pytest.fixture
def receiver() -> Iterator[OtlpReceiver]:
    with OtlpReceiver() as running:
        yield running


@pytest.fixture
def instrumented() -> Iterator[Instrument]:
    """Instrument as an application does; undone after the test."""
    handles: list[Handle] = []

    def instrument(**settings: Any) -> Handle:
        handles.append(package.instrument(**settings))
        return handles[-1]

    yield instrument
    for handle in reversed(handles):
        handle.uninstrument()


@pytest.fixture
def reading() -> Iterator[Read]:
    """Open stores for reading; closed after the test."""
    with ExitStack() as opened:
        yield lambda store: opened.enter_context(closing(package.open_store(str(store))))


PROGRAM = """
import os, sys, callspan
handle = callspan.instrument(stores=sys.argv[1])
with callspan.session("s", session_id="one"):
    for number in range(int(sys.argv[2])):
        with callspan.record_call(provider="mine", model="m") as call:
            call.request({"model": "m", "messages": [{"role": "user", "content": "Hi"}]})
            call.response({"choices": [{"message": {"role": "assistant", "content": f"Hello {number}"}}]})
if sys.argv[3] == "wait":
    print("ready", flush=True)
    sys.stdin.read()
if sys.argv[3] == "kill":
    os.kill(os.getpid(), 9)
"""


def start(stores: str, count: int, end: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", PROGRAM, stores, str(count), end]
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )


def killed(stores: str, count: int = 3) -> None:
    process = start(stores, count, "kill")
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
