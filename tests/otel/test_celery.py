"""Celery's prefork workers, run for real in an environment of their own."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.otel.launching import Stage, python_of

pytestmark = [pytest.mark.timeout(300)]

WORKER = ("-A", "celery_app", "worker", "--pool", "prefork", "--concurrency", "2", "--loglevel", "WARNING")
SEND = "import sys, celery_app; print(len(celery_app.send(int(sys.argv[1]))))"


@pytest.fixture
def stage(stage: Stage) -> Stage:
    """The stage, with Celery's environment first on the path."""
    binaries = str(Path(python_of(".venv-frameworks/celery", "python tools/environments.py frameworks")).parent)
    stage.environment["PATH"] = os.pathsep.join((binaries, stage.environment["PATH"]))
    stage.environment["CELERY_PLACE"] = str(stage.place)
    stage.environment["OTEL_BSP_SCHEDULE_DELAY"] = "60000"  # so that spans are there at the end, or lost
    for name in ("queue", "results"):
        (stage.place / name).mkdir()
    return stage


@contextmanager
def working(stage: Stage, *options: str) -> Iterator[subprocess.Popen[str]]:
    """A worker under `opentelemetry-instrument` with a process group of its own."""
    binaries = Path(stage.environment["PATH"].partition(os.pathsep)[0])
    with (stage.place / "said").open("w") as log:
        worker = subprocess.Popen(
            [str(binaries / "opentelemetry-instrument"), "celery", *WORKER, *options],
            env=stage.environment, cwd=stage.place, start_new_session=True, text=True, stdout=log, stderr=log,
        )  # fmt: skip
    try:
        yield worker
    finally:
        if worker.poll() is None:
            os.killpg(worker.pid, signal.SIGKILL)
        worker.wait(30)


def send(stage: Stage, count: int) -> int:
    """Have so many tasks done, by a process that has no callspan; the number of processes that did them."""
    python = str(Path(stage.environment["PATH"].partition(os.pathsep)[0]) / "python")
    done = stage.run(python, "-c", SEND, str(count))
    assert done.returncode == 0, f"{done.stderr}\nthe worker said:\n{(stage.place / 'said').read_text()}"
    return int(done.stdout)


def end(stage: Stage, worker: subprocess.Popen[str], signal_number: int) -> str:
    """Have the worker end as a signal asks it to; what it said."""
    worker.send_signal(signal_number)
    try:
        worker.wait(150)
    except subprocess.TimeoutExpired:
        shown = ["ps", "-o", "pid,ppid,stat,wchan,etime,args", "-g", str(worker.pid)]
        left = subprocess.run(shown, capture_output=True, text=True, check=False).stdout
        pytest.fail(f"it goes on:\n{left}\nit said:\n{(stage.place / 'said').read_text()}")
    return (stage.place / "said").read_text()


@pytest.mark.parametrize("signal_number", [signal.SIGTERM, signal.SIGQUIT], ids=["warm", "cold"])
def test_workers_send_what_they_recorded_when_they_end(stage: Stage, signal_number: int) -> None:
    with working(stage) as worker:
        assert send(stage, 8) in (1, 2)
        output = end(stage, worker, signal_number)
    assert len(stage.calls()) == 16, output
    assert len(stage.receiver.wait_for(16)) == 16, output
    assert len({span.span_id for span in stage.spans}) == 16


def test_workers_replaced_after_a_few_tasks_lose_nothing(stage: Stage) -> None:
    with working(stage, "--max-tasks-per-child", "2") as worker:
        assert send(stage, 8) >= 4, "two tasks each"
        output = end(stage, worker, signal.SIGTERM)
    assert len(stage.calls()) == 16, output
    assert len(stage.receiver.wait_for(16)) == 16, output


def test_records_of_workers_survive_kill_9(stage: Stage) -> None:
    with working(stage) as worker:
        send(stage, 6)
        os.killpg(worker.pid, signal.SIGKILL)
        worker.wait(30)
    assert len(stage.calls_of_the_killed(12)) == 12
