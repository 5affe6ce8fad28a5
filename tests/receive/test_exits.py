"""The end of what receives: one bound for all that hangs, and what was acknowledged is a record, at once or later.

Two stores that take connections and never answer, and body files on a disk that is gone, beside one store that works.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, Final

import pytest
from tests.conftest import Read
from tests.receive.conftest import CALLSPAN, JSON, ONE, logs, recorded
from tests.support.processes import plain_environment
from tests.support.waiting import HANG_S

BOUND_S: Final = 10 + 2
"""What the documents promise, and the slack of a busy machine."""
DISK: Final = """
import os, time

def hanging(function):
    def called(path, *args, **options):
        while "/hangs" in str(path):
            time.sleep(1)
        return function(path, *args, **options)
    return called

for name in os.environ["HANGING"].split():
    setattr(os, name, hanging(getattr(os, name)))
"""
"""A `sitecustomize`: whatever opens a file of this name waits for the disk, or already who looks at its status."""
PROGRAM: Final = f"""#!{sys.executable} -IS
import os, signal, sys
from urllib.request import Request, urlopen

signal.signal(signal.SIGINT, signal.SIG_DFL)
directory = os.environ["OTEL_LOG_RAW_API_BODIES"].removeprefix("file:")
for name in sys.argv[1].split():
    with open(f"{{directory}}/{{name}}.request.json", "w") as file:
        file.write('{{"model": "claude-opus-5", "messages": [{{"role": "user", "content": "Hi, %s"}}]}}' % name)
os.mkfifo(directory + "/fifo.request.json")
with open("events.json") as file:
    body = file.read().replace("DIRECTORY", directory).encode()
url = os.environ["OTEL_EXPORTER_OTLP_LOGS_ENDPOINT"]
urlopen(Request(url, body, {{"content-type": "application/json"}})).read()
print(directory, flush=True)
signal.pause()
"""
EVENTS: Final = {event["event.name"]: event for events in recorded("tools") for event in events}
REQUEST: Final = {name: item for name, item in EVENTS["api_request_body"].items() if name != "body"}


@contextmanager
def silent() -> Iterator[str]:
    """The address of a server that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=50) as hole:
        yield f"127.0.0.1:{hole.getsockname()[1]}"


@contextmanager
def stores(directory: Path, *, hang: bool) -> Iterator[str]:
    with ExitStack() as stack:
        first, second = (stack.enter_context(silent()) for _ in range(2))
        works = f"sqlite:///{directory}/c.db"
        yield f"clickhouse://{first}/d,postgresql://u@{second}/d,{works}" if hang else works


def environment(directory: Path, hanging: str) -> dict[str, str]:
    (directory / "site").mkdir(exist_ok=True)
    (directory / "site" / "sitecustomize.py").write_text(DISK)
    return plain_environment(
        PYTHONPATH=str(directory / "site"), CALLSPAN_SPOOL_DIR=str(directory / "spool"), HANGING=hanging
    )


def ended(process: subprocess.Popen[str], number: int) -> tuple[float, int, str]:
    """The seconds from a signal to the end, its code, and what was said."""
    begun_s = time.monotonic()
    process.send_signal(number)
    _, said = process.communicate(timeout=HANG_S)
    return time.monotonic() - begun_s, process.returncode, said


def received(directory: Path, number: int, *, hang: bool) -> tuple[float, int, str]:
    """A receiver, ended after it has acknowledged a span and a request whose body is in a file."""
    directory.mkdir(exist_ok=True)
    with stores(directory, hang=hang) as urls, subprocess.Popen(
        [*CALLSPAN, "--store", urls, "receive", "--port", "0", "--json"], text=True, cwd=directory,
        env=environment(directory, "open stat lstat" if hang else ""),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        url = json.loads(process.stdout.readline())["url"]
        file = str(directory / "hangs.request.json")
        for path, body in (("traces", ONE), ("logs", json.dumps(logs([in_file("b", file)])))):
            connection = HTTPConnection(url.removeprefix("http://"), timeout=HANG_S)
            connection.request("POST", f"/v1/{path}", body, JSON)
            assert connection.getresponse().status == 200
            connection.close()
        return ended(process, number)


def in_file(ident: str, file: str) -> dict[str, Any]:
    return {**REQUEST, "request_body_id": ident, "agent_id": ident, "body_ref": file}


def ran(directory: Path, number: int, hanging: str) -> tuple[float, int, str, Path]:
    """An agent, ended after requests whose bodies are in files were acknowledged; and the directory of the files."""
    (directory / "bin").mkdir(parents=True)
    program = directory / "bin" / "claude"
    program.write_text(PROGRAM)
    program.chmod(0o755)
    names = ["hangs0", "hangs1", "hangs2", "hangs3", "hangs4", "works"]
    events = [in_file(name, f"DIRECTORY/{name}.request.json") for name in (*names, "fifo")]
    (directory / "events.json").write_text(json.dumps(logs(events)))
    variables = environment(directory, hanging)
    variables["PATH"] = f"{program.parent}{os.pathsep}{os.environ['PATH']}"
    with stores(directory, hang=hanging != "") as urls, subprocess.Popen(
        [*CALLSPAN, "--store", urls, "run", "claude", " ".join(names)], text=True, cwd=directory, env=variables,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        bodies = Path(process.stdout.readline().strip())
        return *ended(process, number), bodies


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_receiver_has_one_bound(number: signal.Signals, tmp_path: Path, reading: Read) -> None:
    usual_s, code, said = received(tmp_path / "usual", number, hang=False)
    took_s, *other = received(tmp_path / "gone", number, hang=True)
    assert [code, said] == other == [128 + number, ""]
    assert took_s < usual_s + BOUND_S
    for name in ("usual", "gone"):
        calls = reading(f"sqlite:///{tmp_path / name}/c.db").calls()
        assert sorted(call.outcome for call in calls) == ["interrupted", "success"]


@pytest.mark.parametrize("hanging", ["open", "open stat lstat"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_agent_has_one_bound(number: signal.Signals, hanging: str, tmp_path: Path, reading: Read) -> None:
    usual_s, *_ = ran(tmp_path / "usual", number, "")
    took_s, code, said, bodies = ran(tmp_path / "gone", number, hanging)
    assert (code, "Traceback" in said) == (-number, False), said
    assert took_s < usual_s + BOUND_S
    # Once the disk is back, the next process records what this one could not read.
    received(tmp_path / "gone", signal.SIGINT, hang=False)
    for name in ("usual", "gone"):
        calls = list(reading(f"sqlite:///{tmp_path / name}/c.db").calls())
        sent = [call for call in calls if b"Hi" in bytes(call.request.body)]
        assert (len(sent), {call.outcome for call in sent}) == (6, {"interrupted"})
    assert not bodies.exists()
