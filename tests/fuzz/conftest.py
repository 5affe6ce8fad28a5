"""Two processes that run the same calls, with and without callspan."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest

from tests.fuzz.pair import Pair


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    with closing(Pair()) as running:
        yield running
