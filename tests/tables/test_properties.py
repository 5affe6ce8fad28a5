"""Properties of the readers: an answer cut into any stream folds back, any prefix can be read, nothing raises.

Values of other types are absent, and nothing is shared with the original.
"""

from __future__ import annotations

import copy
import datetime as dt
import itertools
import json
from typing import Any

import pytest
from hypothesis import example, given, note, settings
from hypothesis import strategies as st
from tests.support.bodies import endpoint, folded

from callspan.providers.base import Endpoint
from callspan.providers.registry import APIS
from callspan.providers.wire_json import detached, unix_ns
from callspan.record.codec import encode_json
from callspan.records import Message, Text

Json = dict[str, Any]
Cut = tuple[Json, list[Json]]
"""A part of an answer, and the pieces as which a stream brings it."""
ENDPOINTS = [endpoint(api) for api in APIS]
OFTEN = settings(max_examples=3 * settings().max_examples)
"""Of what is made once for all endpoints."""

TEXTS = st.text(min_size=1, max_size=30)
URLS = st.lists(TEXTS, max_size=3, unique=True)


def pieces(draw: st.DrawFn, text: str) -> list[str]:
    """The text in pieces, some of which may be empty."""
    cuts = draw(st.lists(st.integers(0, len(text)), max_size=3).map(sorted))
    return [text[a:b] for a, b in itertools.pairwise([0, *cuts, len(text)])]


def interleaved(draw: st.DrawFn, threads: list[list[Any]]) -> list[Any]:
    """All items of the threads, each thread in its order."""
    order = draw(st.permutations([number for number, thread in enumerate(threads) for _ in thread]))
    queues = [iter(thread) for thread in threads]
    return [next(queues[number]) for number in order]


# Chat: the fields of a message, in deltas.

CHAT: Json = {"id": "chatcmpl-1", "object": "chat.completion", "created": 17, "model": "m"}
CHUNK = {**CHAT, "object": "chat.completion.chunk"}


def plain_content(draw: st.DrawFn) -> Cut:
    text = draw(st.just("") | TEXTS)
    return {"content": text or None}, [{"content": piece} for piece in filter(None, pieces(draw, text))]


def rich_content(draw: st.DrawFn) -> Cut:
    """Mistral's content: thoughts and texts as a list."""
    thought, text = draw(TEXTS), draw(TEXTS)
    whole: list[Json] = [{"type": "thinking", "thinking": [{"type": "text", "text": thought}]}]
    whole.append({"type": "text", "text": text})
    thoughts: list[Any] = [
        [{"type": "thinking", "thinking": [{"type": "text", "text": piece}]}] for piece in pieces(draw, thought)
    ]
    return {"content": whole}, [{"content": part} for part in [*thoughts, *filter(None, pieces(draw, text))]]


def nothing_more(_: st.DrawFn) -> Cut:
    return {}, []


def reasoning_content(draw: st.DrawFn) -> Cut:
    """Thoughts as DeepSeek and vLLM have them."""
    thought = draw(TEXTS)
    return {"reasoning_content": thought}, [{"reasoning_content": piece} for piece in pieces(draw, thought)]


def reasoning_details(draw: st.DrawFn) -> Cut:
    """Thoughts as OpenRouter has them: summaries, signed texts and encrypted ones, with or without a number."""
    numbered = draw(st.booleans())
    details, deltas, thoughts = [], list[Json](), ""
    kinds = draw(st.lists(st.sampled_from(["summary", "text", "encrypted"]), min_size=1, max_size=4))
    for number, (kind, _) in enumerate(itertools.groupby(kinds)):
        entry: Json = {"type": f"reasoning.{kind}", "format": "anthropic-claude-v1"}
        entry |= {"index": number} if numbered else {}
        if kind == "encrypted":
            details.append({**entry, "data": "gAAA", "id": f"rs_{number}"})
            deltas.append({"reasoning_details": [details[-1]]})
            continue
        thought, signed = draw(TEXTS), {"signature": "sealed"} if kind == "text" and numbered else {}
        details.append({**entry, kind: thought, **signed})
        thoughts += thought
        deltas += [
            {"reasoning": piece, "reasoning_details": [{**entry, kind: piece}]} for piece in pieces(draw, thought)
        ]
        deltas += [{"reasoning_details": [{**entry, **signed}]}] if signed else []
    return {"reasoning_details": details} | ({"reasoning": thoughts} if thoughts else {}), deltas


