"""A real Jaeger, the one on the PATH: traces as its query API (version 3) gives them."""

from __future__ import annotations

import json
import shutil
import subprocess
import urllib.parse
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from google.protobuf.json_format import MessageToDict
from opentelemetry.proto.trace.v1.trace_pb2 import Span as SentSpan

from callspan import Settings
from callspan.records import decode
from tests.support.demo import DEMO_SPANS, SPOKEN
from tests.support.launching import APPS, Stage, answers, free_port, python_of, running
from tests.support.spans_of_records import of_records

pytestmark = [pytest.mark.timeout(120)]

_INTERNAL, _CLIENT, _ERROR = 1, 3, 2
_WARNINGS: Final = "@jaeger@warnings"
"""Attribute that Jaeger adds to a span that its page marks."""
_CONFIG: Final = """\
extensions:
  jaeger_storage: {{ backends: {{ memory: {{ memory: {{ max_traces: 1000 }} }} }} }}
  jaeger_query:
    storage: {{ traces: memory }}
    http: {{ endpoint: "127.0.0.1:{query}" }}
    grpc: {{ endpoint: "127.0.0.1:{query_grpc}" }}
receivers:
  otlp:
    protocols:
      grpc: {{ endpoint: "127.0.0.1:{grpc}" }}
      http: {{ endpoint: "127.0.0.1:{http}" }}
exporters:
  jaeger_storage_exporter: {{ trace_storage: memory }}
service:
  extensions: [jaeger_storage, jaeger_query]
  telemetry: {{ logs: {{ level: warn }}, metrics: {{ level: none }} }}
  pipelines:
    traces: {{ receivers: [otlp], exporters: [jaeger_storage_exporter] }}
"""


class Jaeger:
    """Addresses of a running Jaeger 2: where it takes spans, and where it answers."""

    def __init__(self, addresses: dict[str, str], api: str) -> None:
        self.addresses = addresses
        self._api = api

    def ask(self, question: str) -> Any:
        """The answer of its query API."""
        with urllib.request.urlopen(f"{self._api}/{question}", timeout=10) as response:
            return json.load(response)

    def spans(self, service: str) -> list[dict[str, Any]]:
        """The spans of a service, with those attributes that are text, numbers or flags as a dictionary."""
        wanted = {
            "query.service_name": service, "query.num_traces": "1000", "query.start_time_min": "2020-01-01T00:00:00Z",
            "query.start_time_max": "2100-01-01T00:00:00Z",
        }  # fmt: skip
        found = self.ask(f"traces?{urllib.parse.urlencode(wanted)}")["result"]["resourceSpans"]
        spans = [span for one in found for scope in one["scopeSpans"] for span in scope["spans"]]
        for span in spans:
            span["attributes"] = {one["key"]: next(iter(one["value"].values())) for one in span.get("attributes", ())}
        return spans


