"""Run the capture tests, or the fuzzer, over old and new SDKs, each set of versions in an environment of its own.

    python tools/matrix.py                    every set, on this Python
    python tools/matrix.py floor newest       these sets
    python tools/matrix.py --python 3.13      on another Python, if it is installed
    python tools/matrix.py --fuzz 300         so many cases of the differential fuzzer

Environments lie under .venv-matrix/ and are reused.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from environments import ROOT, make

TESTS = ("tests/calls", "-n", "2", "-m", "not nightly and not postgres and not clickhouse")
TOOLS = (
    "pytest>=8.3", "pytest-timeout>=2.3", "pytest-xdist>=3.6", "aiohttp", "boto3", "brotli", "google-auth[requests]",
    "hypothesis>=6.100", "trio",
    "opentelemetry-exporter-otlp-proto-common",  # the fuzzer compares spans as they are sent
)  # fmt: skip
TELEMETRY = ("opentelemetry-api", "opentelemetry-sdk", "opentelemetry-instrumentation")
OLDEST = [f"{name}=={version}" for name, version in zip(TELEMETRY, ("1.35.0", "1.35.0", "0.56b0"), strict=True)]
"""The oldest OpenTelemetry that pyproject.toml allows."""
NEWEST = [f"{name}>={version}" for name, version in zip(TELEMETRY, ("1.44", "1.44", "0.65b0"), strict=True)]
SETS = {
    # Both hand their HTTP client an argument that httpx 0.28 has taken away.
    "floor": ["openai==1.40.0", "anthropic==0.34.0", "groq==1.0.0", "httpx<0.28", *OLDEST],
    "older": ["openai[aiohttp]==1.109.1", "anthropic[aiohttp]==0.125.0", "groq==1.0.0"],
    "recent": ["openai[aiohttp,realtime]==2.54.0", "anthropic[aiohttp]==1.17.0", "groq==1.0.0"],
    "lanes": ["openai[aiohttp,realtime]==3.30.0", "anthropic[aiohttp]>=2", "groq>=1.7"],
    # Openai takes clients of the older HTTP library too, where that is there.
    "newest": ["openai[aiohttp,realtime]>=3", "anthropic[aiohttp]>=2", "groq>=1.7", "httpx>=0.28", *NEWEST],
}


def interpreter(version: str) -> str | None:
    """Return a Python of this version that runs, on the PATH or of a version manager; None if there is none."""
    for candidate in (sys.executable, shutil.which(f"python{version}"), *_installed(version)):
        asked = [candidate or "", "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
        try:
            if subprocess.run(asked, check=True, capture_output=True, text=True).stdout.strip() == version:
                return candidate
        except (OSError, subprocess.CalledProcessError):
            continue  # a shim of a version manager may not work
    return None


def _installed(version: str) -> Iterator[str]:
    for place in (".pyenv/versions", ".local/share/uv/python", ".asdf/installs/python"):
        yield from map(str, Path.home().glob(f"{place}/*{version}.*/bin/python"))


def main() -> int:
    """Run what the command line names; 1 if any set failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="*", help=f"of {', '.join(SETS)}; default: all")
    parser.add_argument("--python", default=f"{sys.version_info.major}.{sys.version_info.minor}", metavar="VERSION")
    parser.add_argument("--fuzz", metavar="N", help="N cases of the fuzzer in place of the capture tests")
    options = parser.parse_args()
    python = interpreter(options.python)
    if python is None:
        print(f"there is no Python {options.python}", file=sys.stderr)
        return 1
    command = ["tests.fuzz", "--number", options.fuzz] if options.fuzz else ["pytest", *TESTS]
    failed = []
    for name in options.sets or SETS:
        place = ROOT / ".venv-matrix" / f"{name}-{options.python}"
        make(place, ["-e", ".", *SETS[name], *TOOLS], python)
        print(f"Python {options.python}, {name}:", *SETS[name][:3], flush=True)
        if subprocess.run([place / "bin" / "python", "-m", *command], cwd=ROOT, check=False).returncode:
            failed.append(name)
    print("failed:", *failed or ["none"])
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
