"""Launching: applications as processes of their own, with what they need in their environment, and what they left."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest

from callspan import CallRecord, open_store
from callspan.stores import EmptyStoreError
from callspan.testing import ScriptedProvider
from tests.otel.receiver import OtlpReceiver, ReceivedSpan

_GIVEN: set[int] = set()
APPS = Path(__file__).with_name("apps")
BIN = Path(sys.executable).parent
ROOT = Path(__file__).resolve().parents[2]
_KEPT = ("HOME", "LANG", "TMPDIR", "COVERAGE_PROCESS_START")


class Stage:
    """A scripted provider, an OTLP receiver and a store for applications to run on."""

    def __init__(self, place: Path, provider: ScriptedProvider, receiver: OtlpReceiver) -> None:
        self.provider = provider
        self.receiver = receiver
        self.place = place
        self.store = f"sqlite:///{place / 'calls.db'}"
        self.environment = {
            **{name: os.environ[name] for name in _KEPT if name in os.environ},
            "PATH": os.pathsep.join((str(BIN), os.environ.get("PATH", ""))),
            "PYTHONPATH": str(APPS),
            "PYTHONUNBUFFERED": "1",
            "OPENAI_API_KEY": "sk-test",
            "OPENAI_BASE_URL": provider.openai_url,
            "ANTHROPIC_API_KEY": "sk-ant-test",
            "ANTHROPIC_BASE_URL": provider.anthropic_url,
            "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url,
            "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
            "OTEL_METRICS_EXPORTER": "none",
            "OTEL_LOGS_EXPORTER": "none",
            "CALLSPAN_STORES": self.store,
        }

    def run(self, *command: str, timeout_s: float = 60.0, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a command of this environment to its end."""
        return subprocess.run(
            [str(BIN / command[0]), *command[1:]],
            env={**self.environment, **environment}, cwd=self.place, capture_output=True, text=True, timeout=timeout_s,
            check=False,
        )  # fmt: skip

    @staticmethod
    def app(name: str) -> Path:
        """The path of a test application."""
        return APPS / name

    @contextmanager
    def serving(self, *command: str, **environment: str) -> Iterator[Served]:
        """Run a server in a process group of its own for the block; `{port}` in the command is a free one."""
        port = free_port()
        process = subprocess.Popen(
            [str(BIN / command[0]), *(word.format(port=port) for word in command[1:])],
            env={**self.environment, **environment}, cwd=self.place, start_new_session=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        served = Served(process, f"http://127.0.0.1:{port}")
        try:
            served.wait_until_up()
            yield served
        finally:
            served.kill()

    @property
    def spans(self) -> list[ReceivedSpan]:
        """The call spans that have arrived."""
        return [span for span in self.receiver.spans if span.scope == "callspan"]

    def calls(self) -> list[CallRecord]:
        """The records in the store, after what dead processes left has been delivered."""
        try:
            with closing(open_store(self.store, deliver=True)) as store:
                return [call for call in store.calls() if call.outcome != "in_progress"]
        except EmptyStoreError:
            return []

    def calls_of_the_killed(self, wanted: int, timeout_s: float = 10.0) -> list[CallRecord]:
        """The records as soon as there are so many: a killed process holds its files until the system has ended it."""
        deadline = time.monotonic() + timeout_s
        while len(calls := self.calls()) < wanted and time.monotonic() < deadline:
            time.sleep(0.1)
        return calls


class Served:
    """A running server."""

    def __init__(self, process: subprocess.Popen[str], url: str) -> None:
        self.process = process
        self.url = url

    def get(self, path: str) -> str:
        """The body of one GET."""
        with urllib.request.urlopen(self.url + path, timeout=20) as response:
            return str(response.read().decode())

    def get_all(self, paths: list[str]) -> list[str]:
        """The bodies of several, asked at once."""
        with ThreadPoolExecutor(8) as pool:
            return list(pool.map(self.get, paths))

    def wait_until_up(self, timeout_s: float = 30.0) -> None:
        """Return when the server answers; fail with what it has said if it does not."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                self.get("/process")
            except urllib.error.HTTPError:
                return
            except OSError:
                time.sleep(0.05)
            else:
                return
        self.kill()
        raise AssertionError(f"the server did not come up:\n{self.process.communicate()[0]}")

    def stop(self, signal_number: int = signal.SIGTERM) -> str:
        """End the server by a signal to its master and return what it said."""
        self.process.send_signal(signal_number)
        output, _ = self.process.communicate(timeout=30)
        return output

    def kill(self) -> None:
        """End whatever is left of the process group."""
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            return
        self.process.communicate(timeout=30)


def free_port() -> int:
    """A port of loopback that nobody listens at, below those that systems give to clients while one starts.

    Never the same twice. Of the system's randomness: pytest-randomly gives the tests of all workers the same numbers.
    """
    for port in random.SystemRandom().sample(range(20_000, 32_000), 100):
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            if port not in _GIVEN:
                _GIVEN.add(port)
                return port
    raise OSError("no port is free")


def python_of(place: str, made_by: str) -> str:
    """The interpreter of a separate environment, for packages that conflict with ours; it must be there."""
    python = ROOT / place / "bin" / "python"
    if not (ROOT / place / ".complete").exists():
        pytest.fail(f"{place} is not there; make it with: {made_by}")
    return str(python)
