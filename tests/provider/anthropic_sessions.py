"""Anthropic's managed agents: sessions that use up the script as their events arrive, with their event lists.

A message or a tool's result that is sent makes model requests until the agent waits. A tool call with a `result` runs
at the provider, and the next reply answers it; one without is the application's.
Wire reference: https://platform.claude.com/docs/en/api/beta/sessions
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timezone

import msgspec

from callspan.testing.provider.answer import base62, objects, tool_calls
from callspan.testing.provider.script import Choice, Json, ReceivedRequest, Reply
from tests.provider.pages import numbered_page
from tests.provider.session_log import SessionLog

_MODEL = "scripted-model"
_ANSWERED = frozenset({"user.message", "user.custom_tool_result", "user.tool_result", "user.define_outcome"})
"""Events that the agent works on."""
_MAX_TURNS = 100
_NONE: Sequence[object] = ()

Take = Callable[[], Reply]
"""Takes the next reply of the script."""


class Session:
    """One session with its primary thread."""

    def __init__(self, request: ReceivedRequest) -> None:
        self._created = _now()
        self._body = request.body
        self.id = f"sesn_01{base62(22)}"
        self.log = SessionLog()
        self._usage = {"input_tokens": 0, "output_tokens": 0, "cache_read_input_tokens": 0}
        self._status = "idle"

    def json(self) -> Json:
        """The session as the API returns it."""
        given = self._body.get("agent")
        named = given if isinstance(given, Mapping) else {"id": given}
        model = named.get("model", _MODEL)
        return {
            "id": self.id,
            "type": "session",
            "agent": {
                "id": named.get("id") or "agent_scripted",
                "type": "agent",
                "version": 1,
                "name": named.get("name", "Scripted agent"),
                "model": model if isinstance(model, Mapping) else {"id": model},
                "system": named.get("system"),
                "execution_identity": {"type": "service_account"},
                **dict.fromkeys(("description", "multiagent")),
                **dict.fromkeys(("mcp_servers", "skills", "tools"), _NONE),
            },
            **dict.fromkeys(("archived_at", "budget")),
            **dict.fromkeys(("outcome_evaluations", "resources", "vault_ids"), _NONE),
            "created_at": self._created,
            "updated_at": _now(),
            "environment_id": self._body.get("environment_id", "env_scripted"),
            "metadata": self._body.get("metadata") or {},
            "stats": {"active_seconds": 0.0, "duration_seconds": 0.0},
            "status": self._status,
            "title": self._body.get("title"),
            "usage": self._usage,
        }

    def send(self, events: object, take: Take) -> Json:
        """Process the sent events, and run the agent on them."""
        sent: list[Json] = [{"id": _id(), **event, "processed_at": _now()} for event in objects(events)]
        self.log.add(*sent)
        if any(event.get("type") in _ANSWERED for event in sent):
            self._run(take)
        return {"data": sent}

    def _run(self, take: Take) -> None:
        self._status = "running"
        self.log.add(_event("session.status_running"))
        waits: list[str] = []
        for _ in range(_MAX_TURNS):
            goes_on, waits = self._answer(take())
            if not goes_on:
                break
        self._status = "idle"
        reason = {"type": "requires_action", "event_ids": waits} if waits else {"type": "end_turn"}
        self.log.add(_event("session.status_idle", stop_reason=reason))

    def _answer(self, reply: Reply) -> tuple[bool, list[str]]:
        """Add the events of one model request; return whether the agent goes on, and the tool calls it waits for."""
        if isinstance(reply.raw, list):
            self.log.add(*objects(reply.raw))
            return False, []
        begun = _event("span.model_request_start")
        self.log.add(begun)
        failed = reply.finish_reason == "error"
        results, waits = self._act(reply.completions()[0]) if not failed else ([], [])
        if failed:
            error = {"type": reply.error_type or "model_overloaded_error", "message": reply.message}
            self.log.add(_event("session.error", error={**error, "retry_status": {"type": "exhausted"}}))
        usage = self._count(reply)
        self.log.add(_event(
            "span.model_request_end", model_request_start_id=begun["id"], is_error=failed, model_usage=usage
        ))  # fmt: skip
        self.log.add(*results)
        return bool(results), waits

    def _act(self, choice: Choice) -> tuple[list[Json], list[str]]:
        """Add the agent's messages and actions; return its tool results, and the tool calls for the client."""
        if choice.reasoning is not None:
            self.log.add(_event("agent.thinking"))
        if choice.text is not None:
            self.log.add(_event("agent.message", content=[{"type": "text", "text": choice.text}]))
        results: list[Json] = []
        waits: list[str] = []
        for call, given in zip(tool_calls(choice, _id), choice.tool_calls, strict=True):
            made = {"id": call.id, "name": call.name, "input": msgspec.json.decode(call.arguments)}
            if "result" not in given:
                self.log.add(_event("agent.custom_tool_use", **made))
                waits.append(call.id)
                continue
            self.log.add(_event("agent.tool_use", **made, evaluated_permission="allow"))
            content = [{"type": "text", "text": str(given["result"])}]
            results.append(_event("agent.tool_result", tool_use_id=call.id, content=content, is_error=False))
        return results, waits

    def _count(self, reply: Reply) -> Json:
        read, written = reply.cache_read_tokens, reply.cache_write_tokens
        usage = reply.usage or {
            "input_tokens": max(0, reply.input_tokens - read - written),
            "output_tokens": reply.output_tokens,
            "cache_read_input_tokens": read,
            "cache_creation_input_tokens": written,
        }
        for name in self._usage:
            count = usage.get(name)
            self._usage[name] += count if isinstance(count, int) else 0
        return usage


class Sessions:
    """All sessions of a scripted provider. Safe from any thread."""

    def __init__(self) -> None:
        self._sessions: dict[str, Session] = {}
        self._lock = threading.RLock()

    def answer(self, request: ReceivedRequest, rest: list[str], take: Take) -> Json | SessionLog | None:
        """Answer a request whose path has `rest` behind `/sessions`; None if there is no such session or endpoint."""
        if not rest:
            return self._create(request, take) if request.method == "POST" else self._list()
        session = self._sessions.get(rest[0])
        if session is None:
            return None
        match request.method, *rest[1:]:
            case ("GET" | "POST",):
                return session.json()
            case "POST", "events":
                return session.send(request.body.get("events"), take)
            case "GET", "events":
                return _events(session, request)
            case "GET", "events", "stream":
                return session.log
        return None

    def _create(self, request: ReceivedRequest, take: Take) -> Json:
        session = Session(request)
        with self._lock:
            self._sessions[session.id] = session
        if objects(request.body.get("initial_events")):
            session.send(request.body.get("initial_events"), take)
        return session.json()

    def _list(self) -> Json:
        with self._lock:
            return {"data": [session.json() for session in self._sessions.values()], "next_page": None}


def _events(session: Session, request: ReceivedRequest) -> Json:
    types = {value for name, value in request.query.items() if name.startswith("types")}
    events = [event for event in session.log.all() if not types or event["type"] in types]
    if request.query.get("order") == "desc":
        events.reverse()
    data, following = numbered_page(events, request.query, "page")
    return {"data": data, "next_page": None if following is None else str(following)}


def _event(kind: str, **fields: object) -> dict[str, object]:
    return {"id": _id(), "type": kind, "processed_at": _now(), **fields}


def _id() -> str:
    return f"sevt_01{base62(22)}"


def _now() -> str:
    return datetime.now(timezone.utc).isoformat().replace("+00:00", "Z")
