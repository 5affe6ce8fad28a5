"""OpenAI's agents: sessions whose turns use up the script as input arrives, with their events and turns.

A tool call with a `result` runs at the provider, and the next reply of the same turn follows; one without is the
application's, whose result continues the turn. Wire reference: https://developers.openai.com/api/docs/guides/agents-api
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Mapping

import msgspec

from callspan.testing.provider.answer import member, objects, tool_calls
from callspan.testing.provider.script import Choice, Json, ReceivedRequest, Reply
from tests.provider.pages import page
from tests.provider.session_log import SessionLog

_MODEL = "scripted-model"
_MAX_REPLIES = 100
_USAGE_PARTS = ("input_tokens", "output_tokens", "total_tokens")

Take = Callable[[], Reply]
"""Takes the next reply of the script."""


class AgentTurn:
    """One turn of the session's agent."""

    def __init__(self, session_id: str, agent_id: str) -> None:
        self.id = f"turn_{secrets.token_hex(12)}"
        self.session_id = session_id
        self.agent_id = agent_id
        self.status = "queued"
        self.usage: dict[str, int] | None = None
        self.error: Json | None = None
        self.items = 0
        self._created = int(time.time())

    def json(self) -> Json:
        """The turn as the API returns it."""
        ended = self.status in ("completed", "failed", "cancelled")
        return {
            "id": self.id,
            "object": "agent.session.turn",
            "agent_id": self.agent_id,
            "session_id": self.session_id,
            "subagent_id": None,
            "created_at": self._created,
            "started_at": self._created,
            "completed_at": int(time.time()) if ended else None,
            "status": self.status,
            "error": self.error,
            "usage": None if self.usage is None else _usage_json(self.usage),
            "prompt_cache_options": None,
        }

    def count(self, reply: Reply) -> None:
        """Add the tokens of one reply, unless it states none."""
        if reply.usage is not None and not reply.usage:
            return
        usage = self.usage or dict.fromkeys(("input_tokens", "output_tokens", "cached_tokens", "reasoning_tokens"), 0)
        usage["input_tokens"] += reply.input_tokens
        usage["output_tokens"] += reply.output_tokens
        usage["cached_tokens"] += reply.cache_read_tokens
        usage["reasoning_tokens"] += reply.reasoning_tokens
        self.usage = usage


