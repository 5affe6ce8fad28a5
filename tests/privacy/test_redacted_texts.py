"""A redactor of texts reaches every text and key of the application, and leaves callspan's own words in each record."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from decimal import Decimal
from typing import Any, Final, get_args

import msgspec
import openai
import pytest
from msgspec import inspect as types
from tests.support.records import event, made, message, raw, session

import callspan
from callspan.process.redaction import redacted
from callspan.providers import error_kinds
from callspan.providers.base import Operation
from callspan.providers.hosts import PROVIDERS
from callspan.record.apis import APIS
from callspan.record.events import RECORD_TYPES
from callspan.record.usage import Cost, Usage
from callspan.record.vocabulary import ErrorKind
from callspan.records import Attempt, EventRecord, Record, Request, Response, encode
from callspan.testing import ScriptedProvider, capture

TEXT: Final = "Ada of Paris"
KEY: Final = "city"
"""A word of a provider's API, which an application may have as a key too."""
JOINING: Final = frozenset({
    "call_id", "timestep_id", "session_id", "event_id", "message_id", "reward_id", "trace_id", "span_id",
    "parent_span_id", "parent_session_id", "parent_timestep_id", "process",
})  # fmt: skip
NOT_SENT: Final = frozenset({"conversation", "schema_version", "redactions"})
"""What follows from the rest, and the list of changes, which the redactor does not decide."""
Path = tuple[str | int, ...]


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def masked(record: Record) -> Any:
    return redacted(record, callspan.redact_texts(digest))


PLAIN: Final[dict[type[types.Type], Any]] = {
    types.IntType: 1, types.FloatType: 1, types.BoolType: True, types.DecimalType: "0.25",
}  # fmt: skip


def filled(kind: types.Type, name: str = "") -> Any:
    """A value of a type in which each text is the application's, and each key of it."""
    match kind:
        case types.Metadata():
            return filled(kind.type, name)
        case types.StructType():
            tag = {} if kind.tag_field is None else {kind.tag_field: kind.tag}
            fields = {one.encode_name: filled(one.type, one.name) for one in kind.fields if one.name not in NOT_SENT}
            return tag | fields
        case types.UnionType():
            return filled(next(one for one in kind.types if not isinstance(one, types.NoneType)), name)
        case types.ListType():
            return [filled(kind.item_type, name)]
        case types.DictType():
            return {TEXT: filled(kind.value_type)}
        case types.LiteralType():
            return kind.values[0]
        case types.StrType():
            return f"id-{name}" if name in JOINING else TEXT
    return PLAIN.get(type(kind), {TEXT: [{TEXT: TEXT}]})  # else JSON


def words(kind: types.Type, path: Path = ()) -> Iterator[tuple[Path, str]]:
    """Where a record may have a word of callspan, and each of these words."""
    match kind:
        case types.Metadata(extra=dict(extra)) if "words" in extra:
            yield from ((path, word) for word in extra["words"])
        case types.Metadata():
            yield from words(kind.type, path)
        case types.LiteralType():
            yield from ((path, str(word)) for word in kind.values)
        case types.StructType():
            for field in kind.fields:
                if field.name not in NOT_SENT:
                    yield from words(field.type, (*path, field.encode_name))
        case types.UnionType():
            for member in kind.types:
                yield from words(member, path)
        case types.ListType():
            yield from words(kind.item_type, (*path, 0))


def at(tree: Any, path: Path) -> Any:
    for step in path:
        tree = tree[step]
    return tree


def record_of(tag: str) -> tuple[dict[str, Any], type[Record]]:
    kind = RECORD_TYPES[tag]
    return filled(types.type_info(kind)), kind


