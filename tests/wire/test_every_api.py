"""The contract of an API: whatever its row and its adapter say of an exchange, everything that keeps records knows.

Each API has one exchange in `exchanges.yaml`. It goes through `record_call` into a store.
"""

from __future__ import annotations

import base64
import json
import sqlite3
import zlib
from collections.abc import Iterator
from contextlib import closing, suppress
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support import commands
from tests.support.bodies import APIS, endpoint, restored, wire_fields
from tests.support.records import raw
from tests.view.conftest import Page
from tests.wire.exchanges import CASES, exchange

import callspan
from callspan.datasets import Options, export
from callspan.records import (
    CallRecord,
    Conversation,
    Message,
    Reasoning,
    Refusal,
    Text,
    ToolCall,
    ToolResult,
    encode,
    parse_arguments,
)
from callspan.stores import CallFilter
from callspan.testing import capture

Json = dict[str, Any]
LONG = 8
"""Length of a text that hardly occurs elsewhere."""

SENTENCES = "A sentence that is longer than what a skeleton has in itself. " * 6
JSON = st.recursive(
    st.none() | st.integers(-9, 9) | st.sampled_from(["", "a", "\x1a#00;", SENTENCES, f"{SENTENCES}{SENTENCES}"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["role", "text", "tools"]), inner),
    max_leaves=6,
)
FIELDS = sorted({name for row in APIS.values() for name in (*row.said, *row.instructions, *row.repeats, "x")})

pytestmark = pytest.mark.usefixtures("no_settings")
every_exchange = pytest.mark.parametrize("name", CASES)


def store(path: Path, api: str, *bodies: tuple[Json, Any]) -> list[CallRecord]:
    """Record exchanges of one session; return the stored calls."""
    handle = callspan.instrument(stores=f"sqlite:///{path}")
    with callspan.session("growing"):
        for request, response in bodies:
            with callspan.record_call(provider="p", api=api) as call:
                call.request(request)
                call.response(response)
    assert handle.force_flush()
    handle.uninstrument()
    with closing(callspan.open_store(path)) as reader:
        return [*reader.calls(CallFilter(newest_first=False))]


def ask(path: Path, sql: str, **values: str) -> list[sqlite3.Row]:
    with closing(sqlite3.connect(path)) as connection:
        connection.row_factory = sqlite3.Row
        return connection.execute(sql, values).fetchall()


def texts(message: Message) -> Iterator[str]:
    """Yield what a message says."""
    for part in message.parts:
        match part:
            case Text(text=text) | Refusal(text=text):
                yield text
            case ToolCall(name=str(name)):
                yield name
                yield from sentences(parse_arguments(part.arguments))
            case ToolResult() if part.tool_type == "function":
                yield from sentences(part.content)


def sentences(value: Any) -> Iterator[str]:
    if isinstance(value, str) and " " in value and json.dumps(value) == f'"{value}"':
        yield value
    for item in value if isinstance(value, list) else value.values() if isinstance(value, dict) else ():
        yield from sentences(item)


def thoughts(message: Message) -> Iterator[str]:
    yield from (part.text for part in message.parts if isinstance(part, Reasoning) and part.text)


def sides(api: str, request: Json, response: Any) -> tuple[Conversation, Conversation]:
    reader = endpoint(api)
    return reader.conversation(request, None), reader.conversation(None, response)


def list_in(name: str) -> str | None:
    """Return the field of a request whose list of messages grows; None if it has none."""
    api, request, _ = exchange(name)
    return next((field for field in APIS[api].said if isinstance(value_at(request, field), list)), None)


def value_at(body: Any, field: str) -> Any:
    """Return the value of a field, to which dots may lead."""
    for name in field.split("."):
        body = body.get(name) if isinstance(body, dict) else None
    return body


def with_value(body: dict[str, Any], field: str, value: Any) -> dict[str, Any]:
    """Return a body with another value of a field."""
    outer, dot, rest = field.partition(".")
    return {**body, outer: with_value(body.get(outer) or {}, rest, value) if dot else value}