class AgentSession:
    """One session with the turns of its agent."""

    def __init__(self, body: Json) -> None:
        agent = member(body, "agent")
        self.id = f"sess_{secrets.token_hex(12)}"
        self.log = SessionLog()
        self.turns: list[AgentTurn] = []
        self._agent = {
            "id": body.get("agent_id") or "agent_scripted",
            "model": agent.get("model", _MODEL),
            "instructions": agent.get("instructions"),
            "name": agent.get("name"),
            "multi_agent": {"enabled": False},
            "reasoning": {"effort": None, "summary": None},
            "service_tier": "auto",
            "text": {"format": {"type": "text"}, "verbosity": "medium"},
            "tools": [],
        }
        self._metadata = body.get("metadata") or {}
        self._created = int(time.time())
        self._status = "idle"
        self._open: AgentTurn | None = None
        self.log.add(self._event("agent.session.created", session=self.json()))

    def json(self) -> Json:
        """The session as the API returns it."""
        counted = [turn.usage for turn in self.turns if turn.usage is not None]
        total = {name: sum(usage[name] for usage in counted) for name in counted[0]} if counted else None
        return {
            "id": self.id,
            "object": "agent.session",
            "agent": self._agent,
            "created_at": self._created,
            "last_active_at": int(time.time()),
            "environment": {"type": "none"},
            "error": None,
            "metadata": self._metadata,
            "required_actions": [],
            "status": self._status,
            "usage": None if total is None else _usage_json(total),
            "vault_ids": [],
        }

    def send(self, events: object, take: Take) -> None:
        """Process the sent events, and run the agent on them."""
        for event in objects(events):
            kind = event.get("type")
            if kind == "agent.session.input.message":
                self._begin()
                self._run(take)
            elif kind == "agent.session.input.tool_result" and self._open is not None:
                self._run(take)
            elif kind == "agent.session.input.cancel" and self._open is not None:
                self._end(self._open, "cancelled")

    def _begin(self) -> None:
        turn = self._open = AgentTurn(self.id, str(self._agent["id"]))
        self.turns.append(turn)
        self._of_turn(turn, "created")
        turn.status = self._status = "in_progress"
        self.log.add(self._event("agent.session.in_progress", session=self.json()))
        self._of_turn(turn, "in_progress")

    def _run(self, take: Take) -> None:
        turn = self._open
        for _ in range(_MAX_REPLIES):
            if turn is None:
                return
            reply = take()
            if isinstance(reply.raw, list):
                self.log.add(*objects(reply.raw))
                return
            turn.count(reply)
            if reply.finish_reason == "error":
                turn.error = {"code": reply.error_code or "server_error", "message": reply.message}
                self._end(turn, "failed")
                return
            goes_on, waits = self._act(turn, reply.completions()[0])
            if waits:
                turn.status = self._status = "waiting"
                self._status = "requires_action"
                self.log.add(self._event("agent.session.requires_action", session=self.json()))
                return
            if not goes_on:
                self._end(turn, "completed")
                return

    def _end(self, turn: AgentTurn, status: str) -> None:
        turn.status, self._open, self._status = status, None, "idle"
        usage = None if turn.usage is None else _usage_json(turn.usage)
        self._of_turn(turn, status, usage=usage)
        self.log.add(self._event("agent.session.idle", session=self.json()))

    def _act(self, turn: AgentTurn, choice: Choice) -> tuple[bool, bool]:
        """Add the items of one reply; return whether the agent goes on by itself, and whether it waits."""
        if choice.reasoning is not None:
            summary = [{"type": "summary_text", "text": choice.reasoning}]
            self._item(turn, {"type": "reasoning", "summary": summary, "status": "completed"})
        if choice.text is not None:
            content = [{"type": "output_text", "text": choice.text}]
            message = {"type": "message", "role": "assistant", "status": "completed", "phase": None}
            self._item(turn, {**message, "content": content})
        goes_on = waits = False
        for call, given in zip(tool_calls(choice, _call_id), choice.tool_calls, strict=True):
            made = {"name": call.name, "arguments": msgspec.json.decode(call.arguments), "status": "completed"}
            if "result" in given:
                goes_on = True
                hosted = {"type": "mcp_call", "server_label": "scripted", "output": given["result"], "error": None}
                self._item(turn, {**hosted, **made})
            else:
                waits = True
                self._item(turn, {"type": "function_call", "call_id": call.id, **made})
        return goes_on, waits

    def _item(self, turn: AgentTurn, item: Json) -> None:
        whole = {"id": f"item_{secrets.token_hex(12)}", "turn_id": turn.id, **item}
        where = {"turn_id": turn.id, "session_id": self.id, "output_index": turn.items}
        turn.items += 1
        self.log.add(
            self._event("agent.session.turn.item.added", item=whole, **where),
            self._event("agent.session.turn.item.done", item=whole, **where),
        )

    def _of_turn(self, turn: AgentTurn, what: str, **more: object) -> None:
        self.log.add(self._event(
            f"agent.session.turn.{what}", turn=turn.json(), turn_id=turn.id, session_id=self.id, **more
        ))  # fmt: skip

    @staticmethod
    def _event(kind: str, **fields: object) -> Json:
        return {"event_id": f"event_{secrets.token_hex(12)}", "type": kind, **fields}


class AgentSessions:
    """All sessions of a scripted provider. Safe from any thread."""

    def __init__(self) -> None:
        self._sessions: dict[str, AgentSession] = {}
        self._lock = threading.RLock()

    def answer(self, request: ReceivedRequest, rest: list[str], take: Take) -> Json | SessionLog | None:
        """Answer a request whose path has `rest` behind `/sessions`; None if there is no such session or endpoint."""
        if not rest:
            return self._create(request, take) if request.method == "POST" else self._list(request.query)
        session = self._sessions.get(rest[0])
        if session is None:
            return None
        match request.method, *rest[1:]:
            case ("GET" | "POST",):
                session.log.skip()
                return session.json()
            case "POST", "events":
                session.send(request.body.get("events"), take)
                return {}
            case "GET", "events":
                return session.log
            case "GET", "turns":
                return page([turn.json() for turn in reversed(session.turns)], request.query)
            case "GET", "turns", turn_id:
                return next((turn.json() for turn in session.turns if turn.id == turn_id), None)
            case _:
                return None

    def _create(self, request: ReceivedRequest, take: Take) -> Json | SessionLog:
        session = AgentSession(request.body)
        with self._lock:
            self._sessions[session.id] = session
        body = session.json()
        given = request.body.get("input")
        if given:
            messages = [{"role": "user", "content": given}] if isinstance(given, str) else given
            session.send([{"type": "agent.session.input.message", "input": messages}], take)
        return session.log if request.stream else body

    def _list(self, query: Mapping[str, str]) -> Json:
        with self._lock:
            return page([session.json() for session in self._sessions.values()], query)


def _usage_json(usage: Mapping[str, int]) -> Json:
    return {
        "input_tokens": usage["input_tokens"],
        "input_tokens_details": {"cached_tokens": usage["cached_tokens"]},
        "output_tokens": usage["output_tokens"],
        "output_tokens_details": {"reasoning_tokens": usage["reasoning_tokens"]},
        "total_tokens": usage["input_tokens"] + usage["output_tokens"],
    }


def _call_id() -> str:
    return f"call_{secrets.token_hex(12)}"
