"""Metrics: of calls, independent of sampling and back to zero after every ending; of tools, agents and sessions."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import openai
import pytest
from opentelemetry.instrumentation.utils import suppress_instrumentation
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from tests.conftest import Instrument
from tests.support.calls import CHAT, REQUESTS, Wire, caught
from tests.support.mode import Mode
from tests.support.processes import ROOT, ran
from tests.support.rig import in_child
from tests.support.telemetry import Meters, kept_spans
from tests.support.waiting import HANG_MS

import callspan
from callspan.records import CallRecord
from callspan.testing import ScriptedProvider

pytestmark = pytest.mark.usefixtures("short_waits")
SECONDS: Final = [0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92]
SECONDS_OF_AGENTS: Final = [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 51.2, 102.4, 204.8, 409.6]
SECONDS_OF_WORKFLOWS: Final = [1, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200]
TOKENS: Final = [1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216, 67108864]
BOUNDED: Final = {
    "gen_ai.operation.name", "gen_ai.provider.name", "gen_ai.request.model", "gen_ai.response.model",
    "gen_ai.token.type", "server.address", "server.port", "error.type", "callspan.error.kind",
    "callspan.error.retryable", "callspan.rate_limit.unit",
}  # fmt: skip
DURATION: Final = "gen_ai.client.operation.duration"
LIMITED: Final = {"status": 429, "headers": {"retry-after-ms": "1"}}


@pytest.fixture
def measured() -> Iterator[Meters]:
    """Everything instrumented, with metrics read and all spans sampled out."""
    meters = Meters()
    handle = callspan.instrument(
        meter_provider=meters.provider, tracer_provider=TracerProvider(sampler=ALWAYS_OFF), otlp=False
    )
    yield meters
    assert handle.force_flush(HANG_MS)
    assert meters.running() == 0, "every call that began has been counted out"
    handle.uninstrument()
    meters.provider.shutdown()


def model_of(wire: Wire) -> str:
    return str(REQUESTS[wire.api]["model"])


async def test_duration_and_token_metrics_follow_the_conventions(plain: Wire, measured: Meters) -> None:
    plain.script({"text": "well", "input_tokens": 11, "output_tokens": 4})
    await plain.call()
    points = measured.read()
    (duration,) = points[DURATION]
    assert list(duration.explicit_bounds) == SECONDS
    assert (duration.count, 0 < duration.sum < 30) == (1, True)
    assert dict(duration.attributes) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": plain.sdk,
        "gen_ai.request.model": model_of(plain),
        "gen_ai.response.model": model_of(plain),
        "server.address": "127.0.0.1",
        "server.port": int(plain.mode.provider.url.rpartition(":")[2]),
    }
    tokens = {point.attributes["gen_ai.token.type"]: point for point in points["gen_ai.client.token.usage"]}
    assert {kind: point.sum for kind, point in tokens.items()} == {"input": 11, "output": 4}
    assert list(tokens["input"].explicit_bounds) == TOKENS


def test_metric_times_equal_records(
    stream: bool, provider: ScriptedProvider, client: openai.OpenAI, measured: Meters
) -> None:
    """That of a stream's chunks is the mean."""
    provider.reply(text="one two three", chunk_delay_s=0.01)
    records: list[CallRecord] = []
    remove = callspan.add_callback("after_record", records.append)
    answer: Any = client.chat.completions.create(**CHAT, stream=stream)
    chunks = len(list(answer)) if stream else 0
    remove()
    timing, found = records[-1].timing, measured.metrics()
    (duration,) = found[DURATION].data.data_points
    assert (duration.sum * 1e9, found[DURATION].unit) == (pytest.approx(timing.duration_ns), "s")
    times = {name: metric.data.data_points[0].sum * 1e9 for name, metric in found.items() if "time_" in name}
    first, last = timing.first_chunk_ns or 0, timing.last_chunk_ns or 0
    expected = {
        "gen_ai.client.operation.time_to_first_chunk": first,
        "callspan.client.time_to_first_token": timing.first_token_ns,
        "callspan.client.time_per_output_chunk": (last - first) / (chunks - 1),
    }
    assert times == (pytest.approx(expected) if stream else {})


