"""Metrics of calls: independent of sampling, and back to zero after every ending."""

from __future__ import annotations

import asyncio
import gc
import os
import re
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import anthropic
import msgspec
import openai
import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

import callspan
from callspan.records import CallRecord, ErrorInfo, Request, Stream, Timing
from callspan.semconv.metrics import COST
from callspan.spans.instruments import CallMetrics
from callspan.testing import ScriptedProvider
from tests.attempts.caller import Caller
from tests.counting import calls_made_by
from tests.intercept.calls import Run
from tests.intercept.mode import Mode
from tests.processed import processed

DURATION_BUCKETS: Final = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
TOKEN_BUCKETS: Final = (
    1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216, 67108864,
)  # fmt: skip
BOUNDED: Final = {
    "gen_ai.operation.name", "gen_ai.provider.name", "gen_ai.request.model", "gen_ai.response.model",
    "gen_ai.token.type", "server.address", "server.port", "error.type", "callspan.error.kind",
    "callspan.error.retryable", "callspan.rate_limit.unit",
}  # fmt: skip
IN_FLIGHT: Final = "callspan.client.in_flight"


class Meters:
    """A meter provider of the real SDK, read when asked."""

    def __init__(self) -> None:
        self.reader = InMemoryMetricReader()
        self.provider = MeterProvider(metric_readers=[self.reader])

    def read(self) -> dict[str, list[Any]]:
        """Data points by metric."""
        data = self.reader.get_metrics_data()
        if data is None:
            return {}
        scopes = [scope for resource in data.resource_metrics for scope in resource.scope_metrics]
        return {metric.name: list(metric.data.data_points) for scope in scopes for metric in scope.metrics}

    def values(self, name: str, **about: object) -> list[Any]:
        """Values of a metric's points whose attributes (dots as double underscores) are these."""
        wanted = {key.replace("__", "."): value for key, value in about.items()}
        return [
            point.value
            for point in self.read().get(name, [])
            if all(point.attributes.get(key) == value for key, value in wanted.items())
        ]

    def running(self) -> int:
        return sum(self.values(IN_FLIGHT))


@pytest.fixture
def meters() -> Iterator[Meters]:
    found = Meters()
    yield found
    found.provider.shutdown()


@pytest.fixture
def measured(meters: Meters) -> Iterator[Meters]:
    """Everything instrumented, with metrics read and all spans sampled out."""
    handle = callspan.instrument(
        meter_provider=meters.provider, tracer_provider=TracerProvider(sampler=ALWAYS_OFF), otlp=False
    )
    yield meters
    assert handle.force_flush(5_000)
    assert meters.running() == 0, "every call that began has been counted out"
    handle.uninstrument()


def test_duration_and_tokens_have_the_conventions_names_and_buckets(plain: Caller, run: Run, measured: Meters) -> None:
    plain.script({"text": "well", "input_tokens": 11, "output_tokens": 4})
    run(plain.call)
    points = measured.read()
    (duration,) = points["gen_ai.client.operation.duration"]
    assert tuple(duration.explicit_bounds) == DURATION_BUCKETS
    assert (duration.count, 0 < duration.sum < 30) == (1, True)
    model = "gpt-5" if plain.is_openai else "claude-sonnet-5"
    assert dict(duration.attributes) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai" if plain.is_openai else "anthropic",
        "gen_ai.request.model": model,
        "gen_ai.response.model": model,
        "server.address": "127.0.0.1",
        "server.port": int(plain.provider.url.rpartition(":")[2]),
    }
    tokens = {point.attributes["gen_ai.token.type"]: point for point in points["gen_ai.client.token.usage"]}
    assert {kind: point.sum for kind, point in tokens.items()} == {"input": 11, "output": 4}
    assert tuple(tokens["input"].explicit_bounds) == TOKEN_BUCKETS


def test_the_duration_of_a_cancelled_call_is_marked_and_is_not_an_error(mode: Mode, measured: Meters) -> None:
    mode.provider.reply(hang=True)

    async def give_up() -> None:
        async with openai.AsyncOpenAI(api_key="k", base_url=mode.provider.openai_url, max_retries=0) as client:
            call = client.chat.completions.create(model="gpt-5", messages=HI)
            await asyncio.wait_for(call, 0.2)

    with pytest.raises(asyncio.TimeoutError):
        asyncio.run(give_up())
    (duration,) = measured.read()["gen_ai.client.operation.duration"]
    assert duration.attributes["callspan.outcome"] == "cancelled"
    assert "error.type" not in duration.attributes


def test_what_is_left_of_a_rate_limit_is_the_last_that_was_reported(mode: Mode, run: Run, measured: Meters) -> None:
    caller = Caller(mode, "chat_completions", "plain")
    for left in ("9", "4"):
        caller.script({"headers": {"x-ratelimit-limit-requests": "10", "x-ratelimit-remaining-requests": left}})
        run(caller.call)
    name = "callspan.client.rate_limit.remaining"
    assert measured.values(name, callspan__rate_limit__unit="requests", gen_ai__request__model="gpt-5") == [4]
    assert measured.values("callspan.client.rate_limit.limit", callspan__rate_limit__unit="requests") == [10]


