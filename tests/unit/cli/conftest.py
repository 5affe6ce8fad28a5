"""Helpers: records made by hand in a real store, and the command run in this process."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from click.testing import CliRunner
from rich.console import Console, RenderableType

from callspan.cli.commands import callspan
from callspan.records import CallRecord, Record, Request, SessionRecord, Timing, decode, encode
from callspan.stores import SessionSummary
from callspan.stores.urls import find_store

START_NS = 1_795_000_000_000_000_000
SECOND = 1_000_000_000
MINUTE = 60 * SECOND


class Answer(NamedTuple):
    """What a run of the command gave."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Ask = Callable[..., Answer]


def made(call_id: str = "call-1", *, at_ns: int = START_NS, took_ns: int | None = SECOND, **fields: Any) -> CallRecord:
    """A call of gpt-5 of which nothing else is known unless it is given."""
    timing = Timing(start_ns=at_ns, duration_ns=took_ns)
    return CallRecord(**({"call_id": call_id, "timing": timing, "request": Request(model="gpt-5")} | fields))


def session(session_id: str = "session-1", **fields: Any) -> SessionRecord:
    """A session of which nothing is known unless it is given."""
    return SessionRecord(**({"session_id": session_id, "seen_ns": 1} | fields))


def summed(record: SessionRecord | None = None, **fields: Any) -> SessionSummary:
    """A session with no calls unless they are given."""
    given = {"session": record or session(), "timesteps": 0, "calls": 0, "errors": 0, "events": 0, "models": []}
    return SessionSummary(**(given | fields))


def body(value: object) -> bytes:
    """JSON as the SDKs send it."""
    return json.dumps(value, separators=(",", ":")).encode()


def keep(url: str, *records: Record) -> str:
    """Deliver records to a store as a shipper does; return its URL."""
    sink = find_store(url).sink()
    sink.open()
    sink.deliver([decode(encode(record)) for record in records])
    sink.close()
    return url


def ask(*arguments: str) -> Answer:
    """The command in this process; an exception of its own fails the test."""
    result = CliRunner().invoke(callspan, list(arguments), catch_exceptions=False)
    return Answer(result.exit_code, result.stdout, result.stderr)


def drawn(what: RenderableType, width: int = 200) -> str:
    """What a screen of this width shows of it, without colours."""
    console = Console(width=width, highlight=False, markup=False, emoji=False, color_system=None)
    with console.capture() as captured:
        console.print(what)
    return captured.get()


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("CALLSPAN_", "OTEL_", "OPENAI_", "ANTHROPIC_", "COLUMNS")):
            monkeypatch.delenv(name)


@pytest.fixture
def anywhere(tmp_path: Path) -> str:
    """The URL of a store in a file."""
    return f"sqlite:///{tmp_path}/calls.db"


@pytest.fixture
def store(tmp_path: Path) -> str:
    """The URL of a SQLite store that is not there yet."""
    return f"sqlite:///{tmp_path / 'calls.db'}"
