"""The command, as tests run it; no other file of the tests knows where it is."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from click.testing import CliRunner
from tests.support.processes import plain_environment, ran
from tests.support.waiting import HANG_S

from callspan.cli.commands import callspan

__all__ = ["Answer", "ask", "callspan", "in_its_own", "interrupted", "run"]


class Answer(NamedTuple):
    """What a run of the command gave."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def ask(*arguments: str) -> Answer:
    """The command in this process; an exception of its own fails the test."""
    result = CliRunner().invoke(callspan, list(arguments), catch_exceptions=False)
    return Answer(result.exit_code, result.stdout, result.stderr)


def in_its_own(*arguments: str, cwd: Path, env: Mapping[str, str] | None = None) -> Answer:
    """The command as people start it."""
    done = ran("-m", "callspan.cli", *arguments, cwd=cwd, code=None, **(env or {}))
    return Answer(done.returncode, done.stdout, done.stderr)


@contextmanager
def interrupted(*arguments: str, cwd: Path | None = None, **env: str) -> Iterator[subprocess.Popen[str]]:
    """The command as people start it, until they press Ctrl-C."""
    with subprocess.Popen(
        [sys.executable, "-m", "callspan.cli", *arguments], cwd=cwd, env=plain_environment(**env), text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        try:
            yield process
        finally:
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=HANG_S)


def run(url: str, *arguments: str, code: int | None = 0) -> str:
    """Run a command over a store; return what it printed. Any exit code will do if `code` is None."""
    answer = ask("--store", url, *arguments)
    assert answer.code == code or code is None, (arguments, answer.out, answer.err)
    return answer.out
