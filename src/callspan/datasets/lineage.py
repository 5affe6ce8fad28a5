"""Lineage: which call continues the conversation of which, by comparing their messages.

Each message has a node, the hash of all before it and itself. A call's answer is a node too: where it is among the
nodes of another call's prompt, that call continues it. Retries and forks share nodes as far as they agree.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Final, NamedTuple

from callspan.datasets.chat_messages import ChatCall, ChatMessage, Dropped, canonical, chat_call, tool_name
from callspan.record.call import CallRecord

_ROOT: Final = b""


class Turn(NamedTuple):
    """One call in its conversation."""

    call: CallRecord
    messages: list[ChatMessage]
    """The whole prompt, with what the provider remembered of earlier calls."""
    nodes: list[bytes]
    """One for each message of the prompt."""
    answer: ChatMessage
    answer_node: bytes
    tools: list[dict[str, object]]
    parallel_tool_calls: bool | None

    @property
    def whole(self) -> list[ChatMessage]:
        """All messages, the answer last."""
        return [*self.messages, self.answer]

    @property
    def path(self) -> list[bytes]:
        """All nodes, that of the answer last."""
        return [*self.nodes, self.answer_node]


def turns(calls: Sequence[CallRecord], dropped: Dropped, *, reasoning: bool = False) -> list[Turn]:
    """Return the calls of one session, in order, each with its whole conversation.

    A Responses call with `previous_response_id` is given what that call had; calls without content are left out.
    """
    by_response: dict[str, Turn] = {}
    found: list[Turn] = []
    for call in calls:
        chat = chat_call(call, dropped, reasoning=reasoning)
        if chat is None:
            continue
        before = by_response.get(str(call.request.params.get("previous_response_id")))
        if before is None and ("previous_response_id" in call.request.params or "conversation" in call.request.params):
            dropped["history only the provider remembers"] += 1
        turn = _turn(call, chat, before)
        found.append(turn)
        if call.response is not None and call.response.id:
            by_response[call.response.id] = turn
    return found


def leaves(found: Sequence[Turn]) -> list[Turn]:
    """Return the turns whose answer no other turn continues: together they hold every message of all."""
    continued = {node for turn in found for node in turn.nodes}
    last = {turn.answer_node: turn for turn in found if turn.answer_node not in continued}
    return list(last.values())


def all_tools(leaf: Turn, found: Sequence[Turn]) -> list[dict[str, object]]:
    """Return the definitions of all tools along a leaf's conversation, each name once, the newest."""
    path = set(leaf.path)
    tools = {tool_name(tool): tool for turn in found if turn.answer_node in path for tool in turn.tools}
    return list(tools.values())


def _turn(call: CallRecord, chat: ChatCall, before: Turn | None) -> Turn:
    messages = chat.prompt if before is None else _continued(before, chat.prompt)
    node = _ROOT
    nodes: list[bytes] = []
    for message in messages:
        node = _node(node, message)
        nodes.append(node)
    return Turn(call, messages, nodes, chat.answer, _node(node, chat.answer), chat.tools, chat.parallel_tool_calls)


def _continued(before: Turn, prompt: list[ChatMessage]) -> list[ChatMessage]:
    """What came before and what is new. Instructions are not remembered: those of the new call count."""
    new = prompt[0] if prompt and prompt[0]["role"] == "system" else None
    remembered = before.whole[1:] if before.messages and before.messages[0]["role"] == "system" else before.whole
    return [*([new] if new else []), *remembered, *(prompt[1:] if new else prompt)]


def _node(parent: bytes, message: ChatMessage) -> bytes:
    return hashlib.sha256(parent + hashlib.sha256(canonical(message)).digest()).digest()
