"""Metrics and resources of calls."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any

import openai
import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import callspan
from callspan import Handle
from callspan.testing import ScriptedProvider
from tests.e2e.ask import QUESTION


@pytest.fixture
def reader() -> Iterator[InMemoryMetricReader]:
    found = InMemoryMetricReader()
    yield found
    found.shutdown()


def points(reader: InMemoryMetricReader) -> dict[str, list[Any]]:
    """Data points by the metric's name."""
    data = reader.get_metrics_data()
    assert data is not None
    scopes = [scope for resource in data.resource_metrics for scope in resource.scope_metrics]
    return {metric.name: list(metric.data.data_points) for scope in scopes for metric in scope.metrics}


@pytest.mark.parametrize("ending", ["plain", "stream", "closed", "error"])
def test_durations_are_in_seconds_of_what_the_caller_waited_and_say_how_it_ended(
    ending: str, provider: ScriptedProvider, reader: InMemoryMetricReader, instrumented: Callable[..., Handle]
) -> None:
    """Between the scripted wait and what the caller measured, by the unit that the metric states."""
    instrumented(meter_provider=MeterProvider(metric_readers=[reader], shutdown_on_exit=False))
    provider.reply(
        text="one two three", first_token_delay_s=0.06, delay_s=0.03, status=400 if ending == "error" else 200
    )
    streamed = ending in ("stream", "closed")
    with openai.OpenAI(api_key="k", base_url=provider.openai_url, max_retries=0) as client:
        began, first = time.perf_counter(), None
        with contextlib.suppress(openai.BadRequestError):
            answer: Any = client.chat.completions.create(model="gpt-5", messages=QUESTION, stream=streamed)
            for chunk in answer if streamed else ():
                if first is None and chunk.choices[0].delta.content:
                    first = time.perf_counter() - began
                    if ending == "closed":
                        answer.close()
                        break
        waited = time.perf_counter() - began
    found = points(reader)
    (duration,) = found["gen_ai.client.operation.duration"]
    assert (duration.count, units(reader)["gen_ai.client.operation.duration"]) == (1, "s")
    assert (0.09 if streamed else 0.03) <= duration.sum <= waited
    how = {name: value for name, value in duration.attributes.items() if name.startswith(("error.", "callspan."))}
    assert how.keys() == {"closed": {"callspan.outcome", "callspan.stream.end"}, "error": {"error.type"}}.get(
        ending, set()
    )
    assert how.get("callspan.outcome") == ("cancelled" if ending == "closed" else None)
    if first is None:
        assert "callspan.client.time_to_first_token" not in found
    else:
        (token,) = found["callspan.client.time_to_first_token"]
        assert (token.count, units(reader)["callspan.client.time_to_first_token"]) == (1, "s")
        assert 0.09 <= token.sum <= first


def units(reader: InMemoryMetricReader) -> dict[str, str]:
    """The unit each metric states."""
    data = reader.get_metrics_data()
    assert data is not None
    scopes = [scope for resource in data.resource_metrics for scope in resource.scope_metrics]
    return {metric.name: metric.unit for scope in scopes for metric in scope.metrics}


SECONDS = [0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92]
SECONDS_OF_AGENTS = [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 51.2, 102.4, 204.8, 409.6]
SECONDS_OF_WORKFLOWS = [1, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200]


def test_tools_agents_and_sessions_have_the_durations_of_the_conventions(
    reader: InMemoryMetricReader, instrumented: Callable[..., Handle]
) -> None:
    """In seconds, equal to the span's, in the conventions' buckets, with its name and the type of its error."""
    exporter = InMemorySpanExporter()
    spans = TracerProvider()
    spans.add_span_processor(SimpleSpanProcessor(exporter))
    meters = MeterProvider(metric_readers=[reader], shutdown_on_exit=False)
    instrumented(tracer_provider=spans, meter_provider=meters)
    for attempt in range(2):
        with contextlib.suppress(ValueError), callspan.session("trip", session_id="one") as session:
            with callspan.invoke_agent("planner"), callspan.tool("look"):
                time.sleep(0.01)
            with contextlib.suppress(TimeoutError), callspan.invoke_agent("booker"):
                raise TimeoutError
            if attempt:
                raise ValueError
    session.outcome(reward=1.0)
    found = points(reader)
    taken = {
        (metric, one.attributes.get(name), one.attributes.get("error.type")): one
        for metric, name in (
            ("gen_ai.invoke_workflow.duration", "gen_ai.workflow.name"),
            ("gen_ai.invoke_agent.duration", "gen_ai.agent.name"),
            ("gen_ai.execute_tool.duration", "gen_ai.tool.name"),
        )
        for one in found[metric]
    }
    assert {key: one.count for key, one in taken.items()} == {
        ("gen_ai.invoke_workflow.duration", "trip", None): 1,
        ("gen_ai.invoke_workflow.duration", "trip", "ValueError"): 1,
        ("gen_ai.invoke_agent.duration", "planner", None): 2,
        ("gen_ai.invoke_agent.duration", "booker", "TimeoutError"): 2,
        ("gen_ai.execute_tool.duration", "look", None): 2,
    }
    for (metric, name, error), one in taken.items():
        verb = metric.split(".")[1]
        shown = [
            ((span.end_time or 0) - (span.start_time or 0)) / 1e9
            for span in exporter.get_finished_spans()
            if span.name == f"{verb} {name}" and (span.attributes or {}).get("error.type") == error
        ]
        assert one.sum == pytest.approx(sum(shown)), "each its own span's, also of a session that goes on"
    assert {units(reader)[metric] for metric, _, _ in taken} == {"s"}
    buckets = {metric: list(one.explicit_bounds) for (metric, _, _), one in taken.items()}
    assert buckets == {
        "gen_ai.invoke_workflow.duration": SECONDS_OF_WORKFLOWS,
        "gen_ai.invoke_agent.duration": pytest.approx(SECONDS_OF_AGENTS),
        "gen_ai.execute_tool.duration": pytest.approx(SECONDS),
    }
