"""Programs that tests run in a process of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.waiting import HANG_S

ROOT = Path(__file__).resolve().parents[2]


def ran(*arguments: str, cwd: Path, code: int | None = 0, **environment: str) -> subprocess.CompletedProcess[str]:
    """What an interpreter did with these arguments, without settings but these; any exit code will do if it is None."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, timeout=HANG_S, check=False, cwd=cwd,
        env=plain_environment(PYTHONPATH=path) | environment, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == code or code is None, done.stderr
    return done


def plain_environment(**more: str) -> dict[str, str]:
    """The environment without settings of callspan, OpenTelemetry or the SDKs."""
    ours = ("CALLSPAN_", "OTEL_", "OPENAI_", "ANTHROPIC_", "COLUMNS", "PYTHONPATH")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)} | more


def succeeds(*command: str) -> bool:
    """Whether a program is on this machine, and may do what it is asked to."""
    try:
        return subprocess.run(command, check=False, capture_output=True).returncode == 0
    except FileNotFoundError:
        return False


@contextmanager
def small_disk(place: Path, options: str) -> Iterator[Path]:
    """A disk in memory, mounted at a new directory; its test is skipped where none can be mounted."""
    place.mkdir()
    if not succeeds("mount", "-t", "tmpfs", "-o", options, "none", str(place)):
        import pytest  # the environments of frameworks and peers have none

        pytest.skip("no disk can be mounted here")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=False)
