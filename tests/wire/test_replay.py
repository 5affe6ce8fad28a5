"""Every recorded exchange through the real SDKs with callspan on, in all vocabularies, against the oracle.

For each: the caller gets what it gets without callspan, there is one span and one record, and both
state what the oracle read from the bytes. Streams arrive in pieces of odd sizes.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from tests.support.scale import scaled
from tests.support.spans_of_records import differences
from tests.wire import corpus, oracle
from tests.wire.corpus import Exchange
from tests.wire.on_spans import classified, facts_decided, wrong_attributes
from tests.wire.oracle import ROLES, SETTINGS, TOOL_ROLES, Facts, Json
from tests.wire.replay import ENTRIES, HELPED, Outcome, Replayer

from callspan.records import (
    CallRecord,
    Conversation,
    Part,
    Reasoning,
    Record,
    Refusal,
    Text,
    ToolCall,
    ToolResult,
)
from callspan.semconv import gen_ai, llm, openinference
from callspan.testing import capture

pytestmark = pytest.mark.filterwarnings("ignore:The model .* is deprecated:DeprecationWarning")
MODES = pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
STREAMED_APIS = ("chat_completions", "responses", "messages", "completions")
APIS = (*STREAMED_APIS, "embeddings")
INDEPENDENT = ("corpus", "generated_streams", "on_spans", "oracle", "replay", "stream_oracle")
VOCABULARIES: Final = ("llm", "gen_ai", "openinference")
UNPARSED = {"read", "lines"}
HIDDEN = "[secret]"
PIECES = (31, *scaled((), (None, 1, 3, 7, 257)))
"""Bytes per piece of a stream; None: in one piece."""
PROVIDERS = {"api.groq.com": "groq", "api.mistral.ai": "mistral_ai", "openrouter.ai": "openrouter"}
"""Of some hosts; `tests/tables` has all."""
CALLER_RUNS = {"function", "custom"}
TOOLS = ("tool_calls", "hosted_tools")
ORDERED = {"responses", "messages"}
ORDER: dict[type, str] = {Text: "text", Reasoning: "reasoning", ToolCall: "tool_call", ToolResult: "tool_result"}
COPIED: dict[str, dict[str, str]] = {
    "request": {"stream": "stream", "request_model": "model", "message_count": "message_count"},
    "response": {
        "response_id": "id", "response_model": "model", "created": "created", "status": "status",
        "service_tier": "service_tier", "system_fingerprint": "system_fingerprint",
    },
    "error": {"error_type": "type", "error_code": "code", "error_param": "param", "error_message": "message"},
    "usage": {name: name for name in oracle.COUNTERS},
}  # fmt: skip
"""Facts that parts of a record state as they are, and their fields."""
NOTHING: tuple[object, ...] = (None, [], {})
"""States no fact; an empty text does."""


@functools.lru_cache(maxsize=2 * len(APIS))
def bare(asynchronous: bool, entry: str, chosen: tuple[Exchange, ...]) -> dict[str, Outcome]:
    """What callers get without callspan, by exchange; kept for the next test over the same exchanges."""
    with Replayer(asynchronous=asynchronous, entry=entry) as replayer:
        return {each.id: replayer.play(each) for each in chosen}


def expected_facts(exchange: Exchange, outcome: Outcome, entry: str) -> Facts:
    """The oracle's facts; where only the SDK's exception tells of an error, its class and words are the error.

    With a raw response the call is over before the caller parses: what fails then is no failure of the call.
    """
    found = oracle.truth(exchange)
    parsed_later = entry == "raw" and exchange.status == 200
    if outcome.error is None or found.get("error_type") is not None or parsed_later:
        return found
    return {**found, "error_type": outcome.error.rsplit(".", 1)[-1], "error_message": outcome.message}


def facts_of(record: CallRecord, conversation: Conversation) -> Facts:
    """Return the facts that a finished record and its typed messages state."""
    found: Facts = {"api": record.api, **facts_of_conversation(record.api, conversation)}
    for part, names in COPIED.items():
        if (holder := getattr(record, part)) is not None:
            found |= {fact: getattr(holder, name) for fact, name in names.items()}
    found["tool_names"] = record.request.tool_names
    params = record.request.params
    found["request_params"] = {key: params[key] for key in SETTINGS if params.get(key) is not None}
    found["finish_reasons"] = record.response and record.response.finish_reasons
    return found


def facts_of_conversation(api: str, conversation: Conversation) -> Facts:
    given = [message for message in conversation.input if message.role not in TOOL_ROLES]
    answers = [message for message in conversation.output if message.role != "user"]
    texts = [texts_of(message.parts) for message in answers]
    parts = [part for message in answers for part in message.parts]
    thoughts = [part for part in parts if isinstance(part, Reasoning)]
    calls = [part for part in parts if isinstance(part, ToolCall)]
    written = [part for part in parts if isinstance(part, Text)]
    ordered = [ORDER[type(part)] for part in parts if type(part) in ORDER and part != Text(text="")]
    return {
        "system_texts": texts_of(conversation.system),
        "request_roles": [message.role for message in conversation.input] if api in ROLES else [],
        "request_texts": [text for message in given for text in texts_of(message.parts)],
        "choices": len(answers) or None,
        "texts": texts if any(texts) else [],
        "order": ordered if api in ORDERED else [],
        "refusals": [part.text for part in parts if isinstance(part, Refusal) and part.text],
        "reasoning": [part.text for part in thoughts if part.text is not None],
        "signatures": [part.signature for part in thoughts if part.signature is not None],
        "sealed": [part.sealed for part in thoughts if part.sealed is not None],
        "tool_calls": [tool_of(call) for call in calls if call.tool_type in CALLER_RUNS],
        "hosted_tools": [tool_of(call) for call in calls if call.tool_type not in CALLER_RUNS],
        "tool_results": [part.id for part in parts if isinstance(part, ToolResult) and part.id is not None],
        "annotations": sum(len(part.annotations or []) for part in written) or None,
        "logprobs": sum(token_count(part.logprobs) for part in written) or None,
    }


def texts_of(parts: Sequence[Part]) -> list[str]:
    return [part.text for part in parts if isinstance(part, Text) and part.text]


def tool_of(call: ToolCall) -> Json:
    return {"id": call.id, "name": call.name, "arguments": call.arguments, "kind": call.tool_type}


def wrong_facts(wire: Facts, read: Facts) -> Iterator[str]:
    """Yield each fact that was understood in another way than the wire states it."""
    for name in sorted({*wire, *read}):
        want, got = (None if one.get(name) in NOTHING else one[name] for one in (wire, read))
        if name in TOOLS and want and got and len(want) == len(got):
            got = [as_stated(one, other, name) for one, other in zip(want, got, strict=True)]
        if want != got or type(want) is not type(got):
            yield f"{name}: wire {shortened(want)}, got {shortened(got)}"


def as_stated(wire: Json, read: Json, name: str) -> Json:
    """Return a tool that was read, with what is free as on the wire.

    The spelling of an object as text is free, and of a hosted tool what the wire does not state besides its id.
    """
    free = {key: None for key, value in wire.items() if value is None and key != "id" and name == "hosted_tools"}
    if isinstance(wire.get("arguments"), dict):
        free["arguments"] = json.loads(read["arguments"])
    return {**read, **free}


def shortened(value: object, most: int = 160) -> str:
    text = repr(value)
    return text if len(text) <= most else text[: most // 2] + " … " + text[-most // 2 :]


def token_count(logprobs: Any) -> int:
    if isinstance(logprobs, dict):
        return len(logprobs.get("content") or logprobs.get("tokens") or [])
    return len(logprobs) if isinstance(logprobs, list) else 0


def masked(wanted: str | None, got: str | None) -> str | None:
    """The message expected of a record, which hides keys: as recorded if all around the hidden parts is as sent."""
    if wanted is None or got is None or HIDDEN not in got:
        return wanted
    return got if re.fullmatch(".+".join(map(re.escape, got.split(HIDDEN))), wanted, re.DOTALL) else wanted


def not_started(record: Record) -> bool:
    """Whether this is the record of a finished call; streams write one at their start too."""
    return isinstance(record, CallRecord) and record.part != "started"


def body_checks(exchange: Exchange, record: CallRecord) -> dict[str, tuple[object, object]]:
    """The body of a plain answer is kept as it came, but for vectors and media; a stream has one of its own."""
    whole = exchange.status == 200 and exchange.body and not exchange.stream and exchange.endpoint != "embeddings"
    if not whole or record.redactions or record.response is None:
        return {}
    return {"response body": (json.loads(bytes(record.response.body) or b"null"), json.loads(exchange.body))}


def stream_checks(exchange: Exchange, record: CallRecord, entry: str) -> dict[str, tuple[object, object]]:
    """How a stream went, against what was sent: its end, its chunks, whether the provider said it was over."""
    if not exchange.stream or exchange.status != 200:
        return {"no stream": (record.stream, None)}
    chunks = list(corpus.chunks(exchange.body))
    # Who reads bytes or lines gets pings too, and the provider's error as one more event instead of an exception.
    pings = sum(event.event == "ping" for event in corpus.events(exchange.body)) if entry in UNPARSED else 0
    broken = entry not in UNPARSED and any("error" in chunk and "type" not in chunk for chunk in chunks)
    last, stream = chunks[-1], record.stream
    # Snowflake gives no finish reason; its chunk of usage, without choices, is the last word all the same.
    over = any(oracle.truth(exchange).get("finish_reasons", ())) or (last.get("choices") == [] and "usage" in last)
    over = over or ("[DONE]" in exchange.body and not broken)
    return {
        "stream end": (stream and stream.end, "error" if broken else "complete"),
        "stream chunks": (stream and stream.chunks, len(chunks) + pings - broken),
        "stream complete": (stream and stream.complete, over),
    }


def complaints(exchange: Exchange, record: CallRecord, span: ReadableSpan, sent: object, entry: str) -> list[str]:
    """What of a record, besides the oracle's facts, is not as the exchange was."""
    host, _, port = exchange.host.partition(":")
    checks = {
        "server": ((record.server_address, record.server_port), (host, int(port or 443))),
        "provider": (record.provider, PROVIDERS.get(exchange.host, record.provider)),
        "attempts": (len(record.attempts), 1),
        "retries": (record.retries, 0),
        "status": (record.attempts[-1].status if record.attempts else None, exchange.status),
        "request body": (sent if record.redactions else json.loads(bytes(record.request.body)), sent),
        "span and record": (record.span_id, f"{span.context.span_id:016x}" if span.context else None),
        **body_checks(exchange, record),
        **stream_checks(exchange, record, entry),
    }
    return [f"{exchange.id} {name}: {got!r}, not {want!r}" for name, (got, want) in checks.items() if got != want]


