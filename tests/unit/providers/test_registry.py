"""The registry: which paths are calls to a model, and reading conversations back from records."""

from __future__ import annotations

import subprocess
import sys

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from callspan.providers import registry, routes
from callspan.records import CallRecord, Conversation, Message, Request, Response, Text, Timing

REQUEST = b'{"model":"claude-x","max_tokens":9,"messages":[{"role":"user","content":"Hi"}]}'
RESPONSE = b'{"type":"message","role":"assistant","content":[{"type":"text","text":"Hello"}],"stop_reason":"end_turn"}'
CONVERSATION = Conversation(
    input=[Message(role="user", parts=[Text(text="Hi")])],
    output=[Message(role="assistant", parts=[Text(text="Hello")], finish_reason="end_turn")],
)


def record(api: str = "messages", request: bytes = b"", response: bytes | None = None) -> CallRecord:
    return CallRecord(
        call_id="c",
        api=api,
        timing=Timing(start_ns=1),
        request=Request(body=msgspec.Raw(request)),
        response=None if response is None else Response(body=msgspec.Raw(response)),
    )


@pytest.mark.parametrize(
    ("path", "api"),
    [
        ("/chat/completions", "chat_completions"),
        ("chat/completions", "chat_completions"),
        ("/v1/chat/completions", "chat_completions"),
        ("/chat/completions/", "chat_completions"),
        ("/chat/completions?api-version=2024-10-21", "chat_completions"),
        ("/deployments/gpt-5/chat/completions", "chat_completions"),
        ("https://gateway.example.com/openai/v1/chat/completions", "chat_completions"),
        ("/api/v2/cortex/v1/chat/completions", "chat_completions"),
        ("/responses", "responses"),
        ("/v1/responses", "responses"),
        ("/responses/compact", "responses"),
        ("/v1/messages", "messages"),
        ("/v1/messages?beta=true", "messages"),
        ("https://proxy.example.com/anthropic/v1/messages", "messages"),
        ("/completions", "completions"),
        ("/v1/complete", "text_completions"),
        ("/deployments/davinci/completions", "completions"),
        ("/embeddings", "embeddings"),
        ("/openai/v1/embeddings", "embeddings"),
        ("/decisions", "decisions"),
        ("/moderations", "moderations"),
        ("/images/generations", "images"),
        ("/images/edits", "image_edits"),
        ("/openai/deployments/w/audio/transcriptions", "transcriptions"),
        ("/audio/speech", "speech"),
    ],
)
@pytest.mark.parametrize("method", ["post", "POST"])
def test_a_call_to_a_model_is_known_by_its_last_segments(method: str, path: str, api: str) -> None:
    endpoint = registry.endpoint_for(method, path)

    assert endpoint is not None
    assert endpoint.api == api
    assert endpoint is registry.by_api(api)


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "/v1/messages/count_tokens",
        "/v1/messages/count_tokens?beta=true",
        "/v1/messages/batches",
        "/v1/messages/batches/b_1/cancel",
        "/messages",
        "/threads/thread_1/messages",
        "/chat/completions/chatcmpl-1",
        "/responses/resp_1",
        "/responses/resp_1/cancel",
        "/responses/input_tokens",
        "/responses/input_items",
        "/batches",
        "/models",
        "/files",
        "/fine_tuning/alpha/graders/validate",
        "/vector_stores/vs_1",
        "/vector_stores/vs_1/files",
        "/files/search",
        "/organization/usage/decisions/export",
        "/images",
        "/audio/voices",
        "/my-responses",
        "/model/anthropic.claude-x/invoke",
        "/projects/p/locations/l/publishers/anthropic/models/claude-x:streamRawPredict",
        "/search?next=/chat/completions",
    ],
)
def test_other_requests_are_not_calls_to_a_model(path: str) -> None:
    assert registry.endpoint_for("post", path) is None


@pytest.mark.parametrize(
    ("method", "path", "fetches"),
    [
        ("get", "/responses/resp_1", True),
        ("GET", "https://host/v1/responses/resp_1?stream=true", True),
        ("get", "/beta/responses/resp_1", True),
        ("post", "/responses/resp_1/cancel", True),
        ("POST", "/responses/resp_1/cancel?a=b", True),
        ("post", "/responses/resp_1", False),
        ("get", "/responses/resp_1/cancel", False),
        ("get", "/responses/resp_1/input_items", False),
        ("get", "/responses", False),
        ("get", "", False),
        ("delete", "/responses/resp_1", False),
        ("post", "/batches/b_1/cancel", False),
        ("post", "/cancel", False),
        ("get", "/models/gpt-5", False),
    ],
)
def test_requests_that_fetch_a_response_are_told_from_others(method: str, path: str, fetches: bool) -> None:
    found = routes.find(method, path)
    assert (found is not None and found.path.kind == "fetch") == fetches


