"""Servers and Celery's workers: every span arrives and every record is kept, and what those ask who look after one."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest
from tests.support.launching import Served, Stage, python_of, running
from tests.support.pages import examples
from tests.support.processes import ROOT
from tests.support.records import SECOND, keep, session
from tests.support.waiting import HANG_S, until

from callspan.testing import ScriptedProvider


class Server(NamedTuple):
    """A server with workers, and what it is asked."""

    command: tuple[str, ...]
    paths: tuple[str, ...]
    environment: Mapping[str, str] = {}

    def ask(self, server: Served, count: int) -> list[str]:
        """Ask each path so many times at once; one call each."""
        return server.get_all([f"{path}{number}" for path in self.paths for number in range(count)])


def gunicorn(app: str, *options: str) -> tuple[str, ...]:
    server = ("opentelemetry-instrument", "gunicorn", app, "--bind", "127.0.0.1:{port}")
    return (*server, "--workers", "2", *options)


UVICORN_ALONE: Final = ("opentelemetry-instrument", "uvicorn", "web:app", "--port", "{port}")
WEB, WSGI = ("/plain?question=", "/stream?question="), ("/ask?",)
UVICORN = Server((*UVICORN_ALONE, "--workers", "2"), WEB)
GUNICORN = Server(gunicorn("web:application", "--preload"), WSGI)
REPLACING = GUNICORN._replace(command=(*GUNICORN.command, "--max-requests", "4"))
CALLING = GUNICORN._replace(environment={"ASK_FIRST": "yes"})
"""The master makes a call before it forks: the spool and the batches of spans are in use then."""
IN_CODE = UVICORN._replace(command=UVICORN.command[1:], environment={"INSTRUMENT": "yes"})
"""Each worker loads the application, which turns callspan on, when it has set its signal handlers."""
of_either = pytest.mark.parametrize("server", [UVICORN, GUNICORN], ids=["uvicorn", "gunicorn"])


def processes(served: Served) -> set[str]:
    """Ask until two workers have answered."""
    seen: set[str] = set()

    def two_answer() -> bool:
        seen.update(served.get_all(["/process"] * 8))
        return len(seen) >= 2

    until(two_answer, lambda: seen)
    return seen


@pytest.mark.parametrize(
    ("server", "signal_number"),
    [
        pytest.param(UVICORN, signal.SIGTERM, id="uvicorn SIGTERM"),
        pytest.param(UVICORN, signal.SIGINT, id="uvicorn SIGINT"),
        pytest.param(IN_CODE, signal.SIGTERM, id="uvicorn, turned on by the application"),
        pytest.param(GUNICORN, signal.SIGTERM, id="gunicorn SIGTERM"),
        pytest.param(GUNICORN, signal.SIGINT, id="gunicorn SIGINT"),
        pytest.param(REPLACING, signal.SIGTERM, id="workers replaced after some requests"),
        pytest.param(CALLING, signal.SIGTERM, id="a master that has made a call"),
    ],
)
def test_workers_send_their_records_at_exit(stage: Stage, server: Server, signal_number: int) -> None:
    expected = 16 * len(server.paths) + ("ASK_FIRST" in server.environment)
    with stage.serving(*server.command, **server.environment) as served:
        assert len(processes(served)) >= 2
        for _ in range(4):
            assert all(server.ask(served, 4))
        output = served.stop(signal_number)
    stage.receiver.wait_for(expected)
    spans, calls = stage.spans, stage.calls()
    assert len({span.span_id for span in spans}) == len(spans) == len(calls) == expected, output
    assert {call.span_id for call in calls} == {span.span_id for span in spans}, output


def test_streamed_web_answer_spans_are_children_of_the_request(stage: Stage) -> None:
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
def test_gunicorn_uvicorn_workers_lose_nothing_on_reload(stage: Stage, more: tuple[str, ...]) -> None:
    """They reset SIGTERM after the fork, and raise it again after their own clean-up."""
    with stage.serving(*gunicorn("web:app", "--worker-class", "uvicorn.workers.UvicornWorker", *more)) as served:
        first = processes(served)
        UVICORN.ask(served, 10)
        served.process.send_signal(signal.SIGHUP)
        until(lambda: others_answer(served, first))
        UVICORN.ask(served, 5)
        output = served.stop()
    assert len(stage.spans) == len(stage.calls()) == 30, output


def others_answer(served: Served, first: set[str]) -> bool:
    """Whether two other workers answer. Those that end reset connections."""
    with contextlib.suppress(OSError):
        seen = processes(served)
        return len(seen) == 2 and not first & seen
    return False


@of_either
def test_callspan_run_instruments_a_server(stage: Stage, server: Server) -> None:
    with stage.serving("callspan", "--store", stage.store, "run", *server.command[1:]) as served:
        asked = server.ask(served, 10)
        output = served.stop()
    assert len(stage.spans) == len(stage.calls()) == len(asked), output


def test_browser_disconnect_cancels_the_call_without_an_error(stage: Stage) -> None:
    stage.provider.reply(text="word " * 400, chunk_delay_s=0.01)
    with stage.serving(*UVICORN_ALONE) as served:
        served.leave("/stream?question=a")
        assert served.get("/plain?question=b")
        output = served.stop()
    assert {span.attributes["callspan.outcome"] for span in stage.spans} == {"cancelled", "success"}, output
    assert sorted(call.outcome for call in stage.calls()) == ["cancelled", "success"]
    assert "Failed to detach" not in output
    assert "was created in a different Context" not in output


@of_either
def test_worker_records_survive_kill_9(stage: Stage, server: Server) -> None:
    with stage.serving(*server.command) as served:
        asked = server.ask(served, 10)
        os.killpg(served.process.pid, signal.SIGKILL)
        served.process.wait(timeout=HANG_S)
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
            worker.wait(HANG_S)
        except subprocess.TimeoutExpired:
            pytest.fail(f"it goes on; it said:\n{self._said.read_text()}")
        return self._said.read_text()


@pytest.mark.parametrize(
    ("signal_number", "options", "fewest"),
    [(signal.SIGTERM, (), 1), (signal.SIGQUIT, (), 1), (signal.SIGTERM, ("--max-tasks-per-child", "2"), 4)],
    ids=["warm", "cold", "replaced after two tasks"],
)
def test_celery_workers_send_at_exit(stage: Stage, signal_number: int, options: tuple[str, ...], fewest: int) -> None:
    celery = Celery(stage, *options)
    with celery.working as worker:
        assert celery.send(8) >= fewest
        output = celery.end(worker, signal_number)
    assert len(stage.calls()) == 16, output
    assert len(stage.receiver.wait_for(16)) == 16, output
    assert len({span.span_id for span in stage.spans}) == 16


def test_celery_worker_records_survive_kill_9(stage: Stage) -> None:
    celery = Celery(stage)
    with celery.working as worker:
        celery.send(6)
        os.killpg(worker.pid, signal.SIGKILL)
        worker.wait(HANG_S)
    assert len(stage.calls_of_the_killed(12)) == 12


PAGE: Final = ROOT / "docs" / "fastapi.md"
WORKERS: Final = ("uvicorn", "service:app", "--port", "{port}", "--workers", "4")
SECRET: Final = "my knee hurts"


class Desk:
    """What the browsers and the support team do."""

    def __init__(self, stage: Stage, server: Served, store: str) -> None:
        self.stage, self.server, self.store = stage, server, store

    def send(self, method: str, path: str, body: object = None) -> tuple[dict[str, str], str]:
        data = None if body is None else json.dumps(body).encode()
        headers = {"content-type": "application/json"}
        request = urllib.request.Request(self.server.url + path, data=data, headers=headers, method=method)
        with urllib.request.urlopen(request, timeout=HANG_S) as response:
            return {name.lower(): value for name, value in response.headers.items()}, response.read().decode()

    def chat(self, user: str, conversation: str, text: str, tenant: str = "shop") -> str:
        """Ask as a browser does; return the id of the call."""
        asked = {"user": user, "tenant": tenant, "conversation": conversation, "text": text}
        headers, _ = self.send("POST", "/chat", asked)
        return headers["x-call-id"]

    def command(self, *arguments: str) -> str:
        """What a command prints; 1 is the exit code of one that found nothing."""
        done = self.stage.run("callspan", "--store", self.store, *arguments)
        assert done.returncode == (1 if done.stdout == "[]\n" else 0), done.stdout + done.stderr
        return done.stdout

    def rows(self, *arguments: str) -> Any:
        return json.loads(self.command(*arguments, "--json"))


def asks(text: str) -> Any:
    return lambda request: text in json.dumps(request.body)


def script(provider: ScriptedProvider) -> None:
    provider.reply(text="All is well.", input_tokens=10, output_tokens=5, repeat=True)
    provider.reply(text="I was about to", finish_reason="length", output_tokens=9, on=asks("long story"))
    provider.reply(text="word " * 400, chunk_delay_s=0.01, on=asks("impatient"))
    provider.reply(text="Dear.", input_tokens=10, output_tokens=900_000, on=asks("everything"))
    for number in range(3):
        provider.reply(status=429, headers={"retry-after-ms": "5"}, on=asks(f"storm {number}"))


def test_support_question_is_one_command(stage: Stage) -> None:
    code = next(example.code for example in examples(PAGE) if example.kind == "python")
    (stage.place / "service.py").write_text(code)
    script(stage.provider)
    store, at_ns = f"sqlite:///{stage.place / 'callspan.db'}", time.time_ns() - 40 * 86_400 * SECOND
    keep(store, session("old", seen_ns=at_ns, start_ns=at_ns, end_ns=at_ns, user_id="dan"))
    with stage.serving(*WORKERS, PYTHONPATH=str(stage.place)) as server:
        desk = Desk(stage, server, store)
        cut = desk.chat("ann", "a1", "tell a long story")
        for number in range(6):
            desk.chat("ann", "a1", f"question {number}")
        dear = desk.chat("bob", "b1", "tell me everything")
        storms = [desk.chat("bob", "b3", f"storm {number}") for number in range(3)]
        server.leave("/chat", {"user": "cid", "tenant": "shop", "conversation": "c1", "text": "impatient"})
        ill = desk.chat("cid", "c2", SECRET, tenant="clinic")
        rated = desk.chat("cid", "c3", "is it polite?")
        desk.send("POST", "/rating", {"tenant": "shop", "call_id": rated, "label": "thumbs_down", "comment": "rude"})

        def ids(*arguments: str) -> list[str]:
            return [row["call_id"] for row in desk.rows("calls", *arguments)]

        # Which answer was cut, and why? Who went away? What was the storm, when, and which calls?
        assert ids("--finish", "length") == [cut]
        assert "cut by length" in desk.command("calls", "--user", "ann")
        (gone,) = desk.rows("calls", "--status", "cancelled")
        assert (gone["user_id"], gone["session_id"]) == ("cid", "c1")
        storm = set(ids("--rate-limited"))
        assert storm == set(storms)
        # Who caused the spike? What was dear?
        spender = max(desk.rows("stats", "--by", "user"), key=lambda group: float(group["cost_usd"] or 0))
        assert spender["user_id"] == "bob"
        assert ids("--sort", "cost", "--limit", "1") == [dear]
        # What does Ann have here, what was said, in which order, and where did somebody say that?
        assert len(ids("--user", "ann")) == 7
        assert [row["session_id"] for row in desk.rows("sessions", "--user", "ann")] == ["a1"]
        assert "tell a long story" in desk.command("show", cut)
        # What did people dislike? Is the clinic's text here? Is anything lost, does anything wait?
        assert "thumbs_down" in desk.command("show", rated)
        assert ids("--label", "thumbs_down") == ids("--objective", "feedback", "--min-score", "0") == [rated]
        assert ids("--meta", "tenant=clinic") == [ill]
        assert ids("--text", SECRET) == []
        # What would go with Ann, and is it gone?
        planned = json.loads(desk.command("delete", "--user", "ann", "--dry-run", "--json"))
        assert (planned["stores"][0]["calls"], planned["stores"][0]["sessions"]) == (7, 1)
        assert json.loads(desk.send("DELETE", "/users/ann")[1]) == {"calls": 7}
        assert ids("--user", "ann") == []
        assert len(ids()) == 7
        # What was here 40 days ago is gone.
        assert desk.rows("sessions", "--user", "dan") == []
        output = server.stop()
    assert "Traceback" not in output


def test_service_under_gunicorn_continues_a_session_in_any_worker(stage: Stage) -> None:
    code = next(example.code for example in examples(PAGE) if example.kind == "python")
    (stage.place / "service.py").write_text(code)
    (words,) = (line.split() for line in PAGE.read_text().splitlines() if line.startswith("gunicorn service:app"))
    command = ["127.0.0.1:{port}" if word.startswith("127.0.0.1:") else word for word in words]
    with stage.serving(*command, PYTHONPATH=str(stage.place)) as server:
        desk = Desk(stage, server, f"sqlite:///{stage.place / 'callspan.db'}")
        asked = {desk.chat("ann", "a1", f"question {number}") for number in range(6)}
        # A worker delivers once a second.
        until(lambda: {row["call_id"] for row in desk.rows("calls", "--user", "ann")} == asked)
        assert [row["session_id"] for row in desk.rows("sessions")] == ["a1"]
        output = server.stop()
    assert "Traceback" not in output
