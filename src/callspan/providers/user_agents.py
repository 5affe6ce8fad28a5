"""User agents: the SDK that sends a request, and the provider that it is of.

An SDK states its provider only if it has one: LiteLLM and HTTP libraries send to any. A new SDK is a new row.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final, NamedTuple

_MAX_KNOWN: Final = 128
_MAX_LENGTH: Final = 256


class Sender(NamedTuple):
    """The software that sends a request."""

    sdk: str | None = None
    """Its name in package indexes and its version, else the product that it names; None if it names none."""
    provider: str | None = None
    """The provider whose SDK it is, as a value of `gen_ai.provider.name`."""


class _Row(NamedTuple):
    pattern: re.Pattern[str]
    """Matches the start of a user agent, with its version as the group."""
    distribution: str
    provider: str | None = None


_SENDERS: Final = (
    _Row(re.compile(r"mistral-client-python/(\S+)"), "mistralai", "mistral_ai"),
    _Row(re.compile(r"speakeasy-sdk/python (\S+) .*\bmistralai$"), "mistralai", "mistral_ai"),
    _Row(re.compile(r"cohere/(\S+)"), "cohere", "cohere"),
    _Row(re.compile(r"ollama-python/(\S+)"), "ollama", "ollama"),
    _Row(re.compile(r".*\bhf_hub/([^\s;]+)"), "huggingface_hub", "huggingface"),
    _Row(re.compile(r"python-httpx2/(\S+)"), "httpx2"),
    _Row(re.compile(r"python-httpx/(\S+)"), "httpx"),
)
_PRODUCT: Final = re.compile(r"[A-Za-z][\w.+-]{0,63}/[0-9][\w.+-]{0,31}(?=[ ;]|$)")
"""A product and its version, as any user agent begins."""

_GENERATED: Final = b"x-stainless-lang"
"""The header of the SDKs generated alike."""
_USER_AGENT: Final = b"user-agent"
_HOOKED: Final = (b"google-genai-sdk/", b"boto3/", b"botocore/", b"aiobotocore/")
"""The beginnings of the user agents of SDKs with a hook of their own."""


def sender_of(headers: list[tuple[bytes, bytes]]) -> Sender | None:
    """Return the sender of a request by its raw headers; None for an SDK with hooks, which alone records its calls."""
    user_agent = b""
    for name, value in headers:
        lowered = name.lower()
        if lowered == _GENERATED:
            return None
        if lowered == _USER_AGENT:
            user_agent = value
    return None if user_agent.lower().startswith(_HOOKED) else _sender(user_agent[:_MAX_LENGTH])


@lru_cache(maxsize=_MAX_KNOWN)
def _sender(user_agent: bytes) -> Sender:
    text = user_agent.decode("latin-1")
    for row in _SENDERS:
        if (match := row.pattern.match(text)) is not None:
            return Sender(f"{row.distribution}/{match[1]}", row.provider)
    product = _PRODUCT.match(text)
    return Sender(None if product is None else product[0])
