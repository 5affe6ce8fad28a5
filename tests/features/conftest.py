"""Fixtures of the checklist's tests: those of interception, and stores of real files."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

import callspan
from callspan.stores.base import Reader
from callspan.wiring import Handle
from tests.intercept.conftest import mode, provider, run, seen

__all__ = ["mode", "provider", "run", "seen"]


@pytest.fixture
def instrumented() -> Iterator[Callable[..., Handle]]:
    """Instrument as an application does; undone after the test."""
    handles: list[Handle] = []

    def instrument(**settings: Any) -> Handle:
        handles.append(callspan.instrument(**settings))
        return handles[-1]

    yield instrument
    for handle in reversed(handles):
        handle.uninstrument()


@pytest.fixture
def reading() -> Iterator[Callable[[str | Path], Reader]]:
    """Open stores for reading; closed after the test."""
    with ExitStack() as opened:
        yield lambda store: opened.enter_context(closing(callspan.open_store(str(store))))
