"""A world: records of sessions on every API, written as the shipper writes them."""

from __future__ import annotations

from decimal import Decimal
from itertools import count
from pathlib import Path
from typing import Any

import msgspec
from tests.support.bodies import endpoint, with_conversation
from tests.support.records import SECOND, START_NS, event, keep, made, raw, reward, session

from callspan.records import CallRecord, Cost, Place, Record, Response, Timing, Usage


class World:
    """Makes records of sessions; each call begins a second after the one before."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self._clock = count(1)

    def session(self, session_id: str, reward: float | None = None, **fields: Any) -> str:
        fields = {"name": "game", "start_ns": START_NS + next(self._clock) * SECOND, "outcome": "success"} | fields
        self.records.append(session(session_id, **fields))
        if reward is not None:
            self.reward(session_id, reward)
        return session_id

    def reward(self, session_id: str, value: float, **fields: Any) -> None:
        given = {"session_id": session_id, "scope": "session"}
        self.records.append(reward(f"r{next(self._clock)}", value, **(given | fields)))

    def event(self, session_id: str, **fields: Any) -> None:
        given = {"event_id": f"e{next(self._clock)}", "time_ns": START_NS + next(self._clock)}
        self.records.append(event(session_id=session_id, **(given | fields)))

    def call(
        self,
        api: str,
        request: dict[str, Any],
        response: dict[str, Any] | None,
        session_id: str | None = None,
        **fields: Any,
    ) -> CallRecord:
        number, reads = next(self._clock), endpoint(api)
        facts = reads.response_info(response)
        answer = facts.response if response else Response()
        given: dict[str, Any] = {
            "call_id": f"01990000-0000-7000-8000-{number:012x}",
            "provider": "anthropic" if api == "messages" else "openai",
            "api": api,
            "operation": reads.operation,
            "place": Place(session_id=session_id),
            "request": msgspec.structs.replace(reads.request(request), body=raw(request)),
            "response": None if response is None else msgspec.structs.replace(answer, body=raw(response)),
            "usage": Usage(input_tokens=10, output_tokens=5),
            "cost": Cost(usd=Decimal("0.001"), source="test"),
            "timing": Timing(start_ns=START_NS + number * SECOND, duration_ns=SECOND // 2),
        }
        call = made(**(given | fields))
        self.records.append(call)
        return with_conversation(call)

    def chat(
        self, messages: list[dict[str, Any]], answer: str | dict[str, Any], session_id: str | None = None, **fields: Any
    ) -> dict[str, Any]:
        """A chat completion; returns its message, to be sent again."""
        message = {"role": "assistant", "content": answer} if isinstance(answer, str) else answer
        extra = {name: fields.pop(name) for name in ("tools", "parallel_tool_calls", "model") if name in fields}
        request = {"model": "gpt-5", "messages": [dict(m) for m in messages], **extra}
        choice = {"index": 0, "message": message, "finish_reason": "stop", **fields.pop("choice", {})}
        response = {"id": "c", "object": "chat.completion", "model": "gpt-5-1", "choices": [choice]}
        self.call("chat_completions", request, response | fields.pop("body", {}), session_id, **fields)
        return message

    def write(self, path: Path) -> str:
        return keep(f"sqlite:///{path}", *self.records)
