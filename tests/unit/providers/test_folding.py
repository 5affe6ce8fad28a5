"""A plain answer of Messages or Responses, cut into the events of a stream anyhow, folds back to itself."""

from __future__ import annotations

import copy
import itertools
import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from tests import bodies

Json = dict[str, Any]

TEXTS = st.text(min_size=1, max_size=20)
INPUTS = st.dictionaries(st.text("abc", min_size=1, max_size=3), TEXTS | st.integers() | st.none(), max_size=3)
CITATIONS = st.lists(st.fixed_dictionaries({"type": st.just("char_location"), "cited_text": TEXTS}), max_size=3)


def pieces(draw: st.DrawFn, text: str) -> list[str]:
    """The text in pieces, some of which may be empty."""
    cuts = draw(st.lists(st.integers(0, len(text)), max_size=3).map(sorted))
    return [text[a:b] for a, b in itertools.pairwise([0, *cuts, len(text)])]


def folded(api: str, chunks: list[Json]) -> Json:
    """What the accumulator makes of them, which leaves them as they are."""
    before, body = copy.deepcopy(chunks), bodies.folded(api, *chunks)
    assert chunks == before
    return dict(body)


# Messages: the block as in a plain answer, the block that opens it, its deltas.


def text_block(draw: st.DrawFn) -> tuple[Json, Json, list[Json]]:
    text, citations = draw(TEXTS), draw(CITATIONS)
    deltas: list[Json] = [{"type": "text_delta", "text": piece} for piece in pieces(draw, text)]
    cited: list[Json] = [{"type": "citations_delta", "citation": citation} for citation in citations]
    block: Json = {"type": "text", "text": text} | ({"citations": citations} if citations else {})
    opening: Json = {"type": "text", "text": ""} | ({"citations": []} if citations else {})
    return block, opening, [*deltas, *cited] if draw(st.booleans()) else [*cited, *deltas]


def thinking_block(draw: st.DrawFn) -> tuple[Json, Json, list[Json]]:
    thought = draw(TEXTS)
    deltas: list[Json] = [{"type": "thinking_delta", "thinking": piece} for piece in pieces(draw, thought)]
    block = {"type": "thinking", "thinking": thought, "signature": "EqQB"}
    return block, {**block, "thinking": "", "signature": ""}, [
        *deltas, {"type": "signature_delta", "signature": "EqQB"}
    ]  # fmt: skip


def tool_block(draw: st.DrawFn) -> tuple[Json, Json, list[Json]]:
    kind = draw(st.sampled_from(["tool_use", "server_tool_use", "mcp_tool_use"]))
    block: Json = {"type": kind, "id": "toolu_1", "name": "look", "input": draw(INPUTS)}
    written = json.dumps(block["input"]) if block["input"] else ""
    return block, {**block, "input": {}}, [
        {"type": "input_json_delta", "partial_json": piece} for piece in pieces(draw, written)
    ]  # fmt: skip


def compaction_block(draw: st.DrawFn) -> tuple[Json, Json, list[Json]]:
    block = {"type": "compaction", "content": draw(TEXTS), "encrypted_content": draw(st.none() | st.just("gAAA"))}
    delta = {**block, "type": "compaction_delta"}
    return block, {**block, "content": None, "encrypted_content": None}, [delta]


def whole_block(draw: st.DrawFn) -> tuple[Json, Json, list[Json]]:
    results = [{"type": "web_search_result", "url": "u", "encrypted_content": "gAAA"}]
    block = draw(
        st.sampled_from([
            {"type": "redacted_thinking", "data": "gAAA"},
            {"type": "web_search_tool_result", "tool_use_id": "toolu_1", "content": results},
        ])
    )  # fmt: skip
    return block, block, []


BLOCKS = st.sampled_from([text_block, thinking_block, tool_block, compaction_block, whole_block])