@every_exchange
def test_messages_have_every_text_with_its_role(name: str, tmp_path: Path) -> None:
    api, request, response = exchange(name)
    store(tmp_path / "calls.db", api, (request, response))
    asked, answered = sides(api, request, response)
    messages = [*asked.input, Message(role="system", parts=asked.system)]
    # A session of speech is one answer with both sides.
    answers = [Message(role="assistant", parts=each.parts) for each in (*answered.input, *answered.output)]
    rows = ask(tmp_path / "calls.db", "SELECT direction, role, text, reasoning FROM call_messages")
    for direction, expected in (("in", messages), ("out", answers)):
        for message in expected:
            said = [row for row in rows if row["direction"] == direction and row["role"] == message.role]
            assert all(any(text in (row["text"] or "") for row in said) for text in texts(message))
            assert all(any(text in (row["reasoning"] or "") for row in said) for text in thoughts(message))
            assert not any(text in (row["text"] or "") for row in said for text in thoughts(message))


@every_exchange
def test_every_text_is_found_and_leaves_no_byte_once_deleted(name: str, tmp_path: Path) -> None:
    path = tmp_path / "calls.db"
    api, request, response = exchange(name)
    (call,) = store(path, api, (request, response))
    asked, answered = sides(api, request, response)
    messages = [*asked.input, Message(role="system", parts=asked.system), *answered.input, *answered.output]
    said = {text for message in messages for text in (*texts(message), *thoughts(message)) if len(text) >= LONG}
    said -= {request.get("model")}
    with closing(callspan.open_store(path)) as reader:
        assert [text for text in said if not [*reader.calls(CallFilter(text=text))]] == []
    callspan.erase(path, sessions=str(call.place.session_id))
    kept = b"".join(file.read_bytes() for file in tmp_path.rglob("*") if file.is_file())
    assert [text for text in said if text.encode() in kept] == []


@every_exchange
def test_bodies_are_restored(name: str, tmp_path: Path) -> None:
    api, request, response = exchange(name)
    calls = store(tmp_path / "calls.db", api, (request, response), (request, response))
    for call in calls:
        assert call.response is not None
        if not call.redactions:
            assert json.dumps(json.loads(bytes(call.request.body))) == json.dumps(request)
            assert json.dumps(json.loads(bytes(call.response.body))) == json.dumps(response)
        assert call.conversation == calls[0].conversation


@every_exchange
def test_openinference_has_both_sides(name: str) -> None:
    api, request, response = exchange(name)
    with capture(vocabularies="openinference") as seen, callspan.record_call(provider="p", api=api) as call:
        call.request(request)
        call.response(response)
    span = next(span for span in seen.spans if span.attributes.get("callspan.call_id") == seen.records[0].call_id)
    asked, answered = sides(api, request, response)
    for side, messages in (("input", asked.input), ("output", answered.output)):
        said = [text for message in messages for text in texts(message) if " " in text]
        assert not said or span.attributes[f"{side}.mime_type"] == "application/json"
        value = "\n".join(leaves(json.loads(span.attributes.get(f"{side}.value", "null"))))
        # A ranking is made of both sides.
        assert api in ("rerank", "watsonx_rerank") or [text for text in said if text not in value] == []


WITHOUT_ROLES = (
    "cohere_embed",
    "embed_content",
    "invoke_embeddings",
    "decisions",
    "predict",
    "rerank",
    "watsonx_rerank",
)
"""APIs whose lists are texts, documents or questions, which have no role."""


@pytest.mark.parametrize("name", [*filter(list_in, CASES)])
def test_roles_stay_without_content(name: str) -> None:
    api, request, response = exchange(name)
    with capture(content="metadata") as seen, callspan.record_call(provider="p", api=api) as call:
        call.request(request)
        call.response(response)
    roles = seen.records[0].request.roles or []
    asked, _ = sides(api, request, None)
    spoken = [message.role for message in asked.input]
    if api not in WITHOUT_ROLES and any(isinstance(item, dict) for item in value_at(request, list_in(name) or "")):
        # Items of the Responses API without a role are named by their type.
        assert {"user", "assistant"} & {*spoken} <= {*roles, *(["assistant"] if api == "responses" else [])}
        assert len(roles) >= len(spoken)
    assert not any(text in json.dumps(roles) for message in asked.input for text in texts(message) if " " in text)


