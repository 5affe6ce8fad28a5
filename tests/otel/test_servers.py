"""Servers and Celery's workers under `opentelemetry-instrument`: every span arrives, every record is kept.

They are run for real as processes of their own, ended normally, by SIGTERM and by `kill -9`.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Final, NamedTuple

import pytest
from tests.support.launching import Served, Stage, python_of, running

pytestmark = [pytest.mark.timeout(300)]


class Server(NamedTuple):
    """A server with workers, and what it is asked."""

    command: tuple[str, ...]
    paths: tuple[str, ...]
    is_calling: bool = False
    """Whether the master makes a call before it forks: the spool and the batches of spans are in use then."""

    def ask(self, server: Served, count: int) -> list[str]:
        """Ask each path so many times at once; one call each."""
        return server.get_all([f"{path}{number}" for path in self.paths for number in range(count)])


def gunicorn(app: str, *options: str) -> tuple[str, ...]:
    server = ("opentelemetry-instrument", "gunicorn", app, "--bind", "127.0.0.1:{port}")
    return (*server, "--workers", "2", *options)


UVICORN_ALONE: Final = ("opentelemetry-instrument", "uvicorn", "web:app", "--port", "{port}")
WEB, WSGI = ("/plain?question=", "/stream?question="), ("/ask?",)
UVICORN = Server((*UVICORN_ALONE, "--workers", "2"), WEB)
GUNICORN = Server(gunicorn("wsgi:application", "--preload"), WSGI)
REPLACING = GUNICORN._replace(command=(*GUNICORN.command, "--max-requests", "4"))
CALLING = GUNICORN._replace(is_calling=True)
of_either = pytest.mark.parametrize("server", [UVICORN, GUNICORN], ids=["uvicorn", "gunicorn"])


def processes(served: Served, wanted: int) -> set[str]:
    """Ask until so many workers have answered, or for a while."""
    seen: set[str] = set()
    deadline = time.monotonic() + 15
    while len(seen) < wanted and time.monotonic() < deadline:
        seen.update(served.get_all(["/process"] * 8))
    return seen


@pytest.mark.parametrize(
    ("server", "signal_number"),
    [
        pytest.param(UVICORN, signal.SIGTERM, id="uvicorn SIGTERM"),
        pytest.param(UVICORN, signal.SIGINT, id="uvicorn SIGINT"),
        pytest.param(GUNICORN, signal.SIGTERM, id="gunicorn SIGTERM"),
        pytest.param(GUNICORN, signal.SIGINT, id="gunicorn SIGINT"),
        pytest.param(REPLACING, signal.SIGTERM, id="workers replaced after some requests"),
        pytest.param(CALLING, signal.SIGTERM, id="a master that has made a call"),
    ],
)
def test_workers_send_what_they_recorded_when_they_end(stage: Stage, server: Server, signal_number: int) -> None:
    expected = 16 * len(server.paths) + server.is_calling
    with stage.serving(*server.command, **({"ASK_FIRST": "yes"} if server.is_calling else {})) as served:
        assert len(processes(served, 2)) >= 2
        for _ in range(4):
            assert all(server.ask(served, 4))
        output = served.stop(signal_number)
    stage.receiver.wait_for(expected)
    spans, calls = stage.spans, stage.calls()
    assert len({span.span_id for span in spans}) == len(spans) == len(calls) == expected, output
    assert {call.span_id for call in calls} == {span.span_id for span in spans}, output


def test_spans_of_streamed_web_answers_lie_under_the_request_that_caused_them(stage: Stage) -> None:
    """The stream is read after the request's own span has ended, in a task of the server."""
    with stage.serving(*UVICORN_ALONE) as served:
        assert UVICORN.ask(served, 1)
        output = served.stop()
    spans = {span.span_id: span for span in stage.receiver.spans}
    parents = {spans[span.parent_id or ""].name: span for span in stage.spans}
    assert set(parents) == {"GET /stream", "GET /plain"}, output
    assert parents["GET /stream"].attributes["callspan.stream.end"] == "complete"
    assert "Failed to detach" not in output


@pytest.mark.parametrize("more", [(), ("--preload",)], ids=["", "preload"])
def test_workers_of_uvicorn_under_gunicorn_lose_nothing_at_a_reload_and_at_the_end(
    stage: Stage, more: tuple[str, ...]
) -> None:
    """They reset SIGTERM after the fork, and raise it again after their own clean-up."""
    with stage.serving(*gunicorn("web:app", "--worker-class", "uvicorn.workers.UvicornWorker", *more)) as served:
        first = processes(served, 2)
        UVICORN.ask(served, 10)
        served.process.send_signal(signal.SIGHUP)
        wait_for_others(served, first)
        UVICORN.ask(served, 5)
        output = served.stop()
    assert len(stage.spans) == len(stage.calls()) == 30, output


