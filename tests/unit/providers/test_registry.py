"""The registry: which paths are calls to a model."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callspan.providers import registry, routes


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


@given(st.text(), st.text())
def test_any_method_and_path_get_a_response(method: str, path: str) -> None:
    assert registry.endpoint_for(method, path) is None or method in {"post", "POST"}


def test_no_pattern_is_there_twice() -> None:
    assert len({path.pattern for path in routes.PATHS}) == len(routes.PATHS)


def test_every_endpoint_is_found_by_its_api_and_its_path() -> None:
    assert registry.APIS == (
        "chat_completions",
        "responses",
        "realtime",
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
        "live",
        "realtime_translations",
        "text_completions",
    )
    for api in registry.APIS:
        endpoint = registry.by_api(api)
        assert endpoint is not None
        assert endpoint.api == api
        if api in ("realtime", "live", "realtime_translations"):  # only over a websocket
            assert registry.endpoint_for("post", endpoint.path) is None
            continue
        found = registry.endpoint_for("post", endpoint.path)
        assert found is not None
        assert found.api == endpoint.api


def test_importing_the_registry_imports_no_adapter() -> None:
    code = (
        "import sys, callspan.providers.registry; print([m for m in sys.modules if 'anthropic' in m or 'openai' in m])"
    )

    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert out.stdout.strip() == "[]"