KEYS = "My password=hunter22222 opens https://ann:hunter22222@example.com/a?token=hunter22222 at once."
"""What would be masked in a setting."""


def with_keys(value: Any) -> Any:
    """Return JSON with sentences that name keys."""
    if isinstance(value, str):
        return f"{value} {KEYS}" if " " in value else value
    if isinstance(value, list):
        return list(map(with_keys, value))
    return {key: with_keys(item) for key, item in value.items()} if isinstance(value, dict) else value


@every_exchange
def test_what_is_said_is_not_masked_beside_a_tool(name: str) -> None:
    api, request, response = exchange(name)
    said = {
        field: with_keys(request[field]) for field in (*APIS[api].said, *APIS[api].instructions) if field in request
    }
    tools = {"tools": [{"type": "function", "name": "get_token", "function": {"name": "get_token", "parameters": {}}}]}
    with capture() as seen, callspan.record_call(provider="p", api=api) as call:
        call.request({**request, **said, **tools})
        call.response(response)
    body = json.loads(bytes(seen.records[0].request.body))
    if not any("media" in redaction.why for redaction in seen.records[0].redactions):
        assert {field: body[field] for field in said} == said


SETTINGS: list[tuple[str, Json, Json]] = [
    (
        "generate_content",
        {"generationConfig": {"topK": 3, "thinkingConfig": {"thinkingBudget": 5, "includeThoughts": True}}},
        {"top_k": 3, "thinking_config": {"thinkingBudget": 5, "includeThoughts": True}},
    ),
    (
        "generate_content",
        {"generation_config": {"thinking_config": {"thinking_budget": 5, "thinking_level": "LOW"}}},
        {"thinking_config": {"thinking_budget": 5, "thinking_level": "LOW"}},
    ),
    ("cohere_chat", {"strict_tools": True, "k": 3, "thinking": {"type": "enabled", "token_budget": 5}}, {}),
    (
        "text_generation",
        {"parameters": {"do_sample": True, "max_new_tokens": 9, "repetition_penalty": 1.1, "return_full_text": False}},
        {"do_sample": True, "max_tokens": 9, "repetition_penalty": 1.1, "return_full_text": False},
    ),
    (
        "watsonx_generation",
        {"parameters": {"decoding_method": "greedy", "max_new_tokens": 9, "min_new_tokens": 1, "random_seed": 4}},
        {"decoding_method": "greedy", "min_new_tokens": 1},
    ),
    ("ollama_chat", {"options": {"num_ctx": 9, "mirostat": 1, "num_thread": 2}}, {"num_ctx": 9, "mirostat": 1}),
    (
        "chat_completions",
        {"min_tokens": 1, "chat_template_kwargs": {"enable_thinking": False}, "safe_prompt": True},
        {},
    ),
    ("invoke_model", {"textGenerationConfig": {"maxTokenCount": 9, "topP": 0.5}}, {}),
]
"""Settings of an API that are numbers, switches and its words, and some of the parameters that are recorded of them."""


@pytest.mark.parametrize(("api", "settings", "recorded"), SETTINGS)
def test_numbers_and_switches_stay_without_content(api: str, settings: Json, recorded: Json) -> None:
    _, request, response = exchange(api)
    said = {key: request[key] for key in (*APIS[api].said, *APIS[api].instructions) if key in request}
    with capture(content="off") as seen, callspan.record_call(provider="p", api=api) as call:
        call.request({**said, **settings, "patient": {"weight": 81}, "weight": 81})
        call.response(response)
    (record,) = seen.records
    assert {note.what for note in record.redactions if "params" in note.what} <= {
        "request.params.patient", "request.params.weight",
    }  # fmt: skip
    assert {**record.request.params, **recorded} == record.request.params
    assert "81" not in json.dumps(record.request.params)


SERVER: Json = {
    "type": "mcp", "server_label": "s", "server_url": "https://ann:hunter22222@example.com/mcp?token=hunter22222",
    "authorization": "hunter22222", "headers": {"X-Any": "hunter22222"},
}  # fmt: skip
"""A tool with credentials."""


