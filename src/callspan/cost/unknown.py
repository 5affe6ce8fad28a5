"""Unknown costs: why calls have no cost or no tokens, and what to set; the last lines of lists and sums."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from decimal import Decimal
from importlib.util import find_spec
from typing import Final

import msgspec

from callspan.cost.price_table import ModelPrices, Pricer
from callspan.formatting import money
from callspan.record.billing import states_usage
from callspan.record.call import FAILED, Attempt, CallRecord
from callspan.record.usage import Usage
from callspan.semconv.table import MAX_TOKENS

_NO_END: Final = frozenset({"in_progress", "interrupted", "unknown"})
_MAX_MODELS: Final = 3
"""Models that are named."""
_STREAM, _CUT, _OTHER, _COUNTS, _PRICE, _EARLIER = "stream", "cut", "other", "counts", "price", "earlier"
_FAILED, _RUNNING, _CACHED, _BILLED = "failed", "running", "cached", "billed"
_REASONS: Final = {
    _STREAM: "streamed without usage: set stream_usage (CALLSPAN_STREAM_USAGE=1)",
    _CUT: "cut off or cancelled before the provider reported tokens: estimate_usage estimates those to come",
    _OTHER: "without usage from the provider: estimate_usage estimates that of calls to come",
    _COUNTS: "with counts of tokens that contradict each other",
    _PRICE: "without a price for {models}: {packages}name your own (CALLSPAN_PRICES), then `callspan reprice`",
    _EARLIER: "recorded before their price was known here: `callspan reprice` computes their cost",
    _FAILED: "failed before the provider reported tokens",
    _RUNNING: "not ended",
    _CACHED: "answered by a cache",
    _BILLED: "without an answer: the provider may have billed its request",
}
_EXPECTED: Final = {_FAILED, _RUNNING}
"""Reasons that alone are not worth a line."""
_FREE: Final = ModelPrices(input=Decimal(0))
_PACKAGE: Final = "pip install 'callspan[cost]' or "
_WAYS: Final = {"timeout": "timed out", "cancelled": "were cancelled"}
_OTHER_WAY: Final = "got no answer"
"""How requests without an answer ended, by the kind of their error."""


def why_unknown(calls: Iterable[CallRecord], pricer: Callable[[], Pricer]) -> Iterator[str]:
    """Yield a line for each reason why some of these calls have no cost; none if they only failed or still run.

    Free calls are not counted, as in sums: the numbers of the lines add up to `Summary.calls_without_cost`. Requests
    that may have been billed have a line of their own: those before an answer, too, and several of one call.

    Args:
        calls: Calls, with or without a cost.
        pricer: Returns what knows the prices of now. It is asked only for calls that lack nothing but a price.
    """
    reasons: Counter[str] = Counter()
    unpriced: Counter[str] = Counter()
    bills = _Bills()
    for call in calls:
        bills.add(call, pricer)
        reason = None if call.is_free else _reason(call, pricer)
        if reason is not None:
            reasons[reason] += 1
        if reason == _PRICE:
            unpriced[call.model or "unknown"] += 1
    yield from bills.lines()
    del reasons[_BILLED]
    if _EXPECTED.issuperset(reasons):
        return
    models = ", ".join(model for model, _ in unpriced.most_common(_MAX_MODELS))
    for reason in _REASONS:
        if reasons[reason]:
            model_list = models + (", …" if len(unpriced) > _MAX_MODELS else "")
            yield f"no cost: {reasons[reason]:,} {_text(reason, model_list)}"


def cost_reason(call: CallRecord, pricer: Callable[[], Pricer]) -> str | None:
    """Return why a cost is estimated or absent; None if it is exact. `pricer` is as in `why_unknown`."""
    reason = _reason(call, pricer)
    if reason is not None:
        return _text(reason, call.model or "unknown")
    return None if call.cost is None else call.cost.reason


def _text(reason: str, models: str) -> str:
    return _REASONS[reason].format(models=models, packages="" if find_spec("genai_prices") else _PACKAGE)


class _Bills:
    """The requests without an answer that may have been billed, and the most that they may have cost."""

    def __init__(self) -> None:
        self._ways: Counter[str] = Counter()
        self._most_usd: Decimal | None = Decimal(0)

    def add(self, call: CallRecord, pricer: Callable[[], Pricer]) -> None:
        attempts = list(filter(_is_unanswered, call.attempts))
        if not attempts:
            return
        self._ways.update(_WAYS.get(attempt.error_kind or "", _OTHER_WAY) for attempt in attempts)
        most = None if self._most_usd is None else _most_usd(call, pricer())
        self._most_usd = None if self._most_usd is None or most is None else self._most_usd + most * len(attempts)

    def lines(self) -> Iterator[str]:
        requests = self._ways.total()
        if requests:
            way = next(iter(self._ways)) if len(self._ways) == 1 else _OTHER_WAY
            noun, object_ = ("request", "it") if requests == 1 else ("requests", "them")
            way = way.replace("were", "was") if requests == 1 else way
            most = object_ if self._most_usd is None else f"up to {money(self._most_usd)}"
            yield f"no cost: {requests:,} {noun} {way}: the provider may have billed {most}"


def _is_unanswered(attempt: Attempt) -> bool:
    return attempt.may_be_billed and (attempt.status is None or attempt.error_kind is not None)


def _most_usd(call: CallRecord, pricer: Pricer) -> Decimal | None:
    """Return the most that one request of a call may have cost; None without a price, or without a stated maximum.

    Its input is that of the answer, else at most a token for each byte.
    """
    params, answered = call.request.params, None if call.usage is None else call.usage.input_tokens
    limits = [limit for name in MAX_TOKENS if isinstance(limit := params.get(name), int)]
    size = call.request.body_bytes if answered is None else answered
    if not limits or size is None:
        return None
    answers = params.get("n")
    usage = Usage(input_tokens=size, output_tokens=max(limits) * (answers if isinstance(answers, int) else 1))
    one_request = msgspec.structs.replace(
        call, usage=usage, cost=None, attempts=[], outcome="success", stream=None, response=None
    )
    priced = pricer.priced(one_request)
    return None if priced.cost is None else priced.cost.usd


def _reason(call: CallRecord, pricer: Callable[[], Pricer]) -> str | None:
    """Return why a call has no cost; None if it has one."""
    if call.cost is not None:
        return None
    if not call.is_bought and not call.may_be_billed:
        return _CACHED
    if call.outcome in _NO_END:
        return _RUNNING
    if call.usage is None and any(map(_is_unanswered, call.attempts)):
        return _BILLED
    if call.usage is not None:
        if call.usage.input_tokens is not None and _FREE.usd(call.usage) is None:
            return _COUNTS
        return _PRICE if pricer().priced(call).cost is None else _EARLIER
    if call.is_cut_off or call.outcome == "cancelled":
        return _CUT
    if call.outcome in FAILED:
        return _FAILED
    return _STREAM if call.request.stream and not states_usage(call.api, call.request) else _OTHER
