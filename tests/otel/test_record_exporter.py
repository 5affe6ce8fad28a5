"""Spans beside those of others, the records that become of theirs, and metrics of costs and records."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import openai
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.trace import Tracer
from tests.conftest import Instrument, Read
from tests.support.processes import ran
from tests.support.telemetry import Meters, kept_spans
from tests.support.waiting import HANG_MS, until

import callspan
from callspan import CallRecordExporter, Handle
from callspan.records import CallRecord
from callspan.testing import ScriptedProvider

HI: Any = [{"role": "user", "content": "Hi"}]
CHAT = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "other-1", "gen_ai.usage.input_tokens": 3}


Kept = tuple[Tracer, Callable[[], list[CallRecord]]]


@pytest.fixture
def kept(store: str, instrumented: Instrument, reading: Read, monkeypatch: pytest.MonkeyPatch) -> Iterator[Kept]:
    """A tracer of another library, whose spans go through the exporter, and what that has put into its store."""
    monkeypatch.setattr("callspan.wiring.WIRING._exporter_stores", ())  # they would stay for good
    provider = TracerProvider()
    instrumented(tracer_provider=provider)
    exporter = CallRecordExporter(store)
    provider.add_span_processor(SimpleSpanProcessor(exporter))

    def calls() -> list[CallRecord]:
        assert exporter.force_flush(HANG_MS)
        return list(reading(store).calls())

    yield provider.get_tracer("somebody.else"), calls
    provider.shutdown()


def test_only_llm_spans_of_other_libraries_become_records(kept: Kept) -> None:
    tracer, calls = kept
    tracer.start_span("GET /", attributes={"http.route": "/"}).end()
    tracer.start_span("agent", attributes={"gen_ai.operation.name": "invoke_agent"}).end()
    tracer.start_span("chat other-1", attributes=CHAT).end()
    (call,) = calls()
    assert (call.request.model, call.sdk) == ("other-1", "somebody.else")
    assert call.usage.input_tokens == 3


@pytest.mark.parametrize("between", [None, {"http.request.method": "POST"}, {"gen_ai.operation.name": "execute_tool"}])
def test_spans_of_one_call_are_one_record(kept: Kept, between: dict[str, str] | None) -> None:
    tracer, calls = kept
    outer = {**CHAT, "gen_ai.response.id": "a1", "operation.cost": 0.5, "gen_ai.conversation.id": "c1"}
    with ExitStack() as spans:
        spans.enter_context(tracer.start_as_current_span("framework", attributes=outer))
        if between is not None:
            spans.enter_context(tracer.start_as_current_span("between", attributes=between))
        tracer.start_span("chat other-1", attributes=CHAT).end()
    found = calls()
    if between is not None and "gen_ai.operation.name" in between:
        assert [call.usage.input_tokens for call in found] == [3, 3]
        return
    (call,) = found
    assert (call.response.id, call.place.session_id, str(call.cost.usd)) == ("a1", "c1", "0.5")
    assert call.usage.input_tokens == 3


def test_spans_that_end_before_those_within_are_one_record(kept: Kept) -> None:
    tracer, calls = kept
    outer = tracer.start_span("framework", attributes=CHAT)
    inner = tracer.start_span("chat other-1", trace.set_span_in_context(outer), attributes=CHAT)
    outer.end()
    assert len(calls()) == 1
    inner.end()
    (call,) = calls()
    assert call.span_id == f"{inner.get_span_context().span_id:016x}"


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("around", [[], ["chat gpt-5"], ["framework", "chat gpt-5"]], ids=len)
def test_one_record_among_other_spans(kept: Kept, client: openai.OpenAI, around: list[str], count: int) -> None:
    """The first call uses the innermost; a second one has a span of its own."""
    tracer, calls = kept
    with ExitStack() as spans:
        opened = [spans.enter_context(tracer.start_as_current_span(name, attributes=CHAT)) for name in around]
        for _ in range(count):
            client.chat.completions.create(model="gpt-5", messages=HI)
    found = calls()
    assert len({call.span_id for call in found}) == len(found) == count
    assert all(str(call.sdk).startswith("openai/") for call in found)
    inner = [f"{span.get_span_context().span_id:016x}" for span in opened[-1:]]
    assert [call.span_id for call in found if call.span_id in inner] == inner


@pytest.mark.parametrize("is_left", [False, True])
def test_shared_span_is_exported_by_its_owner(
    provider: ScriptedProvider, client: openai.OpenAI, instrumented: Instrument, is_left: bool
) -> None:
    """To the provider that was given. One that its owner never ends is not exported; the call has its record."""
    records: list[Any] = []
    tracing, exporter = kept_spans()
    provider.reply(text="one two three four", repeat=True)
    handle = instrumented(tracer_provider=tracing, stores=())
    remove = callspan.add_callback("after_record", records.append, kinds=["call"])
    span: Any = tracing.get_tracer("framework").start_span("their chat", attributes={"gen_ai.operation.name": "chat"})
    with trace.use_span(span, end_on_exit=False):
        stream = client.chat.completions.create(model="gpt-5", messages=HI, stream=True)
        next(iter(stream))
        stream.close() if is_left else [*stream]
    if not is_left:
        span.set_attribute("late", "yes")
        span.end()
    remove()
    handle.uninstrument()
    record = records[-1]
    shown = [
        (one.name, one.attributes["late"], one.attributes["callspan.call_id"]) for one in exporter.get_finished_spans()
    ]
    assert shown == ([] if is_left else [("their chat", "yes", record.call_id)])
    assert record.outcome == ("cancelled" if is_left else "success")


PROGRAM = """
import gc, time
from opentelemetry import trace
from opentelemetry.instrumentation.sqlite3 import SQLite3Instrumentor
from opentelemetry.instrumentation.threading import ThreadingInstrumentor
from tests.support.telemetry import kept_spans