def wait_for_others(served: Served, first: set[str]) -> None:
    """Return when two other workers answer. Those that end reset connections."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            seen = processes(served, 2)
            if len(seen) == 2 and not first & seen:
                return
        time.sleep(0.1)


@of_either
def test_callspan_run_is_enough_around_a_server(stage: Stage, server: Server) -> None:
    with stage.serving("callspan", "--store", stage.store, "run", *server.command[1:]) as served:
        asked = server.ask(served, 10)
        output = served.stop()
    assert len(stage.spans) == len(stage.calls()) == len(asked), output


def test_a_browser_that_disconnects_leaves_a_cancelled_call_and_no_error(stage: Stage) -> None:
    stage.provider.reply(text="word " * 400, chunk_delay_s=0.01)
    with stage.serving(*UVICORN_ALONE) as served:
        served.leave(b"GET /stream?question=a HTTP/1.1\r\nHost: here\r\n\r\n")
        assert served.get("/plain?question=b")
        output = served.stop()
    assert {span.attributes["callspan.outcome"] for span in stage.spans} == {"cancelled", "success"}, output
    assert sorted(call.outcome for call in stage.calls()) == ["cancelled", "success"]
    assert "Failed to detach" not in output
    assert "was created in a different Context" not in output


@of_either
def test_records_of_workers_survive_kill_9(stage: Stage, server: Server) -> None:
    with stage.serving(*server.command) as served:
        asked = server.ask(served, 10)
        os.killpg(served.process.pid, signal.SIGKILL)
        served.process.wait(timeout=10)
        assert len(stage.calls_of_the_killed(len(asked))) == len(asked)


CELERY: Final = (
    "opentelemetry-instrument", "celery", "-A", "celery_app", "worker", "--pool", "prefork", "--concurrency", "2",
    "--loglevel", "WARNING",
)  # fmt: skip
SEND: Final = "import sys, celery_app; print(len(celery_app.send(int(sys.argv[1]))))"


class Celery:
    """Celery's environment for a stage, its worker and what that has said."""

    def __init__(self, stage: Stage, *options: str) -> None:
        self._stage, self._said = stage, stage.place / "said"
        self._binaries = Path(python_of("frameworks/celery")).parent
        stage.environment["PATH"] = os.pathsep.join((str(self._binaries), stage.environment["PATH"]))
        stage.environment["CELERY_PLACE"] = str(stage.place)
        stage.environment["OTEL_BSP_SCHEDULE_DELAY"] = "60000"  # so that spans are there at the end, or lost
        for name in ("queue", "results"):
            (stage.place / name).mkdir()
        command = [str(self._binaries / CELERY[0]), *CELERY[1:], *options]
        self.working = running(command, self._said, lambda: True, stage.environment)

    def send(self, count: int) -> int:
        """Have so many tasks done, by a process that has no callspan; the number of processes that did them."""
        done = self._stage.run(str(self._binaries / "python"), "-c", SEND, str(count))
        assert done.returncode == 0, f"{done.stderr}\nthe worker said:\n{self._said.read_text()}"
        return int(done.stdout)

    def end(self, worker: subprocess.Popen[bytes], signal_number: int) -> str:
        """Have the worker end as a signal asks it to; what it said."""
        worker.send_signal(signal_number)
        try:
            worker.wait(150)
        except subprocess.TimeoutExpired:
            pytest.fail(f"it goes on; it said:\n{self._said.read_text()}")
        return self._said.read_text()


@pytest.mark.parametrize(
    ("signal_number", "options", "fewest"),
    [(signal.SIGTERM, (), 1), (signal.SIGQUIT, (), 1), (signal.SIGTERM, ("--max-tasks-per-child", "2"), 4)],
    ids=["warm", "cold", "replaced after two tasks"],
)
def test_workers_of_celery_send_what_they_recorded_when_they_end(
    stage: Stage, signal_number: int, options: tuple[str, ...], fewest: int
) -> None:
    celery = Celery(stage, *options)
    with celery.working as worker:
        assert celery.send(8) >= fewest
        output = celery.end(worker, signal_number)
    assert len(stage.calls()) == 16, output
    assert len(stage.receiver.wait_for(16)) == 16, output
    assert len({span.span_id for span in stage.spans}) == 16


def test_records_of_workers_of_celery_survive_kill_9(stage: Stage) -> None:
    celery = Celery(stage)
    with celery.working as worker:
        celery.send(6)
        os.killpg(worker.pid, signal.SIGKILL)
        worker.wait(30)
    assert len(stage.calls_of_the_killed(12)) == 12