async def test_remaining_rate_limit_is_the_last_reported(mode: Mode, measured: Meters) -> None:
    wire = Wire("chat_completions", mode)
    for left in ("9", "4"):
        wire.script({"headers": {"x-ratelimit-limit-requests": "10", "x-ratelimit-remaining-requests": left}})
        await wire.call()
    name = "callspan.client.rate_limit.remaining"
    assert measured.values(name, callspan__rate_limit__unit="requests", gen_ai__request__model="gpt-5") == [4]
    assert measured.values("callspan.client.rate_limit.limit", callspan__rate_limit__unit="requests") == [10]


async def test_retries_limits_and_errors_have_bounded_attributes(shaped: Wire, measured: Meters) -> None:
    """Every query of the page on alerts asks for a metric there is, as an OTLP receiver of Prometheus names it."""
    shaped.script(LIMITED, LIMITED, {"text": "well"}, {"status": 400}, {"status": 529}, {"status": 504})
    await shaped.call(shaped.client(max_retries=2))
    for _ in range(3):
        assert await caught(shaped.call()) is not None
    split = {"gen_ai__provider__name": shaped.sdk, "gen_ai__request__model": model_of(shaped)}
    assert measured.values("callspan.client.retries", **split) == [2]
    assert measured.values("callspan.client.rate_limit.hits", **split) == [2]
    assert measured.values("callspan.client.may_be_billed", **split) == [1]
    errors = "callspan.client.errors"
    assert measured.values(errors, callspan__error__kind="bad_input", callspan__error__retryable=False, **split) == [1]
    assert measured.values(errors, callspan__error__kind="overloaded", callspan__error__retryable=True, **split) == [1]
    points = measured.read()
    assert sum(point.count for point in points[DURATION]) == 4
    assert sum(point.count for point in points[DURATION] if "error.type" in point.attributes) == 3
    assert {name for each in points.values() for point in each for name in point.attributes} <= BOUNDED
    if shaped.shape == "stream":
        # What calls cost is known of those that have a price.
        there = {name.replace(".", "_") for name in (*points, "callspan.client.cost", "gen_ai.client.token.usage")}
        queries = "".join(re.findall(r"```promql(.*?)```", (ROOT / "docs/alerts.md").read_text(), re.DOTALL))
        queried = set(re.findall(r"\b((?:callspan|gen_ai)_client_[a-z_]+)", queries))
        assert queried
        assert {re.sub("_(total|seconds_count|seconds_bucket|sum|count)$", "", name) for name in queried} <= there


@pytest.mark.parametrize("how", ["closed", "dropped"])
async def test_abandoned_call_leaves_the_in_flight_count(how: str, plain: Wire, measured: Meters) -> None:
    """A cancelled call is no error."""
    await plain.leave(how)
    await plain.mode.collect()
    callspan.instrument(meter_provider=measured.provider).force_flush(HANG_MS)
    (duration,) = measured.read()[DURATION]
    assert duration.count == 1
    found = {key: value for key, value in duration.attributes.items() if key.startswith(("error.", "callspan."))}
    assert found == {"callspan.outcome": "cancelled", "callspan.stream.end": "closed"}


def by_hand(model: str = "gpt-5") -> Any:
    return callspan.record_call(provider="openai", model=model)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of a fork, as this process has threads
def test_forked_child_does_not_count_calls_of_its_parent(measured: Meters) -> None:
    def counts_its_own() -> bool:
        with by_hand():
            counted = measured.running()
        over.__exit__(None, None, None)
        return (counted, measured.running()) == (1, 0)

    with by_hand() as over:
        in_child(counts_its_own)
        assert measured.running() == 1
    assert measured.running() == 0


def test_excess_model_names_are_counted_as_other(measured: Meters) -> None:
    for number in range(300):
        with by_hand(f"ft:gpt-5:{number}"):
            pass
    points = measured.read()[DURATION]
    assert len(points) == 201
    (rest,) = [point for point in points if point.attributes["gen_ai.request.model"] == "_OTHER"]
    assert rest.count == 100


