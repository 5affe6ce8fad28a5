"""The fuzzer finds no difference in callspan."""

from __future__ import annotations

from contextlib import closing

import pytest
from tests.fuzz.search import Pair, search
from tests.support.scale import scaled

SEED, CASES = 17, scaled(8, 100)


@pytest.mark.timeout(1200)  # a case that differs is made small
def test_results_are_equal_with_and_without_callspan() -> None:
    with closing(Pair()) as pair:
        search(pair, SEED, CASES)
    assert pair.ways.total() >= CASES
    assert pair.calls > CASES / 4
