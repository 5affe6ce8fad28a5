"""Metrics of calls, sessions and operations, recorded from finished records, whether sampled or not.

Names follow the conventions as released instrumentations emit them; callspan's own start with `callspan.`. Attributes
have low cardinality (keywords, providers, models, servers), never an id.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Final
from weakref import ref

from opentelemetry import metrics
from opentelemetry.environment_variables import OTEL_PYTHON_METER_PROVIDER
from opentelemetry.metrics import CallbackOptions, Histogram, Meter, MeterProvider, NoOpMeterProvider, Observation

from callspan import private_names
from callspan.fail_open import fail_open, reported
from callspan.observe.ports import CallInfo
from callspan.process.processed import Processed
from callspan.record.call import FAILED, CallRecord, ErrorInfo, RateLimit
from callspan.record.events import EventRecord, Record, SessionRecord, TimestepRecord
from callspan.record.usage import Cost
from callspan.semconv import gen_ai
from callspan.semconv import metrics as names
from callspan.semconv.call import ERROR_KIND, ERROR_RETRYABLE, OUTCOME, STREAM_END
from callspan.semconv.content_attributes import Attributes, AttributeValue
from callspan.spool.shipper import SinkState

if TYPE_CHECKING:
    from callspan.delivery.recorder import Recorder

_COUNT_START: Final = fail_open("count a call that starts")
_READ: Final = fail_open("read the counters of the spool")
_REJECTED: Final = "rejected"
_MEASURE: Final = fail_open("measure a call")
_INSTRUMENTS: Final = fail_open("create the instruments for metrics")
_UNKNOWN: Final = object()
_MODEL: Final = "model"
_TOOL: Final = "tool"
_OPERATIONS: Final = frozenset({_TOOL, "agent"})
_NS: Final = 1e9
_TOO_MANY_REQUESTS: Final = 429
_MAX_NAMES: Final = 200
_MAX_LIMIT_AGE_S: Final = 300.0
_no_op: Final[Callable[[], object]] = bool
"""A function implemented in C that does nothing."""

_Key = tuple[tuple[str, AttributeValue], ...]
_BY_PROVIDER: Final[list[tuple[ref[MeterProvider], _Instruments]]] = []
"""The instruments by provider, reused by a second `instrument()`. A list, because providers may be unhashable."""


class DeliveryMetrics:
    """Asynchronous instruments of delivery, without cost per record."""

    def __init__(self, meter: Meter) -> None:
        self.recorder: Recorder | None = None
        """The recorder of the current `instrument()`."""
        meter.create_observable_counter(*names.RECORDS_WRITTEN.observable_arguments(self._written))
        meter.create_observable_counter(*names.RECORDS_DROPPED.observable_arguments(self._dropped))
        meter.create_observable_gauge(*names.RECORDS_WAITING.observable_arguments(self._waiting))

    def _written(self, options: CallbackOptions) -> Iterable[Observation]:
        del options
        return [Observation(state.delivered, {names.STORE: state.name}) for state in self._states()]

    def _dropped(self, options: CallbackOptions) -> Iterable[Observation]:
        del options
        lost = [
            Observation(state.rejected, {names.STORE: state.name, names.DROP_REASON: _REJECTED})
            for state in self._states()
        ]
        with _READ:
            counted = {} if self.recorder is None else self.recorder.drops()
            lost += [Observation(count, {names.DROP_REASON: reason}) for reason, count in counted.items()]
        return lost

    def _waiting(self, options: CallbackOptions) -> Iterable[Observation]:
        del options
        return [Observation(state.oldest_s or 0.0, {names.STORE: state.name}) for state in self._states()]

    def _states(self) -> Sequence[SinkState]:
        with _READ:
            return () if self.recorder is None else self.recorder.states()
        return ()


class CallMetrics:
    """Records measurements with one meter provider. Thread-safe; never raises.

    The global provider is looked up for every call, because an application may set it after `instrument()`. Until there
    is one, a call costs only this look-up.
    """

    def __init__(self, provider: MeterProvider | None, version: str, deliveries: Recorder | None = None) -> None:
        """`provider` is the global one by default; `deliveries` reports the state of the stores, if any."""
        self._given = provider
        self._version = version
        self._deliveries = deliveries
        self._provider: MeterProvider | None = None
        self._instruments: _Instruments | None = None
        self.are_wanted: Callable[[], object] = partial(bool, True)
        """Returns a true value if there may be a provider; implemented in C."""
        if provider is None and OTEL_PYTHON_METER_PROVIDER not in os.environ:
            # Without a provider the API would read the environment each time.
            internal = getattr(metrics, private_names.INTERNAL.name, None)
            self.are_wanted = partial(getattr, internal, private_names.METER_PROVIDER.name, _UNKNOWN)

    def begun(self, processed: Processed[CallRecord]) -> Callable[[], object]:
        """Count a call in progress; the returned function ends it for the same provider and attributes."""
        try:
            provider = self._in_use()
            instruments = None if provider is None else self._of(provider)
            return _no_op if instruments is None else instruments.count_start(processed.record)
        except reported(_COUNT_START):
            return _no_op

    def observed(self, processed: Processed[CallRecord]) -> None:
        """Record the measurements of a finished call."""
        self._measure(partial(_Instruments.measure_call, record=processed.record))

    def priced(self, processed: Processed[Record]) -> None:
        """Record the cost of a call that was priced during delivery; ignore other records."""
        record = processed.record
        if isinstance(record, CallRecord) and record.cost is not None and record.seen_in != "import":
            self._measure(partial(_Instruments.measure_cost, record=record, cost=record.cost))

    def measure_event(self, processed: Processed[Record]) -> None:
        """Measure a finished run of a tool or agent, or a finished timestep; ignore other records."""
        # Called for every event: this check is cheaper than looking up the provider.
        if self._given is None and not self.are_wanted():
            return
        record = processed.record
        if isinstance(record, EventRecord):
            has_ended = record.event_type in _OPERATIONS
        else:
            has_ended = isinstance(record, TimestepRecord) and record.end_ns is not None
        if has_ended:
            self._measure(partial(_Instruments.measure_ended, record=record))

    def measure_session(self, processed: Processed[Record], start_ns: int) -> None:
        """Measure a finished session; ignore other records.

        `start_ns` is the start of its span: a session that was continued began earlier.
        """
        record = processed.record
        if isinstance(record, SessionRecord) and record.end_ns is not None:
            duration_ns = record.end_ns - start_ns
            self._measure(partial(_Instruments.measure_session, record=record, duration_ns=duration_ns))

    def connection_failed(self, info: CallInfo, error: ErrorInfo) -> None:
        """Count a failed websocket connection for which no call was waiting."""
        self._measure(partial(_Instruments.count_connection_error, info=info, error=error))

    def _measure(self, measure: Callable[[_Instruments], object]) -> None:
        try:
            provider = self._in_use()
            instruments = None if provider is None else self._of(provider)
            if instruments is not None:
                measure(instruments)
        except reported(_MEASURE):
            return

    def _in_use(self) -> MeterProvider | None:
        if self._given is not None:
            return self._given
        return metrics.get_meter_provider() if self.are_wanted() else None

    def _of(self, provider: MeterProvider) -> _Instruments | None:
        if provider is not self._provider:
            self._set_up(provider)
        return self._instruments

    def _set_up(self, provider: MeterProvider) -> None:
        with _INSTRUMENTS:
            self._instruments = None if _is_placeholder(provider) else self._instruments_for(provider)
            if self._instruments is not None:
                self._instruments.delivery.recorder = self._deliveries
        self._provider = provider

    def _instruments_for(self, provider: MeterProvider) -> _Instruments:
        found = next((instruments for owner, instruments in list(_BY_PROVIDER) if owner() is provider), None)
        if found is None:
            found = _Instruments(provider.get_meter("callspan", self._version, names.SCHEMA_URL))
            _BY_PROVIDER[:] = [one for one in _BY_PROVIDER if one[0]() is not None]
            _BY_PROVIDER.append((ref(provider), found))
        return found


def _is_placeholder(provider: MeterProvider) -> bool:
    """Return whether a provider drops everything, as the API's placeholder does."""
    placeholder = getattr(
        getattr(metrics, private_names.INTERNAL.name, None), private_names.PROXY_METER_PROVIDER.name, None
    )
    kinds = (NoOpMeterProvider, placeholder) if isinstance(placeholder, type) else (NoOpMeterProvider,)
    return isinstance(provider, kinds)


