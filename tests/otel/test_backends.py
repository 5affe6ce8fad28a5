"""Real backends that get the demo by OTLP: Jaeger and Phoenix, asked through their APIs, and a Collector.

Jaeger is the one on the PATH; behind the Collector stand the tests' receiver and Prometheus.
"""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import subprocess
import sys
import urllib.parse
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest
from google.protobuf.json_format import MessageToDict
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from tests.support.launching import APPS, Stage, answers, free_port, python_of, running
from tests.support.processes import ROOT
from tests.support.programs import DEMO_SPANS, SPOKEN, VOICE_CALLS
from tests.support.receiver import PATHS, OtlpReceiver, items
from tests.support.waiting import HANG_S, until

HERE: Final = Path(__file__).parent
ABOVE: Final = {("chat", "timestep"), ("execute_tool", "timestep"), ("timestep", "invoke_workflow")}
"""What a span of the demo is and what its parent is, but for those of its voice."""


def read_json(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=HANG_S) as response:
        return json.load(response)


_INTERNAL, _CLIENT, _ERROR = 1, 3, 2
_WARNINGS: Final = "@jaeger@warnings"
"""Attribute that Jaeger adds to a span that its page marks."""


@contextmanager
def jaeger(place: Path) -> Iterator[tuple[dict[str, str], str]]:
    """A running Jaeger 2: where it takes spans by each protocol, and the address of its query API."""
    binary = shutil.which("jaeger")
    if binary is None:
        pytest.skip("no Jaeger: there is no jaeger on the PATH")
    ports = {name: free_port() for name in ("grpc", "http", "query", "query_grpc")}
    config, api = place / "jaeger.yaml", f"http://127.0.0.1:{ports['query']}/api/v3"
    config.write_text(HERE.joinpath("jaeger.yaml").read_text().format(**ports))
    addresses = {"grpc": f"http://127.0.0.1:{ports['grpc']}", "http/protobuf": f"http://127.0.0.1:{ports['http']}"}
    with running([binary, "--config", str(config)], place / "jaeger.log", lambda: answers(f"{api}/services")):
        yield addresses, api