@st.composite
def messages(draw: st.DrawFn) -> tuple[Json, list[Json]]:
    made = [draw(BLOCKS)(draw) for _ in range(draw(st.integers(1, 4)))]
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
        if draw(st.booleans()):
            events.append({"type": "ping"})
        events += [{"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas]
        events.append({"type": "content_block_stop", "index": index})
    last = {"delta": {"stop_reason": "end_turn", "stop_sequence": None}, "usage": usage}
    end = {"type": "message_delta", "context_management": whole["context_management"], **last}
    return whole, [*events, end, {"type": "message_stop"}]


@given(messages())
def test_a_message_cut_into_events_is_the_message(case: tuple[Json, list[Json]]) -> None:
    whole, events = case
    assert folded("messages", events) == whole


@given(messages())
def test_after_any_prefix_the_body_is_the_part_that_came(stream: tuple[Json, list[Json]]) -> None:
    message, events = stream
    messages = bodies.endpoint("messages")
    accumulator = messages.accumulator()
    for event in events:
        accumulator.add(event)
        body = accumulator.body()

        assert body is not None
        stated, conversation = messages.response_info(body), messages.conversation(None, body)
        assert stated.response.finish_reasons == ["end_turn" if accumulator.complete else None]
        assert len(conversation.output) == 1
        for block in body["content"]:
            assert "incomplete" not in block or block["type"].endswith("tool_use")
            if block["type"] == "text":
                assert any(whole.get("text", "").startswith(block["text"]) for whole in message["content"])


# Responses: the item as in a plain answer, and the events that bring it.


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
    annotations = st.lists(st.fixed_dictionaries({"type": st.just("url_citation"), "url": TEXTS}), max_size=2)
    texts = st.fixed_dictionaries({"type": st.just("output_text"), "text": TEXTS, "annotations": annotations})
    refusals = st.fixed_dictionaries({"type": st.just("refusal"), "refusal": TEXTS})
    parts = draw(st.lists(texts | refusals, min_size=1, max_size=3))
    item: Json = {"type": "message", "role": "assistant", "content": parts}
    events: list[Json] = []
    for event in parts_of(draw, item, "content", "response.{part}", "content_index"):
        events.append(event)
    return item, {**item, "content": []}, events


def reasoning_item(draw: st.DrawFn) -> tuple[Json, Json, list[Json]]:
    summaries = [{"type": "summary_text", "text": text} for text in draw(st.lists(TEXTS, max_size=2))]
    thoughts = [{"type": "reasoning_text", "text": text} for text in draw(st.lists(TEXTS, max_size=2))]
    item: Json = {"type": "reasoning", "summary": summaries, "content": thoughts, "encrypted_content": "gAAA"}
    events = parts_of(draw, item, "summary", "response.reasoning_summary_text", "summary_index")
    events += parts_of(draw, item, "content", "response.{part}", "content_index")
    return item, {**item, "summary": [], "content": []}, events


def call_item(draw: st.DrawFn) -> tuple[Json, Json, list[Json]]:
    kind, field, event = draw(
        st.sampled_from([
            ("function_call", "arguments", "response.function_call_arguments"),
            ("mcp_call", "arguments", "response.mcp_call_arguments"),
            ("custom_tool_call", "input", "response.custom_tool_call_input"),
            ("code_interpreter_call", "code", "response.code_interpreter_call_code"),
        ])
    )  # fmt: skip
    item: Json = {"type": kind, "call_id": "call_1", "name": "look", field: draw(TEXTS)}
    events: list[Json] = [{"type": f"{event}.delta", "delta": piece} for piece in pieces(draw, item[field])]
    return item, {**item, field: ""}, [*events, {"type": f"{event}.done", field: item[field]}]


def whole_item(_: st.DrawFn) -> tuple[Json, Json, list[Json]]:
    item = {"type": "compaction", "encrypted_content": "gAAA"}
    return item, item, []


ITEMS = st.sampled_from([message_item, reasoning_item, call_item, whole_item])


@st.composite
def responses(draw: st.DrawFn) -> tuple[Json, list[Json]]:
    """An answer, and a stream that stops before its terminal event, which has all of it once more."""
    made = []
    for number in range(draw(st.integers(1, 4))):
        item, opening, events = draw(ITEMS)(draw)
        named = {"id": f"item_{number}"}
        by = draw(st.sampled_from([{"output_index": number}, {"item_id": named["id"], "output_index": number}]))
        thread = [{"type": "response.output_item.added", "output_index": number, "item": {**opening, **named}}]
        thread += [{**event, **by} for event in events]
        if draw(st.booleans()):
            thread.append({"type": "response.output_item.done", "output_index": number, "item": {**item, **named}})
        made.append(({**item, **named}, thread))
    whole = {"id": "resp_1", "object": "response", "status": "in_progress", "output": [item for item, _ in made]}
    order = draw(st.permutations([number for number, (_, thread) in enumerate(made) for _ in thread]))
    queues = [iter(thread) for _, thread in made]
    begun = {"type": "response.created", "response": {**whole, "output": []}}
    return whole, [begun, *(next(queues[number]) for number in order)]


def without_empty(value: Any) -> Any:
    """The same without empty lists: a stream that has none of a kind cannot know of the list."""
    if isinstance(value, dict):
        return {key: without_empty(item) for key, item in value.items() if item != []}
    return [without_empty(item) for item in value] if isinstance(value, list) else value


@given(responses())
def test_a_response_cut_into_events_is_the_response(case: tuple[Json, list[Json]]) -> None:
    whole, events = case
    assert without_empty(folded("responses", events)) == without_empty(whole)


# Chat: the lists of messages, in fragments.


def details(draw: st.DrawFn) -> tuple[Json, list[Json]]:
    """OpenRouter's: summaries, texts and encrypted ones, with or without a number."""
    numbered = draw(st.booleans())
    whole, fragments = [], []
    kinds = draw(st.lists(st.sampled_from(["summary", "text", "encrypted"]), min_size=1, max_size=4))
    for number, (kind, _) in enumerate(itertools.groupby(kinds)):
        entry: Json = {"type": f"reasoning.{kind}", "format": "openai-responses-v1"}
        entry |= {"index": number} if numbered else {}
        if kind == "encrypted":
            whole.append({**entry, "data": "gAAA", "id": f"rs_{number}"})
            fragments.append(whole[-1])
            continue
        written = draw(TEXTS)
        whole.append({**entry, kind: written})
        fragments += [{**entry, kind: piece} for piece in pieces(draw, written)]
    return {"reasoning_details": whole}, [{"reasoning_details": [fragment]} for fragment in fragments]


def annotated(draw: st.DrawFn) -> tuple[Json, list[Json]]:
    """Citations and pictures, which come whole, one or several at a time, or each time all there are.

    No two are alike: of those nothing says whether they are the next ones, or all there are.
    """
    key = draw(st.sampled_from(["annotations", "images"]))
    urls = draw(st.lists(TEXTS, min_size=1, unique=True))
    listed = [{"type": "url_citation", "url_citation": {"url": url}} for url in urls]
    at = draw(st.integers(0, len(listed)))
    again = draw(st.booleans()) and 0 < at < len(listed)
    return {key: listed}, [{key: part} for part in (listed[:at], listed if again else listed[at:]) if part]


def rich_content(draw: st.DrawFn) -> tuple[Json, list[Json]]:
    """Mistral's content: thoughts and texts as a list."""
    thought, text = draw(TEXTS), draw(TEXTS)
    whole: list[Json] = [{"type": "thinking", "thinking": [{"type": "text", "text": thought}]}]
    whole.append({"type": "text", "text": text})
    fragments: list[Any] = [
        [{"type": "thinking", "thinking": [{"type": "text", "text": piece}]}] for piece in pieces(draw, thought)
    ]
    return {"content": whole}, [{"content": part} for part in [*fragments, *filter(None, pieces(draw, text))]]


def citations(draw: st.DrawFn) -> tuple[Json, list[Json]]:
    """LiteLLM's for Claude: one in each delta, all in the plain answer; and results, each time all there are."""
    listed = draw(st.lists(st.fixed_dictionaries({"cited_text": TEXTS}), min_size=1, max_size=3))
    found = [{"url": url} for url in draw(st.lists(TEXTS, max_size=3, unique=True))]
    whole = {"provider_specific_fields": {"citations": listed} | ({"web_search_results": found} if found else {})}
    deltas: list[Json] = [{"citation": citation, "citations": None} for citation in listed]
    deltas += [{"web_search_results": found[: number + 1]} for number in range(len(found))]
    return whole, [{"provider_specific_fields": delta} for delta in deltas]


@st.composite
def chats(draw: st.DrawFn) -> tuple[Json, list[Json]]:
    message, deltas = draw(st.sampled_from([details, annotated, rich_content, citations]))(draw)
    whole = {"role": "assistant", "content": None, **message}
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "model": "m"}
    parts = [{"delta": {"role": "assistant"}}, *({"delta": delta} for delta in deltas)]
    ends = [{"delta": {}, "finish_reason": "stop"}]
    chunks = [{**head, "choices": [{"index": 0, "finish_reason": None, **part}]} for part in [*parts, *ends]]
    return whole, chunks


@given(chats())
def test_the_lists_of_a_chat_message_cut_into_deltas_are_the_lists(case: tuple[Json, list[Json]]) -> None:
    message, chunks = case
    (choice,) = folded("chat_completions", chunks)["choices"]
    assert choice["message"] == message