def texts_in(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    for item in [*value, *value.values()] if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from texts_in(item)


@pytest.mark.parametrize("tag", RECORD_TYPES)
def test_every_text_and_key_of_the_application_is_masked(tag: str) -> None:
    tree, kind = record_of(tag)
    kept = json.loads(encode(masked(msgspec.json.decode(msgspec.json.encode(tree), type=kind))))
    kept.pop("redactions")
    trace = kept.pop("trace", None)
    assert TEXT not in [*texts_in(kept)]
    assert [*texts_in(kept)].count(digest(TEXT)) > 5
    assert {name: value for name, value in kept.items() if name in JOINING} == {
        name: value for name, value in tree.items() if name in JOINING
    }
    assert trace == tree.get("trace"), "it joins spans"


@pytest.mark.parametrize("tag", RECORD_TYPES)
def test_every_word_of_callspan_is_kept(tag: str) -> None:
    kind = RECORD_TYPES[tag]
    defined = {"api": tuple(APIS), "operation": get_args(Operation), "provider": PROVIDERS} if tag == "call" else {}
    above = [((name,), word) for name, of_field in defined.items() for word in of_field]
    seen = 0
    for path, word in [*words(types.type_info(kind)), *above]:
        tree, _ = record_of(tag)
        at(tree, path[:-1])[path[-1]] = word
        kept = json.loads(encode(masked(msgspec.json.decode(msgspec.json.encode(tree), type=kind))))
        holder = at(kept, path[:-1])
        # What is left out is the default of its field.
        left = holder.get(path[-1], word) if isinstance(holder, dict) else holder[path[-1]]
        assert left == word, path
        seen += 1
    assert seen > (tag != "timestep") * 5


def test_kinds_of_errors_are_words_of_callspan() -> None:
    stated = {error_kinds.classify(status, None, None, None, None) for status in range(300, 600)}
    tables = (error_kinds._BY_EXCEPTION, error_kinds._BY_WORD, error_kinds._BY_REPEATED)
    assert stated.union(*(table.values() for table in tables), error_kinds._MESSAGES) <= {*get_args(ErrorKind)}


def test_money_is_no_text() -> None:
    """It is text in JSON: masked, the record would lose all content."""
    cost = Cost(usd=Decimal("0.25"), source="provider")
    attempts = [Attempt(number=1, start_ns=0, cost=cost)]
    kept = masked(made(usage=Usage(cost_usd=Decimal("0.5"), hosted_tools={"file_search": 2}), attempts=attempts))
    assert (kept.usage.cost_usd, kept.attempts[0].cost, kept.usage.hosted_tools) == (
        Decimal("0.5"), cost, {"file_search": 2},
    )  # fmt: skip


CITIES: Final = {KEY: TEXT, "nested": [{KEY: {"query": TEXT}}]}
OURS: Final[dict[str, tuple[Record, tuple[str, ...]]]] = {
    "tool": (event("e", event_type="tool", data={"arguments": CITIES, "result": [CITIES]}), ("arguments", "result")),
    "agent": (event("e", event_type="agent", data={"input": CITIES, "output": CITIES}), ("input", "output")),
    "environment": (
        event("e", event_type="environment", data={"before": CITIES, "after": CITIES, "info": CITIES}),
        ("before", "after", "info"),
    ),
    "action": (event("e", event_type="action", data={"arguments": CITIES}), ()),
    "own event": (event("e", event_type="visit", data={"arguments": CITIES, "before": CITIES}), ()),
    "message": (message("m", {"arguments": CITIES}), ()),
    "metadata": (session(metadata={"user_id": "u", "extra": CITIES, "tags": [CITIES]}), ("user_id", "extra", "tags")),
}
"""JSON of the application in records, and the keys of it that callspan defines."""


@pytest.mark.parametrize("place", OURS)
def test_keys_of_the_application_are_masked_at_any_depth(place: str) -> None:
    record, defined = OURS[place]
    kept = encode(masked(record)).decode()
    assert not [key for key in (KEY, "nested", "query", TEXT) if f'"{key}"' in kept]
    assert all(f'"{key}":' in kept for key in defined)
    others = {"arguments", "before"} - {*defined}
    assert not [key for key in others if f'"{key}"' in kept]


SCHEMA: Final = {"type": "object", "properties": {KEY: {"type": "string", "description": "d"}}}
BODIES: Final[dict[str, dict[str, Any]]] = {
    "tool use": {"messages": [{"role": "assistant", "content": [{"type": "tool_use", "name": "f", "input": CITIES}]}]},
    "arguments": {"messages": [{"role": "user", "tool_calls": [{"function": {"name": "f", "arguments": CITIES}}]}]},
    "function call": {"messages": [{"text": [{"function_call": {"name": "f", "args": CITIES}}]}]},
    "function response": {"messages": [{"text": [{"function_response": {"name": "f", "response": CITIES}}]}]},
    "converse": {"messages": [{"content": [{"toolUse": {"name": "f", "input": CITIES}}]}]},
    "converse result": {"messages": [{"content": [{"toolResult": {"content": [{"json": CITIES}]}}]}]},
    "cohere": {"messages": [{"tool_calls": [{"name": "f", "parameters": CITIES}]}]},
    "cohere result": {"messages": [{"call": {"name": "f", "parameters": CITIES}, "outputs": [CITIES]}]},
    "interaction": {"messages": [{"type": "function_result", "call_id": "c", "result": CITIES}]},
    "metadata": {"metadata": CITIES},
    "variables": {"prompt": {"id": "p", "variables": CITIES}},
    "schema": {"tools": [{"type": "function", "function": {"name": "f", "parameters": SCHEMA}}]},
    "schema of Converse": {"tools": [{"name": "f", "inputSchema": {"json": SCHEMA}}]},
}  # fmt: skip


@pytest.mark.parametrize("side", ["request", "response", "params", "error"])
@pytest.mark.parametrize("form", BODIES)
def test_keys_of_arguments_in_bodies_are_masked(form: str, side: str) -> None:
    body = {"role": TEXT, "city": "Rome", **BODIES[form]}
    record = {
        "request": made(request=Request(body=raw(body))),
        "response": made(response=Response(body=raw(body))),
        "params": made(request=Request(params=body)),
        "error": made(error=callspan.records.ErrorInfo(kind="auth", type="x", body=body)),
    }[side]
    kept = encode(masked(record)).decode()
    assert TEXT not in kept
    assert kept.count(f'"{KEY}"') == 1, "the provider's own"
    kept_keys = {"role", "messages", "content", "tool_calls", "tools", "type", "properties"} & {*texts_in(body)}
    assert all(f'"{key}":' in kept for key in kept_keys if f'"{key}":' in json.dumps(body))


WORDS: Final = {"role": "user", "type": "text", "status": "completed"}
"""Values that a provider's API defines for these members."""


@pytest.mark.parametrize("holder", ["arguments", "args", "metadata", "variables", "properties", "content", "text"])
def test_values_that_an_api_defines_are_kept_at_its_own_places(holder: str) -> None:
    is_wire = holder in ("content", "text")
    body = {"messages": [{**WORDS, "name": "user", "model": "text", holder: [WORDS] if is_wire else WORDS}]}
    kept = json.loads(bytes(masked(made(request=Request(body=raw(body)))).request.body))
    (message,) = kept["messages"]
    assert {key: message[key] for key in WORDS} == WORDS
    assert (message["name"], message["model"]) == (digest("user"), digest("text")), "the application chooses them"
    below = message[holder][0] if is_wire else message[holder]
    assert ({*below.values()} == {*WORDS.values()}) == is_wire
    assert is_wire or {*below.values()} == {*map(digest, WORDS.values())}


def test_words_under_other_members_are_texts() -> None:
    body = {"messages": [{"role": "assistant", "content": "user", "type": "assistant", "note": "text", "text": "text"}]}
    kept = json.loads(bytes(masked(made(request=Request(body=raw(body)))).request.body))
    assert kept["messages"] == [
        {"role": "assistant", "content": digest("user"), "type": digest("assistant"), digest("note"): digest("text"),
         "text": digest("text")}
    ]  # fmt: skip


def test_references_to_media_are_kept() -> None:
    reference = {"callspan_media": {"sha256": "a", "bytes": 4, "mime": "image/png"}}
    data = {"arguments": {KEY: reference}, "result": {"callspan_truncated": {"bytes": 9}}}
    kept = masked(event("e", event_type="tool", data=data))
    ((_, found),) = kept.data["arguments"].items()
    assert [*found["callspan_media"]] == ["sha256", "bytes", "mime"]
    assert kept.data["result"] == {"callspan_truncated": {"bytes": 9}}


def test_scopes_and_hosted_tools_are_recorded_under_a_hash(
    provider: ScriptedProvider, client: openai.OpenAI, caplog: pytest.LogCaptureFixture
) -> None:
    output = [
        {"type": "mcp_call", "id": TEXT, "name": "mn", "server_label": "l", "arguments": "{}", "output": "mo"},
        {"type": "web_search_call", "id": "w", "status": "completed", "action": {"type": "search", "query": TEXT}},
    ]
    usage = {"input_tokens": 1, "output_tokens": 1, "total_tokens": 2}
    provider.reply(raw={"id": "r1", "object": "response", "model": "m", "status": "completed", "output": output,
        "usage": usage})  # fmt: skip
    with capture(redact=callspan.redact_texts(digest)) as seen, callspan.session("s") as opened:
        with opened.timestep() as step:
            client.responses.create(model="m", input="hi")
            with step.tool(TEXT, arguments={KEY: TEXT}) as tool:
                tool.result = TEXT
            with callspan.invoke_agent(TEXT), callspan.guardrail(TEXT):
                pass
            step.handoff(TEXT, TEXT)
            step.environment_step(TEXT)
        opened.observation(TEXT)
        opened.outcome(1.0, success=True)
    assert not caplog.records
    events = [one for one in seen.everything if isinstance(one, EventRecord)]
    assert {one.event_type for one in events} >= {"tool", "tool_start", "agent", "guardrail"}
    assert sum(one.event_type == "tool" for one in events) == 3
    names = {span.name.split()[0] for span in seen.spans}
    assert names >= {"execute_tool", "invoke_agent", "guardrail", "timestep", "invoke_workflow"}
    assert TEXT not in "".join(encode(one).decode() for one in seen.everything)
    assert TEXT not in "".join(span.to_json() for span in seen.spans)


@pytest.mark.parametrize(
    ("api", "answer"),
    [
        ("interactions", {"id": "i", "status": "completed", "outputs": [{"type": "text", "text": "Ada"}]}),
        ("invoke_model", {"outputs": [{"text": "Ada", "stop_reason": "stop"}]}),
    ],
)
def test_answers_in_a_field_named_as_results_of_tools_keep_their_parts(api: str, answer: Any) -> None:
    with (
        capture(redact=callspan.redact_texts(lambda text: "x")) as seen,
        callspan.record_call(provider="p", api=api) as call,
    ):
        call.request({"model": "m", "input": "q", "prompt": "q"})
        call.response(answer)
    conversation: Any = seen.records[0].conversation
    assert [[part.text for part in message.parts] for message in conversation.output] == [["x"]]


def test_roles_in_any_case_are_kept() -> None:
    turns = [{"role": role, "message": "Ada"} for role in ("User", "Chatbot", "SYSTEM", "tool")]
    with (
        capture(redact=callspan.redact_texts(lambda text: "x")) as seen,
        callspan.record_call(provider="p", api="cohere_chat_v1") as call,
    ):
        call.request({"model": "m", "message": "Ada", "chat_history": turns})
        call.response({"text": "Ada"})
    conversation: Any = seen.records[0].conversation
    assert [message.role for message in conversation.input] == ["user", "assistant", "system", "tool", "user"]
