"""Lineage: finds the calls whose conversation a call continues, by comparing their messages.

Each message has a node: a hash of itself and all messages before it. The answer of a call has a node too; a call whose
prompt contains this node continues that call. Retries and forks share nodes as far as their messages are equal.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import Final, NamedTuple

import msgspec

from callspan.datasets.chat_messages import ChatCall, ChatMessage, Dropped, canonical, chat_call, tool_name
from callspan.datasets.selection import Episode
from callspan.records import CallRecord, Request
from callspan.stores import KEEPS_INSTRUCTIONS

_ROOT: Final = b""
_UNRECORDED_HISTORY: Final = "history only the provider remembers"
_MAX_TURNS: Final = 5_000
_MAX_MESSAGES: Final = 2_000_000
_EMPTY_REQUEST: Final = Request()
"""Replaces the request of turns in memory, which their messages repeat."""


class Turn(NamedTuple):
    """One call in its conversation."""

    call: CallRecord
    messages: list[ChatMessage]
    """The whole prompt, including messages of earlier calls that the provider stored."""
    nodes: list[bytes]
    """The node of each message of the prompt."""
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
        """All nodes, the answer's last."""
        return [*self.nodes, self.answer_node]


def turns(episode: Episode, dropped: Dropped, *, reasoning: bool = False) -> Iterator[Turn]:
    """Yield the calls of one session, in order, each with its whole conversation; calls without content are omitted.

    Messages that the provider stored are taken from the earlier calls, including those of other sessions.
    """
    builder = _TurnBuilder(episode, reasoning=reasoning)
    for call in episode.calls:
        turn = builder.turn(call, dropped)
        if turn is not None:
            yield turn


class _TurnBuilder:
    """Builds the turns of a session from its calls and the earlier calls that they continue."""

    def __init__(self, episode: Episode, *, reasoning: bool) -> None:
        self._history, self._reasoning = episode.history, reasoning
        self._by_response: dict[str, Turn] = {}
        """The newest turns, by response id."""
        self._messages = 0
        """The number of their messages."""
        self._in_conversation: dict[str, Turn | None] = {}
        """The turn before each call of a provider's conversation, by call id."""
        self._calls = episode.calls
        self._looked_up: set[str] = set()

    def turn(self, call: CallRecord, dropped: Dropped) -> Turn | None:
        """Return the call with its whole conversation; None if it has no content."""
        chat = chat_call(call, dropped, reasoning=self._reasoning)
        if chat is None:
            return None
        turn = _turn(call, chat, self._before(call, dropped))
        if call.response is not None and call.response.id:
            bare = msgspec.structs.replace(call, request=_EMPTY_REQUEST, response=None)
            self._keep(call.response.id, turn._replace(call=bare))
        return turn

    def _keep(self, response_id: str, turn: Turn) -> None:
        """Keep a turn for calls that continue it, and discard the oldest ones."""
        replaced = self._by_response.pop(response_id, None)
        self._by_response[response_id] = turn
        self._messages += len(turn.messages) - (len(replaced.messages) if replaced is not None else 0)
        while len(self._by_response) > _MAX_TURNS or (self._messages > _MAX_MESSAGES and len(self._by_response) > 1):
            self._messages -= len(self._by_response.pop(next(iter(self._by_response))).messages)

    @cached_property
    def _newest(self) -> dict[str | None, CallRecord]:
        """The newest call of each conversation in this session."""
        return {call.request.conversation_id: call for call in self._calls}

    def _before(self, call: CallRecord, dropped: Dropped) -> Turn | None:
        """Return the recorded turn that a call continues, if any."""
        link, conversation_id = call.request.continues, call.request.conversation_id
        if link is None:
            if conversation_id is not None and call.call_id not in self._in_conversation:
                self._look_up_conversation(self._newest.get(conversation_id, call), dropped)
            return self._in_conversation.get(call.call_id)
        if link not in self._by_response and call.call_id not in self._looked_up:
            self._look_up(call, dropped)
        if link not in self._by_response:
            dropped[_UNRECORDED_HISTORY] += 1
        return self._by_response.get(link)

    def _look_up(self, call: CallRecord, dropped: Dropped) -> None:
        """Add the calls that a call continues, oldest first."""
        before = self._history(call).calls
        self._looked_up.update([call.call_id, *(one.call_id for one in before)])
        for one in before:
            self.turn(one, Counter())
        if before and before[0].request.continues is not None:
            dropped[_UNRECORDED_HISTORY] += 1

    def _look_up_conversation(self, newest: CallRecord, dropped: Dropped) -> None:
        """Add the calls of a provider's conversation up to the newest one in this session."""
        history = self._history(newest)
        last: Turn | None = None
        for call in [*history.calls, newest]:
            if call.request.continues is None:
                self._in_conversation[call.call_id] = last
            last = self.turn(call, Counter()) or last
        if history.more:
            dropped[_UNRECORDED_HISTORY] += 1


