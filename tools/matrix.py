"""Run the capture tests over old and new SDKs and Pythons, each in a virtual environment of its own.

    python tools/matrix.py                  every pair on every Python found
    python tools/matrix.py --page           the same; writes the table of docs/support.md
    python tools/matrix.py --pair floor     one pair, on the Python that runs this
    python tools/matrix.py --prepare        only make the environments
    python tools/matrix.py --fuzz 300       so many cases of the differential fuzzer on every pair, on this Python

Environments lie under .venv-matrix/ and are reused; what is installed in them is checked by a stamp.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HOME = ROOT / ".venv-matrix"
DOCUMENT = ROOT / "docs" / "support.md"
BLOCK = re.compile(r"(?<=<!-- matrix -->\n).*?(?=<!-- /matrix -->)", re.DOTALL)
PYTHONS = ("3.10", "3.13")
TESTS = ("tests/intercept", "tests/attempts")
CHOSEN = "not nightly and not postgres and not clickhouse"
TOOLS = (
    "pytest>=8.3",
    "pytest-timeout>=2.3",
    "pytest-xdist>=3.6",
    "aiohttp",
    "boto3",
    "brotli",
    "google-auth[requests]",
    "hypothesis>=6.100",
    "opentelemetry-exporter-otlp-proto-common",  # the fuzzer compares spans as they are sent
    "trio",
)
BOOKKEEPING = ("callspan", "pip", "setuptools", "wheel")


@dataclass(frozen=True)
class Pair:
    """One version of each SDK, as pip requirements, with what only these need."""

    openai: str
    anthropic: str
    groq: str
    besides: tuple[str, ...] = ()


OLDEST_TELEMETRY = (
    "opentelemetry-api==1.35.0",
    "opentelemetry-sdk==1.35.0",
    "opentelemetry-instrumentation==0.56b0",
)
"""The oldest OpenTelemetry that pyproject.toml allows."""
NEWEST_TELEMETRY = ("opentelemetry-api>=1.44", "opentelemetry-sdk>=1.44", "opentelemetry-instrumentation>=0.65b0")
PAIRS = {
    # Both hand their HTTP client an argument that httpx 0.28 has taken away.
    "floor": Pair("openai==1.40.0", "anthropic==0.34.0", "groq==1.0.0", ("httpx<0.28", *OLDEST_TELEMETRY)),
    "older": Pair("openai[aiohttp]==1.109.1", "anthropic[aiohttp]==0.125.0", "groq==1.0.0"),
    "recent": Pair("openai[aiohttp,realtime]==2.54.0", "anthropic[aiohttp]==1.17.0", "groq==1.0.0"),
    "lanes": Pair("openai[aiohttp,realtime]==3.30.0", "anthropic[aiohttp]>=2", "groq>=1.7"),
    # Openai takes clients of the older HTTP library too, where that is there.
    "newest": Pair(
        "openai[aiohttp,realtime]>=3", "anthropic[aiohttp]>=2", "groq>=1.7", ("httpx>=0.28", *NEWEST_TELEMETRY)
    ),
}


@dataclass
class Result:
    """What one environment gave, with the last line of pytest's output."""

    python: str
    pair: str
    said: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    passed: int = 0
    failed: list[str] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    trouble: str | None = None

    @property
    def good(self) -> bool:
        """Everything that ran has passed, and something ran."""
        return self.trouble is None and not self.failed and self.passed > 0


def interpreter(version: str) -> str | None:
    """The path of a Python that runs and is of this version; None if none is found."""
    for candidate in (f"python{version}", *_installed(version), sys.executable):
        output = _output([candidate, "-c", "import sys; print('%d.%d' % sys.version_info[:2], sys.executable)"])
        found, _, path = output.partition(" ")
        if found == version:
            return path.strip()
    return None


def _installed(version: str) -> list[str]:
    """What version managers have installed and may not have put on the PATH, the newest first."""
    roots = [Path(os.environ[name]) for name in ("PYENV_ROOT", "UV_PYTHON_INSTALL_DIR") if name in os.environ]
    roots += [Path.home() / folder for folder in (".pyenv", ".local/share/uv/python", ".asdf/installs/python")]
    patterns = (f"versions/{version}.*/bin/python", f"cpython-{version}.*/bin/python", f"{version}.*/bin/python")
    found = {path for root in roots for pattern in patterns for path in root.glob(pattern)}
    return [str(path) for path in sorted(found, key=_patch, reverse=True)]


def _patch(python: Path) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", python.parent.parent.name)[:3])


