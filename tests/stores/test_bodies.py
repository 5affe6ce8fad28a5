"""Bodies in pieces: restored byte for byte and stored once."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.support.records import made, raw

from callspan import open_store
from callspan.records import CallRecord, Place, Request, Response
from callspan.stores import CallFilter, find_store

LONG = "A sentence that is longer than what a skeleton has in itself. " * 6


def call(api: str, request: object, response: object, call_id: str = "c", **place: Any) -> CallRecord:
    answer = msgspec.Raw(response.encode()) if isinstance(response, str) else raw(response)
    asked, answered = Request(body=raw(request)), Response(body=answer)
    return made(call_id, api=api, request=asked, response=answered, place=Place(**place))


def kept(path: Path, *calls: CallRecord) -> list[CallRecord]:
    assert find_store(str(path)).write(calls) == []
    with closing(open_store(path)) as reader:
        return [*reader.calls(CallFilter(newest_first=False))]


@pytest.mark.parametrize("spaces", [(",", ":"), (", ", " : ")])
@pytest.mark.parametrize("asked", ["the same", "other", "nothing"])
def test_answer_does_not_store_what_it_repeats(tmp_path: Path, spaces: tuple[str, str], asked: str) -> None:
    """Forty answers with instructions of 20 KB and a tool, as the Responses API repeats them."""
    instructions, tools = LONG * 50, [{"type": "function", "name": "f", "description": LONG}]
    sent = {"the same": instructions, "other": LONG * 49, "nothing": None}[asked]
    answers = [
        json.dumps(
            {"id": f"r{turn}", "instructions": instructions, "output": [], "tools": tools, "text": {"a": LONG}},
            separators=spaces,
        )
        for turn in range(40)
    ]
    calls = [
        call("responses", {"instructions": sent, "input": f"Turn {turn}."}, answer, f"c{turn:02}", session_id="s")
        for turn, answer in enumerate(answers)
    ]
    stored = kept(tmp_path / "calls.db", *calls)
    assert [bytes(each.response.body).decode() for each in stored if each.response] == answers
    with closing(sqlite3.connect(tmp_path / "calls.db")) as connection:
        (size,) = connection.execute("SELECT sum(length(data) + coalesce(length(text), 0)) FROM contents").fetchone()
    assert size < 5 * len(instructions)


def test_history_in_an_answer_is_stored_once(tmp_path: Path) -> None:
    """Cohere's first chat repeats the whole conversation in each answer."""
    turns: list[dict[str, str]] = []
    calls = []
    for turn in range(30):
        history = [*turns]
        turns += {"role": "USER", "message": f"{turn} {LONG}"}, {"role": "CHATBOT", "message": f"{LONG} {turn}"}
        request = {"message": turns[-2]["message"], "chat_history": history}
        answer = {"text": turns[-1]["message"], "chat_history": [*turns]}
        calls.append(call("cohere_chat_v1", request, answer, f"c{turn:02}", session_id="s"))
    stored = kept(tmp_path / "calls.db", *calls)
    assert [each.response and bytes(each.response.body) for each in stored] == [
        each.response and bytes(each.response.body) for each in calls
    ]
    with closing(sqlite3.connect(tmp_path / "calls.db")) as connection:
        for turn in range(30):
            rows = "SELECT count(*) FROM contents WHERE role = 'user' AND text = ?"
            assert connection.execute(rows, (f"{turn} {LONG}",)).fetchone()[0] <= 2
        assert connection.execute("SELECT count(*) FROM contents").fetchone()[0] < 30 * 8
        assert connection.execute("SELECT count(*) FROM call_messages WHERE role IS NULL").fetchone()[0] == 0


def test_equal_json_has_the_role_of_its_place(tmp_path: Path) -> None:
    request = {"system": LONG, "prompt": LONG}
    (stored,) = kept(tmp_path / "calls.db", call("ollama_generate", request, {"response": "a"}))
    assert json.loads(bytes(stored.request.body)) == request
    with closing(sqlite3.connect(tmp_path / "calls.db")) as connection:
        rows = connection.execute("SELECT position, role, text FROM call_messages ORDER BY position").fetchall()
    assert rows == [(-1, "system", LONG), (0, "user", LONG), (1, "assistant", "a")]


def test_instructions_are_messages_though_an_answer_stated_them_first(tmp_path: Path) -> None:
    first = call("responses", {"input": "a"}, {"instructions": LONG, "output": []}, "c1", session_id="s")
    second = call("responses", {"input": "a", "instructions": LONG}, {"output": []}, "c2", session_id="s")
    kept(tmp_path / "calls.db", first, second)
    with closing(open_store(tmp_path / "calls.db")) as reader:
        assert [each.call_id for each in reader.calls(CallFilter(text=LONG))] == ["c2"]


@pytest.mark.parametrize("session_id", [None, "s"])
def test_any_program_reads_instructions(tmp_path: Path, session_id: str | None) -> None:
    """A client without callspan's functions reads and searches what calls in and outside of sessions were told."""
    instructions, tools = LONG * 20, [{"type": "function", "function": {"name": "find", "description": LONG}}]
    calls = [
        call(
            "chat_completions",
            {
                "messages": [{"role": "system", "content": instructions}, {"role": "user", "content": f"Is {n} odd?"}],
                "tools": tools,
            },
            {"choices": [{"index": 0, "message": {"role": "assistant", "content": f"No, {n} is not."}}]},
            f"c{n}",
            session_id=session_id,
        )
        for n in range(10)
    ]
    assert [each.request.body for each in kept(tmp_path / "calls.db", *calls)] == [each.request.body for each in calls]
    with closing(sqlite3.connect(tmp_path / "calls.db")) as connection:
        said = "role = 'system' AND text LIKE '%SENTENCE that%'"
        rows = connection.execute(f"SELECT call_id, text FROM call_messages WHERE {said} ORDER BY call_id").fetchall()
        (stored,) = connection.execute(f"SELECT count(*) FROM contents WHERE {said}").fetchone()
    assert rows == [(f"c{n}", instructions) for n in range(10)]
    assert stored == (1 if session_id else 10)


@pytest.mark.parametrize("session_id", ["s", None])
def test_long_session_is_whole_though_its_oldest_contents_are_not_known(
    tmp_path: Path, session_id: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A writer reads the newest contents of a session alone; what comes again after a long time is stored again."""
    monkeypatch.setattr("callspan.stores.sqlite.database._MAX_NUMBERS", 16)
    system = {"role": "system", "content": LONG}
    branches: list[list[Any]] = [[system], [system]]
    calls = []
    for turn in range(24):
        messages = branches[turn // 8 % 2]
        messages.append({"role": "user", "content": f"Question {turn}. {LONG}"})
        answer = {"role": "assistant", "content": f"Answer {turn}. {LONG}"}
        body = {"choices": [{"index": 0, "message": answer}]}
        calls.append(call("chat_completions", {"messages": [*messages]}, body, f"c{turn:02}", session_id=session_id))
        messages.append(answer)
    for one in calls:
        stored = kept(tmp_path / "calls.db", one)
    assert [(bytes(each.request.body), each.response) for each in stored] == [
        (bytes(each.request.body), each.response) for each in calls
    ]
