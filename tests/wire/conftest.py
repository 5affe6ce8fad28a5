"""Fixtures of the tests over recorded exchanges."""

from __future__ import annotations

import pytest

from tests.wire import corpus


@pytest.fixture(scope="session")
def exchanges() -> tuple[corpus.Exchange, ...]:
    """All recorded exchanges."""
    return corpus.load()
