"""The fuzzer finds no difference in callspan, and finds deliberate faults."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.fuzz.case import Act, from_blob
from tests.fuzz.pair import Pair, compared
from tests.fuzz.sabotage import SABOTAGES
from tests.fuzz.search import SEED, search
from tests.fuzz.shown import SHOWN_BY, whole
from tests.fuzz.ways import reaches_a_model

pytestmark = pytest.mark.xdist_group("fuzz")
CASES = 100


def test_a_hundred_cases_give_the_same_result_with_and_without_callspan(pair: Pair) -> None:
    result = search(pair, SEED, CASES)
    assert result.cases >= CASES
    assert result.calls > CASES / 4
    assert not result.found, "\n".join(
        "\n".join([*differences, f"python -m tests.fuzz --case {blob}"])
        for _, blob, differences in result.found.values()
    )


def test_every_fault_has_a_case_that_shows_it() -> None:
    assert set(SHOWN_BY) == set(SABOTAGES)


@pytest.mark.parametrize("fault", sorted(SABOTAGES))
def test_a_fault_put_into_callspan_is_found(fault: str, pair: Pair) -> None:
    case = SHOWN_BY[fault]
    assert pair.differences(case) == []
    assert pair.differences(replace(case, sabotage=fault))
    assert pair.differences(case) == []


def test_a_bare_side_that_knows_callspan_would_be_found() -> None:
    assert compared({"callspan": True}, {}) == ["the bare side has imported callspan"]


def test_a_case_is_printed_completely_by_its_blob() -> None:
    case = whole("messages.helper", colour="async", cancel=True, acts=[Act("raise", 2)])
    assert from_blob(case.blob()) == case
    with pytest.raises(ValueError, match="not the blob of a case"):
        from_blob("AAAA")


@pytest.mark.parametrize(
    ("method", "url", "is_one"),
    [
        ("post", "/chat/completions", True), ("post", "/v1/messages?beta=true", True),
        ("get", "/responses/resp_1", False),
        ("post", "/v1/messages/count_tokens", False), ("post", "/moderations", True), ("post", "/responses", True),
    ],
)  # fmt: skip
def test_which_requests_reach_a_model(method: str, url: str, is_one: bool) -> None:
    assert reaches_a_model(method, url) == is_one
