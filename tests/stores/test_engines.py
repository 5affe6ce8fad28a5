"""Missing databases: a skip with its reason, and a failure if they are required."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
PROBE = """
import pytest
from tests.stores.conftest import missing, needs_module

def test_probe():
    needs_module("no_such_engine", "pip install no_such_engine")
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("required", "code", "expected"), [("", 0, "1 skipped"), ("1", 1, "CALLSPAN_REQUIRE_ENGINES=1")]
)
def test_a_missing_database_server_skips_or_fails(tmp_path: Path, required: str, code: int, expected: str) -> None:
    probe = tmp_path / "test_probe.py"
    probe.write_text(PROBE)
    environment = os.environ | {"CALLSPAN_REQUIRE_ENGINES": required, "PYTHONPATH": str(HERE.parents[1])}
    command = [sys.executable, "-m", "pytest", "-rs", "-p", "no:randomly", "--rootdir", str(tmp_path), str(probe)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path, check=False)
    assert done.returncode == code, done.stdout
    assert expected in done.stdout
    assert "needs no_such_engine: pip install no_such_engine" in done.stdout
