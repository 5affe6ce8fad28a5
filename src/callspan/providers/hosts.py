"""Hosts: the provider a client talks to, as a value of the conventions' `gen_ai.provider.name`.

The attribute names the flavour of the telemetry, so an unknown host (a proxy, a gateway, a private server) has the name
of the SDK's own provider, because its responses follow that provider's API. A new host is a new row.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Final

from callspan.record.apis import APIS
from callspan.sdk_profiles import SdkProfile

_CLIENTS: Final = {
    "AzureOpenAI": "azure.ai.openai",
    "BedrockOpenAI": "aws.bedrock",
    "AnthropicBedrock": "aws.bedrock",
    "AnthropicBedrockMantle": "aws.bedrock",
    "AnthropicVertex": "gcp.vertex_ai",
    # The conventions have no name for Foundry; this one means other vendors' models served by Azure.
    "AnthropicFoundry": "azure.ai.inference",
    "bedrock": "aws.bedrock",
    "vertex": "gcp.vertex_ai",
}
"""Client classes, and providers of the openai SDK, that determine the platform regardless of the URL; names without
`Async`."""
DEFERRED: Final = {"AnthropicGoogleCloud": "https://claude.googleapis.com"}
"""Client classes that have no base URL before their first request, and their server; names without `Async`."""

_DOMAINS: Final = {
    "api.openai.com": "openai",
    "api.anthropic.com": "anthropic",
    "openai.azure.com": "azure.ai.openai",
    "openai.azure.us": "azure.ai.openai",
    "openai.azure.cn": "azure.ai.openai",
    "cognitiveservices.azure.com": "azure.ai.openai",
    "models.ai.azure.com": "azure.ai.inference",
    "models.inference.ai.azure.com": "azure.ai.inference",
    "inference.ml.azure.com": "azure.ai.inference",
    "generativelanguage.googleapis.com": "gcp.gemini",
    "aiplatform.googleapis.com": "gcp.vertex_ai",
    "api.deepseek.com": "deepseek",
    "api.groq.com": "groq",
    "api.mistral.ai": "mistral_ai",
    "api.x.ai": "x_ai",
    "api.perplexity.ai": "perplexity",
    "api.cohere.ai": "cohere",
    "api.cohere.com": "cohere",
    "api.moonshot.ai": "moonshot_ai",
    "api.moonshot.cn": "moonshot_ai",
    "ml.cloud.ibm.com": "ibm.watsonx.ai",
    "openrouter.ai": "openrouter",
    "api.together.ai": "together",
    "api.together.xyz": "together",
    "api.cerebras.ai": "cerebras",
    "api.fireworks.ai": "fireworks",
    "api.z.ai": "z_ai",
    "open.bigmodel.cn": "z_ai",
    "router.huggingface.co": "huggingface",
    "api-inference.huggingface.co": "huggingface",
    "endpoints.huggingface.cloud": "huggingface",
    "snowflakecomputing.com": "snowflake",
    "cloud.databricks.com": "databricks",
    "gcp.databricks.com": "databricks",
    "azuredatabricks.net": "databricks",
    "databricks.azure.cn": "databricks",
    "dashscope.aliyuncs.com": "alibaba",
    "dashscope-intl.aliyuncs.com": "alibaba",
    "dashscope-us.aliyuncs.com": "alibaba",
    "ollama.com": "ollama",
    "codestral.mistral.ai": "mistral_ai",
    "api.voyageai.com": "voyageai",
    "api.jina.ai": "jina",
    "api.writer.com": "writer",
    "inference.crusoecloud.com": "crusoe",
    "api.sambanova.ai": "sambanova",
    "api.deepinfra.com": "deepinfra",
    "api.novita.ai": "novita",
    "integrate.api.nvidia.com": "nvidia",
    "api.minimax.io": "minimax",
    "api.portkey.ai": "portkey",
    "api.cloudflare.com": "cloudflare",
}
"""Domains, which also match their subdomains."""

_WIRE_DOMAINS: Final = {
    ("openai", "services.ai.azure.com"): "azure.ai.openai",
    ("anthropic", "services.ai.azure.com"): "azure.ai.inference",
}
"""Hosts with several APIs, where the provider depends on the SDK's API."""

_PATTERNS: Final = (
    (re.compile(r"(^|\.)bedrock(-[a-z0-9-]+)?\..*(amazonaws\.com(\.cn)?|api\.aws)$"), "aws.bedrock"),
    (re.compile(r"(^|-|\.)aiplatform\.([a-z0-9-]+\.rep\.)?googleapis\.com$"), "gcp.vertex_ai"),
)

