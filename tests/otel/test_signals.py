"""Spans, metrics and log events: to where `otlp=` and `callspan run` send them, in which batches, and their content."""

from __future__ import annotations

import contextlib
import random
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

import openai
import pytest
from opentelemetry._logs import SeverityNumber
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import Decision, ParentBased, Sampler, SamplingResult, TraceIdRatioBased
from tests.conftest import Instrument
from tests.support.launching import APPS, Stage
from tests.support.processes import succeeds
from tests.support.receiver import OtlpReceiver, items, plain
from tests.support.telemetry import Meters, kept_spans
from tests.support.waiting import HANG_S

import callspan
from callspan import ByteBoundedExporter
from callspan.testing import ScriptedProvider, capture

SCRIPT = str(APPS / "posting.py")
EVENT = "gen_ai.client.inference.operation.details"
CALL_METRICS = {"gen_ai.client.operation.duration", "gen_ai.client.token.usage", "callspan.client.in_flight"}


@pytest.fixture
def stage(stage: Stage) -> Stage:
    """The stage, with an environment that says nothing of exporters, as that of most people."""
    for name in ("OTEL_METRICS_EXPORTER", "OTEL_LOGS_EXPORTER", "OTEL_EXPORTER_OTLP_PROTOCOL"):
        stage.environment.pop(name)
    return stage


def resources(receiver: OtlpReceiver) -> list[dict[str, Any]]:
    every = [one for signal in ("spans", "metrics", "logs") for one in items(receiver.requests, signal)]
    return [plain(resource.attributes) for resource, _, _ in every]


def instances(receiver: OtlpReceiver) -> set[str]:
    return {one["service.instance.id"] for one in resources(receiver)}


def test_child_processes_share_only_the_service_name(stage: Stage) -> None:
    (stage.place / "parent.py").write_text(f"""
import subprocess, sys
from posting import ask
ask("Hi")
subprocess.run([sys.executable, {SCRIPT!r}], check=True)
""")
    done = stage.run("callspan", "--store", stage.store, "run", "parent.py")
    assert done.returncode == 0, done.stderr
    assert len(stage.spans) == 2
    assert {one["service.name"] for one in resources(stage.receiver)} == {"parent"}
    assert len(instances(stage.receiver)) == 2


@pytest.mark.parametrize("apart", [[], ["unshare", "-rpf", "--mount-proc"]], ids=["", "as process 1"])
def test_instance_id_is_per_process(stage: Stage, apart: list[str]) -> None:
    """Two containers with the name of their host have the same process ids."""
    if apart and not succeeds(*apart, "true"):
        pytest.skip("no namespace can be made here")
    instrumented = "import callspan\ncallspan.instrument(otlp=True)\nfrom posting import ask\n"
    (stage.place / "shop.py").write_text(f"{instrumented}with callspan.session('s'):\n    ask('Hi')")
    for _ in range(2):
        command = [*apart, sys.executable, "shop.py"]
        subprocess.run(command, check=True, env=stage.environment, cwd=stage.place, timeout=HANG_S)
    live = instances(stage.receiver)
    assert stage.run("callspan", "send", "--otlp", stage.receiver.url).returncode == 0
    assert (len(live), len(instances(stage.receiver) - live)) == (2, 2)


NONE = {"OTEL_METRICS_EXPORTER": "none", "OTEL_LOGS_EXPORTER": " None "}
WARNED = "log_events is on, but no logger provider is set"


def asked(
    stage: Stage, arguments: str, *, before: str = "", after: str = "", **variables: str
) -> subprocess.CompletedProcess[str]:
    """What an application prints that instruments with these arguments and makes a call."""
    instrumented = f"import callspan\nhandle = callspan.instrument({arguments})\nfrom posting import ask\nask('Hi')"
    (stage.place / "shop.py").write_text("\n".join((before, instrumented, after)))
    return stage.run("python", "shop.py", **variables)


NAMED = {"OTEL_RESOURCE_ATTRIBUTES": "service.name=first,a=b, service.name = corner%20shop%2C%20west "}


@pytest.mark.parametrize(
    ("service", "name", "variables"),
    [(None, "shop", {}), ("till", "till", {**NONE, **NAMED}), (None, "corner shop, west", NAMED)],
)
def test_otlp_sends_all_three_signals(service: str | None, name: str, variables: dict[str, str], stage: Stage) -> None:
    """But for those that a variable turns off, although an address is given."""
    arguments = f"otlp='{stage.receiver.url}', log_events=True, service={service!r}"
    done = asked(stage, arguments, after="print(handle.force_flush(300_000))\nimport os; os._exit(0)", **variables)
    without = "OTEL_LOGS_EXPORTER" in variables
    assert (done.stdout, done.stderr.partition(":")[0]) == ("True\n", WARNED if without else "")
    metrics, events = {one.name for one in stage.receiver.metrics}, [kind for kind, _, _ in stage.receiver.logs]
    assert len(stage.spans) == 1
    assert events.count(EVENT) == (0 if without else 1)
    assert metrics == set() if without else metrics >= CALL_METRICS
    assert {found["service.name"] for found in resources(stage.receiver)} == {name}


