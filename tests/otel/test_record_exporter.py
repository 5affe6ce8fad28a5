"""`CallRecordExporter`, and metrics of costs and records, each counted once, also if stores fail."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from decimal import Decimal
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
from callspan.fail_open import failures
from callspan.records import CallRecord, Cost, Timing
from callspan.spans.instruments import CallMetrics
from callspan.testing import ScriptedProvider
from tests.processed import processed

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


def test_a_call_observed_by_callspan_has_one_record(kept: Kept, client: openai.OpenAI) -> None:
    client.chat.completions.create(model="gpt-5", messages=HI)
    assert [call.request.model for call in kept.calls()] == ["gpt-5"]


def test_an_llm_span_of_another_library_becomes_a_record(kept: Kept) -> None:
    kept.tracer.start_span("chat other-1", attributes=CHAT).end()
    (call,) = kept.calls()
    assert (call.request.model, call.sdk) == ("other-1", "somebody.else")
    assert call.usage is not None
    assert call.usage.input_tokens == 3


def test_spans_that_are_not_calls_become_no_records(kept: Kept) -> None:
    kept.tracer.start_span("GET /", attributes={"http.route": "/"}).end()
    kept.tracer.start_span("agent", attributes={"gen_ai.operation.name": "invoke_agent"}).end()
    client_span = kept.tracer.start_span("chat other-1", attributes=CHAT)
    client_span.end()
    assert len(kept.calls()) == 1


def test_a_joined_foreign_span_has_only_callspans_record(kept: Kept, client: openai.OpenAI) -> None:
    with kept.tracer.start_as_current_span("chat gpt-5", attributes=CHAT) as span:
        client.chat.completions.create(model="gpt-5", messages=HI)
    (call,) = kept.calls()
    assert call.sdk is not None
    assert call.sdk.startswith("openai/")
    assert call.span_id == f"{span.get_span_context().span_id:016x}"


def test_a_second_call_under_one_foreign_span_has_a_span_of_its_own(kept: Kept, client: openai.OpenAI) -> None:
    with kept.tracer.start_as_current_span("chat gpt-5", attributes=CHAT) as span:
        client.chat.completions.create(model="gpt-5", messages=HI)
        client.chat.completions.create(model="gpt-5", messages=HI)
    calls = kept.calls()
    outer = f"{span.get_span_context().span_id:016x}"
    assert len({call.span_id for call in calls}) == len(calls) == 2
    assert sorted(call.span_id == outer for call in calls) == [False, True]


def test_nested_foreign_spans_have_one_record_together(kept: Kept, client: openai.OpenAI) -> None:
    with (
        kept.tracer.start_as_current_span("framework", attributes=CHAT),
        kept.tracer.start_as_current_span("chat gpt-5", attributes=CHAT),
    ):
        client.chat.completions.create(model="gpt-5", messages=HI)
    assert len(kept.calls()) == 1


PRICES = '{"version": "ours-1", "models": {"my-model": {"input": "2", "output": "8"}}}'
MESSAGES: Any = [{"role": "user", "content": "Hi"}]
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


@pytest.fixture
def prices(tmp_path: Path) -> Path:
    """A price file for `my-model`: 2 and 8 dollars for a million tokens."""
    path = tmp_path / "prices.json"
    path.write_text(PRICES)
    return path


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
            client.chat.completions.create(model=model, messages=MESSAGES)


def costs_in(store: str) -> list[Decimal | None]:
    with closing(open_store(store)) as opened:
        return [None if call.cost is None else call.cost.usd for call in opened.calls()]


def test_a_computed_cost_is_measured_when_the_call_is_stored_once_for_all_stores(
    provider: ScriptedProvider, reader: InMemoryMetricReader, start: Callable[..., Handle], prices: Path, tmp_path: Path
) -> None:
    stores = [f"sqlite:///{tmp_path / 'a.db'}", f"jsonl:///{tmp_path / 'b.jsonl'}"]
    handle = start(stores=stores, prices=prices)
    ask(provider, count=3)
    assert handle.force_flush()
    (point,) = points(reader, "callspan.client.cost")
    assert (point.count, point.sum) == (3, pytest.approx(0.018))
    assert point.attributes["callspan.cost.source"] == "computed"
    assert point.attributes["gen_ai.request.model"] == "my-model"
    assert [float(cost or 0) for cost in costs_in(stores[0])] == [0.006] * 3, "as the records have it"


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


def test_a_spool_that_cannot_be_read_costs_nothing_but_the_count(reader: InMemoryMetricReader) -> None:
    class Broken:
        def states(self) -> Any:
            raise OSError("gone")

        drops = states

    step = "read the counters of the spool"
    before = failures().get(step, 0)
    metrics = CallMetrics(MeterProvider(metric_readers=[reader], shutdown_on_exit=False), "1", Broken())
    cost = Cost(usd=Decimal(1), source="ours")
    metrics.priced(processed(CallRecord(call_id="1", timing=Timing(start_ns=1), cost=cost)))
    assert points(reader, "callspan.records.written") == []
    assert points(reader, "callspan.client.cost")[0].sum == 1.0
    assert failures()[step] > before
