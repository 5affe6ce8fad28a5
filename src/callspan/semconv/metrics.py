"""The metrics: a table of instruments, each with its value and its attributes as functions of a record.

Two sets of names for the same facts: `RELEASED`, as the newest official instrumentations emit them, and `LATEST`, of
the conventions' release 0.1.0; a process uses one of them. callspan's own names start with `callspan.`. Attributes have
low cardinality (keywords, providers, models, servers), never an id.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from operator import attrgetter
from typing import Any, Final, NamedTuple

from callspan.record.call import FAILED, CallRecord, ErrorInfo
from callspan.record.events import EventRecord, SessionRecord, TimestepRecord
from callspan.record.usage import Cost, Usage
from callspan.semconv.call import ERROR_KIND, ERROR_RETRYABLE, OUTCOME, STREAM_END
from callspan.semconv.gen_ai import (
    AGENT_NAME,
    ERROR_TYPE,
    OPERATION_NAME,
    PROVIDER_NAME,
    REQUEST_MODEL,
    RESPONSE_MODEL,
    SCHEMA_URL,
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
_TOKEN_MODALITY: Final = "gen_ai.token.modality"  # noqa: S105 - no secret
_MODALITIES: Final = ("text", "image", "audio")
_UNKNOWN: Final = "unknown"
_PREFIX: Final = "gen_ai.client.inference"
_EMBEDDINGS: Final = "embeddings"
INFERENCE: Final = ("chat", "text_completion", "generate_content")
"""The conventions' inference operations."""
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
_CALL_BUCKETS: Final = tuple(2**power for power in range(8))
"""Calls within an agent run: powers of two up to 128."""
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
    times: Callable[[Any], int] | None = None
    """Returns how often a record's value is measured; None: once."""


