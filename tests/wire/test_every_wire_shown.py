"""A record of any wire is shown, exported, compared and replayed as one of openai or anthropic.

One recorded exchange of each kind goes through an HTTP client into a store; `shown.yaml` says what all that reads
records makes of it.
"""

from __future__ import annotations

import gzip
import json
from contextlib import closing
from functools import cache
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml
from tests.support.commands import ask
from tests.view.conftest import Page
from tests.wire.corpus import OTHERS
from tests.wire.recorded_clients import body_of

import callspan
from callspan.datasets import Options, Statistics, export
from callspan.records import CallRecord, Media, Message, Reasoning, ToolCall, UnknownPart
from callspan.testing import capture, replay

Json = dict[str, Any]
CASES: dict[str, Json] = yaml.safe_load(Path(__file__).with_name("shown.yaml").read_text())
"""For each kind of exchange its id, what its messages are, and what is said of it."""
KINDS = {"Text": "text", "Reasoning": "thought", "ToolCall": "call", "ToolResult": "result", "Media": "media"}
SHOWN = 90
"""How much of a message the table has."""
FRAMING = ("content-encoding", "content-length", "transfer-encoding")

pytestmark = pytest.mark.usefixtures("no_settings")
every_kind = pytest.mark.parametrize("name", CASES)


@cache
def exchanges() -> dict[str, Json]:
    with gzip.open(OTHERS, "rt", encoding="utf-8") as lines:
        return {row["id"]: row for row in map(json.loads, lines)}


def exchange(name: str) -> Json:
    case = CASES[name]
    return exchanges()[case["id"]] if "id" in case else case["exchange"]


def play(
    row: Json, *, store: str, body: bytes | None = None, reward: float | None = None, **settings: Any
) -> CallRecord:
    """Send a recorded request, in a session, and get its answer: the record, which is in the store then."""
    headers = {key: value for key, value in row.get("headers", {}).items() if key.lower() not in FRAMING}
    content = body_of(row) if body is None else body
    transport = httpx2.MockTransport(lambda _: httpx2.Response(row["status"], headers=headers, content=content))
    with (
        capture(stores=store, **settings) as seen,
        callspan.session(name="run", task_id="one task") as session,
        httpx2.Client(transport=transport) as client,
    ):
        client.post(f"https://{row['host']}{row['path']}", json=row["request"])
        if reward is not None:
            session.reward(reward)
    callspan.open_store(store, deliver=True).close()
    (call,) = seen.records
    return call


@pytest.fixture
def stored(name: str, store: str) -> CallRecord:
    """The record of a kind of exchange, as the store has it."""
    call_id = play(exchange(name), store=store).call_id
    with closing(callspan.open_store(store)) as reader:
        call = reader.call(call_id)
    assert call is not None
    return call


def outline(message: Message) -> str:
    """The role of a message and what its parts are."""
    return " ".join([message.role, *map(_kind, message.parts)])


def _kind(part: Any) -> str:
    name = KINDS[type(part).__name__]
    match part:
        case Reasoning(signature=str()):
            return f"signed {name}"
        case ToolCall(tool_type=kind) if kind != "function":
            return f"{name} of {kind}"
        case Media(modality=modality):
            return modality
    return f"cited {name}" if getattr(part, "annotations", None) else name


@every_kind
def test_messages_have_the_same_parts(name: str, stored: CallRecord) -> None:
    case, conversation = CASES[name], stored.conversation
    assert conversation is not None
    assert stored.outcome == "success"
    messages = [*conversation.input, *conversation.output]
    assert [outline(message) for message in messages] == case["messages"]
    parts = [part for message in messages for part in message.parts]
    assert not any(isinstance(part, UnknownPart) for part in parts)
    assert all(part.sha256 and part.data is None for part in parts if isinstance(part, Media) and not part.url)
    assert stored.api == case["api"]


@every_kind
def test_command_and_page_show_all_words(name: str, store: str, stored: CallRecord) -> None:
    shown = ask("--store", store, "show", stored.call_id)
    assert shown.code == 0
    joined = " ".join(shown.out.split())
    assert [words for words in CASES[name]["words"] if words not in joined] == []
    with closing(Page(store)) as page:
        page.enter()
        found = page.get(f"/api/call?id={stored.call_id}")
        listed = page.get("/api/calls")["rows"]
    turn = found["turn"]
    parts = [part for message in (*turn["new"], *turn["answer"]) for part in message["parts"]]
    assert "unknown" not in {part["type"] for part in parts}
    drawn = " ".join(" ".join(_drawn(part) for part in parts).split())
    assert [words for words in CASES[name]["words"] if _plain(words) not in drawn] == []
    assert listed[0]["question"] == CASES[name]["question"]


