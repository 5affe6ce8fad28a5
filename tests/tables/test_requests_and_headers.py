"""What is known of a request by its path, its host and the headers of its answer."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callspan.providers import registry, routes
from callspan.providers.hosts import provider_of as provider_for
from callspan.providers.rate_limits import rate_limits, request_id, retry_after_s
from callspan.providers.wires import Wire, of_request
from callspan.records import RateLimit, RateLimits
from callspan.sdk_profiles import PROFILES

httpx = import_module("httpx2" if importlib.util.find_spec("httpx2") else "httpx")

DATA: dict[str, Any] = json.loads(Path(__file__).with_name("requests_and_headers.json").read_text())

# Paths: which of them are calls to a model.


@pytest.mark.parametrize(
    ("path", "api"), [(path, api) for api, paths in DATA["paths of calls"].items() for path in paths]
)
def test_model_call_is_recognised_by_its_last_segments(path: str, api: str) -> None:
    for method in ("post", "POST"):
        endpoint = registry.endpoint_for(method, path)
        assert endpoint.api == api
        assert endpoint is registry.by_api(api)


@pytest.mark.parametrize("path", DATA["paths of other requests"])
def test_other_requests_are_not_model_calls(path: str) -> None:
    assert registry.endpoint_for("post", path) is None


FETCHES: list[str] = DATA["fetches of a response"]


@pytest.mark.parametrize("request_", [*FETCHES, *DATA["no fetches of a response"]])
def test_response_fetches_are_recognised(request_: str) -> None:
    found = routes.find(*request_.split(" "))
    assert (found is not None and found.path.kind == "fetch") == (request_ in FETCHES)


# Wires: which API a request speaks, by its path and the fields of its body, whoever sends it.

TURNS: list[dict[str, Any]] = [{"role": "user", "content": "Hi"}]
PARTED = [{"role": "user", "content": [{"text": "Hi"}]}]
CHAT: dict[str, Any] = {"model": "m", "messages": TURNS}
SPOKEN: list[tuple[str, dict[str, Any], Wire]] = [
    ("/v1/chat/completions", CHAT, Wire("chat_completions", None)),
    ("/api/paas/v4/chat/completions", CHAT, Wire("chat_completions", None)),
    ("/openai/deployments/gpt%2D5/chat/completions", {"messages": TURNS}, Wire("chat_completions", "gpt-5")),
    ("/v1/agents/completions", {"agent_id": "a", "messages": TURNS}, Wire("chat_completions", None)),
    ("/v1/chat", CHAT, Wire("chat_completions", None)),
    ("/v1/chat", {"model": "m", "message": "Hi"}, Wire("cohere_chat_v1", None)),
    ("/v2/chat", CHAT, Wire("cohere_chat", None)),
    ("/gateway/cohere/v2/chat", CHAT, Wire("cohere_chat", None)),
    ("/v2/embed", {"model": "m", "texts": ["a"]}, Wire("cohere_embed", None)),
    ("/v1/rerank", {"model": "m", "query": "q", "documents": []}, Wire("rerank", None)),
    ("/api/chat", CHAT, Wire("ollama_chat", None)),
    ("/api/generate", {"model": "m", "prompt": "Hi"}, Wire("ollama_generate", None)),
    ("/api/embed", {"model": "m", "input": "a"}, Wire("ollama_embed", None)),
    ("/api/embeddings", {"model": "m", "prompt": "a"}, Wire("ollama_embed", None)),
    ("/api/embeddings", {"model": "m", "input": "a"}, Wire("embeddings", None)),  # Open WebUI's
    ("/hf-inference/models/openai-community/gpt2", {"inputs": "Hi"}, Wire("text_generation", "openai-community/gpt2")),
    ("/v1/fim/completions", {"model": "m", "prompt": "def "}, Wire("fim_completions", None)),
    ("/v1/messages", CHAT, Wire("messages", None)),
    ("/v1beta/models/gemini-3:generateContent", {"contents": "Hi"}, Wire("generate_content", "gemini-3")),
    ("/v1/models/g:streamGenerateContent", {"contents": "Hi"}, Wire("generate_content", "g", stream=True)),
    ("/v1/publishers/anthropic/models/c:rawPredict", {"messages": TURNS}, Wire("messages", "c")),
    ("/v1/publishers/mistralai/models/c:rawPredict", CHAT, Wire("chat_completions", "c")),
    ("/v1/publishers/google/models/i:predict", {"instances": [{"prompt": "Hi"}]}, Wire("predict", "i")),
    ("/model/us.amazon.nova%3A0/converse", {"messages": PARTED}, Wire("converse", "us.amazon.nova:0")),
    ("/model/n/converse-stream", {"messages": PARTED}, Wire("converse", "n", stream=True)),
    ("/model/m/invoke", {"anthropic_version": "v", "messages": TURNS}, Wire("messages", "m")),
    ("/model/m/invoke-with-response-stream", {"prompt": "Hi"}, Wire("invoke_model", "m", stream=True)),
]
OTHERS: list[tuple[str, Any]] = [
    ("/api/chat", {"messages": TURNS}),  # an application's own route
    ("/api/chat", {"model": "llama"}),  # loads a model
    ("/api/chat", {"model": "llama", "messages": []}),
    ("/api/generate", {"model": "llama", "keep_alive": 0}),
    ("/v2/chat", {"model": "m", "message": "Hi"}),
    ("/v1/chat", {"model": "m", "text": "Hi"}),
    ("/v1/chat/completions", [CHAT]),
    ("/api/models/gpt2", {"name": "a"}),
    ("/v1/chat/completions", None),
    ("/v1/embed", {"model": "m"}),
    ("/chat", CHAT),
    ("/v1/messages/count_tokens", CHAT),
    ("/v1beta/models/gemini-3:countTokens", {"contents": "Hi"}),
    ("/v1beta/models/gemini-3:generateContent", {"text": "Hi"}),
    ("/v1/projects/p/endpoints/7:predict", {"instances": [{"age": 7}]}),
]


@pytest.mark.parametrize(("path", "body", "wire"), SPOKEN, ids=[path for path, _, _ in SPOKEN])
def test_request_is_recognized(path: str, body: dict[str, Any], wire: Wire) -> None:
    assert of_request("POST", path, body) == wire
    assert of_request("GET", path, body) is None


@pytest.mark.parametrize(("path", "body"), OTHERS)
def test_other_requests_are_not(path: str, body: Any) -> None:
    assert of_request("POST", path, body) is None


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(), lambda s: st.lists(s) | st.dictionaries(st.text(), s)
)


@given(st.sampled_from([path for path, _, _ in SPOKEN]), ANYTHING, ANYTHING)
def test_any_body_is_accepted(path: str, body: Any, value: Any) -> None:
    of_request("POST", path, body)
    of_request("POST", path, {"model": value, "messages": value, "prompt": value})


# Hosts: the provider of a client.


def provider_of(client_class: str, host: str | None, sdk: str) -> str:
    return provider_for((client_class,), host, PROFILES[sdk])


@pytest.mark.parametrize(("provider", "classes"), DATA["clients of platforms"].items())
@pytest.mark.parametrize("host", ["gateway.example.com", "127.0.0.1:8080", "api.openai.com", None])
def test_platform_client_names_the_provider(provider: str, classes: list[str], host: str | None) -> None:
    assert {provider_of(client_class, host, "openai") for client_class in classes} == {provider}


OF_SDK = [
    *(("openai", host, name) for name, hosts in DATA["hosts"].items() for host in hosts),
    # An unknown host has the flavour of its SDK; a known one comes before that.
    *((sdk, host, sdk) for sdk in ("openai", "anthropic") for host in DATA["unknown hosts"]),
    ("openai", "resource.services.ai.azure.com", "azure.ai.openai"),
    ("anthropic", "resource.services.ai.azure.com", "azure.ai.inference"),
    *(
        (sdk, f"api.{name}.com", name)
        for sdk in ("openai", "anthropic")
        for name in ("deepseek", "openai", "anthropic")
    ),
]


@pytest.mark.parametrize(("sdk", "host", "provider"), OF_SDK)
def test_host_names_its_provider(sdk: str, host: str | None, provider: str) -> None:
    assert provider_of("OpenAI" if sdk == "openai" else "Anthropic", host, sdk) == provider


# Headers: rate limits of every family, waits, request ids.

NOW_S = 1_754_136_040.0  # 2025-08-02T12:00:40Z

OPENAI: dict[str, str] = DATA["rate limits"]["openai"]


def reset_s(value: str) -> float | None:
    return rate_limits({"x-ratelimit-reset-requests": value}, NOW_S).requests.reset_s


ANTHROPIC = {
    f"anthropic-ratelimit-{unit}-{what}": value
    for unit in ("requests", "tokens", "input-tokens", "output-tokens")
    for what, value in (("limit", "100"), ("remaining", "0"), ("reset", "2025-08-02T12:00:45Z"))
}


def test_rate_limits_of_each_family() -> None:
    """OpenAI's are of requests and tokens, Anthropic's four, Mistral's per ten seconds and per minute."""
    assert rate_limits(OPENAI, NOW_S) == RateLimits(
        requests=RateLimit(limit=5000, remaining=4999, reset_s=0.012),
        tokens=RateLimit(limit=4000000, remaining=3999970, reset_s=360.0),
    )
    limit = RateLimit(limit=100, remaining=0, reset_s=5.0)
    assert rate_limits(ANTHROPIC, NOW_S) == RateLimits(
        requests=limit, tokens=limit, input_tokens=limit, output_tokens=limit
    )
    cohere = {"x-trial-endpoint-call-limit": "40", "x-trial-endpoint-call-remaining": "39"}
    assert rate_limits(cohere, NOW_S) == RateLimits(requests=RateLimit(limit=40, remaining=39))
    assert rate_limits(DATA["rate limits"]["mistral"], NOW_S) == RateLimits(
        requests=RateLimit(limit=60, remaining=59), tokens=RateLimit(limit=2000000, remaining=1999893)
    )
    repeated = rate_limits({"x-ratelimit-remaining-requests": "4999, 4999"}, NOW_S)
    assert repeated == RateLimits(requests=RateLimit(remaining=4999))


