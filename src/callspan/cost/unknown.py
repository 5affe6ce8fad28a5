"""Unknown costs: why calls have no cost or no tokens, and what to set; the last lines of lists and sums."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from decimal import Decimal
from importlib.util import find_spec
from typing import Final

from callspan.cost.price_table import ModelPrices, Pricer
from callspan.record.call import FAILED, CallRecord, Request

_NO_END: Final = frozenset({"in_progress", "interrupted", "unknown"})
_MAX_MODELS: Final = 3
"""Models that are named."""
_STREAM, _CUT, _OTHER, _COUNTS, _PRICE, _EARLIER = "stream", "cut", "other", "counts", "price", "earlier"
_FAILED, _RUNNING, _CACHED = "failed", "running", "cached"
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
}
_EXPECTED: Final = {_FAILED, _RUNNING}
"""Reasons that alone are not worth a line."""
_FREE: Final = ModelPrices(input=Decimal(0))
_PACKAGE: Final = "pip install 'callspan[cost]' or "


def why_unknown(calls: Iterable[CallRecord], pricer: Callable[[], Pricer]) -> Iterator[str]:
    """Yield a line for each reason why some of these calls have no cost; none if they only failed or still run.

    Free calls are not counted, as in sums: the numbers of the lines add up to `Summary.calls_without_cost`.

    Args:
        calls: Calls, with or without a cost.
        pricer: Returns what knows the prices of now. It is asked only for calls that lack nothing but a price.
    """
    reasons: Counter[str] = Counter()
    unpriced: Counter[str] = Counter()
    for call in calls:
        reason = None if _is_free(call) else _reason(call, pricer)
        if reason is not None:
            reasons[reason] += 1
        if reason == _PRICE:
            unpriced[call.model or "unknown"] += 1
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


def _is_free(call: CallRecord) -> bool:
    """Whether a cache answered, or the call failed before tokens or an answer. Sums in SQL have the same condition."""
    usage = call.usage
    has_tokens = usage is not None and (usage.input_tokens, usage.output_tokens) != (None, None)
    has_begun = has_tokens or call.timing.first_token_ns is not None
    return not call.is_bought or (call.outcome in FAILED and not has_begun)


def _reason(call: CallRecord, pricer: Callable[[], Pricer]) -> str | None:
    """Return why a call has no cost; None if it has one."""
    if call.cost is not None:
        return None
    if not call.is_bought:
        return _CACHED
    if call.outcome in _NO_END:
        return _RUNNING
    if call.usage is not None:
        if call.usage.input_tokens is not None and _FREE.usd(call.usage) is None:
            return _COUNTS
        return _PRICE if pricer().priced(call).cost is None else _EARLIER
    if call.is_cut_off or call.outcome == "cancelled":
        return _CUT
    if call.outcome in FAILED:
        return _FAILED
    return _STREAM if call.api == "chat_completions" and _is_without_usage(call.request) else _OTHER


def _is_without_usage(request: Request) -> bool:
    """Return whether a chat request asks for a stream without its usage."""
    options = request.params.get("stream_options")
    return bool(request.stream) and not (isinstance(options, dict) and options.get("include_usage"))
