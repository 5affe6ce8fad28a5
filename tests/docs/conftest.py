"""Where examples run: in this interpreter or, at full scale, in environments installed as the pages say."""

from __future__ import annotations

import fcntl
import subprocess
import sys
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path

import pytest
from tools import environments

from tests.docs.running import Workplace
from tests.support.pages import ROOT, Example
from tests.support.processes import plain_environment
from tests.support.provider import FullProvider
from tests.support.receiver import OtlpReceiver
from tests.support.scale import FULL

SDKS = ("openai", "anthropic")
BESIDE = ("callspan", "callspan[otlp]")
"""What services install that have the SDKs already."""
FOR_TESTS = ("pytest", "websockets")
"""What readers have who write tests with the scripted provider."""
AS_INSTALLED = FULL
ENVIRONMENTS = ROOT / ".venv-documents"


@pytest.fixture(scope="session")
def demo_store(once_per_run: Callable[[str, Callable[[Path], object]], Path]) -> Path:
    """A directory with the store that `callspan demo` writes."""
    return once_per_run("demo-of-the-documents", _demo)


def _demo(place: Path) -> None:
    place.mkdir()
    command = [sys.executable, "-m", "callspan.cli", "demo"]
    subprocess.run(command, cwd=place, env=plain_environment(), check=True, capture_output=True)


@pytest.fixture
def workplace(tmp_path: Path) -> Iterator[Callable[[Example], Workplace]]:
    """Makes the directory an example runs in, empty."""
    with FullProvider() as provider, OtlpReceiver() as receiver:
        yield lambda example: Workplace(tmp_path, _python(example.requirement), provider, receiver)


def _python(requirement: str) -> Path:
    if not AS_INSTALLED:
        return Path(sys.executable)
    # Editable, because the environment is kept: a copy would be that of an older commit.
    packages = [
        "-e",
        requirement.replace("callspan", str(ROOT), 1),
        *(SDKS if requirement in BESIDE else ()),
        *FOR_TESTS,
    ]
    place = ENVIRONMENTS / sha256(requirement.encode()).hexdigest()[:12]
    ENVIRONMENTS.mkdir(exist_ok=True)
    with (ENVIRONMENTS / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        environments.make(place, packages)
    return place / "bin" / "python"