def thinking_blocks(draw: st.DrawFn) -> Cut:
    """Thoughts as LiteLLM has Claude's, twice: signed blocks, and redacted ones that come whole."""
    blocks, fragments, reasoning = list[Json](), list[Json](), draw(TEXTS)
    for number, thought in enumerate(filter(None, pieces(draw, reasoning))):
        signature = f"signature {number}"
        blocks.append({"type": "thinking", "thinking": thought, "signature": signature})
        fragments += [{"type": "thinking", "thinking": piece, "signature": None} for piece in pieces(draw, thought)]
        fragments.append(draw(st.sampled_from([{"thinking": ""}, {}])) | {"type": "thinking", "signature": signature})
        if draw(st.booleans()):
            blocks.append({"type": "redacted_thinking", "data": f"sealed {number}"})
            fragments.append(blocks[-1])
    whole = {"thinking_blocks": blocks, "reasoning_content": reasoning}
    return whole | {"provider_specific_fields": {"thinking_blocks": blocks}}, [
        {
            "thinking_blocks": [fragment],
            "reasoning_content": fragment.get("thinking"),
            "provider_specific_fields": {"citations": None, "thinking_blocks": [fragment]},
        }
        for fragment in fragments
    ]


def annotations(draw: st.DrawFn) -> Cut:
    """Citations and pictures, which come whole, one or several at a time; two may be alike."""
    key = draw(st.sampled_from(["annotations", "images"]))
    urls = draw(st.lists(st.sampled_from("abc"), min_size=1, max_size=4))
    listed = [{"type": "url_citation", "url_citation": {"url": url}} for url in urls]
    at = draw(st.integers(0, len(listed)))
    return {key: listed}, [{key: part} for part in (listed[:at], listed[at:]) if part]


def citations(draw: st.DrawFn) -> Cut:
    """LiteLLM's for Claude: one in each delta, all in the plain answer; and results, each time all there are."""
    listed = draw(st.lists(st.fixed_dictionaries({"cited_text": TEXTS}), min_size=1, max_size=3))
    found = [{"url": url} for url in draw(URLS)]
    whole = {"provider_specific_fields": {"citations": listed} | ({"web_search_results": found} if found else {})}
    deltas: list[Json] = [{"citation": citation, "citations": None} for citation in listed]
    deltas += [{"web_search_results": found[: number + 1]} for number in range(len(found))]
    return whole, [{"provider_specific_fields": delta} for delta in deltas]


CONTENTS = st.sampled_from([plain_content, plain_content, rich_content])
EXTRAS = st.sampled_from(
    [nothing_more, reasoning_content, reasoning_details, thinking_blocks, annotations, citations]
)  # fmt: skip
CALLS = st.lists(st.tuples(st.text("abc_", min_size=1, max_size=6), st.just("") | TEXTS), max_size=3)


def tool_call(draw: st.DrawFn, number: int, name: str, arguments: str) -> Cut:
    named = {"id": f"call_{number}", "type": "function"}
    first = {"index": number, **named, "function": {"name": name, "arguments": ""}}
    rest = [{"index": number, "function": {"arguments": piece}} for piece in pieces(draw, arguments)]
    whole = {**named, "function": {"name": name, "arguments": arguments}}
    return whole, [{"tool_calls": [one]} for one in (first, *rest)]


def choice(draw: st.DrawFn, index: int) -> Cut:
    content, extra = draw(CONTENTS)(draw), draw(EXTRAS)(draw)
    calls = [tool_call(draw, number, *call) for number, call in enumerate(draw(CALLS))]
    reason = draw(st.sampled_from(["stop", "length", "tool_calls"]))
    message = {"role": "assistant", **content[0], **extra[0]} | (
        {"tool_calls": [one for one, _ in calls]} if calls else {}
    )
    deltas = interleaved(draw, [content[1], extra[1], *(thread for _, thread in calls)])
    entry = {"index": index, "finish_reason": None} | draw(st.sampled_from([{}, {"logprobs": None}]))
    thread = [{**entry, "delta": delta} for delta in [{"role": "assistant", "content": ""}, *deltas]]
    whole = {"index": index, "message": message, "finish_reason": reason, "logprobs": None}
    return whole, [*thread, {**entry, "delta": {}, "finish_reason": reason}]