@pytest.mark.parametrize("method", ["get", "GET", "delete", ""])
def test_only_posts_are_calls_to_a_model(method: str) -> None:
    assert registry.endpoint_for(method, "/chat/completions") is None


@given(st.text(), st.text())
def test_any_method_and_path_get_a_response(method: str, path: str) -> None:
    assert registry.endpoint_for(method, path) is None or method in {"post", "POST"}


def test_every_endpoint_is_found_by_its_api_and_its_path() -> None:
    assert [endpoint.api for endpoint in registry.ENDPOINTS] == [
        "chat_completions",
        "responses",
        "messages",
        "embeddings",
        "completions",
        "decisions",
        "moderations",
        "vector_store_search",
        "images",
        "image_edits",
        "image_variations",
        "transcriptions",
        "translations",
        "speech",
        "text_completions",
    ]
    for endpoint in registry.ENDPOINTS:
        assert registry.by_api(endpoint.api) is endpoint
        found = registry.endpoint_for("post", endpoint.path)
        assert found is not None
        assert found.api == endpoint.api


@pytest.mark.parametrize(
    "path", ["/vector_stores/vs_1/search", "https://a.example.com/v1/vector_stores/vs_1/search/?page=2"]
)
def test_the_vector_store_that_is_searched_is_known_by_the_path(path: str) -> None:
    endpoint = registry.endpoint_for("post", path)
    assert endpoint is not None
    request = endpoint.request({"query": "secret plans", "max_num_results": 3, "filters": {"key": "owner"}})
    assert request.params == {"vector_store_id": "vs_1", "max_num_results": 3}


def test_an_unknown_api_has_no_endpoint() -> None:
    assert registry.by_api("unknown") is None


def test_another_name_is_not_there() -> None:
    with pytest.raises(AttributeError, match="NOTHING"):
        _ = registry.NOTHING  # type: ignore[attr-defined]


def test_importing_the_registry_imports_no_adapter() -> None:
    code = (
        "import sys, callspan.providers.registry; print([m for m in sys.modules if 'anthropic' in m or 'openai' in m])"
    )

    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert out.stdout.strip() == "[]"


def test_a_conversation_is_read_from_both_bodies() -> None:
    assert registry.conversation_of(record(request=REQUEST, response=RESPONSE)) == CONVERSATION


def test_a_conversation_is_read_from_one_body() -> None:
    assert registry.conversation_of(record(request=REQUEST)) == Conversation(input=CONVERSATION.input)
    assert registry.conversation_of(record(response=RESPONSE)) == Conversation(output=CONVERSATION.output)


@pytest.mark.parametrize(
    "call",
    [
        record(),
        record(response=b""),
        record(api="unknown", request=REQUEST),
        record(request=b'{"model":', response=b"\xff"),
    ],
    ids=["no bodies", "empty answer", "unknown api", "broken bodies"],
)
def test_a_call_without_a_readable_body_has_no_conversation(call: CallRecord) -> None:
    assert registry.conversation_of(call) is None
    assert registry.with_conversation(call) is call


def test_a_body_with_a_lone_surrogate_is_still_read() -> None:
    request = b'{"messages":[{"role":"user","content":"a\\ud83d"}]}'

    conversation = registry.conversation_of(record(request=request))

    assert conversation is not None
    assert len(conversation.input) == 1


def test_a_conversation_is_put_on_a_record_once() -> None:
    call = registry.with_conversation(record(request=REQUEST, response=RESPONSE))

    assert call.conversation == CONVERSATION
    assert registry.with_conversation(call) is call


@given(
    st.sampled_from(["chat_completions", "responses", "messages", "completions", "embeddings"]),
    st.binary(),
    st.binary(),
)
def test_any_bodies_are_read_without_an_exception(api: str, request: bytes, response: bytes) -> None:
    registry.conversation_of(record(api=api, request=request, response=response))


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (b'"\\ud800"', "\ud800"),
        (b"[1, null]", [1, None]),
        (b"", None),
        (b"{", None),
        (b"\xff", None),
        (b"[" * 9_000, None),
    ],
)
def test_a_body_is_decoded_as_leniently_as_the_sdks_do(body: bytes, value: object) -> None:
    assert registry.decoded(body) == value
