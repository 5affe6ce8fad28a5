"""Bill sums: the requests, tokens and costs of calls by the bucket of time in which they ended, to compare with a bill.

A request that a provider may have billed though its record states no usage is no amount but a cause: its number, and
how it ended.
"""

# ruff: noqa: S608 - SQL text holds only constant column names and conditions; values are parameters

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from typing import Any, Final, Literal, NamedTuple, TypeAlias, cast

from callspan.record.call import CallRecord
from callspan.stores.query.interrupted import mark_unended
from callspan.stores.query.sums import exact_cost, other_costs
from callspan.stores.tables.call_rows import record_of
from callspan.stores.tables.database import Database
from callspan.stores.tables.facts import CALLS

BillCause: TypeAlias = Literal[
    "retried", "timed_out", "unanswered", "cut_off", "interrupted", "running", "unfetched", "stream_without_usage",
    "without_usage", "partial_usage",
]  # fmt: skip
"""Why a request may have been billed that states no usage. `retried`: it had no answer, and was sent again;
`timed_out`, `unanswered`: so had the last one; `cut_off`: its stream was left or cut; `interrupted`: its process ended;
`running`: the call has not ended; `unfetched`: nobody fetched the answer of a background response;
`stream_without_usage`, `without_usage`: it was answered, and the answer states none; `partial_usage`: its stream was
left or cut, and what it had stated before is in the sums, with its request."""


class BillSums(NamedTuple):
    """Sums over calls of one provider and model that ended in one bucket."""

    bucket_ns: int
    """The start of the bucket in which they ended; of calls without an end, in which they began."""
    began_ns: int
    """The start of the bucket in which they began."""
    provider: str
    request_model: str | None
    response_model: str | None
    is_batch: bool
    requests: int
    """Answers with usage."""
    input_tokens: int
    cached_tokens: int
    written_tokens: int
    output_tokens: int
    cost_usd: Decimal | None
    unpriced: int
    """Requests among them without a known cost."""
    served_by_caches: int
    """Answers that nobody bought."""
    causes: Counter[BillCause]


_USAGE: Final = "(c.cached IS NULL AND coalesce(c.input_tokens, c.output_tokens) IS NOT NULL)"
_DOUBTFUL: Final = "(c.may_be_billed IS NOT NULL OR c.outcome = 'in_progress')"
_ANSWERED: Final = f"""(c.cached IS NULL AND NOT {_USAGE}
  AND coalesce(c.http_status, CASE WHEN c.outcome = 'success' THEN 200 ELSE 400 END) < 400)"""
"""Whether the provider answered without stating usage."""
_BETWEEN: Final = """(coalesce(c.end_ns, c.start_ns) >= :since AND coalesce(c.end_ns, c.start_ns) < :until
  AND c.start_ns >= :origin AND c.start_ns < :until)"""
_TOKENS: Final = ("input_tokens", "cache_read_tokens", "cache_write_tokens", "output_tokens")
_SUMS: Final = ", ".join(f"CAST(coalesce(sum(c.{name}), 0) AS bigint) AS {name}" for name in _TOKENS)
_BUCKET: Final = "{time} - ({time} - :origin) % :step"
_ENDED: Final = "coalesce(c.end_ns, c.start_ns)"
_QUERY: Final = f"""
SELECT {_BUCKET.format(time=_ENDED)} AS bucket_ns, {_BUCKET.format(time="c.start_ns")} AS began_ns,
  c.provider, c.request_model, c.response_model, CASE WHEN c.batch_id IS NULL THEN 0 ELSE 1 END AS is_batch,
  sum(CASE WHEN {_USAGE} THEN 1 ELSE 0 END) AS requests, {_SUMS},
  sum(CASE WHEN {_USAGE} AND c.cost_usd IS NULL THEN 1 ELSE 0 END) AS unpriced,
  sum(CASE WHEN c.cached IS NULL THEN 0 ELSE 1 END) AS served_by_caches,
  sum(CASE WHEN {_ANSWERED} AND c.stream THEN 1 ELSE 0 END) AS stream_without_usage,
  sum(CASE WHEN {_ANSWERED} AND NOT coalesce(c.stream, 1 = 0) THEN 1 ELSE 0 END) AS without_usage,
  sum((c.cost_picousd - c.cost_picousd % 1000000) / 1000000) AS micro, sum(c.cost_picousd % 1000000) AS rest,
  {{others}} AS others
FROM calls c WHERE {_BETWEEN} AND NOT {_DOUBTFUL} GROUP BY 1, 2, 3, 4, 5, 6
"""
_COLUMNS: Final = (
    *("bucket_ns", "began_ns", "provider", "request_model", "response_model"),
    *("requests", "input_tokens", "output_tokens", "unpriced", "served_by_caches"),
)
"""Columns that are fields of `BillSums`."""
_COUNTED: Final[tuple[BillCause, ...]] = ("stream_without_usage", "without_usage")
"""The causes that SQL counts."""
_LONGEST_NS: Final = 7 * 86_400 * 10**9
"""Calls that took longer are not looked for."""


