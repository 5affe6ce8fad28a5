"""Other requests: observes webhooks and requests to paths without an adapter.

Requests for background responses and batch results complete or contain calls. Any other POST may be a call, see
`GenericCall`; any other request that may cost money is counted by method and path.

All ways to read results use `Response.iter_bytes`: anthropic's `JSONLDecoder`, in pieces of 64 bytes, and everything
that reads openai's `files.content`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, Final, TypeAlias
from urllib.parse import urlsplit

from callspan import private_names as names
from callspan.intercept.generated_sdks.client_info import call_info
from callspan.intercept.hooks import HOOK_CONTEXT, HookSteps
from callspan.observe.call import Call
from callspan.observe.factory import CallFactory, CallInfo
from callspan.observe.later import BatchResults, Fetch, GenericCall, record_webhook
from callspan.providers import registry, routes
from callspan.providers.wire_json import unix_ns
from callspan.runtime.fail_open import fail_open, value_of

_READ: Final = fail_open("read a webhook")
_PREFIX: Final = "response."
_MAX_PATHS: Final = 128
_MAX_SEGMENTS: Final = 8
_MAX_SEGMENT_LENGTH: Final = 24
_ID: Final = "{id}"
_MORE: Final = "..."
_WORD: Final = re.compile(r"[a-z]+(?:[_-][a-z]+)*")
_VERSION: Final = re.compile(r"v\d{1,2}(?:(?:alpha|beta)\d{0,2})?")
_NAMED_BY_USERS: Final = frozenset({"deployments", "models", "model"})
"""Segments that are followed by a name, even if that looks like a word."""

StartOther: TypeAlias = Callable[[CallFactory, CallInfo, Any], Call]
"""Starts to observe a request in an OpenTelemetry context."""


def route_other(client: object, options: Any) -> StartOther | None:
    """Return the observer of a request without an adapter; None if it is free or only reads known objects."""
    route = routes.find(options.method, options.url)
    if route is None:
        return _unknown(client, options) if options.method.upper() == "POST" else None
    if route.path.kind == "fetch":
        return Fetch
    if route.path.kind == "results":
        (owner,) = route.ids.values()
        return partial(BatchResults, owner=owner)
    return _generic(client, options) if route.path.kind == "not recorded" else None


def _unknown(client: object, options: Any) -> StartOther | None:
    """Return the observer of a POST without a row; None if it repeats usage, or is free and sends files."""
    if not routes.is_free(options.url):
        return _generic(client, options)
    if routes.may_repeat(options.url) or options.files:
        return None
    return _generic(client, options, counts=False)


def _generic(client: object, options: Any, *, counts: bool = True) -> StartOther:
    """Return the observer of a POST that is a call if its answer states usage; else it is counted if `counts`."""
    endpoint = registry.generic(_path_of(client, options))
    unrecorded = partial(HOOK_CONTEXT.unrecorded, request_name(client, options)) if counts else _count_nothing
    return partial(GenericCall, endpoint=endpoint, unrecorded=unrecorded)


def _count_nothing() -> None:
    """Count no request that is free."""


def request_name(client: object, options: Any) -> str:
    """Return the method of a request and its path without ids."""
    return f"{options.method.upper()} {_path_of(client, options)}"


def _path_of(client: object, options: Any) -> str:
    base: Any = value_of(lambda: client.base_url.path)  # type: ignore[attr-defined] # in both SDKs
    return path_template(options.url, base if isinstance(base, str) else "")


def _unwrapping(_args: object, resource: object, _kwargs: object) -> tuple[CallFactory, Any] | None:
    factory = HOOK_CONTEXT.factory()
    return None if factory is None else (factory, resource)


def _unwrapped(state: tuple[CallFactory, Any], event: Any) -> None:
    factory, resource = state
    kind, response_id = getattr(event, "type", None), getattr(getattr(event, "data", None), "id", None)
    if isinstance(kind, str) and isinstance(response_id, str):
        at_ns = unix_ns(getattr(event, "created_at", None))
        info = call_info(getattr(resource, names.RESOURCE_CLIENT.name, None), None, stream=False)
        record_webhook(factory, info, response_id, kind.removeprefix(_PREFIX), at_ns)


UNWRAP: Final = HookSteps(step=_READ, before=_unwrapping, on_return=_unwrapped)
"""Records ends of background responses around `webhooks.unwrap`; the event is unchanged."""


@lru_cache(maxsize=_MAX_PATHS)
def path_template(url: str, base: str = "") -> str:
    """Return the path of a URL with `{id}` for each segment except short lower-case words and versions.

    `base` is the path of the client's base URL. Only its final version is kept: the rest may be a gateway's secret.
    """
    is_whole = "://" in url
    last = base.rstrip("/").rpartition("/")[2]
    version = f"/{last}" if not is_whole and _VERSION.fullmatch(last) else ""
    segments = urlsplit(url).path.strip("/").split("/") if is_whole else url.partition("?")[0].strip("/").split("/")
    templates = [_segment(before, segment) for before, segment in zip(["", *segments], segments, strict=False)]
    ellipsis = [_MORE] if len(templates) > _MAX_SEGMENTS else []
    return "/".join([version, *templates[:_MAX_SEGMENTS], *ellipsis])


def _segment(before: str, segment: str) -> str:
    if _VERSION.fullmatch(segment):
        return segment
    is_word = len(segment) <= _MAX_SEGMENT_LENGTH and _WORD.fullmatch(segment)
    return segment if is_word and before not in _NAMED_BY_USERS else _ID
