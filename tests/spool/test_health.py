"""Health: the warnings of a failing store, their content and frequency."""

from __future__ import annotations

import logging
import sqlite3
from pathlib import Path

import pytest

from callspan.spool.sink import Backlog, Health, reason
from callspan.spool.spool import Spool

from .rig import DownSink, record, until

REFUSED = ConnectionRefusedError(111, "Connection refused")
LOCKED = sqlite3.OperationalError("attempt to write a readonly database")


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def health(clock: Clock) -> Health:
    return Health("postgresql://me@host/db", lambda: Backlog(1204, 0, "callspan.db.spool"), clock)


def test_the_warning_has_store_reason_number_and_time(health: Health, caplog: pytest.LogCaptureFixture) -> None:
    health.failed(REFUSED)
    (message,) = caplog.messages
    assert message.startswith(
        "postgresql://me@host/db is unavailable (Connection refused): 1,204 records wait since 1970"
    )
    assert message.endswith(", kept in callspan.db.spool; retrying")
    assert caplog.records[0].levelno == logging.WARNING


def test_an_outage_is_reported_every_five_minutes_with_its_reason_and_the_end_once(
    health: Health, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    for second in range(0, 700, 10):
        clock.now = float(second)
        health.failed(LOCKED if 100 <= second < 400 else REFUSED)
    health.recovered()
    health.recovered()
    reasons = [
        "readonly" if "readonly" in one else "refused" if "refused" in one else "well" for one in caplog.messages
    ]
    assert reasons == ["refused", "readonly", "refused", "well"]
    assert caplog.messages[-1] == "postgresql://me@host/db takes records again, after 690.0 s"


def test_an_outage_with_several_reasons_is_reported_once(
    health: Health, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    starting = RuntimeError("the database system is starting up")
    closed = RuntimeError("server closed the connection")
    for second, error in enumerate([closed, *[REFUSED] * 150, *[starting] * 50]):
        clock.now = float(second)
        health.failed(error)
    health.recovered()
    assert ["is unavailable" in message for message in caplog.messages] == [True, False]


def test_a_flapping_store_is_not_reported_more_often(
    health: Health, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    for second in range(0, 600, 10):
        clock.now = float(second)
        health.failed(REFUSED)
        health.recovered()
    assert len(caplog.messages) == 4, "twice down, twice up"


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (REFUSED, "Connection refused"),
        (OSError(28, "No space left on device", "/a/b.jsonl"), "No space left on device: /a/b.jsonl"),
        (sqlite3.OperationalError("no such table: calls"), "no such table: calls"),
        (ValueError(), "ValueError"),
        (RuntimeError("postgresql://me:geheim@host/db refused\nHINT: more"), "postgresql://host/db refused"),
        (RuntimeError("long " * 100), "long " * 79 + "long…"),
    ],
)
def test_the_reason_is_short_and_without_passwords(error: Exception, why: str) -> None:
    assert reason(error) == why


def test_a_spool_reports_its_failing_sink_and_the_recovery(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    down = DownSink(tmp_path / "d")
    spool = Spool(tmp_path / "spool", [down])
    for number in range(3):
        spool.append(record(f"k{number}"))
    until(lambda: spool.counters()["retried"] >= 4)
    (message,) = caplog.messages
    assert message.startswith("down is unavailable (nobody listens at postgresql://host/db): ")
    assert f"kept in {tmp_path / 'spool'}; retrying" in message
    down.up.set()
    assert spool.flush(10)
    until(lambda: len(caplog.messages) == 2)
    assert caplog.messages[1].startswith("down takes records again, after ")
    spool.close(5)


def test_a_reason_that_names_another_id_each_time_is_the_same_reason(
    health: Health, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(50):
        clock.now += 1
        health.failed(OSError(f"query 57675826-b621-4513-8120-955fd432c{number:03} from port {41000 + number} failed"))
    assert len(caplog.messages) == 1
    clock.now += 300
    health.failed(OSError("query 57675826-b621-4513-8120-955fd432ced7 from port 7 failed"))
    assert len(caplog.messages) == 2
    assert len(health._warned) == 1
