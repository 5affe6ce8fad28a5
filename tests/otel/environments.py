"""Separate Python environments, made by `tools/environments.py`, for packages that conflict with ours."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def python_of(place: str, made_by: str) -> str:
    """The interpreter of an environment; without it the test is skipped, or fails where skips are failures."""
    python = ROOT / place / "bin" / "python"
    if not (ROOT / place / ".complete").exists():
        missing = f"{place} is not there; make it with: {made_by}"
        if os.environ.get("CALLSPAN_REQUIRE_ENVIRONMENTS"):
            pytest.fail(missing)
        pytest.skip(missing)
    return str(python)
