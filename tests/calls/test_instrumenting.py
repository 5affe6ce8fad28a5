"""instrument() and uninstrument(): settings kept and changed, stores that close slowly, providers that fail."""

from __future__ import annotations

import contextlib
import json
import logging
import pwd
import socket
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import anthropic
import openai
import pytest
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import NoOpTracerProvider
from tests.conftest import Instrument
from tests.support.calls import ask
from tests.support.processes import ran
from tests.support.receiver import OtlpReceiver
from tests.support.waiting import HANG_MS, HANG_S, until

import callspan
from callspan import (
    AnthropicInstrumentor,
    CerebrasInstrumentor,
    FireworksInstrumentor,
    GroqInstrumentor,
    OpenAIInstrumentor,
    SettingError,
    TogetherInstrumentor,
    open_store,
)
from callspan.records import Record, encode
from callspan.testing import ScriptedProvider, capture

INSTRUMENTORS = (
    OpenAIInstrumentor, AnthropicInstrumentor, GroqInstrumentor, TogetherInstrumentor, FireworksInstrumentor,
    CerebrasInstrumentor,
)  # fmt: skip


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What this thread has logged: those that deliver, of earlier tests too, may warn of their stores at any moment."""
    return [record.getMessage() for record in caplog.records if record.thread == threading.get_ident()]


def undo_each() -> None:
    for kind in INSTRUMENTORS:
        kind().uninstrument()


def stored(url: str) -> set[str | None]:
    """The models of the calls in a store."""
    with contextlib.closing(open_store(url)) as reader:
        return {call.request.model for call in reader.calls()}


def record(model: str, **usage: int) -> None:
    with callspan.record_call(provider="p", model=model) as call:
        call.response({"choices": [], "usage": usage})


@pytest.fixture(autouse=True)
def _clean(
    no_settings: None, unwarned: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> Iterator[None]:
    caplog.set_level(logging.WARNING)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr("callspan.wiring.WIRING._exporter_stores", ())  # those of an exporter stay for good
    yield
    undo_each()
    callspan.uninstrument()


def test_adding_a_store_does_not_move_relative_stores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    named, later = tmp_path / "named", tmp_path / "later"
    for directory in (named, later):
        directory.mkdir()
    monkeypatch.chdir(named)
    handle = callspan.instrument(stores="sqlite:///calls.db,jsonl:///calls.jsonl", spool_dir="spool")
    record("first")
    assert handle.force_flush(HANG_MS)
    monkeypatch.chdir(later)
    callspan.CallRecordExporter(stores="sqlite:///added.db")
    record("second")
    assert handle.force_flush(HANG_MS)
    handle.uninstrument()
    assert stored(f"sqlite:///{named}/calls.db") == {"first", "second"}
    assert stored(f"sqlite:///{later}/added.db") == {"second"}
    assert (named / "calls.jsonl").read_text().count("\n") == 2
    assert sorted(path.name for path in later.iterdir() if not path.name.startswith("added.db")) == []


def test_flush_after_uninstrument_leaves_no_thread(tmp_path: Path) -> None:
    """It delivers a record that was written late, to the closed spool of another handle."""
    store = f"sqlite:///{tmp_path}/calls.db"
    first = callspan.instrument(stores=store)
    with callspan.record_call(provider="p", model="late") as call:
        first.uninstrument()
        second = callspan.instrument(stores=store)
        record("early")
        second.uninstrument()
        call.response({"choices": []})
    assert second.force_flush(HANG_MS)
    assert stored(store) == {"late", "early"}
    until(lambda: not any(store in thread.name for thread in threading.enumerate()))


def test_relative_price_file_is_resolved_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    costs = []
    for price in ("1000000", "2000000"):
        (tmp_path / price).mkdir()
        monkeypatch.chdir(tmp_path / price)
        Path("prices.json").write_text(json.dumps({"version": "mine", "models": {"m": {"input": price}}}))
        handle = callspan.instrument(stores="sqlite:///calls.db", prices="prices.json")
        record("m", prompt_tokens=3)
        assert handle.force_flush(HANG_MS)
        handle.uninstrument()
        with contextlib.closing(open_store("sqlite:///calls.db")) as reader:
            costs += [call.cost and call.cost.usd for call in reader.calls()]
    assert costs == [3, 6]


def raising(error: Exception) -> Callable[..., Any]:
    def fail(*_: object) -> Any:
        raise error

    return fail


@pytest.mark.parametrize("lacks", ["a home", "a temporary directory", "a current directory"])
def test_missing_home_or_directories_lose_no_record(
    lacks: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if lacks == "a home":
        monkeypatch.delenv("HOME")
        monkeypatch.delenv("XDG_STATE_HOME")
        monkeypatch.setattr(pwd, "getpwuid", raising(KeyError("uid not found")))
        callspan.instrument(stores="unix:///nobody.sock")
        callspan.uninstrument()
    elif lacks == "a temporary directory":
        monkeypatch.setenv("TMPDIR", str(tmp_path / "none"))
        monkeypatch.setattr("callspan.spool.directory._ALWAYS", (tmp_path / "neither",))
    else:
        (tmp_path / "gone").mkdir()
        monkeypatch.chdir(tmp_path / "gone")
        (tmp_path / "gone").rmdir()
        monkeypatch.setattr(sys, "argv", ["app.py"])
    handle = callspan.instrument(stores=f"sqlite:///{tmp_path}/calls.db")
    record("m")
    assert handle.force_flush(HANG_MS)
    assert stored(f"sqlite:///{tmp_path}/calls.db") == {"m"}


@pytest.mark.parametrize("variable", ["OTEL_PROPAGATORS", "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT"])
def test_invalid_opentelemetry_variable_is_ignored(variable: str, tmp_path: Path) -> None:
    """As where all processes of a cluster get the propagator of its mesh, whose package is missing."""
    program = f"import callspan, os; callspan.instrument(propagate=True); print(os.environ[{variable!r}])"
    done = ran("-c", program, cwd=tmp_path, **{variable: "unknown"})
    assert done.stdout.strip() == "unknown"
    assert f"{variable} is ignored" in done.stderr


NONE: Any = ()
redacted: list[Record] = []


def redact(record: Record) -> Record:
    redacted.append(record)
    return record


def content_of_a_call(client: openai.OpenAI) -> str:
    found: list[Any] = []
    remove = callspan.add_callback("after_record", found.append, kinds=["call"])
    ask(client)
    remove()
    return "full" if found[-1].request.body else "metadata" if found[-1].request.roles else "off"


def test_changing_automatic_settings(
    store: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As `opentelemetry-instrument` does, before an application with `callspan.instrument(stores=...)`."""
    monkeypatch.setenv("CALLSPAN_CONTENT", "metadata")
    OpenAIInstrumentor().instrument(skip_dep_check=True)
    settings = callspan.instrument(stores=store, stream_usage=True).settings
    assert (settings.content, settings.stores) == ("metadata", (store,))
    assert {status.sdk for status in callspan.patch_status()} == {"openai"}
    assert said(caplog) == []
    callspan.instrument(sdks=("anthropic",), stream_usage=False)
    assert {status.sdk for status in callspan.patch_status()} == {"openai", "anthropic"}
    assert len(said(caplog)) == 1


