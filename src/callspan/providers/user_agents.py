"""User agents: the SDK that sends a request, and the provider that it is of.

An SDK states its provider only if it has one: LiteLLM and HTTP libraries send to any. A new SDK is a new row.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterable
from functools import lru_cache
from typing import Final, NamedTuple

from callspan.sdk_profiles import GENERATED, Sdk

_MAX_KNOWN: Final = 128
_MAX_LENGTH: Final = 256


class UserAgent(NamedTuple):
    """The software that sends a request."""

    sdk: str | None = None
    """Its name in package indexes and its version, else the product that it names; None if it names none."""
    provider: str | None = None
    """The provider of the SDK, as a value of `gen_ai.provider.name`."""
    calls_models: bool = False
    """Whether it sends to models alone, of any provider."""


class _Row(NamedTuple):
    pattern: str
    """Matches the start of a user agent, with its version as the group."""
    distribution: str
    provider: str | None = None
    calls_models: bool = False


_USER_AGENTS: Final = (
    _Row(r"mistral-client-python/(\S+)", "mistralai", "mistral_ai"),
    _Row(r"speakeasy-sdk/python (\S+) .*\bmistralai$", "mistralai", "mistral_ai"),
    _Row(r"cohere/(\S+)", "cohere", "cohere"),
    _Row(r"ollama-python/(\S+)", "ollama", "ollama"),
    _Row(r".*\bhf_hub/([^\s;]+)", "huggingface_hub", "huggingface"),
    _Row(r"ibm-watsonx-ai/(\S+)", "ibm-watsonx-ai", "ibm.watsonx.ai"),
    _Row(r"(?:Async)?Perplexity/Python (\S+)", "perplexityai", "perplexity"),
    _Row(r"(?:Async)?Writer/Python (\S+)", "writer-sdk", "writer"),
    _Row(r"azsdk-python-ai-inference/(\S+)", "azure-ai-inference", "azure.ai.inference"),
    _Row(r"Voyage/\S+ PythonBindings/(\S+)", "voyageai", "voyageai"),
    _Row(r"(?:Async)?Cloudflare/Python (\S+)", "cloudflare", "cloudflare"),
    _Row(r"litellm/(\S+)", "litellm", calls_models=True),
    _Row(r"python-httpx2/(\S+)", "httpx2"),
    _Row(r"python-httpx/(\S+)", "httpx"),
    _Row(r"python-requests/(\S+)", "requests"),
    _Row(r"Python/\S+ aiohttp/(\S+)", "aiohttp"),
)
_PRODUCT: Final = re.compile(r"[A-Za-z][\w.+-]{0,63}/[0-9][\w.+-]{0,31}(?=[ ;]|$)")
"""A product and its version, as any user agent begins."""

_OF_GENERATED: Final = re.compile(r"(?:Async)?(\w{1,64})/Python ([0-9][\w.+-]{0,31})")
"""The client class and the version in the user agents of SDKs generated alike."""
_GENERATED_HEADER: Final = b"x-stainless-lang"
"""The header of the SDKs generated alike."""
_USER_AGENT_HEADER: Final = b"user-agent"
_NAMES: Final = frozenset(profile.name for profile in GENERATED)
_HOOKED: Final[dict[Sdk, bytes]] = {
    "google": rb"(?i)google-genai-sdk/|speakeasy-sdk/.*\bgoogle-genai$",
    "bedrock": rb"(?i)(?:boto3|botocore|aiobotocore)/",
}
"""Match the user agents of SDKs with a hook of their own; the second of Google's belongs to interactions."""


def user_agent_of(headers: Iterable[tuple[bytes, bytes]]) -> UserAgent:
    """Return what sends a request, or has sent it to a proxy, as its raw headers say."""
    return _user_agent(_lowered(headers).get(_USER_AGENT_HEADER, b"")[:_MAX_LENGTH])


def is_of(headers: Iterable[tuple[bytes, bytes]], sdks: Container[Sdk]) -> bool:
    """Return whether raw headers are those of one of these SDKs.

    A client class without a row may be derived from one of an SDK generated alike.
    """
    stated = _lowered(headers)
    header = stated.get(_USER_AGENT_HEADER, b"")[:_MAX_LENGTH]
    if any(sdk in sdks and re.match(pattern, header) for sdk, pattern in _HOOKED.items()):
        return True
    is_generated = _GENERATED_HEADER in stated and any(name in sdks for name in _NAMES)
    return is_generated and _user_agent(header).provider is None


def _lowered(headers: Iterable[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    return {name.lower(): value for name, value in headers}


@lru_cache(maxsize=_MAX_KNOWN)
def _user_agent(header: bytes) -> UserAgent:
    text = header.decode("latin-1")
    for row in _USER_AGENTS:
        if (match := re.match(row.pattern, text)) is not None:
            return UserAgent(f"{row.distribution}/{match[1]}", row.provider, row.calls_models)
    if (generated := _OF_GENERATED.match(text)) is not None:
        return UserAgent(f"{generated[1]}/{generated[2]}")
    product = _PRODUCT.match(text)
    return UserAgent(None if product is None else product[0])
