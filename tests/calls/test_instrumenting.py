"""instrument() and uninstrument(): settings kept and changed, stores that close slowly, providers that fail."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import callspan
import callspan.testing
from callspan import AnthropicInstrumentor, OpenAIInstrumentor, SettingError, Settings, open_store, wiring
from callspan.delivery.recorder import Recorder
from callspan.fail_open import forget_failures
from callspan.process.processed import ProcessedRecord
from callspan.records import CallRecord, Record, Request, Usage, encode
from callspan.sdk_profiles import SDKS
from callspan.settings_loader import forget_warnings
from callspan.wiring import WIRING
from callspan.wiring.pipeline import Providers
from tests.support.processed import processed
from tests.support.records import made


def stored(url: str) -> set[str]:
    """The ids of the calls in a store."""
    reader = open_store(url)
    found = {call.call_id for call in reader.calls()}
    reader.close()
    return found


def forget() -> None:
    callspan.uninstrument()
    forget_failures()
    forget_warnings()


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    caplog.set_level(logging.WARNING)
    for name in list(os.environ):
        if name.startswith(("CALLSPAN_", "OTEL_", "OPENAI_", "ANTHROPIC_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    # An exporter's stores stay for the life of a process; one that never answers would hold up every later flush.
    monkeypatch.setattr(WIRING, "_exporter_stores", ())
    monkeypatch.setattr(WIRING, "_exporter", None)
    forget()
    yield
    forget()


@pytest.fixture
def store(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'calls.db'}"


NONE: Any = ()


def redact(record: Record) -> Record:
    return record


def in_force() -> tuple[object, ...]:
    assert WIRING.pipeline is not None
    settings, parts = WIRING.pipeline.settings, WIRING.pipeline.providers
    return settings.content, settings.stores, parts.redact, parts.tracer_provider


def test_settings_of_the_code_after_automatic_instrumentation_are_no_warning(
    store: str, caplog: pytest.LogCaptureFixture
) -> None:
    """As `opentelemetry-instrument` does, before an application with `callspan.instrument(stores=...)`."""
    OpenAIInstrumentor().instrument(skip_dep_check=True)
    AnthropicInstrumentor().instrument(skip_dep_check=True)
    callspan.instrument(stores=store, stream_usage=True)
    assert caplog.messages == []
    callspan.instrument(stream_usage=False)
    assert len(caplog.messages) == 1
    OpenAIInstrumentor().uninstrument()
    AnthropicInstrumentor().uninstrument()


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"stores": "jsonl:///other.jsonl"}, ("off", ("jsonl:///other.jsonl",), redact)),
        ({"service": "s"}, ("off", None, redact)),
        ({"redact": None, "content": None, "service": "s"}, ("off", None, redact)),
        ({"content": "full"}, ("full", None, redact)),
        ({"redact": False}, ("off", None, None)),
        ({"stores": []}, ("off", (), redact)),
    ],
)
def test_settings_not_given_are_unchanged(
    given: dict[str, Any], expected: tuple[object, ...], store: str, caplog: pytest.LogCaptureFixture
) -> None:
    callspan.instrument(content="off", redact=redact, stores=store, sdks=NONE)
    callspan.instrument(**given)
    content, stores, redactor, _ = in_force()
    assert (content, stores, redactor) == (expected[0], (store,) if expected[1] is None else expected[1], expected[2])
    assert WIRING.hook_context.content == expected[0]
    assert len(caplog.messages) == 1
    callspan.instrument(**given)
    assert len(caplog.messages) == 1, "warned of once"


def test_the_warning_names_old_and_new_and_no_secret(caplog: pytest.LogCaptureFixture) -> None:
    callspan.instrument(stores="console://", content="off", sdks=NONE)
    callspan.instrument(stores="jsonl:///x.jsonl?max_bytes=3", content="metadata", redact=redact)
    assert "stores console:// -> jsonl:///x.jsonl; content off -> metadata; redact none -> redact at " in caplog.text
    assert "max_bytes" not in caplog.text


def test_the_environment_is_not_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    callspan.instrument(content="off", sdks=NONE)
    monkeypatch.setenv("CALLSPAN_CONTENT", "full")
    monkeypatch.setenv("CALLSPAN_STORES", "console://")
    callspan.instrument(service="s")
    assert in_force()[:2] == ("off", ())


def test_the_application_changes_what_an_entry_point_has_set(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CALLSPAN_CONTENT", "metadata")
    one = OpenAIInstrumentor()
    one.instrument()
    try:
        callspan.instrument(stores=store)
        assert in_force() == ("metadata", (store,), None, None)
        assert WIRING.patches.wanted == {"openai"}
        callspan.instrument(sdks=("anthropic",))
        assert WIRING.patches.wanted == {"openai", "anthropic"}
    finally:
        one.uninstrument()


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"sdks": "opanai"}, "^sdks='opanai': use some of openai, anthropic"),
        ({"sdks": ["openai", "cohere"]}, "^sdks='cohere'"),
        ({"sdks": 3}, "^sdks=3"),
        ({"sdks": [None]}, "^sdks=None"),
        ({"redact": "x"}, "^redact='x': use a function"),
        ({"redact": True}, "^redact=True"),
        ({"tracer_provider": "x"}, "^tracer_provider='x'.*get_tracer"),
        ({"meter_provider": 3}, "^meter_provider=3"),
        ({"logger_provider": object()}, "^logger_provider=a value of type object"),
        ({"stores": Path("calls")}, "^stores: unknown kind of store 'calls'"),
        ({"stores": "postgresql://u:pass/word-8@h/db"}, "^stores: .*write / as %2F"),
        *(({"stores": f"postgresql://u:word-8{end}@127.0.0.1:9/db"}, "% as %25") for end in ("%zz", "%", "%00x", "%2")),
        ({"stores": "jsonl:///a.jsonl?max_bytes=big"}, "^stores: .*max_bytes$"),
        ({"otlp": 5}, "^otlp: "),
        ({"otlp": "http://u:pass/word-8@h"}, "^otlp: "),
        ({"prices": "none.json"}, "^prices: .*none.json"),
    ],
)
def test_a_wrong_argument_changes_nothing(given: dict[str, Any], named: str) -> None:
    callspan.instrument(content="off", sdks=NONE)
    before = WIRING.pipeline
    with pytest.raises(SettingError, match=named) as refused:
        callspan.instrument(content="full", **given)
    assert WIRING.pipeline is before
    assert WIRING.hook_context.content == "off"
    assert "word-8" not in str(refused.value)


@pytest.mark.parametrize(
    "variables",
    [
        {"CALLSPAN_STORES": "teapot://u:pass/word-8@h/db,{store},postgresql://u:pass/word-8@h/db"},
        {"CALLSPAN_STORES": "{store}?unknown=on,{store}"},
        {"CALLSPAN_STORES": "{store}", "CALLSPAN_PRICES": "/no/such/prices.json"},
        {"CALLSPAN_STORES": "{store}", "CALLSPAN_FSYNC": "banana", "CALLSPAN_MAX_RECORD_BYTES": "-5"},
    ],
)
def test_an_invalid_environment_never_raises(
    variables: dict[str, str], store: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("CALLSPAN_CONTENT", "off")
    for name, value in variables.items():
        monkeypatch.setenv(name, value.format(store=store))
    handle = callspan.instrument(sdks=NONE)
    assert (handle.settings.content, handle.settings.stores) == ("off", (store,))
    WIRING.write(made("a"))
    assert handle.force_flush(60_000)
    assert stored(store) == {"a"}
    # Threads that deliver, those of earlier tests too, may warn of their stores at any moment.
    messages = [record.getMessage() for record in caplog.records if record.thread == threading.get_ident()]
    assert messages
    assert all(text.startswith("CALLSPAN_") for text in messages)
    assert "word-8" not in caplog.text


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


def test_what_was_in_force_is_in_force_again_after_a_capture() -> None:
    handle = callspan.instrument(sdks=NONE, content="off")
    with callspan.testing.capture(content="full"):
        assert WIRING.hook_context.content == "full"
    assert WIRING.hook_context.content == "off"
    assert repr(handle).startswith("<Handle in force ")


CLOSING_S = 0.8


def undo_each() -> None:
    for sdk in SDKS:
        WIRING.remove_sdk(sdk)


@pytest.mark.parametrize("change", [lambda: callspan.instrument(content="off"), callspan.uninstrument, undo_each])
def test_no_thread_waits_for_the_stores_that_another_thread_closes(
    change: Callable[[], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
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


def test_a_record_appended_as_the_stores_close_is_delivered_soon(tmp_path: Path) -> None:
    # While the store's file is locked, it closes without what it was to deliver.
    path = tmp_path / "calls.db"
    one = Recorder(Settings(stores=(str(path),)))
    one.write(processed(made("first")))
    one.flush(10.0)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    one.write(processed(made("early")))
    closes = threading.Thread(target=one.retire, args=(0.5,))
    closes.start()
    time.sleep(0.1)
    one.write(processed(made("late")))
    closes.join()
    other.close()
    deadline = time.monotonic() + 10
    # Read without callspan, whose readers deliver.
    with contextlib.closing(sqlite3.connect(path)) as reader:
        while (found := reader.execute("SELECT count(*) FROM calls").fetchone()) != (
            3,
        ) and time.monotonic() < deadline:
            time.sleep(0.05)
    assert found == (3,)
    forget_failures()


def test_a_record_for_stores_to_which_another_thread_adds_one_leaves_no_thread_behind(tmp_path: Path) -> None:
    first, second = str(tmp_path / "first.db"), str(tmp_path / "second.db")
    one = Recorder(Settings(stores=(first,)))
    one.write(processed(made("before")))

    def add(frame: FrameType, event: str, _: object) -> None:
        if event == "call" and frame.f_code is encode.__code__:  # the spool is chosen
            sys.setprofile(None)
            replaced = one.add_stores((second,))
            assert replaced is not None
            assert replaced.close(10)

    sys.setprofile(add)
    one.write(processed(made("late")))
    sys.setprofile(None)
    deadline = time.monotonic() + 10
    while any(first in thread.name for thread in threading.enumerate()) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(first in thread.name for thread in threading.enumerate())
    assert stored(first) == {"before", "late"}


def add_exporter(failing: str, other: str) -> callspan.CallRecordExporter:
    callspan.instrument(stores=failing)
    WIRING.write(made("early"))
    return callspan.CallRecordExporter(other)


def instrument_later(failing: str, other: str) -> callspan.CallRecordExporter:
    exporter = callspan.CallRecordExporter(failing)
    WIRING.write(made("early"))
    callspan.instrument(stores=other)
    return exporter


@pytest.mark.parametrize("change", [add_exporter, instrument_later])
def test_an_exporters_flush_waits_for_what_a_failing_store_lacked_before_a_change(
    change: Callable[[str, str], callspan.CallRecordExporter], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wiring, "_CLOSE_TIMEOUT_S", 0.2)
    path, received = tmp_path / "calls.sock", b""
    exporter = change(f"unix://{path}", f"{tmp_path}/calls.jsonl")
    WIRING.write(made("late"))
    assert not exporter.force_flush(100)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()
        assert exporter.force_flush(20_000)
        server.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                with server.accept()[0] as connection:
                    received += connection.recv(1 << 16)
    assert [name in received for name in (b'"early"', b'"late"')] == [True, True]


def test_of_two_urls_of_one_store_the_first_tells_what_was_priced(tmp_path: Path) -> None:
    prices = tmp_path / "prices.json"
    prices.write_text(json.dumps({"models": {"m": {"input": "2", "output": "4"}}}))
    path, told = tmp_path / "calls.db", list[ProcessedRecord[Record]]()
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