# A large number is a moment, in seconds or milliseconds.
@pytest.mark.parametrize(("value", "seconds"), DATA["resets"].items())
def test_reset_formats_are_read_as_seconds(value: str, seconds: float | None) -> None:
    assert reset_s(value) == (None if seconds is None else pytest.approx(seconds, rel=1e-9))


@pytest.mark.parametrize(("headers", "seconds"), DATA["waits"])
def test_retry_after_headers(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after_s(headers, NOW_S) == seconds


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"x-request-id": "req_1", "cf-ray": "r"}, "req_1"),
        ({"x-request-id": "of-envoy", "request-id": "req_2"}, "req_2"),
        ({"x-request-id": "", "apim-request-id": "a"}, "a"),
        ({"x-amzn-requestid": "z"}, "z"),
        ({"cf-ray": "r"}, None),
        (httpx.Headers({"Request-Id": "req_3"}), "req_3"),
    ],
)
def test_provider_request_id(headers: Mapping[str, str], expected: str | None) -> None:
    assert request_id(headers) == expected


# All of them.


@given(
    method=st.text(), path=st.text(), client_class=st.text(), host=st.none() | st.text(alphabet="a.:-1[]A") | st.text(),
    headers=st.dictionaries(
        st.sampled_from([*OPENAI, "retry-after", "retry-after-ms", "x-ratelimit-reset"]), st.text()
    ),
)  # fmt: skip
def test_readers_are_total(
    method: str, path: str, client_class: str, host: str | None, headers: dict[str, str]
) -> None:
    assert registry.endpoint_for(method, path) is None or method in {"post", "POST"}
    assert provider_of(client_class, host, "openai")
    limits, wait_s = rate_limits(headers, NOW_S), retry_after_s(headers, NOW_S)
    assert wait_s is None or wait_s >= 0
    for limit in (limits and limits.requests, limits and limits.tokens):
        assert limit is None or limit.reset_s is None or limit.reset_s >= 0
