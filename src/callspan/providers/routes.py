"""Routes: the one table of requests: what each is for, what reads it, what is recorded of it.

A request is known by method and path. The registry of adapters and docs/records.md come from here. A new endpoint is a
new row, and its adapter.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from functools import lru_cache
from typing import Final, Literal, NamedTuple, TypeAlias
from urllib.parse import unquote

Kind: TypeAlias = Literal["call", "fetch", "results", "not recorded", "no inference"]
"""What a request is.

`call`: it asks a model. `fetch`: it reads or cancels a background response. `results`: it reads the results of a batch.
`not recorded`: it leads to inference, and is counted. `no inference`: its answer may repeat usage of recorded calls.
"""
What: TypeAlias = Literal["recorded", "counted", "websockets"]
"""What is recorded of a method.

`counted`: inference, or leads to inference, without a record; `websockets`: the same over a websocket.
"""

_ELSEWHERE: Final = "the provider does the work; requests that start it are counted"
_LINES: Final = "one call per line of batch results; no other file"
_BATCH: Final = "requests are counted; result lines are recorded when they are read"
_ASSISTANTS: Final = "OpenAI ended Assistants in August 2026; requests are counted"

_MOST_PATHS: Final = 128
_ANCHOR: Final = "^"
_BASES: Final[tuple[list[str], ...]] = ([], ["openai", "v1"])
"""What comes before a whole path: nothing for openai, whose version is in the base URL; groq's is in the path."""
_BASE_WORDS: Final = frozenset({"openai", "v1"})
_ANY: Final = ""


class Path(NamedTuple):
    """Requests of one kind."""

    pattern: str
    """Method and last segments of the path, `{name}` for an id; after `^` the whole path."""
    kind: Kind
    adapter: str = ""
    """The `api` of what reads it."""


class Row(NamedTuple):
    """Methods of one resource, and what is recorded of them."""

    sdk: str
    resource: str
    """Path from a client, such as `chat.completions`; in `_ROWS` also several, separated by spaces."""
    methods: str
    """Names, separated by spaces."""
    what: What
    note: str = ""
    """Note for the documentation."""
    older: bool = False
    """Exists only in older versions."""
    paths: tuple[Path, ...] = ()
    """Of their requests, unless another row has the same."""


class Found(NamedTuple):
    """The kind of one request."""

    path: Path
    ids: Mapping[str, str]
    """The ids in its path, by their names in the pattern."""


