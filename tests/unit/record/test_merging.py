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


def test_the_last_that_was_seen_counts_and_what_it_lacks_is_kept() -> None:
    """In any order; when the end was first read is kept too."""
    used = Usage(input_tokens=3, output_tokens=5)
    second = msgspec.structs.replace(ANSWER, seen_ns=21 * S, usage=used, cost=None, response=Response(id="resp_1"))
    for order in itertools.permutations([CREATED, ANSWER, second, second]):
        whole = merged(order)
        assert (whole.seen_ns, first_seen(whole), whole.first_seen_ns) == (21 * S, 14 * S, 14 * S)
        assert (whole.usage, whole.response and whole.response.body) == (used, ANSWER.response and ANSWER.response.body)
