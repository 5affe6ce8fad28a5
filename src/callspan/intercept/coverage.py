"""Coverage: a table of all methods of the SDKs and what is recorded of each; finds methods missing in the table.

The methods of the installed SDKs are read from their source without importing it. `docs/coverage.md` is made from it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Final, Literal, NamedTuple, TypeAlias

What: TypeAlias = Literal["recorded", "not yet", "websockets", "no inference"]
"""`not yet`: inference, or leads to inference, without a record; `websockets`: the same over a websocket."""

EVERY: Final = "*"
"""Matches all methods of a resource and of the resources below it."""


class Row(NamedTuple):
    """Methods of one resource, and what is recorded of them."""

    sdk: str
    resource: str
    """Path from a client, such as `chat.completions`; `.*` at the end includes the resources below it."""
    methods: str
    """Names, separated by spaces; `EVERY` only for the administration of an organization."""
    what: What
    note: str = ""
    """Note for the documentation."""
    older: bool = False
    """Exists only in older versions."""


_CRUD: Final = "create retrieve update list delete archive cancel"
_STORED: Final = "it reads or keeps stored answers"
_JOB: Final = "one call for each, in progress until one that has ended is read"
_HOSTED: Final = "what the agent does is recorded as its events are read, see [hosted agents](hosted.md)"

ROWS: Final = (
    Row("openai", "chat.completions", "create parse stream", "recorded"),
    Row("openai", "beta.chat.completions", "parse stream", "recorded", older=True),
    Row("openai", "responses", "create parse stream compact", "recorded",
        "with `background=True` the call is `in_progress` until its answer is fetched"),
    Row("openai", "responses", "retrieve cancel", "recorded",
        "they complete the call of a background response, once; otherwise nothing is recorded"),
    Row("openai", "beta.responses", "create compact retrieve cancel", "recorded", "as `responses`"),
    Row("openai", "webhooks", "unwrap", "recorded", "outcome and end of a background response's call"),
    Row("openai", "completions", "create", "recorded"),
    Row("openai", "embeddings", "create", "recorded"),
    Row("openai", "decisions", "create", "recorded"),
    Row("openai", "moderations", "create", "recorded"),
    Row("openai", "vector_stores", "search", "recorded"),
    Row("openai", "fine_tuning.alpha.graders", "run", "recorded"),
    Row("openai", "images", "generate edit create_variation", "recorded"),
    Row("openai", "audio.speech", "create", "recorded"),
    Row("openai", "audio.transcriptions", "create", "recorded"),
    Row("openai", "audio.translations", "create", "recorded"),
    Row("anthropic", "messages", "create parse stream", "recorded"),
    Row("anthropic", "completions", "create", "recorded", "they state no tokens", older=True),
    Row("anthropic", "beta.messages", "create parse stream tool_runner thread", "recorded",
        "one record for each request that a tool runner or a thread makes"),
    Row("openai", "beta.agents.sessions", "create stream", "recorded", _HOSTED),
    Row("openai", "beta.agents.sessions.events", "create stream", "recorded", "one record for each turn"),
    Row("openai", "beta.agents.sessions.turns", "retrieve list", "recorded", "their latest usage counts"),
    Row("openai", "beta.agents.sessions.subagents.turns", "retrieve list", "recorded", "their latest usage counts"),
    Row("openai", "beta.agents.sessions.traces", "list", "recorded", "their model calls replace the turn's sum"),
    Row("anthropic", "beta.sessions", "create", "recorded", _HOSTED),
    Row("anthropic", "beta.sessions.events", "send stream list", "recorded",
        "one record for each model request, once, when its events are read"),
    Row("anthropic", "beta.sessions.threads.events", "stream list", "recorded", "as the events of sessions"),
    Row("openai", "batches", "create retrieve", "recorded", "one call for each line of a batch"),
    Row("openai", "files", "create content retrieve_content", "recorded",
        'the requests (`purpose="batch"`) and results of batches; no other file'),
    Row("anthropic", "messages.batches", "create retrieve results", "recorded", "one call for each line of a batch"),
    Row("anthropic", "beta.messages.batches", "create retrieve results", "recorded", "as `messages.batches`"),
    Row("openai", "videos", "create edit extend remix create_and_poll retrieve list poll", "recorded", _JOB),
    Row("openai", "evals.runs", "create retrieve list", "recorded",
        "one call for each model that a run has used, once a run that has ended is read"),
    Row("openai", "beta.threads", "create_and_run create_and_run_poll create_and_run_stream", "recorded", _JOB),
    Row("openai", "beta.threads.runs",
        "create create_and_poll create_and_stream stream poll submit_tool_outputs submit_tool_outputs_and_poll "
        "submit_tool_outputs_stream retrieve list", "recorded", _JOB),
    Row("openai", "beta.agents.automations.invocations", "create", "not yet",
        "its turns are recorded when the events or turns of its session are read"),
    Row("openai", "beta.chatkit.sessions", "create", "not yet", "its model calls are made by the hosted workflow"),
    Row("anthropic", "beta.deployments", "run", "not yet",
        "its model requests are recorded when the events of its session are read"),
    Row("anthropic", "beta.dreams", "create retrieve list", "recorded", _JOB),
    Row("groq", "chat.completions", "create", "recorded"),
    Row("groq", "embeddings", "create", "recorded"),
    Row("groq", "audio.speech", "create", "recorded"),
    Row("groq", "audio.transcriptions", "create", "recorded"),
    Row("groq", "audio.translations", "create", "recorded"),
    Row("groq", "batches", "create retrieve", "recorded", "one call for each line of a batch"),
    Row("groq", "files", "create content", "recorded",
        'the requests (`purpose="batch"`) and results of batches; no other file'),
    Row("openai", "responses", "connect", "websockets"),
    Row("openai", "beta.responses", "connect", "websockets"),
    Row("openai", "realtime", "connect", "websockets"),
    Row("openai", "realtime.calls", "create accept hangup refer reject", "websockets"),
    Row("openai", "realtime.client_secrets", "create", "websockets"),
    Row("openai", "realtime.translations", "connect", "websockets"),
    Row("openai", "realtime.translations.client_secrets", "create", "websockets"),
    Row("openai", "realtime.sessions", "create", "websockets", older=True),
    Row("openai", "realtime.transcription_sessions", "create", "websockets", older=True),
    Row("openai", "beta.realtime", "connect", "websockets"),
    Row("openai", "beta.realtime.sessions", "create", "websockets"),
    Row("openai", "beta.realtime.transcription_sessions", "create", "websockets"),
    Row("openai", "live", "create connect", "websockets"),
    Row("openai", "live.forks", "connect", "websockets"),
    Row("openai", "live.sideband", "connect", "websockets"),
    Row("openai", "live.sessions", "accept fork hangup refer reject", "websockets"),
    Row("openai", "live.sessions", "download_recording", "no inference"),
    Row("openai", "chat.completions", "retrieve update list delete", "no inference", _STORED),
    Row("openai", "chat.completions.messages", "list", "no inference", _STORED),
    Row("openai", "responses", "delete", "no inference", _STORED),
    Row("openai", "beta.responses", "delete", "no inference", _STORED),
    Row("openai", "responses.input_items", "list", "no inference", _STORED),
    Row("openai", "beta.responses.input_items", "list", "no inference", _STORED),
    Row("openai", "responses.input_tokens", "count", "no inference", "it counts tokens"),
    Row("openai", "beta.responses.input_tokens", "count", "no inference", "it counts tokens"),
    Row("anthropic", "messages", "count_tokens", "no inference", "it counts tokens"),
    Row("anthropic", "beta.messages", "count_tokens", "no inference", "it counts tokens"),
    Row("openai", "batches", "list cancel", "no inference"),
    Row("anthropic", "messages.batches", "list delete cancel", "no inference"),
    Row("anthropic", "beta.messages.batches", "list delete cancel", "no inference"),
    Row("openai", "admin.*", EVERY, "no inference"),
    Row("anthropic", "organization.*", EVERY, "no inference"),
    Row("anthropic", "beta.organization.*", EVERY, "no inference"),
    Row("openai", "audio.voices", _CRUD, "no inference"),
    Row("openai", "audio.voice_consents", _CRUD, "no inference"),
    Row("openai", "beta.agents", _CRUD, "no inference"),
    Row("openai", "beta.agents.automations", _CRUD + " pause resume", "no inference"),
    Row("openai", "beta.agents.automations.invocations", "retrieve list", "no inference", _STORED),
    Row("openai", "beta.agents.environments.*", _CRUD + " prepare prepare_directory upload", "no inference"),
    Row("openai", "beta.agents.sessions", "retrieve update list delete", "no inference", _STORED),
    Row("openai", "beta.agents.sessions.artifacts", "for_result retrieve list delete content", "no inference", _STORED),
    Row("openai", "beta.agents.sessions.items", "list", "no inference", _STORED),
    Row("openai", "beta.agents.sessions.subagents.*", "retrieve list", "no inference", _STORED),
    Row("openai", "beta.agents.sessions.turns.items", "list", "no inference", _STORED),
    Row("openai", "beta.agents.vaults.*", _CRUD, "no inference"),
    Row("openai", "beta.assistants", _CRUD, "no inference"),
    Row("openai", "beta.chatkit", "upload_file", "no inference", older=True),
    Row("openai", "beta.chatkit.sessions", "cancel", "no inference"),
    Row("openai", "beta.chatkit.threads", _CRUD + " list_items", "no inference", _STORED),
    Row("openai", "beta.threads", "create retrieve update delete", "no inference", _STORED),
    Row("openai", "beta.threads.messages", _CRUD, "no inference", _STORED),
    Row("openai", "beta.threads.runs", "update cancel", "no inference", _STORED),
    Row("openai", "beta.threads.runs.steps", "retrieve list", "no inference", _STORED),
    Row("openai", "containers.*", _CRUD, "no inference"),
    Row("openai", "content_provenance_checks", "create", "no inference"),
    Row("openai", "conversations.*", _CRUD, "no inference", _STORED),
    Row("openai", "evals", _CRUD, "no inference"),
    Row("openai", "evals.runs", "delete cancel", "no inference"),
    Row("openai", "evals.runs.output_items", "retrieve list", "no inference"),
    Row("openai", "files", "retrieve list delete wait_for_processing", "no inference"),
    Row("openai", "fine_tuning.alpha.graders", "validate", "no inference"),
    Row("openai", "fine_tuning.checkpoints.permissions", _CRUD, "no inference"),
    Row("openai", "fine_tuning.jobs", _CRUD + " list_events pause resume", "no inference", "training"),
    Row("openai", "fine_tuning.jobs.checkpoints", "list", "no inference"),
    Row("openai", "models", _CRUD, "no inference"),
    Row("openai", "safety.*", "retrieve", "no inference"),
    Row("openai", "skills.*", _CRUD, "no inference"),
    Row("openai", "uploads", "create cancel complete upload_file_chunked", "no inference"),
    Row("openai", "uploads.parts", "create", "no inference"),
    Row("openai", "vector_stores", _CRUD, "no inference"),
    Row("openai", "vector_stores.files", _CRUD + " content create_and_poll upload upload_and_poll poll",
        "no inference"),
    Row("openai", "vector_stores.file_batches", _CRUD + " list_files create_and_poll upload_and_poll poll",
        "no inference"),
    Row("openai", "beta.vector_stores.*",
        _CRUD + " list_files content create_and_poll upload upload_and_poll poll", "no inference", older=True),
    Row("openai", "videos", "delete create_character download_content get_character", "no inference"),
    Row("openai", "webhooks", _CRUD + " rotate_secret test verify_signature", "no inference"),
    Row("openai", "webhooks.event_types", "list", "no inference"),
    Row("anthropic", "beta.agents.*", _CRUD, "no inference"),
    Row("anthropic", "beta.deployment_runs", "retrieve list", "no inference", _STORED),
    Row("anthropic", "beta.deployments", _CRUD + " pause unpause", "no inference"),
    Row("anthropic", "beta.dreams", "archive cancel", "no inference"),
    Row("anthropic", "beta.environments.*", _CRUD + " ack heartbeat poll poller stats stop worker", "no inference"),
    Row("anthropic", "beta.files", "list delete download retrieve_metadata upload", "no inference"),
    Row("anthropic", "files", "list delete download retrieve_metadata upload", "no inference"),
    Row("anthropic", "beta.memory_stores.*", _CRUD + " redact", "no inference"),
    Row("anthropic", "beta.models", "retrieve list", "no inference"),
    Row("anthropic", "models", "retrieve list", "no inference"),
    Row("anthropic", "beta.sessions", "retrieve update list delete archive", "no inference", _STORED),
    Row("anthropic", "beta.sessions.resources", _CRUD + " add", "no inference"),
    Row("anthropic", "beta.sessions.threads", "retrieve list archive", "no inference", _STORED),
    Row("anthropic", "beta.skills.*", _CRUD + " download", "no inference"),
    Row("anthropic", "skills.*", _CRUD + " download", "no inference"),
    Row("anthropic", "beta.tunnels.*", _CRUD + " reveal_token rotate_token", "no inference"),
    Row("anthropic", "beta.user_profiles.*", _CRUD + " create_enrollment_url", "no inference"),
    Row("anthropic", "user_profiles.*", _CRUD + " create_enrollment_url", "no inference"),
    Row("anthropic", "beta.vaults.*", _CRUD + " mcp_oauth_validate", "no inference"),
    Row("anthropic", "beta.webhooks", "parse_unverified unwrap", "no inference"),
    Row("groq", "batches", "list cancel", "no inference"),
    Row("groq", "files", "list delete info", "no inference"),
    Row("groq", "models", "retrieve list delete", "no inference"),
)  # fmt: skip
"""All methods of openai 3.54, anthropic 2.12 and groq 1.7, and those of older versions that reach a model."""

_CLASS: Final = re.compile(r"^class (\w+)\((?:\w+, *)*SyncAPIResource(?:, *\w+)*\):$", re.MULTILINE)
_NEXT: Final = re.compile(r"^\S", re.MULTILINE)
_METHOD: Final = re.compile(r"^    def ([a-z]\w*)\(", re.MULTILINE)
_PROPERTY: Final = re.compile(r"^    @(?:cached_)?property\n(?:    @.*\n)*    def (\w+)\(", re.MULTILINE)


class Method(NamedTuple):
    """One method of an installed SDK."""

    sdk: str
    resource: str
    name: str

    def __str__(self) -> str:
        """Return the expression that calls it, from the client on."""
        return f"{self.resource}.{self.name}"


def methods_of(sdk: str) -> Iterator[Method]:
    """Yield the methods of all resources of an installed SDK, in the order of its files; none if it is not installed.

    Raises OSError if its files cannot be read.
    """
    found = find_spec(sdk)
    for place in (found.submodule_search_locations if found is not None else None) or ():
        resources = Path(place) / "resources"
        for file in sorted(resources.rglob("*.py")):
            names = list(file.relative_to(resources).with_suffix("").parts)
            if names[-1] == "__init__":
                continue
            resource = ".".join(names[:-1] if len(names) > 1 and names[-1] == names[-2] else names)
            yield from (Method(sdk, resource, name) for name in _names(file.read_text("utf-8")))


def row_of(method: Method) -> Row | None:
    """Return the row of the method; None if it is not in the table."""
    return next((row for row in ROWS if _has(row, method)), None)


def unknown(sdk: str) -> list[Method]:
    """Return the methods of an installed SDK that are not in the table. Raises OSError as `methods_of` does."""
    return [method for method in methods_of(sdk) if row_of(method) is None]


def _has(row: Row, method: Method) -> bool:
    base = row.resource.removesuffix(".*")
    below = base != row.resource and method.resource.startswith(f"{base}.")
    here = row.sdk == method.sdk and (method.resource == base or below)
    return here and (row.methods == EVERY or method.name in row.methods.split())


def _names(source: str) -> Iterator[str]:
    """Return the public methods of the synchronous resource in a file; the asynchronous one has the same."""
    for start in _CLASS.finditer(source):
        end = _NEXT.search(source, start.end())
        body = source[start.end() : end.start() if end else len(source)]
        properties = set(_PROPERTY.findall(body))
        yield from dict.fromkeys(name for name in _METHOD.findall(body) if name not in properties)