class AgentRun(NamedTuple):
    """What one run of an agent asked for itself, without the agents inside it."""

    name: str | None
    inference_calls: int
    tool_calls: int


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
_DURATION: Final = Instrument(
    "gen_ai.client.operation.duration", "histogram", "s", "Duration of a call with its retries and stream.",
    _ENDED, _seconds("timing.duration_ns"), _DURATION_BUCKETS,
)  # fmt: skip
_FIRST_CHUNK: Final = Instrument(
    "gen_ai.client.operation.time_to_first_chunk", "histogram", "s", "Start of the call to the first chunk.",
    _ANSWER, _seconds("timing.first_chunk_ns"), _DURATION_BUCKETS,
)  # fmt: skip
_OWN: Final = (
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
"""What no convention names."""
_TOOL_DURATION: Final = Instrument(
    "gen_ai.execute_tool.duration", "histogram", "s", "Duration of a tool run.",
    _TOOL, _run_s("tool"), _DURATION_BUCKETS,
)  # fmt: skip
_AGENT_DURATION: Final = Instrument(
    "gen_ai.invoke_agent.duration", "histogram", "s", "Duration of an agent run.",
    Table(Row(AGENT_NAME, STRING, "name"), _ERROR_TYPE), _run_s("agent"), _AGENT_BUCKETS,
)  # fmt: skip
_TIMESTEP_DURATION: Final = Instrument(
    "callspan.agent.timestep.duration", "histogram", "s", "Duration of a timestep of an agent.",
    Table(Row("callspan.success", BOOLEAN, lambda record: record.error is None)), _scope_s, _DURATION_BUCKETS,
)  # fmt: skip


class Names(NamedTuple):
    """The synchronous instruments of one release of the conventions, by what they measure."""

    schema_url: str
    of_calls: Sequence[Instrument]
    of_events: Mapping[type, Sequence[Instrument]]
    """By type of record: runs of tools and agents, timesteps."""
    of_sessions: Sequence[Instrument]
    of_agent_runs: Sequence[Instrument] = ()
    """Of an `AgentRun`."""

    @property
    def all(self) -> Sequence[Instrument]:
        """All of them."""
        events = (instrument for instruments in self.of_events.values() for instrument in instruments)
        return (*self.of_calls, *events, *self.of_sessions, *self.of_agent_runs)


RELEASED: Final = Names(
    schema_url="https://opentelemetry.io/schemas/1.37.0",
    of_calls=(
        _DURATION,
        _tokens("input"),
        _tokens("output"),
        _FIRST_CHUNK,
        Instrument(
            "callspan.client.time_per_output_chunk", "histogram", "s",
            "Mean time between chunks, one value per stream.", _ANSWER, _per_chunk_s, _DURATION_BUCKETS,
        ),
        *_OWN,
    ),
    of_events={EventRecord: (_TOOL_DURATION, _AGENT_DURATION), TimestepRecord: (_TIMESTEP_DURATION,)},
    of_sessions=(
        Instrument(
            "gen_ai.invoke_workflow.duration", "histogram", "s", "Duration of a session, each time it is continued.",
            Table(Row(WORKFLOW_NAME, STRING, "name"), _ERROR_TYPE), _scope_s, _WORKFLOW_BUCKETS,
        ),
    ),
)  # fmt: skip
"""As the newest official instrumentations (1.3b0) emit them."""


def _if(is_measured: Callable[[CallRecord], bool], instrument: Instrument, name: str) -> Instrument:
    """Return an instrument under another name, for some calls."""
    value = instrument.value

    def read(record: CallRecord) -> float | None:
        return value(record) if value is not None and is_measured(record) else None

    return instrument._replace(name=name, value=read)


def _is_not_embeddings(record: CallRecord) -> bool:
    return record.operation != _EMBEDDINGS


def _is_inference(record: CallRecord) -> bool:
    return record.operation in INFERENCE


def _is_embeddings(record: CallRecord) -> bool:
    return record.operation == _EMBEDDINGS


def _is_neither(record: CallRecord) -> bool:
    return not _is_inference(record) and not _is_embeddings(record)


def _counters(name: str, field: str, part: str = "") -> list[Instrument]:
    """Return the parts of a token counter: one for each modality in `part`, one for the tokens that are in none."""
    parts = {kind: part.format(kind) for kind in _MODALITIES if part}

    def tokens_of(kind: str) -> Callable[[CallRecord], int | None]:
        def count(record: CallRecord) -> int | None:
            if record.usage is None or _is_embeddings(record):
                return None
            return _of_modality(record.usage, field, parts, kind)

        return count

    return [
        Instrument(
            f"{_PREFIX}.usage.{name}", "counter", "{token}", "Tokens, by modality.",
            _ANSWER + Table(Row(_TOKEN_MODALITY, STRING, Constant(kind), "`text`, `image`, `audio`, else `unknown`.")),
            tokens_of(kind),
        )
        for kind in (*parts, _UNKNOWN)
    ]  # fmt: skip


def _of_modality(usage: Usage, field: str, parts: Mapping[str, str], kind: str) -> int | None:
    """Return the tokens of one modality, of `_UNKNOWN` the others; None for none."""
    if kind in parts:
        return getattr(usage, parts[kind]) or None
    total: int | None = getattr(usage, field)
    counted_tokens = sum(getattr(usage, part) or 0 for part in parts.values())
    return None if total is None or total <= counted_tokens else total - counted_tokens


def _per_operation(kind: str) -> Instrument:
    """Return the distribution of the input or output tokens per call."""
    instrument = _tokens(kind)._replace(attributes=_ANSWER + Table(Row(ERROR_TYPE, STRING, _failure)))
    return _if(_is_not_embeddings, instrument, f"{_PREFIX}.operation.{kind}_tokens")


def _invocation(instrument: Instrument, operation: str) -> Instrument:
    """Return an instrument as a part of the duration of agents and workflows, which are told by their operation."""
    attributes = Table(Row(OPERATION_NAME, STRING, Constant(operation)), Row(AGENT_NAME, STRING, "name"), _ERROR_TYPE)
    return _AGENT_DURATION._replace(attributes=attributes, value=instrument.value)


_AGENT_RUN: Final = Table(Row(AGENT_NAME, STRING, "name"))
LATEST: Final = Names(
    schema_url=SCHEMA_URL,
    of_calls=(
        _if(_is_inference, _DURATION, f"{_PREFIX}.duration"),
        _if(_is_embeddings, _DURATION, "gen_ai.client.embeddings.duration"),
        _if(_is_neither, _DURATION, _DURATION.name),
        _if(_is_inference, _FIRST_CHUNK, f"{_PREFIX}.time_to_first_chunk"),
        Instrument(
            f"{_PREFIX}.time_per_output_chunk", "histogram", "s",
            "Mean time between chunks, one value per chunk after the first.",
            _ANSWER, _per_chunk_s, _DURATION_BUCKETS, lambda record: record.stream.chunks - 1,
        ),
        *_counters("input_tokens", "input_tokens", "input_{}_tokens"),
        *_counters("output_tokens", "output_tokens", "output_{}_tokens"),
        *_counters("cache_read.input_tokens", "cache_read_tokens", "cache_read_{}_tokens"),
        *_counters("cache_write.input_tokens", "cache_write_tokens"),
        *_counters("reasoning.output_tokens", "reasoning_tokens"),
        _per_operation("input"),
        _per_operation("output"),
        _if(
            _is_embeddings, _tokens("input")._replace(attributes=_ANSWER),
            "gen_ai.client.embeddings.operation.input_tokens",
        ),
        *_OWN,
    ),
    of_events={
        EventRecord: (_TOOL_DURATION, _invocation(_AGENT_DURATION, "invoke_agent")),
        TimestepRecord: (_TIMESTEP_DURATION,),
    },
    of_sessions=tuple(_invocation(instrument, "invoke_workflow") for instrument in RELEASED.of_sessions),
    of_agent_runs=(
        Instrument(
            "gen_ai.invoke_agent.inference_calls", "histogram", "{inference_call}",
            "Calls of an agent run, without those of agents inside.",
            _AGENT_RUN, attrgetter("inference_calls"), _CALL_BUCKETS,
        ),
        Instrument(
            "gen_ai.invoke_agent.tool_calls", "histogram", "{tool_call}",
            "Runs of tools of an agent run, without those of agents inside.",
            _AGENT_RUN, attrgetter("tool_calls"), _CALL_BUCKETS,
        ),
    ),
)  # fmt: skip
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
