"""A search finds each fault that is put into callspan, not only the case that was made for it."""

from __future__ import annotations

import pytest

from tests.fuzz.pair import Pair
from tests.fuzz.sabotage import SABOTAGES
from tests.fuzz.search import SEED, search
from tests.fuzz.shown import SHOWN_BY


@pytest.mark.timeout(600)
@pytest.mark.parametrize("fault", sorted(SABOTAGES))
def test_a_fault_put_into_callspan_is_found_by_searching(fault: str, pair: Pair) -> None:
    """The rarest fault shows in one case of 120."""
    assert pair.differences(SHOWN_BY[fault]) == []  # no fault of another test is still there
    assert search(pair, SEED, 1500, sabotage=fault, first=True).found