KEEP_SETTINGS = (
    "responses", "realtime", "messages", "live", "realtime_translations", "interactions", "bidi_generate_content",
)  # fmt: skip
"""APIs whose answers may have settings that their request has not: those of an earlier one, or of an agent."""


@every_exchange
def test_credentials_in_answers_are_masked(name: str) -> None:
    api, request, response = exchange(name)
    if not isinstance(response, dict):
        pytest.skip("no member of a list repeats settings")
    answer = {**response, "tools": [SERVER], "mcp_servers": [SERVER], "headers": {"X-Any": "hunter22222"}}
    for asked in [{**request, "tools": [SERVER]}, *([request] if api in KEEP_SETTINGS else [])]:
        with capture() as seen, callspan.record_call(provider="p", api=api) as call:
            call.request(asked)
            call.response(answer)
        (record,) = seen.records
        assert b"hunter2222" not in encode(record)
        assert record.response is not None
        assert b"server_label" in bytes(record.response.body)
        assert "response.body" in {note.what for note in record.redactions if note.why == "secret"}


def spoken(api: str, request: Json, response: Any) -> list[Message]:
    """Return the messages of both sides, instructions among them."""
    asked, answered = sides(api, request, response)
    return [*asked.input, Message(role="system", parts=asked.system), *answered.input, *answered.output]


def packed(text: str) -> str:
    """Return a text without spaces, at which a terminal breaks lines."""
    return "".join(text.split())


@every_exchange
def test_show_has_every_text(name: str, tmp_path: Path) -> None:
    path = tmp_path / "calls.db"
    api, request, response = exchange(name)
    (call,) = store(path, api, (request, response))
    shown = packed(commands.ask("--store", str(path), "show", call.call_id).out)
    said = [text for message in spoken(api, request, response) for text in (*texts(message), *thoughts(message))]
    assert [text for text in said if packed(text)[:MAX_SHOWN] not in shown] == []


MAX_SHOWN = 150
"""Characters of a text that a terminal has in any case."""


@every_exchange
def test_page_has_every_text(name: str, tmp_path: Path) -> None:
    path = tmp_path / "calls.db"
    api, request, response = exchange(name)
    (call,) = store(path, api, (request, response))
    with closing(Page(f"sqlite:///{path}")) as page:
        page.enter()
        read = page.get(f"/api/call?id={call.call_id}")
    shown = "\n".join((*leaves([read["turn"], read["instructions"]]), json.dumps(read["turn"], ensure_ascii=False)))
    for message in spoken(api, request, response):
        assert [text for text in (*texts(message), *thoughts(message)) if text not in shown] == []


def objects(value: Any) -> Iterator[Json]:
    if isinstance(value, dict):
        yield value
    for item in value if isinstance(value, list) else value.values() if isinstance(value, dict) else ():
        yield from objects(item)


@every_exchange
def test_answers_and_tool_calls_name_their_call(name: str) -> None:
    api, request, response = exchange(name)
    with capture() as seen, callspan.session("s") as session, session.timestep() as step:
        with callspan.record_call(provider="p", api=api) as call:
            call.request(request)
            call.response(response)
        (record,) = seen.records
        assert record.response is not None
        if record.response.id:
            assert callspan.call_id(response) == record.call_id
        else:
            with pytest.raises(callspan.UsageError, match="no call of this process"):
                callspan.call_id(response)
        asked = []
        for offered in objects([request, response]):
            with suppress(callspan.UsageError), step.tool(call=offered) as tool:
                asked.append((tool.name, tool.arguments))
    for message in spoken(api, request, response):
        for part in message.parts:
            if isinstance(part, ToolCall) and part.tool_type in ("function", "custom"):
                assert (part.name, parse_arguments(part.arguments)) in asked


NO_DATASET = {
    "embeddings": (
        "embeddings",
        "embed_content",
        "invoke_embeddings",
        "cohere_embed",
        "ollama_embed",
        "watsonx_embeddings",
    ),
    "rerank": ("rerank", "watsonx_rerank"),
    "moderation": ("moderations",),
    "decisions": ("decisions",),
    "an answer without messages": ("predict", "invoke_model"),
}
"""Why a call is no row of a dataset, by the APIs; that of media is their name."""


