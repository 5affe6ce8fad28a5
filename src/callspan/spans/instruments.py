"""Metrics of calls, sessions and operations, recorded from finished records, whether sampled or not.

Names follow the conventions as released instrumentations emit them; callspan's own start with `callspan.`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeAlias
from weakref import ref

import msgspec
from opentelemetry import metrics
from opentelemetry.environment_variables import OTEL_PYTHON_METER_PROVIDER
from opentelemetry.metrics import CallbackOptions, Meter, MeterProvider, NoOpMeterProvider, Observation

from callspan import private_names
from callspan.process.processed import ProcessedRecord
from callspan.record.call import CallRecord, RateLimit
from callspan.record.events import Record
from callspan.runtime.clock import monotonic_s
from callspan.runtime.fail_open import fail_open
from callspan.semconv import metrics as names
from callspan.semconv.content_attributes import Attributes, AttributeValue
from callspan.semconv.metrics import Instrument
from callspan.spans.preparing import prepare
from callspan.spool.shipper import SinkState

if TYPE_CHECKING:
    from callspan.delivery.recorder import Recorder

_COUNT_START: Final = fail_open("count a call that starts")
_READ: Final = fail_open("read the counters of the spool")
_REJECTED: Final = "rejected"
_GIVEN_UP: Final = "given_up"
_MEASURE: Final = fail_open("measure a call")
_INSTRUMENTS: Final = fail_open("create the instruments for metrics")
_UNKNOWN: Final = object()
_MAX_NAMES: Final = 200
_MAX_LIMIT_AGE_S: Final = 300.0

_Key: TypeAlias = tuple[tuple[str, AttributeValue], ...]
_Measure: TypeAlias = Callable[[Any, Attributes], None]
_Observe: TypeAlias = Callable[[CallbackOptions], Iterable[Observation]]
_BY_PROVIDER: Final[list[tuple[ref[MeterProvider], _Instruments]]] = []
"""The instruments by provider, reused by a second `instrument()`. A list, because providers may be unhashable."""


class CallMetrics:
    """Records measurements with one meter provider. Thread-safe; never raises.

    The global provider is looked up for every call, because an application may set it after `instrument()`. Until there
    is one, a call costs only this look-up.
    """

    def __init__(self, provider: MeterProvider | None, version: str, deliveries: Recorder | None = None) -> None:
        """`provider` is the global one by default; `deliveries` reports the state of the stores, if any."""
        self._configured_provider = provider
        self._version = version
        self._deliveries = deliveries
        self._provider: MeterProvider | None = None
        self._instruments: _Instruments | None = None
        self.costs = _Costs(self)
        self.are_wanted: Callable[[], object] = lambda: True
        """Returns a true value if there may be a provider."""
        if provider is None and OTEL_PYTHON_METER_PROVIDER not in os.environ:
            # Without a provider the API would read the environment each time.
            internal = getattr(metrics, private_names.INTERNAL.name, None)
            self.are_wanted = partial(getattr, internal, private_names.METER_PROVIDER.name, _UNKNOWN)

    def count_running(self, processed: ProcessedRecord[CallRecord]) -> Callable[[], object] | None:
        """Count a call in progress; the returned function ends it for the same provider and attributes."""
        try:
            instruments = self._in_use()
            return None if instruments is None else instruments.count_start(processed.record)
        except Exception as error:
            _COUNT_START.report(error)
            return None

    def measure_call(self, processed: ProcessedRecord[CallRecord]) -> None:
        """Record the measurements of a finished call."""
        with _MEASURE:
            instruments = self._in_use()
            if instruments is not None:
                instruments.measure(names.OF_CALLS, processed.record)
                instruments.keep_rate_limits(processed.record)

    def measure_cost(self, processed: ProcessedRecord[Record]) -> None:
        """Record the cost of a call that was priced during delivery; ignore other records."""
        record = processed.record
        if isinstance(record, CallRecord) and record.seen_in != "import":
            self._measure((names.COST,), record)

    def measure_event(self, processed: ProcessedRecord[Record]) -> None:
        """Measure a finished run of a tool or agent, or a finished timestep; ignore other records."""
        self._measure(names.OF_EVENTS.get(type(processed.record), ()), processed.record)

    def measure_session(self, processed: ProcessedRecord[Record], start_ns: int) -> None:
        """Measure a finished session.

        `start_ns` is the start of its span: a session that was continued began earlier.
        """
        self._measure(names.OF_SESSIONS, msgspec.structs.replace(processed.record, start_ns=start_ns))

    def _measure(self, instruments: Sequence[Instrument], record: object) -> None:
        try:
            in_use = self._in_use() if instruments else None
            if in_use is not None:
                in_use.measure(instruments, record)
        except Exception as error:
            _MEASURE.report(error)

    def _in_use(self) -> _Instruments | None:
        """Return the instruments of the provider that is in use now, None without one."""
        if self._configured_provider is None and not self.are_wanted():
            return None
        provider = metrics.get_meter_provider() if self._configured_provider is None else self._configured_provider
        if provider is not self._provider:
            self._set_up(provider)
        return self._instruments

    def _set_up(self, provider: MeterProvider) -> None:
        with _INSTRUMENTS:
            self._instruments = None if _is_placeholder(provider) else self._instruments_for(provider)
            if self._instruments is not None:
                self._instruments.recorder = self._deliveries
        self._provider = provider

    def _instruments_for(self, provider: MeterProvider) -> _Instruments:
        for owner, existing in list(_BY_PROVIDER):
            if owner() is provider:
                return existing
        instruments = _Instruments(provider.get_meter("callspan", self._version, names.SCHEMA_URL))
        prepare(instrument.attributes for instrument in (*names.OF_CALLS, names.LIMIT))
        _BY_PROVIDER[:] = [entry for entry in _BY_PROVIDER if entry[0]() is not None]
        _BY_PROVIDER.append((ref(provider), instruments))
        return instruments


class _Costs:
    """Measures the cost of calls alone, for those made while instrumentation is suppressed."""

    def __init__(self, of_calls: CallMetrics) -> None:
        self.costs = self
        self.measure_call = of_calls.measure_cost
        self._of_calls = of_calls

    @property
    def are_wanted(self) -> Callable[[], object]:
        """See `CallMetrics.are_wanted`."""
        return self._of_calls.are_wanted

    def count_running(self, _processed: ProcessedRecord[CallRecord]) -> None:
        """Count nothing."""


def _is_placeholder(provider: MeterProvider) -> bool:
    """Return whether a provider drops everything, as the API's placeholder does, and one that was shut down."""
    placeholder = getattr(
        getattr(metrics, private_names.INTERNAL.name, None), private_names.PROXY_METER_PROVIDER.name, None
    )
    kinds = (NoOpMeterProvider, placeholder) if isinstance(placeholder, type) else (NoOpMeterProvider,)
    return isinstance(provider, kinds) or getattr(provider, private_names.METERS_SHUT_DOWN.name, False) is True


