"""Where examples run: by this interpreter, or, for `make documents`, in environments installed as the pages say."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from callspan.testing import ScriptedProvider
from tests.documents.pages import ROOT, Example
from tests.documents.running import Workplace
from tests.e2e.conftest import plain_environment
from tests.otel.receiver import OtlpReceiver

SDKS = ("openai", "anthropic")
BESIDE = ("callspan", "callspan[otlp]")
"""What services install that have the SDKs already."""
AS_INSTALLED = bool(os.environ.get("CALLSPAN_DOCUMENT_ENVIRONMENTS"))


@pytest.fixture(scope="session")
def demo_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the store that `callspan demo` writes, once for whatever processes the tests are spread over."""
    base = tmp_path_factory.getbasetemp()
    place = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "demo-of-the-documents"
    with place.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not place.exists():
            making = place.with_suffix(".making")
            making.mkdir()
            command = [sys.executable, "-m", "callspan.cli", "demo"]
            subprocess.run(command, cwd=making, env=plain_environment(), check=True, capture_output=True)
            making.rename(place)
    return place


@pytest.fixture
def workplace(tmp_path: Path) -> Iterator[Callable[[Example], Workplace]]:
    """Makes the directory an example runs in, empty."""
    with ScriptedProvider() as provider, OtlpReceiver() as receiver:
        yield lambda example: Workplace(tmp_path, _python(example.requirement), provider, receiver)


def _python(requirement: str) -> Path:
    if not AS_INSTALLED:
        return Path(sys.executable)
    packages = [requirement.replace("callspan", str(ROOT), 1), *(SDKS if requirement in BESIDE else ())]
    place = ROOT / ".venv-documents" / sha256(requirement.encode()).hexdigest()[:12]
    if not (place / ".complete").exists():
        shutil.rmtree(place, ignore_errors=True)  # one that was begun
        place.parent.mkdir(exist_ok=True)
        make = os.environ | {"PYTHON": sys.executable}
        subprocess.run([ROOT / "tools/make_venv.sh", place], env=make, check=True)
        subprocess.run([ROOT / "tools/install.sh", place, *packages], check=True)
        (place / ".complete").touch()
    return place / "bin" / "python"
