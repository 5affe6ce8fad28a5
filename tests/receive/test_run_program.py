"""`callspan run claude` with the real program, offline: every request is recorded, whoever ends whom.

`tests/cli/test_run_agent.py` has what does not depend on the program.
"""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import Read
from tests.support.processes import plain_environment
from tests.support.waiting import HANG_S, until

from callspan.records import CallRecord
from callspan.stores import EmptyStoreError
from callspan.testing import ScriptedProvider

sdk = pytest.importorskip("claude_agent_sdk")
PROGRAM = Path(sdk.__file__).parent / "_bundled" / "claude"
CANARY = "canary-91ac"
BASH = {"name": "Bash", "arguments": {"command": "cat a.txt; env > tool.env", "description": "read"}}


class Lab:
    """A directory in which the program runs."""

    def __init__(self, directory: Path, provider: ScriptedProvider, read: Callable[[], Any]) -> None:
        self.directory, self.provider, self._read = directory, provider, read
        (directory / "bin").mkdir()
        (directory / "bin" / "claude").symlink_to(PROGRAM)
        (directory / "a.txt").write_text(CANARY)
        self.processes: list[subprocess.Popen[str]] = []

    def start(self, *arguments: str, stdin: int = subprocess.DEVNULL, **settings: str) -> subprocess.Popen[str]:
        environment = plain_environment(
            **{
                "PATH": f"{self.directory / 'bin'}{os.pathsep}{os.environ['PATH']}",
                "ANTHROPIC_BASE_URL": self.provider.anthropic_url,
                "ANTHROPIC_API_KEY": "sk-test",
                "HOME": str(self.directory),
                "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
                "IS_SANDBOX": "1",
                **settings,
            }
        )
        options = ["-p", "--model", "claude-opus-5", "--permission-mode", "bypassPermissions"]
        process = subprocess.Popen(
            [sys.executable, "-m", "callspan.cli", "run", "claude", *(arguments or (*options, CANARY))], text=True,
            cwd=self.directory, env=environment, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            start_new_session=True,
        )  # fmt: skip
        self.processes.append(process)
        return process

    def run(self, *arguments: str, **settings: str) -> tuple[int, str, str]:
        return self.ended(self.start(*arguments, **settings))

    def ended(self, process: subprocess.Popen[str]) -> tuple[int, str, str]:
        """Its exit code, output and last line."""
        out, err = process.communicate(timeout=HANG_S)
        return process.returncode, out, err.splitlines()[-1]

    def child(self, process: subprocess.Popen[str]) -> int:
        listed = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True, check=True)
        (pid,) = listed.stdout.split()
        return int(pid)

    def calls(self) -> list[CallRecord]:
        try:
            return sorted(self._read().calls(), key=lambda call: call.timing.start_ns)
        except EmptyStoreError:
            return []

    def files(self) -> list[Path]:
        """What waits for a record."""
        return list((self.directory / "callspan.db.spool" / "agents").rglob("*.json"))

    def hang(self) -> None:
        """Have the provider begin a third answer that does not end."""
        self.provider.reply(tool_calls=[BASH])
        self.provider.reply(tool_calls=[BASH])
        self.provider.reply(text="never read to its end " * 50, chunk_delay_s=1.0)

    def until_it_hangs(self) -> None:
        until(lambda: len(self.provider.requests) == 3)


@pytest.fixture
def lab(tmp_path: Path, provider: ScriptedProvider, reading: Read) -> Iterator[Lab]:
    running = Lab(tmp_path, provider, lambda: reading(f"sqlite:///{tmp_path}/callspan.db"))
    yield running
    for process in running.processes:
        with process:
            process.kill()


def test_every_request_is_one_exact_record(lab: Lab) -> None:
    lab.provider.reply(tool_calls=[BASH], input_tokens=400, cache_write_tokens=300)
    lab.provider.reply(status=500, retry_after_s=0.001)
    lab.provider.reply(text="Done.", input_tokens=500, cache_read_tokens=300)
    options = ["-p", "--model", "claude-opus-5", "--permission-mode", "bypassPermissions", "--output-format", "json"]
    code, out, said = lab.run(*options, "What is in a.txt?")
    result = json.loads(out)
    assert (code, result["result"], said) == (0, "Done.", "callspan: 2 calls recorded")
    calls = lab.calls()
    served = [json.dumps(request.json) for request in lab.provider.requests]
    assert {json.dumps(json.loads(bytes(call.request.body))) for call in calls} == set(served)
    assert sum(len(call.attempts) for call in calls) == len(served) == 3
    assert float(sum((call.cost.usd for call in calls if call.cost), Decimal(0))) == pytest.approx(
        result["total_cost_usd"], abs=1e-12
    )
    assert {call.place.session_id for call in calls} == {result["session_id"]}
    assert lab.files() == []
    tool = (lab.directory / "tool.env").read_text()
    assert "OTEL_" not in tool, "what it starts inherits nothing"


