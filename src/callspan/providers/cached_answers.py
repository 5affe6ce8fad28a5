"""Cached answers: tells from headers and body that a cache served an answer, which nobody bought.

Gateways that cache answers say so. A cache within the prompt's processing (`cache_read_tokens`) is another matter: its
tokens are bought, at another price.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from functools import partial
from typing import Final

import msgspec

from callspan.providers.stated_cost import states_zero
from callspan.providers.wire_json import dig
from callspan.record.call import Response
from callspan.record.usage import Usage

CLIENT: Final = "client"
"""The cache that an HTTP library of the application says it has asked."""
REPEATED: Final = "repeated"
"""An unknown cache: the answer equals an earlier one."""
_QUOTED: Final = re.compile(r'"[^"]*"')


def _is_one_of(hits: tuple[str, ...], value: str) -> bool:
    return value.strip().lower() in hits


def _is_present(value: str) -> bool:
    return bool(value.strip())


def _names_hit(value: str) -> bool:
    """Return whether a cache in the list of `x-cache` served the answer, such as `Hit from cloudfront`, `MISS, HIT`."""
    return any(entry.strip().lower().partition(" ")[0] in _HIT_WORDS for entry in value.split(","))


def _has_hit(value: str) -> bool:
    """Return whether a cache in the list of RFC 9211 has the parameter `hit`."""
    entries = _QUOTED.sub("", value).split(",")
    parameters = [parameter.strip().lower() for entry in entries for parameter in entry.split(";")[1:]]
    return "hit" in parameters or "hit=?1" in parameters


_HIT_WORDS: Final = ("hit", "tcp_hit", "tcp_mem_hit", "tcp_remote_hit")
"""`TCP_REMOTE_HIT` is Azure Front Door's; `hit-for-pass` is no hit, because Varnish then asks the origin."""
_HIT: Final = partial(_is_one_of, ("hit",))
_STALE: Final = partial(_is_one_of, ("hit", "stale", "updating", "revalidated"))
"""nginx and Cloudflare also serve stale answers, and those that the origin confirmed."""
_YES: Final = partial(_is_one_of, ("1", "true", "hit"))
_HEADERS: Final[Mapping[str, tuple[str, Callable[[str], bool]]]] = {
    # docs.helicone.ai/features/advanced-usage/caching
    "helicone-cache": ("helicone", _HIT),
    # portkey.ai/docs/api-reference/inference-api/response-schema; MISS, SEMANTIC MISS, REFRESH, DISABLED are none
    "x-portkey-cache-status": ("portkey", partial(_is_one_of, ("hit", "semantic hit"))),
    # docs.litellm.ai/docs/proxy/caching: "on cache hits the cache key is sent"; there is no other header
    "x-litellm-cache-key": ("litellm", _is_present),
    # developers.cloudflare.com/ai-gateway/features/caching
    "cf-aig-cache-status": ("cloudflare", _HIT),
    # braintrustdata/braintrust-proxy, packages/proxy/src/proxy.ts, and the reader of both names in its SDKs
    "x-bt-cached": ("braintrust", _YES),
    "x-cached": ("braintrust", _YES),
    # openrouter.ai/docs/guides/features/response-caching
    "x-openrouter-cache-status": ("openrouter", _HIT),
    # docs.llmgateway.io/features/caching/gateway-caching
    "x-llmgateway-cache": ("llmgateway", _HIT),
    # truefoundry.com/docs/ai-gateway/caching
    "x-tfy-cache-status": ("truefoundry", _HIT),
    # apisix.apache.org/docs/apisix/plugins/ai-cache: an exact and a semantic layer; agentgateway's has no layers
    "x-ai-cache-status": ("apisix", partial(_is_one_of, ("hit", "hit-l1", "hit-l2"))),
    # tyk.io/docs: its cache adds the header to answers from it
    "x-tyk-cached-response": ("tyk", _YES),
    # Kong's ai-semantic-cache and proxy-cache, Higress' ai-cache, Traefik, nginx as usually configured
    "x-cache-status": ("http", _STALE),
    # HTTP caches in general
    "cache-status": ("http", _has_hit),
    "x-cache": ("http", _names_hit),
    "cf-cache-status": ("http", _STALE),
    "x-vercel-cache": ("http", _STALE),
    "x-proxy-cache": ("http", _STALE),
    "x-from-cache": ("http", _YES),
}
"""Who served the answer, and whether a value says that it did, by response header; gateways first."""
HEADERS: Final = frozenset(_HEADERS)
_BODY: Final[Mapping[str, tuple[str, tuple[str, ...]]]] = {
    # docs.getbifrost.ai/features/semantic-caching; in a stream, in its last chunk
    "extra_fields": ("bifrost", ("extra_fields", "cache_debug", "cache_hit")),
    # zilliztech/GPTCache, gptcache/adapter/openai.py
    "gptcache": ("gptcache", ("gptcache",)),
}
"""Who served the answer, and the path of the flag that says so, by its key in the body."""
_BODY_KEYS: Final = frozenset(_BODY)


def stated_cache(headers: Mapping[str, str], body: object) -> str | None:
    """Return the cache that served an answer, by its headers or body; None if neither says so.

    The name is a gateway's; `http` is a cache that knows nothing of models.
    """
    if not HEADERS.isdisjoint(headers):
        for name, (cache, is_hit) in _HEADERS.items():
            if name in headers and is_hit(headers[name]):
                return cache
    if isinstance(body, dict) and not _BODY_KEYS.isdisjoint(body):
        return next((cache for key, (cache, path) in _BODY.items() if key in body and dig(body, *path) is True), None)
    return None


def unbought_response(response: Response, cache: str) -> Response:
    """Return the response with the cache that served it, without counts of tokens."""
    return msgspec.structs.replace(
        response, cached=cache, prompt_cache_missed_tokens=None, prompt_cache_reusable_tokens=None
    )


def unbought(usage: Usage | None, headers: Mapping[str, str]) -> Usage | None:
    """Return the usage of an answer that nobody bought: as received, without counters, which sums would add.

    Its cost is 0 if the gateway says so, else absent: that in the body may be of the request that was bought.
    """
    usd = Decimal(0) if states_zero(usage, headers) else None
    raw = None if usage is None else usage.raw
    return None if raw is None and usd is None else Usage(raw=raw, cost_usd=usd)