def bill_sums(database: Database, since_ns: int, until_ns: int, step_ns: int) -> Iterator[BillSums]:
    """Yield sums over the calls that ended between two Unix times, by buckets of `step_ns` from the first time on."""
    origin = since_ns - (_LONGEST_NS // step_ns + 1) * step_ns
    values = {"since": since_ns, "until": until_ns, "origin": origin, "step": step_ns}
    for row in database.rows(_QUERY.format(others=other_costs(database.dialect)), values):
        sums: dict[str, Any] = {name: row[name] for name in _COLUMNS}
        cached, written = (int(cast("int", row[name])) for name in _TOKENS[1:3])
        cost = exact_cost(row["micro"], row["rest"], cast("str | None", row["others"]))
        causes = Counter({cause: number for cause in _COUNTED if (number := int(cast("int", row[cause])))})
        sums |= {"cached_tokens": cached, "written_tokens": written, "is_batch": bool(row["is_batch"])}
        yield BillSums(**sums, cost_usd=cost, causes=causes)
    for row in database.rows(f"SELECT c.* FROM calls c WHERE {_BETWEEN} AND {_DOUBTFUL}", values):
        yield _sums_of_call(mark_unended(record_of(CALLS, row, CallRecord)), origin, step_ns)


def _sums_of_call(call: CallRecord, origin: int, step_ns: int) -> BillSums:
    """Return the sums of one call, some requests of which may have been billed without stating usage."""
    began = call.timing.start_ns
    ended = began + (call.timing.duration_ns or 0)
    usage = call.usage if call.is_bought else None
    tokens = () if usage is None else (usage.input_tokens, usage.output_tokens)
    has_usage = any(number is not None for number in tokens)
    return BillSums(
        bucket_ns=ended - (ended - origin) % step_ns,
        began_ns=began - (began - origin) % step_ns,
        provider=call.provider,
        request_model=call.request.model,
        response_model=None if call.response is None else call.response.model,
        is_batch=call.batch_id is not None,
        requests=int(has_usage),
        input_tokens=(usage and usage.input_tokens) or 0,
        cached_tokens=(usage and usage.cache_read_tokens) or 0,
        written_tokens=(usage and usage.cache_write_tokens) or 0,
        output_tokens=(usage and usage.output_tokens) or 0,
        cost_usd=None if call.cost is None else call.cost.usd,
        unpriced=int(has_usage and call.cost is None),
        served_by_caches=int(not call.is_bought),
        causes=Counter(_causes(call, has_usage=has_usage)),
    )


def _causes(call: CallRecord, *, has_usage: bool) -> Iterator[BillCause]:
    """Yield a cause for each request of a call that may have been billed and states no usage."""
    for attempt in call.attempts[:-1]:
        if attempt.may_be_billed:
            yield "retried"
    is_last_billed = bool(call.attempts) and call.attempts[-1].may_be_billed
    if has_usage:
        if is_last_billed:
            yield "partial_usage"
    elif call.is_first_version:
        yield "running" if call.outcome == "in_progress" else "interrupted"
    elif call.outcome == "in_progress":
        yield "unfetched"
    elif is_last_billed and (call.is_cut_off or (call.stream is not None and call.stream.end != "complete")):
        yield "cut_off"
    elif is_last_billed:
        yield "timed_out" if call.outcome == "timeout" else "unanswered"
    elif call.is_bought and call.outcome == "success":
        yield "stream_without_usage" if call.request.stream else "without_usage"
