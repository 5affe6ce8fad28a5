"""A real Jaeger, the one on the PATH: traces as its query API (version 3) gives them."""

from __future__ import annotations

import json
import shutil
import urllib.parse
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from tests.support.demo import DEMO_SPANS, SPOKEN
from tests.support.launching import Stage, answers, free_port, running

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
