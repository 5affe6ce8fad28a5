"""Requests and tools that wait for more: what was acknowledged survives `kill -9`, once, and as private as a record."""

from __future__ import annotations

import json
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import Read
from tests.receive.conftest import JSON, Kept, WaitingRecords, logs, receiver, recorded, records_in

import callspan
from callspan.records import EventRecord

RUN = recorded("tools")
CANARY = "canary-91ab"


def named(name: str) -> list[dict[str, Any]]:
    return [event for events in RUN for event in events if event["event.name"] == name]


(REQUEST,) = (
    body
    for body in named("api_request_body")
    if body["request_body_id"] == named("api_response_body")[0]["request_body_id"]
)
ANSWER = [named("api_request")[0], named("api_response_body")[0]]


@pytest.fixture
def waiting(kept: Kept, tmp_path: Path) -> Path:
    kept.inbox.waiting = WaitingRecords(tmp_path / "waiting", lambda record, _: record)
    return tmp_path / "waiting"


def left(waiting: Path) -> list[Any]:
    return [record for _, record in records_in(waiting)]


def test_a_request_lies_on_disk_until_its_answer_is_written(kept: Kept, waiting: Path) -> None:
    assert kept.take(logs([REQUEST]))
    (call,) = left(waiting)
    assert (call.outcome, json.loads(bytes(call.request.body))["model"]) == ("interrupted", "claude-opus-5")
    kept.works = False
    assert not kept.take(logs(ANSWER)), "the process may be killed here"
    (named_call,) = left(waiting)
    kept.works = True
    assert kept.take(logs(ANSWER))
    (answered,) = kept.calls.values()
    assert (named_call.call_id, answered.outcome) == (answered.call_id, "success"), "versions of one record"
    assert left(waiting) == []
    kept.inbox.close()
    assert len(kept.calls) == 1


def test_an_attempt_lies_on_disk_as_a_version_of_its_call(kept: Kept, waiting: Path) -> None:
    """It may be an equal call, whose answer still comes; of many, the oldest are forgotten."""
    requests = []
    for number in range(300):
        lane = {"agent_id": f"agent {number}"}
        first, second = (REQUEST | lane | {"request_body_id": f"{name} {number}"} for name in ("first", "second"))
        ids = {"request_body_id": f"second {number}", "request_id": f"r {number}"}
        second["time_ns"] += 1
        requests.append([first, second, *(event | lane | ids for event in ANSWER)])
    assert kept.take(logs(requests[0]))
    (attempt,) = left(waiting)
    assert [attempt.call_id] == [*kept.calls]
    assert kept.take(logs([event for events in requests for event in events]))
    lying = left(waiting)
    assert (len(kept.calls), {len(call.attempts) for call in kept.calls.values()}) == (300, {2})
    assert 0 < len(lying) <= 256
    kept.versions += lying
    assert {call.outcome for call in kept.calls.values()} == {"success"}, "if the process is killed"
    kept.inbox.close()
    assert left(waiting) == []


def test_a_tool_lies_on_disk_until_its_result_is_known(kept: Kept, waiting: Path) -> None:
    for number, events in enumerate(RUN):
        assert kept.take(logs(events))
        done = {event.event_id for event in kept.of(EventRecord) if event.event_type == "tool"}
        begun = {event.event_id for event in kept.of(EventRecord) if event.event_type == "tool_start"}
        on_disk = {f"{record.event_id}-start" for record in left(waiting) if isinstance(record, EventRecord)}
        assert on_disk == begun - {f"{ident}-start" for ident in done}, number
    kept.inbox.close()
    assert left(waiting) == []


def test_nothing_is_acknowledged_that_cannot_be_put_on_disk(kept: Kept, waiting: Path) -> None:
    waiting.write_text("no directory")
    assert not kept.take(logs([REQUEST]))
    assert not kept.take(logs([REQUEST]))
    waiting.unlink()
    assert kept.take(logs([REQUEST]))
    assert len(left(waiting)) == 1