def test_capture_keeps_recorded_sdks() -> None:
    callspan.instrument(sdks="openai")
    with capture():
        assert {status.sdk for status in callspan.patch_status()} > {"openai"}
    assert {status.sdk for status in callspan.patch_status()} == {"openai"}


@pytest.mark.parametrize(
    ("given", "content", "stores", "is_redacted"),
    [
        ({"stores": "console://"}, "off", ("console://",), True),
        ({"service": "s"}, "off", None, True),
        ({"redact": None, "content": None, "service": "t"}, "off", None, True),
        ({"content": "full"}, "full", None, True),
        ({"redact": False}, "off", None, False),
        ({"stores": []}, "off", (), True),
    ],
)
def test_omitted_settings_are_unchanged(
    given: dict[str, Any], content: str, stores: tuple[str, ...] | None, is_redacted: bool, store: str,
    client: openai.OpenAI, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Nor is the environment read again."""
    callspan.instrument(content="off", redact=redact, stores=store)
    monkeypatch.setenv("CALLSPAN_CONTENT", "metadata")
    monkeypatch.setenv("CALLSPAN_STORES", "console://")
    handle = callspan.instrument(**given)
    assert (handle.settings.content, handle.settings.stores) == (content, (store,) if stores is None else stores)
    redacted.clear()
    assert content_of_a_call(client) == content
    assert bool(redacted) == is_redacted
    assert len(said(caplog)) == 1
    callspan.instrument(**given)
    assert len(said(caplog)) == 1, "warned of once"


def test_change_warning_names_values_without_secrets(caplog: pytest.LogCaptureFixture) -> None:
    callspan.instrument(stores="console://", content="off", sdks=NONE)
    callspan.instrument(stores="jsonl:///x.jsonl?max_bytes=3", content="metadata", redact=redact)
    assert "stores console:// -> jsonl:///x.jsonl; content off -> metadata; redact none -> redact at " in caplog.text
    assert "max_bytes" not in caplog.text
    own: Any = redacted
    for _ in range(2):
        callspan.instrument(redact=own.append)  # a method: another object each time
    assert caplog.text.count("changes settings: redact ") == 1


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
        ({"stores": "postgresql://u:word-8[@h/db"}, r"^stores: .*\[ as %5B"),
        *(({"stores": f"postgresql://u:word-8{end}@127.0.0.1:9/db"}, "% as %25") for end in ("%zz", "%", "%00x", "%2")),
        ({"stores": "jsonl:///a.jsonl?max_bytes=big"}, "^stores: .*max_bytes$"),
        ({"otlp": 5}, "^otlp: "),
        ({"otlp": "http://u:pass/word-8@h"}, "^otlp: "),
        ({"prices": "none.json"}, "^prices: .*none.json"),
    ],
)
def test_invalid_argument_changes_nothing(given: dict[str, Any], named: str) -> None:
    handle = callspan.instrument(content="off", sdks=NONE)
    with pytest.raises(SettingError, match=named) as refused:
        callspan.instrument(content="full", **given)
    assert repr(handle).startswith("<Handle in force ")
    assert "word-8" not in str(refused.value)


@pytest.mark.parametrize(
    "variables",
    [
        {"CALLSPAN_STORES": "teapot://u:pass/word-8@h/db,{store},postgresql://u:pass/word-8@h/db"},
        {"CALLSPAN_STORES": "{store}?unknown=on,{store}"},
        {"CALLSPAN_STORES": "{store},postgresql://u:word-8[@h/db"},
        {"CALLSPAN_STORES": "{store},postgresql://[::1/db"},
        {"CALLSPAN_STORES": "{store}", "CALLSPAN_PRICES": "/no/such/prices.json"},
        {"CALLSPAN_STORES": "{store}", "CALLSPAN_FSYNC": "fig", "CALLSPAN_MAX_RECORD_BYTES": "-5"},
    ],
)
def test_invalid_environment_never_raises(
    variables: dict[str, str], store: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("CALLSPAN_CONTENT", "off")
    for name, value in variables.items():
        monkeypatch.setenv(name, value.format(store=store))
    handle = callspan.instrument(sdks=NONE)
    settings = handle.settings
    assert (settings.content, settings.stores, settings.prices) == ("off", (store,), None)
    messages = said(caplog)
    record("a")
    assert handle.force_flush(HANG_MS)
    assert stored(store) == {"a"}
    assert messages
    assert all(text.startswith("CALLSPAN_") for text in messages)
    assert "word-8" not in caplog.text


def test_uninstrument_of_a_replaced_handle_does_nothing() -> None:
    old = callspan.instrument(sdks=NONE, content="off")
    new = callspan.instrument(sdks=NONE, content="metadata")
    old.uninstrument()
    assert (repr(old)[:16], repr(new)[:16]) == ("<Handle replaced", "<Handle in force")
    assert (old.settings.content, new.settings.content) == ("off", "metadata")
    assert old.force_flush(HANG_MS)
    assert old.counters() == {}
    new.uninstrument()
    assert repr(new).startswith("<Handle replaced")


def test_capture_restores_previous_settings(client: openai.OpenAI) -> None:
    handle = callspan.instrument(content="off")
    with capture(content="full"):
        assert content_of_a_call(client) == "full"
    assert content_of_a_call(client) == "off"
    assert repr(handle).startswith("<Handle in force ")


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """What waits for a file that is locked is not delivered in time."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        yield


@pytest.mark.parametrize("change", [lambda: callspan.instrument(content="off"), callspan.uninstrument, undo_each])
def test_closing_stores_blocks_no_other_thread(
    change: Callable[[], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("callspan.wiring._CLOSE_TIMEOUT_S", HANG_S)
    for kind in INSTRUMENTORS:
        kind().instrument(skip_dep_check=True)
    callspan.instrument(stores=f"sqlite:///{tmp_path}/calls.db")
    closes = threading.Thread(target=change)
    with locked(tmp_path / "calls.db"):
        record("m")
        closes.start()
        time.sleep(0.2)
        assert closes.is_alive()
        callspan.instrument(content="metadata")
        assert closes.is_alive()
    closes.join()


def test_record_appended_during_close_is_delivered(tmp_path: Path, client: openai.OpenAI) -> None:
    """They close without what a locked file did not take in five seconds; the last record comes just before."""
    path = tmp_path / "calls.db"
    handle = callspan.instrument(stores=path)
    record("first")
    assert handle.force_flush(HANG_MS)
    with locked(path):
        stream = ask(client, stream=True)
        closes = threading.Thread(target=callspan.uninstrument)
        closes.start()
        until(lambda: not callspan.patch_status())
        assert closes.is_alive()
        time.sleep(4.7)
        list(stream)
        closes.join()
    # Read without callspan, whose readers deliver.
    with contextlib.closing(sqlite3.connect(path)) as reader:
        ended = "SELECT count(*) FROM calls WHERE outcome = 'success'"
        until(lambda: reader.execute(ended).fetchone() == (2,))


def test_adding_a_store_during_a_write_leaves_no_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("wiring", "delivery.recorder"):
        monkeypatch.setattr(f"callspan.{module}._CLOSE_TIMEOUT_S", HANG_S)
    first, second = f"sqlite:///{tmp_path}/first.db", f"sqlite:///{tmp_path}/second.db"

    def add(frame: FrameType, event: str, argument: object) -> None:
        if event == "call" and frame.f_code is encode.__code__:  # the spool is chosen
            sys.setprofile(None)
            adding = threading.Thread(target=callspan.CallRecordExporter, args=(second,))
            adding.start()
            adding.join()

    callspan.instrument(stores=first)
    record("before")
    sys.setprofile(add)
    record("late")
    sys.setprofile(None)
    until(lambda: not any(first in thread.name for thread in threading.enumerate()))
    assert stored(first) == {"before", "late"}


@pytest.mark.parametrize("order", ["exporter later", "exporter first"])
def test_exporter_flushes_replaced_stores(order: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failing, other = tmp_path / "calls.sock", f"{tmp_path}/calls.jsonl"
    if len(str(failing)) > 100:
        pytest.skip("TMPDIR is too long for the address of a socket")
    if order == "exporter later":
        callspan.instrument(stores=f"unix://{failing}")
        record("early")
        exporter = callspan.CallRecordExporter(other)
    else:
        monkeypatch.setattr("callspan.wiring.WIRING._exporter", None)
        exporter = callspan.CallRecordExporter(f"unix://{failing}")
        spans = TracerProvider(shutdown_on_exit=False)
        spans.add_span_processor(SimpleSpanProcessor(exporter))
        theirs = {"gen_ai.operation.name": "chat", "gen_ai.provider.name": "p", "gen_ai.request.model": "early"}
        spans.get_tracer("theirs").start_span("chat", attributes=theirs).end()
        callspan.instrument(stores=other)
    record("late")
    assert not exporter.force_flush(100)
    received = b""
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(failing))
        server.listen()
        assert exporter.force_flush(HANG_MS)
        server.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                with server.accept()[0] as connection:
                    received += connection.recv(1 << 16)
    assert [name in received for name in (b'"early"', b'"late"')] == [True, True]


class Flushed(NoOpTracerProvider, NoOpMeterProvider):
    """A provider of somebody else's whose flush answers, or raises."""

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
def test_flush_continues_after_a_failing_provider(answers: tuple[object, object], flushed: bool) -> None:
    tracers, meters = map(Flushed, answers)
    handle = callspan.instrument(tracer_provider=tracers, meter_provider=meters, sdks=NONE)
    assert handle.force_flush(HANG_MS) == flushed
    assert [HANG_S < timeout <= HANG_MS for timeout in (*tracers.requested, *meters.requested)] == [True, True]


def test_capture_of_some_sdks(client: openai.OpenAI, claude: anthropic.Anthropic) -> None:
    callspan.instrument(sdks=("anthropic",))
    with capture(sdks="openai") as seen:
        assert {status.sdk for status in callspan.patch_status()} == {"openai"}
        ask(client)
        ask(claude)
        assert [record.sdk.partition("/")[0] for record in seen.records if record.sdk] == ["openai"]
    assert {status.sdk for status in callspan.patch_status()} == {"anthropic"}
    with pytest.raises(SettingError, match="sdks='opneai'"), capture(sdks="opneai"):  # type: ignore[arg-type]
        pass


def test_capture_sends_its_spans(client: openai.OpenAI) -> None:
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http", reason="the OTLP exporter is not installed")
    with OtlpReceiver() as receiver:
        with capture(otlp=receiver.url) as seen:
            ask(client)
            assert [span.name for span in seen.spans] == ["chat gpt-5"]
        assert [span.name for span in receiver.spans] == ["chat gpt-5"]
    with pytest.raises(SettingError, match="otlp"), capture(otlp="nowhere"):
        pass


@pytest.mark.parametrize("steps", [("refused",), ("refused", "captured"), ("captured", "refused"), ("refused",) * 2])
def test_refused_settings_change_nothing(
    steps: tuple[str, ...], instrumented: Instrument, client: openai.OpenAI, provider: ScriptedProvider, tmp_path: Path
) -> None:
    """The application's calls are recorded before and after, whatever a capture or a second `instrument()` refuses."""
    provider.reply(text="Hello.", repeat=True)
    memory, tracers = InMemorySpanExporter(), TracerProvider()
    tracers.add_span_processor(SimpleSpanProcessor(memory))
    handle = instrumented(stores=f"sqlite:///{tmp_path}/calls.db", tracer_provider=tracers)
    ask(client)
    for step in steps:
        if step == "captured":
            with callspan.testing.capture() as seen:
                ask(client)
            assert len(seen.records) == 1
        else:
            with pytest.raises(SettingError), callspan.testing.capture(stores="redis://x"):
                pass
            with pytest.raises(SettingError):
                callspan.instrument(stores="redis://x", otlp=True)
    ask(client)
    assert handle.force_flush(HANG_MS)
    with callspan.open_store(f"sqlite:///{tmp_path}/calls.db") as store:
        assert store.count_calls() == len(memory.get_finished_spans()) == 2