def is_tool(span: ReadableSpan) -> bool:
    return (span.attributes or {}).get("gen_ai.operation.name") == "execute_tool"


def tool_checks(exchange: Exchange, call: ReadableSpan, tools: list[ReadableSpan]) -> list[str]:
    """What of the tools that ran at the provider is not as the exchange was: each is a span below its call, once."""
    parent = call.get_span_context().span_id
    below = [tool.attributes or {} for tool in tools if tool.parent and tool.parent.span_id == parent]
    got, want = [found.get("gen_ai.tool.call.id") for found in below], oracle.ran_at_provider(exchange)
    return [] if got == want else [f"{exchange.id} tools at the provider: {got!r}, not {want!r}"]


def replay(chosen: Sequence[Exchange], *, asynchronous: bool, pieces: int | None, entry: str = "create") -> None:
    """Play the exchanges with callspan on; fail with what went wrong, exchange by exchange."""
    expected = bare(asynchronous, entry, tuple(chosen))
    wrong = list[str]()
    playing = Replayer(asynchronous=asynchronous, pieces=pieces, entry=entry)
    with playing as replayer, capture(vocabularies=VOCABULARIES) as seen:
        sent = list[object]()
        for number, each in enumerate(chosen, start=1):
            outcome = replayer.play(each)
            sent.append(replayer.sent_body())
            if outcome != expected[each.id]:
                wrong.append(f"{each.id} the caller got something else: {shortened(outcome, 400)}")
            calls = sum(not is_tool(span) for span in seen.spans)
            made = sum(not_started(record) for record in seen.everything), calls
            assert made == (number, number), f"{each.id}: {made} records and spans after {number} calls"
        tools, spans = ([span for span in seen.spans if is_tool(span) is of_tool] for of_tool in (True, False))
        for each, record, span, body in zip(chosen, seen.records, spans, sent, strict=True):
            conversation = record.conversation or Conversation()
            wire, read = expected_facts(each, expected[each.id], entry), facts_of(record, conversation)
            wire["error_message"] = masked(wire.get("error_message"), read.get("error_message"))
            wrong += [f"{each.id} {one}" for one in wrong_facts(wire, read)]
            wrong += [f"{each.id} on the span: {one}" for one in wrong_attributes(each, wire, span.attributes or {})]
            wrong += complaints(each, record, span, body, entry)
            wrong += tool_checks(each, span, tools)
        wrong += differences(spans, seen.records, vocabularies=VOCABULARIES)
    assert not wrong, "\n".join([f"{len(chosen)} exchanges", *wrong[:40]])