LATE: Final = """
from opentelemetry import metrics
import callspan
from tests.support.telemetry import Meters

def call():
    return callspan.record_call(provider="openai", model="m")

callspan.instrument()
with call():
    pass
with call():
    meters = Meters()
    metrics.set_meter_provider(meters.provider)
with call():
    pass
print(sum(point.count for point in meters.read()["gen_ai.client.operation.duration"]))
print(meters.values("callspan.client.in_flight"))
"""


def test_global_meter_provider_may_be_set_after_instrument(tmp_path: Path) -> None:
    """A call that began before it is measured at its end, and never counted out without having been counted in."""
    assert ran("-c", LATE, cwd=tmp_path).stdout.splitlines() == ["2", "[0]"]


SCOPES: Final = {
    # metric: the attribute of its name, its buckets
    "gen_ai.invoke_workflow.duration": ("gen_ai.workflow.name", SECONDS_OF_WORKFLOWS),
    "gen_ai.invoke_agent.duration": ("gen_ai.agent.name", SECONDS_OF_AGENTS),
    "gen_ai.execute_tool.duration": ("gen_ai.tool.name", SECONDS),
}


def test_tool_agent_and_session_durations_follow_the_conventions(instrumented: Instrument) -> None:
    """In seconds, equal to the span's, in the conventions' buckets, with its name and the type of its error."""
    (spans, exporter), meters = kept_spans(), Meters()
    instrumented(tracer_provider=spans, meter_provider=meters.provider)
    for attempt in range(2):
        with contextlib.suppress(ValueError), callspan.session("trip", session_id="one") as session:
            with callspan.invoke_agent("planner"), callspan.tool("look"):
                time.sleep(0.01)
            with contextlib.suppress(TimeoutError), callspan.invoke_agent("booker"):
                raise TimeoutError
            if attempt:
                raise ValueError
    session.outcome(reward=1.0)
    with callspan.session("outer", session_id="both"), callspan.session("inner", session_id="both"):
        pass
    found = meters.metrics()
    assert {found[metric].unit for metric in SCOPES} == {"s"}
    counts = {}
    for metric, (attribute, buckets) in SCOPES.items():
        for point in found[metric].data.data_points:
            name, error = point.attributes[attribute], point.attributes.get("error.type")
            counts[name, error] = point.count
            assert list(point.explicit_bounds) == pytest.approx(buckets)
            shown = [
                ((span.end_time or 0) - (span.start_time or 0)) / 1e9
                for span in exporter.get_finished_spans()
                if span.name == f"{metric.split('.')[1]} {name}" and (span.attributes or {}).get("error.type") == error
            ]
            assert point.sum == pytest.approx(sum(shown)), "each its own span's, also of a session that goes on"
    assert counts == {
        ("trip", None): 1, ("trip", "ValueError"): 1, ("planner", None): 2, ("booker", "TimeoutError"): 2,
        ("look", None): 2, ("outer", None): 1, ("inner", None): 1,
    }  # fmt: skip


def test_stated_cost_is_measured_while_instrumentation_is_suppressed(
    measured: Meters, client: openai.OpenAI, provider: ScriptedProvider
) -> None:
    """As for a cost that is computed during delivery; nothing else is measured."""
    provider.reply(text="Hi", usage={"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7, "cost": 0.5})
    with suppress_instrumentation():
        client.chat.completions.create(**CHAT)
    assert [*measured.read()] == ["callspan.client.cost"]


def test_provider_that_was_shut_down_is_left_alone(
    instrumented: Instrument, client: openai.OpenAI, provider: ScriptedProvider, caplog: pytest.LogCaptureFixture
) -> None:
    meters = Meters()
    meters.provider.shutdown()
    instrumented(meter_provider=meters.provider)
    provider.reply(text="Hi")
    client.chat.completions.create(**CHAT)
    assert not [record.message for record in caplog.records if record.name.startswith("opentelemetry")]
