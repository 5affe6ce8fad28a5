"""User agents: the SDK that sends a request, and the provider that it is of.

An SDK states its provider only if it has one: LiteLLM and HTTP libraries send to any. A new SDK is a new row.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final, NamedTuple

from callspan.sdk_profiles import GENERATED

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
_SUPPORTED: Final = re.compile("|".join(profile.title for profile in GENERATED))
"""Matches in the names of client classes of the SDKs with hooks, and of most that are derived from them."""
_GENERATED_HEADER: Final = b"x-stainless-lang"
"""The header of the SDKs generated alike."""
_USER_AGENT_HEADER: Final = b"user-agent"
_HOOKED: Final = re.compile(rb"(?:google-genai-sdk|boto3|botocore|aiobotocore)/|speakeasy-sdk/.*\bgoogle-genai$", re.I)
"""Matches the user agents of SDKs with a hook of their own; the last belongs to interactions in google-genai 2."""


def user_agent_of(headers: list[tuple[bytes, bytes]], *, all_sdks: bool) -> UserAgent | None:
    """Return what sends a request by its raw headers; None for an SDK with hooks, which alone records its calls.

    `all_sdks`: whether each imported SDK generated alike records its calls. If one was left out, a client class without
    a row may be derived from its.
    """
    header, is_generated = b"", False
    for name, value in headers:
        lowered = name.lower()
        if lowered == _GENERATED_HEADER:
            is_generated = True
        elif lowered == _USER_AGENT_HEADER:
            header = value
    if _HOOKED.match(header) is not None:
        return None
    user_agent = _user_agent(header[:_MAX_LENGTH])
    return user_agent if not is_generated or user_agent.provider or (all_sdks and user_agent.sdk) else None


@lru_cache(maxsize=_MAX_KNOWN)
def _user_agent(header: bytes) -> UserAgent:
    text = header.decode("latin-1")
    for row in _USER_AGENTS:
        if (match := re.match(row.pattern, text)) is not None:
            return UserAgent(f"{row.distribution}/{match[1]}", row.provider, row.calls_models)
    if (generated := _OF_GENERATED.match(text)) is not None:
        is_supported = _SUPPORTED.search(generated[1]) is not None
        return UserAgent(None if is_supported else f"{generated[1]}/{generated[2]}")
    product = _PRODUCT.match(text)
    return UserAgent(None if product is None else product[0])
