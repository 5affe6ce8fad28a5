"""`CallRecordExporter`: best-effort records of other instrumentations' spans, without duplicates."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import openai
import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

import callspan
from callspan import CallRecord, CallRecordExporter
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
