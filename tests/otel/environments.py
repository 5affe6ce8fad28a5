"""Separate Python environments, made by `tools/environments.py`, for packages that conflict with ours."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def python_of(place: str, made_by: str) -> str:
    """The interpreter of an environment, which must be there."""
    python = ROOT / place / "bin" / "python"
    if not (ROOT / place / ".complete").exists():
        pytest.fail(f"{place} is not there; make it with: {made_by}")
    return str(python)
