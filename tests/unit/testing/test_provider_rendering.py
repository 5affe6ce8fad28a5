"""Rendering without a socket: for every reply, a stream has the content of the complete body."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callspan.testing.provider import Choice, ReceivedRequest, Reply
from callspan.testing.provider.answer import Answer, StreamEvent, fragments, words
from callspan.testing.provider.rendering import Rendering, event_bytes, family_of, find_route, render

TEXTS = st.one_of(st.none(), st.text(max_size=60))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
CALLS = st.lists(
    st.fixed_dictionaries(
        {"name": st.text("abc_", min_size=1), "arguments": st.dictionaries(st.text(max_size=5), JSON)}
    ),
    max_size=3,
)
REPLIES = st.builds(Reply, text=TEXTS, reasoning=TEXTS, refusal=TEXTS, tool_calls=CALLS)


def request_to(path: str, body: Mapping[str, object] | None = None, method: str = "POST") -> ReceivedRequest:
    return ReceivedRequest(
        method=method, path=path, query={}, headers={}, content=b"", json=dict(body or {}), time_ns=0
    )


def rendered(reply: Reply, path: str, body: Mapping[str, object] | None = None) -> Rendering:
    request = request_to(path, {"stream": True, **(body or {})})
    found = find_route(request)
    assert found is not None
    return render(Answer(request, reply, "req_1", found[1]), found[0])


def streamed(reply: Reply, path: str, body: Mapping[str, object] | None = None) -> tuple[Any, list[Any]]:
    """The whole body, and the data of all events that are JSON."""
    rendering = rendered(reply, path, body)
    assert rendering.events is not None
    return rendering.json, [event.data for event in rendering.events if not isinstance(event.data, str)]


@given(st.text())
def test_words_and_fragments_lose_nothing(text: str) -> None:
    assert "".join(words(text)) == text
    assert "".join(fragments(text)) == text
    assert all(words(text))
    assert all(fragments(text))


@given(
    st.lists(st.builds(Choice, text=TEXTS, reasoning=TEXTS, refusal=TEXTS, tool_calls=CALLS), min_size=1, max_size=3)
)
def test_chunks_of_chat_add_up_to_the_body(choices: list[Choice]) -> None:
    body, chunks = streamed(Reply(choices=choices), "/v1/chat/completions")
    for choice in body["choices"]:
        pieces = [c for chunk in chunks for c in chunk["choices"] if c["index"] == choice["index"]]
        message = choice["message"]
        for name in ("content", "refusal", "reasoning_content"):
            assert "".join(piece["delta"].get(name) or "" for piece in pieces) == (message.get(name) or "")
        for index, call in enumerate(message.get("tool_calls", [])):
            deltas = [d for p in pieces for d in p["delta"].get("tool_calls", []) if d["index"] == index]
            assert deltas[0]["id"] == call["id"]
            assert deltas[0]["function"]["name"] == call["function"]["name"]
            assert "".join(d["function"]["arguments"] for d in deltas) == call["function"]["arguments"]
        assert [piece["finish_reason"] for piece in pieces][-1] == choice["finish_reason"]


@given(REPLIES)
def test_events_of_responses_add_up_to_the_body(reply: Reply) -> None:
    body, events = streamed(reply, "/v1/responses")
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    done = [event["item"] for event in events if event["type"] == "response.output_item.done"]
    assert done == body["output"] == events[-1]["response"]["output"]
    for kind, whole in (("output_text", "text"), ("refusal", "refusal"), ("reasoning_summary_text", "text")):
        deltas = "".join(e["delta"] for e in events if e["type"] == f"response.{kind}.delta")
        assert deltas == "".join(e[whole] for e in events if e["type"] == f"response.{kind}.done")
    arguments = [e["arguments"] for e in events if e["type"] == "response.function_call_arguments.done"]
    assert arguments == [item["arguments"] for item in done if item["type"] == "function_call"]
    assert [json.loads(text) for text in arguments] == [call["arguments"] for call in reply.tool_calls]


@given(REPLIES)
def test_events_of_messages_add_up_to_the_body(reply: Reply) -> None:
    body, events = streamed(reply, "/v1/messages")
    starts = [event["content_block"] for event in events if event["type"] == "content_block_start"]
    assert [block["type"] for block in starts] == [block["type"] for block in body["content"]]
    for index, block in enumerate(body["content"]):
        deltas = [e["delta"] for e in events if e["type"] == "content_block_delta" and e["index"] == index]
        text = "".join(d.get("text", d.get("thinking", d.get("partial_json", ""))) for d in deltas)
        if block["type"] == "tool_use":
            assert json.loads(text) == block["input"]
        else:
            assert text == block.get("text", block.get("thinking"))
    assert events[-1] == {"type": "message_stop"}
    assert events[-2]["delta"]["stop_reason"] == body["stop_reason"]


@given(JSON)
def test_any_raw_object_can_be_requested_as_a_stream(value: object) -> None:
    """A strange body makes strange events; it does not fail."""
    for path in ("/v1/chat/completions", "/v1/responses", "/v1/messages", "/v1/completions"):
        raw = {"choices": value, "output": value, "content": value, "usage": value}
        assert rendered(Reply(raw=raw), path).events


def test_items_and_parts_of_unknown_types_are_streamed_completely() -> None:
    """As web searches and their like are."""
    output = [{"type": "web_search_call", "id": "ws_1"}, {"type": "message", "id": "m", "content": [{"type": "new"}]}]
    body, events = streamed(Reply(raw={"id": "resp_1", "output": output}), "/v1/responses")
    assert body["output"] == output
    kinds = [event["type"].removeprefix("response.") for event in events]
    assert kinds[2:-1] == [
        "output_item.added",
        "output_item.done",
        "output_item.added",
        "content_part.added",
        "content_part.done",
        "output_item.done",
    ]


@pytest.mark.parametrize(
    ("method", "path", "inference", "named"),
    [
        ("POST", "/v1/chat/completions", True, {}),
        ("POST", "/openai/deployments/d/chat/completions", True, {}),
        ("POST", "/api/v1/completions", True, {}),
        ("POST", "/v1/responses", True, {}),
        ("POST", "/openai/v1/embeddings", True, {}),
        ("POST", "/anthropic/v1/messages", True, {}),
        ("POST", "/v1/projects/p/publishers/anthropic/models/m-1:rawPredict", True, {"model": "m-1"}),
        ("POST", "/v1/models/m-1:streamRawPredict", True, {"model": "m-1"}),
        ("POST", "/v1/messages/count_tokens", False, {}),
        ("GET", "/v1/responses/resp_1", False, {"id": "resp_1"}),
        ("GET", "/v1/models", False, {}),
    ],
)
def test_endpoints_are_found_under_any_prefix(method: str, path: str, inference: bool, named: dict[str, str]) -> None:
    found = find_route(request_to(path, method=method))
    assert found is not None
    assert (found[0].inference, found[1]) == (inference, named)


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/v1/chat/completions"), ("POST", "/v1/batches/x"), ("POST", "/v1/responses/x")]
)
def test_other_requests_have_no_endpoint(method: str, path: str) -> None:
    assert find_route(request_to(path, method=method)) is None


def test_a_request_without_an_endpoint_gets_an_error_in_the_words_of_its_client() -> None:
    request = request_to("/v1/elsewhere")
    anthropic = ReceivedRequest(**{**vars(request), "headers": {"anthropic-version": "2023-06-01"}})
    assert family_of(request, None).name == "openai"
    assert family_of(anthropic, None).name == "anthropic"


@pytest.mark.parametrize(
    ("event", "sent"),
    [
        (StreamEvent("[DONE]"), b"data: [DONE]\n\n"),
        (StreamEvent({"a": 1}), b'data: {"a":1}\n\n'),
        (StreamEvent({"type": "ping"}, "ping"), b'event: ping\ndata: {"type":"ping"}\n\n'),
    ],
)
def test_events_are_sent_as_the_standard_says(event: StreamEvent, sent: bytes) -> None:
    assert event_bytes(event) == sent


def test_a_malformed_event_keeps_its_frame() -> None:
    assert event_bytes(StreamEvent({"type": "ping"}, "ping"), malformed=True) == b'event: ping\ndata: {"type"\n\n'


def test_only_what_the_model_says_is_marked_as_content() -> None:
    """The delay of the first token waits for these."""
    reply = Reply(text="a", reasoning="b", tool_calls=[{"name": "f"}])
    for path, first in (("/v1/chat/completions", 1), ("/v1/responses", 4), ("/v1/messages", 3)):
        events = rendered(reply, path).events
        assert events is not None
        assert [event.content for event in events].index(True) == first
        assert not events[-1].content


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/responses", "/v1/messages", "/v1/completions"])
def test_faults_count_events_from_either_end(path: str) -> None:
    whole = len(rendered(Reply(text="a b c"), path).events or [])
    assert len(rendered(Reply(text="a b c", end_after=2), path).events or []) == 2
    assert len(rendered(Reply(text="a b c", end_after=-1), path).events or []) == whole - 1
    assert len(rendered(Reply(text="a b c", error_after=2), path).events or []) == 3


def test_an_answer_falls_back_on_a_name_for_the_model() -> None:
    assert rendered(Reply(), "/v1/chat/completions", {"model": 7}).json["model"] == "scripted-model"  # type: ignore[index]
