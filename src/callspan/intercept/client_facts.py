"""Client facts: who is asked, read from the SDK's client and options before anything is sent."""

from __future__ import annotations

from functools import lru_cache
from importlib import metadata
from typing import Any

from callspan.fail_open import value_of
from callspan.observe.factory import CallFacts
from callspan.providers.hosts import provider_of


def facts_of(client: Any, options: Any, stream: bool) -> CallFacts:  # noqa: ANN401 - any client of either SDK
    """Return provider, server, model and SDK of a call. Reads scalars only: `messages` may be a generator."""
    kind = type(client)
    url = value_of(lambda: client.base_url)
    sdk, provider, host, port = _server(kind.__module__, kind.__name__, str(url) if url is not None else "")
    return CallFacts(
        provider=provider, sdk=sdk, server_address=host, server_port=port, model=_model(options), stream=stream
    )


def _model(options: Any) -> str | None:  # noqa: ANN401
    for source in (getattr(options, "extra_json", None), getattr(options, "json_data", None)):
        model = source.get("model") if isinstance(source, dict) else None
        if isinstance(model, str):
            return model
    return None


@lru_cache(maxsize=256)
def _server(module: str, class_name: str, url: str) -> tuple[str, str, str | None, int | None]:
    from urllib.parse import urlsplit

    family = "anthropic" if "anthropic" in module.lower() or "Anthropic" in class_name else "openai"
    parts = urlsplit(url)
    port = parts.port or {"https": 443, "http": 80}.get(parts.scheme)
    return _sdk(family), provider_of(class_name, _host(parts.hostname, parts.port), family), parts.hostname, port


def _sdk(family: str) -> str:
    version = value_of(lambda: metadata.version(family))
    return f"{family}/{version}" if version else family


def _host(hostname: str | None, port: int | None) -> str | None:
    return hostname if hostname is None or port is None else f"{hostname}:{port}"
