"""Delivery metrics: what became of records, store by store, read from the spool's own counters when it is asked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Protocol

from opentelemetry.metrics import CallbackOptions, Meter, Observation

from callspan.fail_open import fail_open
from callspan.semconv import metrics as names
from callspan.spool.shipper import SinkState

_READ: Final = fail_open("read the counters of the spool")
_DEAD: Final = "dead_letter"


class Deliveries(Protocol):
    """Who knows of the records of this process."""

    def states(self) -> Sequence[SinkState]:
        """Return how each store is doing; empty before the first record."""

    def drops(self) -> Mapping[str, int]:
        """Return how many records were dropped before any store could have them, by reason."""


class DeliveryMetrics:
    """Instruments that are read, not fed: a record costs nothing. Attributes: the store's name, the reason."""

    def __init__(self, meter: Meter) -> None:
        self.of: Deliveries | None = None
        """Whose records these are: those of the `instrument()` in force."""
        meter.create_observable_counter(*names.RECORDS_WRITTEN.read_by(self._written))
        meter.create_observable_counter(*names.RECORDS_DROPPED.read_by(self._dropped))
        meter.create_observable_gauge(*names.RECORDS_WAITING.read_by(self._waiting))

    def _written(self, options: CallbackOptions) -> Iterable[Observation]:
        del options
        return [Observation(state.delivered, {names.STORE: state.name}) for state in self._states()]

    def _dropped(self, options: CallbackOptions) -> Iterable[Observation]:
        del options
        lost = [
            Observation(state.dead_letters, {names.STORE: state.name, names.DROP_REASON: _DEAD})
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
