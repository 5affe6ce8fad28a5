"""Makes the virtual environments of tests whose packages conflict with callspan's.

    python tools/environments.py peers backend frameworks newest trainers

Each is made once; an existing one that has all packages is left as it is, unless it is one of the newest versions.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

TOOLS = Path(__file__).resolve().parent
ROOT = TOOLS.parent
UPGRADE = "--upgrade"
"""Among the packages of an environment that is to have the newest versions, even if it exists."""
ALONE = "--no-deps"
"""Among the packages of an environment before those that are installed without what they ask for."""
ENVIRONMENTS: dict[str, dict[str, list[str]]] = {
    "peers": {
        ".venv-peers": [
            "-e", ".[openai,anthropic,otlp,cli]",
            "opentelemetry-util-genai",
            "opentelemetry-instrumentation-genai-openai",
            "opentelemetry-instrumentation-genai-anthropic",
            "opentelemetry-instrumentation-openai",
            "opentelemetry-instrumentation-anthropic",
            "openinference-instrumentation-openai",
            "openinference-instrumentation-anthropic",
            "logfire>=6.0.0b8",
        ],
    },
    "newest": {
        ".venv-newest": [
            UPGRADE, "-e", ".[cli]", "openai", "anthropic", "groq", "pytest", "pytest-timeout", "hypothesis", "httpx",
            "opentelemetry-proto", "grpcio",
        ],
    },
    "backend": {".venv-backend": ["arize-phoenix>=20,<21"]},
    "frameworks": {
        ".venv-frameworks/openai-agents": ["-e", ".[otlp]", "openai-agents[voice]"],
        ".venv-frameworks/openai-agents-oldest": ["-e", ".", "openai-agents==0.1.0", "openai==1.87.0"],
        ".venv-frameworks/langchain": ["-e", ".", "langchain-openai", "langchain-anthropic"],
        ".venv-frameworks/litellm": ["-e", ".", "litellm", "mcp"],  # which it imports and does not ask for
        ".venv-frameworks/instructor": ["-e", ".", "instructor", "anthropic"],
        ".venv-frameworks/pydantic-ai": ["-e", ".", "pydantic-ai-slim[openai,anthropic]"],
        ".venv-frameworks/strands": ["-e", ".", "strands-agents[openai,anthropic]"],
        ".venv-frameworks/langgraph": ["-e", ".", "langgraph", "langchain-openai", "langchain-anthropic"],
        ".venv-frameworks/crewai": ["-e", ".", "crewai[anthropic]"],
        ".venv-frameworks/smolagents": ["-e", ".", "smolagents[openai]"],
        ".venv-frameworks/agno": ["-e", ".", "agno", "openai", "anthropic"],
        ".venv-frameworks/llama-index": [
            "-e", ".", "llama-index-llms-openai", "llama-index-llms-anthropic", "anthropic<1",
        ],
        ".venv-frameworks/dspy": ["-e", ".", "dspy"],
        ".venv-frameworks/celery": ["-e", ".[openai,anthropic,otlp]", "celery"],
    },
    "trainers": {".venv-trainers/trl": ["transformers", "datasets", "jinja2", ALONE, "trl"]},  # no torch
}  # fmt: skip


def make(place: Path, packages: list[str], python: str = sys.executable) -> None:
    """Make one environment, or add the packages that it lacks. Raises CalledProcessError."""
    done = place / ".complete"
    wanted = "\n".join(packages)
    if done.exists() and done.read_text() == wanted and UPGRADE not in packages:
        return
    print(f"{place.name}: {' '.join(packages)}", flush=True)
    place.parent.mkdir(exist_ok=True)
    if not (place / "bin" / "python").exists():
        subprocess.run([TOOLS / "make_venv.sh", place], env={**os.environ, "PYTHON": python}, check=True)
    at = packages.index(ALONE) if ALONE in packages else len(packages)
    for some in filter(None, (packages[:at], packages[at:])):
        subprocess.run([TOOLS / "install.sh", place, *some], cwd=ROOT, check=True)
    done.write_text(wanted)


def main(names: list[str]) -> None:
    """Make the environments of every name given."""
    for name in names:
        for place, packages in ENVIRONMENTS[name].items():
            make(ROOT / place, packages)


if __name__ == "__main__":
    main(sys.argv[1:] or sorted(ENVIRONMENTS))
