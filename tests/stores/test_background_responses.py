"""Versions of a background response's call, in any order and from several writers, are one call in every store."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest

from callspan.record.ids import response_call_id
from callspan.records import CallRecord, Cost, Place, Request, Response, Timing, Usage
from callspan.stores import CallFilter

from .conftest import SECOND, START_NS, Delivery, Records, raw, run

Deliver = Callable[[str], Delivery]
QUEUED = {"id": "resp_1", "status": "queued", "background": True, "output": []}
RESPONSE = {
    "id": "resp_1",
    "status": "completed",
    "output": [{"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Paris."}]}],
}
BASE = CallRecord(
    call_id=response_call_id("openai", "resp_1"), provider="openai", api="responses", timing=Timing(start_ns=START_NS)
)
CREATED = msgspec.structs.replace(
    BASE, part="requested", outcome="in_progress", pid=7, place=Place(session_id="s1"), metadata={"user_id": "u1"},
    request=Request(model="gpt-5", body=raw({"model": "gpt-5", "input": [{"role": "user", "content": "Hi"}]})),
    response=Response(id="resp_1", status="queued", body=raw(QUEUED)),
    timing=Timing(start_ns=START_NS, duration_ns=SECOND // 10),
)  # fmt: skip
ENDED = msgspec.structs.replace(
    BASE, part="ended", seen_in="webhook", timing=Timing(start_ns=START_NS + 3 * SECOND, duration_ns=0)
)  # fmt: skip
ANSWER = msgspec.structs.replace(
    BASE, part="answered", seen_in="fetch", response=Response(id="resp_1", status="completed", body=raw(RESPONSE)),
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
        assert (call.part, call.outcome, call.text) == ("answered", "success", "Paris.")
        assert (call.request.body, call.place.session_id, call.pid) == (CREATED.request.body, "s1", 7)
        assert call.timing == Timing(start_ns=START_NS, duration_ns=4 * SECOND)
        assert (call.usage, call.cost, call.content_level) == (ANSWER.usage, ANSWER.cost, "full")
    (sums,) = [one for one in delivery.read().summary("session") if one.key == "s1"]
    assert (sums.calls, sums.input_tokens, sums.output_tokens) == (len(orders), 3 * len(orders), 4 * len(orders))
    assert sums.cost_usd == Decimal("0.25") * len(orders)


def test_what_is_in_progress_is_listed_until_it_has_ended(url: str, deliver: Deliver) -> None:
    """It is no error and no success."""
    delivery = deliver(url)
    delivery.write(CREATED)
    reader = delivery.read()
    which = CallFilter(outcome="in_progress")
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
    fetcher.write(ANSWER)
    creator.write(CREATED)
    fetcher.write(ENDED)
    (call,) = creator.read().calls()
    assert (call.outcome, call.usage, call.request.model) == ("success", ANSWER.usage, "gpt-5")


def test_new_prices_leave_what_is_in_progress_alone_and_count_a_completed_call_once(
    url: str, deliver: Deliver, tmp_path: Path
) -> None:
    """In whatever order the request, the answer and the new cost come."""
    prices = tmp_path / "prices.json"
    prices.write_text(json.dumps({"version": "mine", "models": {"gpt-5": {"input": "1000000", "output": "0"}}}))
    reprice = ("reprice", "--all", "--prices", str(prices), "--json")

    def write(*versions: CallRecord) -> None:
        # The embedded ClickHouse lets one process at a time have its directory open for each connection it makes.
        store = deliver(url)
        store.write(*versions)
        store.sink.close()

    write(CREATED)
    repriced = json.loads(run(url, *reprice))
    assert (repriced["calls"], repriced["changed"], repriced["unknown"]) == (1, 0, {})
    (row,) = json.loads(run(url, "calls", "--json", "--status", "in_progress"))
    assert (row["outcome"], row["cost_usd"]) == ("in_progress", None)
    write(ANSWER)
    assert json.loads(run(url, *reprice))["changed"] == 1
    assert json.loads(run(url, *reprice))["changed"] == 0
    write(CREATED, ENDED, ANSWER)
    (sums,) = json.loads(run(url, "stats", "--json"))
    assert (sums["calls"], sums["input_tokens"], Decimal(sums["cost_usd"])) == (1, 3, Decimal(3))
    (row,) = json.loads(run(url, "calls", "--json"))
    assert (row["outcome"], row["output"], Decimal(row["cost_usd"])) == ("success", "Paris.", Decimal(3))
