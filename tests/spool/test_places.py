"""The places where records wait are known: full, damaged or not understood, they are searched and listed."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from tests.support.commands import ask
from tests.support.left_behind import leave_behind
from tests.support.processes import plain_environment, succeeds
from tests.support.records import keep, made
from tests.support.rig import DownSink, in_child, record, spool_of
from tests.support.waiting import HANG_MS, HANG_S

import callspan
from callspan import Settings, open_store
from callspan.delivery.leftovers import waiting
from callspan.spool import directory as spool_files
from callspan.stores import split_urls
from callspan.stores.spools import findings_for

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
_MAY_MOUNT = succeeds("unshare", "-rm", "true")


@pytest.mark.skipif(not _MAY_MOUNT, reason="a tmpfs cannot be mounted here")
@pytest.mark.parametrize("variable", ["TMPDIR", "TEMP", "TMP"])
def test_records_in_a_temporary_directory_are_found(variable: str, tmp_path: Path) -> None:
    """The usual one cannot be made, and a process that starts now can write nothing to the temporary one."""
    (tmp_path / "full").mkdir()
    (tmp_path / "record.py").write_text(_RECORDS)
    named = dict.fromkeys(("TMPDIR", "TEMP", "TMP"), "") | {variable: str(tmp_path / "full")}
    environment = plain_environment(**named, CALLSPAN_SPOOL_DIR="/proc/spool", PYTHON=sys.executable)
    program = _IN_A_FULL_DIRECTORY.replace("TMPDIR", variable)
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", program],
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=HANG_S,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("9 records delivered to sqlite:///calls.db.")


def test_fallback_roots_are_listed_without_relative_paths(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for variable, value in (("TMPDIR", "here"), ("TEMP", str(tmp_path / "gone")), ("TMP", "")):
        monkeypatch.setenv(variable, value)
    assert [str(root.parent) for root in spool_files.fallback_roots()] == [f"{tmp_path}/gone", "/tmp", "/dev/shm"]


def test_missing_temporary_directory_is_not_created(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path / "gone"))
    monkeypatch.setattr("callspan.spool.directory._ALWAYS", (tmp_path,))
    spool = spool_of(Path("/proc/spool"), fallback=spool_files.fallback_roots(), one=DownSink(tmp_path / "down"))
    assert spool.append(record("a"))
    spool.close(0)
    assert not (tmp_path / "gone").exists()
    assert len(list(tmp_path.glob("callspan-*/*/*.segment"))) == 1


SHORT = {
    "empty": lambda data: b"",
    "cut within a line": lambda data: data[: len(data) // 2],
    "cut after a line": lambda data: data[: data.index(b"\n") + 1],
    "other bytes": lambda data: b"\0" * len(data),
    "of another set": lambda data: data + b"sqlite:///third.db\n",
    "missing": None,
}
"""What a power failure leaves of a list of two stores."""


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The root of the spool of all stores."""
    monkeypatch.setenv("CALLSPAN_SPOOL_DIR", str(tmp_path / "spool"))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("callspan.spool.directory._ALWAYS", ())
    monkeypatch.chdir(tmp_path)
    return tmp_path / "spool"


def left_for(root: Path, stores: str) -> Path:
    """Leave three records for a comma list of stores below a root; return their segment."""
    return leave_behind(stores, *(made(f"c{number}") for number in range(3)), settings=Settings(spool_dir=root))


def damage(listed: Path, how: str) -> None:
    if (change := SHORT[how]) is None:
        listed.unlink()
    else:
        listed.write_bytes(change(listed.read_bytes()))


TWO = "sqlite:///a.db,sqlite:///b.db"


@pytest.mark.parametrize("how", SHORT)
def test_damaged_store_list_is_rewritten(how: str, root: Path) -> None:
    segment = left_for(root, TWO)
    listed = segment.with_name("stores")
    before = listed.read_bytes()
    damage(listed, how)
    answer = ask("--store", TWO, "ship")
    assert (answer.code, answer.out.count("3 records delivered")) == (0, 2)
    assert listed.read_bytes() == before
    assert not segment.exists()


@pytest.mark.parametrize("how", SHORT)
def test_process_rewrites_the_list_of_its_stores(how: str, root: Path) -> None:
    segment = left_for(root, TWO)
    damage(segment.with_name("stores"), how)
    handle = callspan.instrument(stores=TWO)
    with callspan.record_call(provider="mine", model="m"):
        pass
    assert handle.force_flush(HANG_MS)
    handle.uninstrument()
    for store in split_urls(TWO):
        with closing(open_store(store)) as reader:
            assert reader.count_calls() == 4


