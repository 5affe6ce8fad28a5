"""instrument(), uninstrument() and handles: replacement, the state afterwards, and stores that close slowly."""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider

import callspan
from callspan import Settings, wiring
from callspan.delivery.recorder import Recorder
from callspan.fail_open import failures, forget_failures
from callspan.process.processed import Processed
from callspan.records import CallRecord, Record, Request, Usage
from callspan.sdk_profiles import SDKS, Sdk
from callspan.spool import directory
from callspan.wiring import WIRING
from callspan.wiring.pipeline import Providers
from tests.processed import processed
from tests.records import made

from .conftest import stored

NONE: tuple[Sdk, ...] = ()


class Raising(TracerProvider):
    """A provider of the application that is broken."""

    def get_tracer(self, *args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("broken")


def test_a_provider_that_raises_costs_the_spans_and_no_record(tmp_path: Path) -> None:
    stores = f"sqlite:///{tmp_path / 'calls.db'}"
    handle = callspan.instrument(sdks=NONE, tracer_provider=Raising(), stores=stores)
    with callspan.session("chat"), callspan.record_call(provider="mine") as call:
        call.response({"choices": []})
    assert handle.force_flush()
    assert [one.outcome for one in callspan.open_store(stores).calls()] == ["success"]


def test_another_provider_or_redactor_replaces_too() -> None:
    provider = TracerProvider(shutdown_on_exit=False)
    seen = []
    for given in ({}, {"tracer_provider": provider}, {"redact": lambda record: record}, {"redact": False}):
        callspan.instrument(sdks=NONE, **given)
        seen.append(WIRING.pipeline)
    assert len({id(pipeline) for pipeline in seen}) == 4
    callspan.instrument(sdks=NONE, tracer_provider=provider)
    assert WIRING.pipeline is seen[-1]


def test_uninstrument_of_a_replaced_handle_does_nothing() -> None:
    old = callspan.instrument(sdks=NONE, content="off")
    new = callspan.instrument(sdks=NONE, content="metadata")
    old.uninstrument()
    assert WIRING.pipeline is not None
    assert (old.settings.content, new.settings.content) == ("off", "metadata")
    assert old.force_flush(100)
    assert old.counters() == {}
    new.uninstrument()
    assert WIRING.pipeline is None


def test_a_pipeline_can_be_put_back() -> None:
    callspan.instrument(sdks=NONE, content="off")
    before = WIRING.pipeline
    callspan.instrument(sdks=NONE, content="full")
    WIRING.restore(before)
    assert WIRING.pipeline is before
    assert WIRING.hook_context.content == "off"
    WIRING.restore(before)
    assert WIRING.pipeline is before
    WIRING.restore(None)
    assert WIRING.pipeline is None


CLOSING_S = 0.8


def replace() -> None:
    callspan.instrument(content="off")


def undo() -> None:
    callspan.uninstrument()


def undo_each() -> None:
    for sdk in SDKS:
        WIRING.remove_sdk(sdk)


def restore() -> None:
    WIRING.restore(None)


def add() -> None:
    WIRING.add_stores("unix:///nobody/there.sock", "")


@pytest.mark.parametrize("change", [replace, undo, undo_each, restore, add])
def test_no_thread_waits_for_the_stores_that_another_thread_closes(
    change: Callable[[], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wiring, "_CLOSE_TIMEOUT_S", CLOSING_S)
    # What waits for a locked file is not delivered in time.
    other = sqlite3.connect(tmp_path / "calls.db", isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    callspan.instrument(stores=f"sqlite:///{tmp_path}/calls.db")
    WIRING.write(made())
    closes = threading.Thread(target=change)
    began = time.monotonic()
    closes.start()
    time.sleep(0.2)
    assert closes.is_alive()
    callspan.instrument(content="metadata")
    took = time.monotonic() - began
    closes.join()
    assert time.monotonic() - began > CLOSING_S
    assert took < CLOSING_S
    other.close()
    for thread in threading.enumerate():
        if str(tmp_path) in thread.name:
            thread.join(10)  # it may log that the file was locked
            assert not thread.is_alive()
    forget_failures()


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
