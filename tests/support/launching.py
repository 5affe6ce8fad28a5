"""Launching: applications as processes of their own, with what they need in their environment, and what they left."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest
from tests.support.processes import ROOT
from tests.support.receiver import OtlpReceiver, ReceivedSpan
from tests.support.waiting import HANG_S, until

from callspan import CallRecord, open_store
from callspan.stores import EmptyStoreError
from callspan.testing import ScriptedProvider

_GIVEN: set[int] = set()
BIN = Path(sys.executable).parent
APPS = ROOT / "tests" / "otel" / "apps"
_KEPT = ("HOME", "XDG_STATE_HOME", "LANG", "TMPDIR", "COVERAGE_PROCESS_START")


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
            "PYTHONPATH": os.pathsep.join((str(APPS), str(ROOT))),
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

    def run(self, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(BIN / command[0]), *command[1:]],
            env={**self.environment, **environment}, cwd=self.place, capture_output=True, text=True, timeout=HANG_S,
            check=False,
        )  # fmt: skip

    @contextmanager
    def serving(self, *command: str, **environment: str) -> Iterator[Served]:
        """Run a server in a process group of its own for the block; `{port}` in the command is a free one."""
        port, log = free_port(), self.place / "said"
        words = [str(BIN / command[0]), *(word.format(port=port) for word in command[1:])]
        url = f"http://127.0.0.1:{port}"
        with running(words, log, lambda: answers(f"{url}/process"), self.environment | environment) as process:
            yield Served(process, url, log)

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

    def calls_of_the_killed(self, wanted: int) -> list[CallRecord]:
        """The records as soon as there are so many: a killed process holds its files until the system has ended it."""
        until(lambda: len(self.calls()) >= wanted, self.calls)
        return self.calls()


class Served:
    """A running server."""

    def __init__(self, process: subprocess.Popen[bytes], url: str, log: Path) -> None:
        self.process = process
        self.url = url
        self._log = log

    def get(self, path: str) -> str:
        with urllib.request.urlopen(self.url + path, timeout=HANG_S) as response:
            return str(response.read().decode())

    def get_all(self, paths: Sequence[str]) -> list[str]:
        """The bodies of several, asked at once."""
        with ThreadPoolExecutor(8) as pool:
            return list(pool.map(self.get, paths))

    def leave(self, path: str, body: object = None) -> None:
        """Ask, with a body as JSON if there is one, and go away while the first of many words come."""
        sent = b"" if body is None else json.dumps(body).encode()
        head = f"{'GET' if body is None else 'POST'} {path} HTTP/1.1\r\nHost: here\r\nContent-Length: {len(sent)}\r\n"
        host, _, port = self.url.removeprefix("http://").partition(":")
        with socket.create_connection((host, int(port)), HANG_S) as browser:
            browser.sendall(f"{head}Content-Type: application/json\r\n\r\n".encode() + sent)
            while b"word" not in browser.recv(4096):
                pass

    def stop(self, signal_number: int = signal.SIGTERM) -> str:
        """End the server by a signal to its master and return what it said."""
        self.process.send_signal(signal_number)
        self.process.wait(timeout=HANG_S)
        return self._log.read_text()


@contextmanager
def running(
    command: Sequence[str], log: Path, is_up: Callable[[], bool], env: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program in the directory of its log for the block, from when it is up; its process group ends with it."""
    with log.open("ab") as said:
        process = subprocess.Popen(command, env=env, cwd=log.parent, stdout=said, stderr=said, start_new_session=True)
    try:
        until(lambda: process.poll() is not None or is_up(), log.read_text)
        assert process.poll() is None, f"{command[0]} did not come up:\n{log.read_text()}"
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(timeout=HANG_S)


def answers(url: str) -> bool:
    """Whether a server answers there, whatever it says."""
    try:
        urllib.request.urlopen(url, timeout=HANG_S).close()
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True


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


def python_of(environment: str) -> str:
    """The interpreter of a separate environment, for packages that conflict with ours; it must be there."""
    place = ROOT / f".venv-{environment}"
    if not (place / ".complete").exists():
        pytest.fail(f"{place} is not there; make it with: python tools/environments.py {environment.partition('/')[0]}")
    return str(place / "bin" / "python")
