"""The places where records wait are known: full, damaged or not understood, they are searched and listed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from tests.support.processes import plain_environment
from tests.support.rig import DownSink, record, spool_of

from callspan.spool import directory as places

_IN_A_FULL_DIRECTORY = """
set -e
mount -t tmpfs -o size=400k none "$TMPDIR"
"$PYTHON" record.py
cat /dev/zero > "$TMPDIR/rest" 2> /dev/null || true
! echo one > "$TMPDIR/new"
"$(dirname "$PYTHON")/callspan" --store sqlite:///calls.db ship
"""
_RECORDS = """
import os, callspan
callspan.instrument(stores="sqlite:///calls.db")
for number in range(9):
    with callspan.record_call(provider="mine", model="m") as call:
        call.request({"model": "m"})
os._exit(0)
"""
_MAY_MOUNT = subprocess.run(["unshare", "-rm", "true"], check=False, capture_output=True).returncode == 0


@pytest.mark.skipif(not _MAY_MOUNT, reason="a tmpfs cannot be mounted here")
@pytest.mark.parametrize("variable", ["TMPDIR", "TEMP", "TMP"])
def test_records_in_a_full_temporary_directory_are_found(variable: str, tmp_path: Path) -> None:
    """The usual one cannot be made, and a process that starts now can write nothing to the temporary one."""
    (tmp_path / "full").mkdir()
    (tmp_path / "record.py").write_text(_RECORDS)
    named = dict.fromkeys(("TMPDIR", "TEMP", "TMP"), "") | {variable: str(tmp_path / "full")}
    environment = plain_environment(**named, CALLSPAN_SPOOL_DIR="/proc/spool", PYTHON=sys.executable)
    program = _IN_A_FULL_DIRECTORY.replace("TMPDIR", variable)
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", program],
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=100,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("9 records delivered to sqlite:///calls.db.")


def test_fallback_roots_are_named_and_relative_ones_left_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for variable, value in (("TMPDIR", "here"), ("TEMP", str(tmp_path / "gone")), ("TMP", "")):
        monkeypatch.setenv(variable, value)
    assert [str(root.parent) for root in places.fallback_roots()] == [f"{tmp_path}/gone", "/tmp", "/dev/shm"]


def test_a_temporary_directory_that_is_not_there_is_not_made(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path / "gone"))
    monkeypatch.setattr("callspan.spool.directory._ALWAYS", (tmp_path,))
    spool = spool_of(Path("/proc/spool"), fallback=places.fallback_roots(), one=DownSink(tmp_path / "down"))
    assert spool.append(record("a"))
    spool.close(0)
    assert not (tmp_path / "gone").exists()
    assert len(list(tmp_path.glob("callspan-*/*/*.segment"))) == 1
