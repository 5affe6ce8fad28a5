"""Hosts: the provider of a client by its class and base URL."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callspan.providers.hosts import provider_of as provider_for
from callspan.sdk_profiles import PROFILES


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


@given(st.text(), st.none() | st.text(alphabet="a.:-1[]A") | st.text())
def test_any_client_class_and_host_have_a_provider_name(client_class: str, host: str | None) -> None:
    assert provider_of(client_class, host, "openai")