def test_no_metric_has_an_attribute_without_bounds(caller: Caller, run: Run, measured: Meters) -> None:
    caller.script({"status": 429, "headers": {"retry-after-ms": "1"}}, {"text": "well"}, {"status": 500})
    run(lambda: caller.call(max_retries=1))
    with pytest.raises((openai.APIStatusError, anthropic.APIStatusError)):
        run(caller.call)
    found = {name for points in measured.read().values() for point in points for name in point.attributes}
    assert found <= BOUNDED


async def closed_early(caller: Caller) -> None:
    stream = await caller.mode.wait(streamed(caller))
    await caller.mode.next(stream)
    await caller.mode.wait(stream.close())


async def dropped(caller: Caller) -> None:
    stream = await caller.mode.wait(streamed(caller))
    await caller.mode.next(stream)
    del stream
    gc.collect()


async def cancelled(caller: Caller) -> None:
    caller.provider.reply(hang=True)
    if not caller.mode.is_async:
        pytest.skip("only a task can be cancelled")
    task = asyncio.create_task(caller.call())
    while not caller.provider.requests:
        await asyncio.sleep(0.005)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def failed(caller: Caller) -> None:
    caller.provider.reply(status=400)
    with pytest.raises((openai.BadRequestError, anthropic.BadRequestError)):
        await caller.call()


async def cut_off(caller: Caller) -> None:
    caller.provider.reply(text="one two three four", cut_after=4)
    with pytest.raises(Exception):  # noqa: B017, PT011 - the SDKs disagree on its class
        await Caller(caller.mode, caller.api, "stream").call()


def streamed(caller: Caller) -> Any:
    if caller.is_openai:
        create: Any = caller.client().chat.completions.create
        return create(model="gpt-5", messages=[{"role": "user", "content": "hi"}], stream=True)
    create = caller.client().messages.create
    return create(model="claude-sonnet-5", max_tokens=9, messages=[{"role": "user", "content": "hi"}], stream=True)


@pytest.mark.parametrize("ending", [closed_early, dropped, cancelled, failed, cut_off])
def test_every_ending_counts_the_call_out(
    plain: Caller, run: Run, measured: Meters, ending: Callable[[Caller], Any]
) -> None:
    run(lambda: ending(plain))
    gc.collect()
    callspan.instrument(meter_provider=measured.provider).force_flush(5_000)
    assert measured.running() == 0
    (duration,) = measured.read()["gen_ai.client.operation.duration"]
    assert duration.count == 1


def record(model: str = "gpt-5", error: ErrorInfo | None = None, call_id: str = "c") -> CallRecord:
    return CallRecord(
        call_id=call_id,
        provider="openai",
        request=Request(model=model),
        timing=Timing(start_ns=1, duration_ns=1),
        outcome="error" if error else "success",
        error=error,
    )


