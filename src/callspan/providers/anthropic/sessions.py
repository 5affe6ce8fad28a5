"""Sessions of anthropic's managed agents: converts events to model requests and tool runs, in the shape of Messages.

A `span.model_request_end` is one model request. Its answer is what the agent did since the `span.model_request_start`;
its input are the messages and tool results since the request before.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Final, TypeAlias

import msgspec

from callspan.providers.anthropic.messages import Messages
from callspan.providers.base import Api
from callspan.providers.error_kinds import error_info
from callspan.providers.hosted import Fact, Fold, HostedPath, ModelRequest, Sent, SessionFacts, ToolRun
from callspan.providers.wire_json import detached, detached_object, flag, mapping, objects, text, time_ns, word
from callspan.record.call import ErrorInfo

_Event: TypeAlias = dict[str, object]
_MOST_TOOLS: Final = 1024
"""Tool calls whose results are awaited, for each stream."""
_MOST_ENTRIES: Final = 10_000
"""Messages and blocks of one model request."""
_START, _END = "span.model_request_start", "span.model_request_end"
_USES: Final = {
    "agent.tool_use": "server_tool_use",
    "agent.mcp_tool_use": "mcp_tool_use",
    "agent.custom_tool_use": "tool_use",
}
"""Events of tool calls, and the type of the block in Messages."""
_RESULTS: Final = {
    "agent.tool_result": "tool_use_id",
    "agent.mcp_tool_result": "mcp_tool_use_id",
    "user.tool_result": "tool_use_id",
    "user.custom_tool_result": "custom_tool_use_id",
}
"""Events of results, and the field with the id of the call."""
_OF_PROVIDER: Final = frozenset({"agent.tool_result", "agent.mcp_tool_result"})
_ROLES: Final = {
    "user.message": "user",
    "system.message": "system",
    "agent.message": "assistant",
    "agent.thread_message_received": "user",
}
_STATUSES: Final = {
    "session.status_running": "running",
    "session.status_idle": "idle",
    "session.status_rescheduled": "rescheduling",
    "session.status_terminated": "terminated",
    "session.deleted": "deleted",
}
_EVALUATED: Final = "span.outcome_evaluation_end"
_EVALUATION: Final = "span.outcome_evaluation_start"


class Sessions(Messages):
    """Reads the model requests of a session; their recorded bodies have the shape of Messages."""

    api: Api = "sessions"
    path: str = "/v1/sessions"

    def fold(self, path: HostedPath) -> Fold:
        """Return a new fold for the events of one stream or list."""
        return EventFold(path)

    def facts(self, path: HostedPath, body: object) -> list[Fact]:
        """Return the facts of sessions and threads in a response."""
        if path.what == "session":
            return _session(body, created_here=path.session_id is None)
        if path.what == "sessions":
            return [fact for one in objects(body, "data") for fact in _session(one)]
        threads = objects(body, "data") if path.what == "threads" else [mapping(body) or {}]
        return [fact for one in threads for fact in _thread(one)]

    def sent(self, path: HostedPath, request: object, answer: object) -> list[Fact]:
        """Return the messages and results that a request sent; their ids are in the answer."""
        given = answer if path.what == "send" else None
        sent: list[tuple[str | None, object]]
        sent = [(word(event, "id"), entry) for event in objects(given, "data") if (entry := _entry(event)) is not None]
        if path.what == "session" and path.session_id is None:
            events = objects(request, "initial_events")
            sent = [(None, entry) for event in events if (entry := _entry(event)) is not None]
        session_id = path.session_id or word(answer, "id")
        return [Sent(session_id=session_id, thread_id=path.thread_id, messages=sent)] if sent else []

    def bodies(self, request: ModelRequest, facts: SessionFacts | None) -> tuple[dict[str, object], Any]:
        """Return request and response in the shape of Messages."""
        sent: dict[str, object] = {} if request.model is None else {"model": request.model}
        if facts is not None and facts.system:
            sent["system"] = facts.system
        sent["messages"] = request.input
        answer: dict[str, object] = {"type": "message", "role": "assistant", "content": request.output or []}
        if request.usage is not None:
            answer["usage"] = request.usage
        return sent, answer


class _Open(msgspec.Struct):
    """A model request that has started."""

    start_id: str | None
    start_ns: int | None
    input: list[object]
    input_ids: frozenset[str]
    output: list[object]
    error: ErrorInfo | None = None


class EventFold:
    """Folds the events of one session or thread. Not thread-safe."""

    def __init__(self, path: HostedPath) -> None:
        self._path = path
        self._input: list[object] = []
        self._input_ids: set[str] = set()
        self._open: _Open | None = None
        self._tools: OrderedDict[str, dict[str, object]] = OrderedDict()
        self._begun = False
        """Whether a model request was read whose messages were read too: a stream may be joined after them."""
        self._evaluation: bool | None = None
        """Whether an outcome is being evaluated, without a model request seen since; None: unknown."""

    def add(self, event: object) -> list[Fact]:
        """Return the facts in an event. Events posted from another thread belong to that thread."""
        kind = text(event, "type")
        if kind is None or not isinstance(event, dict):
            return []
        return _HANDLERS.get(kind, EventFold._about)(self, event, kind)

    def _started(self, event: _Event, _: str) -> list[Fact]:
        self._evaluation = None
        began_ns = time_ns(event, "processed_at")
        self._open = _Open(word(event, "id"), began_ns, self._input, frozenset(self._input_ids), [])
        self._input, self._input_ids = [], set()
        return []

    def _ended(self, event: _Event, _: str) -> list[Fact]:
        self._evaluation = None
        begun, self._open = self._open, None
        followed = begun is not None and begun.start_id == word(event, "model_request_start_id")
        if begun is None:
            begun = _Open(None, None, self._input, frozenset(self._input_ids), [])
            self._input, self._input_ids = [], set()
        complete = followed and (self._begun or bool(begun.input))
        self._begun = True
        error = None
        if flag(event, "is_error"):
            error = begun.error or ErrorInfo(kind="server", type="model_request_error")
        request = ModelRequest(
            key=word(event, "id") or word(event, "model_request_start_id") or "",
            session_id=self._path.session_id,
            thread_id=self._path.thread_id,
            start_ns=begun.start_ns if followed else None,
            end_ns=time_ns(event, "processed_at"),
            input=begun.input,
            input_ids=begun.input_ids,
            output=begun.output,
            usage=_usage(event, "model_usage"),
            outcome="success" if error is None else "error",
            error=error,
            complete=complete,
        )
        return [request] if request.key else []

    def _troubled(self, event: _Event, _: str) -> list[Fact]:
        if self._open is not None:
            self._open.error = _error(mapping(event, "error"))
        return []

    def _evaluating(self, event: _Event, _: str) -> list[Fact]:
        del event
        self._evaluation = True
        return []

    def _evaluated(self, event: _Event, _: str) -> list[Fact]:
        """Return the model requests of a grader: one sum, unless each has its own event."""
        alone, self._evaluation = self._evaluation, None
        usage, key = _usage(event, "usage"), word(event, "id")
        if not alone or usage is None or key is None or not any(usage.values()):
            return []
        return [ModelRequest(
            key=key, session_id=self._path.session_id, thread_id=self._path.thread_id, other_model=True,
            operation="evaluation", end_ns=time_ns(event, "processed_at"), usage=usage,
        )]  # fmt: skip

    def _used(self, event: _Event, kind: str) -> list[Fact]:
        if event.get("session_thread_id"):
            return []
        identity = word(event, "id")
        if identity is not None and kind != "agent.custom_tool_use":
            self._tools[identity] = detached_object(event)
            if len(self._tools) > _MOST_TOOLS:
                self._tools.popitem(last=False)
        self._add_answer([_use(event, kind)])
        return []

    def _resulted(self, event: _Event, kind: str) -> list[Fact]:
        if event.get("session_thread_id"):
            return []
        self._put(event, _entry(event))
        used = self._tools.pop(word(event, _RESULTS[kind]) or "", None)
        if used is None or kind not in _OF_PROVIDER:
            return []
        return [ToolRun(
            key=word(used, "id") or "", session_id=self._path.session_id, name=word(used, "name"),
            server=word(used, "mcp_server_name"), arguments=used.get("input"), result=detached(event.get("content")),
            start_ns=time_ns(used, "processed_at"), duration_ns=_between(used, event),
            failed=flag(event, "is_error") is True,
        )]  # fmt: skip

    def _add_message(self, event: _Event, kind: str) -> list[Fact]:
        if kind == "agent.message" and self._open is not None:
            self._add_answer([detached(block) for block in objects(event, "content")])
        else:
            self._put(event, _entry(event))
        return []

    def _add_answer(self, blocks: list[object]) -> None:
        if self._open is None:
            self._put({}, {"role": "assistant", "content": blocks})
        elif len(self._open.output) < _MOST_ENTRIES:
            self._open.output += blocks

    def _put(self, event: _Event, entry: object) -> None:
        identity = word(event, "id")
        if entry is None or identity in self._input_ids or len(self._input) >= _MOST_ENTRIES:
            return
        self._input.append(entry)
        if identity is not None:
            self._input_ids.add(identity)

    def _about(self, event: _Event, kind: str) -> list[Fact]:
        session_id, at_ns = self._path.session_id, time_ns(event, "processed_at")
        if session_id is None or self._path.thread_id is not None:
            return []
        if kind == "session.usage":
            return [SessionFacts(session_id=session_id, usage=_usage(event, "usage"), at_ns=at_ns)]
        if kind == "session.updated":
            agent = mapping(event, "agent")
            return [] if agent is None else [_of_agent(session_id, None, agent)]
        status = _STATUSES.get(kind)
        return [] if status is None else [SessionFacts(session_id=session_id, status=status, at_ns=at_ns)]


_HANDLERS: Final[dict[str, Callable[[EventFold, _Event, str], list[Fact]]]] = {
    _START: EventFold._started,
    _END: EventFold._ended,
    **dict.fromkeys(_USES, EventFold._used),
    **dict.fromkeys(_RESULTS, EventFold._resulted),
    **dict.fromkeys(_ROLES, EventFold._add_message),
    "session.error": EventFold._troubled,
    _EVALUATION: EventFold._evaluating,
    _EVALUATED: EventFold._evaluated,
}


def _use(event: _Event, kind: str) -> dict[str, object]:
    block: dict[str, object] = {"type": _USES[kind], "id": word(event, "id"), "name": word(event, "name")}
    if kind == "agent.mcp_tool_use":
        block["server_name"] = word(event, "mcp_server_name")
    return {**block, "input": detached(event.get("input"))}


def _entry(event: dict[str, object]) -> dict[str, object] | None:
    """Return an event as a message of the Messages API; None if it is not a message."""
    kind = text(event, "type") or ""
    if kind in _RESULTS:
        result: dict[str, object] = {"type": "tool_result", "tool_use_id": word(event, _RESULTS[kind])}
        result |= {key: detached(event[key]) for key in ("content", "is_error") if event.get(key) is not None}
        return {"role": "user", "content": [result]}
    role = _ROLES.get(kind)
    return None if role is None else {"role": role, "content": detached(event.get("content"))}


def _usage(event: dict[str, object], key: str) -> dict[str, object] | None:
    found = mapping(event, key)
    return None if found is None else detached_object(found)


def _error(error: dict[str, object] | None) -> ErrorInfo | None:
    if error is None:
        return None
    error_type = text(error, "type") or ""
    kind = error_type.removeprefix("model_").removesuffix("_error") if error_type.startswith("model_") else error_type
    known = error_info(
        status=None, body={"type": "error", "error": {**error, "type": kind}}, exception=None, message=None,
        request_id=None,
    )  # fmt: skip
    named = word(error, "type") or known.type
    return msgspec.structs.replace(known, type=named, kind="server" if known.kind == "unknown" else known.kind)


def _session(body: object, *, created_here: bool = False) -> list[Fact]:
    session_id, agent = word(body, "id"), mapping(body, "agent")
    if session_id is None or text(body, "type") != "session":
        return []
    known = _of_agent(session_id, None, agent or {})
    return [msgspec.structs.replace(
        known, name=word(body, "title") or known.name, created_ns=time_ns(body, "created_at"),
        status=word(body, "status"),
        usage=_usage_so_far(mapping(body, "usage")), created_here=created_here,
    )]  # fmt: skip


def _usage_so_far(usage: dict[str, object] | None) -> dict[str, object] | None:
    """Return a session's usage; None if it has none yet."""
    return detached_object(usage) if usage and any(value for value in usage.values()) else None


def _thread(body: dict[str, object]) -> list[Fact]:
    session_id, thread_id, agent = word(body, "session_id"), word(body, "id"), mapping(body, "agent")
    if session_id is None or thread_id is None or agent is None:
        return []
    return [_of_agent(session_id, thread_id, agent)]


def _of_agent(session_id: str, thread_id: str | None, agent: dict[str, object]) -> SessionFacts:
    return SessionFacts(
        session_id=session_id,
        thread_id=thread_id,
        model=text(agent, "model", "id") or word(agent, "model"),
        system=word(agent, "system"),
        name=word(agent, "name"),
        agent_id=word(agent, "id"),
    )


def _between(first: dict[str, object], last: dict[str, object]) -> int | None:
    start_ns, end_ns = time_ns(first, "processed_at"), time_ns(last, "processed_at")
    return None if start_ns is None or end_ns is None else max(0, end_ns - start_ns)
