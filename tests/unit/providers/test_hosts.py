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
    ("client_class", "provider"),
    [
        ("AzureOpenAI", "azure.ai.openai"),
        ("AsyncAzureOpenAI", "azure.ai.openai"),
        ("BedrockOpenAI", "aws.bedrock"),
        ("AnthropicBedrock", "aws.bedrock"),
        ("AsyncAnthropicBedrock", "aws.bedrock"),
        ("AsyncAnthropicBedrockMantle", "aws.bedrock"),
        ("AnthropicVertex", "gcp.vertex_ai"),
        ("AsyncAnthropicVertex", "gcp.vertex_ai"),
        ("AnthropicFoundry", "azure.ai.inference"),
    ],
)
@pytest.mark.parametrize("host", ["gateway.example.com", "127.0.0.1:8080", "api.openai.com", None])
def test_a_client_of_a_platform_names_it_wherever_it_points(client_class: str, provider: str, host: str | None) -> None:
    assert provider_of(client_class, host, "openai") == provider


@pytest.mark.parametrize(
    ("host", "provider"),
    [
        ("api.openai.com", "openai"),
        ("my-resource.openai.azure.us", "azure.ai.openai"),
        ("my-resource.openai.azure.cn", "azure.ai.openai"),
        ("score.inference.ml.azure.com", "azure.ai.inference"),
        ("api.perplexity.ai", "perplexity"),
        ("api.cohere.ai", "cohere"),
        ("api.cohere.com", "cohere"),
        ("api.moonshot.ai", "moonshot_ai"),
        ("api.moonshot.cn", "moonshot_ai"),
        ("us-south.ml.cloud.ibm.com", "ibm.watsonx.ai"),
        ("api.together.ai", "together"),
        ("api.together.xyz", "together"),
        ("api.cerebras.ai", "cerebras"),
        ("api.fireworks.ai", "fireworks"),
        ("api.z.ai", "z_ai"),
        ("open.bigmodel.cn", "z_ai"),
        ("router.huggingface.co", "huggingface"),
        ("api-inference.huggingface.co", "huggingface"),
        ("x1.eu-west-1.aws.endpoints.huggingface.cloud", "huggingface"),
        ("account.snowflakecomputing.com", "snowflake"),
        ("dashscope.aliyuncs.com", "alibaba"),
        ("dashscope-intl.aliyuncs.com", "alibaba"),
        ("dashscope-us.aliyuncs.com", "alibaba"),
        ("ollama.com", "ollama"),
        ("10.0.0.7:11434", "ollama"),
        ("10.0.0.7:11435", "openai"),
        ("10.0.0.7:http", "openai"),
        ("api.groq.com:http", "openai"),
        ("eu.api.openai.com", "openai"),
        ("API.Groq.com.", "groq"),
        ("api.groq.com:443", "groq"),
        ("my-resource.openai.azure.com", "azure.ai.openai"),
        ("my-resource.cognitiveservices.azure.com", "azure.ai.openai"),
        ("my-resource.services.ai.azure.com", "azure.ai.openai"),
        ("phi.eastus.models.ai.azure.com", "azure.ai.inference"),
        ("models.inference.ai.azure.com", "azure.ai.inference"),
        ("bedrock-runtime.us-east-1.amazonaws.com", "aws.bedrock"),
        ("bedrock-runtime.cn-north-1.amazonaws.com.cn", "aws.bedrock"),
        ("vpce-1.bedrock-runtime.eu-west-1.vpce.amazonaws.com", "aws.bedrock"),
        ("bedrock-mantle.us-east-1.api.aws", "aws.bedrock"),
        ("us-central1-aiplatform.googleapis.com", "gcp.vertex_ai"),
        ("aiplatform.eu.rep.googleapis.com", "gcp.vertex_ai"),
        ("aiplatform.googleapis.com", "gcp.vertex_ai"),
        ("generativelanguage.googleapis.com", "gcp.gemini"),
        ("api.deepseek.com", "deepseek"),
        ("api.groq.com", "groq"),
        ("api.mistral.ai", "mistral_ai"),
        ("openrouter.ai", "openrouter"),
        ("api.x.ai", "x_ai"),
        ("org-account.snowflakecomputing.com", "snowflake"),
        ("localhost:11434", "ollama"),
        ("127.0.0.1:11434", "ollama"),
        ("[::1]:11434", "ollama"),
    ],
)
def test_a_host_names_its_provider(host: str, provider: str) -> None:
    assert provider_of("OpenAI", host, "openai") == provider


@pytest.mark.parametrize(
    "host",
    [
        None,
        "",
        "localhost:8000",
        "127.0.0.1",
        "::1",
        "gateway.example.com",
        "abc.execute-api.us-east-1.amazonaws.com",
        "notapi.openai.com.example.com",
        "evilopenrouter.ai",
        "aws-external-anthropic.us-east-1.api.aws",
        "claude.googleapis.com",
    ],
)
@pytest.mark.parametrize("family", ["openai", "anthropic"])
def test_an_unknown_host_has_the_flavour_of_its_sdk(host: str | None, family: str) -> None:
    assert provider_of("OpenAI", host, family) == family


def test_one_azure_host_serves_both_families() -> None:
    host = "resource.services.ai.azure.com"

    assert provider_of("OpenAI", host, "openai") == "azure.ai.openai"
    assert provider_of("Anthropic", host, "anthropic") == "azure.ai.inference"


def test_a_known_host_takes_precedence_over_the_sdks_family() -> None:
    assert provider_of("Anthropic", "api.deepseek.com", "anthropic") == "deepseek"


@given(st.text(), st.none() | st.text(alphabet="a.:-1[]A") | st.text())
def test_any_client_class_and_host_have_a_provider_name(client_class: str, host: str | None) -> None:
    assert provider_of(client_class, host, "openai")


@pytest.mark.parametrize(
    ("host", "provider"), [("api.openai.com", "openai"), ("api.anthropic.com", "anthropic"), ("example.com", None)]
)
@pytest.mark.parametrize("family", ["openai", "anthropic"])
def test_the_own_hosts_of_either_family_are_known_to_the_sdk_of_the_other(
    host: str, provider: str | None, family: str
) -> None:
    assert provider_of("Client", host, family) == (provider or family)


@pytest.mark.parametrize("name", ["bedrock." * 40, "a." * 130 + "api.openai.com"])
def test_a_name_longer_than_any_host_is_of_the_family_and_not_looked_through(name: str) -> None:
    assert provider_of("OpenAI", name, "openai") == "openai"
    # Of half a million characters it took minutes to tell.
    assert provider_of("Anthropic", name * 4_000, "anthropic") == "anthropic"
