"""The fuzzer finds no difference in callspan, and finds deliberate faults."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from typing import Any

import pytest

from tests.fuzz.case import Act, Answer, Case, Chunk, from_blob
from tests.fuzz.pair import Pair, compared
from tests.fuzz.sabotage import SABOTAGES
from tests.fuzz.search import search
from tests.fuzz.strategies import wires
from tests.fuzz.ways import is_streamed, reaches_a_model

pytestmark = pytest.mark.xdist_group("fuzz")
SEED = 17
CASES = 100


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    with closing(Pair()) as running:
        yield running


def test_a_hundred_cases_give_the_same_result_with_and_without_callspan(pair: Pair) -> None:
    result = search(pair, SEED, CASES)
    assert result.cases >= CASES
    assert result.calls > CASES / 4
    assert not result.found, "\n".join(
        "\n".join([*differences, f"python -m tests.fuzz --case {blob}"])
        for _, blob, differences in result.found.values()
    )


def whole(way: str, **fields: Any) -> Case:
    """A call that succeeds, its answer in one piece or event by event."""
    sdk = "anthropic" if way.startswith(("messages", "beta")) else "openai"
    if is_streamed(way):
        events = [
            f"event: {name}\ndata: {wires.as_text(payload)}\n\n" for name, payload in wires.events_of(way, "text")
        ]
        answer = Answer(
            200, [("content-type", "text/event-stream")], [Chunk(text.encode().decode("latin-1")) for text in events]
        )
    else:
        body = wires.as_text(wires.whole_of(way, "text"))
        answer = Answer(200, [("content-type", "application/json")], [Chunk(body.encode().decode("latin-1"))])
    return Case(sdk, way, **{"answers": [answer], **fields})


def failing(way: str) -> Case:
    return whole(way, answers=[Answer(error="ConnectError")])


SHOWN_BY = {
    "a chunk is read ahead": whole("chat.stream", acts=[Act("take", 1), Act("close")]),
    "the cause of an exception is lost": failing("chat.create"),
    "an exception gets a context": failing("messages.create"),
    "a header is added": whole("messages.create"),
    "the parsed body is changed": whole("chat.create"),
    "a response is not closed": whole("messages.stream", acts=[Act("take", 1), Act("close")]),
    "bytes are read at once": whole("chat.create", wrap="streaming", acts=[Act("bytes", 1)], answers=[
        Answer(200, [], [Chunk("{"), Chunk(error="ReadError")]),
    ]),
    "a record is written twice": whole("embeddings.create"),
    "a row is lost": whole("messages.create", profile="stored", wire="socket"),
    "a row is not the record": whole("chat.create", profile="lines"),
    "cancelled calls are forgotten": whole("chat.stream", colour="async", acts=[Act("take"), Act("close")]),
    "dropped streams are forgotten": whole("messages.stream", acts=[Act("next", 1), Act("drop")]),
}  # fmt: skip


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
