"""Make virtual environments for tests whose packages conflict with those of `.venv`.

    python tools/environments.py frameworks sdks/floor

makes every environment whose name begins with one of these. Each is made once, beside `.venv`. An existing one with all
packages is left alone, unless it should have their newest versions.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

TOOLS = Path(__file__).resolve().parent
ROOT = TOOLS.parent
UPGRADE = "--upgrade"
"""Marks an environment whose packages are upgraded each time."""
ALONE = "--no-deps"
"""Precedes packages that are installed without their dependencies."""
CAPTURE = (
    "pytest>=8.3", "pytest-timeout>=2.3", "pytest-xdist>=3.6", "aiohttp", "boto3", "brotli", "google-auth[requests]",
    "hypothesis>=6.100", "trio", "opentelemetry-exporter-otlp-proto-common",
)  # fmt: skip
"""Packages that the capture tests and the fuzzer require besides the SDKs."""
# Both SDKs pass an argument to their HTTP client that httpx 0.28 lacks.
FLOOR = [
    "-e", ".", *CAPTURE, "openai==1.40.0", "anthropic==0.34.0", "groq==1.0.0", "httpx<0.28",
    "opentelemetry-api==1.35.0", "opentelemetry-sdk==1.35.0", "opentelemetry-instrumentation==0.56b0",
]  # fmt: skip
"""The oldest versions allowed by pyproject.toml."""
ENVIRONMENTS: dict[str, list[str]] = {
    "sdks/floor": FLOOR,
    "sdks/oldest-python": FLOOR,
    "sdks/older": ["-e", ".", *CAPTURE, "openai[aiohttp]==1.109.1", "anthropic[aiohttp]==0.125.0", "groq==1.0.0"],
    "sdks/recent": [
        "-e", ".", *CAPTURE, "openai[aiohttp,realtime]==2.54.0", "anthropic[aiohttp]==1.17.0", "groq==1.0.0",
    ],
    "sdks/lanes": ["-e", ".", *CAPTURE, "openai[aiohttp,realtime]==3.30.0", "anthropic[aiohttp]>=2", "groq>=1.7"],
    # openai also accepts clients of the older HTTP library, if installed.
    "sdks/newest": [
        UPGRADE, "-e", ".[cli]", *CAPTURE, "openai[aiohttp,realtime]", "anthropic[aiohttp]", "groq", "httpx", "grpcio",
    ],
    "peers": [
        "-e", ".[openai,anthropic,otlp,cli]", "opentelemetry-util-genai", "logfire>=6.0.0b8",
        "opentelemetry-instrumentation-genai-openai", "opentelemetry-instrumentation-genai-anthropic",
        "opentelemetry-instrumentation-openai", "opentelemetry-instrumentation-anthropic",
        "openinference-instrumentation-openai", "openinference-instrumentation-anthropic",
    ],
    "backend": ["arize-phoenix>=20,<21"],
    "frameworks/openai-agents": ["-e", ".[otlp]", "openai-agents[voice]"],
    "frameworks/openai-agents-oldest": ["-e", ".", "openai-agents==0.1.0", "openai==1.87.0"],
    "frameworks/langchain": ["-e", ".", "langchain-openai", "langchain-anthropic"],
    "frameworks/litellm": ["-e", ".", "litellm", "mcp"],  # an undeclared dependency
    "frameworks/instructor": ["-e", ".", "instructor", "anthropic"],
    "frameworks/pydantic-ai": ["-e", ".", "pydantic-ai-slim[openai,anthropic]"],
    "frameworks/strands": ["-e", ".", "strands-agents[openai,anthropic]"],
    "frameworks/langgraph": ["-e", ".", "langgraph", "langchain-openai", "langchain-anthropic"],
    "frameworks/crewai": ["-e", ".", "crewai[anthropic]"],
    "frameworks/smolagents": ["-e", ".", "smolagents[openai]"],
    "frameworks/agno": ["-e", ".", "agno", "openai", "anthropic"],
    "frameworks/llama-index": ["-e", ".", "llama-index-llms-openai", "llama-index-llms-anthropic", "anthropic<1"],
    "frameworks/dspy": ["-e", ".", "dspy"],
    "frameworks/celery": ["-e", ".[openai,anthropic,otlp]", "celery"],
    "trainers/trl": ["transformers", "datasets", "jinja2", ALONE, "trl"],  # no torch
}  # fmt: skip
PYTHONS = {"3.10": ("sdks/oldest-python", "sdks/older", "sdks/recent"), "3.13": ("sdks/lanes", "sdks/newest")}
"""Environments with a specific version of Python."""


def interpreter(name: str) -> str:
    """Return the Python of an environment, from pyenv or the PATH; the running one if there is none."""
    for version, names in PYTHONS.items():
        if name in names:
            of_pyenv = map(str, Path.home().glob(f".pyenv/versions/{version}.*/bin/python"))
            found = filter(None, (*of_pyenv, shutil.which(f"python{version}")))
            return next((one for one in found if runs(one)), sys.executable)
    return sys.executable


def runs(python: str) -> bool:
    """Return whether an interpreter starts; a pyenv shim may not."""
    return subprocess.run([python, "-c", ""], capture_output=True, check=False).returncode == 0


def make(place: Path, packages: list[str], python: str = sys.executable) -> None:
    """Make one environment, or add the packages that it lacks. Raises CalledProcessError."""
    done = place / ".complete"
    wanted = "\n".join(packages)
    if done.exists() and done.read_text() == wanted and UPGRADE not in packages:
        return
    print(f"{place.name} by {python}: {' '.join(packages)}", flush=True)
    place.parent.mkdir(exist_ok=True)
    if not (place / "bin" / "python").exists():
        subprocess.run([TOOLS / "make_venv.sh", place], env={**os.environ, "PYTHON": python}, check=True)
    at = packages.index(ALONE) if ALONE in packages else len(packages)
    for some in filter(None, (packages[:at], packages[at:])):
        subprocess.run([TOOLS / "install.sh", place, *some], cwd=ROOT, check=True)
    done.write_text(wanted)


if __name__ == "__main__":
    for name, packages in ENVIRONMENTS.items():
        if name.startswith(tuple(sys.argv[1:])):
            make(ROOT / f".venv-{name}", packages, interpreter(name))