class _Instruments:
    """The instruments of one meter, and the state of the asynchronous ones."""

    def __init__(self, meter: Meter) -> None:
        self._names: dict[str, set[str]] = {}
        self._running: dict[tuple[int, _Key], dict[str, None]] = {}
        self._limits: dict[_Key, tuple[float, RateLimit]] = {}
        self._duration = _histogram(meter, names.DURATION)
        self._tokens = _histogram(meter, names.TOKEN_USAGE)
        self._first_chunk = _histogram(meter, names.TIME_TO_FIRST_CHUNK)
        self._first_token = _histogram(meter, names.TIME_TO_FIRST_TOKEN)
        self._per_chunk = _histogram(meter, names.TIME_PER_CHUNK)
        self._cost = _histogram(meter, names.COST)
        self._tool = _histogram(meter, names.TOOL_DURATION)
        self._agent = _histogram(meter, names.AGENT_DURATION)
        self._session = _histogram(meter, names.WORKFLOW_DURATION)
        self._timestep = _histogram(meter, names.TIMESTEP_DURATION)
        self._retries = meter.create_counter(*names.RETRIES.arguments)
        self._rate_limited = meter.create_counter(*names.RATE_LIMITED.arguments)
        self._errors = meter.create_counter(*names.ERRORS.arguments)
        self._connection_errors = meter.create_counter(*names.CONNECTION_ERRORS.arguments)
        meter.create_observable_up_down_counter(*names.IN_FLIGHT.observable_arguments(self._in_flight))
        meter.create_observable_gauge(*names.REMAINING.observable_arguments(self._remaining))
        meter.create_observable_gauge(*names.LIMIT.observable_arguments(self._whole_limit))
        self.delivery = DeliveryMetrics(meter)

    def count_start(self, record: CallRecord) -> Callable[[], object]:
        # Each step is atomic, so that no lock can be held during a fork. Keyed by process, because a call ends in the
        # process that started it, and by id, so that a repeated end counts once.
        running = self._running.setdefault((os.getpid(), _key(self._about(record))), {})
        running[record.call_id] = None
        return partial(running.pop, record.call_id, None)

    def measure_call(self, record: CallRecord) -> None:
        about = self._about(record)
        self._counts(record, about)
        for unit, limit in _limits(record):
            self._limits[_key({**about, names.RATE_LIMIT_UNIT: unit})] = time.monotonic(), limit
        self._measure_operation(record, {**about, **self._response_attributes(record)})
        if record.cost is not None:
            self.measure_cost(record, record.cost)

    def measure_cost(self, record: CallRecord, cost: Cost) -> None:
        source = cost.source if cost.source == names.FROM_PROVIDER else names.COMPUTED
        about = {**self._about(record), names.COST_SOURCE: source, names.COST_ESTIMATED: cost.estimated}
        self._cost.record(float(cost.usd), about)

    def measure_ended(self, record: Record) -> None:
        if isinstance(record, TimestepRecord):
            if record.start_ns is not None and record.end_ns is not None:
                about: Attributes = {names.SUCCESS: record.error is None}
                self._timestep.record((record.end_ns - record.start_ns) / _NS, about)
        elif not isinstance(record, EventRecord) or record.duration_ns is None:
            return
        elif record.event_type == _TOOL:
            about = self._named(names.TOOL_NAME, record.name or names.OTHER, record.error)
            about[names.TOOL_TYPE] = names.FUNCTION
            if record.system:
                about[names.AGENT_NAME] = self._bounded(names.AGENT_NAME, record.system)
            self._tool.record(record.duration_ns / _NS, about)
        else:
            self._agent.record(record.duration_ns / _NS, self._named(names.AGENT_NAME, record.name, record.error))

    def measure_session(self, record: SessionRecord, duration_ns: int) -> None:
        self._session.record(duration_ns / _NS, self._named(names.WORKFLOW_NAME, record.name, record.error))

    def count_connection_error(self, info: CallInfo, error: ErrorInfo) -> None:
        about = {gen_ai.PROVIDER_NAME: info.provider, ERROR_KIND: error.kind, **_server(info)}
        self._connection_errors.add(1, about)

    def _counts(self, record: CallRecord, about: Attributes) -> None:
        if record.retries:
            self._retries.add(record.retries, about)
        if record.rate_limited:
            hits = sum(attempt.status == _TOO_MANY_REQUESTS for attempt in record.attempts)
            self._rate_limited.add(max(1, hits), about)
        error = record.error
        if error is not None and record.outcome in FAILED:
            self._errors.add(1, {**about, ERROR_KIND: error.kind, ERROR_RETRYABLE: error.retryable})

    def _measure_operation(self, record: CallRecord, about: Attributes) -> None:
        timing, usage = record.timing, record.usage
        if usage is not None:
            for kind, tokens in (("input", usage.input_tokens), ("output", usage.output_tokens)):
                if tokens is not None:
                    self._tokens.record(tokens, {**about, names.TOKEN_TYPE: kind})
        self._measure_stream(record, about)
        if timing.duration_ns is not None:
            about = about.copy()
            if record.outcome == "cancelled":
                about[OUTCOME] = record.outcome
            elif record.error is not None:
                about[gen_ai.ERROR_TYPE] = names.bounded_type(record.error.type)
            if record.stream is not None and record.stream.end != "complete":
                about[STREAM_END] = record.stream.end
            self._duration.record(timing.duration_ns / _NS, about)

    def _measure_stream(self, record: CallRecord, about: Attributes) -> None:
        first_ns, last_ns, token_ns = (
            record.timing.first_chunk_ns, record.timing.last_chunk_ns, record.timing.first_token_ns
        )  # fmt: skip
        if first_ns is not None:
            self._first_chunk.record(first_ns / _NS, about)
            chunks = 0 if record.stream is None else record.stream.chunks
            if chunks > 1 and last_ns is not None:
                self._per_chunk.record((last_ns - first_ns) / _NS / (chunks - 1), about)
        if token_ns is not None and record.request.stream:
            self._first_token.record(token_ns / _NS, about)

    def _about(self, record: CallRecord) -> Attributes:
        """Return the attributes common to all instruments."""
        about: Attributes = {gen_ai.OPERATION_NAME: record.operation, gen_ai.PROVIDER_NAME: record.provider}
        if record.request.model:
            about[gen_ai.REQUEST_MODEL] = self._bounded(_MODEL, record.request.model)
        return about

    def _response_attributes(self, record: CallRecord) -> Attributes:
        found: Attributes = {}
        if record.response is not None and record.response.model:
            found[gen_ai.RESPONSE_MODEL] = self._bounded(_MODEL, record.response.model)
        found.update(_server(record))
        return found

    def _named(self, attribute: str, name: str | None, error: ErrorInfo | None) -> Attributes:
        about: Attributes = {}
        if name:
            about[attribute] = self._bounded(attribute, name)
        if error is not None:
            about[gen_ai.ERROR_TYPE] = names.bounded_type(error.type)
        return about

    def _bounded(self, kind: str, name: str) -> str:
        """Return the name, or `_OTHER` once its kind has too many different names."""
        known = self._names.setdefault(kind, set())
        if name not in known:
            if len(known) >= _MAX_NAMES:
                return names.OTHER
            known.add(name)
        return name

    def _in_flight(self, options: CallbackOptions) -> Iterable[Observation]:
        del options
        mine = os.getpid()
        return [
            Observation(len(running), dict(key))
            for (process, key), running in list(self._running.items())
            if process == mine
        ]

    def _remaining(self, options: CallbackOptions) -> Iterable[Observation]:
        del options
        return [Observation(limit.remaining, key) for key, limit in self._fresh() if limit.remaining is not None]

    def _whole_limit(self, options: CallbackOptions) -> Iterable[Observation]:
        del options
        return [Observation(limit.limit, key) for key, limit in self._fresh() if limit.limit is not None]

    def _fresh(self) -> Iterator[tuple[Attributes, RateLimit]]:
        """Return the rate limits of recent responses."""
        oldest_s = time.monotonic() - _MAX_LIMIT_AGE_S
        return ((dict(key), limit) for key, (seen_s, limit) in list(self._limits.items()) if seen_s >= oldest_s)


def _key(attributes: Attributes) -> _Key:
    return tuple(attributes.items())


def _server(found: CallRecord | CallInfo) -> Attributes:
    if not found.server_address:
        return {}
    port: Attributes = {} if found.server_port is None else {gen_ai.SERVER_PORT: found.server_port}
    return {gen_ai.SERVER_ADDRESS: found.server_address, **port}


def _limits(record: CallRecord) -> Iterator[tuple[str, RateLimit]]:
    limits = record.rate_limits
    if limits is not None:
        for unit in names.RATE_LIMIT_UNITS:
            limit = getattr(limits, unit)
            if limit is not None:
                yield unit, limit


def _histogram(meter: Meter, instrument: names.Instrument) -> Histogram:
    return meter.create_histogram(*instrument.arguments, explicit_bucket_boundaries_advisory=instrument.buckets)
