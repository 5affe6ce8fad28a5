"""`CallRecordExporter`, and metrics of costs and records, each counted once, also if stores fail."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import openai
import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

import callspan
from callspan import CallRecordExporter, Handle, open_store
from callspan.records import CallRecord
from callspan.testing import ScriptedProvider

HI: Any = [{"role": "user", "content": "Hi"}]
CHAT = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "other-1", "gen_ai.usage.input_tokens": 3}


class Kept:
    """A provider whose spans go through the exporter, and what it has put into its store."""

    def __init__(self, place: Path) -> None:
        self.url = f"sqlite:///{place / 'calls.db'}"
        self.provider = TracerProvider()
        self.handle = callspan.instrument(tracer_provider=self.provider)
        self._exporter = CallRecordExporter(self.url)
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.tracer = self.provider.get_tracer("somebody.else")

    def calls(self) -> list[CallRecord]:
        assert self._exporter.force_flush(20_000)
        with closing(callspan.open_store(self.url)) as store:
            return list(store.calls())


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[Kept]:
    made = Kept(tmp_path)
    yield made
    made.handle.uninstrument()
    made.provider.shutdown()
    callspan.wiring.WIRING._exporter_stores = ()


@pytest.fixture
def client(provider: ScriptedProvider) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(api_key="sk-test", base_url=provider.openai_url, max_retries=0) as made:
        yield made


def test_only_an_llm_span_of_another_library_becomes_a_record(kept: Kept) -> None:
    kept.tracer.start_span("GET /", attributes={"http.route": "/"}).end()
    kept.tracer.start_span("agent", attributes={"gen_ai.operation.name": "invoke_agent"}).end()
    kept.tracer.start_span("chat other-1", attributes=CHAT).end()
    (call,) = kept.calls()
    assert (call.request.model, call.sdk) == ("other-1", "somebody.else")
    assert call.usage is not None
    assert call.usage.input_tokens == 3


@pytest.mark.parametrize("calls", [1, 2])
@pytest.mark.parametrize("around", [[], ["chat gpt-5"], ["framework", "chat gpt-5"]], ids=len)
def test_a_call_has_one_record_whatever_foreign_spans_are_around_it(
    kept: Kept, client: openai.OpenAI, around: list[str], calls: int
) -> None:
    """The first call uses the innermost; a second one has a span of its own."""
    with ExitStack() as spans:
        opened = [spans.enter_context(kept.tracer.start_as_current_span(name, attributes=CHAT)) for name in around]
        for _ in range(calls):
            client.chat.completions.create(model="gpt-5", messages=HI)
    found = kept.calls()
    assert len({call.span_id for call in found}) == len(found) == calls
    assert all(str(call.sdk).startswith("openai/") for call in found)
    inner = [f"{span.get_span_context().span_id:016x}" for span in opened[-1:]]
    assert [call.span_id for call in found if call.span_id in inner] == inner


BOUNDED = {
    "gen_ai.operation.name", "gen_ai.provider.name", "gen_ai.request.model", "callspan.cost.source",
    "callspan.cost.estimated", "callspan.store", "callspan.drop.reason",
}  # fmt: skip


@pytest.fixture
def reader() -> Iterator[InMemoryMetricReader]:
    found = InMemoryMetricReader()
    yield found
    found.shutdown()


@pytest.fixture
def start(reader: InMemoryMetricReader) -> Iterator[Callable[..., Handle]]:
    """Instrument with a meter provider of the real SDK; undone after the test."""
    handles: list[Handle] = []
    provider = MeterProvider(metric_readers=[reader], shutdown_on_exit=False)

    def instrument(**settings: Any) -> Handle:
        handles.append(callspan.instrument(meter_provider=provider, **settings))
        return handles[-1]

    yield instrument
    for handle in handles:
        handle.uninstrument()


def points(reader: InMemoryMetricReader, name: str) -> list[Any]:
    data = reader.get_metrics_data()
    scopes = [scope for resource in data.resource_metrics for scope in resource.scope_metrics] if data else []
    found = [point for scope in scopes for one in scope.metrics if one.name == name for point in one.data.data_points]
    assert all(set(point.attributes) <= BOUNDED for point in found)
    return found


def ask(provider: ScriptedProvider, count: int = 1, model: str = "my-model", **reply: Any) -> None:
    with openai.OpenAI(api_key="k", base_url=provider.openai_url, max_retries=0) as client:
        for _ in range(count):
            provider.reply(**{"input_tokens": 1000, "output_tokens": 500, **reply})
            client.chat.completions.create(model=model, messages=HI)


def test_a_computed_cost_is_measured_when_the_call_is_stored_once_for_all_stores(
    provider: ScriptedProvider, reader: InMemoryMetricReader, start: Callable[..., Handle], tmp_path: Path
) -> None:
    prices = tmp_path / "prices.json"
    prices.write_text('{"version": "ours-1", "models": {"my-model": {"input": "2", "output": "8"}}}')
    stores = [f"sqlite:///{tmp_path / 'a.db'}", f"jsonl:///{tmp_path / 'b.jsonl'}"]
    handle = start(stores=stores, prices=prices)
    ask(provider, count=3)
    assert handle.force_flush()
    (point,) = points(reader, "callspan.client.cost")
    assert (point.count, point.sum) == (3, pytest.approx(0.018))
    assert point.attributes["callspan.cost.source"] == "computed"
    assert point.attributes["gen_ai.request.model"] == "my-model"
    with closing(open_store(stores[0])) as store:
        assert [float(call.cost.usd) for call in store.calls()] == [0.006] * 3, "as the records have it"


def test_what_the_provider_states_is_measured_at_once_and_not_again_in_the_store(
    provider: ScriptedProvider, reader: InMemoryMetricReader, start: Callable[..., Handle], tmp_path: Path
) -> None:
    usage = {"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8, "cost": 0.25}
    for stores in ([], [f"sqlite:///{tmp_path / 'a.db'}"]):
        handle = start(stores=stores)
        ask(provider, usage=usage)
        assert handle.force_flush()
    (point,) = points(reader, "callspan.client.cost")
    assert (point.count, point.sum, point.attributes["callspan.cost.source"]) == (2, 0.5, "provider")


def test_records_are_counted_for_each_store_that_took_them(
    provider: ScriptedProvider, reader: InMemoryMetricReader, start: Callable[..., Handle], tmp_path: Path
) -> None:
    handle = start(stores=[f"sqlite:///{tmp_path / 'a.db'}", f"jsonl:///{tmp_path / 'b.jsonl'}"])
    assert points(reader, "callspan.records.written") == [], "nothing is said of stores before there is a record"
    ask(provider, count=4)
    assert handle.force_flush()
    written = {point.attributes["callspan.store"]: point.value for point in points(reader, "callspan.records.written")}
    assert sorted(written.values()) == [4, 4]
    assert any("a.db" in name for name in written)
    assert {point.value for point in points(reader, "callspan.records.dropped")} == {0}
    assert {point.value for point in points(reader, "callspan.records.oldest_waiting")} == {0.0}


def test_what_a_full_spool_drops_is_counted_by_the_reason(
    provider: ScriptedProvider, reader: InMemoryMetricReader, start: Callable[..., Handle], tmp_path: Path
) -> None:
    """The store is away and the spool small: at some point nothing fits any more."""
    start(stores=f"unix:///{tmp_path / 'nobody.sock'}", spool_dir=tmp_path / "spool", spool_max_bytes=4096)
    ask(provider, count=12)
    dropped = {
        point.attributes.get("callspan.drop.reason"): point.value
        for point in points(reader, "callspan.records.dropped")
        if "callspan.store" not in point.attributes
    }
    assert dropped["cap"] > 0
    assert set(dropped) <= {"cap", "error"}


def test_what_is_given_up_for_a_store_that_is_away_is_counted_for_it(
    provider: ScriptedProvider, reader: InMemoryMetricReader, start: Callable[..., Handle], tmp_path: Path
) -> None:
    stores = [f"jsonl:///{tmp_path / 'b.jsonl'}", f"unix:///{tmp_path / 'nobody.sock'}"]
    handle = start(stores=stores, spool_dir=tmp_path / "spool", spool_max_bytes=20_000)
    given_up: dict[str, int] = {}
    deadline = time.monotonic() + 30
    while not any(given_up.values()) and time.monotonic() < deadline:
        ask(provider, count=5)
        handle.force_flush(200)
        given_up = {
            point.attributes["callspan.store"]: point.value
            for point in points(reader, "callspan.records.dropped")
            if point.attributes.get("callspan.drop.reason") == "given_up"
        }
    assert sorted(name.partition(":")[0] for name, count in given_up.items() if count) == ["unix"]
