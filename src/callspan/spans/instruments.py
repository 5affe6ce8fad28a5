"""Metrics of calls, sessions and what happens in them: instruments fed with finished records, sampled or not.

Names of the conventions are those that released instrumentations emit; callspan's own begin with `callspan.`.
Attributes have few values: fixed words, providers, models, servers; never an id.
"""

from __future__ import annotations

import inspect
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

_COUNT_IN: Final = fail_open("count a call that begins")
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
_STALE_S: Final = 300.0
_nothing: Final[Callable[[], object]] = bool
"""Measures nothing at the end of a call, in no frame of Python."""

_Key = tuple[tuple[str, AttributeValue], ...]
_MADE: Final[list[tuple[ref[MeterProvider], _Instruments]]] = []
"""Instruments of each provider: a second `instrument()` must reuse those of the first. Providers may be unhashable."""


class DeliveryMetrics:
    """Asynchronous instruments of delivery, without cost per record. Attributes: the store's name, the reason."""

    def __init__(self, meter: Meter) -> None:
        self.of: Recorder | None = None
        """The source of the numbers: the recorder of the current `instrument()`."""
        meter.create_observable_counter(*names.RECORDS_WRITTEN.read_by(self._written))
        meter.create_observable_counter(*names.RECORDS_DROPPED.read_by(self._dropped))
        meter.create_observable_gauge(*names.RECORDS_WAITING.read_by(self._waiting))

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
            counted = {} if self.of is None else self.of.drops()
            lost += [Observation(count, {names.DROP_REASON: reason}) for reason, count in counted.items()]
        return lost

    def _waiting(self, options: CallbackOptions) -> Iterable[Observation]:
        del options
        return [Observation(state.oldest_s or 0.0, {names.STORE: state.name}) for state in self._states()]

    def _states(self) -> Sequence[SinkState]:
        with _READ:
            return () if self.of is None else self.of.states()
        return ()


class CallMetrics:
    """Records measurements with one meter provider; safe from any thread, never raises.

    A provider of None is the global one, looked up for every call, because an application may set its own after
    `instrument()`. Until there is one, a call costs only this look-up.
    """

    def __init__(self, provider: MeterProvider | None, version: str, deliveries: Recorder | None = None) -> None:
        """`deliveries` reports the stores, if records go to any."""
        self._given = provider
        self._version = version
        self._deliveries = deliveries
        self._provider: MeterProvider | None = None
        self._instruments: _Instruments | None = None
        self.are_wanted: Callable[[], object] = partial(bool, True)
        """Returns something true where there may be a provider, without a frame of Python."""
        if provider is None and OTEL_PYTHON_METER_PROVIDER not in os.environ:
            # Without a provider the API searches the environment each time.
            internal = getattr(metrics, private_names.INTERNAL.name, None)
            self.are_wanted = partial(getattr, internal, private_names.METER_PROVIDER.name, _UNKNOWN)

    def begun(self, processed: Processed[CallRecord]) -> Callable[[], object]:
        """Count an active call; the returned function counts it out with the same provider and attributes."""
        try:
            provider = self._in_use()
            if provider is None:
                return _nothing
            if provider is not self._provider:
                self._set_up(provider)
            instruments = self._instruments if provider is self._provider else None
            return _nothing if instruments is None else instruments.count_in(processed.record)
        except reported(_COUNT_IN):
            return _nothing

    def observed(self, processed: Processed[CallRecord]) -> None:
        """Record the measurements of a finished call."""
        self._measure(partial(_Instruments.measure_call, record=processed.record))

    def priced(self, processed: Processed[Record]) -> None:
        """Record the cost of a call priced later, during delivery; ignore other records."""
        record = processed.record
        if isinstance(record, CallRecord) and record.cost is not None and record.seen_in != "import":
            self._measure(partial(_Instruments.measure_cost, record=record, cost=record.cost))

    def measure_event(self, processed: Processed[Record]) -> None:
        """Measure the run of a tool or agent, or a timestep, that has ended; ignore other records."""
        record = processed.record
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
        """Measure a session that has ended, from the start of its span: the record may have begun earlier.

        Ignore a session that has not ended, and other records.
        """
        record = processed.record
        if isinstance(record, SessionRecord) and record.end_ns is not None:
            duration_ns = record.end_ns - start_ns
            self._measure(partial(_Instruments.measure_session, record=record, duration_ns=duration_ns))

    def connection_failed(self, info: CallInfo, error: ErrorInfo) -> None:
        """Count a websocket that could not be opened while no call waited for it."""
        self._measure(partial(_Instruments.count_connection_error, info=info, error=error))

    def _measure(self, take: Callable[[_Instruments], object]) -> None:
        try:
            provider = self._in_use()
            instruments = None if provider is None else self._of(provider)
            if instruments is not None:
                take(instruments)
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
            self._instruments = None if _is_placeholder(provider) else self._made(provider)
            if self._instruments is not None:
                self._instruments.delivery.of = self._deliveries
        self._provider = provider

    def _made(self, provider: MeterProvider) -> _Instruments:
        made = next((instruments for of, instruments in list(_MADE) if of() is provider), None)
        if made is None:
            made = _Instruments(provider.get_meter("callspan", self._version, names.SCHEMA_URL))
            _MADE[:] = [one for one in _MADE if one[0]() is not None]
            _MADE.append((ref(provider), made))
        return made


