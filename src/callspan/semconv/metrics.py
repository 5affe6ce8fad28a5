"""The metrics: a table of instruments, each with its value and its attributes as functions of a record.

Names are those of the conventions that the newest official instrumentations (1.3b0) emit, so that one dashboard shows
both; callspan's own start with `callspan.`. Attributes have low cardinality (keywords, providers, models, servers),
never an id.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from operator import attrgetter
from typing import Any, Final, NamedTuple

from callspan.record.call import FAILED, CallRecord, ErrorInfo
from callspan.record.events import EventRecord, SessionRecord, TimestepRecord
from callspan.record.usage import Cost
from callspan.semconv.call import ERROR_KIND, ERROR_RETRYABLE, OUTCOME, STREAM_END
from callspan.semconv.gen_ai import (
    AGENT_NAME,
    ERROR_TYPE,
    OPERATION_NAME,
    PROVIDER_NAME,
    REQUEST_MODEL,
    RESPONSE_MODEL,
    SERVER_ADDRESS,
    SERVER_PORT,
    WORKFLOW_NAME,
)
from callspan.semconv.table import BOOLEAN, INT, STRING, Constant, From, Row, SetByCode, Table

RATE_LIMIT_UNIT: Final = "callspan.rate_limit.unit"
STORE: Final = "callspan.store"
DROP_REASON: Final = "callspan.drop.reason"
TOOL_NAME: Final = "gen_ai.tool.name"
OTHER: Final = "_OTHER"
"""The conventions' value for everything not listed individually."""
NAMES: Final = frozenset({REQUEST_MODEL, RESPONSE_MODEL, TOOL_NAME, AGENT_NAME, WORKFLOW_NAME})
"""Attributes with names that providers and applications choose."""

_TOKEN_TYPE: Final = "gen_ai.token.type"  # noqa: S105 - no secret
_PROVIDER: Final = "provider"
_NS: Final = 1e9
_TOO_MANY_REQUESTS: Final = 429
_WORD: Final = re.compile(r"[A-Za-z_.\-]{1,64}[0-9]{0,3}|[0-9]{3}")
_DURATION_BUCKETS: Final = tuple(0.01 * 2**power for power in range(14))
"""Seconds: 0.01, doubled up to 81.92."""
_AGENT_BUCKETS: Final = tuple(0.1 * 2**power for power in range(13))
"""Seconds: 0.1, doubled up to 409.6."""
_WORKFLOW_BUCKETS: Final = (1.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0, 7200.0)
"""Seconds, up to two hours."""
_TOKEN_BUCKETS: Final = tuple(4**power for power in range(14))
"""Tokens: powers of four up to 67108864."""
_COST_BUCKETS: Final = tuple(0.00001 * 4**power for power in range(13))
"""US dollars: 0.00001, quadrupled up to 167.77216."""


class Instrument(NamedTuple):
    """One metric, or a part of it that has a constant among its `attributes`."""

    name: str
    kind: str
    """`histogram`, `counter`, `up-down counter` or `gauge`."""
    unit: str
    about: str
    """One sentence, also the instrument's description."""
    attributes: Table
    value: Callable[[Any], float | None] | None = None
    """Returns what a finished record measures, or None; None instead of a function for a value of the moment."""
    buckets: tuple[float, ...] = ()
    """Advisory bucket boundaries of a histogram."""


def _bounded_type(error: ErrorInfo) -> str:
    """Return an `error.type` that is a short word or a status, else `_OTHER`."""
    return error.type if _WORD.fullmatch(error.type) else OTHER


def _failure(record: CallRecord) -> str | None:
    return None if record.error is None or record.outcome == "cancelled" else _bounded_type(record.error)


def _cost_source(cost: Cost) -> str:
    return cost.source if cost.source == _PROVIDER else "computed"


