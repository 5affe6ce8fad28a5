"""A real OpenTelemetry Collector between callspan and the tests' receiver, with Prometheus."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Collection
from pathlib import Path
from typing import Any, Final

import pytest
from tools.collector import BINARY, is_built
from typing_extensions import Self

from tests.otel.launching import free_port
from tests.otel.receiver import OtlpReceiver

ALL: Final = ("traces", "metrics", "logs")
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
{pipelines}
"""


class Collector:
    """A Collector as a process of its own, from its construction until `close`; it may be stopped and started again.

    What it takes it hands on at once to the receiver, by gRPC, and answers when that has answered. It has its usual
    limit of 4 MiB a message by gRPC.
    """

    def __init__(self, place: Path, receiver: OtlpReceiver, signals: Collection[str] = ALL) -> None:
        if not is_built():
            pytest.fail("no OpenTelemetry Collector: build it with `python tools/collector.py`")
        self._grpc, self._http, self._prometheus = free_port(), free_port(), free_port()
        self._log = place / "collector.log"
        self._config = place / "collector.yaml"
        exporters = {"metrics": "[otlp_grpc, prometheus]"}
        pipelines = "\n".join(
            f"    {name}: {{ receivers: [otlp], exporters: {exporters.get(name, '[otlp_grpc]')} }}" for name in signals
        )
        self._config.write_text(
            _CONFIG.format(
                grpc=self._grpc, http=self._http, prometheus=self._prometheus, onward=receiver.serve_grpc(),
                pipelines=pipelines,
            )
        )  # fmt: skip
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def grpc(self) -> str:
        """Its address for gRPC."""
        return f"http://127.0.0.1:{self._grpc}"

    @property
    def http(self) -> str:
        """Its address for HTTP."""
        return f"http://127.0.0.1:{self._http}"

    def address(self, protocol: str) -> str:
        """Its address for a protocol."""
        return self.grpc if protocol == "grpc" else self.http

    def start(self) -> None:
        """Start it, and return when it takes connections."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [str(BINARY), "--config", str(self._config)], stdout=log, stderr=subprocess.STDOUT
            )
        deadline = time.monotonic() + 30
        while not (_listens(self._grpc) and _listens(self._http)):
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"the Collector did not come up:\n{self._log.read_text()}")
            time.sleep(0.05)

    def stop(self) -> None:
        """End it as an orchestrator does."""
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            self._process.wait(timeout=20)
            self._process = None

    def scrape(self) -> list[tuple[str, dict[str, str], float]]:
        """What Prometheus reads from it: name, labels, value."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self._prometheus}/metrics", timeout=10) as response:
            text = response.read().decode()
        return [_sample(line) for line in text.splitlines() if line and not line.startswith("#")]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()


def _sample(line: str) -> tuple[str, dict[str, str], float]:
    found: Any = re.fullmatch(r"(\w+)(?:\{(.*)\})? (\S+)", line)
    assert found is not None, line
    return found[1], dict(re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', found[2] or "")), float(found[3])


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True
