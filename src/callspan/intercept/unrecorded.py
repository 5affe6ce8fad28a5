"""Unrecorded calls: requests that are billed as inference, or seem to be, and that leave no record.

Two kinds: requests to the paths below, whatever their answer; and POSTs to paths that callspan does not know, where the
SDK has parsed an answer with `usage`. Bytes and streams are not read.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any, Final

from callspan.fail_open import value_of
from callspan.intercept.hooks import HookContext
from callspan.providers import registry

_MOST_PATHS: Final = 128
_MOST_SEGMENTS: Final = 8
_LONGEST_SEGMENT: Final = 24
_ID: Final = "{id}"
_MORE: Final = "..."
_WORD: Final = re.compile(r"[a-z]+(?:[_-][a-z]+)*")
_VERSION: Final = re.compile(r"v\d{1,2}(?:(?:alpha|beta)\d{0,2})?")
_NAMED_BY_USERS: Final = frozenset({"deployments", "models", "model"})
"""What follows such a segment is a name, even if it looks like a word."""

INFERENCE: Final = frozenset({
    "agents/automations/{id}/invocations", "audio/speech", "audio/transcriptions", "audio/translations",
    "chatkit/sessions", "deployments/{id}/run", "images/edits", "images/generations", "images/variations",
    "live/sessions", "live/sessions/{id}/accept", "live/sessions/{id}/fork", "realtime/calls",
    "realtime/calls/{id}/accept", "realtime/client_secrets", "realtime/sessions", "realtime/transcription_sessions",
    "realtime/translations/client_secrets",
})  # fmt: skip
"""Billed as inference, or leads to it: the methods that `coverage` has as `not yet` or `websockets`, without versions.

An endpoint that has an adapter is recorded, even if it is here.
"""

NO_INFERENCE: Final = frozenset({
    "agents/sessions", "agents/sessions/{id}", "agents/sessions/{id}/events", "batches/{id}/cancel",
    "chat/completions/{id}", "dreams/{id}/archive", "dreams/{id}/cancel", "messages/batches/{id}/cancel",
    "messages/count_tokens", "responses/input_tokens", "responses/{id}/cancel", "sessions", "sessions/{id}",
    "sessions/{id}/archive", "sessions/{id}/events", "sessions/{id}/threads/{id}/archive", "threads/{id}/runs/{id}",
    "threads/{id}/runs/{id}/cancel",
})  # fmt: skip
"""Their answers repeat, or sum up, the usage of calls that are recorded elsewhere."""


def note_response(hook_context: HookContext, client: object, response: Any) -> None:  # noqa: ANN401 - httpx or httpx2
    """Count a successful request that has no call, if it is known as inference."""
    if getattr(response, "is_success", False) is not True:
        return  # a middleware of anthropic gets errors this way
    path = _path(hook_context, client, response)
    if path is not None and _known(path) in INFERENCE:
        hook_context.unrecorded(path)


def note_answer(hook_context: HookContext, client: object, response: Any) -> None:  # noqa: ANN401 - httpx or httpx2
    """Count an answer with `usage` that has no call, if its path is not known. Events of streams do not count."""
    if getattr(response, "is_closed", False) is not True:
        return
    path = _path(hook_context, client, response)
    if path is None or _known(path) in INFERENCE | NO_INFERENCE:
        return
    if "event-stream" not in response.headers.get("content-type", ""):
        hook_context.unrecorded(path)


def _path(hook_context: HookContext, client: object, response: Any) -> str | None:  # noqa: ANN401 - httpx or httpx2
    """Return the public path of an observed POST that no adapter reads; else None."""
    if hook_context.factory() is None:
        return None
    request: Any = value_of(lambda: response.request)
    if getattr(request, "method", None) != "POST":
        return None
    base: Any = value_of(lambda: client.base_url)  # type: ignore[attr-defined] # of either SDK
    path = public_path(_text(request.url.raw_path), _text(getattr(base, "raw_path", b"")))
    return path if registry.endpoint_for("POST", path) is None and not _is_platform(path) else None


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


def _known(path: str) -> str:
    """Return a public path in the form of the tables: without version and, on Azure, without deployment."""
    segments = path.strip("/").split("/")
    if segments[0] and _VERSION.fullmatch(segments[0]):
        del segments[0]
    # `deployments/{id}/run` is a whole path of anthropic.
    is_prefix = segments[:2] == ["deployments", _ID] and segments[2:] != ["run"]
    return "/".join(segments[2:] if is_prefix else segments)


def _is_platform(path: str) -> bool:
    """Return whether a platform client has rewritten the path of a known endpoint to this one."""
    return path.startswith(("/model/", "/projects/", "/v1/projects/"))
