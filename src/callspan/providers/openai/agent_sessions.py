"""Sessions of openai's agents: turns of the session's agent and its subagents, in the shape of Responses.

A turn is one run of an agent, of several model calls; its usage is best effort and may change, so the latest one read
counts. The usage of the session is kept with the session, and never added.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, Final

from callspan.providers.base import Api, Operation
from callspan.providers.hosted import Fact, Fold, HostedPath, ModelRequest, Sent, SessionFacts, ToolRun, failure
from callspan.providers.openai.responses import Responses
from callspan.providers.wire_json import (
    LARGEST_COUNT,
    count,
    detached,
    detached_object,
    integer,
    items,
    mapping,
    objects,
    text,
    time_ns,
    word,
)
from callspan.record.call import Outcome

_MS: Final = 1_000_000
_MOST_TURNS: Final = 64
"""Turns that are followed at once."""
_MOST_ITEMS: Final = 10_000
_TURN: Final = "agent.session.turn."
_OUTCOMES: Final[dict[str, Outcome]] = {
    "queued": "in_progress",
    "in_progress": "in_progress",
    "waiting": "in_progress",
    "completed": "success",
    "failed": "error",
    "cancelled": "cancelled",
}
_TOOLS: Final = {
    "mcp_call": None,
    "command_execution": "command_execution",
    "web_search_call": "web_search",
    "computer_use_call": "computer_use",
}
"""Items of tools that run at the provider, and their name where they state none."""
_ARGUMENTS: Final = ("arguments", "command", "action", "title")


class AgentSessions(Responses):
    """Reads the turns of a session; their recorded bodies have the shape of Responses."""

    api: Api = "agent_sessions"
    operation: Operation = "invoke_agent"
    path = "/agents/sessions"

    def fold(self, path: HostedPath) -> Fold:
        """Return a new fold for the events of one stream."""
        return TurnFold(path)

    def facts(self, path: HostedPath, body: object) -> list[Fact]:
        """Return the facts in sessions and turns."""
        listed = list(objects(body, "data")) or [found for found in [mapping(body)] if found is not None]
        if path.what == "turns":
            return [fact for turn in listed for fact in _turn(turn)]
        created_here = path.what == "session" and path.session_id is None
        return [fact for one in listed for fact in _session(one, created_here=created_here)]

    def sent(self, path: HostedPath, request: object, answer: object) -> list[Fact]:
        """Return the messages and results that a request sent."""
        session_id = path.session_id or word(answer, "id")
        if session_id is None:
            return []
        if path.what == "send":
            found = [message for event in objects(request, "events") for message in _messages(event)]
        else:
            found = _messages({"type": "agent.session.input.message", "input": _given(request)})
        return [Sent(session_id=session_id, messages=[(None, message) for message in found])] if found else []

    def bodies(self, request: ModelRequest, facts: SessionFacts | None) -> tuple[dict[str, object], Any]:
        """Return request and response in the shape of Responses."""
        sent: dict[str, object] = {} if request.model is None else {"model": request.model}
        if facts is not None and facts.system:
            sent["instructions"] = facts.system
        sent["input"] = request.input
        answer: dict[str, object] = {"id": request.key, "status": request.status, "output": request.output or []}
        if request.usage is not None:
            answer["usage"] = request.usage
        return sent, answer


class _Turn:
    """A turn whose events are being read."""

    def __init__(self) -> None:
        self.begun = False
        self.input: list[object] = []
        self.input_ids: set[str] = set()
        self.output: OrderedDict[str, dict[str, object]] = OrderedDict()


class TurnFold:
    """Folds the events of one session. Not thread-safe."""

    def __init__(self, path: HostedPath) -> None:
        self._session_id = path.session_id
        self._turns: OrderedDict[str, _Turn] = OrderedDict()

    def add(self, event: object) -> list[Fact]:
        """Return the facts in an event."""
        kind = text(event, "type")
        if kind is None or not isinstance(event, dict):
            return []
        session = mapping(event, "session")
        if session is not None:
            self._session_id = self._session_id or word(session, "id")
            return _session(session, created_here=kind == "agent.session.created")
        if not kind.startswith(_TURN):
            return []
        turn = mapping(event, "turn")
        if turn is not None:
            return self._of_turn(event, turn)
        return self._of_item(event, kind.removeprefix(_TURN))

    def _of_turn(self, event: dict[str, object], turn: dict[str, object]) -> list[Fact]:
        turn_id = word(turn, "id") or ""
        outcome = _OUTCOMES.get(text(turn, "status") or "")
        if outcome == "in_progress":
            known = self._known(turn_id)
            if text(event, "type") == _TURN + "created":
                known.begun = True
            return _turn(turn, outcome)
        ended = self._known(turn_id)
        del self._turns[turn_id]
        output: list[object] | None = list(ended.output.values())
        return _turn(
            turn, outcome, usage=mapping(event, "usage"), input=ended.input, input_ids=frozenset(ended.input_ids),
            output=output if ended.begun or output else None,
        )  # fmt: skip

    def _of_item(self, event: dict[str, object], what: str) -> list[Fact]:
        turn_id = word(event, "turn_id") or text(event, "item", "turn_id")
        if turn_id is None:
            return []
        item, turn = mapping(event, "item"), self._known(turn_id)
        if item is None:
            if what == "output_text.done":
                _put_text(turn, event)
            return []
        identity = word(item, "id") or ""
        if what == "item.added" and integer(event, "output_index") is None and _is_input(item):
            _put_input(turn, identity, item)
        elif len(turn.output) < _MOST_ITEMS or identity in turn.output:
            turn.output[identity] = detached_object(item)
        return self._tool(item) if what == "item.done" and word(item, "type") in _TOOLS else []

    def _known(self, turn_id: str) -> _Turn:
        turn = self._turns.get(turn_id)
        if turn is None:
            turn = self._turns[turn_id] = _Turn()
            if len(self._turns) > _MOST_TURNS:
                self._turns.popitem(last=False)
        return turn

    def _tool(self, item: dict[str, object]) -> list[Fact]:
        identity = word(item, "id")
        if identity is None:
            return []
        arguments = next((item[name] for name in _ARGUMENTS if item.get(name) is not None), None)
        return [ToolRun(
            key=identity, session_id=self._session_id, name=word(item, "name") or _TOOLS[word(item, "type") or ""],
            server=word(item, "server_label"), arguments=detached(arguments), result=detached(item.get("output")),
            duration_ns=_ns(count(item, "duration_ms")), failed=text(item, "status") == "failed",
        )]  # fmt: skip


def _is_input(item: dict[str, object]) -> bool:
    return text(item, "role") == "user" or text(item, "type") in ("function_call_output", "agent_message")


def _put_input(turn: _Turn, identity: str, item: dict[str, object]) -> None:
    if identity not in turn.input_ids and len(turn.input) < _MOST_ITEMS:
        turn.input.append(detached_object(item))
        turn.input_ids.add(identity)


def _put_text(turn: _Turn, event: dict[str, object]) -> None:
    """Keep the text of a message in case its end is not received."""
    item, written = turn.output.get(word(event, "item_id") or ""), text(event, "text")
    if item is not None and written is not None:
        item["content"] = [*items(item, "content"), {"type": "output_text", "text": written}]


def _turn(turn: dict[str, object], outcome: Outcome | None = None, **more: Any) -> list[Fact]:  # noqa: ANN401
    """Return the facts of a turn; `more` are further fields of `ModelRequest`, `usage` is used if the turn has none."""
    turn_id, status = word(turn, "id"), text(turn, "status")
    outcome = outcome or _OUTCOMES.get(status or "")
    if turn_id is None or outcome is None:
        return []
    of_event = more.pop("usage", None)
    usage = mapping(turn, "usage") or of_event
    return [ModelRequest(
        key=turn_id, session_id=word(turn, "session_id"), thread_id=word(turn, "subagent_id"),
        operation="invoke_agent", start_ns=time_ns(turn, "started_at", "created_at"),
        end_ns=time_ns(turn, "completed_at"), usage=None if usage is None else detached_object(usage),
        status=status, outcome=outcome, error=failure(turn, outcome, "error"), **more,
    )]  # fmt: skip


def _ns(milliseconds: int | None) -> int | None:
    return None if milliseconds is None or milliseconds > LARGEST_COUNT // _MS else milliseconds * _MS


def _session(body: dict[str, object], *, created_here: bool = False) -> list[Fact]:
    session_id = word(body, "id")
    if session_id is None or text(body, "object") != "agent.session":
        return []
    usage = mapping(body, "usage")
    return [SessionFacts(
        session_id=session_id, model=text(body, "agent", "model"), system=text(body, "agent", "instructions"),
        name=text(body, "agent", "name"), agent_id=text(body, "agent", "id"),
        created_ns=time_ns(body, "created_at"), status=word(body, "status"),
        usage=None if usage is None else detached_object(usage), created_here=created_here,
    )]  # fmt: skip


def _given(request: object) -> list[object]:
    """Return the initial messages of a session; a text is one message of the user."""
    given = request.get("input") if isinstance(request, dict) else None
    if isinstance(given, str):
        return [{"role": "user", "content": [{"type": "input_text", "text": given}]}]
    return list(given) if isinstance(given, list) else []


def _messages(event: dict[str, object]) -> list[object]:
    """Return the content of a sent event as items of Responses; nothing for approvals and cancellations."""
    kind = text(event, "type")
    if kind == "agent.session.input.message":
        return [detached(message) for message in objects(event, "input")]
    if kind == "agent.session.input.tool_result":
        output = event.get("output") if event.get("output") is not None else event.get("error")
        return [{"type": "function_call_output", "call_id": word(event, "call_id"), "output": detached(output)}]
    return []
