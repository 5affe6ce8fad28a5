"""A process is what its kernel says: its boot, its namespace of process ids, its id, and when it started."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support.identities import BEFORE_RESTART, ELSEWHERE, GONE, HERE
from tests.support.processes import succeeds

from callspan.runtime.process_identity import (
    identity_of,
    own_identity,
    own_machine,
    parse,
    started_in,
    started_of,
    state_of,
)

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="it reads /proc")
MAY_UNSHARE = succeeds("unshare", "-rpf", "true")
KINFO = struct.pack("<qi", 1_795_000_000, 42)


@pytest.mark.parametrize(
    ("stat", "started"),
    [
        (b"7 (python) S 1 7 7 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 12345 1 1", "12345"),
        (b"7 (a) R (b) c) S 1 7 7 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 678 1 1", "678"),
        (b"7 (python) Z 1 7 7 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 12345 1 1", ""),
        (b"7 (python) S 1 7 7", None),
        (b"7 (python) S 1 7 7 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 soon 1 1", None),
        (b"", None),
    ],
)
def test_process_start_is_read_from_proc(stat: bytes, started: str | None) -> None:
    assert started_of(stat) == started


@pytest.mark.parametrize(
    ("kinfo", "started"),
    [(KINFO + bytes(600), "1795000000.000042"), (b"", ""), (KINFO[:9], None), (bytes(648), None)],
)
def test_process_start_is_read_from_sysctl(kinfo: bytes, started: str | None) -> None:
    """MacOS states it at the beginning of `kinfo_proc`, and nothing of a process that is gone."""
    assert started_in(kinfo) == started


@pytest.mark.parametrize(
    "text",
    [None, "", "/", "boot/1", "b/n/0/5", "b/n/-1/5", "b/n/x/5", "b/n/5/", f"b/n/{2**31}/5", "b/n/²/5"],
)
def test_invalid_identity_is_elsewhere(text: str | None) -> None:
    assert parse(text) is None
    assert state_of(text) == "elsewhere"


@on_linux
def test_reused_process_id_is_another_process() -> None:
    assert state_of(HERE) == "runs"
    assert state_of(GONE) == "exited"
    assert state_of(ELSEWHERE) == "elsewhere"
    place, pid, *_ = parse(HERE) or ("", 0)
    assert state_of(f"{place}/{pid}/1") == "exited", "the id is used again"
    with subprocess.Popen(["sleep", "600"]) as process:
        identity = identity_of(process.pid)
        assert state_of(identity) == "runs"
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert state_of(identity) == "exited", "nobody has waited for it"
    assert state_of(identity) == "exited"


@pytest.mark.skipif(not own_machine(), reason="the machine is not known here, as in a container")
def test_processes_before_a_restart_have_exited() -> None:
    """A machine is known by a digest: its id is private."""
    machine = own_machine()
    assert str(HERE).endswith(f"@{machine}")
    assert machine not in Path("/etc/machine-id").read_text()
    assert parse(BEFORE_RESTART) == ("another boot/4026531836", 1, "5", machine)
    assert state_of(BEFORE_RESTART) == "exited"
    for other in ("@", "@another", ""):
        assert state_of(BEFORE_RESTART.replace(f"@{machine}", other)) == "elsewhere"
    assert state_of(str(HERE).replace(f"@{machine}", "@another")) == "runs", "the name of a host may change"


@on_linux
def test_fork_is_another_process(tmp_path: Path) -> None:
    child = os.fork()
    if not child:
        (tmp_path / "child").write_text(str(own_identity()))
        os._exit(0)
    os.waitpid(child, 0)
    assert (parse((tmp_path / "child").read_text()) or HERE)[1] == child
    assert state_of((tmp_path / "child").read_text()) == "exited"


@on_linux
@pytest.mark.skipif(not MAY_UNSHARE, reason="no namespace can be made here")
@pytest.mark.parametrize("mounts", [["--mount-proc"], []], ids=["its own proc", "the proc of the host"])
def test_process_of_another_namespace_is_elsewhere(mounts: list[str]) -> None:
    """Its id is that of another process here, or of none."""
    program = (
        "import sys; from callspan.runtime.process_identity import *; print(own_identity(), state_of(own_identity()))"
    )
    command = ["unshare", "-rpf", *mounts, sys.executable, "-c", program]
    identity, state = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    assert state == ("runs" if identity != "None" else "elsewhere")
    assert state_of(identity) == "elsewhere"
    assert "@" not in identity, "a container has the machine id of its image"