@st.composite
def chats(draw: st.DrawFn) -> Cut:
    choices = [choice(draw, index) for index in range(draw(st.integers(1, 3)))]
    usage = {"prompt_tokens": draw(st.integers(0, 99)), "completion_tokens": draw(st.integers(0, 99))}
    chunks = [{**CHUNK, "choices": [one]} for one in interleaved(draw, [thread for _, thread in choices])]
    whole = {**CHAT, "choices": [one for one, _ in choices], "usage": usage}
    return whole, [*chunks, {**CHUNK, "choices": [], "usage": usage}]


# Messages: blocks, each opened and then filled by deltas.


def text_block(draw: st.DrawFn) -> tuple[Json, Json, list[Json]]:
    cited = draw(st.lists(st.fixed_dictionaries({"type": st.just("char_location"), "cited_text": TEXTS}), max_size=3))
    text = draw(TEXTS)
    deltas: list[Json] = [{"type": "text_delta", "text": piece} for piece in pieces(draw, text)]
    marks: list[Json] = [{"type": "citations_delta", "citation": one} for one in cited]
    block: Json = {"type": "text", "text": text} | ({"citations": cited} if cited else {})
    opening: Json = {"type": "text", "text": ""} | ({"citations": []} if cited else {})
    return block, opening, [*deltas, *marks] if draw(st.booleans()) else [*marks, *deltas]


def thinking_block(draw: st.DrawFn) -> tuple[Json, Json, list[Json]]:
    thought = draw(TEXTS)
    deltas: list[Json] = [{"type": "thinking_delta", "thinking": piece} for piece in pieces(draw, thought)]
    block = {"type": "thinking", "thinking": thought, "signature": "EqQB"}
    signed = {"type": "signature_delta", "signature": "EqQB"}
    return block, {**block, "thinking": "", "signature": ""}, [*deltas, signed]


def tool_block(draw: st.DrawFn) -> tuple[Json, Json, list[Json]]:
    kind = draw(st.sampled_from(["tool_use", "server_tool_use", "mcp_tool_use"]))
    inputs = draw(
        st.dictionaries(st.text("abc", min_size=1, max_size=3), TEXTS | st.integers() | st.none(), max_size=3)
    )
    block: Json = {"type": kind, "id": "toolu_1", "name": "look", "input": inputs}
    written = json.dumps(inputs) if inputs else ""
    deltas = [{"type": "input_json_delta", "partial_json": piece} for piece in pieces(draw, written)]
    return block, {**block, "input": {}}, deltas


def compaction_block(draw: st.DrawFn) -> tuple[Json, Json, list[Json]]:
    block = {"type": "compaction", "content": draw(TEXTS), "encrypted_content": draw(st.none() | st.just("gAAA"))}
    return block, {**block, "content": None, "encrypted_content": None}, [{**block, "type": "compaction_delta"}]


def whole_block(draw: st.DrawFn) -> tuple[Json, Json, list[Json]]:
    results = [{"type": "web_search_result", "url": "u", "encrypted_content": "gAAA"}]
    redacted = {"type": "redacted_thinking", "data": "gAAA"}
    searched = {"type": "web_search_tool_result", "tool_use_id": "toolu_1", "content": results}
    block = draw(st.sampled_from([redacted, searched]))
    return block, block, []


def with_own_id(made: tuple[Json, Json, list[Json]], number: int) -> tuple[Json, Json, list[Json]]:
    """The block of a call with an id of its own: two with one id are one."""
    block, opening, deltas = made
    own = {"id": f"toolu_{number}"} if "id" in block else {}
    return {**block, **own}, {**opening, **own}, deltas


BLOCKS = st.sampled_from([text_block, thinking_block, tool_block, compaction_block, whole_block])


