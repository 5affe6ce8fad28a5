"""A real Jaeger, where `CALLSPAN_JAEGER` names its binary: the demo's trace as its query API gives it."""

from __future__ import annotations

import json
import os
import subprocess
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from tests.otel.launching import Stage, free_port

pytestmark = [pytest.mark.backend, pytest.mark.timeout(120)]

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
    """Jaeger 2 as a process of its own, with its storage in memory."""

    def __init__(self, binary: str, place: Path) -> None:
        grpc, http, query = free_port(), free_port(), free_port()
        self.addresses = {"grpc": f"http://127.0.0.1:{grpc}", "http/protobuf": f"http://127.0.0.1:{http}"}
        self._api = f"http://127.0.0.1:{query}/api"
        config = place / "jaeger.yaml"
        config.write_text(_CONFIG.format(query=query, query_grpc=free_port(), grpc=grpc, http=http))
        self._log = place / "jaeger.log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen([binary, "--config", str(config)], stdout=log, stderr=subprocess.STDOUT)

    def ask(self, question: str) -> Any:
        """The data of an answer of its query API."""
        with urllib.request.urlopen(f"{self._api}/{question}", timeout=10) as response:
            return json.load(response)["data"]

    def wait(self) -> None:
        """Return when it answers."""
        deadline = time.monotonic() + 60
        while True:
            try:
                self.ask("services")
            except OSError:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise AssertionError(f"Jaeger did not come up:\n{self._log.read_text()}") from None
                time.sleep(0.1)
            else:
                return

    def close(self) -> None:
        """End it."""
        self._process.terminate()
        self._process.wait(timeout=20)


@pytest.fixture
def jaeger(tmp_path: Path) -> Iterator[Jaeger]:
    binary = os.environ.get("CALLSPAN_JAEGER")
    if not binary:
        pytest.skip("no Jaeger: CALLSPAN_JAEGER names none")
    running = Jaeger(binary, tmp_path)
    try:
        running.wait()
        yield running
    finally:
        running.close()


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_the_demos_trace_is_there_with_parents_kinds_events_and_status(
    stage: Stage, jaeger: Jaeger, protocol: str
) -> None:
    for name in ("OTEL_METRICS_EXPORTER", "OTEL_LOGS_EXPORTER"):
        del stage.environment[name]
    done = stage.run(
        "callspan", "--store", stage.store, "demo", "--json",
        OTEL_EXPORTER_OTLP_ENDPOINT=jaeger.addresses[protocol], OTEL_EXPORTER_OTLP_PROTOCOL=protocol,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (complaint,) = done.stderr.splitlines()
    assert "takes no metrics" in complaint
    assert "OTEL_METRICS_EXPORTER=none" in complaint
    assert "callspan-demo" in jaeger.ask("services")
    traces = jaeger.ask("traces?service=callspan-demo&limit=100")
    spans = {span["spanID"]: span for trace in traces for span in trace["spans"]}
    assert (len(traces), len(spans)) == (5, 38)
    assert Counter(span["operationName"].split()[0] for span in spans.values()) == {
        "chat": 14, "timestep": 11, "execute_tool": 8, "invoke_workflow": 5
    }  # fmt: skip
    above = {"chat": "timestep", "execute_tool": "timestep", "timestep": "invoke_workflow"}
    for span in spans.values():
        kind = span["operationName"].split()[0]
        parents = [spans[one["spanID"]]["operationName"].split()[0] for one in span["references"]]
        assert parents == [above[kind]] * (kind in above)
        assert tags(span)["span.kind"] == ("client" if kind == "chat" else "internal")
    (refused,) = [span for span in spans.values() if tags(span).get("error") and "error.type" in tags(span)]
    assert tags(refused)["http.response.status_code"] == 400
    (retried,) = [span for span in spans.values() if tags(span).get("http.request.resend_count")]
    assert "llm.attempt" in {field["value"] for log in retried["logs"] for field in log["fields"]}


def tags(span: dict[str, Any]) -> dict[str, Any]:
    return {tag["key"]: tag["value"] for tag in span["tags"]}
