"""What is known of a request by its path, its host and the headers of its answer."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from importlib import import_module

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callspan.providers import registry, routes
from callspan.providers.hosts import provider_of as provider_for
from callspan.providers.rate_limits import rate_limits, request_id, retry_after_s
from callspan.records import RateLimit, RateLimits
from callspan.sdk_profiles import PROFILES

httpx = import_module("httpx2" if importlib.util.find_spec("httpx2") else "httpx")

# Paths: which of them are calls to a model.

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


# Hosts: the provider of a client.


def provider_of(client_class: str, host: str | None, sdk: str) -> str:
    return provider_for(client_class, host, PROFILES[sdk])


@pytest.mark.parametrize(
    ("provider", "classes"),
    [
        ("azure.ai.openai", "AzureOpenAI AsyncAzureOpenAI"),
        ("aws.bedrock", "BedrockOpenAI AnthropicBedrock AsyncAnthropicBedrock AsyncAnthropicBedrockMantle"),
        ("gcp.vertex_ai", "AnthropicVertex AsyncAnthropicVertex"),
        ("azure.ai.inference", "AnthropicFoundry"),
    ],
)
@pytest.mark.parametrize("host", ["gateway.example.com", "127.0.0.1:8080", "api.openai.com", None])
def test_a_client_of_a_platform_names_it_wherever_it_points(provider: str, classes: str, host: str | None) -> None:
    assert {provider_of(client_class, host, "openai") for client_class in classes.split()} == {provider}


HOSTS = {
    "openai": ["api.openai.com", "10.0.0.7:11435", "10.0.0.7:http", "api.groq.com:http", "eu.api.openai.com"],
    "azure.ai.openai": [
        "my-resource.openai.azure.us", "my-resource.openai.azure.cn", "my-resource.openai.azure.com",
        "my-resource.cognitiveservices.azure.com", "my-resource.services.ai.azure.com",
    ],
    "azure.ai.inference": [
        "score.inference.ml.azure.com", "phi.eastus.models.ai.azure.com", "models.inference.ai.azure.com",
    ],
    "perplexity": ["api.perplexity.ai"],
    "cohere": ["api.cohere.ai", "api.cohere.com"],
    "moonshot_ai": ["api.moonshot.ai", "api.moonshot.cn"],
    "ibm.watsonx.ai": ["us-south.ml.cloud.ibm.com"],
    "together": ["api.together.ai", "api.together.xyz"],
    "cerebras": ["api.cerebras.ai"],
    "fireworks": ["api.fireworks.ai"],
    "z_ai": ["api.z.ai", "open.bigmodel.cn"],
    "huggingface": [
        "router.huggingface.co", "api-inference.huggingface.co", "x1.eu-west-1.aws.endpoints.huggingface.cloud",
    ],
    "snowflake": ["account.snowflakecomputing.com", "org-account.snowflakecomputing.com"],
    "alibaba": ["dashscope.aliyuncs.com", "dashscope-intl.aliyuncs.com", "dashscope-us.aliyuncs.com"],
    "ollama": ["ollama.com", "10.0.0.7:11434", "localhost:11434", "127.0.0.1:11434", "[::1]:11434"],
    "groq": ["API.Groq.com.", "api.groq.com:443", "api.groq.com"],
    "aws.bedrock": [
        "bedrock-runtime.us-east-1.amazonaws.com", "bedrock-runtime.cn-north-1.amazonaws.com.cn",
        "vpce-1.bedrock-runtime.eu-west-1.vpce.amazonaws.com", "bedrock-mantle.us-east-1.api.aws",
    ],
    "gcp.vertex_ai": [
        "us-central1-aiplatform.googleapis.com", "aiplatform.eu.rep.googleapis.com",
        "aiplatform.googleapis.com",
    ],
    "gcp.gemini": ["generativelanguage.googleapis.com"],
    "deepseek": ["api.deepseek.com"],
    "mistral_ai": ["api.mistral.ai"],
    "openrouter": ["openrouter.ai"],
    "x_ai": ["api.x.ai"],
}  # fmt: skip


UNKNOWN = (
    None, "", "localhost:8000", "127.0.0.1", "::1", "gateway.example.com", "abc.execute-api.us-east-1.amazonaws.com",
    "notapi.openai.com.example.com", "evilopenrouter.ai", "aws-external-anthropic.us-east-1.api.aws",
    "claude.googleapis.com",
)  # fmt: skip
OF_SDK = [
    *(("openai", host, name) for name, hosts in HOSTS.items() for host in hosts),
    # An unknown host has the flavour of its SDK; a known one comes before that.
    *((sdk, host, sdk) for sdk in ("openai", "anthropic") for host in UNKNOWN),
    ("openai", "resource.services.ai.azure.com", "azure.ai.openai"),
    ("anthropic", "resource.services.ai.azure.com", "azure.ai.inference"),
    *(
        (sdk, f"api.{name}.com", name)
        for sdk in ("openai", "anthropic")
        for name in ("deepseek", "openai", "anthropic")
    ),
]


@pytest.mark.parametrize(("sdk", "host", "provider"), OF_SDK)
def test_a_host_names_its_provider(sdk: str, host: str | None, provider: str) -> None:
    assert provider_of("OpenAI" if sdk == "openai" else "Anthropic", host, sdk) == provider


# Headers: rate limits of every family, waits, request ids.

NOW_S = 1_754_136_040.0  # 2025-08-02T12:00:40Z

OPENAI = {
    "x-ratelimit-limit-requests": "5000",
    "x-ratelimit-limit-tokens": "4000000",
    "x-ratelimit-remaining-requests": "4999",
    "x-ratelimit-remaining-tokens": "3999970",
    "x-ratelimit-reset-requests": "12ms",
    "x-ratelimit-reset-tokens": "6m0s",
}


def reset_s(value: str) -> float | None:
    limits = rate_limits({"x-ratelimit-reset-requests": value}, NOW_S)
    assert limits is not None
    assert limits.requests is not None
    return limits.requests.reset_s


ANTHROPIC = {
    f"anthropic-ratelimit-{unit}-{what}": value
    for unit in ("requests", "tokens", "input-tokens", "output-tokens")
    for what, value in (("limit", "100"), ("remaining", "0"), ("reset", "2025-08-02T12:00:45Z"))
}
MISTRAL = {
    "x-ratelimit-limit-req-10-second": "60",
    "x-ratelimit-remaining-req-10-second": "59",
    "x-ratelimit-limit-tokens-minute": "2000000",
    "x-ratelimit-remaining-tokens-minute": "1999893",
    "x-ratelimit-limit-tokens-month": "10000000000",
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
    assert rate_limits(MISTRAL, NOW_S) == RateLimits(
        requests=RateLimit(limit=60, remaining=59), tokens=RateLimit(limit=2000000, remaining=1999893)
    )
    repeated = rate_limits({"x-ratelimit-remaining-requests": "4999, 4999"}, NOW_S)
    assert repeated == RateLimits(requests=RateLimit(remaining=4999))


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0s", 0.0), ("500ns", 5e-7), ("5us", 5e-6), ("250µs", 0.00025), ("12ms", 0.012), ("1s", 1.0), ("5m", 300.0),
        ("5h", 18000.0), ("1d", 86400.0), ("1m30.5s", 90.5), ("1h0m0s", 3600.0), ("1h5ns", 3600.000000005),
        ("1d2h3m4.5s", 93784.5), ("7", 7.0), ("0.25", 0.25), (" 7 ", 7.0),
        # A large number is a moment, in seconds or milliseconds.
        ("999999999", 999_999_999.0), ("1000000000", 0.0), ("1754136050", 10.0), ("1754136050500", 10.5),
        ("1754130000000", 0.0), ("2025-08-02T12:00:41.5+00:00", 1.5), ("2025-08-02T14:00:45+02:00", 5.0),
        ("2025-08-02T12:00:45", 5.0),
        *((other, None) for other in (
            "", "soon", "-5", "1x", "5y", "5 s", "1h 5m", "nan", "inf", "T", "2025-99-99T00:00:00Z", "s", "1m!",
        )),
    ],
)  # fmt: skip
def test_each_form_of_a_reset_is_seconds_and_another_is_absent(value: str, seconds: float | None) -> None:
    assert reset_s(value) == (None if seconds is None else pytest.approx(seconds, rel=1e-9))


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "41"}, 41.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after-ms": "1500"}, 1.5),
        ({"retry-after-ms": "1500", "retry-after": "41"}, 1.5),
        ({"retry-after-ms": "x", "retry-after": "41"}, 41.0),
        ({"retry-after": "Sat, 02 Aug 2025 12:00:50 GMT"}, 10.0),
        ({"retry-after": "Sat, 02 Aug 2025 12:00:50 -0000"}, 10.0),
        ({"retry-after": "Sat, 02 Aug 2025 11:00:00 GMT"}, 0.0),
        ({"retry-after": "later"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": ""}, None),
    ],
)
def test_the_wait_requested(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after_s(headers, NOW_S) == seconds


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"x-request-id": "req_1", "cf-ray": "r"}, "req_1"),
        ({"request-id": "req_2"}, "req_2"),
        ({"x-request-id": "", "apim-request-id": "a"}, "a"),
        ({"x-amzn-requestid": "z"}, "z"),
        ({"cf-ray": "r"}, None),
        (httpx.Headers({"Request-Id": "req_3"}), "req_3"),
    ],
)
def test_the_provider_s_id_of_the_request(headers: Mapping[str, str], expected: str | None) -> None:
    assert request_id(headers) == expected


# All of them.


@given(
    method=st.text(), path=st.text(), client_class=st.text(), host=st.none() | st.text(alphabet="a.:-1[]A") | st.text(),
    headers=st.dictionaries(
        st.sampled_from([*OPENAI, "retry-after", "retry-after-ms", "x-ratelimit-reset"]), st.text()
    ),
)  # fmt: skip
def test_any_request_and_any_headers_are_read(
    method: str, path: str, client_class: str, host: str | None, headers: dict[str, str]
) -> None:
    assert registry.endpoint_for(method, path) is None or method in {"post", "POST"}
    assert provider_of(client_class, host, "openai")
    limits, wait_s = rate_limits(headers, NOW_S), retry_after_s(headers, NOW_S)
    assert wait_s is None or wait_s >= 0
    for limit in (limits and limits.requests, limits and limits.tokens):
        assert limit is None or limit.reset_s is None or limit.reset_s >= 0
