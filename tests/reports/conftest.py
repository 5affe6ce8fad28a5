"""Stores to report on."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from callspan import open_store
from callspan.stores import CallFilter
from callspan.view.report import write_report
from tests.datasets.conftest import World

Report = Callable[..., str]


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def report(world: World, tmp_path: Path) -> Report:
    """Write what the world holds as a page, at `report.html` of the test's directory, and return it."""
    numbers = count(1)

    def write(**which: Any) -> str:
        reader = open_store(world.write(tmp_path / f"{next(numbers)}.db"))
        target = tmp_path / "report.html"
        write_report(reader, target, CallFilter(**which))
        assert target.stat().st_mode & 0o777 == 0o600, "for nobody else"
        reader.close()
        return target.read_text(encoding="utf-8")

    return write
