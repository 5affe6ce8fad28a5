"""Helpers: sums made by hand, what a screen shows, and a process without settings."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console, RenderableType

from callspan.records import SessionRecord
from callspan.stores import SessionSummary
from tests.records import session


def summed(record: SessionRecord | None = None, **fields: Any) -> SessionSummary:
    """A session with no calls unless they are given."""
    given = {"session": record or session(), "timesteps": 0, "calls": 0, "errors": 0, "events": 0, "models": []}
    return SessionSummary(**(given | fields))


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