DRAWING = "random.seed(7); ask('Hi'); print(random.random())"
DRAWN = f"{random.Random(7).random()}\n"


def test_seeded_application_draws_the_same_numbers(stage: Stage) -> None:
    """And its processes have different traces."""
    for _ in range(2):
        done = asked(stage, f"otlp='{stage.receiver.url}'", before="import random; random.seed(7)", after=DRAWING)
        assert (done.stdout, done.stderr) == (DRAWN, "")
    assert len({span.trace_id for span in stage.spans}) == len(stage.spans) == 4


def test_seeded_test_draws_the_same_numbers() -> None:
    with ScriptedProvider() as provider, capture() as captured:
        client = openai.OpenAI(base_url=provider.openai_url, api_key="any")
        random.seed(7)
        client.chat.completions.create(model="m", messages=[{"role": "user", "content": "Hi"}])
        assert (random.random(), len(captured.spans)) == (random.Random(7).random(), 1)


OWN_PROVIDERS = """
from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import TracerProvider
mine = MeterProvider(), TracerProvider()
metrics.set_meter_provider(mine[0])
trace.set_tracer_provider(mine[1])
"""


def test_application_providers_are_unchanged(stage: Stage) -> None:
    after = "print((metrics.get_meter_provider(), trace.get_tracer_provider()) == mine)"
    done = asked(stage, f"otlp='{stage.receiver.url}'", before=OWN_PROVIDERS, after=after)
    assert (done.stdout, done.stderr) == ("True\n", "")
    assert not stage.receiver.headers


def test_missing_exporter_names_the_extra_once(stage: Stage) -> None:
    missing = "import sys; sys.modules['opentelemetry.exporter.otlp.proto.http'] = None"
    done = asked(stage, "otlp='http://127.0.0.1:9'", before=missing)
    assert done.stderr == 'Nothing is sent: OTLP by http/protobuf needs pip install "callspan[otlp]"\n'


def test_receiver_without_metrics_does_not_fail_a_flush(stage: Stage) -> None:
    stage.receiver.statuses["/v1/metrics"] = 404
    done = asked(stage, f"otlp='{stage.receiver.url}', stores=()", after="print(handle.force_flush())")
    assert done.stdout == "True\n"
    assert "404" in done.stderr


def test_global_provider_may_be_set_after_instrument(stage: Stage) -> None:
    after = """
from opentelemetry import trace
from tests.support.telemetry import kept_spans
provider, exporter = kept_spans()
trace.set_tracer_provider(provider)
ask("Hi")
print([span.name for span in exporter.get_finished_spans()])
"""
    done = asked(stage, "", after=after)
    assert done.stdout.strip() == "['chat gpt-5']", done.stderr


@pytest.mark.parametrize(
    "otlp",
    ["nonsense", "localhost:4318", "http://", 4318, "htp://me:hunter2@here", "grpc://localhost:4317", ["http://a"]],
)
def test_invalid_url_error_hides_the_password(otlp: Any) -> None:
    with pytest.raises(callspan.SettingError, match=r"otlp.*http://localhost:4318") as raised:
        callspan.instrument(otlp=otlp)
    assert "hunter2" not in str(raised.value)


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
def test_batches_fit_the_receiver(stage: Stage, protocol: str) -> None:
    """What alone is too large is lost alone, and is no success."""
    program = """
import callspan
from opentelemetry import _logs, trace
callspan.instrument(otlp=True, stores=(), log_events=True)
def sent(*sizes):
    for size in sizes:
        trace.get_tracer("test").start_span("one", attributes={"text": "ä" * (size // 2)}).end()
    return trace.get_tracer_provider().force_flush()
print(sent(*[20_000] * 300), sent(10, 4 << 20, 10), sent(10))
for number in range(200):
    text = [{"content": f"{number}" + "ä" * 20_000}]
    _logs.get_logger("test").emit(_logs.LogRecord(attributes={"gen_ai.input.messages": text}))
_logs.get_logger_provider().force_flush()
"""
    with OtlpReceiver(max_bytes=4 << 20) as picky:
        address = picky.url if protocol != "grpc" else f"http://{picky.serve_grpc()}"
        variables = {"OTEL_EXPORTER_OTLP_PROTOCOL": protocol, "OTEL_EXPORTER_OTLP_ENDPOINT": address}
        done = stage.run("python", "-c", program, **variables)
        assert done.stdout == "True False True\n", done.stderr
        assert (len(picky.spans), len(picky.logs)) == (303, 200)
        assert len(picky.refused) == (1 if protocol != "grpc" else 0)