_ERROR_TYPE: Final = Row(ERROR_TYPE, STRING, From("error", _bounded_type))
_SERVER: Final = (
    Row(SERVER_ADDRESS, STRING, "server_address"),
    Row(SERVER_PORT, INT, "server_port", when="server_address"),
)
_CALL: Final = Table(
    Row(OPERATION_NAME, STRING, "operation"),
    Row(PROVIDER_NAME, STRING, "provider"),
    Row(REQUEST_MODEL, STRING, "request.model"),
)
_ANSWER: Final = _CALL + Table(Row(RESPONSE_MODEL, STRING, "response.model"), *_SERVER)
_ENDED: Final = _ANSWER + Table(
    Row(ERROR_TYPE, STRING, _failure),
    Row(OUTCOME, STRING, From("outcome", {"cancelled": "cancelled"}.get)),
    Row(STREAM_END, STRING, From("stream", lambda stream: None if stream.end == "complete" else stream.end)),
)
_COST: Final = _CALL + Table(
    Row(
        "callspan.cost.source", STRING, From("cost", _cost_source),
        f"`{_PROVIDER}`: stated by the provider; `computed`: computed from prices.",
    ),
    Row("callspan.cost.estimated", BOOLEAN, "cost.estimated"),
)  # fmt: skip
_FAILED: Final = _CALL + Table(Row(ERROR_KIND, STRING, "error.kind"), Row(ERROR_RETRYABLE, BOOLEAN, "error.retryable"))
_RATE_LIMIT: Final = _CALL + Table(
    Row(RATE_LIMIT_UNIT, STRING, SetByCode("`rate_limits`"), "`requests`, `tokens`, `input_tokens`, `output_tokens`.")
)
_TOOL: Final = Table(
    Row(TOOL_NAME, STRING, lambda record: record.name or OTHER),
    Row("gen_ai.tool.type", STRING, Constant("function")),
    Row(AGENT_NAME, STRING, "system"),
    _ERROR_TYPE,
)
_STORE: Final = Row(STORE, STRING, SetByCode("the store"))
_DROPPED: Final = Row(DROP_REASON, STRING, SetByCode("the spool"))


def _tokens(kind: str) -> Instrument:
    """Return the part of the token usage for `input` or `output` tokens."""
    attributes = _ANSWER + Table(Row(_TOKEN_TYPE, STRING, Constant(kind), "`input` or `output`."))

    def count(record: CallRecord) -> int | None:
        return None if record.usage is None else getattr(record.usage, f"{kind}_tokens")

    return Instrument(
        "gen_ai.client.token.usage", "histogram", "{token}", "Tokens of a call.", attributes, count, _TOKEN_BUCKETS
    )


def _seconds(path: str) -> Callable[[Any], float | None]:
    """Return the function that reads the nanoseconds at `path` as seconds."""
    read_ns = attrgetter(path)

    def seconds(record: object) -> float | None:
        value_ns = read_ns(record)
        return None if value_ns is None else value_ns / _NS

    return seconds


def _first_token_s(record: CallRecord) -> float | None:
    first_ns = record.timing.first_token_ns
    return None if first_ns is None or not record.request.stream else first_ns / _NS


def _per_chunk_s(record: CallRecord) -> float | None:
    timing, chunks = record.timing, 0 if record.stream is None else record.stream.chunks
    if timing.first_chunk_ns is None or timing.last_chunk_ns is None or chunks <= 1:
        return None
    return (timing.last_chunk_ns - timing.first_chunk_ns) / _NS / (chunks - 1)


def _usd(record: CallRecord) -> float | None:
    return None if record.cost is None else float(record.cost.usd)


def _retries(record: CallRecord) -> int | None:
    return record.retries or None


def _may_be_billed(record: CallRecord) -> int | None:
    return record.may_be_billed or None


def _rate_limit_hits(record: CallRecord) -> int | None:
    if not record.rate_limited:
        return None
    return max(1, sum(attempt.status == _TOO_MANY_REQUESTS for attempt in record.attempts))


def _failures(record: CallRecord) -> int | None:
    return 1 if record.error is not None and record.outcome in FAILED else None


def _run_s(event_type: str) -> Callable[[EventRecord], float | None]:
    """Return the function that reads the duration of a run of this type."""
    read = _seconds("duration_ns")
    return lambda record: read(record) if record.event_type == event_type else None


def _scope_s(record: SessionRecord | TimestepRecord) -> float | None:
    if record.start_ns is None or record.end_ns is None:
        return None
    return (record.end_ns - record.start_ns) / _NS


