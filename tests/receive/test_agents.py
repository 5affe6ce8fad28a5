"""The receiver for agents of this process: what an agent is told, whose settings win, what killed ones leave."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from tests.conftest import Instrument
from tests.receive.conftest import (
    ELSEWHERE,
    SILENT,
    TELEMETRY,
    WIRING,
    AgentReceiver,
    Kept,
    Place,
    Sender,
    StartedAgent,
    left_files,
    logs,
    record_all_left,
    recorded,
)
from tests.support.rig import until
from tests.support.waiting import HANG_S

import callspan
from callspan.records import CallRecord, SessionRecord

SENDER = Sender(place=Place(session_id="ours"))


class Agents:
    """A receiver, what it wrote, and what it counted as not recorded."""

    def __init__(self, root: Path | None) -> None:
        self.written: list[Any] = []
        self.unrecorded: list[str] = []
        self.receiver = AgentReceiver(self._write, lambda record, _: record)
        self.receiver.unrecorded = self.unrecorded.append
        self.receiver.root = root

    def _write(self, record: Any, _level: str) -> bool:
        self.written.append(record)
        return True

    def start(self, sender: Sender = SENDER, **environment: str) -> StartedAgent:
        agent = self.receiver.start_agent(environment, sender)
        assert agent is not None
        return agent

    def end(self, agent: StartedAgent) -> None:
        self.receiver._end_agent(agent.token or "")

    @property
    def calls(self) -> list[CallRecord]:
        return [record for record in self.written if isinstance(record, CallRecord)]


def send(agent: StartedAgent, events: list[dict[str, Any]]) -> int:
    url = urlsplit(agent.variables["OTEL_EXPORTER_OTLP_LOGS_ENDPOINT"])
    connection = HTTPConnection(url.netloc)
    connection.request("POST", url.path, json.dumps(logs(events)), {"content-type": "application/json"})
    status = connection.getresponse().status
    connection.close()
    return status


@pytest.fixture
def agents(tmp_path: Path) -> Iterator[Agents]:
    running = Agents(tmp_path)
    yield running
    running.receiver.close()


def directory_of(agent: StartedAgent) -> Path:
    return Path(agent.variables["OTEL_LOG_RAW_API_BODIES"].removeprefix("file:"))


def leave(directory: Path, *, answered: int, waiting: int) -> None:
    """Leave files as the program does."""
    bodies = [
        event["body"] for events in recorded("tools") for event in events if event["event.name"] == "api_request_body"
    ]
    answers = [
        event["body"] for events in recorded("tools") for event in events if event["event.name"] == "api_response_body"
    ]
    lines = []
    for number in range(answered + waiting):
        body = json.dumps({**json.loads(bodies[0]), "number": min(number, answered)})
        (directory / f"b{number}.request.json").write_text(body)
        if number < answered:
            (directory / f"req_{number}.response.json").write_text(answers[0])
            files = {"request_file": f"b{number}.request.json", "response_file": f"req_{number}.response.json"}
            said = {"request_id": f"req_{number}", "session_id": "s", "model": "m", "query_source": "sdk"}
            lines.append(said | files)
    (directory / "index.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))


def test_each_agent_sends_to_an_address_of_its_own(agents: Agents) -> None:
    first, second = agents.start(), agents.start(Sender(place=Place(session_id="other")))
    ports = {urlsplit(agent.variables["OTEL_EXPORTER_OTLP_LOGS_ENDPOINT"]).port for agent in (first, second)}
    assert len(ports) == 1
    assert 4318 not in ports
    for agent, sessions in ((first, {"ours"}), (second, {"ours", "other"})):
        for events in recorded("tools"):
            assert (
                send(
                    agent,
                    [{**event, "request_id": event.get("request_id", "") + (agent.token or "")} for event in events],
                )
                == 200
            )
        assert {call.place.session_id for call in agents.calls} == sessions


def test_only_full_content_is_asked_for_and_lies_in_files(agents: Agents) -> None:
    full = agents.start()
    directory = directory_of(full)
    assert directory.is_dir()
    for level in ("metadata", "off"):
        bare = agents.start(Sender(level=level), OTEL_LOG_RAW_API_BODIES="1")
        content = {name: said for name, said in bare.variables.items() if name.startswith("OTEL_LOG_")}
        assert set(content.values()) == {"0"}
    agents.receiver.has_body_files = False  # with a redactor
    assert agents.start().variables["OTEL_LOG_RAW_API_BODIES"] == "1"
    for part in (directory, directory.parent, directory.parent.parent):
        assert part.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(("receive", "redacts", "has_files"), [
    (True, False, True), (True, True, False), ("files", True, True), ("files", False, True), (False, False, None),
])  # fmt: skip
def test_with_a_redactor_files_are_asked_for(
    instrumented: Instrument, store: str, receive: bool | str, redacts: bool, has_files: bool | None
) -> None:
    instrumented(stores=store, sdks=(), receive=receive, redact=(lambda record: record) if redacts else None)
    make_agents = WIRING.hook_context.agents
    assert (make_agents and make_agents().has_body_files) is has_files


def test_settings_of_others_win(agents: Agents) -> None:
    for value in ("0", "1"):
        agent = agents.start(**{TELEMETRY: value})
        assert (agent.token, dict(agent.variables)) == (None, {"OTEL_RESOURCE_ATTRIBUTES": "callspan.session.id=ours"})
    assert agents.unrecorded == [ELSEWHERE % "claude"] * 2


def test_an_agent_that_sent_nothing_is_counted(agents: Agents) -> None:
    agent = agents.start()
    agents.end(agent)
    assert agents.unrecorded == [SILENT % "claude"]
    heard = agents.start()
    send(heard, recorded("tools")[0])
    agents.end(heard)
    assert agents.unrecorded == [SILENT % "claude"]


def test_a_resource_attribute_names_the_session(agents: Agents, kept: Kept) -> None:
    """Whoever receives, and whatever trace the application has."""
    odd = Sender(place=Place(session_id="a, b=c"))
    attributes = agents.start(odd, OTEL_RESOURCE_ATTRIBUTES="team=x").variables["OTEL_RESOURCE_ATTRIBUTES"]
    assert attributes == "team=x,callspan.session.id=a%2C%20b%3Dc"
    assert "OTEL_RESOURCE_ATTRIBUTES" not in agents.start(Sender()).variables
    for events in recorded("tools"):
        request = logs(events)
        session = {"key": "callspan.session.id", "value": {"stringValue": "ours"}}
        request["resourceLogs"][0]["resource"]["attributes"].append(session)
        kept.take(request)
    assert {call.place.session_id for call in kept.calls.values()} == {"ours"}
    assert kept.of(SessionRecord) == [], "its own process writes it"


def test_loopback_passes_no_proxy(agents: Agents) -> None:
    assert "no_proxy" not in agents.start().variables
    assert agents.start(HTTP_PROXY="http://p", no_proxy="a").variables["no_proxy"] == "a,127.0.0.1"


def test_files_of_an_ended_agent_are_read_and_deleted(agents: Agents) -> None:
    """It was killed before it reported the last calls. Three attempts with one body are one call."""
    agent = agents.start()
    directory = directory_of(agent)
    leave(directory, answered=2, waiting=3)
    agents.end(agent)
    assert [call.outcome for call in agents.calls] == ["success", "success", "interrupted"]
    assert [call.retries for call in agents.calls] == [0, 0, 2]
    assert {call.place.session_id for call in agents.calls} == {"ours"}
    assert not directory.exists()


def test_files_of_a_killed_process_are_read_by_the_next_one(tmp_path: Path) -> None:
    pid = os.fork()
    if pid == 0:
        killed = Agents(tmp_path)
        leave(directory_of(killed.start()), answered=1, waiting=1)
        os.kill(os.getpid(), 9)
    os.waitpid(pid, 0)
    first = Agents(tmp_path)
    begun = threading.Event()
    first.receiver._write = lambda record, level: begun.wait(HANG_S) and first._write(record, level)
    first.start()
    begun.set()  # starting an agent does not wait for what others left
    until(lambda: len(first.calls) == 2)
    assert [call.outcome for call in first.calls] == ["success", "interrupted"]
    again = Agents(tmp_path)
    again.start()
    first.receiver.close()
    again.receiver.close()
    assert again.calls == [], "those of a running process are its own"
    assert list((tmp_path / "agents").iterdir()) == []


def test_what_others_left_is_not_read_beyond_the_close(tmp_path: Path) -> None:
    """Its stores may be others by then."""
    for number in range(3):
        directory = tmp_path / "agents" / f"9-{number}"
        directory.mkdir(parents=True)
    receiver = Agents(tmp_path)
    receiver.start()
    receiver.receiver.close()
    assert list((tmp_path / "agents").iterdir()) == []
    left = tmp_path / "agents" / "9-4"
    left.mkdir()
    record_all_left(tmp_path, receiver._write, lambda: False)
    assert left.is_dir()


@pytest.mark.parametrize("session", ["ours", "other"])
def test_what_killed_processes_left_of_an_erased_session_is_deleted(
    tmp_path: Path, instrumented: Instrument, session: str
) -> None:
    """Bodies in files, and a request that waits. Those of another session stay."""
    store = f"sqlite:///{tmp_path}/c.db"
    handle = instrumented(stores=store, sdks=())
    for name in ("ours", "other"):
        with callspan.session(session_id=name):
            pass
    assert handle.force_flush()
    root = tmp_path / "c.db.spool"
    pid = os.fork()
    if pid == 0:
        killed = Agents(root)
        agent = killed.start()
        leave(directory_of(agent), answered=1, waiting=2)
        request = [event for event in recorded("tools")[1] if event["event.name"] == "api_request_body"]
        send(agent, request)
        os.kill(os.getpid(), 9)
    os.waitpid(pid, 0)
    (directory,) = (root / "agents").iterdir()
    assert len(list(left_files(directory))) == 5
    assert callspan.erase(store, sessions=session).is_complete
    assert len(list(left_files(directory))) == (0 if session == "ours" else 5)


def test_a_forked_child_has_a_receiver_of_its_own(agents: Agents) -> None:
    first = agents.start()
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.write(write, agents.start().variables["OTEL_EXPORTER_OTLP_LOGS_ENDPOINT"].encode())
        finally:
            os._exit(0)
    other = os.read(read, 1000).decode()
    os.waitpid(pid, 0)
    assert urlsplit(other).port != urlsplit(first.variables["OTEL_EXPORTER_OTLP_LOGS_ENDPOINT"]).port
    until(lambda: send(first, recorded("tools")[0]) == 200)
    for descriptor in (read, write):
        os.close(descriptor)


def test_agent_keeps_its_token_however_many_others_run_and_end(tmp_path: Path) -> None:
    """What an agent has left running may send for a while after its end."""
    agents = Agents(tmp_path)
    first = agents.start()
    others = [agents.start() for _ in range(300)]
    server = agents.receiver._running()
    for agent in others:
        agents.end(agent)
    kept = [agent for agent in (first, *others) if server.sender_of(agent.token or "")]
    agents.receiver.close()
    assert (kept[0], len(kept)) == (first, 257)
