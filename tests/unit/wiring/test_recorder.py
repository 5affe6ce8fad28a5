"""Unit tests of recorder, providers, OTLP batches, workers and SIGTERM."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from callspan.fail_open import failures
from callspan.process.processed import Processed
from callspan.record.call import CallRecord, Redaction, Request, Response
from callspan.record.codec import decode
from callspan.record.events import Record, SessionRecord
from callspan.settings import Settings
from callspan.stores.urls import spool_directory
from callspan.wiring import process_end, recorder
from callspan.wiring.otlp import ByteBoundedExporter, OtlpProviders
from callspan.wiring.pipeline import Providers
from callspan.wiring.process_end import ForkedWorkers
from callspan.wiring.recorder import Recorder
from tests.points import points
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


@pytest.mark.parametrize(
    ("stores", "expected"),
    [
        (("sqlite:///a.db",), "a.db.spool"),
        (("unix:///run/x.sock", "jsonl:////b/c.jsonl"), "/b/c.jsonl.spool"),
        (("sqlite:////a/b.db", "jsonl:////c/d.jsonl"), "/a/b.db.spool"),
    ],
)
def test_records_wait_beside_the_first_store_in_a_file(stores: tuple[str, ...], expected: str) -> None:
    assert spool_directory(Settings(), stores) == Path(expected)
    assert spool_directory(Settings(spool_dir=Path("/mine")), stores) == Path("/mine")


def test_the_order_of_stores_without_files_makes_different_directories() -> None:
    one, two = "postgresql://h/a", "postgresql://h/b"
    assert spool_directory(Settings(), (one, two)) != spool_directory(Settings(), (two, one))
    assert spool_directory(Settings(), (one,)) == spool_directory(Settings(), (one,))


def test_for_a_full_spool_a_call_loses_its_bodies_and_says_so() -> None:
    earlier = Redaction(what="error.message", why="secret")
    big = msgspec.Raw(b'{"x":1}')
    call = made(
        request=Request(model="m", body_bytes=7, body=big), response=Response(id="r", body=big), redactions=[earlier]
    )
    slim = decode(recorder._slim(call))
    assert isinstance(slim, CallRecord)
    assert slim.response is not None
    assert (bytes(slim.request.body), bytes(slim.response.body)) == (b"", b"")
    assert (slim.request.model, slim.request.body_bytes, slim.response.id) == ("m", 7, "r")
    assert slim.redactions == [earlier, Redaction(what="request.body, response.body", why="size")]


def test_slimming_leaves_a_call_without_a_response_and_leaves_other_records_unchanged() -> None:
    slim = decode(recorder._slim(made()))
    assert isinstance(slim, CallRecord)
    assert slim.response is None
    session = SessionRecord(session_id="s", record_version=1, metadata={"a": 1})
    assert decode(recorder._slim(session)) == session


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


@points(
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


# OTLP


class Batches(SpanExporter):
    """An exporter that keeps the names of each batch."""

    def __init__(self, *results: SpanExportResult) -> None:
        self._results = list(results)
        self.batches: list[list[str]] = []
        self.calls: list[str] = []

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.batches.append([span.name for span in spans])
        return self._results.pop(0) if self._results else SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        self.calls.append("shutdown")

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        self.calls.append(f"flush {timeout_millis}")
        return False


def span(name: str, size: int = 0, events: int = 0) -> ReadableSpan:
    tracer = TracerProvider(shutdown_on_exit=False).get_tracer("t")
    made_one: Any = tracer.start_span(name, attributes={"text": "x" * size} if size else {})
    for _ in range(events):
        made_one.add_event("e", {"n": [1, 2, 3]})
    made_one.end()
    return made_one


@points(
    ("sizes", "batches"),
    [
        ([], []),
        ([0], ["0"]),
        ([0, 0, 0], ["012"]),
        ([400, 400, 400], ["01", "2"]),
        ([5000], ["0"]),
        ([0, 5000, 0], ["0", "1", "2"]),
        ([5000, 5000], ["0", "1"]),
        ([1488, 0], ["0", "1"]),
    ],
)
def test_batches_are_bounded_and_keep_their_order(sizes: list[int], batches: list[str]) -> None:
    behind = Batches()
    bounded = ByteBoundedExporter(behind, 2000)
    assert bounded.export([span(str(at), size) for at, size in enumerate(sizes)]) is SpanExportResult.SUCCESS
    assert ["".join(batch) for batch in behind.batches] == batches


def test_span_events_count_in_the_size_of_a_batch() -> None:
    behind = Batches()
    ByteBoundedExporter(behind, 2000).export([span("a", events=3), span("b")])
    assert behind.batches == [["a"], ["b"]]


def test_text_counts_by_its_bytes_even_if_it_cannot_be_encoded() -> None:
    spans = [
        SimpleNamespace(name="a", attributes={"text": "é" * 900}, events=[]),
        SimpleNamespace(name="b", attributes={"text": "\ud83d"}, events=[]),
        SimpleNamespace(name="c", attributes=None, events=[]),
    ]
    behind = Batches()
    many: Any = spans
    ByteBoundedExporter(behind, 2400).export(many)
    assert behind.batches == [["a"], ["b", "c"]]


def test_one_failed_part_fails_the_whole_and_stops_no_other() -> None:
    behind = Batches(SpanExportResult.FAILURE, SpanExportResult.SUCCESS)
    bounded = ByteBoundedExporter(behind, 600)
    assert bounded.export([span("a"), span("b")]) is SpanExportResult.FAILURE
    assert behind.batches == [["a"], ["b"]]


def test_flush_and_shutdown_reach_the_wrapped_exporter() -> None:
    behind = Batches()
    bounded = ByteBoundedExporter(behind)
    assert bounded.force_flush(7) is False
    bounded.shutdown()
    assert behind.calls == ["flush 7", "shutdown"]


def test_without_the_exporter_it_is_reported_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    with pytest.raises(ImportError, match=r"callspan\[otlp\]"):
        OtlpProviders(True).tracer_provider()


# The last signal


@pytest.fixture
def default_sigterm() -> Iterator[None]:
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield
    process_end.forget()
    signal.signal(signal.SIGTERM, before)


@pytest.mark.usefixtures("default_sigterm")
def test_a_signal_without_a_handler_is_handled_and_restored() -> None:
    assert process_end.flush_before(lambda timeout_s: None)
    assert signal.getsignal(signal.SIGTERM) is process_end._end
    assert process_end.flush_before(lambda timeout_s: None)
    process_end.forget()
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


@pytest.mark.usefixtures("default_sigterm")
@pytest.mark.parametrize("handler", [signal.SIG_IGN, lambda number, frame: None])
def test_a_signal_the_application_handles_is_left_alone(handler: Any) -> None:
    signal.signal(signal.SIGTERM, handler)
    assert not process_end.flush_before(lambda timeout_s: None)
    process_end.forget()
    assert signal.getsignal(signal.SIGTERM) is handler


@pytest.mark.usefixtures("default_sigterm")
def test_on_another_thread_nothing_is_changed() -> None:
    answers: list[bool] = []
    thread = threading.Thread(target=lambda: answers.append(process_end.flush_before(lambda timeout_s: None)))
    thread.start()
    thread.join()
    assert answers == [False]
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


@pytest.mark.usefixtures("default_sigterm")
def test_the_latest_flush_is_called_and_an_exception_in_it_is_harmless() -> None:
    seen: list[float] = []

    def broken(timeout_s: float) -> None:
        seen.append(timeout_s)
        raise OSError("gone")

    process_end.flush_before(lambda timeout_s: seen.append(-1))
    process_end.flush_before(broken)
    process_end._flush()
    assert seen == [3.0]


# Forked workers


def test_in_its_own_process_there_is_nothing_to_see_to() -> None:
    seen: list[float] = []
    delivered: list[float] = []
    workers = ForkedWorkers(seen.append, delivered.append)
    assert not workers.forked
    workers.first_call()
    assert seen == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_has_its_end_seen_to_at_its_first_call() -> None:
    workers = ForkedWorkers(lambda _: None, lambda _: None)
    child = os.fork()
    if child == 0:
        marked = bool(workers.forked)
        workers.first_call()
        os._exit(0 if marked and not workers.forked else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert not workers.forked


class _Library:
    """As much of multiprocessing as tells a worker: its process's name and the finalisers of its end."""

    def __init__(self, name: str) -> None:
        self.finalisers: list[Any] = []
        self._name = name

    def current_process(self) -> Any:
        return SimpleNamespace(name=self._name)

    def Finalize(self, obj: object, callback: Any, exitpriority: int) -> None:  # noqa: N802 - the library's name
        self.finalisers.append(callback)