_OWN: Final = re.compile(
    r"api\.openai\.com|api\.anthropic\.com|generativelanguage\.googleapis\.com|(?:[a-z0-9-]+-)?aiplatform\.googleapis\.com"
    r"|[a-z0-9-]+\.openai\.azure\.com|bedrock-runtime(?:-fips)?\.[a-z0-9-]+\.amazonaws\.com"
)
"""The own hosts of OpenAI, Anthropic, Google, Azure OpenAI and Bedrock: no gateway, no server of somebody else."""

_WITH_OTHER_SERVICES: Final = frozenset({"cloudflare", "databricks", "snowflake"})
"""Providers whose hosts have databases and much else besides models."""
_OF_VERTEX: Final = ("/projects/", "/google.cloud.aiplatform.")
"""In the paths of Vertex, but not of the Gemini API."""
UNKNOWN: Final = "unknown"

_MAX_NAME_LENGTH: Final = 253
"""Maximum length of a host name (RFC 1035); longer ones are invalid and slow to search."""

_PORTS: Final = {"11434": "ollama"}
"""Default ports that are specific to one server, and more specific than a local host name."""
_SCHEME_PORTS: Final = {"https": 443, "http": 80}

PROVIDERS: Final = frozenset(
    {
        *_CLIENTS.values(), *_DOMAINS.values(), *_WIRE_DOMAINS.values(), *(provider for _, provider in _PATTERNS),
        *(row.owner for row in APIS.values() if row.owner), *_PORTS.values(), UNKNOWN,
    }
)  # fmt: skip
"""All names of providers that a host, client or API states."""


def port_of(scheme: str, port: int | None) -> int | None:
    """Return the port of a URL: the stated one, else the scheme's; None if neither is known."""
    return port or _SCHEME_PORTS.get(scheme)


def provider_of(client_classes: Iterable[str], host: str | None, sdk: SdkProfile) -> str:
    """Return the provider's name for a client connected to `host`, by the names of its class and that class's bases.

    `host` may end in `:port`, which distinguishes local servers; None is unknown. If neither class nor host is known,
    it is the provider of the SDK. Never raises.
    """
    provider = next(filter(None, (_CLIENTS.get(name.removeprefix("Async")) for name in client_classes)), None)
    if provider is not None or not host:
        return provider or sdk.provider
    name, colon, port = host.casefold().rpartition(":")
    if not colon or not port.isdigit():
        name, port = host.casefold(), ""
    return _by_name(name.rstrip("."), sdk.wire) or _PORTS.get(port, sdk.provider)


def provider_of_server(host: str, port: int | None, api: str, wire: str, path: str, sender: str | None) -> str:
    """Return the provider of a request of any code, by what is known: its host, its port, its sender or its API.

    `wire` is the family of `api`, `sender` the provider of the SDK that sends it. An API that many servers speak names
    no provider: `unknown`. Never raises.
    """
    provider = _by_name(host.casefold().rstrip("."), wire) or _PORTS.get(str(port)) or sender
    if provider is None and wire == "google" and any(part in path for part in _OF_VERTEX):
        return "gcp.vertex_ai"
    return provider or (APIS[api].owner if api in APIS else "") or UNKNOWN


def known_provider(host: str, sdk: SdkProfile) -> str | None:
    """Return the provider that a host name belongs to; None for any other host. Never raises."""
    return _by_name(host.casefold().rstrip("."), sdk.wire)


def _by_name(name: str, wire: str) -> str | None:
    if len(name) > _MAX_NAME_LENGTH:
        return None
    domain = name
    while domain:
        provider = _DOMAINS.get(domain) or _WIRE_DOMAINS.get((wire, domain))
        if provider is not None:
            return provider
        domain = domain.partition(".")[2]
    return next((provider for pattern, provider in _PATTERNS if pattern.search(name)), None)


@lru_cache(maxsize=256)
def is_host_of(provider: str, host: str) -> bool:
    """Return whether a provider answers at this host itself, without a gateway or a server of somebody else."""
    name = host.casefold().rstrip(".")
    return any(_by_name(name, wire) == provider for wire in ("openai", "anthropic"))


@lru_cache(maxsize=256)
def serves_models(host: str) -> bool:
    """Return whether a known provider answers at this host, and with little besides models. Never raises."""
    provider = _by_name(host.casefold().rstrip("."), "openai")
    return provider is not None and provider not in _WITH_OTHER_SERVICES


@lru_cache(maxsize=64)
def is_own_host(host: str) -> bool:
    """Return whether one of the large providers answers at this host itself, without a gateway of somebody else.

    Example: `is_own_host("api.openai.com")` is true, `is_own_host("gateway.example")` is not.
    """
    return _OWN.fullmatch(host) is not None
