"""Attempts: what the attempts of a call add to its cost: what the provider stated, or may have billed."""

from __future__ import annotations

from functools import reduce
from typing import Final

import msgspec

from callspan.record.call import CallRecord
from callspan.record.usage import Cost
from callspan.runtime.amounts import EXACT

_ONLY_RETRIED: Final = "only the attempts that were retried have a cost"


def with_attempts(record: CallRecord, cost: Cost | None) -> CallRecord:
    """Return a call with the cost of its answer and of the attempts before it; the same object if none is known.

    An attempt that may have been billed makes it an estimate.
    """
    attempt_costs = [attempt.cost for attempt in record.attempts if attempt.cost is not None]
    billed = record.may_be_billed
    if cost is None and attempt_costs:
        cost = _without_answer(record, attempt_costs.pop())
    if cost is None or (cost is record.cost and not attempt_costs and not billed):
        return record
    cost = reduce(_added, attempt_costs, cost)
    if billed:
        requests = "a request" if billed == 1 else f"{billed} requests"
        reason = "; ".join(filter(None, (cost.reason, f"{requests} of unknown usage may have been billed")))
        cost = msgspec.structs.replace(cost, estimated=True, reason=reason)
    return msgspec.structs.replace(record, cost=cost)


def _without_answer(record: CallRecord, cost: Cost) -> Cost:
    """Return an attempt's cost as the call's, estimated if there is an answer, because its own cost is unknown."""
    if record.outcome != "success" and record.usage is None:
        return cost
    return msgspec.structs.replace(cost, estimated=True, reason=_ONLY_RETRIED)


def _added(cost: Cost, other: Cost) -> Cost:
    return msgspec.structs.replace(
        cost, usd=EXACT.add(cost.usd, other.usd), estimated=cost.estimated or other.estimated
    )