@st.composite
def messages(draw: st.DrawFn) -> Cut:
    made = [with_own_id(draw(BLOCKS)(draw), number) for number in range(draw(st.integers(1, 4)))]
    usage = {"input_tokens": 3, "output_tokens": draw(st.integers(1, 99)), "cache_read_input_tokens": 2}
    whole = {
        "id": "msg_1", "type": "message", "role": "assistant", "model": "claude", "stop_reason": "end_turn",
        "stop_sequence": None, "usage": usage, "content": [block for block, _, _ in made],
        "context_management": {"applied_edits": []},
    }  # fmt: skip
    begun = {**whole, "content": [], "stop_reason": None, "usage": {**usage, "output_tokens": 1}}
    events: list[Json] = [{"type": "message_start", "message": {**begun, "context_management": None}}]
    for index, (_, opening, deltas) in enumerate(made):
        events.append({"type": "content_block_start", "index": index, "content_block": opening})
        events += draw(st.sampled_from([[], [{"type": "ping"}]]))
        events += [{"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas]
        events.append({"type": "content_block_stop", "index": index})
    last = {"delta": {"stop_reason": "end_turn", "stop_sequence": None}, "usage": usage}
    end = {"type": "message_delta", "context_management": whole["context_management"], **last}
    return whole, [*events, end, {"type": "message_stop"}]


# Responses: items, each as in a plain answer, as it is opened, and the events that fill it.


def parts_of(draw: st.DrawFn, item: Json, key: str, event: str, number: str) -> list[Json]:
    """The events of the parts of an item; those that repeat a whole text may be missing."""
    events: list[Json] = []
    for place, part in enumerate(item[key]):
        field = "refusal" if part["type"] == "refusal" else "text"
        kind = event.format(part=part["type"])
        around = "response.reasoning_summary_part" if key == "summary" else "response.content_part"
        empty = {**part, field: ""} | ({"annotations": []} if part.get("annotations") else {})
        at = {number: place}
        events.append({"type": f"{around}.added", **at, "part": empty})
        events += [{"type": f"{kind}.delta", **at, "delta": piece} for piece in pieces(draw, part[field])]
        for annotation in part.get("annotations", ()):
            events.append({"type": "response.output_text.annotation.added", **at, "annotation": annotation})
        if draw(st.booleans()):
            events.append({"type": f"{kind}.done", **at, field: part[field]})
        if draw(st.booleans()):
            events.append({"type": f"{around}.done", **at, "part": part})
    return events


def message_item(draw: st.DrawFn) -> tuple[Json, Json, list[Json]]:
    marks = st.lists(st.fixed_dictionaries({"type": st.just("url_citation"), "url": TEXTS}), max_size=2)
    texts = st.fixed_dictionaries({"type": st.just("output_text"), "text": TEXTS, "annotations": marks})
    refusals = st.fixed_dictionaries({"type": st.just("refusal"), "refusal": TEXTS})
    parts = draw(st.lists(texts | refusals, min_size=1, max_size=3))
    item: Json = {"type": "message", "role": "assistant", "content": parts}
    return item, {**item, "content": []}, parts_of(draw, item, "content", "response.{part}", "content_index")


def reasoning_item(draw: st.DrawFn) -> tuple[Json, Json, list[Json]]:
    summaries = [{"type": "summary_text", "text": text} for text in draw(st.lists(TEXTS, max_size=2))]
    thoughts = [{"type": "reasoning_text", "text": text} for text in draw(st.lists(TEXTS, max_size=2))]
    item: Json = {"type": "reasoning", "summary": summaries, "content": thoughts, "encrypted_content": "gAAA"}
    events = parts_of(draw, item, "summary", "response.reasoning_summary_text", "summary_index")
    events += parts_of(draw, item, "content", "response.{part}", "content_index")
    return item, {**item, "summary": [], "content": []}, events


ARGUMENTS = {
    "function_call": ("arguments", "response.function_call_arguments"),
    "mcp_call": ("arguments", "response.mcp_call_arguments"),
    "custom_tool_call": ("input", "response.custom_tool_call_input"),
    "code_interpreter_call": ("code", "response.code_interpreter_call_code"),
}


def call_item(draw: st.DrawFn) -> tuple[Json, Json, list[Json]]:
    kind = draw(st.sampled_from([*ARGUMENTS]))
    field, event = ARGUMENTS[kind]
    item: Json = {"type": kind, "call_id": "call_1", "name": "look", field: draw(TEXTS)}
    events: list[Json] = [{"type": f"{event}.delta", "delta": piece} for piece in pieces(draw, item[field])]
    return item, {**item, field: ""}, [*events, {"type": f"{event}.done", field: item[field]}]


def whole_item(_: st.DrawFn) -> tuple[Json, Json, list[Json]]:
    item = {"type": "compaction", "encrypted_content": "gAAA"}
    return item, item, []


ITEMS = st.sampled_from([message_item, reasoning_item, call_item, whole_item])


@st.composite
def responses(draw: st.DrawFn) -> Cut:
    """An answer, and a stream that stops before its terminal event, which has all of it once more."""
    items, threads = list[Json](), list[list[Json]]()
    for number in range(draw(st.integers(1, 4))):
        item, opening, events = draw(ITEMS)(draw)
        named, at = {"id": f"item_{number}"}, {"output_index": number}
        by = at | draw(st.sampled_from([{}, {"item_id": named["id"]}]))
        items.append({**item, **named})
        threads.append([{"type": "response.output_item.added", **at, "item": {**opening, **named}}])
        threads[-1] += [{**event, **by} for event in events]
        if draw(st.booleans()):
            threads[-1].append({"type": "response.output_item.done", **at, "item": items[-1]})
    whole = {"id": "resp_1", "object": "response", "status": "in_progress", "output": items}
    begun = {"type": "response.created", "response": {**whole, "output": []}}
    return whole, [begun, *interleaved(draw, threads)]


STREAMS = {"chat_completions": chats(), "messages": messages(), "responses": responses()}


def comparable(value: Any) -> Any:
    """The same without empty lists, of which a stream that has none of a kind cannot know.

    Nor can it know whether arguments at the limit of tokens were whole.
    """
    if isinstance(value, dict):
        return {key: comparable(item) for key, item in value.items() if item != [] and key != "incomplete"}
    return [comparable(item) for item in value] if isinstance(value, list) else value


@pytest.mark.parametrize("api", STREAMS)
@OFTEN
@given(data=st.data())
def test_any_split_into_events_gives_the_answer(api: str, data: st.DataObject) -> None:
    whole, events = data.draw(STREAMS[api])
    before, body = copy.deepcopy(events), folded(api, *events)
    assert events == before
    assert comparable(body) == comparable(whole)


def texts_of(output: list[Message]) -> list[str]:
    return [part.text for message in output for part in message.parts if isinstance(part, Text)]


@pytest.mark.parametrize("api", STREAMS)
@given(data=st.data())
def test_stream_prefix_gives_the_received_part(api: str, data: st.DataObject) -> None:
    whole, events = data.draw(STREAMS[api])
    reader = endpoint(api)
    final, accumulator = reader.conversation(None, whole).output, reader.accumulator()
    for event in events:
        accumulator.add(event)
        body = accumulator.body()
        output, facts = reader.conversation(None, body).output, reader.response_info(body)
        assert len(output) <= len(final)
        for text in texts_of(output):
            assert any(complete.startswith(text) for complete in texts_of(final))
        for block in body.get("content", ()):
            assert "incomplete" not in block or block["type"].endswith("tool_use")
        assert api != "messages" or facts.response.finish_reasons == ["end_turn" if accumulator.complete else None]
    assert accumulator.complete is (api != "responses")


# Anything else.

VOCABULARY = (
    "id type choices delta message content text refusal reasoning role tool_calls function name arguments index",
    "finish_reason usage prompt_tokens output item response output_index item_id part status error code logprobs",
    "annotations audio data input instructions image_url url call_id summary encrypted_content messages tools",
    "reasoning_details thinking x_groq response.created response.completed response.output_text.delta file prompt",
    "response.output_item.added response.output_item.done response.content_part.added function_call input_audio",
    "response.output_text.done response.function_call_arguments.delta assistant tool user stop length completed",
    "failed callspan_media output_text extra_content google value custom input_tokens output_tokens is_error",
    "content_block partial_json signature citation stop_reason system source message_start content_block_start",
    "content_block_delta content_block_stop message_delta message_stop text_delta thinking_delta input_json_delta",
    "signature_delta citations_delta tool_use server_tool_use tool_result web_search_tool_result image document base64",
    "fallback completion stop prompt",
)
WORDS = st.sampled_from([word for line in VOCABULARY for word in line.split()])
SCALARS = st.none() | st.booleans() | st.integers(-3, 2**70) | st.floats() | st.text(max_size=6) | WORDS
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS | st.text(max_size=3), inner, max_size=6),
    max_leaves=25,
)
DELTAS = st.dictionaries(WORDS, JSON, max_size=5)
CHOICES = st.fixed_dictionaries(
    {"index": st.just(0), "finish_reason": st.none()}, optional={"delta": DELTAS, "message": DELTAS}
)
EVENTS = st.fixed_dictionaries(
    {},
    optional={
        "choices": st.lists(CHOICES | JSON, max_size=2), "delta": DELTAS | JSON, "message": DELTAS | JSON,
        "type": WORDS, "output_index": SCALARS, "index": st.integers(-1, 3) | JSON, "content_block": DELTAS,
        **dict.fromkeys(["item", "part", "usage", "response", "text", "error"], JSON),
    },
)  # fmt: skip


