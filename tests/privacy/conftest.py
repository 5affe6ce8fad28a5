"""Fixtures: a scripted provider."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from callspan.testing import ScriptedProvider


@pytest.fixture
def provider() -> Iterator[ScriptedProvider]:
    with ScriptedProvider() as running:
        yield running
