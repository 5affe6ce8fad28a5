"""The versions of a background response's call make one record, in whatever order and however often they come."""

from __future__ import annotations

import itertools
from decimal import Decimal

import msgspec
import pytest

from callspan.record.content_level import at_level
from callspan.record.ids import response_call_id
from callspan.record.merging import first_seen, merged
from callspan.records import (
    Attempt,
    CallRecord,
    Cost,
    ErrorInfo,
    Place,
    Request,
    Response,
    Timing,
    Usage,
    decode,
    encode,
    new_id,
)
from callspan.settings import STRICTNESS, Content

S = 1_000_000_000
CALL_ID = response_call_id("openai", "resp_1")
BEGUN = CallRecord(
    call_id=CALL_ID, part="started", provider="openai", api="responses", sdk="openai/3", pid=7, host="h",
    place=Place(session_id="s"), request=Request(model="gpt-5", stream=True), outcome="in_progress",
    response=Response(id="resp_1", status="queued"), timing=Timing(start_ns=10 * S), trace_id="a" * 32,
)  # fmt: skip
CREATED = msgspec.structs.replace(
    BEGUN, part="requested", request=Request(model="gpt-5", stream=True, body=msgspec.Raw(b'{"model":"gpt-5"}')),
    timing=Timing(start_ns=10 * S, duration_ns=S // 10, headers_ns=5), metadata={"user_id": "u"}, retries=1,
    attempts=[Attempt(number=1, start_ns=0, end_ns=S // 10)],
)  # fmt: skip
ENDED = CallRecord(
    call_id=CALL_ID, part="ended", seen_in="webhook", provider="openai", api="responses",
    response=Response(id="resp_1", status="completed"), timing=Timing(start_ns=13 * S, duration_ns=0),
)  # fmt: skip
ANSWER = CallRecord(
    call_id=CALL_ID, part="answered", seen_in="fetch", seen_ns=14 * S, provider="openai", api="responses",
    sdk="openai/3",
    response=Response(id="resp_1", status="completed", body=msgspec.Raw(b'{"output":[]}')),
    usage=Usage(input_tokens=3, output_tokens=4), cost=Cost(usd=Decimal("0.5"), source="t"),
    timing=Timing(start_ns=9 * S, duration_ns=5 * S),
)  # fmt: skip


def test_every_order_and_repetition_gives_the_same_record() -> None:
    """All versions, twice each, through JSON as stores keep them; a webhook may state a later end than the answer."""
    whole = merged([CREATED, ANSWER])
    late = msgspec.structs.replace(ENDED, timing=Timing(start_ns=16 * S, duration_ns=0))
    for ended in (ENDED, late):
        for order in itertools.permutations([BEGUN, CREATED, ended, ANSWER]):
            found = order[0]
            for record in [*order[1:], *order]:
                found = decode(encode(merged([found, record])))  # type: ignore[assignment]
            assert msgspec.json.encode(found) == msgspec.json.encode(whole), [one.part for one in order]


@pytest.mark.parametrize("levels", list(itertools.product(STRICTNESS, repeat=3)))
def test_no_version_has_content_that_the_level_of_another_forbids(levels: tuple[Content, ...]) -> None:
    """In every order, and with repetitions; what was removed is listed."""
    failed = msgspec.structs.replace(ENDED, error=ErrorInfo(kind="unknown", type="failed", message="SECRET"))
    versions = [at_level(one, level) for one, level in zip((CREATED, failed, ANSWER), levels, strict=True)]
    found = set()
    for order in itertools.permutations(versions):
        whole = order[0]
        for record in [*order[1:], *order]:
            whole = decode(encode(merged([whole, record])))  # type: ignore[assignment]
        assert whole.content_level == max(levels)
        assert (bytes(whole.request.body) == bytes(CREATED.request.body)) == (max(levels) == "full")
        assert whole.error is None
        found.add(encode(whole))
    assert len(found) == 1


def test_an_end_that_another_clock_states_is_not_before_what_was_measured() -> None:
    early = msgspec.structs.replace(ANSWER, timing=Timing(start_ns=9 * S, duration_ns=S))
    for order in itertools.permutations([CREATED, ENDED, early]):
        assert merged(order).timing.duration_ns == S // 10


def test_the_request_is_of_the_first_and_the_answer_of_the_last() -> None:
    """Start and details of the request; end, outcome, tokens and cost of the answer."""
    whole = merged([ANSWER, CREATED])
    assert (whole.part, whole.outcome, whole.usage, whole.cost) == ("answered", "success", ANSWER.usage, ANSWER.cost)
    assert (whole.request, whole.place, whole.metadata) == (CREATED.request, CREATED.place, CREATED.metadata)
    assert (whole.trace_id, whole.pid, whole.retries, whole.content_level) == ("a" * 32, 7, 1, "full")
    assert whole.timing == Timing(start_ns=10 * S, duration_ns=4 * S, headers_ns=5)


def test_the_last_that_was_seen_counts_and_what_it_lacks_is_kept() -> None:
    """In any order; when the end was first read is kept too."""
    used = Usage(input_tokens=3, output_tokens=5)
    second = msgspec.structs.replace(ANSWER, seen_ns=21 * S, usage=used, cost=None, response=Response(id="resp_1"))
    for order in itertools.permutations([CREATED, ANSWER, second, second]):
        whole = merged(order)
        assert (whole.seen_ns, first_seen(whole), whole.first_seen_ns) == (21 * S, 14 * S, 14 * S)
        assert (whole.usage, whole.response and whole.response.body) == (used, ANSWER.response and ANSWER.response.body)


def test_who_looks_at_a_job_in_progress_takes_nothing_from_its_creation() -> None:
    """In any order: the later version lacks its place, process and request."""
    created = msgspec.structs.replace(CREATED, part="started", seen_in="events", seen_ns=10 * S)
    looked = CallRecord(
        call_id=CALL_ID, part="started", seen_in="events", seen_ns=20 * S, outcome="in_progress",
        timing=Timing(start_ns=10 * S),
    )  # fmt: skip
    expected = msgspec.structs.replace(created, seen_ns=20 * S)
    for order in itertools.permutations([created, looked, looked]):
        assert msgspec.structs.replace(merged(order), timing=created.timing) == expected


def test_a_webhook_sets_outcome_and_end_only() -> None:
    """The answer comes with a later fetch."""
    failed = msgspec.structs.replace(ENDED, outcome="error", error=ErrorInfo(kind="unknown", type="failed"))
    half = merged([failed, CREATED])
    assert (half.outcome, half.error, half.usage) == ("error", failed.error, None)
    assert (half.timing.start_ns, half.timing.duration_ns) == (10 * S, 3 * S)
    whole = merged([half, ANSWER])
    assert (whole.outcome, whole.error, whole.usage) == ("success", None, ANSWER.usage)
    assert whole.timing.duration_ns == 4 * S


def test_without_the_request_there_is_the_answer() -> None:
    """It was made where nothing is recorded."""
    assert merged([ANSWER]) is ANSWER
    assert merged([ENDED, ANSWER]).timing == ANSWER.timing


def test_the_clock_of_the_provider_may_be_behind() -> None:
    """The call lasts as long as its request at least."""
    early = msgspec.structs.replace(ANSWER, timing=Timing(start_ns=8 * S, duration_ns=S))
    assert merged([CREATED, early]).timing.duration_ns == S // 10


def test_a_later_version_of_the_whole_record_replaces() -> None:
    """As `callspan reprice` writes it."""
    again = msgspec.structs.replace(merged([CREATED, ANSWER]), seen_ns=30 * S, cost=Cost(usd=Decimal(1), source="u"))
    found = merged([merged([CREATED, ANSWER]), again, ANSWER, CREATED])
    assert (found.cost, found.seen_ns, found.timing) == (again.cost, 30 * S, again.timing)


@pytest.mark.parametrize("response_id", ["resp_1", "", "\udc80", "resp_" + "x" * 10_000])
def test_the_id_of_a_response_is_the_same_everywhere(response_id: str) -> None:
    """They are valid UUIDs of version 8, and the same for the same provider and response."""
    call_id = response_call_id("openai", response_id)
    assert len(call_id) == len(new_id())
    assert call_id == response_call_id("openai", response_id) != response_call_id("azure.ai.openai", response_id)
    assert call_id[19] in "89ab"
