"""Unit tests of recorder and providers."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from callspan import Settings
from callspan.delivery.recorder import Recorder
from callspan.fail_open import failures
from callspan.process.processed import Processed
from callspan.records import CallRecord, Record, Request, Usage
from callspan.spool import directory
from callspan.wiring.pipeline import Providers
from tests.processed import processed

from .conftest import made, stored


def test_a_listener_that_raises_costs_neither_the_record_nor_the_next_listener(store: str) -> None:
    seen: list[Processed[Record]] = []

    def broken(record: Processed[Record]) -> None:
        raise KeyError("mine")

    one = Recorder(Settings(stores=(store,)), (broken, seen.append))
    one.write(processed(made("a")))
    one.retire(5.0)
    assert len(seen) == 1
    assert stored(store) == {"a"}
    assert failures() == {"show a record to a listener": 1}


def test_of_two_urls_of_one_store_the_first_tells_what_was_priced(tmp_path: Path) -> None:
    prices = tmp_path / "prices.json"
    prices.write_text(json.dumps({"models": {"m": {"input": "2", "output": "4"}}}))
    path, told = tmp_path / "calls.db", list[Processed[Record]]()
    one = Recorder(Settings(stores=(f"sqlite:///{path}", str(path)), prices=prices), priced=told.append)
    usage = Usage(input_tokens=1_000_000, output_tokens=0)
    one.write(processed(made("a", request=Request(model="m"), usage=usage, outcome="success")))
    one.retire(10.0)
    assert [record.record.cost.usd for record in told if isinstance(record.record, CallRecord)] == [Decimal(2)]


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


def test_a_spool_on_a_network_file_system_is_said_at_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text(f"tmpfs / tmpfs rw 0 0\nserver:/home {tmp_path} nfs4 rw 0 0\n")
    monkeypatch.setattr(directory, "_MOUNTS", mounts)
    recorder = Recorder(Settings(stores=(f"sqlite:///{tmp_path}/calls.db",)))
    recorder.write(processed(made("a")))
    recorder.retire(5.0)
    (line,) = [one for one in caplog.messages if "network" in one]
    assert "CALLSPAN_SPOOL_DIR" in line
