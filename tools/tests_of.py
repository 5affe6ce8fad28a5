"""Run the tests that a change of one file needs: by the room that the file is in, or of all rooms of the core.

    python tools/tests_of.py src/callspan/record/merging.py
    python tools/tests_of.py core

A file that is in no room, or stands at the top of the package, needs them all.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
QUICK: Final = "not nightly and not postgres and not clickhouse"
OF_ROOM: Final[dict[str, tuple[str, ...]]] = {
    "record": ("tables", "wire", "privacy", "spans", "stores", "spool"),
    "runtime": ("calls", "sessions", "spool"),
    "providers": ("tables", "wire", "calls", "cost", "receive"),
    "process": ("privacy", "wire", "calls", "sessions"),
    "cost": ("cost", "stores", "cli"),
    "semconv": ("spans", "otel", "receive", "calls", "sessions"),
    "spans": ("spans", "calls", "sessions", "otel"),
    "observe": ("calls", "wire", "fuzz"),
    "intercept": ("calls", "wire", "fuzz"),
    "agent": ("sessions", "calls", "otel"),
    "spool": ("spool", "calls", "cli"),
    "wiring": ("calls", "otel", "sessions"),
    "joining": ("stores", "receive", "otel"),
    "delivery": ("spool", "stores"),
    "stores": ("stores", "cli", "view", "datasets"),
    "receive": ("receive", "otel"),
    "otlp": ("otel", "stores"),
    "datasets": ("datasets", "cli"),
    "comparison": ("cli", "view", "stores"),
    "environments": ("sessions", "docs"),
    "testing": ("wire", "docs", "calls"),
    "cli": ("cli", "docs"),
    "view": ("view",),
}
"""The folders of tests by the room of `src/callspan` whose change they may show."""
CORE: Final = ("calls", "fuzz", "privacy", "sessions", "spans", "spool", "tables")
"""What shows a change of the core, see docs/architecture.md."""


def folders_of(file: str) -> tuple[str, ...]:
    """Return the folders of tests for a file; `core` stands for the core, other words for everything."""
    if file == "core":
        return CORE
    parts = Path(file).parts
    if parts[:1] == ("tests",) and len(parts) > 2:
        return (parts[1],)
    room = parts[parts.index("callspan") + 1] if "callspan" in parts[:-1] else ""
    return OF_ROOM.get(room, ("",))


if __name__ == "__main__":
    paths = [f"tests/{folder}" for folder in (*folders_of(sys.argv[1]), "docs/test_imports.py")]
    sys.exit(
        subprocess.call(
            [sys.executable, "-m", "pytest", "-n", "3", "--dist", "loadfile", "-m", QUICK, *paths], cwd=ROOT
        )
    )
