"""Hosted agents: one form for sessions that run at the provider, their events and their listings.

The provider calls the model; the application only reads events, so each model request is known by an id of the
provider's. Readers are pure and total, as endpoint adapters are.
"""

from __future__ import annotations

from typing import Any, Literal, Protocol, TypeAlias, cast

import msgspec

from callspan.providers.base import Endpoint
from callspan.providers.error_kinds import error_info
from callspan.providers.routes import Found
from callspan.providers.wire_json import items, mapping, objects, time_ns, word
from callspan.record.call import ErrorInfo, Outcome

What: TypeAlias = Literal[
    "sessions",
    "session",
    "stream",
    "events",
    "send",
    "threads",
    "thread",
    "turns",
    "job",
    "jobs",
]
"""What a request is for: `sessions` lists or creates them, `events` lists, `stream` streams, `send` sends.

`job` creates a job, `jobs` fetches or lists them.
"""


class HostedPath(msgspec.Struct, frozen=True, kw_only=True):
    """What a request is for, by its path."""

    api: str
    """One of `HOSTED_APIS`."""
    what: What
    session_id: str | None = None
    thread_id: str | None = None
    """Of anthropic a thread, of openai a subagent; None: the agent of the session itself."""


class ModelRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What the provider sent to the model, and the answer: one model request of anthropic, one turn of openai."""

    key: str
    """The provider's id of the event that ended it, or of the turn."""
    session_id: str | None
    thread_id: str | None = None
    model: str | None = None
    """None: that of the session or thread, as far as known."""
    other_model: bool = False
    """The model is not that of the session or thread, and unknown."""
    operation: str = "chat"
    start_ns: int | None = None
    end_ns: int | None = None
    input: list[object] = []
    """Messages, or items, that are new since the request before it."""
    input_ids: frozenset[str] = frozenset()
    """Ids of the events in `input`."""
    parameters: dict[str, object] = {}
    """Other parameters of the request."""
    output: list[object] | None = None
    """Content blocks, or items; None: what was read lacks it."""
    usage: dict[str, object] | None = None
    """As the provider states it."""
    status: str | None = None
    outcome: Outcome = "success"
    error: ErrorInfo | None = None
    complete: bool = True
    """False: what was read did not include its beginning."""
    listed: bool = False
    """Out of a list, which has all messages that were sent."""


class ToolRun(msgspec.Struct, frozen=True, kw_only=True):
    """The run of a tool at the provider, with its result. Tools that the application runs are not included."""

    key: str
    """The provider's id of the tool call."""
    session_id: str | None
    name: str | None
    server: str | None = None
    """The MCP server that has the tool."""
    arguments: object = None
    result: object = None
    start_ns: int | None = None
    duration_ns: int | None = None
    failed: bool = False


class SessionFacts(msgspec.Struct, frozen=True, kw_only=True):
    """The facts of a session or thread at one time."""

    session_id: str
    thread_id: str | None = None
    """Of a thread only the model is meant."""
    model: str | None = None
    system: str | None = None
    name: str | None = None
    agent_id: str | None = None
    created_ns: int | None = None
    status: str | None = None
    """The provider's word for its state."""
    at_ns: int | None = None
    """When that was so; None: now."""
    usage: dict[str, object] | None = None
    """All its usage so far as the provider states it: to compare with, it is never added to that of calls."""
    created_here: bool = False
    """The request that returned it created it."""
    looked_up: bool | None = None
    """Its model was looked up in a store."""


class Sent(msgspec.Struct, frozen=True, kw_only=True):
    """Messages and results that the application sent to a session."""

    session_id: str | None
    thread_id: str | None = None
    messages: list[tuple[str | None, object]]
    """Each with the id of its event, where the provider has given one."""


Fact: TypeAlias = ModelRequest | ToolRun | SessionFacts | Sent


class Fold(Protocol):
    """Folds the events of one session or thread, in order."""

    def add(self, event: object) -> list[Fact]:
        """Return the facts known after this event. Total."""


class JobReader:
    """Reads jobs: an event, as an answer, has the whole state of a job, so that nothing is folded. Stateless."""

    def of_job(self, job: object) -> list[Fact]:
        """Return the facts of one job; nothing for any other JSON. Total."""
        raise NotImplementedError

    def add(self, event: object) -> list[Fact]:
        """Return the facts of the job in an event of a stream. Total."""
        held = event.get("data") if isinstance(event, dict) else None
        return self.of_job(event if held is None else held)

    def fold(self, path: HostedPath) -> Fold:
        """Return itself."""
        del path
        return self

    def facts(self, path: HostedPath, body: object) -> list[Fact]:
        """Return the facts in a job or a list of jobs."""
        del path
        return [fact for job in (body, *objects(body, "data")) for fact in self.of_job(job)]

    def sent(self, path: HostedPath, request: object, answer: object) -> list[Fact]:
        """Return nothing: the request is in the job itself."""
        del path, request, answer
        return []


class HostedReader(Protocol):
    """Reads the requests and answers of one provider's sessions. Stateless."""

    def fold(self, path: HostedPath) -> Fold:
        """Return a new fold for the events of one stream or list."""

    def facts(self, path: HostedPath, body: object) -> list[Fact]:
        """Return the facts in a response that is not a list of events."""

    def sent(self, path: HostedPath, request: object, answer: object) -> list[Fact]:
        """Return the messages that a successful request sent."""

    def bodies(self, request: ModelRequest, facts: SessionFacts | None) -> tuple[dict[str, object], Any]:
        """Return request and response of a model request as bodies in the shape of the API."""


class HostedEndpoint(HostedReader, Endpoint, Protocol):
    """Reads the events of a provider's sessions, and the bodies built from them."""


def events_in(body: object) -> tuple[list[object], str | None]:
    """Return the events of a page of a list, oldest first, and the cursor of the next page."""
    page = list(items(body, "data"))
    times = [at for event in page if (at := time_ns(event, "processed_at")) is not None]
    # The order is that of the request: `desc` has the newest first.
    if times and times[0] > times[-1]:
        page.reverse()
        return page, None
    return page, word(body, "next_page")


def failure(body: object, outcome: Outcome, *names: str) -> ErrorInfo | None:
    """Return the error of a job or turn that ended with this outcome, described under the first known of `names`."""
    if outcome != "error":
        return None
    described = next((found for name in names if (found := mapping(body, name))), None)
    if described is None:
        return ErrorInfo(kind="unknown", type="failed")
    return error_info(status=None, body={"error": described}, exception=None, message=None, request_id=None)


def listed(fact: Fact) -> Fact:
    """Return a fact that was read from a list."""
    return msgspec.structs.replace(fact, listed=True) if isinstance(fact, ModelRequest) else fact


def path_of(found: Found) -> HostedPath:
    """Return what a request about a hosted agent's session or a job is for."""
    return HostedPath(
        api=found.path.adapter,
        what=cast("What", found.path.subject),
        session_id=found.ids.get("id"),
        thread_id=found.ids.get("thread"),
    )
