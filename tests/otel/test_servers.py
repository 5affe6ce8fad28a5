"""Servers with several workers under `opentelemetry-instrument`: every span arrives, every record is kept.

They are run for real as processes of their own, ended normally, by SIGTERM and by `kill -9`.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time

import pytest

from tests.otel.launching import Served, Stage

UVICORN = ("opentelemetry-instrument", "uvicorn", "web:app", "--port", "{port}", "--workers", "2")
GUNICORN = (
    "opentelemetry-instrument", "gunicorn", "wsgi:application", "--bind", "127.0.0.1:{port}", "--workers", "2",
    "--preload",
)  # fmt: skip

UVICORN_WORKERS = (
    "opentelemetry-instrument", "gunicorn", "web:app", "--bind", "127.0.0.1:{port}", "--workers", "2",
    "--worker-class", "uvicorn.workers.UvicornWorker",
)  # fmt: skip


def processes(server: Served, path: str, wanted: int) -> set[str]:
    """Ask until so many workers have answered, or for a while."""
    seen: set[str] = set()
    deadline = time.monotonic() + 15
    while len(seen) < wanted and time.monotonic() < deadline:
        seen.update(server.get_all([path] * 8))
    return seen


@pytest.mark.parametrize("signal_number", [signal.SIGTERM, signal.SIGINT])
def test_uvicorn_workers_send_what_they_recorded_when_they_end(stage: Stage, signal_number: int) -> None:
    with stage.serving(*UVICORN) as server:
        assert len(processes(server, "/process", 2)) == 2
        paths = [f"/plain?question={number}" for number in range(12)]
        answers = server.get_all([*paths, *[path.replace("plain", "stream") for path in paths]])
        assert all("Hello" in answer for answer in answers)
        output = server.stop(signal_number)
    assert len(stage.spans) == len(stage.calls()) == 24, output


def test_spans_of_streamed_web_answers_lie_under_the_request_that_caused_them(stage: Stage) -> None:
    """The stream is read after the request's own span has ended, in a task of the server."""
    with stage.serving(*UVICORN[:-2]) as server:
        assert server.get_all(["/stream?question=a", "/plain?question=b"])
        output = server.stop()
    spans = {span.span_id: span for span in stage.receiver.spans}
    parents = {spans[span.parent_id or ""].name: span for span in stage.spans}
    assert set(parents) == {"GET /stream", "GET /plain"}, output
    streamed = parents["GET /stream"]
    assert streamed.attributes["callspan.stream.end"] == "complete"
    assert "Failed to detach" not in output


@pytest.mark.parametrize("signal_number", [signal.SIGTERM, signal.SIGINT])
def test_preloaded_gunicorn_workers_send_what_they_recorded_when_they_end(stage: Stage, signal_number: int) -> None:
    with stage.serving(*GUNICORN) as server:
        assert len(processes(server, "/process", 2)) == 2
        workers = server.get_all([f"/ask?{number}" for number in range(16)])
        output = server.stop(signal_number)
    assert workers
    assert len(stage.spans) == len(stage.calls()) == 16, output


@pytest.mark.parametrize("more", [(), ("--preload",)], ids=["", "preload"])
def test_workers_of_uvicorn_under_gunicorn_lose_nothing_at_a_reload_and_at_the_end(
    stage: Stage, more: tuple[str, ...]
) -> None:
    """They reset SIGTERM after the fork, and raise it again after their own clean-up."""
    with stage.serving(*UVICORN_WORKERS, *more) as server:
        first = processes(server, "/process", 2)
        paths = [f"/plain?question={number}" for number in range(10)]
        server.get_all([*paths, *[path.replace("plain", "stream") for path in paths]])
        server.process.send_signal(signal.SIGHUP)
        wait_for_others(server, first)
        server.get_all(paths)
        output = server.stop()
    assert len(stage.spans) == len(stage.calls()) == 30, output


def wait_for_others(server: Served, first: set[str]) -> None:
    """Return when two other workers answer. Those that end reset connections."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            seen = processes(server, "/process", 2)
            if len(seen) == 2 and not first & seen:
                return
        time.sleep(0.1)


def test_three_workers_of_a_master_that_has_made_a_call_itself_lose_nothing(stage: Stage) -> None:
    """The spool and the batches of spans are in use when the server forks."""
    command = (*GUNICORN[:2], "wsgi_preloaded:application", *GUNICORN[3:])
    with stage.serving(*(word.replace("2", "3") if word == "2" else word for word in command)) as server:
        assert len(processes(server, "/process", 3)) == 3
        server.get_all([f"/ask?{number}" for number in range(30)])
        output = server.stop()
    spans = stage.receiver.wait_for(31)
    assert len({span.span_id for span in spans}) == len(spans) == 31, output
    calls = stage.calls()
    assert {call.span_id for call in calls} == {span.span_id for span in spans}
    assert len({call.pid for call in calls}) > 1


def test_workers_that_are_replaced_after_some_requests_lose_nothing(stage: Stage) -> None:
    with stage.serving(*GUNICORN, "--max-requests", "4") as server:
        for _ in range(5):
            server.get_all([f"/ask?{number}" for number in range(4)])
        output = server.stop()
    assert len(stage.receiver.wait_for(20)) == len(stage.calls()) == 20, output


@pytest.mark.parametrize("command", [UVICORN, GUNICORN], ids=["uvicorn", "gunicorn"])
def test_callspan_run_is_enough_around_a_server(stage: Stage, command: tuple[str, ...]) -> None:
    path = "/plain?question=" if command is UVICORN else "/ask?"
    with stage.serving("callspan", "--store", stage.store, "run", *command[1:]) as server:
        server.get_all([f"{path}{number}" for number in range(10)])
        output = server.stop()
    assert len(stage.spans) == len(stage.calls()) == 10, output


def test_a_browser_that_disconnects_leaves_a_cancelled_call_and_no_error(stage: Stage) -> None:
    stage.provider.reply(text="word " * 400, chunk_delay_s=0.01)
    with stage.serving(*UVICORN[:-2]) as server:
        address = server.url.removeprefix("http://").partition(":")
        with socket.create_connection((address[0], int(address[2])), 20) as browser:
            browser.sendall(b"GET /stream?question=a HTTP/1.1\r\nHost: here\r\n\r\n")
            while b"word" not in browser.recv(4096):
                pass
        assert server.get("/plain?question=b")
        output = server.stop()
    assert {span.attributes["callspan.outcome"] for span in stage.spans} == {"cancelled", "success"}, output
    assert sorted(call.outcome for call in stage.calls()) == ["cancelled", "success"]
    assert "Failed to detach" not in output
    assert "was created in a different Context" not in output


@pytest.mark.parametrize("command", [UVICORN, GUNICORN], ids=["uvicorn", "gunicorn"])
def test_records_of_workers_survive_kill_9(stage: Stage, command: tuple[str, ...]) -> None:
    path = "/plain?question=" if command is UVICORN else "/ask?"
    with stage.serving(*command) as server:
        server.get_all([f"{path}{number}" for number in range(10)])
        os.killpg(server.process.pid, signal.SIGKILL)
        server.process.wait(timeout=10)
        assert len(stage.calls_of_the_killed(10)) == 10