@pytest.mark.parametrize("how", SHORT)
def test_directory_of_unknown_stores_is_listed(how: str, root: Path) -> None:
    """With its segments, their size and age, and what to do, and never as delivered: the other store lacks them."""
    segment = left_for(root, TWO)
    damage(segment.with_name("stores"), how)
    size = segment.stat().st_size
    keep("sqlite:///a.db")
    shipped = ask("--store", "sqlite:///a.db", "ship", "--json")
    (finding,) = shipped.json["findings"]
    facts = (finding["kind"], finding["path"], finding["segments"], finding["size"])
    assert (shipped.code, facts) == (1, ("unknown stores", str(segment.parent), 1, size))
    assert finding["since_ns"] > 0
    said = " ".join(ask("--store", "sqlite:///a.db", "ship").out.split())
    assert f"{segment.parent} does not state its stores" in said
    assert f"1 segment, {size:,} bytes since 20" in said
    assert "callspan --store <its stores> ship" in said
    assert "Nothing waits" not in said
    doctor = ask("--store", "sqlite:///a.db", "doctor")
    assert "does not state its stores" in " ".join(doctor.out.split())
    assert "All checks passed" not in doctor.out
    assert "does not state its stores" in ask("--store", "sqlite:///a.db", "calls").err
    deleted = ask("--store", "sqlite:///a.db", "delete", "--user", "u", "--yes")
    assert deleted.code == 1
    assert segment.stat().st_size == size


def test_unrenamed_store_list_is_found(root: Path) -> None:
    listed = left_for(root, TWO).with_name("stores")
    before = listed.read_bytes()
    listed.rename(listed.with_name("stores.0123456789ab"))
    ask("--store", "sqlite:///c.db", "ship")
    assert listed.read_bytes() == before


@pytest.mark.parametrize("cursor", [b"", b"0", b"0000000000000000001", b"0" * 19 + b"1", b"9" * 20, b"x" * 20])
def test_damaged_cursor_hides_no_record(cursor: bytes, root: Path) -> None:
    segment = left_for(root, "sqlite:///a.db")
    (key,) = spool_files.keys_of(segment.parent)
    path = segment.with_name(f"{segment.name}.{key}.cursor")
    path.write_bytes(cursor)
    assert [one.records for one in waiting("sqlite:///a.db")] == [3]
    doctor = {one["name"]: one for one in ask("--store", "sqlite:///a.db", "doctor", "--json").json["checks"]}
    assert doctor["damaged cursor"]["detail"] == f"{path} is damaged"
    assert "3 records delivered" in ask("--store", "sqlite:///a.db", "ship").out
    assert not segment.exists()


def _link(path: Path) -> None:
    target = path.rename(path.with_name("elsewhere"))
    path.symlink_to(target)


def _pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


STRANGE: dict[str, Callable[[Path], object]] = {"a link": _link, "a pipe": _pipe, "a directory": _directory}


@pytest.mark.parametrize("kind", STRANGE)
def test_non_files_are_listed_and_ignored(kind: str, root: Path) -> None:
    strange, segment = left_for(root, "sqlite:///a.db"), left_for(root, "sqlite:///a.db")
    STRANGE[kind](strange)
    answer = ask("--store", "sqlite:///a.db", "ship", "--json")
    assert (answer.code, answer.json["stores"]["sqlite:///a.db"]["delivered"]) == (1, 3)
    assert [(one["kind"], one["path"]) for one in answer.json["findings"]] == [("unreadable", str(strange))]
    assert not segment.exists()


only_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be several users")


@only_root
@pytest.mark.parametrize("closed", ["spool", "spool/*", "spool/*/*.segment"])
def test_unreadable_files_are_listed(closed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for command in ("ship", "doctor"):
        ask("--store", "sqlite:///other.db", command)  # another user may not be able to import what they import
    with TemporaryDirectory() as name:  # the parents of `tmp_path` are private
        open_to_all = Path(name)
        monkeypatch.setenv("CALLSPAN_SPOOL_DIR", f"{name}/spool")
        monkeypatch.setenv("TMPDIR", name)
        monkeypatch.setenv("XDG_STATE_HOME", name)
        monkeypatch.setattr("callspan.spool.directory._ALWAYS", ())
        left_for(open_to_all / "spool", f"sqlite:///{name}/a.db")
        for path in (open_to_all, *open_to_all.rglob("*")):
            path.chmod(0o777 if path.is_dir() else 0o666)
        (path,) = open_to_all.glob(closed)
        path.chmod(0o700 if path.is_dir() else 0o600)

        def is_listed() -> bool:
            os.setuid(12_345)
            answer = ask("--store", f"sqlite:///{name}/a.db", "ship", "--json")
            (finding,) = answer.json["findings"]
            doctor = " ".join(ask("--store", f"sqlite:///{name}/a.db", "doctor").out.split())
            return answer.code == 1 and finding["path"] == str(path) and "All checks passed" not in doctor

        in_child(is_listed)


def test_damaged_counts_are_listed(root: Path) -> None:
    losses = left_for(root, "sqlite:///a.db").with_name("losses")
    losses.write_bytes(b"\0" * 9)
    assert [str(one) for one in findings_for(["sqlite:///a.db"])] == [f"{losses} is damaged"]


@only_root
def test_foreign_temporary_root_is_reported_without_failing(root: Path, tmp_path: Path) -> None:
    """Anyone may create it, and no record of this user is in it."""
    fallback = tmp_path / "callspan-0"
    fallback.mkdir()
    os.chown(fallback, 12_345, -1)
    answer = ask("--store", "sqlite:///a.db", "ship", "--json")
    assert (answer.code, [one["kind"] for one in answer.json["findings"]]) == (0, ["another user"])
