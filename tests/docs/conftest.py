"""Where examples run: in this environment or, at full scale, in environments installed as the pages describe."""

from __future__ import annotations

import fcntl
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from hashlib import sha256
from pathlib import Path
from typing import Final, NamedTuple

import pytest
from tests.support.launching import Stage
from tests.support.pages import ROOT, Example
from tests.support.provider import FullProvider
from tests.support.receiver import OtlpReceiver
from tests.support.scale import FULL
from tools import environments

from callspan import open_store
from callspan.stores import EmptyStoreError
from callspan.testing import ScriptedProvider

_SPANS: Final = "spans.txt"
_RECEIVER: Final = "http://localhost:4318"
"""The receiver of spans named on the pages."""
_PROLOGUE: Final = f"""\
def _count_spans():
    import atexit, pathlib
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
    memory = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(memory))
    trace.set_tracer_provider(provider)
    atexit.register(lambda: pathlib.Path({_SPANS!r}).write_text(str(len(memory.get_finished_spans()))))
_count_spans()
"""
"""Counts the spans of a Python example; those of commands arrive at the receiver."""


class Seen(NamedTuple):
    """The effects of a run."""

    calls: int
    sessions: int
    spans: int
    output: str


class Workplace(Stage):
    """A directory in which examples run, with a provider and a receiver."""

    def __init__(self, place: Path, python: Path, provider: ScriptedProvider, receiver: OtlpReceiver) -> None:
        super().__init__(place, provider, receiver)
        for name in ("PYTHONPATH", "OTEL_METRICS_EXPORTER", "OTEL_LOGS_EXPORTER", "CALLSPAN_STORES"):
            del self.environment[name]
        self.environment["PATH"] = f"{python.parent}{os.pathsep}/usr/bin{os.pathsep}/bin"
        self.environment["PYTHONWARNINGS"] = "error::DeprecationWarning:__main__"
        self.store = f"sqlite:///{place / 'callspan.db'}"
        self.python = python
        self.output = ""

    def seen(self) -> Seen:
        """Return the effects so far. A short process may end before its records are in the store."""
        counted = self.place / _SPANS
        spans = len(self.receiver.spans) + (int(counted.read_text()) if counted.exists() else 0)
        calls, sessions = len(self.calls()), 0
        with suppress(EmptyStoreError), closing(open_store(self.store)) as reader:
            sessions = len(list(reader.sessions()))
        return Seen(calls, sessions, spans, self.output)

    def play(self, run: Sequence[Example]) -> None:
        """Run Python examples as one program, or the command lines of another example; a failure fails the test."""
        if run[0].kind == "python":
            code = "\n".join(example.code for example in run)
            self._run([str(self.python), "-c", _PROLOGUE + code], code)
            return
        for example in run:
            # One shell for all lines, so that `export` has an effect; the receiver replaces a local one.
            script = "\n".join(example.commands).replace(_RECEIVER, self.receiver.url)
            self._run(["/bin/bash", "-euc", script], script)

    def forget_spans(self) -> None:
        """Restart counting the spans of a Python example."""
        (self.place / _SPANS).unlink(missing_ok=True)

    def save(self, examples: Sequence[Example]) -> None:
        """Save the files that a page tells its readers to save."""
        for example in examples:
            if "file" in example.directives:
                (self.place / example.directives["file"]).write_text(example.code)
            if example.page.parent.parent == ROOT / "examples":
                for beside in example.page.parent.glob("*.py"):
                    shutil.copy(beside, self.place)

    def _run(self, command: list[str], shown: str) -> None:
        done = self.run(*command, timeout_s=120)
        self.output += done.stdout + done.stderr
        assert done.returncode == 0, f"{shown}\nexit code {done.returncode}\n{done.stdout}{done.stderr}"
        assert "Traceback" not in done.stderr, f"{shown}\n{done.stderr}"


def copy_store(demo: str, place: Path) -> None:
    """Give a workplace the store of the demo."""
    shutil.copy(demo.removeprefix("sqlite:///"), place)


SDKS = ("openai", "anthropic")
BESIDE = ("callspan", "callspan[otlp]")
"""Requirements of services that already have the SDKs."""
FOR_TESTS = ("pytest", "websockets")
"""Requirements of readers who write tests with the scripted provider."""
ENVIRONMENTS = ROOT / ".venv-documents"


@pytest.fixture
def workplace(tmp_path: Path) -> Iterator[Callable[[Example], Workplace]]:
    """Creates the empty directory in which an example runs."""
    with FullProvider() as provider, OtlpReceiver() as receiver:
        yield lambda example: Workplace(tmp_path, _python(example.requirement), provider, receiver)


def _python(requirement: str) -> Path:
    if not FULL:
        return Path(sys.executable)
    # Editable, because the environment is kept and a copy would become stale.
    packages = [
        "-e",
        requirement.replace("callspan", str(ROOT), 1),
        *(SDKS if requirement in BESIDE else ()),
        *FOR_TESTS,
    ]
    place = ENVIRONMENTS / sha256(requirement.encode()).hexdigest()[:12]
    ENVIRONMENTS.mkdir(exist_ok=True)
    with (ENVIRONMENTS / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        environments.make(place, packages)
    return place / "bin" / "python"
