"""A process without settings."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _no_settings(no_settings: None) -> None:
    """Every test of the command."""
