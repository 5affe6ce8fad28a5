"""Servers with several workers under `opentelemetry-instrument`: every span arrives, every record is kept.

They are run for real as processes of their own, ended normally, by SIGTERM and by `kill -9`.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from typing import Final, NamedTuple

import pytest

from tests.support.launching import Served, Stage


class Server(NamedTuple):
    """A server with workers, and what it is asked."""

    command: tuple[str, ...]
    paths: tuple[str, ...]
    workers: int = 2
    earlier: int = 0
    """Calls that the master makes before it forks: the spool and the batches of spans are in use then."""

    def ask(self, server: Served, count: int) -> list[str]:
        """Ask each path so many times at once; one call each."""
        return server.get_all([f"{path}{number}" for path in self.paths for number in range(count)])


def gunicorn(app: str, *options: str, workers: int = 2) -> tuple[str, ...]:
    server = ("opentelemetry-instrument", "gunicorn", app, "--bind", "127.0.0.1:{port}")
    return (*server, "--workers", str(workers), *options)


UVICORN_ALONE: Final = ("opentelemetry-instrument", "uvicorn", "web:app", "--port", "{port}")
WEB, WSGI = ("/plain?question=", "/stream?question="), ("/ask?",)
UVICORN = Server((*UVICORN_ALONE, "--workers", "2"), WEB)
GUNICORN = Server(gunicorn("wsgi:application", "--preload"), WSGI)
REPLACING = GUNICORN._replace(command=(*GUNICORN.command, "--max-requests", "4"))
CALLING = Server(gunicorn("wsgi_preloaded:application", "--preload", workers=3), WSGI, workers=3, earlier=1)
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
    expected = 16 * len(server.paths) + server.earlier
    with stage.serving(*server.command) as served:
        assert len(processes(served, server.workers)) >= server.workers
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