provider, exporter = kept_spans()
trace.set_tracer_provider(provider)
SQLite3Instrumentor().instrument()
ThreadingInstrumentor().instrument()

import sqlite3
import openai
import callspan
from callspan.testing import ScriptedProvider

handle = callspan.instrument(stores="sqlite:///calls.db")
with ScriptedProvider() as scripted, openai.OpenAI(api_key="k", base_url=scripted.openai_url) as client:
    with trace.get_tracer("app").start_as_current_span("request"):
        sqlite3.connect(":memory:").cursor().execute("select 1")
        client.chat.completions.create(model="m", messages=[])
        next(iter(client.chat.completions.create(model="m", messages=[], stream=True)))
    gc.collect()
    time.sleep(1.2)
    handle.force_flush(300_000)
handle.uninstrument()
spans = exporter.get_finished_spans()
print(sorted((span.instrumentation_scope.name.rpartition(".")[2], span.name.partition(" ")[0]) for span in spans))
"""
EXPECTED = "[('app', 'request'), ('callspan', 'chat'), ('callspan', 'chat'), ('sqlite3', 'select')]"


def test_only_sql_of_the_application_has_spans(tmp_path: Path) -> None:
    pytest.importorskip("opentelemetry.instrumentation.sqlite3")
    pytest.importorskip("opentelemetry.instrumentation.threading")
    assert ran("-c", PROGRAM, cwd=tmp_path).stdout.strip() == EXPECTED


BOUNDED = {
    "gen_ai.operation.name", "gen_ai.provider.name", "gen_ai.request.model", "callspan.cost.source",
    "callspan.cost.estimated", "callspan.store", "callspan.drop.reason",
}  # fmt: skip


class Measured:
    """An application, and what it has measured."""

    def __init__(self, place: Path, provider: ScriptedProvider, client: openai.OpenAI, instrument: Instrument) -> None:
        self.place, self._provider, self._client, self._instrument = place, provider, client, instrument
        self.sqlite, self.jsonl = f"sqlite:///{place / 'a.db'}", f"jsonl:///{place / 'b.jsonl'}"
        self.nobody = f"unix:///{place / 'nobody.sock'}"
        self._meters = Meters()

    def start(self, **settings: Any) -> Handle:
        return self._instrument(meter_provider=self._meters.provider, **settings)

    def ask(self, count: int = 1, **reply: Any) -> None:
        for _ in range(count):
            self._provider.reply(**{"input_tokens": 1000, "output_tokens": 500, **reply})
            self._client.chat.completions.create(model="my-model", messages=HI)

    def points(self, name: str) -> list[Any]:
        found = self._meters.read().get(name, [])
        assert all(set(point.attributes) <= BOUNDED for point in found)
        return found

    def dropped(self, reason: str) -> dict[str | None, int]:
        """How many records were dropped for a reason, by the store."""
        found = self.points("callspan.records.dropped")
        of_reason = [one for one in found if one.attributes.get("callspan.drop.reason") == reason]
        return {one.attributes.get("callspan.store"): one.value for one in of_reason if one.value}


@pytest.fixture
def measured(tmp_path: Path, provider: ScriptedProvider, client: openai.OpenAI, instrumented: Instrument) -> Measured:
    return Measured(tmp_path, provider, client, instrumented)


def test_computed_cost_is_measured_once(measured: Measured, reading: Read) -> None:
    prices = measured.place / "prices.json"
    prices.write_text('{"version": "ours-1", "models": {"my-model": {"input": "2", "output": "8"}}}')
    handle = measured.start(stores=[measured.sqlite, measured.jsonl], prices=prices)
    measured.ask(3)
    assert handle.force_flush(HANG_MS)
    (point,) = measured.points("callspan.client.cost")
    assert (point.count, point.sum) == (3, pytest.approx(0.018))
    assert point.attributes["callspan.cost.source"] == "computed"
    assert point.attributes["gen_ai.request.model"] == "my-model"
    costs = [float(call.cost.usd) for call in reading(measured.sqlite).calls()]
    assert costs == [0.006] * 3, "as the records have it"


def test_stated_cost_is_measured_once(measured: Measured) -> None:
    usage = {"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8, "cost": 0.25}
    for stores in ([], [measured.sqlite]):
        handle = measured.start(stores=stores)
        measured.ask(usage=usage)
        assert handle.force_flush(HANG_MS)
    (point,) = measured.points("callspan.client.cost")
    assert (point.count, point.sum, point.attributes["callspan.cost.source"]) == (2, 0.5, "provider")


def test_records_are_counted_per_store(measured: Measured) -> None:
    handle = measured.start(stores=[measured.sqlite, measured.jsonl])
    assert measured.points("callspan.records.written") == [], "nothing is said of stores before there is a record"
    measured.ask(4)
    assert handle.force_flush(HANG_MS)
    written = {one.attributes["callspan.store"]: one.value for one in measured.points("callspan.records.written")}
    assert sorted(written.values()) == [4, 4]
    assert any("a.db" in name for name in written)
    assert {point.value for point in measured.points("callspan.records.dropped")} == {0}
    assert {point.value for point in measured.points("callspan.records.oldest_waiting")} == {0.0}


def test_spool_drops_are_counted_by_reason(measured: Measured) -> None:
    """The store is away and the spool small: at some point nothing fits any more."""
    measured.start(stores=measured.nobody, spool_dir=measured.place / "spool", spool_max_bytes=4096)
    measured.ask(12)
    assert measured.dropped("cap")[None] > 0
    of_no_store = [one.attributes for one in measured.points("callspan.records.dropped") if len(one.attributes) == 1]
    assert {attributes["callspan.drop.reason"] for attributes in of_no_store} <= {"cap", "error"}


def test_given_up_records_are_counted_per_store(measured: Measured) -> None:
    stores = [measured.jsonl, measured.nobody]
    handle = measured.start(stores=stores, spool_dir=measured.place / "spool", spool_max_bytes=20_000)

    def given_up() -> Any:
        measured.ask(5)
        handle.force_flush(200)
        return measured.dropped("given_up")

    assert [str(name).partition(":")[0] for name in until(given_up)] == ["unix"]
