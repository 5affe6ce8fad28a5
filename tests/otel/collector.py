"""A real OpenTelemetry Collector between callspan and the tests' receiver, with Prometheus."""

from __future__ import annotations

import re
import urllib.request
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import pytest
from typing_extensions import Self

from tests.support.launching import ROOT, answers, free_port, running
from tests.support.receiver import OtlpReceiver

BINARY: Final = ROOT / ".cache/otelcol/otelcol"
_CONFIG: Final = """\
receivers:
  otlp:
    protocols:
      grpc: {{ endpoint: "127.0.0.1:{grpc}" }}
      http: {{ endpoint: "127.0.0.1:{http}" }}
exporters:
  otlp_grpc:
    endpoint: "{onward}"
    tls: {{ insecure: true }}
    compression: none
    timeout: 20s
    sending_queue: {{ enabled: false }}
    retry_on_failure: {{ enabled: false }}
  prometheus: {{ endpoint: "127.0.0.1:{prometheus}" }}
service:
  telemetry: {{ logs: {{ level: warn }}, metrics: {{ level: none }} }}
  pipelines:
    traces: {{ receivers: [otlp], exporters: [otlp_grpc] }}
    metrics: {{ receivers: [otlp], exporters: [otlp_grpc, prometheus] }}
    logs: {{ receivers: [otlp], exporters: [otlp_grpc] }}
"""


class Collector:
    """A Collector as a process of its own, while it is open.

    What it takes it hands on at once to the receiver, by gRPC, and answers when that has answered. It has its usual
    limit of 4 MiB a message by gRPC.
    """

    def __init__(self, place: Path, receiver: OtlpReceiver) -> None:
        if not BINARY.exists():
            pytest.fail("no OpenTelemetry Collector: build it with `make .cache/otelcol/otelcol`")
        grpc, http, self._prometheus = free_port(), free_port(), free_port()
        self.addresses = {"grpc": f"http://127.0.0.1:{grpc}", "http": f"http://127.0.0.1:{http}"}
        self._place, self._running = place, ExitStack()
        (place / "collector.yaml").write_text(
            _CONFIG.format(grpc=grpc, http=http, prometheus=self._prometheus, onward=receiver.serve_grpc())
        )
        command = [str(BINARY), "--config", str(self._place / "collector.yaml")]
        started = running(command, self._place / "collector.log", lambda: answers(self.addresses["http"]))
        self._running.enter_context(started)

    def scrape(self) -> list[tuple[str, dict[str, str], float]]:
        """What Prometheus reads from it: name, labels, value."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self._prometheus}/metrics", timeout=10) as response:
            text = response.read().decode()
        return [_sample(line) for line in text.splitlines() if line and not line.startswith("#")]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._running.close()


def _sample(line: str) -> tuple[str, dict[str, str], float]:
    found: Any = re.fullmatch(r"(\w+)(?:\{(.*)\})? (\S+)", line)
    assert found is not None, line
    return found[1], dict(re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', found[2] or "")), float(found[3])
