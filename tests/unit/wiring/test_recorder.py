"""Unit tests of recorder and providers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from callspan import Settings
from callspan.delivery.recorder import Recorder
from callspan.fail_open import failures
from callspan.process.processed import Processed
from callspan.records import Record
from callspan.wiring.pipeline import Providers
from tests.processed import processed

from .conftest import made, stored


def test_without_stores_nothing_is_opened_and_listeners_are_called() -> None:
    seen: list[Processed[Record]] = []
    one = Recorder(Settings(), (seen.append,))
    record = made()
    one.write(processed(record))
    assert [one.record for one in seen] == [record]
    assert one.spool is None
    assert one.counters() == {}
    assert one.flush(0.0)
    one.close(0.0)


def test_a_listener_that_raises_costs_neither_the_record_nor_the_next_listener(store: str) -> None:
    seen: list[Processed[Record]] = []

    def broken(record: Processed[Record]) -> None:
        raise KeyError("mine")

    one = Recorder(Settings(stores=(store,)), (broken, seen.append))
    one.write(processed(made("a")))
    one.close(5.0)
    assert len(seen) == 1
    assert stored(store) == {"a"}
    assert failures() == {"show a record to a listener": 1}


def test_a_record_that_cannot_be_written_is_counted_and_exported_anyway(store: str) -> None:
    seen: list[Processed[Record]] = []
    one = Recorder(Settings(stores=(store,)), (seen.append,))
    one.write(processed(made("odd", metadata={"what": object()})))
    one.write(processed(made("good")))
    one.close(5.0)
    assert len(seen) == 2
    assert "good" in stored(store)


def test_it_opens_with_the_first_record_and_again_after_it_was_closed(store: str, tmp_path: Path) -> None:
    one = Recorder(Settings(stores=(store,)))
    assert list(tmp_path.iterdir()) == []
    one.write(processed(made("a")))
    first = one.spool
    one.close(5.0)
    assert one.spool is None
    one.write(processed(made("b")))
    assert one.spool is not first
    one.close(5.0)
    one.close(5.0)
    assert stored(store) == {"a", "b"}


def test_stores_are_added_once_and_in_order(store: str, other: str) -> None:
    one = Recorder(Settings(stores=(store,)))
    one.add_stores((store,))
    one.add_stores((other, store))
    one.add_stores(())
    assert one.stores == (store, other)


# Parts


class Provider:
    """A provider of somebody else's that answers, or raises, as it likes."""

    def __init__(self, answer: object) -> None:
        self._answer = answer
        self.requested: list[int] = []

    def force_flush(self, timeout_ms: int) -> object:
        self.requested.append(timeout_ms)
        if isinstance(self._answer, Exception):
            raise self._answer
        return self._answer


@pytest.mark.parametrize(
    ("answers", "flushed"),
    [
        ((True, True), True),
        ((False, True), False),
        ((True, False), False),
        ((None, True), False),
        ((OSError("gone"), True), False),
        ((True, TypeError("odd")), False),
    ],
)
def test_every_provider_is_flushed_also_after_one_that_cannot(answers: tuple[object, object], flushed: bool) -> None:
    tracer, meter = (Provider(answer) for answer in answers)
    parts: Any = Providers(tracer_provider=tracer, meter_provider=meter)  # type: ignore[arg-type]
    assert parts.flush(1.5) == flushed
    assert tracer.requested == meter.requested == [1500]


def test_providers_that_hold_nothing_are_flushed() -> None:
    assert Providers(tracer_provider=object(), meter_provider=object(), logger_provider=object()).flush(1)  # type: ignore[arg-type]
