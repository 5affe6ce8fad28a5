"""Flaws: why messages cannot be trained on as chat, in words."""

from __future__ import annotations

from collections.abc import Sequence

from callspan.datasets.chat import ChatMessage
from callspan.datasets.tool_definitions import tool_name


def flaw(messages: Sequence[ChatMessage]) -> str | None:
    """Return the first reason why trainers refuse these messages; None where there is none.

    Every tool call is answered before anything else is said, the last message being exempt; every tool
    result answers a call; every assistant message says something.
    """
    waiting: set[str] = set()
    for message in messages:
        if message["role"] == "tool":
            call_id = str(message["tool_call_id"])
            if call_id not in waiting:
                return "a tool result without its call"
            waiting.discard(call_id)
            continue
        if waiting:
            return "a tool call without its result"
        if message["role"] == "assistant":
            waiting = set(call_ids(message))
            if not waiting and not message.get("content") and not message.get("refusal"):
                return "an answer that says nothing"
    return None if messages and messages[-1]["role"] == "assistant" else "nothing was answered"


def call_ids(message: ChatMessage) -> list[str]:
    """Return the ids of a message's tool calls."""
    calls = message.get("tool_calls")
    return [str(call.get("id")) for call in calls if isinstance(call, dict)] if isinstance(calls, list) else []


def called_tools(message: ChatMessage) -> list[str]:
    """Return the names of the tools a message calls."""
    calls = message.get("tool_calls")
    named = (tool_name(call) for call in calls if isinstance(call, dict)) if isinstance(calls, list) else ()
    return list(named)