def spans_in_jaeger(api: str, service: str) -> dict[str, dict[str, Any]]:
    """The spans of a service by their ids, with those attributes that are text, numbers or flags as a dictionary."""
    wanted = {
        "query.service_name": service, "query.num_traces": "1000", "query.start_time_min": "2020-01-01T00:00:00Z",
        "query.start_time_max": "2100-01-01T00:00:00Z",
    }  # fmt: skip
    found = read_json(f"{api}/traces?{urllib.parse.urlencode(wanted)}")["result"]["resourceSpans"]
    spans = [span for one in found for scope in one["scopeSpans"] for span in scope["spans"]]
    for span in spans:
        span["attributes"] = {one["key"]: next(iter(one["value"].values())) for one in span.get("attributes", ())}
    return {span["spanId"]: span for span in spans}


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_jaeger_shows_parents_kinds_events_and_status_of_the_demo(stage: Stage, tmp_path: Path, protocol: str) -> None:
    with jaeger(tmp_path) as (addresses, api):
        done = stage.run(
            "callspan", "--store", stage.store, "demo", "--json",
            OTEL_EXPORTER_OTLP_ENDPOINT=addresses[protocol], OTEL_EXPORTER_OTLP_PROTOCOL=protocol,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert "callspan-demo" in read_json(f"{api}/services")["services"]
        spans = spans_in_jaeger(api, "callspan-demo")
    assert (len({span["traceId"] for span in spans.values()}), len(spans)) == (17, DEMO_SPANS)
    spans = {ident: span for ident, span in spans.items() if span["name"] not in SPOKEN}
    assert Counter(span["name"].split()[0] for span in spans.values()) == {
        "chat": 39, "timestep": 36, "execute_tool": 8, "invoke_workflow": 17
    }  # fmt: skip
    names: dict[str | None, str] = {ident: span["name"].split()[0] for ident, span in spans.items()}
    above = {(names[ident], names.get(span.get("parentSpanId"))) for ident, span in spans.items()}
    assert above == {*ABOVE, ("invoke_workflow", None)}
    for span in spans.values():
        assert span["kind"] == (_CLIENT if span["name"].startswith("chat") else _INTERNAL)
        assert _WARNINGS not in span["attributes"]
    (refused,) = [span for span in spans.values() if span.get("status", {}).get("code") == _ERROR]
    assert refused["attributes"]["http.response.status_code"] == "400"
    (retried,) = [span for span in spans.values() if "http.request.resend_count" in span["attributes"]]
    assert "llm.attempt" in {event["name"] for event in retried["events"]}


@contextmanager
def phoenix(place: Path) -> Iterator[str]:
    port, binary = free_port(), Path(python_of("backend")).with_name("phoenix")
    url = f"http://127.0.0.1:{port}"
    environment = {
        **os.environ,
        "PHOENIX_WORKING_DIR": str(place),
        "PHOENIX_HOST": "127.0.0.1",
        "PHOENIX_PORT": str(port),
        "PHOENIX_GRPC_PORT": str(free_port()),
        "PHOENIX_TELEMETRY_ENABLED": "false",
    }
    with running([str(binary), "serve"], place / "phoenix.log", lambda: answers(f"{url}/healthz"), environment):
        yield url


def in_phoenix(url: str, path: str, wanted: int = 0) -> list[dict[str, Any]]:
    """All spans or sessions, as soon as there are so many."""

    def found() -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = read_json(f"{url}/v1/projects/default/{path}")["data"]
        return rows if len(rows) >= wanted else []

    return until(found)


@pytest.mark.parametrize("commands", [[["demo"]], [["demo"], ["send"]]], ids=["exporter", "send"])
def test_phoenix_shows_everything_that_the_demo_sends(stage: Stage, tmp_path: Path, commands: list[list[str]]) -> None:
    with phoenix(tmp_path) as url:
        if ["send"] not in commands:
            stage.environment["OTEL_EXPORTER_OTLP_ENDPOINT"] = url
        for command in commands:
            to = ["--otlp", url] if command == ["send"] else []
            done = stage.run("callspan", "--store", stage.store, *command, *to)
            assert done.returncode == 0, done.stderr
        spans = [span for span in in_phoenix(url, "spans?limit=500", DEMO_SPANS) if span["name"] not in SPOKEN]
        sessions = {session["session_id"] for session in in_phoenix(url, "sessions")}
    assert Counter(span["span_kind"] for span in spans) == {"LLM": 39, "TOOL": 8, "CHAIN": 53}
    names = {span["context"]["span_id"]: span["name"].split()[0] for span in spans}
    assert {(span["name"].split()[0], names[span["parent_id"]]) for span in spans if span["parent_id"]} == ABOVE
    assert {span["name"] for span in spans if not span["parent_id"]} == {"invoke_workflow gridworld"}
    named = {span["attributes"].get("session.id") for span in spans}
    assert None not in named
    assert sessions == named
    check_calls([span for span in spans if span["span_kind"] == "LLM"])


def check_calls(calls: list[dict[str, Any]]) -> None:
    """Models, tokens and messages; the refused call is an error, and the stopped stream is none."""
    models = {span["attributes"]["llm.model_name"] for span in calls}
    assert models == {"gpt-5-mini", "gpt-4.1-mini", "claude-haiku-4-5", "my-policy-4b"}
    (refused,) = [span for span in calls if span["status_code"] == "ERROR"]
    assert "max_tokens" in refused["status_message"]
    assert "exception" in {event["name"] for event in refused["events"]}
    finished = [span["attributes"] for span in calls if span["status_code"] != "ERROR"]
    for attributes in finished:
        assert attributes["llm.token_count.prompt"] > 0
        assert attributes["llm.token_count.completion"] > 0
        assert attributes["llm.input_messages.0.message.role"] in ("system", "user", "tool")
    assert any(name.endswith("tool_call.function.name") for attributes in finished for name in attributes)
    assert sum(attributes.get("llm.token_count.prompt_details.cache_read", 0) for attributes in finished) > 0
    stopped = [span for span in calls if span["attributes"].get("callspan.outcome") == "cancelled"]
    assert [span["status_code"] for span in stopped] == ["UNSET"]


COLLECTOR: Final = ROOT / ".cache/otelcol/otelcol"
SIGNALS = ("spans", "logs", "metrics")
PROTOBUF = "application/x-protobuf"
EVENT = "gen_ai.client.inference.operation.details"


@pytest.fixture
def collector(tmp_path: Path) -> Iterator[tuple[dict[str, int], OtlpReceiver]]:
    """A running Collector: its ports, and what is behind it."""
    if not COLLECTOR.exists():
        pytest.fail("no OpenTelemetry Collector: build it with `make .cache/otelcol/otelcol`")
    ports, config = {name: free_port() for name in ("grpc", "http", "prometheus")}, tmp_path / "collector.yaml"
    with OtlpReceiver() as behind:
        template = HERE.joinpath("collector.yaml").read_text()
        config.write_text(template.format(**ports, onward=behind.serve_grpc()))
        command = [str(COLLECTOR), "--config", str(config)]
        with running(command, tmp_path / "collector.log", lambda: answers(f"http://127.0.0.1:{ports['http']}")):
            yield ports, behind


def whole(requests: list[Any]) -> list[Any]:
    """All that requests hold, each with its resource, in an order of its own."""
    found = [(resource, one) for signal in SIGNALS for resource, _, one in items(requests, signal)]
    return sorted(([MessageToDict(part) for part in each] for each in found), key=str)


def play_demo(stage: Stage, collector: dict[str, int], protocol: str = "http/protobuf") -> None:
    """Run the demo before the tests' receiver, and have the Collector take each request that came there."""
    address = stage.receiver.url if protocol != "grpc" else f"http://{stage.receiver.serve_grpc()}"
    done = stage.run(
        "callspan", "--store", stage.store, "demo", "--json", OTEL_EXPORTER_OTLP_ENDPOINT=address,
        OTEL_EXPORTER_OTLP_PROTOCOL=protocol, OTEL_METRICS_EXPORTER="otlp", OTEL_LOGS_EXPORTER="otlp",
        CALLSPAN_LOG_EVENTS="on",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for sent in stage.receiver.requests:
        url, headers = f"http://127.0.0.1:{collector['http']}{PATHS[type(sent)]}", {"content-type": PROTOBUF}
        urllib.request.urlopen(urllib.request.Request(url, sent.SerializeToString(), headers), timeout=HANG_S).close()


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
def test_collector_receives_the_demo(
    stage: Stage, collector: tuple[dict[str, int], OtlpReceiver], protocol: str
) -> None:
    ports, behind = collector
    play_demo(stage, ports, protocol)
    assert whole(behind.requests) == whole(stage.receiver.requests)
    assert len(behind.spans) == DEMO_SPANS
    assert {span.resource["service.name"] for span in behind.spans} == {"callspan-demo"}
    assert [name for name, _, _ in behind.logs].count(EVENT) == 39 + VOICE_CALLS
    assert len({metric.name for metric in behind.metrics}) >= 16


DOCUMENTED = re.compile(r"\b((?:callspan|gen_ai)_(?:client|records|agent)_\w+?)(?=[{\[)\s])")
Sample = tuple[str, dict[str, str], float]
"""Name, labels, value."""


def sample(line: str) -> Sample:
    found: Any = re.fullmatch(r"(\w+)(?:\{(.*)\})? (\S+)", line)
    assert found is not None, line
    return found[1], dict(re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', found[2] or "")), float(found[3])


def sum_of(samples: list[Sample], wanted: str) -> float:
    return sum(value for name, _, value in samples if name == wanted)


def test_prometheus_has_the_alerts_metrics(stage: Stage, collector: tuple[dict[str, int], OtlpReceiver]) -> None:
    ports, _ = collector
    play_demo(stage, ports)
    with urllib.request.urlopen(f"http://127.0.0.1:{ports['prometheus']}/metrics", timeout=HANG_S) as response:
        lines = response.read().decode().splitlines()
    samples = [sample(line) for line in lines if line and not line.startswith("#")]
    asked = "\n".join(re.findall(r"```promql\n(.*?)```", (ROOT / "docs/alerts.md").read_text(), re.DOTALL))
    names = {name for name, _, _ in samples}
    queried = set(DOCUMENTED.findall(asked)) - {"gen_ai_client_token_type"}
    assert len(queried) > 10
    assert queried <= names, queried - names
    labels = {label for _, found, _ in samples for label in found}
    split_by = set(re.findall(r"\b((?:callspan|gen_ai)_\w+)", asked)) - queried
    assert split_by <= labels, split_by - labels
    assert sum_of(samples, "callspan_client_retries_total") == 1
    assert sum_of(samples, "gen_ai_client_operation_duration_seconds_count") == 39 + VOICE_CALLS
    measured = [one for one in stage.receiver.requests if isinstance(one, ExportMetricsServiceRequest)]
    last = {metric["name"]: metric for _, metric in whole(measured[-1:])}
    durations = [point["sum"] for point in last["gen_ai.client.operation.duration"]["histogram"]["dataPoints"]]
    assert math.isclose(sum_of(samples, "gen_ai_client_operation_duration_seconds_sum"), sum(durations))
    assert {found["job"] for name, found, _ in samples if name.startswith("gen_ai_")} == {"callspan-demo"}


PROMETHEUS: Final = ROOT / ".cache/prometheus/usr/bin/prometheus"
SCRAPING: Final = """
global: {{scrape_interval: 500ms}}
rule_files: [{rules}]
scrape_configs: [{{job_name: collector, honor_labels: true, static_configs: [{{targets: ["127.0.0.1:{port}"]}}]}}]
"""


@contextmanager
def prometheus(place: Path, scraped: int) -> Iterator[str]:
    """A running Prometheus that reads a port twice a second and has the alert rules: the address of its API."""
    if not PROMETHEUS.exists():
        pytest.skip(
            "no Prometheus: `make .cache/prometheus/usr/bin/promtool` unpacks Debian's package, where apt-get has it"
        )
    config, port = place / "prometheus.yaml", free_port()
    config.write_text(SCRAPING.format(rules=ROOT / "examples/prometheus/callspan.rules.yaml", port=scraped))
    command = [
        str(PROMETHEUS), f"--config.file={config}", f"--storage.tsdb.path={place / 'tsdb'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]  # fmt: skip
    with running(command, place / "prometheus.log", lambda: answers(f"http://127.0.0.1:{port}/-/ready")):
        yield f"http://127.0.0.1:{port}/api/v1"


def asked(api: str, expression: str) -> list[float]:
    """The values that an expression has now, without those that are no number."""
    answer = read_json(f"{api}/query?{urllib.parse.urlencode({'query': expression})}")
    values = [float(sample["value"][1]) for sample in answer["data"]["result"]]
    return [value for value in values if not math.isnan(value)]


def panels() -> Iterator[tuple[str, str]]:
    """The expressions of the dashboards by their places, with Grafana's variables filled in."""
    for path in sorted((ROOT / "examples/grafana").glob("*.json")):
        for panel in json.loads(path.read_text())["panels"]:
            for target in panel["targets"]:
                text = target["expr"].replace("$__rate_interval", "1m").replace("$job", ".*")
                yield f"{path.stem}: {panel['title']}: {target['refId']}", text


def test_panels_have_data(stage: Stage, collector: tuple[dict[str, int], OtlpReceiver], tmp_path: Path) -> None:
    """Of the demo, and of a service of which two stores are down; Prometheus also takes the alert rules."""
    ports, _ = collector
    exporting = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{ports['http']}", "OTEL_METRICS_EXPORTER": "otlp",
        "OTEL_METRIC_EXPORT_INTERVAL": "500",
    }  # fmt: skip
    expressions = dict(panels())
    assert len(expressions) > 20
    without, log = set(expressions), tmp_path / "fleet.log"
    with prometheus(tmp_path, ports["prometheus"]) as api:

        def all_have_data() -> bool:
            without.difference_update([name for name in without if asked(api, expressions[name])])
            return not without

        with log.open("w") as said, subprocess.Popen(
            [sys.executable, APPS / "fleet.py"],
            stdin=subprocess.PIPE, stdout=said, stderr=said, cwd=tmp_path, env=stage.environment | exporting,
        ) as fleet:  # fmt: skip
            assert stage.run("callspan", "--store", stage.store, "demo", **exporting).returncode == 0
            until(all_have_data, lambda: f"without data: {sorted(without)}")
        assert fleet.returncode == 0, log.read_text()
        assert asked(api, 'count(gen_ai_client_operation_duration_seconds_count{job="callspan-demo"})')
        health = {rule["health"] for group in read_json(f"{api}/rules")["data"]["groups"] for rule in group["rules"]}
    assert health <= {"ok", "unknown"}, "unknown: not evaluated yet"


COLLECTOR_PAGE: Final = ROOT / "docs" / "collector.md"


def test_collector_of_the_page_hands_spans_on_and_shows_metrics(stage: Stage, tmp_path: Path) -> None:
    if not COLLECTOR.exists():
        pytest.fail("no OpenTelemetry Collector: build it with `make .cache/otelcol/otelcol`")
    settings, scraping, _ = re.findall(r"^```yaml\n(.*?)^```", COLLECTOR_PAGE.read_text(), re.DOTALL | re.MULTILINE)
    assert "9464" in scraping
    ports = {name: free_port() for name in ("4317", "4318", "9464")}
    for name, port in ports.items():
        settings = settings.replace(f"0.0.0.0:{name}", f"127.0.0.1:{port}")
    with OtlpReceiver() as behind:
        config = tmp_path / "collector.yaml"
        config.write_text(
            settings.replace("tempo:4317", behind.serve_grpc()) + "  telemetry: {metrics: {level: none}}\n"
        )
        url = f"http://127.0.0.1:{ports['4318']}"
        with running([str(COLLECTOR), "--config", str(config)], tmp_path / "collector.log", lambda: answers(url)):
            done = stage.run(
                "callspan", "--store", stage.store, "demo", "--json", OTEL_EXPORTER_OTLP_ENDPOINT=url,
                OTEL_METRICS_EXPORTER="otlp",
            )  # fmt: skip
            assert done.returncode == 0, done.stderr
            behind.wait_for(DEMO_SPANS)
            with urllib.request.urlopen(f"http://127.0.0.1:{ports['9464']}/metrics", timeout=HANG_S) as response:
                shown = response.read().decode()
    assert "gen_ai_client_operation_duration_seconds_count" in shown
    assert 'job="callspan-demo"' in shown
