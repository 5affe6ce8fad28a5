"""Other requests: those that are no calls and report calls, those that leave no record, and webhooks.

All ways to read the results of a batch lead through `Response.iter_bytes`: anthropic's `JSONLDecoder` reads pieces of
64 bytes with it, and so does everything that reads what openai's `files.content` has not read itself.

Requests that are billed as inference, or seem to be, and leave no record are counted. There are two kinds: requests to
paths that the table of routes has as such, whatever their answer; and POSTs to paths that it does not have, where the
SDK has parsed an answer with `usage`. Bytes and streams are not read.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any, Final, NamedTuple

from callspan import private_names as names
from callspan.fail_open import fail_open, value_of
from callspan.intercept.client_info import call_info
from callspan.intercept.hooks import Function, HookContext, HookSteps, guarded
from callspan.observe.live_call import CallFactory, StartExchange, WebhookReport
from callspan.providers import batches, routes
from callspan.providers.wire_json import unix_ns

_READ: Final = fail_open("read a webhook")
_PREFIX: Final = "response."
_MOST_PATHS: Final = 128
_MOST_SEGMENTS: Final = 8
_LONGEST_SEGMENT: Final = 24
_ID: Final = "{id}"
_MORE: Final = "..."
_WORD: Final = re.compile(r"[a-z]+(?:[_-][a-z]+)*")
_VERSION: Final = re.compile(r"v\d{1,2}(?:(?:alpha|beta)\d{0,2})?")
_COUNTED: Final = frozenset({"not recorded", "ended"})
_NAMED_BY_USERS: Final = frozenset({"deployments", "models", "model"})
"""What follows such a segment is a name, even if it looks like a word."""


class OtherRoute(NamedTuple):
    """What observes a request that is not a call but reports some."""

    found: routes.Found
    start: StartExchange

    @property
    def has_span(self) -> bool:
        """Whether it has a span of callspan's, in place of one that an SDK makes."""
        return self.found.path.kind == "fetch" or self.found.path.adapter == batches.CREATE


def route_other(factory: CallFactory, options: Any) -> OtherRoute | None:  # noqa: ANN401 - FinalRequestOptions
    """Return what observes a request that is not a call but reports some; None for any other request."""
    found = routes.find(options.method, options.url)
    if found is None or (start := factory.others.get(found.path.kind)) is None:
        return None
    return OtherRoute(found, start)


def observe_unwrap(hook_context: HookContext, original: Function) -> Function:
    """Return a replacement of `webhooks.unwrap` that reports background responses; the event is unchanged."""

    def begin(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[WebhookReport, Any] | None:
        del kwargs
        factory = hook_context.factory()
        report = None if factory is None else factory.webhook
        return None if report is None else (report, args[0])

    def returned(state: tuple[WebhookReport, Any], event: Any) -> None:  # noqa: ANN401 - an event of the SDK
        report, resource = state
        kind, response_id = getattr(event, "type", None), getattr(getattr(event, "data", None), "id", None)
        if isinstance(kind, str) and kind.startswith(_PREFIX) and isinstance(response_id, str):
            at_ns = unix_ns(getattr(event, "created_at", None))
            client = getattr(resource, names.RESOURCE_CLIENT.name, None)
            report(call_info(client, None, stream=False), response_id, kind.removeprefix(_PREFIX), at_ns)

    return guarded(original, HookSteps(step=_READ, begin=begin, returned=returned))


def note_response(hook_context: HookContext, client: object, response: Any) -> None:  # noqa: ANN401 - httpx or httpx2
    """Count a successful request that has no call, if it is known as inference, or was before its provider ended it."""
    if getattr(response, "is_success", False) is not True:
        return  # a middleware of anthropic gets errors this way
    unread = _unread(hook_context, client, response)
    if unread is not None and unread.kind in _COUNTED:
        hook_context.unrecorded(unread.path)


def note_answer(hook_context: HookContext, client: object, response: Any) -> None:  # noqa: ANN401 - httpx or httpx2
    """Count an answer with `usage` that has no call, if its path is not known. Events of streams do not count."""
    if getattr(response, "is_closed", False) is not True:
        return
    unread = _unread(hook_context, client, response)
    if unread is None or unread.kind is not None:
        return
    if "event-stream" not in response.headers.get("content-type", ""):
        hook_context.unrecorded(unread.path)


class _Unread(NamedTuple):
    """A request that no adapter reads."""

    path: str
    """Its public path."""
    kind: routes.Kind | None
    """None: its path is not known."""


def _unread(hook_context: HookContext, client: object, response: Any) -> _Unread | None:  # noqa: ANN401 - of either library
    """Return an observed POST that no adapter reads; else None."""
    if hook_context.factory() is None:
        return None
    request: Any = value_of(lambda: response.request)
    if getattr(request, "method", None) != "POST":
        return None
    base: Any = value_of(lambda: client.base_url)  # type: ignore[attr-defined] # of either SDK
    raw = _text(request.url.raw_path)
    path, found = public_path(raw, _text(getattr(base, "raw_path", b""))), routes.find("POST", raw)
    kind = None if found is None else found.path.kind
    return None if kind == "call" or _is_platform(path) else _Unread(path, kind)


def _text(raw: bytes) -> str:
    return raw.decode("ascii", "replace")


@lru_cache(maxsize=_MOST_PATHS)
def public_path(path: str, base: str = "") -> str:
    """Return a path without its query, with `{id}` for each segment except short lower-case words and versions.

    Of `base`, the path of a client's base URL, only a version at its end is kept: the rest may be a gateway's secret.
    """
    path, base = path.partition("?")[0], base.partition("?")[0].rstrip("/")
    version = ""
    if base and path.startswith(f"{base}/"):
        path, last = path[len(base) :], base.rpartition("/")[2]
        version = f"/{last}" if _VERSION.fullmatch(last) else ""
    segments = path.strip("/").split("/")
    shown = [_segment(before, segment) for before, segment in zip(["", *segments], segments, strict=False)]
    more = [_MORE] if len(shown) > _MOST_SEGMENTS else []
    return "/".join([version, *shown[:_MOST_SEGMENTS], *more])


def _segment(before: str, segment: str) -> str:
    if _VERSION.fullmatch(segment):
        return segment
    is_word = len(segment) <= _LONGEST_SEGMENT and _WORD.fullmatch(segment)
    return segment if is_word and before not in _NAMED_BY_USERS else _ID


def _is_platform(path: str) -> bool:
    """Return whether a platform client has rewritten the path of a known endpoint to this one."""
    return path.startswith(("/model/", "/projects/", "/v1/projects/"))
