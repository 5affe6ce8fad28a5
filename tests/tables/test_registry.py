"""The registry: which paths are calls to a model."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callspan.providers import registry, routes

APIS = {
    "chat_completions": (
        "/chat/completions", "chat/completions", "/v1/chat/completions", "/chat/completions/",
        "/chat/completions?api-version=2024-10-21", "/deployments/gpt-5/chat/completions",
        "https://gateway.example.com/openai/v1/chat/completions", "/api/v2/cortex/v1/chat/completions",
    ),
    "responses": ("/responses", "/v1/responses", "/responses/compact"),
    "messages": ("/v1/messages", "/v1/messages?beta=true", "https://proxy.example.com/anthropic/v1/messages"),
    "completions": ("/completions", "/deployments/davinci/completions"),
    "embeddings": ("/embeddings", "/openai/v1/embeddings"),
    "decisions": ("/decisions",),
    "moderations": ("/moderations",),
    "images": ("/images/generations",),
    "image_edits": ("/images/edits",),
    "transcriptions": ("/openai/deployments/w/audio/transcriptions",),
    "speech": ("/audio/speech",),
}  # fmt: skip
OTHERS = (
    "", "/", "/v1/messages/count_tokens", "/v1/messages/count_tokens?beta=true", "/v1/messages/batches",
    "/v1/messages/batches/b_1/cancel", "/messages", "/threads/thread_1/messages", "/chat/completions/chatcmpl-1",
    "/responses/resp_1", "/responses/resp_1/cancel", "/responses/input_tokens", "/responses/input_items", "/batches",
    "/v1/complete", "/models", "/files", "/fine_tuning/alpha/graders/validate", "/vector_stores/vs_1",
    "/vector_stores/vs_1/files", "/files/search", "/organization/usage/decisions/export", "/images", "/audio/voices",
    "/my-responses", "/model/anthropic.claude-x/invoke", "/search?next=/chat/completions",
    "/projects/p/locations/l/publishers/anthropic/models/claude-x:streamRawPredict",
)  # fmt: skip


@pytest.mark.parametrize(("path", "api"), [(path, api) for api, paths in APIS.items() for path in paths])
def test_a_call_to_a_model_is_known_by_its_last_segments(path: str, api: str) -> None:
    for method in ("post", "POST"):
        endpoint = registry.endpoint_for(method, path)
        assert endpoint is not None
        assert endpoint.api == api
        assert endpoint is registry.by_api(api)


@pytest.mark.parametrize("path", OTHERS)
def test_other_requests_are_not_calls_to_a_model(path: str) -> None:
    assert registry.endpoint_for("post", path) is None


FETCHES = (
    "get /responses/resp_1", "GET https://host/v1/responses/resp_1?stream=true", "get /beta/responses/resp_1",
    "post /responses/resp_1/cancel", "POST /responses/resp_1/cancel?a=b",
)  # fmt: skip
FETCHES_NOT = (
    "post /responses/resp_1", "get /responses/resp_1/cancel", "get /responses/resp_1/input_items", "get /responses",
    "get ", "delete /responses/resp_1", "post /batches/b_1/cancel", "post /cancel", "get /models/gpt-5",
)  # fmt: skip


@pytest.mark.parametrize("request_", [*FETCHES, *FETCHES_NOT])
def test_requests_that_fetch_a_response_are_told_from_others(request_: str) -> None:
    found = routes.find(*request_.split(" "))
    assert (found is not None and found.path.kind == "fetch") == (request_ in FETCHES)


@given(st.text(), st.text())
def test_any_method_and_path_get_a_response(method: str, path: str) -> None:
    assert registry.endpoint_for(method, path) is None or method in {"post", "POST"}
