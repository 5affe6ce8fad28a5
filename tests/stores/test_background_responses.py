"""Versions of a background response's call, in any order and from several writers, are one call in every store."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from decimal import Decimal

import msgspec
import pytest

from callspan.record.call import CallRecord, Place, Request, Response, Timing
from callspan.record.ids import response_call_id
from callspan.record.usage import Cost, Usage
from callspan.stores.base import CallFilter

from .conftest import SECOND, START_NS, Delivery, Records, raw

Deliver = Callable[[str], Delivery]
QUEUED = {"id": "resp_1", "status": "queued", "background": True, "output": []}
ANSWERED = {
    "id": "resp_1",
    "status": "completed",
    "output": [{"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Paris."}]}],
}
BASE = CallRecord(
    call_id=response_call_id("openai", "resp_1"), provider="openai", api="responses", timing=Timing(start_ns=START_NS)
)
CREATED = msgspec.structs.replace(
    BASE, record_version=2, outcome="in_progress", pid=7, place=Place(session_id="s1"), metadata={"user_id": "u1"},
    request=Request(model="gpt-5", body=raw({"model": "gpt-5", "input": [{"role": "user", "content": "Hi"}]})),
    response=Response(id="resp_1", status="queued", body=raw(QUEUED)),
    timing=Timing(start_ns=START_NS, duration_ns=SECOND // 10),
)  # fmt: skip
ENDED = msgspec.structs.replace(BASE, record_version=3, timing=Timing(start_ns=START_NS + 3 * SECOND, duration_ns=0))
ANSWER = msgspec.structs.replace(
    BASE, record_version=4, response=Response(id="resp_1", status="completed", body=raw(ANSWERED)),
    usage=Usage(input_tokens=3, output_tokens=4, total_tokens=7), cost=Cost(usd=Decimal("0.25"), source="t"),
    timing=Timing(start_ns=START_NS - SECOND, duration_ns=5 * SECOND),
)  # fmt: skip
VERSIONS = [CREATED, ENDED, ANSWER]


@pytest.mark.parametrize("together", [True, False])
def test_versions_in_any_order_are_one_call(url: str, deliver: Deliver, together: bool, records: Records) -> None:
    """In one batch or one by one, each twice, next to other calls; sums count it once."""
    delivery = deliver(url)
    orders = list(itertools.permutations(VERSIONS))
    for number, order in enumerate(orders):
        call_id = response_call_id("openai", f"resp_{number}")
        mine = [msgspec.structs.replace(one, call_id=call_id) for one in (*order, *order)]
        for batch in [[records.call(), *mine]] if together else [[one] for one in mine]:
            delivery.write(*batch)
    found = [call for call in delivery.read().calls() if call.api == "responses"]
    assert len(found) == len({call.call_id for call in found}) == len(orders)
    for call in found:
        assert (call.record_version, call.outcome, call.text) == (4, "success", "Paris.")
        assert (call.request.body, call.place.session_id, call.pid) == (CREATED.request.body, "s1", 7)
        assert call.timing == Timing(start_ns=START_NS, duration_ns=4 * SECOND)
        assert (call.usage, call.cost) == (ANSWER.usage, ANSWER.cost)
    (sums,) = [one for one in delivery.read().summary("session") if one.key == "s1"]
    assert (sums.calls, sums.input_tokens, sums.output_tokens) == (len(orders), 3 * len(orders), 4 * len(orders))
    assert sums.cost_usd == Decimal("0.25") * len(orders)


def test_what_is_in_progress_is_listed_until_it_has_ended(url: str, deliver: Deliver) -> None:
    """It is no error and no success."""
    delivery = deliver(url)
    delivery.write(CREATED)
    reader = delivery.read()
    which = CallFilter(in_progress=True)
    assert [call.call_id for call in reader.calls(which)] == [BASE.call_id]
    assert not list(reader.calls(CallFilter(errors=True))) + list(reader.calls(CallFilter(errors=False)))
    (sums,) = reader.summary("model")
    assert (sums.calls, sums.errors, sums.cancelled, sums.input_tokens, sums.p50_ms) == (1, 0, 0, None, None)
    delivery.write(ENDED)
    assert not list(delivery.read().calls(which))
    (half,) = delivery.read().calls(CallFilter(errors=False))
    assert (half.usage, half.timing.duration_ns) == (None, 3 * SECOND)


def test_two_writers_bring_a_call_together(url: str, deliver: Deliver) -> None:
    """Each has been open before the other wrote."""
    creator, fetcher = deliver(url), deliver(url)
    fetcher.segment = "2-b.seg"
    fetcher.write(ANSWER)
    creator.write(CREATED)
    fetcher.write(ENDED)
    (call,) = creator.read().calls()
    assert (call.outcome, call.usage, call.request.model) == ("success", ANSWER.usage, "gpt-5")