def test_the_times_of_a_stream_are_in_seconds_and_that_of_its_chunks_is_the_mean(meters: Meters) -> None:
    times = {"first_chunk_ns": 1_000_000_000, "first_token_ns": 2_000_000_000, "last_chunk_ns": 5_000_000_000}
    streamed = msgspec.structs.replace(
        record(), request=Request(model="gpt-5", stream=True), stream=Stream(end="complete", chunks=5),
        timing=Timing(start_ns=1, duration_ns=6_000_000_000, **times),
    )  # fmt: skip
    CallMetrics(meters.provider, "1").observed(processed(streamed))
    names = ("operation.time_to_first_chunk", "operation.duration")
    assert [point.sum for name in names for point in meters.read()[f"gen_ai.client.{name}"]] == [1, 6]
    names = ("time_per_output_chunk", "time_to_first_token")
    assert [point.sum for name in names for point in meters.read()[f"callspan.client.{name}"]] == [1, 2]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_a_forked_child_does_not_count_what_runs_in_its_parent(meters: Meters) -> None:
    metrics = CallMetrics(meters.provider, "1")
    over = metrics.begun(processed(record()))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        own = metrics.begun(processed(record()))
        counted = meters.running()
        own()
        over()
        os._exit(0 if (counted, meters.running()) == (1, 0) else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert meters.running() == 1
    over()
    assert meters.running() == 0


def test_too_many_model_names_are_counted_as_other(meters: Meters) -> None:
    metrics = CallMetrics(meters.provider, "1")
    for number in range(1000):
        metrics.observed(processed(record(f"ft:gpt-5:{number}")))
    points = meters.read()["gen_ai.client.operation.duration"]
    assert len(points) == 201
    (rest,) = [point for point in points if point.attributes["gen_ai.request.model"] == "_OTHER"]
    assert rest.count == 800


def test_without_a_meter_provider_a_call_costs_next_to_nothing() -> None:
    metrics, done = CallMetrics(None, "1"), record()

    def one_call() -> None:
        over = metrics.begun(processed(done))
        metrics.observed(processed(done))
        over()

    assert calls_made_by(one_call) <= 30


HI: Final[list[Any]] = [{"role": "user", "content": "Hi"}]
ALERTS: Final = Path(__file__).resolve().parents[2] / "docs/alerts.md"


def test_every_query_of_the_page_asks_for_a_metric_there_is(plain: Caller, run: Run, measured: Meters) -> None:
    """Names as an OTLP receiver of Prometheus makes them."""
    caller = Caller(plain.mode, plain.api, "stream")
    caller.script(
        {"status": 429, "headers": {"retry-after-ms": "1"}}, {"text": "well"}, {"text": "well"}, {"status": 500}
    )
    run(lambda: caller.call(max_retries=1))
    run(plain.call)
    with pytest.raises((openai.APIStatusError, anthropic.APIStatusError)):
        run(plain.call)
    # What calls cost is known of those that have a price: see tests/otel/test_cost_and_records.py.
    there = {name.replace(".", "_") for name in (*measured.read(), COST.name)}
    queries = "".join(re.findall(r"```promql(.*?)```", ALERTS.read_text(), re.DOTALL))
    queried = set(re.findall(r"\b((?:callspan|gen_ai)_client_[a-z_]+)", queries))
    assert queried
    assert {re.sub("_(total|seconds_count|seconds_bucket|sum|count)$", "", name) for name in queried} <= there


LATE: Final = """
from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
import callspan, openai
from callspan.testing import ScriptedProvider
from tests.processed import processed

callspan.instrument()
with ScriptedProvider() as provider, openai.OpenAI(api_key="k", base_url=provider.openai_url) as client:
    def ask(stream=False):
        return client.chat.completions.create(model="m", messages=[{"role": "user", "content": "hi"}], stream=stream)
    ask()
    early = ask(stream=True)
    reader = InMemoryMetricReader()
    metrics.set_meter_provider(MeterProvider(metric_readers=[reader]))
    list(early)
    ask()
scopes = reader.get_metrics_data().resource_metrics[0].scope_metrics
points = {m.name: [(getattr(p, "count", None), getattr(p, "value", None)) for p in m.data.data_points]
          for s in scopes for m in s.metrics}
print(sum(count for count, _ in points["gen_ai.client.operation.duration"]))
print([value for _, value in points["callspan.client.in_flight"]])
"""


def test_the_global_provider_may_come_after_instrument() -> None:
    """A call that began before it is measured at its end, and never counted out without having been counted in."""
    ran = subprocess.run([sys.executable, "-c", LATE], capture_output=True, text=True, timeout=60, check=True)
    assert ran.stdout.split("\n")[:2] == ["2", "[0]"]


class UnhashableProvider(MeterProvider):
    """As that of Logfire, a dataclass that compares by value."""

    def __eq__(self, other: object) -> bool:
        return self is other

    __hash__ = None  # type: ignore[assignment] # what it is about


def test_a_provider_that_cannot_be_hashed_gets_the_metrics(provider: ScriptedProvider) -> None:
    reader = InMemoryMetricReader()
    unhashable = UnhashableProvider(metric_readers=[reader])
    handle = callspan.instrument(meter_provider=unhashable, tracer_provider=TracerProvider())
    try:
        with openai.OpenAI(base_url=provider.openai_url, api_key="any") as client:
            client.embeddings.create(model="m", input="Hi")
        data = reader.get_metrics_data()
    finally:
        handle.uninstrument()
        unhashable.shutdown()
    assert data is not None
    found = {
        metric.name
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
    }
    assert "gen_ai.client.operation.duration" in found


def test_retries_rate_limits_and_errors_are_counted(plain: Caller, run: Run, measured: Meters) -> None:
    limited = {"status": 429, "headers": {"retry-after-ms": "2"}}
    plain.script(limited, limited, {"text": "well"}, {"status": 400}, {"status": 529})
    run(lambda: plain.call(max_retries=2))
    for _ in range(2):
        with pytest.raises((openai.APIStatusError, anthropic.APIStatusError)):
            run(plain.call)
    model = "gpt-5" if plain.is_openai else "claude-sonnet-5"
    provider = "openai" if plain.is_openai else "anthropic"
    split = {"gen_ai__provider__name": provider, "gen_ai__request__model": model}
    assert measured.values("callspan.client.retries", **split) == [2]
    assert measured.values("callspan.client.rate_limit.hits", **split) == [2]
    errors = "callspan.client.errors"
    assert measured.values(errors, callspan__error__kind="bad_input", callspan__error__retryable=False, **split) == [1]
    assert measured.values(errors, callspan__error__kind="overloaded", callspan__error__retryable=True, **split) == [1]
    durations = measured.read()["gen_ai.client.operation.duration"]
    assert sorted(point.count for point in durations) == [1, 1, 1]
    assert sum("error.type" in point.attributes for point in durations) == 2