def test_half_written_file_is_skipped(kept: Kept, waiting: Path) -> None:
    assert kept.take(logs([REQUEST]))
    (file,) = waiting.iterdir()
    content = file.read_bytes()
    for size in (0, 10, len(content) - 1):
        file.write_bytes(content[:size])
        assert left(waiting) == []


def _post(url: str, events: list[dict[str, Any]]) -> int:
    connection = HTTPConnection(url.removeprefix("http://"))
    connection.request("POST", "/v1/logs", json.dumps(logs(events)), JSON)
    status = connection.getresponse().status
    connection.close()
    return status


@pytest.mark.parametrize("content", ["full", "metadata"])
def test_killed_receiver_loses_nothing_that_it_acknowledged(tmp_path: Path, reading: Read, content: str) -> None:
    store = f"sqlite:///{tmp_path}/c.db"
    body = {**REQUEST, "body": json.dumps({**json.loads(REQUEST["body"]), "user": CANARY})}
    with receiver(tmp_path, CALLSPAN_CONTENT=content) as first:
        assert (
            _post(first.url, [event for event in RUN[0] if event["event.name"] != "api_request_body"] + [body]) == 200
        )
        first.process.kill()
        first.process.wait()
    spool = tmp_path / "c.db.spool"
    files = [file.read_bytes() for file in spool.rglob("*") if file.is_file()]
    assert any(CANARY.encode() in data for data in files) == (content == "full")
    with receiver(tmp_path, CALLSPAN_CONTENT=content) as second:
        second.process.terminate()
        second.process.wait(90)
    (call,) = reading(store).calls()
    assert (call.outcome, CANARY in str(bytes(call.request.body))) == ("interrupted", content == "full")
    assert len(list((spool / "agents").rglob("*.record"))) == 1, "it still waits"
    with receiver(tmp_path, CALLSPAN_CONTENT=content) as third:
        assert _post(third.url, ANSWER) == 200
        third.process.terminate()
        third.process.wait(90)
    (answered,) = reading(store).calls()
    assert (answered.call_id, answered.outcome) == (call.call_id, "success")
    assert not list((spool / "agents").rglob("*.record"))


@pytest.mark.parametrize("how", ["terminate", "kill"])
@pytest.mark.parametrize("content", ["full", "metadata"])
def test_the_next_receiver_goes_on_with_the_call(tmp_path: Path, reading: Read, how: str, content: str) -> None:
    """One record, that of the answer, whichever of its events came to which receiver."""
    for events in ([REQUEST], ANSWER[:1], ANSWER[1:], [REQUEST, *ANSWER]):
        with receiver(tmp_path, CALLSPAN_CONTENT=content) as running:
            assert _post(running.url, events) == 200
            getattr(running.process, how)()
            running.process.wait(90)
    with receiver(tmp_path, CALLSPAN_CONTENT=content) as last:
        last.process.terminate()
        last.process.wait(90)
    (call,) = reading(f"sqlite:///{tmp_path}/c.db").calls()
    assert call.usage is not None
    assert (call.outcome, call.usage.output_tokens) == ("success", ANSWER[0]["output_tokens"])
    assert (bool(bytes(call.request.body)), bool(call.response and bytes(call.response.body))) == (
        (True, True) if content == "full" else (False, False)
    )


def test_what_is_erased_is_not_kept_for_the_next_receiver(tmp_path: Path, reading: Read) -> None:
    store = f"sqlite:///{tmp_path}/c.db"
    other = {"session.id": "another", "request_body_id": "another", "request_id": "another"}
    with receiver(tmp_path) as running:
        assert _post(running.url, [REQUEST, *ANSWER]) == 200
        assert _post(running.url, [{**event, **other} for event in (REQUEST, *ANSWER)]) == 200
        running.process.terminate()
        running.process.wait(90)
    assert len(list(reading(store).calls())) == 2
    assert callspan.erase(store, sessions=REQUEST["session.id"]).is_complete
    (history,) = (tmp_path / "c.db.spool" / "agents").rglob("history.jsonl")
    assert REQUEST["session.id"] not in history.read_text()
    assert ANSWER[0]["request_id"] not in history.read_text()
    assert "another" in history.read_text()