_ROWS: Final = (
    Row("openai", "chat.completions", "create parse stream", "recorded",
        paths=(Path("POST chat/completions", "call", "chat_completions"),)),
    Row("openai", "beta.chat.completions", "parse stream", "recorded", older=True),
    Row("openai", "responses", "create parse stream compact", "recorded",
        "with `background=True` the call is `in_progress` until its answer is read",
        paths=(Path("POST responses", "call", "responses"), Path("POST responses/compact", "call", "responses"))),
    Row("openai", "responses", "retrieve cancel", "recorded",
        "complete the call of a background response, once",
        paths=(Path("GET responses/{response}", "fetch", "responses"),
        Path("POST responses/{response}/cancel", "fetch", "responses"))),
    Row("openai", "responses", "connect", "recorded",
        "over a websocket: one call per `response.create`, and per successor that the provider starts itself",
        paths=(Path("WEBSOCKET responses", "call", "responses"),)),
    Row("openai", "beta.responses", "connect", "recorded", "as `responses`"),
    Row("openai", "beta.responses", "create compact retrieve cancel", "recorded", "as `responses`"),
    Row("openai", "webhooks", "unwrap", "recorded", "outcome and end of a background response's call"),
    Row("openai", "completions", "create", "recorded", paths=(Path("POST completions", "call", "completions"),)),
    Row("openai", "embeddings", "create", "recorded", paths=(Path("POST embeddings", "call", "embeddings"),)),
    Row("openai", "decisions", "create", "recorded", paths=(Path("POST decisions", "call", "decisions"),)),
    Row("openai", "moderations", "create", "recorded", paths=(Path("POST moderations", "call", "moderations"),)),
    Row("openai", "vector_stores", "search", "recorded",
        paths=(Path("POST vector_stores/{store}/search", "call", "vector_store_search"),)),
    Row("openai", "fine_tuning.alpha.graders", "run", "counted", "no `usage` in the answer",
        paths=(Path("POST graders/run", "not recorded"),)),
    Row("openai", "images", "generate edit create_variation", "recorded",
        paths=(Path("POST images/generations", "call", "images"), Path("POST images/edits", "call", "image_edits"),
        Path("POST images/variations", "call", "image_variations"))),
    Row("openai", "audio.speech", "create", "recorded", paths=(Path("POST audio/speech", "call", "speech"),)),
    Row("openai", "audio.transcriptions", "create", "recorded",
        paths=(Path("POST audio/transcriptions", "call", "transcriptions"),)),
    Row("openai", "audio.translations", "create", "recorded",
        paths=(Path("POST audio/translations", "call", "translations"),)),
    Row("anthropic", "messages", "create parse stream", "recorded",
        paths=(Path("POST v1/messages", "call", "messages"),)),
    Row("anthropic", "completions", "create", "recorded", "no token counts", older=True,
        paths=(Path("POST v1/complete", "call", "text_completions"),)),
    Row("anthropic", "beta.messages", "create parse stream tool_runner thread", "recorded",
        "one record per request of a tool runner or thread"),
    Row("openai", "files", "content retrieve_content", "recorded", _LINES,
        paths=(Path("GET ^files/{file}/content", "results"),)),
    Row("anthropic", "messages.batches", "results", "recorded", _LINES,
        paths=(Path("GET messages/batches/{batch}/results", "results"),)),
    Row("anthropic", "beta.messages.batches", "results", "recorded", "as `messages.batches`"),
    Row("openai", "batches", "create", "counted", _BATCH, paths=(Path("POST batches", "not recorded"),)),
    Row("anthropic", "messages.batches beta.messages.batches", "create", "counted", _BATCH,
        paths=(Path("POST messages/batches", "not recorded"),)),
    Row("openai", "beta.agents.sessions", "create stream", "counted", _ELSEWHERE,
        paths=(Path("POST agents/sessions", "not recorded"),)),
    Row("openai", "beta.agents.sessions.events", "create stream", "counted", _ELSEWHERE,
        paths=(Path("POST agents/sessions/{id}/events", "not recorded"),)),
    Row("anthropic", "beta.sessions", "create", "counted", _ELSEWHERE,
        paths=(Path("POST v1/sessions", "not recorded"),)),
    Row("anthropic", "beta.sessions.events", "send stream list", "counted", _ELSEWHERE,
        paths=(Path("POST v1/sessions/{id}/events", "not recorded"),)),
    Row("openai", "videos", "create edit extend remix create_and_poll", "counted", _ELSEWHERE,
        paths=(Path("POST videos", "not recorded"), Path("POST videos/edits", "not recorded"),
        Path("POST videos/extensions", "not recorded"), Path("POST videos/{job}/remix", "not recorded"))),
    Row("openai", "evals.runs", "create", "counted", _ELSEWHERE,
        paths=(Path("POST evals/{eval}/runs", "not recorded"),)),
    Row("anthropic", "beta.dreams", "create", "counted", _ELSEWHERE, paths=(Path("POST dreams", "not recorded"),)),
    Row("openai", "beta.threads", "create_and_run create_and_run_poll create_and_run_stream", "counted", _ASSISTANTS,
        paths=(Path("POST threads/runs", "not recorded"),)),
    Row("openai", "beta.threads.runs",
        "create create_and_poll create_and_stream stream poll submit_tool_outputs submit_tool_outputs_and_poll "
        "submit_tool_outputs_stream retrieve list",
        "counted", _ASSISTANTS,
        paths=(Path("POST threads/{t}/runs", "not recorded"),
        Path("POST threads/{t}/runs/{job}/submit_tool_outputs", "not recorded"))),
    Row("openai", "beta.agents.automations.invocations", "create", "counted", _ELSEWHERE,
        paths=(Path("POST agents/automations/{automation}/invocations", "not recorded"),)),
    Row("openai", "beta.chatkit.sessions", "create", "counted", "its model calls are made by the hosted workflow",
        paths=(Path("POST chatkit/sessions", "not recorded"),)),
    Row("anthropic", "beta.deployments", "run", "counted", _ELSEWHERE,
        paths=(Path("POST deployments/{deployment}/run", "not recorded"),)),
    Row("groq",
        "chat.completions embeddings audio.speech audio.transcriptions audio.translations",
        "create", "recorded"),
    Row("groq", "files", "content", "recorded", _LINES),
    Row("groq", "batches", "create", "counted", _BATCH),
    Row("openai", "realtime realtime.translations beta.realtime live.forks live.sideband", "connect", "websockets"),
    Row("openai", "realtime.calls", "create accept hangup refer reject", "websockets",
        paths=(Path("POST realtime/calls", "not recorded"), Path("POST realtime/calls/{call}/accept", "not recorded"))),
    Row("openai", "realtime.client_secrets", "create", "websockets",
        paths=(Path("POST realtime/client_secrets", "not recorded"),)),
    Row("openai", "realtime.translations.client_secrets", "create", "websockets",
        paths=(Path("POST realtime/translations/client_secrets", "not recorded"),)),
    Row("openai", "realtime.sessions", "create", "websockets", older=True,
        paths=(Path("POST realtime/sessions", "not recorded"),)),
    Row("openai", "realtime.transcription_sessions", "create", "websockets", older=True,
        paths=(Path("POST realtime/transcription_sessions", "not recorded"),)),
    Row("openai", "beta.realtime.sessions", "create", "websockets"),
    Row("openai", "beta.realtime.transcription_sessions", "create", "websockets"),
    Row("openai", "live", "create connect", "websockets", paths=(Path("POST live/sessions", "not recorded"),)),
    Row("openai", "live.sessions", "accept fork hangup refer reject", "websockets",
        paths=(Path("POST live/sessions/{session}/accept", "not recorded"),
        Path("POST live/sessions/{session}/fork", "not recorded"))),
    Row("openai", "fine_tuning.jobs", "create", "counted", "training",
        paths=(Path("POST fine_tuning/jobs", "not recorded"),)),
)  # fmt: skip