def _is_placeholder(provider: MeterProvider) -> bool:
    """Return whether a provider drops everything, as the placeholder of an application without metrics does."""
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
        self._retries = meter.create_counter(*names.RETRIES.described)
        self._rate_limited = meter.create_counter(*names.RATE_LIMITED.described)
        self._errors = meter.create_counter(*names.ERRORS.described)
        self._connection_errors = meter.create_counter(*names.CONNECTION_ERRORS.described)
        meter.create_observable_up_down_counter(*names.IN_FLIGHT.read_by(self._in_flight))
        meter.create_observable_gauge(*names.REMAINING.read_by(self._remaining))
        meter.create_observable_gauge(*names.LIMIT.read_by(self._whole_limit))
        self.delivery = DeliveryMetrics(meter)

    def count_in(self, record: CallRecord) -> Callable[[], object]:
        # Each step is atomic, so there is no lock that a fork could leave locked. Keyed by process, because a call ends
        # where it began, and by id, so that a call counts once even if an interrupt repeats a step.
        running = self._running.setdefault((os.getpid(), _key(self._about(record))), {})
        running[record.call_id] = None
        return partial(running.pop, record.call_id, None)

    def measure_call(self, record: CallRecord) -> None:
        about = self._about(record)
        self._counts(record, about)
        for unit, limit in _limits(record):
            self._limits[_key({**about, names.RATE_LIMIT_UNIT: unit})] = time.monotonic(), limit
        self._of_operation(record, {**about, **self._response_attributes(record)})
        if record.cost is not None:
            self.measure_cost(record, record.cost)

    def measure_cost(self, record: CallRecord, cost: Cost) -> None:
        source = cost.source if cost.source == names.OF_PROVIDER else names.COMPUTED
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

    def _of_operation(self, record: CallRecord, about: Attributes) -> None:
        timing, usage = record.timing, record.usage
        if usage is not None:
            for kind, tokens in (("input", usage.input_tokens), ("output", usage.output_tokens)):
                if tokens is not None:
                    self._tokens.record(tokens, {**about, names.TOKEN_TYPE: kind})
        self._of_stream(record, about)
        if timing.duration_ns is not None:
            about = about.copy()
            if record.outcome == "cancelled":
                about[OUTCOME] = record.outcome
            elif record.error is not None:
                about[gen_ai.ERROR_TYPE] = names.bounded_type(record.error.type)
            if record.stream is not None and record.stream.end != "complete":
                about[STREAM_END] = record.stream.end
            self._duration.record(timing.duration_ns / _NS, about)

    def _of_stream(self, record: CallRecord, about: Attributes) -> None:
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
        """Return the name, or a placeholder if there have been too many different ones of its kind."""
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
        """Return the rate limits of recent responses; older ones are out of date."""
        oldest_s = time.monotonic() - _STALE_S
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
    """Create a histogram, with advisory buckets if the installed OpenTelemetry supports them."""
    if "explicit_bucket_boundaries_advisory" not in inspect.signature(meter.create_histogram).parameters:
        return meter.create_histogram(*instrument.described)
    return meter.create_histogram(*instrument.described, explicit_bucket_boundaries_advisory=instrument.buckets)