class _Instruments:
    """The instruments of one meter, and the state of the asynchronous ones."""

    def __init__(self, meter: Meter) -> None:
        self.recorder: Recorder | None = None
        """The recorder of the current `instrument()`."""
        self._names: dict[str, set[str]] = {}
        self._running: dict[tuple[int, _Key], dict[str, None]] = {}
        self._limits: dict[_Key, tuple[float, RateLimit]] = {}
        instruments_by_name = {instrument.name: instrument for instrument in names.RECORDED}
        self._measures = {name: _measure_of(meter, instrument) for name, instrument in instruments_by_name.items()}
        observed: Sequence[tuple[Callable[..., object], Instrument, _Observe]] = (
            (meter.create_observable_up_down_counter, names.IN_FLIGHT, self._in_flight),
            (meter.create_observable_gauge, names.REMAINING, partial(self._rate_limits, "remaining")),
            (meter.create_observable_gauge, names.LIMIT, partial(self._rate_limits, "limit")),
            (meter.create_observable_counter, names.RECORDS_WRITTEN, self._written),
            (meter.create_observable_counter, names.RECORDS_DROPPED, self._dropped),
            (meter.create_observable_gauge, names.RECORDS_WAITING, self._waiting),
        )
        for create, instrument, observe in observed:
            create(instrument.name, [observe], instrument.unit, instrument.about)

    def count_start(self, record: CallRecord) -> Callable[[], object]:
        # Each step is atomic, so that no lock can be held during a fork. Keyed by process, because a call ends in the
        # process that started it, and by id, so that a repeated end counts once.
        key = os.getpid(), _key(self._attributes(names.IN_FLIGHT, record))
        running = self._running.setdefault(key, {})
        running[record.call_id] = None
        return partial(running.pop, record.call_id, None)

    def measure(self, instruments: Iterable[Instrument], record: object) -> None:
        """Record what the instruments measure of a record."""
        for instrument in instruments:
            value = None if instrument.value is None else instrument.value(record)
            if value is not None:
                self._measures[instrument.name](value, self._attributes(instrument, record))

    def keep_rate_limits(self, record: CallRecord) -> None:
        if record.rate_limits is not None:
            attributes = self._attributes(names.LIMIT, record)
            for unit in record.rate_limits.__struct_fields__:
                limit = getattr(record.rate_limits, unit)
                if limit is not None:
                    self._limits[_key({**attributes, names.RATE_LIMIT_UNIT: unit})] = monotonic_s(), limit

    def _attributes(self, instrument: Instrument, record: object) -> Attributes:
        """Return the attributes of a measurement; `_OTHER` for a name once its kind has too many different ones."""
        attributes = instrument.attributes.of(record)
        for kind in names.NAMES & attributes.keys():
            names_of_kind, name = self._names.setdefault(kind, set()), str(attributes[kind])
            if len(names_of_kind) < _MAX_NAMES:
                names_of_kind.add(name)
            elif name not in names_of_kind:
                attributes[kind] = names.OTHER
        return attributes

    def _in_flight(self, _: CallbackOptions) -> Iterable[Observation]:
        running = [*self._running.items()]
        return [Observation(len(calls), dict(key)) for (process, key), calls in running if process == os.getpid()]

    def _rate_limits(self, field: str, _: CallbackOptions) -> Iterable[Observation]:
        """Return the rate limits of recent responses."""
        oldest_s = monotonic_s() - _MAX_LIMIT_AGE_S
        recent = [
            (key, getattr(limit, field)) for key, (seen_s, limit) in [*self._limits.items()] if seen_s >= oldest_s
        ]
        return [Observation(value, dict(key)) for key, value in recent if value is not None]

    def _written(self, _: CallbackOptions) -> Iterable[Observation]:
        return [Observation(state.delivered, {names.STORE: state.name}) for state in self._states()]

    def _dropped(self, _: CallbackOptions) -> Iterable[Observation]:
        observations = [
            Observation(count, {names.STORE: state.name, names.DROP_REASON: reason})
            for state in self._states()
            for reason, count in ((_REJECTED, state.rejected), (_GIVEN_UP, state.given_up))
        ]
        with _READ:
            drops = {} if self.recorder is None else self.recorder.drops()
            observations += [Observation(count, {names.DROP_REASON: reason}) for reason, count in drops.items()]
        return observations

    def _waiting(self, _: CallbackOptions) -> Iterable[Observation]:
        return [Observation(state.oldest_s or 0.0, {names.STORE: state.name}) for state in self._states()]

    def _states(self) -> Sequence[SinkState]:
        with _READ:
            return () if self.recorder is None else self.recorder.states()
        return ()


def _key(attributes: Attributes) -> _Key:
    return tuple(attributes.items())


def _measure_of(meter: Meter, instrument: Instrument) -> _Measure:
    """Create a synchronous instrument; return its function for a measurement."""
    if instrument.kind == "counter":
        return meter.create_counter(instrument.name, instrument.unit, instrument.about).add
    histogram = meter.create_histogram(
        instrument.name, instrument.unit, instrument.about, explicit_bucket_boundaries_advisory=instrument.buckets
    )
    return histogram.record