@every_exchange
def test_datasets_have_both_sides_and_tools(name: str, tmp_path: Path) -> None:
    path = tmp_path / "calls.db"
    api, request, response = exchange(name)
    store(path, api, (request, response))
    with closing(callspan.open_store(path)) as reader:
        statistics = export(reader, "openai", tmp_path / "rows.jsonl", CallFilter(), Options(reasoning=True))
    asked, answered = sides(api, request, response)
    if not statistics.rows:
        (reason,) = (reason for reason in statistics.left_out if reason.startswith("call: "))
        reason = reason.removeprefix("call: ")
        assert api in NO_DATASET.get(reason, ()) or (reason == api and APIS[api].is_media)
        assert reason != "an answer without messages" or not answered.output
        return
    row = json.loads((tmp_path / "rows.jsonl").read_text())
    written = "\n".join(leaves(row["messages"]))
    others = answered.output[1:]  # of several choices
    assert statistics.dropped["other choices of one answer"] == len(others)
    for message in (message for message in spoken(api, request, response) if message not in others):
        parts = [part for part in message.parts if getattr(part, "tool_type", "function") in ("function", "custom")]
        kept = Message(role=message.role, parts=parts)
        assert [text for text in (*texts(kept), *thoughts(kept)) if text not in written] == []
    definitions = [tool["function"] for tool in row.get("tools", ())]
    hosted = sum(count for what, count in statistics.dropped.items() if what.startswith("hosted tool: "))
    assert len(definitions) + hosted >= len(asked.tools)
    assert all(isinstance(tool["name"], str) and isinstance(tool["parameters"], dict) for tool in definitions)


DERIVED = ("decisions", "moderations", "rerank", "watsonx_rerank")
"""APIs whose answers have no texts: their numbers are the message."""


class Echo(BaseHTTPRequestHandler):
    """Answers each request with the same body, and keeps what was asked."""

    asked: ClassVar[list[tuple[str, Any]]] = []
    answer: ClassVar[bytes] = b""

    def do_POST(self) -> None:
        self.asked.append((self.path, json.loads(self.rfile.read(int(self.headers["content-length"])))))
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(self.answer)))
        self.end_headers()
        self.wfile.write(self.answer)

    def log_message(self, *_: Any) -> None: ...