def prepare(python: str, path: str, name: str) -> Path:
    """The environment for a pair, made if need be. Raises CalledProcessError where that fails."""
    pair = PAIRS[name]
    venv = HOME / f"{name}-{python}"
    wanted = [pair.openai, pair.anthropic, pair.groq, *pair.besides, *TOOLS]
    stamp, key = venv / ".made", hashlib.sha256("\n".join(wanted).encode()).hexdigest()
    if stamp.exists() and stamp.read_text(encoding="utf-8") == key:
        return venv
    if not (venv / "bin" / "python").exists():
        subprocess.run([path, "-m", "venv", str(venv)], check=True)
    install = [str(venv / "bin" / "python"), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    subprocess.run([*install, "-e", str(ROOT), *wanted], check=True)
    stamp.write_text(key, encoding="utf-8")
    return venv


def run(python: str, path: str, name: str, extra: list[str]) -> Result:
    """The capture tests in one environment."""
    result = Result(python, name)
    try:
        venv = prepare(python, path, name)
    except (subprocess.CalledProcessError, OSError) as error:
        result.trouble = f"the environment could not be made: {error}"
        return result
    runner = venv / "bin" / "python"
    result.versions = _versions(runner)
    report = HOME / f"{name}-{python}.xml"
    report.unlink(missing_ok=True)
    began = time.monotonic()
    done = subprocess.run(
        [str(runner), "-m", "pytest", *TESTS, "-n", "2", "-rs", "-m", CHOSEN, f"--junitxml={report}", *extra],
        cwd=ROOT, check=False, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    result.seconds = time.monotonic() - began
    (HOME / f"{name}-{python}.log").write_text(done.stdout, encoding="utf-8")
    result.said = done.stdout.strip().rpartition("\n")[2]
    if report.exists():
        _read(report, result)
    if not result.passed and not result.failed:
        result.trouble = f"pytest ended with {done.returncode}: {done.stdout[-400:]}"
    return result


def fuzz(python: str, path: str, name: str, number: int) -> bool:
    """Run the differential fuzzer in one environment; whether it found nothing. Its output is shown."""
    runner = prepare(python, path, name) / "bin" / "python"
    print(f"Python {python}, {name} ...", flush=True)
    done = subprocess.run([str(runner), "-m", "tests.fuzz", "--number", str(number)], cwd=ROOT, check=False)
    return done.returncode == 0


def _read(report: Path, result: Result) -> None:
    for case in ET.parse(report).getroot().iter("testcase"):
        skip = case.find("skipped")
        if case.find("failure") is not None or case.find("error") is not None:
            result.failed.append(f"{case.get('classname')}::{case.get('name')}")
        elif skip is not None:
            result.skipped[skip.get("message") or "no reason"] += 1
        else:
            result.passed += 1


def _versions(python: Path) -> dict[str, str]:
    lines = _output([str(python), "-m", "pip", "list", "--format=freeze"]).splitlines()
    return dict(line.split("==", 1) for line in lines if "==" in line and not line.startswith(BOOKKEEPING))


def _output(command: list[str]) -> str:
    try:
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return ""


def document(results: list[Result], missing: list[str]) -> str:
    """The results as a table of the page."""
    lines = [
        "| Python | openai | anthropic | groq | HTTP library | OpenTelemetry | passed | failed | skipped | s |",
        "| --- | --- | --- | --- | --- | --- | ---: | ---: | ---: | ---: |",
    ]
    lines += [_row(result) for result in results]
    lines += ["", *(f"Not run: no Python {version} was found." for version in missing)]
    failures = [f"- Python {r.python}, {r.pair}: `{test}`" for r in results for test in r.failed]
    if failures:
        lines += ["", "What failed:", "", *failures]
    return "\n" + "\n".join(lines).rstrip() + "\n\n"


def _row(result: Result) -> str:
    if result.trouble:
        pair = PAIRS[result.pair]
        return f"| {result.python} | {pair.openai} | {pair.anthropic} | {pair.groq} | | | {result.trouble} | | | |"
    versions = result.versions
    http = ", ".join(f"{name} {versions[name]}" for name in ("httpx", "httpx2") if name in versions)
    return (
        f"| {result.python} | {versions.get('openai')} | {versions.get('anthropic')} "
        f"| {versions.get('groq')} | {http} "
        f"| {versions.get('opentelemetry-sdk')} "
        f"| {result.passed} | {len(result.failed)} | {sum(result.skipped.values())} | {result.seconds:.0f} |"
    )


def main() -> int:
    """Run what the command line asks for; 0 if all of it passed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pair", choices=sorted(PAIRS), help="one pair, on the Python that runs this")
    parser.add_argument("--python", action="append", help=f"a Python version; default {' and '.join(PYTHONS)}")
    parser.add_argument("--fuzz", type=int, metavar="N", help="N cases of the fuzzer in place of the capture tests")
    parser.add_argument("--prepare", action="store_true", help="only make the environments")
    parser.add_argument("--page", action="store_true", help="write the table of docs/support.md")
    known, extra = parser.parse_known_args()
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    pythons = known.python or ([here] if known.pair or known.fuzz else list(PYTHONS))
    found = {version: path for version in pythons if (path := interpreter(version)) is not None}
    missing = [version for version in pythons if version not in found]
    for version in missing:
        print(f"no Python {version} found: left out", file=sys.stderr)
    HOME.mkdir(exist_ok=True)
    results = []
    if known.fuzz:
        pairs = [known.pair] if known.pair else list(PAIRS)
        return 1 if [name for v, path in found.items() for name in pairs if not fuzz(v, path, name, known.fuzz)] else 0
    for version, path in found.items():
        for name in [known.pair] if known.pair else PAIRS:
            print(f"Python {version}, {name} ...", flush=True)
            if known.prepare:
                prepare(version, path, name)
                continue
            result = run(version, path, name, extra)
            results.append(result)
            print(f"  {result.trouble or _row(result)}", *result.failed, sep="\n  ")
            print(result.said, flush=True)
    if known.page:
        page = DOCUMENT.read_text(encoding="utf-8")
        DOCUMENT.write_text(BLOCK.sub(lambda _match: document(results, missing), page), encoding="utf-8")
        print(f"written: {os.path.relpath(DOCUMENT)}")
    return 0 if all(result.good for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
