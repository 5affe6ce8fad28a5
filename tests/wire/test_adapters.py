"""The adapters against the oracle: every fact of every recorded exchange is read correctly."""

from __future__ import annotations

from typing import get_args

import pytest

from callspan.providers.base import Api
from tests.wire import facts, oracle, reading
from tests.wire.corpus import Exchange

CASES = [
    (api, streamed) for api in get_args(Api) for streamed in (False, True) if (api, streamed) != ("embeddings", True)
]


@pytest.mark.parametrize(("api", "streamed"), CASES)
def test_an_adapter_reads_every_fact_of_every_recorded_answer(
    api: str, streamed: bool, exchanges: tuple[Exchange, ...]
) -> None:
    """Counts each fact as right, wrong, absent or spurious; only right is allowed."""
    chosen = [each for each in exchanges if each.endpoint == api and each.stream == streamed and each.inference]
    score = facts.Score()
    for each in chosen:
        score.add(each.id, oracle.truth(each), reading.read_by_adapter(each))
    print(f"\n{api}, {len(chosen)} exchanges\n{score.report()}")
    assert not score.differences, f"\n{api}, {len(chosen)} exchanges\n{score.report()}"
