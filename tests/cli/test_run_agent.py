"""`callspan run claude` as the parent of a program: nobody notices it but by its records.

The program is a stand-in of its name, which does what a test needs; `tests/receive/test_program.py` has the real one.
"""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from tests.support.commands import ask
from tests.support.processes import plain_environment
from tests.support.waiting import HANG_S, until

RECORDED = Path(__file__).parents[1] / "receive" / "tools.json"
PROGRAM = f"""#!{sys.executable} -IS
import json, os, signal, sys, time
from urllib.request import Request, urlopen

def pairs(attributes):
    kinds = {{bool: "boolValue", int: "intValue", float: "doubleValue"}}
    values = [(key, {{kinds.get(type(value), "stringValue"): value}}) for key, value in attributes.items()]
    return [{{"key": key, "value": value}} for key, value in values]

def send(events):
    records = [{{"timeUnixNano": str(event.pop("time_ns")), "attributes": pairs(event)}} for event in events]
    resource = {{"attributes": pairs({{"service.name": "claude-code", "service.version": "2"}})}}
    body = {{"resourceLogs": [{{"resource": resource, "scopeLogs": [{{"logRecords": records}}]}}]}}
    url = os.environ["OTEL_EXPORTER_OTLP_LOGS_ENDPOINT"]
    urlopen(Request(url, json.dumps(body).encode(), {{"content-type": "application/json"}})).read()

def say(*words):
    print(*words, flush=True)

exec(sys.argv[1])
"""
SEND = f"requests = json.load(open({str(RECORDED)!r}))\nfor events in requests: send(events)\n"
CALLS = 5
"""In what it sends."""
COUNT = """
seen = []
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGWINCH, signal.SIGCONT):
    signal.signal(number, lambda number, _: seen.append(signal.Signals(number).name))
say("ready")
while "SIGTERM" not in seen:
    time.sleep(0.02)
time.sleep(0.2)
say("seen", *seen)
sys.exit(5)
"""


class Terminal:
    """The command in a session of its own, at a terminal."""

    def __init__(self, command: list[str], cwd: Path, environment: dict[str, str]) -> None:
        self.output = b""
        self.pid, self.terminal = pty.fork()
        if self.pid == 0:
            signal.signal(signal.SIGHUP, signal.SIG_DFL)  # these tests may run under nohup
            os.chdir(cwd)
            os.execve(command[0], command, environment)

    def read(self) -> bytes:
        while select.select([self.terminal], [], [], 0)[0]:
            try:
                part = os.read(self.terminal, 4096)
            except OSError:  # nobody has it open any more
                break
            if not part:
                break
            self.output += part
        return self.output

    def until(self, text: bytes) -> None:
        until(lambda: text in self.read(), lambda: self.output)

    def type(self, text: bytes) -> None:
        os.write(self.terminal, text)

    def status(self) -> int:
        _, status = until(lambda: pair if (pair := os.waitpid(self.pid, os.WNOHANG))[0] else None, self.read)
        self.read()
        return status

    def status_without_terminal(self) -> int:
        os.close(self.terminal)
        return until(lambda: pair if (pair := os.waitpid(self.pid, os.WNOHANG))[0] else None)[1]


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    program = tmp_path / "bin" / "claude"
    program.parent.mkdir()
    program.write_text(PROGRAM)
    program.chmod(0o755)
    return plain_environment(PATH=f"{program.parent}{os.pathsep}{os.environ['PATH']}", OUR_OWN="1")


