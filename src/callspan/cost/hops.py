"""Hops: splits a call that several models worked on into what each is priced for, and joins their costs.

An attempt after whose answer a middleware sent on, and a hop inside the server, are priced by their own model; what is
left of the call's usage by the answering model. So no token is priced twice, and none is left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import NamedTuple

import msgspec

from callspan.record.call import Attempt, CallRecord, Response
from callspan.record.usage import ADDITIVE_COUNTERS, Cost, Hop, Usage, usage_of_hop


class Split(NamedTuple):
    """A call as several, each of one model."""

    answer: CallRecord
    """With the part of the usage that is not in the others."""
    attempts: dict[int, CallRecord]
    """By their place in the call's attempts."""
    hops: dict[int, CallRecord]
    """By their place in the usage's hops."""


def split(record: CallRecord) -> Split | None:
    """Return the call as several; None where one model did all of it."""
    usage = record.usage
    if usage is None or not (usage.hops or any(attempt.usage for attempt in record.attempts)):
        return None
    answering = record.response.model if record.response is not None else None
    of_attempts = [at for at, attempt in enumerate(record.attempts) if attempt.usage is not None][:-1]
    of_hops = [at for at, hop in enumerate(usage.hops) if hop.model is not None and hop.model != answering]
    attempts = {at: _of_attempt(record, record.attempts[at]) for at in of_attempts}
    hops = {at: _of_hop(record, usage.hops[at]) for at in of_hops}
    others = [one.usage for one in (*attempts.values(), *hops.values()) if one.usage is not None]
    rest = {name: _rest(getattr(usage, name), [getattr(other, name) for other in others]) for name in ADDITIVE_COUNTERS}
    own = msgspec.structs.replace(usage, hops=[], **rest)
    return Split(msgspec.structs.replace(record, usage=own, attempts=[]), attempts, hops)


def joined(record: CallRecord, parts: Split, answer: Cost, costs: Sequence[Cost]) -> CallRecord:
    """Return the call with its cost, the sum of all, and that of each attempt and hop; `costs` in the parts' order."""
    attempts, usage = list(record.attempts), record.usage
    hops = [] if usage is None else list(usage.hops)
    left = iter(costs)
    for at in parts.attempts:
        attempts[at] = msgspec.structs.replace(attempts[at], cost=next(left))
    for at in parts.hops:
        hops[at] = msgspec.structs.replace(hops[at], cost=next(left))
    last = max((at for at, attempt in enumerate(attempts) if attempt.usage is not None), default=None)
    if last is not None:
        attempts[last] = msgspec.structs.replace(attempts[last], cost=answer)
    usd = sum((cost.usd for cost in costs), start=answer.usd)
    guessed = answer.estimated or any(cost.estimated for cost in costs)
    total = Cost(usd=Decimal(usd), source=answer.source, estimated=guessed)
    usage = None if usage is None else msgspec.structs.replace(usage, hops=hops)
    return msgspec.structs.replace(record, cost=total, attempts=attempts, usage=usage)


def _of_attempt(record: CallRecord, attempt: Attempt) -> CallRecord:
    return _as(record, attempt.model, attempt.usage)


def _of_hop(record: CallRecord, hop: Hop) -> CallRecord:
    return _as(record, hop.model, usage_of_hop(hop))


def _as(record: CallRecord, model: str | None, usage: Usage | None) -> CallRecord:
    """The call as if that model alone had made it, with that usage."""
    request = msgspec.structs.replace(record.request, model=model)
    response = msgspec.structs.replace(record.response or Response(), model=model)
    return msgspec.structs.replace(record, request=request, response=response, usage=usage, attempts=[])


def _rest(total: int | None, parts: list[int | None]) -> int | None:
    return None if total is None else total - sum(part or 0 for part in parts)