class Sizes(SpanExporter):
    """An exporter that keeps the number of items of each batch, and refuses the first `refused`."""

    def __init__(self, refused: int = 0) -> None:
        self.seen: list[int] = []
        self.ended: list[str] = []
        self._refused = refused

    def export(self, spans: Any) -> SpanExportResult:
        self.seen.append(len(spans))
        return SpanExportResult.FAILURE if len(self.seen) <= self._refused else SpanExportResult.SUCCESS

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        self.ended.append(f"flush {timeout_millis}")
        return False

    def shutdown(self) -> None:
        self.ended.append("shutdown")


def item(size: int, **other: Any) -> Any:
    return SimpleNamespace(attributes={"text": "x" * size}, **other)


@pytest.mark.parametrize(
    ("batch", "sizes"),
    [
        ([item(900)] * 3, [2, 1]),
        ([item(10), item(9000), item(10)], [1, 1, 1]),
        ([item(1, events=[item(900)])] * 3, [1, 1, 1]),
        ([SimpleNamespace(log_record=item(1, body={"said": ["\ud83d" * 900, b"y" * 900]}))] * 2, [1, 1]),
    ],
)
def test_batches_are_split_by_bytes(batch: list[Any], sizes: list[int]) -> None:
    behind = Sizes()
    assert ByteBoundedExporter(behind, 3000).export(batch) is SpanExportResult.SUCCESS
    assert behind.seen == sizes


def test_batch_fails_with_a_part_but_sends_the_others() -> None:
    behind = Sizes(refused=1)
    bounded = ByteBoundedExporter(behind, 3000)
    assert bounded.export([item(2000), item(2000)]) is SpanExportResult.FAILURE
    assert behind.seen == [1, 1]
    assert bounded.force_flush(7) is False
    bounded.shutdown()
    assert behind.ended == ["flush 7", "shutdown"]


DEVELOPMENT = "https://opentelemetry.io/schemas/gen-ai-dev/1.42.0-dev"
RELEASED = "https://opentelemetry.io/schemas/1.37.0"
HI: Any = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]


class Exported:
    """An application with OpenTelemetry's providers, and what they were given of its calls."""

    def __init__(self, instrument: Instrument) -> None:
        self._logs, self.metrics, logging = InMemoryLogRecordExporter(), Meters(), LoggerProvider()
        logging.add_log_record_processor(SimpleLogRecordProcessor(self._logs))
        tracing, self._spans = kept_spans()
        providers = {"tracer_provider": tracing, "meter_provider": self.metrics.provider, "logger_provider": logging}
        self.start = partial(instrument, **providers)

    @property
    def logs(self) -> list[Any]:
        return list(self._logs.get_finished_logs())

    @property
    def events(self) -> list[Any]:
        return [log.log_record for log in self.logs]

    @property
    def spans(self) -> list[Any]:
        return list(self._spans.get_finished_spans())


@pytest.fixture
def exported(instrumented: Instrument) -> Exported:
    return Exported(instrumented)


def call(client: openai.OpenAI) -> None:
    client.chat.completions.create(model="gpt-5", messages=HI)


@pytest.mark.parametrize("events", [True, False])
def test_schema_urls(provider: ScriptedProvider, client: openai.OpenAI, exported: Exported, events: bool) -> None:
    provider.reply(status=500)
    exported.start(log_events=events, attempt_spans=True)
    with callspan.session("s") as session, session.timestep() as step:
        call(client.with_options(max_retries=1))
        with step.tool("look"):
            step.environment([1], reward=1.0)
    callspan.reward(0.5, session_id=session.id)
    metrics: Any = exported.metrics.reader.get_metrics_data()
    kinds = {span.name.split()[0] for span in exported.spans}
    assert kinds >= {"chat", "POST", "invoke_workflow", "timestep", "execute_tool"}
    scopes = {(span.instrumentation_scope.name, span.instrumentation_scope.schema_url) for span in exported.spans}
    assert scopes == {("callspan", DEVELOPMENT)}
    assert {log.instrumentation_scope.schema_url for log in exported.logs} == ({DEVELOPMENT} if events else set())
    scopes = {(one.scope.name, one.schema_url) for each in metrics.resource_metrics for one in each.scope_metrics}
    assert scopes == {("callspan", RELEASED)}


