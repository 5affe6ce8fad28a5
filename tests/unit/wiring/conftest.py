"""A process in which nothing is instrumented; what a test installs is removed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import callspan
from callspan import open_store
from callspan.fail_open import forget_failures
from callspan.wiring import WIRING


def stored(url: str) -> set[str]:
    """The ids of the calls in a store."""
    reader = open_store(url)
    found = {call.call_id for call in reader.calls()}
    reader.close()
    return found


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    for name in list(os.environ):
        if name.startswith(("CALLSPAN_", "OTEL_", "OPENAI_", "ANTHROPIC_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    # An exporter's stores stay for the life of a process; one that never answers would hold up every later flush.
    monkeypatch.setattr(WIRING, "_exporter_stores", ())
    monkeypatch.setattr(WIRING, "_exporter", None)
    callspan.uninstrument()
    forget_failures()
    yield
    callspan.uninstrument()
    forget_failures()


@pytest.fixture
def store(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'calls.db'}"


@pytest.fixture
def other(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'other.db'}"