def _drawn(part: Json) -> str:
    """The words of a part that the page draws."""
    if part["type"] == "tool_call":
        return f"{part['name']}({part['arguments']})"
    if part["type"] == "media":
        return f"({part['modality']} {part.get('mime', '')}"
    content = part.get("text") if "text" in part else part.get("content")
    return content if isinstance(content, str) else json.dumps(content, separators=(",", ":"), ensure_ascii=False)


def _plain(words: str) -> str:
    """Without the marks of the terminal, which the page draws in another way."""
    return words.removeprefix("(thinking) ")


def exported(store: str, form: str, place: Path, **options: Any) -> tuple[list[Any], Statistics]:
    target = place / f"{form}.jsonl"
    with closing(callspan.open_store(store)) as reader:
        statistics = export(reader, form, target, options=Options(**options))
    return [json.loads(line) for line in target.read_text().splitlines()] if target.exists() else [], statistics


def brief(message: Json) -> str:
    """What a chat message says: its text, the names of its calls, or the result of a tool."""
    calls = [f"{call['function']['name']}({call['function']['arguments']})" for call in message.get("tool_calls") or []]
    content = message["content"]
    texts = content if isinstance(content, list) else [{"text": content}] if content else []
    words = " ".join([*(part.get("text") or part["type"] for part in texts), *calls])
    return f"{message['role']}: {' '.join(words.split())}"[:SHOWN]


@every_kind
def test_datasets_have_all_that_a_chat_can(name: str, store: str, stored: CallRecord, tmp_path: Path) -> None:
    case = CASES[name]
    rows, statistics = exported(store, "openai", tmp_path)
    if "chat" not in case:
        assert rows == []
        return
    (row,) = rows
    assert [brief(message) for message in row["messages"]] == case["chat"]
    assert [tool["function"]["name"] for tool in row.get("tools", [])] == case.get("tools", [])
    assert all(tool["function"]["parameters"]["type"] == "object" for tool in row.get("tools", []))
    assert dict(statistics.dropped) == case.get("dropped", {})
    (conversation,), _ = exported(store, "openai-session", tmp_path)
    assert conversation == row
    (trajectory,), _ = exported(store, "atif", tmp_path)
    steps = trajectory["steps"]
    assert [step["source"] for step in steps] == [
        {"assistant": "agent"}.get(message["role"], message["role"])
        for message in row["messages"]
        if message["role"] != "tool"
    ]
    results = [result["content"] for step in steps for result in step.get("observation", {}).get("results", [])]
    assert results == [message["content"] for message in row["messages"] if message["role"] == "tool"]
    definitions = trajectory["agent"].get("tool_definitions", [])
    assert [tool["function"]["name"] for tool in definitions] == case.get("tools", [])


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if "other" in case])
def test_two_answers_are_a_pair(name: str, store: str, tmp_path: Path) -> None:
    row, (words, others) = exchange(name), CASES[name]["other"]
    play(row, store=store, reward=1.0)
    assert words.encode() in body_of(row)
    play(row, store=store, reward=0.0, body=body_of(row).replace(words.encode(), others.encode()))
    ((pair,), _) = exported(store, "preferences", tmp_path)
    good, bad = (brief(pair[side][0]) for side in ("preferred_output", "non_preferred_output"))
    assert good == CASES[name]["chat"][-1]
    assert bad == good.replace(words, others) != good
    assert len(pair["input"]["messages"]) == len(CASES[name]["chat"]) - 1


@every_kind
def test_recorded_answer_is_served_again(name: str, store: str) -> None:
    row = exchange(name)
    call = play(row, store=store, media="inline")
    with replay(store) as provider, capture() as again, httpx2.Client(trust_env=False) as client:
        client.post(provider.url + row["path"], json=row["request"])
        assert provider.unused == []
    (served,) = again.records
    assert (served.api, served.outcome) == (call.api, "success")
    assert said(served) == said(call)


def said(call: CallRecord) -> list[Any]:
    """The words, calls and thoughts of an answer."""
    assert call.conversation is not None
    return [
        (message.text, [(one.name, json.loads(one.arguments or "null")) for one in message.tool_calls])
        for message in call.conversation.output
    ]