@OFTEN
@given(given_json=JSON, answer=JSON)
def test_readers_accept_any_json_unchanged(given_json: Any, answer: Any) -> None:
    for reader in ENDPOINTS:
        note(reader.api)
        reads(reader, given_json, answer)


def reads(reader: Endpoint, given_json: Any, answer: Any) -> None:
    before = repr(given_json), repr(answer)
    keys = ("messages", "input", "prompt", "file", "image", "tools")
    wrapped = {**dict.fromkeys(keys, given_json), "choices": answer, "output": answer}
    for sent, body in ((given_json, answer), (wrapped, wrapped)):
        request = reader.request(sent)
        facts = reader.response_info(body)
        conversation = reader.conversation(sent, body)
        for made in (request.params, facts.response.finish_reasons, conversation.input, conversation.output):
            encode_json(made)
    assert (repr(given_json), repr(answer)) == before


@OFTEN
@given(chunks=st.lists(JSON | EVENTS, max_size=6))
@example(chunks=[{"choices": [{"index": 0, "delta": {"tool_calls": [{"function": 1.0}]}}]}])
@example(chunks=[{"choices": "0"}, {"choices": [{}]}])
@example(chunks=[{"results": None}, {"results": [{"outputText": "a"}]}])
@example(chunks=[{"event_type": "interaction.created", "interaction": {"id": "i", "status": []}}])
def test_accumulators_accept_any_json(chunks: list[Any]) -> None:
    for reader in ENDPOINTS:
        note(reader.api)
        accumulates(reader, chunks)


