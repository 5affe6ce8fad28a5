"""Build the OpenTelemetry Collector that the nightly tests use, by the Collector's own builder.

    python tools/collector.py            build it, unless it is there

It lies under .cache/otelcol. It needs a Go toolchain.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HOME = ROOT / ".cache" / "otelcol"
BINARY = HOME / "build" / "otelcol"
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
_GO_PLACES = ("/usr/local/go/bin", "/usr/lib/go/bin", "/opt/homebrew/bin")


def binary() -> Path | None:
    """Return the Collector that was built from this manifest; None where there is none."""
    return BINARY if BINARY.exists() and _stamp().exists() and _stamp().read_text() == MANIFEST else None


def go() -> str | None:
    """Return the Go toolchain's command, None where there is none."""
    return shutil.which("go") or shutil.which("go", path=os.pathsep.join(_GO_PLACES))


def why_not() -> str:
    """Return why there is no Collector."""
    if go() is None:
        return "no OpenTelemetry Collector: there is no Go toolchain to build it with"
    return "no OpenTelemetry Collector: build it with `python tools/collector.py`"


def build(command: str) -> None:
    """Build it; takes one to two minutes."""
    HOME.mkdir(parents=True, exist_ok=True)
    (HOME / "manifest.yaml").write_text(MANIFEST)
    path = os.pathsep.join((str(Path(command).parent), os.environ.get("PATH", "")))
    environment = {**os.environ, "PATH": path, "GOBIN": str(HOME / "bin"), "CGO_ENABLED": "0"}
    print(f"building the OpenTelemetry Collector {VERSION} in {HOME.relative_to(ROOT)}", flush=True)
    for step in (
        [command, "install", f"go.opentelemetry.io/collector/cmd/builder@{VERSION}"],
        [str(HOME / "bin" / "builder"), "--config", "manifest.yaml"],
    ):
        subprocess.run(step, cwd=HOME, env=environment, check=True)
    _stamp().write_text(MANIFEST)


def _stamp() -> Path:
    return HOME / "build" / ".manifest"


def main() -> int:
    """Build the Collector unless there is one; 1 where it cannot be built."""
    if binary() is not None:
        return 0
    command = go()
    if command is None:
        print(why_not(), file=sys.stderr)
        return 1
    try:
        build(command)
    except subprocess.CalledProcessError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