def test_exit_codes_and_input_are_those_of_the_program(lab: Lab) -> None:
    assert lab.run("--version")[:2] == (0, f"{sdk._cli_version.__cli_version__} (Claude Code)\n")
    assert lab.run("--no-such-option")[0] == 1
    lab.provider.reply(text="Done.", repeat=True)
    process = lab.start("-p", "--model", "claude-opus-5", stdin=subprocess.PIPE)
    out, _ = process.communicate("By standard input.", timeout=HANG_S)
    assert (process.returncode, out) == (0, "Done.\n")
    (call,) = lab.calls()
    assert "By standard input." in bytes(call.request.body).decode()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_both(lab: Lab, number: signal.Signals) -> None:
    """As it ends the program alone; what was interrupted is recorded, too."""
    lab.hang()
    process = lab.start()
    lab.until_it_hangs()
    process.send_signal(number)
    code, _, said = lab.ended(process)
    assert code == {signal.SIGINT: 0, signal.SIGTERM: 143}[number]
    assert said == "callspan: 3 calls recorded"
    assert [call.outcome for call in lab.calls()] == ["success", "success", "interrupted"]
    assert lab.files() == []


def test_a_killed_program_loses_no_request(lab: Lab) -> None:
    lab.hang()
    process = lab.start()
    lab.until_it_hangs()
    os.kill(lab.child(process), signal.SIGKILL)
    code, _, said = lab.ended(process)
    assert (code, said) == (-signal.SIGKILL, "callspan: 3 calls recorded")
    assert [call.outcome for call in lab.calls()] == ["success", "success", "interrupted"]
    assert lab.files() == []


def test_a_killed_parent_loses_no_request(lab: Lab) -> None:
    """The program goes on; the next run records what it left, once it has ended."""
    lab.provider.reply(tool_calls=[BASH])
    lab.provider.reply(text="Done. " * 20, chunk_delay_s=0.1)
    process = lab.start()
    until(lambda: len(lab.provider.requests) == 2)
    child = lab.child(process)
    process.kill()
    process.wait()
    assert process.stdout is not None
    assert process.stdout.read().startswith("Done. "), "the program ends as it would"
    until(lambda: not Path(f"/proc/{child}").exists())
    assert lab.files()
    until(lambda: lab.run("--version")[0] == 0 and lab.files() == [])
    calls = until(lambda: calls if len(calls := lab.calls()) == 2 else None)
    # Its last answer is lost if it ends before it has written the file.
    assert [call.outcome for call in calls] in (["success", "success"], ["success", "interrupted"])
    served = [json.dumps(request.json) for request in lab.provider.requests]
    assert [json.dumps(json.loads(bytes(call.request.body))) for call in calls] == served


@pytest.mark.parametrize("level", ["metadata", "off"])
def test_no_content_below_full(lab: Lab, level: str) -> None:
    lab.provider.reply(tool_calls=[BASH])
    lab.provider.reply(text=f"Done. {CANARY}")
    assert lab.run(CALLSPAN_CONTENT=level)[2] == "callspan: 2 calls recorded"
    assert len(lab.calls()) == 2
    for file in (path for path in lab.directory.glob("callspan.db*/**/*") if path.is_file()):
        assert CANARY.encode() not in file.read_bytes(), file
    assert CANARY.encode() not in (lab.directory / "callspan.db").read_bytes()


def test_its_screen_works_at_a_terminal(lab: Lab) -> None:
    """The first one says here that no provider can be reached."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(lab.directory)
        environment = plain_environment(
            PATH=f"{lab.directory / 'bin'}{os.pathsep}{os.environ['PATH']}", HOME=str(lab.directory), TERM="xterm",
            ANTHROPIC_BASE_URL="http://127.0.0.1:9", CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC="1",
        )  # fmt: skip
        os.execve(sys.executable, [sys.executable, "-m", "callspan.cli", "run", "claude"], environment)
    output = b""
    with suppress(OSError):
        while part := os.read(terminal, 65536):
            output += part
    os.close(terminal)
    _, status = os.waitpid(pid, 0)
    assert os.WEXITSTATUS(status) == 1
    welcome, failure, end = (output.find(text) for text in (b"Welcome", b"Unable", b"callspan: no call"))
    assert 0 < welcome < failure < end, output