@pytest.mark.parametrize(("name", "armed"), [("MainProcess", 0), ("ForkPoolWorker-1", 1)])
def test_a_new_process_arms_its_end_once_if_it_is_a_worker(
    name: str, armed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = _Library(name)
    for module in ("billiard.util", "billiard.process"):
        monkeypatch.setitem(sys.modules, module, library)  # type: ignore[arg-type]
    seen: list[float] = []
    delivered: list[float] = []
    workers = ForkedWorkers(seen.append, delivered.append)
    workers.forked.set()
    workers.first_call()
    workers.first_call()
    assert len(library.finalisers) == armed
    for end in library.finalisers:
        end()
    assert seen == [3.0] * armed
    assert not delivered, "the spool sees to that itself"


def test_a_worker_of_celery_sends_and_delivers_when_celery_signals_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Celery's own workers are run in `tests/otel/test_celery.py`; here is what they tell, and how."""
    received: list[Any] = []
    ending = SimpleNamespace(
        connect=lambda receiver, weak, dispatch_uid: received.append((receiver, weak, dispatch_uid))
    )
    celery = SimpleNamespace(worker_process_shutdown=ending)
    monkeypatch.setitem(sys.modules, "celery.signals", celery)  # type: ignore[arg-type]
    seen: list[tuple[str, float]] = []
    workers = ForkedWorkers(lambda s: seen.append(("spans", s)), lambda s: seen.append(("records", s)))
    workers.forked.set()
    workers.first_call()
    ((receiver, weak, uid),) = received
    assert (weak, uid) == (False, "callspan")
    receiver(signal=ending, sender="worker@here", pid=1, exitcode=0)
    assert seen == [("records", 2.0), ("spans", 3.0)]


def test_a_failing_flush_and_a_changed_library_are_harmless(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(timeout_s: float) -> None:
        raise OSError("gone")

    for module in ("billiard.util", "billiard.process"):
        monkeypatch.setitem(sys.modules, module, SimpleNamespace())  # type: ignore[arg-type]
    workers = ForkedWorkers(broken, broken)
    workers._end()
    workers.forked.set()
    workers.first_call()
    assert failures() == {"send the spans of a forked worker": 1, "see to the end of a forked worker": 1}