KEYS_OF_SDKS = {
    "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_DEFAULT_REGION": "us-east-1",
    **dict.fromkeys(("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "CO_API_KEY", "GEMINI_API_KEY", "MISTRAL_API_KEY"), "k"),
}  # fmt: skip


@every_exchange
def test_replay_sends_the_same_or_says_that_it_cannot(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "calls.db"
    api, request, response = exchange(name)
    (call,) = store(path, api, (request, response))
    for variable, value in KEYS_OF_SDKS.items():
        monkeypatch.setenv(variable, value)
    monkeypatch.setattr(Echo, "asked", [])
    monkeypatch.setattr(Echo, "answer", json.dumps(response).encode())
    with ThreadingHTTPServer(("127.0.0.1", 0), Echo) as server:
        Thread(target=server.serve_forever).start()
        url = f"http://127.0.0.1:{server.server_port}"
        ask = ("--store", str(path), "--json", "replay", call.call_id, "--base-url", url)
        model = request.get("model") or "m"
        answer = commands.ask(*ask, "--model", model)
        unnamed = None if call.request.model else commands.ask(*ask)
        server.shutdown()
    if answer.code:
        assert (answer.out, Echo.asked) == ("", [])
        assert answer.err == f"Error: {api} is not an API that can be replayed\n"
        return
    assert answer.json["same"] is True
    assert {json.dumps(body) for _, body in Echo.asked} == {json.dumps(request)}
    if unnamed is not None:
        assert unnamed.err == "Error: its path named the model, which was not recorded: use --model\n"


def shape(messages: list[Message]) -> list[tuple[str, list[str]]]:
    return [(message.role, [type(part).__name__ for part in message.parts]) for message in messages]


@every_exchange
def test_a_redactor_of_texts_keeps_the_shape(name: str) -> None:
    api, request, response = exchange(name)
    with (
        capture(redact=callspan.redact_texts(lambda text: "x")) as seen,
        callspan.record_call(provider="p", api=api) as call,
    ):
        call.request(request)
        call.response(response)
    kept = seen.records[0].conversation or Conversation(system=[], input=[], output=[])
    asked, answered = sides(api, request, response)
    messages = [*asked.input, *answered.input, *answered.output]
    assert shape([*kept.input, *kept.output]) == shape(messages)
    assert [*map(type, kept.system)] == [*map(type, asked.system)]
    for message in (*kept.input, *kept.output, Message(role="system", parts=kept.system)):
        for part in message.parts:
            # Rankings, decisions and moderations say numbers.
            assert not isinstance(part, Text) or part.text in ("x", "") or api in DERIVED
            assert not isinstance(part, ToolCall) or part.tool_type != "function" or part.name == "x"
    said = {text for message in (*messages, Message(role="system", parts=asked.system)) for text in texts(message)}
    everything = json.dumps([json.loads(encode(record)) for record in seen.everything], ensure_ascii=False)
    assert [text for text in said if " " in text and text in everything] == []


def leaves(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    for item in value if isinstance(value, list) else value.values() if isinstance(value, dict) else ():
        yield from leaves(item)


def varied(value: Any) -> Any:
    """Return JSON with other sentences."""
    if isinstance(value, str):
        return value[::-1] if " " in value else value
    if isinstance(value, list):
        return list(map(varied, value))
    return {key: varied(item) for key, item in value.items()} if isinstance(value, dict) else value


@pytest.mark.parametrize("name", [*filter(list_in, CASES)])
def test_history_that_grows_is_stored_once(name: str, tmp_path: Path) -> None:
    path = tmp_path / "calls.db"
    api, request, response = exchange(name)
    growing = list_in(name) or ""
    history = value_at(request, growing)
    asked, _ = sides(api, with_value({}, growing, history), None)
    said = {text for message in asked.input for text in texts(message)}
    grown = with_value(request, growing, [*history, varied(history[-1])])
    first, second = store(path, api, (request, response), (grown, response))
    assert json.loads(bytes(second.request.body)) != json.loads(bytes(first.request.body))
    for text in filter(lambda text: " " in text, said):
        rows = ask(path, "SELECT text FROM contents WHERE n > 0 AND instr(text, :said)", said=text)
        assert len(rows) == sum(text in each for message in asked.input for each in texts(message))


def turns_in(body: Any, path: str = "") -> Iterator[str]:
    """Yield where a body has messages with roles, wherever its row looks for them."""
    for name, value in body.items() if isinstance(body, dict) else ():
        if isinstance(value, list) and value and all(isinstance(each, dict) and "role" in each for each in value):
            yield f"{path}{name}"
        yield from turns_in(value, f"{path}{name}.")


@pytest.mark.parametrize(("name", "field"), [(name, field) for name in CASES for field in turns_in(exchange(name)[1])])
def test_stored_size_of_a_conversation_grows_with_its_turns(name: str, field: str, tmp_path: Path) -> None:
    """Not with their square, as if each call were stored with all that was said before."""
    api, request, response = exchange(name)
    history = value_at(request, field)
    sizes = []
    for turns in (5, 20):
        path = tmp_path / f"{turns}.db"
        words = [" ".join(sha256(f"{number} {at}".encode()).hexdigest() for at in range(8)) for number in range(turns)]
        grown = [
            with_value(request, field, [*history, *(said_in(history[0], each) for each in words[:end])])
            for end in range(turns)
        ]
        store(path, api, *((body, response) for body in grown))
        sizes += [row[0] for row in ask(path, "SELECT sum(length(text)) + sum(ifnull(length(data), 0)) FROM contents")]
    assert sizes[1] < 8 * sizes[0]


def said_in(message: Any, words: str) -> Any:
    """Return a message with other words in place of each sentence."""
    if isinstance(message, str):
        return words if " " in message else message
    if isinstance(message, list):
        return [said_in(each, words) for each in message]
    return {key: said_in(each, words) for key, each in message.items()} if isinstance(message, dict) else message


CONTENT = [(name, field) for name in CASES for field in APIS[CASES[name].get("api", name)].content]


@pytest.mark.parametrize(("name", "field"), CONTENT)
def test_texts_besides_messages_are_found_and_no_messages(name: str, field: str, tmp_path: Path) -> None:
    path, said = tmp_path / "calls.db", "The night train is late."
    api, request, response = exchange(name)
    (call,) = store(path, api, ({**request, field: [{"data": {"any": said}}]}, response))
    assert json.loads(bytes(call.request.body))[field] == [{"data": {"any": said}}]
    assert ask(path, "SELECT 1 FROM call_messages WHERE instr(text, :said)", said=said) == []
    with closing(callspan.open_store(path)) as reader:
        assert [found.call_id for found in reader.calls(CallFilter(text=said))] == [call.call_id]
    callspan.erase(path, sessions=str(call.place.session_id))
    assert said.encode() not in b"".join(file.read_bytes() for file in tmp_path.rglob("*") if file.is_file())


def longer(value: Any) -> Any:
    """Return JSON with its sentences so long that no skeleton has them in itself."""
    if isinstance(value, str):
        return f"{value} {value[::-1]} " * 20 if " " in value and json.dumps(value) == f'"{value}"' else value
    if isinstance(value, list):
        return list(map(longer, value))
    return {key: longer(item) for key, item in value.items()} if isinstance(value, dict) else value


def stored_texts(path: Path) -> str:
    rows = ask(path, "SELECT text, reasoning, data FROM contents")
    json_of = [zlib.decompress(row["data"]) for row in rows if row["data"]]
    return "\n".join([*(f"{row['text'] or ''}\n{row['reasoning'] or ''}" for row in rows), *map(bytes.decode, json_of)])


@every_exchange
def test_each_text_of_a_request_is_stored_once(name: str, tmp_path: Path) -> None:
    api, request, response = exchange(name)
    asked, _ = sides(api, request, None)
    said = {text for message in (*asked.input, Message(role="system", parts=asked.system)) for text in texts(message)}
    sent, answer = (
        {**body, **longer({key: body[key] for key in body if key not in ("tools", "model")})}
        for body in (request, response if isinstance(response, dict) else {})
    )
    (call,) = store(tmp_path / "calls.db", api, (sent, answer))
    assert call.redactions or json.loads(bytes(call.request.body)) == sent
    assert call.redactions or json.loads(bytes(call.response.body if call.response else b"")) == answer
    kept = stored_texts(tmp_path / "calls.db")
    for text in (text for text in said if longer(text) != text):
        times = sum(longer(text) in each for each in leaves(sent))
        repeated = sum(
            longer(text) in each
            for key, value in answer.items()
            if key not in APIS[api].repeats
            for each in leaves(value)
        )
        assert times == 0 or kept.count(longer(text)) == times + repeated, (text, times, repeated)


def test_a_question_is_the_same_piece_in_the_history_of_the_next_request(tmp_path: Path) -> None:
    question, answer = longer("Which gate does it leave from"), longer("It leaves from gate nine.")
    turns = [{"role": "USER", "message": question}, {"role": "CHATBOT", "message": answer}]
    first = {"model": "m", "message": question, "chat_history": []}
    second = {"model": "m", "message": longer("And when does it arrive"), "chat_history": turns}
    calls = store(
        tmp_path / "calls.db", "cohere_chat_v1", (first, {"text": answer, "chat_history": turns}),
        (second, {"text": "At noon.", "chat_history": turns}),
    )  # fmt: skip
    assert [json.loads(bytes(call.request.body)) for call in calls] == [first, second]
    kept = stored_texts(tmp_path / "calls.db")
    assert kept.count(question) == 1
    assert kept.count(answer) == 2  # as text of the answer, and as a message of the next request


@given(
    api=st.sampled_from([*APIS, "/v1/unknown"]),
    request=st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=6),
    answer=st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=6),
    repeats=st.booleans(),
)
def test_any_body_is_restored(api: str, request: Any, answer: Any, repeats: bool) -> None:
    answer = {**answer, **request} if repeats else answer
    sent, received = bytes(raw(request)), bytes(raw(answer))
    assert restored(api, sent, received) == (sent, received)


FLOATS = [0.123456] * 1500


def with_long_vectors(value: Any) -> Any:
    """Return an answer with vectors as long as those of a model."""
    if isinstance(value, list):
        is_vector = bool(value) and {*map(type, value)} <= {int, float}
        return FLOATS if is_vector else list(map(with_long_vectors, value))
    return {key: with_long_vectors(item) for key, item in value.items()} if isinstance(value, dict) else value


OF_VECTORS = [name for name in CASES if APIS[CASES[name].get("api", name)].has_vectors or name == "predict"]


@pytest.mark.parametrize("name", OF_VECTORS)
def test_vectors_are_kept_by_their_length(name: str) -> None:
    api, request, response = exchange(name)
    answer = with_long_vectors(response)
    assert len(json.dumps(answer)) > len(FLOATS)
    with capture() as seen, callspan.record_call(provider="p", api=api) as call:
        call.request(request)
        call.response(answer)
    with capture(media="inline") as inline, callspan.record_call(provider="p", api=api) as call:
        call.request(request)
        call.response(answer)
    (record,), (whole,) = seen.records, inline.records
    assert record.response is not None
    assert whole.response is not None
    assert len(bytes(record.response.body)) < len(FLOATS)
    assert b'"dimensions":1500' in bytes(record.response.body)
    assert json.loads(bytes(whole.response.body)) == answer
    assert (record.usage, record.conversation, record.request) == (whole.usage, whole.conversation, whole.request)


@pytest.mark.parametrize("api", APIS)
def test_answers_of_embeddings_have_vectors(api: str) -> None:
    assert APIS[api].has_vectors or endpoint(api).operation != "embeddings"


PICTURE = base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 4).decode()
FILES = {
    "chat_completions": "file_data", "responses": "partial_image_b64", "images": "b64_json", "messages": "data",
    "converse": "bytes", "predict": "bytesBase64Encoded",
}  # fmt: skip
"""A field with a file of each API that has one, besides results of tools."""


def media_in(api: str, body: Json) -> list[int]:
    """Return how many references the request and the answer of a call have, both of which have this body."""
    with capture() as seen, callspan.record_call(provider="p", api=api) as call:
        call.request(body)
        call.response(body)
    (record,) = seen.records
    assert record.response is not None
    kept = [bytes(record.request.body), bytes(record.response.body)]
    assert [side for side in kept if PICTURE.encode() in side] == []
    return [side.count(b"callspan_media") for side in kept]


@pytest.mark.parametrize("more", ["", "word " * 2000])
@pytest.mark.parametrize("api", APIS)
def test_data_urls_are_media_in_any_field(api: str, more: str) -> None:
    url = f"data:image/png;base64,{PICTURE}"
    body = {"more": more, "any": url, "deep": [{"url": url}, [url]]}
    if api not in ("speech",):  # its answers are sounds
        assert media_in(api, body) == [3, 3]


BESIDE = {"messages": "base64", "responses": "image_generation_call", "cohere_chat": "base64"}
"""What these APIs always, or usually, have beside a file."""


@pytest.mark.parametrize(("api", "field"), [*FILES.items(), ("responses", "result"), ("cohere_chat", "image_data")])
def test_files_in_fields_of_an_api_are_media(api: str, field: str) -> None:
    assert media_in(api, {"any": [{"type": BESIDE.get(api, "any"), field: PICTURE}]}) == [1, 1]


def test_every_field_with_a_file_is_tried() -> None:
    assert wire_fields.FILE_FIELDS.keys() == {*FILES.values(), "result", "image_data"}


@pytest.mark.parametrize("field", wire_fields.FILE_LISTS)
def test_files_in_lists_of_an_api_are_media(field: str) -> None:
    assert media_in("ollama_chat", {"any": [{field: [PICTURE, PICTURE]}]}) == [2, 2]


def test_every_api_has_an_exchange() -> None:
    assert {api for api, _, _ in map(exchange, CASES)} == APIS.keys()