class Turns(Iterable[Turn]):
    """The turns of one session, for several iterations; a long session is read again by each."""

    def __init__(self, episode: Episode, dropped: Dropped, *, reasoning: bool = False) -> None:
        """Dropped content is counted once."""
        self._episode, self._dropped, self._reasoning = episode, dropped, reasoning
        is_short = isinstance(episode.calls, list)
        self._list = [*turns(episode, dropped, reasoning=reasoning)] if is_short else None

    def __iter__(self) -> Iterator[Turn]:
        """Yield the turns in order."""
        if self._list is not None:
            return iter(self._list)
        dropped, self._dropped = self._dropped, Counter()
        return turns(self._episode, dropped, reasoning=self._reasoning)


class Tools:
    """The tool definitions of a session's turns; equal sets are stored once."""

    def __init__(self) -> None:
        self._by_answer: dict[bytes, list[dict[str, object]]] = {}
        self._known: dict[bytes, list[dict[str, object]]] = {}

    def add(self, turn: Turn) -> None:
        """Add the definitions of a turn."""
        if turn.tools:
            self._by_answer[turn.answer_node] = self._known.setdefault(msgspec.json.encode(turn.tools), turn.tools)

    def along(self, turn: Turn) -> list[dict[str, object]]:
        """Return the newest definition of each tool in a turn's conversation."""
        found = (tool for node in turn.path for tool in self._by_answer.get(node, ()))
        return [*{tool_name(tool): tool for tool in found}.values()]


class Leaves:
    """The turns that no other turn continues; together they have all messages."""

    def __init__(self) -> None:
        self._continued: set[bytes] = set()
        self._last: dict[bytes, int] = {}

    def add(self, turn: Turn, number: int) -> None:
        """Add the turn with this number."""
        for node in reversed(turn.nodes):
            if node in self._continued:
                break  # all nodes before it are in the set too
            self._continued.add(node)
        self._last[turn.answer_node] = number

    @property
    def numbers(self) -> frozenset[int]:
        """The numbers of the leaves."""
        return frozenset(number for node, number in self._last.items() if node not in self._continued)


def _turn(call: CallRecord, chat: ChatCall, before: Turn | None) -> Turn:
    keeps = call.api in KEEPS_INSTRUCTIONS
    messages, nodes, new = ([], [], chat.prompt) if before is None else _continued(before, chat.prompt, keeps=keeps)
    tools = before.tools if before is not None and keeps and not chat.tools else chat.tools
    node = nodes[-1] if nodes else _ROOT
    for message in new:
        node = _node(node, message)
        nodes.append(node)
    messages += new
    return Turn(call, messages, nodes, chat.answer, _node(node, chat.answer), tools, chat.parallel_tool_calls)


def _continued(
    before: Turn, prompt: list[ChatMessage], *, keeps: bool
) -> tuple[list[ChatMessage], list[bytes], list[ChatMessage]]:
    """Return the earlier messages, their nodes, and the new messages of a call that continues another.

    Instructions are those of the new call, unless the API keeps the old ones. If they differ, all nodes are new.
    """
    own, old = _instructions(prompt), _instructions(before.messages)
    if own is None and (keeps or old is None):
        return before.whole, before.path, prompt
    if own == old:
        return before.whole, before.path, prompt[1:]
    earlier = before.whole[1:] if old else before.whole
    return [], [], [*([own] if own else []), *earlier, *(prompt[1:] if own else prompt)]


def _instructions(messages: list[ChatMessage]) -> ChatMessage | None:
    return messages[0] if messages and messages[0]["role"] == "system" else None


def _node(parent: bytes, message: ChatMessage) -> bytes:
    return hashlib.sha256(parent + hashlib.sha256(canonical(message)).digest()).digest()