@MODES
@pytest.mark.parametrize("api", APIS)
def test_plain_calls_match_the_wire_data(api: str, asynchronous: bool) -> None:
    chosen = [each for each in corpus.load() if each.endpoint == api and not each.stream and each.inference]
    replay(chosen, asynchronous=asynchronous, pieces=None)


@MODES
@pytest.mark.parametrize("pieces", PIECES)
@pytest.mark.parametrize("api", STREAMED_APIS)
def test_split_streams_match_the_wire_data(api: str, pieces: int | None, asynchronous: bool) -> None:
    chosen = [each for each in corpus.load() if each.endpoint == api and each.stream and each.inference]
    replay(chosen, asynchronous=asynchronous, pieces=pieces)


@MODES
@pytest.mark.parametrize("entry", [entry for entry in ENTRIES if entry != "create"])
def test_every_sdk_entry_point_records_alike(entry: str, asynchronous: bool) -> None:
    """Raw and streaming responses, the beta resource and `client.post`: the same facts, and nothing for the caller."""
    chosen = [each for each in corpus.load() if each.inference and (entry != "beta" or each.endpoint == "messages")]
    replay(chosen, asynchronous=asynchronous, pieces=PIECES[0], entry=entry)


@MODES
@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")  # the SDK's own, of answers newer than its models
@pytest.mark.parametrize("api", HELPED)
def test_stream_helpers_record_alike(api: str, asynchronous: bool) -> None:
    """Leaves out what a helper refuses by itself: tools that are not strict, deltas it cannot put together."""
    streams = [each for each in corpus.load() if each.endpoint == api and each.stream]
    with Replayer(asynchronous=asynchronous, entry="helper") as replayer:
        chosen = [each for each in streams if replayer.play(each).error is None]
    assert len(chosen) >= len(streams) / 2
    replay(chosen, asynchronous=asynchronous, pieces=PIECES[0], entry="helper")