COMMAND = [sys.executable, "-m", "callspan.cli", "run", "claude"]
Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(tmp_path: Path, environment: dict[str, str]) -> Iterator[Start]:
    running: list[subprocess.Popen[str]] = []

    def started(program: str, *arguments: str, **settings: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [*COMMAND, program, *arguments], cwd=tmp_path, env=environment | settings, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        running.append(process)
        return process

    yield started
    for process in running:
        with process:
            process.kill()


@pytest.fixture
def terminal(tmp_path: Path, environment: dict[str, str]) -> Iterator[Callable[..., Terminal]]:
    running: list[Terminal] = []

    def started(program: str, shell: Sequence[str] = ()) -> Terminal:
        running.append(Terminal([*shell, *COMMAND, program], tmp_path, environment))
        return running[-1]

    yield started
    for started_terminal in running:
        with suppress(OSError):
            os.close(started_terminal.terminal)


def output_of(process: subprocess.Popen[str], sent: str | None = None) -> tuple[int, str, str]:
    out, err = process.communicate(sent, timeout=HANG_S)
    return process.returncode, out, err.splitlines()[-1]


def calls(directory: Path) -> list[dict[str, Any]]:
    answer = ask("--store", str(directory / "callspan.db"), "calls", "--json")
    return answer.json if answer.code == 0 else []


def test_a_program_runs_as_without_it(start: Start, tmp_path: Path) -> None:
    program = """
lines = open("/proc/self/status").readlines() if sys.platform == "linux" else []
blocked = [line.split()[1].strip("0") for line in lines if line.startswith("SigBlk")]
say(json.dumps([sys.argv[2:], sys.stdin.read(), os.environ["OUR_OWN"], os.getpgrp() == os.getpgid(os.getppid()),
    any(blocked)]))
sys.stderr.write("its own\\n")
sys.exit(7)
"""
    process = start(program, "one", "--json", "--", "two words")
    out, err = process.communicate("its input", timeout=HANG_S)
    assert process.returncode == 7
    assert json.loads(out) == [["one", "--json", "--", "two words"], "its input", "1", True, False]
    assert "its own\n" in err
    assert err.splitlines()[-1].startswith("callspan: no call recorded; claude reported nothing: it called no model")


def test_what_it_reports_is_recorded(start: Start, tmp_path: Path) -> None:
    code, out, said = output_of(start(SEND))
    assert (code, out, said) == (0, "", f"callspan: {CALLS} calls recorded")
    assert len(calls(tmp_path)) == CALLS
    assert list((tmp_path / "callspan.db.spool" / "agents").iterdir()) == []


@pytest.mark.parametrize("is_repository", [True, False])
def test_a_store_in_the_repository_is_named_with_a_line_for_gitignore(
    start: Start, tmp_path: Path, is_repository: bool
) -> None:
    if is_repository:
        (tmp_path / ".git").mkdir()
    _, err = start("").communicate(timeout=HANG_S)
    line = f"callspan: the store is {tmp_path}/callspan.db, in this repository; a line for .gitignore: /callspan.db*\n"
    assert (line in err) is is_repository


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGSEGV])
def test_it_ends_by_the_same_signal(start: Start, tmp_path: Path, number: signal.Signals) -> None:
    """With all that was reported until then."""
    code, _, said = output_of(start(f"{SEND}\nos.kill(os.getpid(), {int(number)})"))
    assert (code, said) == (-number, f"callspan: {CALLS} calls recorded")
    assert len(calls(tmp_path)) == CALLS
    assert not list(tmp_path.glob("core*"))


def test_signals_of_other_processes_are_passed_on(start: Start) -> None:
    process = start(COUNT)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    numbers = (signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGWINCH, signal.SIGTERM)
    for number in numbers:
        process.send_signal(number)
    code, out, _ = output_of(process)
    assert (code, set(out.split()[1:])) == (5, {number.name for number in numbers})


def test_what_is_ignored_stays_ignored(start: Start, tmp_path: Path, environment: dict[str, str]) -> None:
    """As `nohup` has it."""
    program = "say(signal.getsignal(signal.SIGHUP) is signal.SIG_IGN, signal.getsignal(signal.SIGPIPE))"
    command = ["/bin/sh", "-c", 'trap "" HUP; exec "$@"', "sh", *COMMAND, program]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split()[0] == "True"