def test_event_content_is_structured(provider: ScriptedProvider, client: openai.OpenAI, exported: Exported) -> None:
    provider.reply(text="Hello.")
    exported.start(log_events=True)
    call(client)
    (event,), (span,) = exported.events, exported.spans
    assert (event.event_name, event.span_id) == (EVENT, span.context.span_id)
    assert event.attributes["gen_ai.request.model"] == "gpt-5"
    assert event.attributes["gen_ai.usage.input_tokens"] > 0
    assert event.attributes["gen_ai.output.messages"][0]["parts"][0]["content"] == "Hello."
    assert [message["role"] for message in event.attributes["gen_ai.input.messages"]] == ["system", "user"]


def test_content_only_in_events(client: openai.OpenAI, exported: Exported, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", "EVENT_ONLY")
    exported.start()
    call(client)
    (event,), (span,) = exported.events, exported.spans
    assert "gen_ai.input.messages" in event.attributes
    assert not {"gen_ai.input.messages", "llm.prompts", "llm.completions"} & set(span.attributes)


FAILURES: dict[str, dict[str, Any]] = {
    "status": {"status": 400, "message": "Hi is no question."},
    "body": {"raw": {"error": {"message": "Hi is no question.", "type": "invalid_request_error"}}},
}


@pytest.mark.parametrize("failure", FAILURES)
def test_failures_as_events(
    failure: str, provider: ScriptedProvider, client: openai.OpenAI, exported: Exported
) -> None:
    """A warning in the call's span, with the class of the exception and its message."""
    provider.reply(**FAILURES[failure])
    exported.start(log_events=True)
    with contextlib.suppress(openai.OpenAIError):
        call(client)
    (details, exception), (span,) = exported.events, exported.spans
    assert exception.event_name == "gen_ai.client.operation.exception"
    assert (exception.severity_number, details.severity_number) == (SeverityNumber.WARN, SeverityNumber.DEBUG)
    assert (exception.trace_id, exception.span_id) == (span.context.trace_id, span.context.span_id)
    shown = next(event for event in span.events if event.name == "exception")
    assert exception.timestamp == shown.timestamp == span.end_time
    named = {name: value for name, value in exception.attributes.items() if name.startswith("exception.")}
    assert named == dict(shown.attributes)
    assert named["exception.type"]
    assert exception.attributes["error.type"] == span.attributes["error.type"]
    assert exception.attributes["gen_ai.request.model"] == "gpt-5"
    assert "no question" in named["exception.message"]


class Reading(Sampler):
    """Records what it is asked."""

    def __init__(self) -> None:
        self.attributes: list[dict[str, Any]] = []

    def should_sample(
        self,
        parent_context: Any,
        trace_id: int,
        name: str,
        kind: Any = None,
        attributes: Any = None,
        *_: Any,
        **__: Any,
    ) -> SamplingResult:
        self.attributes.append(dict(attributes))
        return SamplingResult(Decision.RECORD_AND_SAMPLE, attributes)

    def get_description(self) -> str:
        return "reading"


@pytest.mark.parametrize(
    "around", [lambda sampler: sampler, ParentBased, lambda sampler: ParentBased(ParentBased(sampler))]
)
def test_sampler_reads_the_attributes_of_every_vocabulary(
    around: Callable[[Sampler], Sampler], instrumented: Instrument
) -> None:
    """Also one to which another delegates; whatever the sampler, the finished span has them."""
    sampler, exporter = Reading(), InMemorySpanExporter()
    for used in (around(sampler), TraceIdRatioBased(1.0)):
        provider = TracerProvider(sampler=used)
        provider.add_span_processor(SimpleSpanProcessor(exporter))
        with ScriptedProvider() as scripted:
            scripted.reply("hi")
            handle = instrumented(tracer_provider=provider, vocabularies=("llm", "gen_ai", "openinference"))
            client = openai.OpenAI(base_url=scripted.openai_url, api_key="k")
            client.chat.completions.create(model="gpt-5", messages=[{"role": "user", "content": "q"}])
            handle.uninstrument()
    (read,) = sampler.attributes
    assert (read["llm.vendor"], read["llm.request.model"], read["openinference.span.kind"]) == (
        "openai",
        "gpt-5",
        "LLM",
    )
    spans = [dict(span.attributes or {}) for span in exporter.get_finished_spans()]
    assert [span["llm.item_id"] == span["callspan.call_id"] for span in spans] == [True, True]
    assert {name for name, value in read.items() if spans[0].get(name) != value} == set()