def _by_resource(row: Row) -> list[Row]:
    """Return a row for each of its resources; the first has the paths of all."""
    first, *others = row.resource.split()
    return [row._replace(resource=first), *(row._replace(resource=other, paths=()) for other in others)]


ROWS: Final = tuple(each for row in _ROWS for each in _by_resource(row))
"""The methods of the SDKs that reach a model, or begin what does."""
_STORED: Final = tuple(
    Path(f"POST {pattern}", "no inference")
    for pattern in (
        "chat/completions/{completion}", "responses/input_tokens", "messages/count_tokens", "agents/sessions/{id}",
        "v1/sessions/{id}", "v1/sessions/{id}/resources", "v1/sessions/{id}/resources/{resource}", "videos/characters",
        "deployments", "deployments/{deployment}",
    )
)  # fmt: skip
"""Requests that store, count or name something: their answers may repeat usage of recorded calls."""


def _placed() -> Mapping[tuple[str, str], tuple[tuple[list[str], Path], ...]]:
    """Return the patterns by method and last segment (`_ANY` for an id), the longest first."""
    placed: defaultdict[tuple[str, str], list[tuple[list[str], Path]]] = defaultdict(list)
    for path in (*_STORED, *(path for row in ROWS for path in row.paths)):
        method, _, pattern = path.pattern.partition(" ")
        segments = pattern.split("/")
        placed[method, _ANY if _is_id(segments[-1]) else segments[-1].removeprefix(_ANCHOR)].append((segments, path))
    return {key: tuple(sorted(found, key=lambda one: -len(one[0]))) for key, found in placed.items()}


_FREE: Final = frozenset(
    {
        "agents", "assistants", "chatkit", "compliance", "containers", "content_provenance_checks", "conversations",
        "dreams", "environments", "evals", "files", "memory_stores", "models", "organization",
        "organizations", "projects", "skills", "threads", "tunnels", "uploads", "user_profiles", "vaults",
        "vector_stores", "webhook_endpoints",
    }
)  # fmt: skip
"""First segments of paths whose POSTs cost nothing, but for those of the table."""
_ENDS: Final = frozenset(
    {
        "archive", "cancel", "hangup", "pause", "refer", "reject", "resume", "unpause", "validate", "voice_consents",
        "voices",
    }
)  # fmt: skip
"""Last segments of such paths, or those before an id."""


def is_free(path: str) -> bool:
    """Return whether a POST to a path that is in no row costs nothing. `path` as that of `find`."""
    segments = path.partition("?")[0].strip("/").split("/")
    return not _ENDS.isdisjoint(segments[-2:]) or next((one for one in segments if one not in _BASE_WORDS), "") in _FREE


def _is_id(segment: str) -> bool:
    return segment.startswith("{")


_PLACED: Final = _placed()


@lru_cache(maxsize=_MOST_PATHS)
def find(method: str, path: str) -> Found | None:
    """Return the kind of a request; None if its path is in no row. Never raises.

    `path` is the logical path given to the SDK, absolute or relative, with or without a query. Complete last
    segments must match, the longest pattern first.
    """
    method, segments = method.upper(), path.partition("?")[0].strip("/").split("/")
    for last in (segments[-1], _ANY):
        for pattern, found in _PLACED.get((method, last), ()):
            ids = _ids(pattern, segments)
            if ids is not None:
                return Found(found, ids)
    return None


def _ids(pattern: list[str], segments: list[str]) -> dict[str, str] | None:
    """Return the ids in a path that matches; None if it does not."""
    before, here = segments[: -len(pattern)], segments[-len(pattern) :]
    if len(here) < len(pattern):
        return None
    ids: dict[str, str] = {}
    for wanted, given in zip(pattern, here, strict=True):
        if _is_id(wanted):
            ids[wanted[1:-1]] = unquote(given)
        elif wanted.removeprefix(_ANCHOR) != given:
            return None
    return ids if not pattern[0].startswith(_ANCHOR) or before in _BASES else None