@MODES
@pytest.mark.parametrize("entry", ENTRIES)
def test_token_counts_and_unfinished_answers_are_not_recorded(entry: str, asynchronous: bool) -> None:
    chosen = [each for each in corpus.load() if not each.inference]
    assert len(chosen) == 6
    with Replayer(asynchronous=asynchronous, entry=entry) as replayer:
        without = [replayer.play(each) for each in chosen]
    with Replayer(asynchronous=asynchronous, entry=entry) as replayer, capture() as seen:
        assert [replayer.play(each) for each in chosen] == without
    bodies = [json.loads(each.body) for each in chosen if "background" in each.body]
    (ended,) = (body for body in bodies if body["status"] == "completed")
    (record,), (span,) = seen.records, seen.spans
    assert (record.response.id, record.outcome) == (ended["id"], "success")
    assert record.usage.input_tokens == ended["usage"]["input_tokens"] == span.attributes["gen_ai.usage.input_tokens"]
    assert record.usage.output_tokens == ended["usage"]["output_tokens"]


@pytest.mark.parametrize("name", INDEPENDENT)
def test_oracle_does_not_import_callspan(name: str) -> None:
    imports = r"^\s*(?:from|import) ([\w.]+)"
    imported = {*re.findall(imports, Path(__file__).with_name(f"{name}.py").read_text("utf-8"), re.MULTILINE)}
    assert not {module for module in imported if module.split(".")[0] == "callspan"}
    ours = {module.removeprefix("tests.wire.") for module in imported if module.startswith("tests.wire.")}
    assert ours <= set(INDEPENDENT)


def test_exchanges_are_read_and_model_answers_name_their_model() -> None:
    """Anchors of the corpus, counted over the raw text and not by the oracle."""
    read = [(each, oracle.truth(each)) for each in corpus.load()]
    assert len(read) == (961 if corpus.IS_WHOLE else 221)
    complete = [found for each, found in read if each.status == 200 and each.inference and each.body]
    # Three compactions, Ollama's native embedding, Writer's bare stream and an error under status 200 name no model.
    assert sum(found.get("response_model") is None for found in complete) == 6
    # 22 by their status, one within a stream, one in a body under status 200.
    assert sum(found.get("error_type") is not None for _, found in read) == 24


def test_every_fact_occurs_in_some_exchange() -> None:
    looked_for = [fact for each in corpus.load() for fact in oracle.truth(each).items()]
    stated = {name for name, value in looked_for if value not in NOTHING}
    assert {name for name, _ in looked_for} - stated == set()


def test_attributes_and_facts_are_classified() -> None:
    """A new attribute, or a new fact of the wire, has a line in `on_spans.yaml`: so none can be lost unseen."""
    tables = (module.START + module.END for module in (gen_ai, llm, openinference))
    rows = {row.name for table in tables for row in table.rows}
    assert {name for name in classified() if not name.startswith("callspan.")} == rows
    assert facts_decided() == {name for each in corpus.load() for name in oracle.truth(each)}