def test_keys_reach_it_once(terminal: Callable[..., Terminal]) -> None:
    running = terminal(COUNT)
    running.until(b"ready")
    running.type(b"\x03")
    fcntl.ioctl(running.terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
    running.until(b"^C")
    os.kill(running.pid, signal.SIGTERM)
    status = running.status()
    assert os.WEXITSTATUS(status) == 5
    (seen,) = re.findall("seen (.*)", running.output.decode())
    assert sorted(seen.split()) == ["SIGINT", "SIGTERM", "SIGWINCH"]


def test_ctrl_c_ends_it_as_the_program(terminal: Callable[..., Terminal], tmp_path: Path) -> None:
    program = f"signal.signal(signal.SIGINT, signal.SIG_DFL)\n{SEND}\nsay('ready')\ntime.sleep(100)"
    running = terminal(program)
    running.until(b"ready")
    running.type(b"\x03")
    status = running.status()
    assert (os.WIFSIGNALED(status), os.WTERMSIG(status)) == (True, signal.SIGINT)
    assert len(calls(tmp_path)) == CALLS


@pytest.mark.parametrize("by", ["key", "program"])
def test_it_stops_and_goes_on_with_the_program(terminal: Callable[..., Terminal], by: str) -> None:
    """A shell gets its terminal back only if its own child stops. Programs in raw mode stop their group themselves."""
    stop = "" if by == "key" else "os.kill(0, signal.SIGTSTP)"
    shell = ["/bin/bash", "-c", 'set -m; "$@"; echo "stopped $?"; fg; echo "ended $?"', "bash"]
    running = terminal(f"say('ready')\n{stop}\nsys.stdin.readline()\nsay('went on')\nsys.exit(3)", shell)
    running.until(b"ready")
    if by == "key":
        running.type(b"\x1a")
    running.until(f"stopped {128 + signal.SIGSTOP}".encode())
    running.type(b"\n")
    running.until(b"went on")
    running.until(b"ended 3")


def test_a_terminal_that_is_gone_ends_it(terminal: Callable[..., Terminal], tmp_path: Path) -> None:
    running = terminal(f"{SEND}\nsay('ready')\ntime.sleep(100)")
    running.until(b"ready")
    status = running.status_without_terminal()
    assert (os.WIFSIGNALED(status), os.WTERMSIG(status)) == (True, signal.SIGHUP)
    assert len(calls(tmp_path)) == CALLS


def test_a_killed_parent_leaves_files_that_the_next_one_reads(start: Start, tmp_path: Path) -> None:
    """Once the program has ended: it may write until then."""
    body = json.dumps({"model": "claude-opus-5", "messages": [{"role": "user", "content": "Hi"}]})
    program = f"""
directory = os.environ["OTEL_LOG_RAW_API_BODIES"].removeprefix("file:")
say(directory)
sys.stdin.readline()
open(directory + "/b1.request.json", "w").write({body!r})
say("written")
sys.stdin.readline()
"""
    killed = start(program)
    assert killed.stdout is not None
    assert killed.stdin is not None
    directory = Path(killed.stdout.readline().strip())
    killed.kill()
    killed.wait(HANG_S)
    killed.stdin.write("\n")
    killed.stdin.flush()
    assert killed.stdout.readline() == "written\n"
    assert output_of(start("pass"))[0] == 0
    assert (calls(tmp_path), directory.is_dir()) == ([], True)
    killed.stdin.close()
    assert killed.stdout.read() == ""
    until(lambda: output_of(start("pass"))[0] == 0 and not directory.exists())
    (call,) = calls(tmp_path)
    assert (call["outcome"], call["question"]) == ("interrupted", "Hi")


def test_settings_of_the_user_win(start: Start) -> None:
    said = output_of(start("say(os.environ.get('OTEL_LOGS_EXPORTER'))", CLAUDE_CODE_ENABLE_TELEMETRY="1"))
    assert said == (
        0, "None\n", "callspan: no call recorded; the telemetry of claude is set up elsewhere, and nothing comes here",
    )  # fmt: skip


def test_without_receiving_the_program_replaces_the_command(start: Start) -> None:
    process = start("say(os.getpid(), os.environ.get('CLAUDE_CODE_ENABLE_TELEMETRY'))", CALLSPAN_RECEIVE="off")
    out, _ = process.communicate(timeout=HANG_S)
    assert out == f"{process.pid} None\n"


def test_only_its_own_address_is_taken(start: Start) -> None:
    program = """
from urllib.error import HTTPError
endpoint = os.environ["OTEL_EXPORTER_OTLP_LOGS_ENDPOINT"]
token = endpoint.split("/")[3]
try:
    urlopen(Request(endpoint.replace(token + "/", ""), b"{}", {"content-type": "application/json"}))
except HTTPError as error:
    say(error.code)
"""
    code, out, said = output_of(start(program))
    assert (code, out) == (0, "404\n")
    assert said.endswith("; refused requests: 1 for other paths")


def test_a_program_that_cannot_be_run_is_an_error(tmp_path: Path, environment: dict[str, str]) -> None:
    (tmp_path / "bin" / "claude").write_text("#!/no/such/interpreter\n")
    done = subprocess.run(
        [*COMMAND], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=HANG_S, check=False
    )
    *_, said = done.stderr.splitlines()
    assert (done.returncode, said.endswith("cannot be run: No such file or directory")) == (1, True)