COST: Final = Instrument(
    "callspan.client.cost", "histogram", "{USD}", "Cost of a call, if known.", _COST, _usd, _COST_BUCKETS
)
SCHEMA_URL: Final = "https://opentelemetry.io/schemas/1.37.0"
OF_CALLS: Final = (
    Instrument(
        "gen_ai.client.operation.duration", "histogram", "s", "Duration of a call with its retries and stream.",
        _ENDED, _seconds("timing.duration_ns"), _DURATION_BUCKETS,
    ),
    _tokens("input"),
    _tokens("output"),
    Instrument(
        "gen_ai.client.operation.time_to_first_chunk", "histogram", "s", "Start of the call to the first chunk.",
        _ANSWER, _seconds("timing.first_chunk_ns"), _DURATION_BUCKETS,
    ),
    Instrument(
        "callspan.client.time_per_output_chunk", "histogram", "s",
        "Mean time between chunks, one value per stream.", _ANSWER, _per_chunk_s, _DURATION_BUCKETS,
    ),
    Instrument(
        "callspan.client.time_to_first_token", "histogram", "s", "Start of the call to the first content.",
        _ANSWER, _first_token_s, _DURATION_BUCKETS,
    ),
    COST,
    Instrument("callspan.client.retries", "counter", "{retry}", "Requests sent again.", _CALL, _retries),
    Instrument(
        "callspan.client.may_be_billed", "counter", "{request}",
        "Requests without an answer, or its usage, that the provider may have billed.", _CALL, _may_be_billed,
    ),
    Instrument(
        "callspan.client.rate_limit.hits", "counter", "{response}", "Responses with status 429.",
        _CALL, _rate_limit_hits,
    ),
    Instrument("callspan.client.errors", "counter", "{call}", "Calls that failed or timed out.", _FAILED, _failures),
)  # fmt: skip
OF_EVENTS: Final[Mapping[type, Sequence[Instrument]]] = {
    EventRecord: (
        Instrument(
            "gen_ai.execute_tool.duration", "histogram", "s", "Duration of a tool run.",
            _TOOL, _run_s("tool"), _DURATION_BUCKETS,
        ),
        Instrument(
            "gen_ai.invoke_agent.duration", "histogram", "s", "Duration of an agent run.",
            Table(Row(AGENT_NAME, STRING, "name"), _ERROR_TYPE), _run_s("agent"), _AGENT_BUCKETS,
        ),
    ),
    TimestepRecord: (
        Instrument(
            "callspan.agent.timestep.duration", "histogram", "s", "Duration of a timestep of an agent.",
            Table(Row("callspan.success", BOOLEAN, lambda record: record.error is None)), _scope_s, _DURATION_BUCKETS,
        ),
    ),
}  # fmt: skip
"""By type of record: runs of tools and agents, timesteps."""
OF_SESSIONS: Final = (
    Instrument(
        "gen_ai.invoke_workflow.duration", "histogram", "s", "Duration of a session, each time it is continued.",
        Table(Row(WORKFLOW_NAME, STRING, "name"), _ERROR_TYPE), _scope_s, _WORKFLOW_BUCKETS,
    ),
)  # fmt: skip
RECORDED: Final = (*OF_CALLS, *(row for rows in OF_EVENTS.values() for row in rows), *OF_SESSIONS)
"""The instruments that a finished record is measured by."""
IN_FLIGHT: Final = Instrument("callspan.client.in_flight", "up-down counter", "{call}", "Calls in progress.", _CALL)
REMAINING: Final = Instrument(
    "callspan.client.rate_limit.remaining", "gauge", "{unit}", "Rate limit, as last received.", _RATE_LIMIT
)
LIMIT: Final = Instrument(
    "callspan.client.rate_limit.limit", "gauge", "{unit}", "Rate limit, as last received.", _RATE_LIMIT
)
RECORDS_WRITTEN: Final = Instrument(
    "callspan.records.written", "counter", "{record}", "Records accepted by a store.", Table(_STORE)
)
RECORDS_DROPPED: Final = Instrument(
    "callspan.records.dropped", "counter", "{record}", "Records lost for all stores, or for one (rejected, given up).",
    Table(_STORE, _DROPPED),
)  # fmt: skip
RECORDS_WAITING: Final = Instrument(
    "callspan.records.oldest_waiting", "gauge", "s", "Age of the oldest undelivered record.", Table(_STORE)
)

OBSERVED: Final = (IN_FLIGHT, REMAINING, LIMIT, RECORDS_WRITTEN, RECORDS_DROPPED, RECORDS_WAITING)
