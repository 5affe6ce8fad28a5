"""Build the OpenTelemetry Collector that the nightly tests use under .cache/otelcol, by the Collector's own builder.

python tools/collector.py            build it, unless it is there (needs a Go toolchain)
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HOME = ROOT / ".cache" / "otelcol"
BINARY = HOME / "build" / "otelcol"
BUILT = HOME / "build" / ".manifest"
"""The manifest from which it was built."""
VERSION = "v0.155.0"
MANIFEST = f"""\
dist:
  name: otelcol
  description: OpenTelemetry Collector for the tests of callspan
  output_path: ./build
receivers:
  - gomod: go.opentelemetry.io/collector/receiver/otlpreceiver {VERSION}
exporters:
  - gomod: go.opentelemetry.io/collector/exporter/otlpexporter {VERSION}
  - gomod: go.opentelemetry.io/collector/exporter/debugexporter {VERSION}
  - gomod: github.com/open-telemetry/opentelemetry-collector-contrib/exporter/prometheusexporter {VERSION}
"""


def is_built() -> bool:
    """Return whether there is a Collector that was built from this manifest."""
    return BINARY.exists() and BUILT.exists() and BUILT.read_text() == MANIFEST


def build() -> None:
    """Build it, in one to two minutes. Raises OSError without Go, CalledProcessError if a step fails."""
    HOME.mkdir(parents=True, exist_ok=True)
    (HOME / "manifest.yaml").write_text(MANIFEST)
    environment = {**os.environ, "GOBIN": str(HOME / "bin"), "CGO_ENABLED": "0"}
    print(f"building the OpenTelemetry Collector {VERSION} in {HOME.relative_to(ROOT)}", flush=True)
    for step in (
        ["go", "install", f"go.opentelemetry.io/collector/cmd/builder@{VERSION}"],
        [str(HOME / "bin" / "builder"), "--config", "manifest.yaml"],
    ):
        subprocess.run(step, cwd=HOME, env=environment, check=True)
    BUILT.write_text(MANIFEST)


if __name__ == "__main__":
    if not is_built():
        try:
            build()
        except (OSError, subprocess.CalledProcessError) as error:
            sys.exit(f"the Collector was not built: {error}")
