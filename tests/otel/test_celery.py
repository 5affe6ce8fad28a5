"""Celery's prefork workers, run for real in an environment of their own."""

from __future__ import annotations

import os
import signal
import subprocess
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tests.support.launching import Stage, python_of, running

pytestmark = [pytest.mark.timeout(300)]

WORKER = ("-A", "celery_app", "worker", "--pool", "prefork", "--concurrency", "2", "--loglevel", "WARNING")
SEND = "import sys, celery_app; print(len(celery_app.send(int(sys.argv[1]))))"


@pytest.fixture
def stage(stage: Stage) -> Stage:
    """The stage, with Celery's environment first on the path."""
    binaries = str(Path(python_of("frameworks/celery")).parent)
    stage.environment["PATH"] = os.pathsep.join((binaries, stage.environment["PATH"]))
    stage.environment["CELERY_PLACE"] = str(stage.place)
    stage.environment["OTEL_BSP_SCHEDULE_DELAY"] = "60000"  # so that spans are there at the end, or lost
    for name in ("queue", "results"):
        (stage.place / name).mkdir()
    return stage


def working(stage: Stage, *options: str) -> AbstractContextManager[subprocess.Popen[bytes]]:
    """A worker under `opentelemetry-instrument`."""
    binaries = Path(stage.environment["PATH"].partition(os.pathsep)[0])
    command = [str(binaries / "opentelemetry-instrument"), "celery", *WORKER, *options]
    return running(command, stage.place / "said", lambda: True, stage.environment)


def send(stage: Stage, count: int) -> int:
    """Have so many tasks done, by a process that has no callspan; the number of processes that did them."""
    python = str(Path(stage.environment["PATH"].partition(os.pathsep)[0]) / "python")
    done = stage.run(python, "-c", SEND, str(count))
    assert done.returncode == 0, f"{done.stderr}\nthe worker said:\n{(stage.place / 'said').read_text()}"
    return int(done.stdout)


def end(stage: Stage, worker: subprocess.Popen[bytes], signal_number: int) -> str:
    """Have the worker end as a signal asks it to; what it said."""
    worker.send_signal(signal_number)
    try:
        worker.wait(150)
    except subprocess.TimeoutExpired:
        shown = ["ps", "-o", "pid,ppid,stat,wchan,etime,args", "-g", str(worker.pid)]
        left = subprocess.run(shown, capture_output=True, text=True, check=False).stdout
        pytest.fail(f"it goes on:\n{left}\nit said:\n{(stage.place / 'said').read_text()}")
    return (stage.place / "said").read_text()


@pytest.mark.parametrize(
    ("signal_number", "options", "fewest"),
    [(signal.SIGTERM, (), 1), (signal.SIGQUIT, (), 1), (signal.SIGTERM, ("--max-tasks-per-child", "2"), 4)],
    ids=["warm", "cold", "replaced after two tasks"],
)
def test_workers_send_what_they_recorded_when_they_end(
    stage: Stage, signal_number: int, options: tuple[str, ...], fewest: int
) -> None:
    with working(stage, *options) as worker:
        assert send(stage, 8) >= fewest
        output = end(stage, worker, signal_number)
    assert len(stage.calls()) == 16, output
    assert len(stage.receiver.wait_for(16)) == 16, output
    assert len({span.span_id for span in stage.spans}) == 16


def test_records_of_workers_survive_kill_9(stage: Stage) -> None:
    with working(stage) as worker:
        send(stage, 6)
        os.killpg(worker.pid, signal.SIGKILL)
        worker.wait(30)
    assert len(stage.calls_of_the_killed(12)) == 12