@pytest.fixture
def jaeger(tmp_path: Path) -> Iterator[Jaeger]:
    binary = shutil.which("jaeger")
    if binary is None:
        pytest.skip("no Jaeger: there is no jaeger on the PATH")
    ports = {name: free_port() for name in ("grpc", "http", "query", "query_grpc")}
    config = tmp_path / "jaeger.yaml"
    config.write_text(_CONFIG.format(**ports))
    addresses = {"grpc": f"http://127.0.0.1:{ports['grpc']}", "http/protobuf": f"http://127.0.0.1:{ports['http']}"}
    api = f"http://127.0.0.1:{ports['query']}/api/v3"
    command = [binary, "--config", str(config)]
    with running(command, tmp_path / "jaeger.log", lambda: answers(f"{api}/services")):
        yield Jaeger(addresses, api)


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_the_demos_trace_is_there_with_parents_kinds_events_and_status(
    stage: Stage, jaeger: Jaeger, protocol: str
) -> None:
    done = stage.run(
        "callspan", "--store", stage.store, "demo", "--json",
        OTEL_EXPORTER_OTLP_ENDPOINT=jaeger.addresses[protocol], OTEL_EXPORTER_OTLP_PROTOCOL=protocol,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert "callspan-demo" in jaeger.ask("services")["services"]
    spans = {span["spanId"]: span for span in jaeger.spans("callspan-demo")}
    assert (len({span["traceId"] for span in spans.values()}), len(spans)) == (17, DEMO_SPANS)
    spans = {ident: span for ident, span in spans.items() if span["name"] not in SPOKEN}
    assert Counter(span["name"].split()[0] for span in spans.values()) == {
        "chat": 39, "timestep": 36, "execute_tool": 8, "invoke_workflow": 17
    }  # fmt: skip
    names = {ident: span["name"].split()[0] for ident, span in spans.items()}
    assert {(names[ident], names.get(span.get("parentSpanId"))) for ident, span in spans.items()} == {
        ("chat", "timestep"), ("execute_tool", "timestep"), ("timestep", "invoke_workflow"), ("invoke_workflow", None),
    }  # fmt: skip
    for span in spans.values():
        assert span["kind"] == (_CLIENT if span["name"].startswith("chat") else _INTERNAL)
        assert _WARNINGS not in span["attributes"]
    (refused,) = [span for span in spans.values() if span.get("status", {}).get("code") == _ERROR]
    assert refused["attributes"]["http.response.status_code"] == "400"
    (retried,) = [span for span in spans.values() if "http.request.resend_count" in span["attributes"]]
    assert "llm.attempt" in {event["name"] for event in retried["events"]}


def test_late_rewards_and_spans_that_outlast_their_parent_have_no_warnings(stage: Stage, jaeger: Jaeger) -> None:
    program = f"""
import callspan
handle = callspan.instrument(otlp={jaeger.addresses["http/protobuf"]!r})
with callspan.session("game") as session, session.timestep() as step:
    tool = step.tool("move").start(current=False)
    step.handoff("other")
tool.end()
step.reward(1)
callspan.reward(2, session_id=session.id)
assert handle.force_flush()
"""
    done = stage.run("python", "-c", program, OTEL_SERVICE_NAME="late")
    assert done.returncode == 0, done.stderr
    spans = jaeger.spans("late")
    assert sorted(span["name"] for span in spans) == [
        "evaluation reward", "evaluation reward", "execute_tool move", "handoff other", "invoke_workflow game",
        "timestep",
    ]  # fmt: skip
    assert [span["name"] for span in spans if _WARNINGS in span["attributes"]] == []


@pytest.mark.timeout(300)
def test_spans_of_openai_agents_are_those_of_its_records(stage: Stage, jaeger: Jaeger) -> None:
    python = python_of("frameworks/openai-agents")
    store = stage.place / "runs.jsonl"
    done = subprocess.run(
        [python, APPS / "frameworks" / "openai_agents_runs.py", "send", str(store), jaeger.addresses["http/protobuf"]],
        env={**stage.environment, "OTEL_SERVICE_NAME": "agents", "OTEL_BSP_MAX_QUEUE_SIZE": "10000"},
        cwd=stage.place, capture_output=True, text=True, timeout=250, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    shown = {span["spanId"]: shape(span) for span in jaeger.spans("agents") if not span["name"].startswith("MCP ")}
    records = [one for one in map(decode, store.read_bytes().splitlines()) if getattr(one, "span_id", None)]
    made = {ident: shape(as_json(span)) for ident, span in of_records(records, Settings()).items()}
    assert len(made) > 500
    assert {ident: shown.pop(ident) for ident in made} == made
    # A session that is continued updates its row, which names the span of its first run.
    assert [span["name"] for span in shown.values()] == ["invoke_workflow chat"]


def as_json(encoded: bytes) -> dict[str, Any]:
    """A span in OTLP's JSON, with its ids in hex."""
    span = SentSpan.FromString(encoded)
    found = MessageToDict(span, use_integers_for_enums=True)
    return {**found, "traceId": span.trace_id.hex(), "parentSpanId": span.parent_span_id.hex()}


def shape(span: dict[str, Any]) -> dict[str, Any]:
    """The facts of a span, without the order of attributes."""
    attributes = span.get("attributes", [])
    if isinstance(attributes, list):
        attributes = {one["key"]: next(iter(one["value"].values())) for one in attributes}
    return {
        **{name: span.get(name) or None for name in ("traceId", "parentSpanId", "name", "kind")},
        "times": (span["startTimeUnixNano"], span["endTimeUnixNano"]),
        "status": span.get("status", {}),
        "attributes": attributes,
        "events": [(event["name"], event["timeUnixNano"]) for event in span.get("events", [])],
    }
