"""What all tests share: how long property tests search, and a heap of which only the new part is looked through."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from tests.logs import nothing_is_warned_of

settings.register_profile(
    "quick", max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
settings.register_profile("thorough", settings.get_profile("quick"), max_examples=100)
settings.load_profile(os.environ.get("CALLSPAN_PROPERTIES", "quick"))


def pytest_collection_finish() -> None:
    """Leave what is imported and collected out of every later collection.

    Many tests ask for one; each took half a second of looking through what cannot be garbage.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture
def nothing_warned() -> Iterator[list[str]]:
    """Fail the test if anybody warns of anything while it runs; what was heard so far."""
    with nothing_is_warned_of() as heard:
        yield heard
