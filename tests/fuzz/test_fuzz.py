"""The fuzzer finds no difference in callspan."""

from __future__ import annotations

from contextlib import closing

from tests.fuzz.search import Pair, search

SEED, CASES = 17, 100


def test_a_hundred_cases_give_the_same_result_with_and_without_callspan() -> None:
    with closing(Pair()) as pair:
        result = search(pair, SEED, CASES)
    assert result.cases >= CASES
    assert result.calls > CASES / 4
    assert not result.found, "\n".join(
        "\n".join([*differences, f"python -m tests.fuzz --case {blob}"])
        for _, blob, differences in result.found.values()
    )
