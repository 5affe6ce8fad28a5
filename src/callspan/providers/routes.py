"""Routes: the table of all requests, by method and path, with the kind and reader of each.

Which paths call a model, the rows of `callspan.record.apis` say; the others are here.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from functools import lru_cache
from typing import Final, Literal, NamedTuple, TypeAlias
from urllib.parse import unquote

from callspan.record.apis import APIS

Kind: TypeAlias = Literal["call", "fetch", "results", "not recorded", "no inference"]
"""The kind of a request.

`call`: calls a model. `fetch`: reads or cancels a background response. `results`: reads the results of a batch.
`not recorded`: leads to inference and is only counted. `no inference`: the answer may repeat usage of recorded calls.
"""

_MAX_PATHS: Final = 128
_ANCHOR: Final = "^"
_BASES: Final[tuple[list[str], ...]] = ([], ["openai", "v1"])
"""Prefixes of paths: none for openai, which has the version in the base URL; groq has it in the path."""
_BASE: Final = re.compile(r"openai|api|upload|v\d\w{0,8}")
"""Matches segments before those that name a resource."""
_ANY: Final = ""


class Path(NamedTuple):
    """Requests of one kind."""

    pattern: str
    """Method and last segments of the path, `{name}` for an id; `^` anchors the whole path."""
    kind: Kind
    adapter: str = ""
    """The `api` of its reader."""


class RouteMatch(NamedTuple):
    """The kind of one request."""

    path: Path
    ids: Mapping[str, str]
    """The ids in its path, by their names in the pattern."""


_CALLS: Final = {f"POST {path}": row.name for row in APIS.values() for path in row.paths}
"""The API of each request that calls a model."""
_FETCHES: Final = ("GET responses/{response}", "POST responses/{response}/cancel")
_RESULTS: Final = ("GET ^files/{file}/content", "GET messages/batches/{batch}/results")
_NOT_RECORDED: Final = (
    "v1/complete", "graders/run", "batches", "messages/batches",
    "agents/sessions", "agents/sessions/{id}/events", "v1/sessions",
    "v1/sessions/{id}/events", "videos", "videos/edits", "videos/extensions", "videos/{job}/remix",
    "evals/{eval}/runs", "dreams", "threads/runs", "threads/{t}/runs", "threads/{t}/runs/{job}/submit_tool_outputs",
    "agents/automations/{automation}/invocations", "chatkit/sessions", "deployments/{deployment}/run",
    "realtime/calls", "realtime/calls/{call}/accept", "realtime/client_secrets",
    "realtime/translations/client_secrets", "realtime/sessions", "realtime/transcription_sessions", "live/sessions",
    "live/sessions/{session}/accept", "live/sessions/{session}/fork", "fine_tuning/jobs",
    "vector_stores/{store}/search", "containers", "fine-tunes", "evaluation", "queue/submit",
)  # fmt: skip
"""POSTs that start work, training or a container at the provider, or are answered without usage."""
_STORED: Final = (
    "chat/completions/{completion}", "responses/input_tokens", "messages/count_tokens", "agents/sessions/{id}",
    "v1/sessions/{id}", "v1/sessions/{id}/resources", "v1/sessions/{id}/resources/{resource}", "videos/characters",
    "deployments", "deployments/{deployment}", "fine_tuning/checkpoints/{checkpoint}/permissions",
)  # fmt: skip
"""POSTs without inference. Their answers may repeat usage of recorded calls."""
PATHS: Final = (
    *(Path(f"POST {pattern}", "no inference") for pattern in _STORED),
    *(Path(pattern, "call", api) for pattern, api in _CALLS.items()),
    *(Path(pattern, "fetch", "responses") for pattern in _FETCHES),
    *(Path(pattern, "results") for pattern in _RESULTS),
    *(Path(f"POST {pattern}", "not recorded") for pattern in _NOT_RECORDED),
)


def _placed() -> Mapping[tuple[str, str], tuple[tuple[list[str], Path], ...]]:
    """Return the patterns by method and last segment (`_ANY` for an id), longest first."""
    placed: defaultdict[tuple[str, str], list[tuple[list[str], Path]]] = defaultdict(list)
    for path in PATHS:
        method, _, pattern = path.pattern.partition(" ")
        segments = pattern.split("/")
        placed[method, _ANY if _is_id(segments[-1]) else segments[-1].removeprefix(_ANCHOR)].append((segments, path))
    return {key: tuple(sorted(rows, key=lambda row: -len(row[0]))) for key, rows in placed.items()}


_FREE: Final = frozenset(
    {
        "accounts", "agents", "assistants", "chatkit", "check-api-key", "compliance", "compute", "containers",
        "content_provenance_checks", "conversations", "detokenize", "dreams", "environments", "evals", "files",
        "memory_stores", "models", "organization", "organizations", "projects", "skills", "threads", "tokenize",
        "tunnels", "uploads", "user_profiles", "vaults", "vector_stores", "webhook_endpoints",
    }
)  # fmt: skip
"""First segments of paths with free POSTs, except for the paths in the table."""
_FREE_VERBS: Final = frozenset(
    {"cancel", "computeTokens", "countTokens", "register", "setIamPolicy", "testIamPermissions"}
)
"""Verbs of Google's free POSTs."""
_ENDS: Final = frozenset(
    {
        "archive", "cancel", "hangup", "pause", "refer", "reject", "resume", "unpause", "validate", "voice_consents",
        "voices",
    }
)  # fmt: skip
"""Last segments of such paths, also before a final id; their answers may repeat usage of recorded calls."""


def is_free(path: str) -> bool:
    """Return whether a POST to a path without a row is free, unless its answer states usage. For `path` see `find`."""
    segments = path.partition("?")[0].strip("/").split("/")
    if verb := segments[-1].partition(":")[2]:
        return verb in _FREE_VERBS
    resource = next((segment for segment in segments if _BASE.fullmatch(segment) is None), "")
    return may_repeat(path) or resource in _FREE


def may_repeat(path: str) -> bool:
    """Return whether the answer of a POST to a path without a row may repeat usage of recorded calls."""
    return not _ENDS.isdisjoint(path.partition("?")[0].strip("/").split("/")[-2:])


def _is_id(segment: str) -> bool:
    return segment.startswith("{")


_PLACED: Final = _placed()


@lru_cache(maxsize=_MAX_PATHS)
def find(method: str, path: str) -> RouteMatch | None:
    """Return the kind of a request; None if no row matches its path. Never raises.

    `path` is the logical path given to the SDK, absolute or relative, with or without a query. A pattern matches
    complete last segments; the longest wins.
    """
    method, segments = method.upper(), path.partition("?")[0].strip("/").split("/")
    for last in (segments[-1], _ANY):
        for pattern, path_row in _PLACED.get((method, last), ()):
            ids = _ids(pattern, segments)
            if ids is not None:
                return RouteMatch(path_row, ids)
    return None


def _ids(pattern: list[str], segments: list[str]) -> dict[str, str] | None:
    """Return the ids in a matching path; None if it does not match."""
    before, tail = segments[: -len(pattern)], segments[-len(pattern) :]
    if len(tail) < len(pattern):
        return None
    ids: dict[str, str] = {}
    for expected, segment in zip(pattern, tail, strict=True):
        if _is_id(expected):
            ids[expected[1:-1]] = unquote(segment)
        elif expected.removeprefix(_ANCHOR) != segment:
            return None
    return ids if not pattern[0].startswith(_ANCHOR) or before in _BASES else None