def accumulates(reader: Endpoint, chunks: list[Any]) -> None:
    before = repr(chunks)
    accumulator = reader.accumulator()
    for chunk in chunks:
        assert isinstance(accumulator.add(chunk), bool)
        body = accumulator.body()
        reader.response_info(body)
        reader.conversation(None, body)
        assert body is None or isinstance(encode_json(body), bytes)
        spoil(body)
    assert isinstance(accumulator.complete, bool)
    assert repr(chunks) == before


def spoil(value: object) -> None:
    """Empty every container, to show that none is shared with a chunk."""
    if isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            spoil(item)
        value.clear()


# Values that no encoder takes.

HALF = "a\ud800b"
DEEP: object = [[]]
for _ in range(5000):
    DEEP = [DEEP]
POISONS: list[dict[str, object]] = [{HALF: 1}, {"note": HALF}, {"note": DEEP}, {HALF: {HALF: HALF}}]


@pytest.mark.parametrize("poison", POISONS, ids=["name", "text", "depth", "everywhere"])
@pytest.mark.parametrize("within", ["usage", "details", "body", "choice"])
def test_lone_surrogate_loses_no_usage_model_or_id(within: str, poison: dict[str, object]) -> None:
    """JSON can hold half a surrogate pair, as a name too, and no encoder takes it."""
    details = {"cached_tokens": 1, **(poison if within == "details" else {})}
    usage = {"prompt_tokens": 3, "completion_tokens": 4, "prompt_tokens_details": details}
    choice = {"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}
    chat: dict[str, object] = {
        "id": "c1", "model": "gpt-x",
        "choices": [{**choice, **(poison if within == "choice" else {})}],
        "usage": {**usage, **(poison if within == "usage" else {})},
        **(poison if within == "body" else {}),
    }  # fmt: skip
    facts = endpoint("chat_completions").response_info(chat)
    assert (facts.response.id, facts.response.model, facts.response.finish_reasons) == ("c1", "gpt-x", ["stop"])
    assert (facts.usage.input_tokens, facts.usage.output_tokens, facts.usage.cache_read_tokens) == (3, 4, 1)


@pytest.mark.parametrize(
    ("seconds", "at_ns"),
    [(1_763_640_000, 1_763_640_000_000_000_000), (True, None), (0, None), ("1", None), (2**70, None)],
)
def test_implausible_time_is_absent(seconds: object, at_ns: int | None) -> None:
    assert unix_ns(seconds) == at_ns


@pytest.mark.parametrize(
    "value",
    [{"pair": (1, 2)}, ("\0", "\ud83d", {"x": ("\ud83d",)}), {1: "a", 1.5: "b"}, {True: "c"}, {None: {False: (None,)}}],
)
def test_copy_equals_the_wire(value: Any) -> None:
    """As the SDKs write it, with the standard library."""
    assert detached(value) == json.loads(json.dumps(value))


def test_non_json_values_are_converted() -> None:
    assert detached({"at": dt.date(2026, 1, 2)}) == {"at": "2026-01-02"}


def test_cyclic_values_are_cut_off() -> None:
    value: dict[str, Any] = {}
    value["self"] = value
    assert "<too deep>" in repr(detached(value))
