"""Lineage: finds the call that a call continues, by comparing their messages.

Each message has a node: a hash of itself and all messages before it. The answer of a call has a node too. If the prompt
of another call contains this node, that call continues the first. Retries and forks share nodes as far as their
messages are equal.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from typing import Final, NamedTuple

import msgspec

from callspan.datasets.chat_messages import (
    UNRECORDED_HISTORY,
    ChatCall,
    ChatMessage,
    Dropped,
    canonical,
    chat_call,
    continuing,
    flaw,
)
from callspan.datasets.selection import Episode, Options, Statistics, checked_calls
from callspan.records import CallRecord, tool_name
from callspan.stores import KEEPS_INSTRUCTIONS

_ROOT: Final = b""


class Turn(NamedTuple):
    """One call in its conversation."""

    call: CallRecord
    """Without its conversation and the body of its request."""
    previous: Turn | None
    """The turn that the request continues: the provider puts its messages first."""
    new: list[ChatMessage]
    """The messages after those of `previous`."""
    new_nodes: list[bytes]
    instructions: ChatMessage | None
    """The system message that all begin with."""
    answer: ChatMessage
    answer_node: bytes
    prefill_node: bytes | None
    """The node of the message that the answer continues, such as a paused answer; None without one."""
    generated: ChatMessage
    """The answer without the message that it continues."""
    tools: list[dict[str, object]]
    parallel_tool_calls: bool | None

    @property
    def whole(self) -> list[ChatMessage]:
        """All messages, the answer last."""
        return [message for turn in self._chain() for message in (*turn.new, turn.answer)]

    @property
    def generated_node(self) -> bytes | None:
        """The node of the answer after the message that it continues, where both are kept; None without one."""
        return None if self.prefill_node is None else _node(self.prefill_node, _digest(self.generated))

    @property
    def path(self) -> list[bytes]:
        """The nodes of all messages."""
        return [node for turn in self._chain() for node in (*turn.new_nodes, turn.answer_node)]

    @property
    def messages(self) -> list[ChatMessage]:
        """The whole prompt, including messages of earlier calls that the provider stored."""
        return self.whole[:-1]

    @property
    def defect(self) -> str | None:
        """The reason why trainers reject its messages; None if they are valid."""
        if self.call.finish_reason == "pause_turn":
            return "a paused answer"  # the next call continues it
        # A line of a batch has no request, nor has a call with a request larger than a record may be.
        return flaw(self.whole) if self.new else "no prompt"

    def backwards(self) -> Iterator[tuple[bytes, ChatMessage]]:
        """Yield the nodes and messages of the prompt, the last first."""
        turn = self
        yield from zip(reversed(turn.new_nodes), reversed(turn.new), strict=True)
        while turn.previous is not None:
            turn = turn.previous
            yield turn.answer_node, turn.answer
            yield from zip(reversed(turn.new_nodes), reversed(turn.new), strict=True)

    def _chain(self) -> list[Turn]:
        chain = [self]
        while (previous := chain[-1].previous) is not None:
            chain.append(previous)
        return chain[::-1]


def turns(
    episode: Episode, options: Options, statistics: Statistics, *, reasoning: bool | None = None
) -> Iterator[Turn]:
    """Yield the exported calls of one session, in order, each with its whole conversation; count the others.

    `reasoning` replaces `options.reasoning`.
    """
    builder = _TurnBuilder(episode, reasoning=options.reasoning if reasoning is None else reasoning)
    for call, is_exported in checked_calls(episode, options, statistics):
        turn = builder.turn(call, statistics.dropped if is_exported else Counter())
        if is_exported and turn is not None:
            yield turn


class _TurnBuilder:
    """Builds the turns of a session. Equal messages are one object: a long session repeats its history often."""

    def __init__(self, episode: Episode, *, reasoning: bool) -> None:
        self._reader, self._reasoning = episode.reader, reasoning
        self._newest: dict[tuple[str, str], Turn] = {}
        """By provider and id, where the id names a response or the provider's conversation."""
        self._shared: dict[bytes, ChatMessage] = {}

    def turn(self, call: CallRecord, dropped: Dropped) -> Turn | None:
        """Return the call with its whole conversation; None if it has no content."""
        chat = chat_call(call, dropped, reasoning=self._reasoning)
        if chat is None:
            return None
        turn = self._new_turn(call, chat, self._previous(call, dropped))
        if call.response is not None and call.response.id:
            self._newest[call.provider, call.response.id] = turn
        if call.request.conversation_id is not None and call.outcome == "success":
            self._newest[call.provider, call.request.conversation_id] = turn
        return turn

    def _previous(self, call: CallRecord, dropped: Dropped) -> Turn | None:
        """Return the turn of this session that a call continues, if any; count a history that is not in the session."""
        link, conversation_id = call.request.continues, call.request.conversation_id
        previous = self._newest.get((call.provider, link or conversation_id or ""))
        if previous is None and (link or (conversation_id and self._reader.history(call, limit=1).calls)):
            dropped[UNRECORDED_HISTORY] += 1
        return previous

    def _new_turn(self, call: CallRecord, chat: ChatCall, previous: Turn | None) -> Turn:
        if previous is not None and not chat.prompt and call.api == "messages":
            previous, chat = _resumed(previous, chat)
        keeps = call.api in KEEPS_INSTRUCTIONS
        tools = previous.tools if previous is not None and keeps and not chat.tools else chat.tools
        prompt = chat.prompt
        if previous is not None:
            previous, prompt = _continued(previous, prompt, keeps=keeps)
        instructions = _instructions(prompt) if previous is None else previous.instructions
        node = _ROOT if previous is None else previous.answer_node
        new: list[ChatMessage] = []
        nodes: list[bytes] = []
        for message in prompt:
            digest = _digest(message)
            node = _node(node, digest)
            nodes.append(node)
            shared = self._shared.setdefault(digest, message)
            new.append(shared if shared == message else message)
        prefill_node = None if chat.prefill is None else _node(node, _digest(chat.prefill))
        return Turn(
            _bare(call), previous, new, nodes, instructions, chat.answer, _node(node, _digest(chat.answer)),
            prefill_node, chat.generated, tools, chat.parallel_tool_calls,
        )  # fmt: skip


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
        definitions = (tool for node in turn.path for tool in self._by_answer.get(node, ()))
        return [*{tool_name(tool): tool for tool in definitions}.values()]


class Leaves:
    """The turns that no other turn continues; together they have all messages."""

    def __init__(self) -> None:
        self._continued: set[bytes] = set()
        self._last: dict[bytes, int] = {}

    def add(self, turn: Turn, number: int) -> None:
        """Add the turn with this number."""
        for node, _ in turn.backwards():
            if node in self._continued:
                break  # all nodes before it are in the set too
            self._continued.add(node)
        self._last[turn.answer_node] = number

    @property
    def numbers(self) -> frozenset[int]:
        """The numbers of the leaves."""
        return frozenset(number for node, number in self._last.items() if node not in self._continued)


def _bare(call: CallRecord) -> CallRecord:
    request = msgspec.structs.replace(call.request, body=msgspec.Raw())
    return msgspec.structs.replace(call, conversation=None, request=request)


def _continued(previous: Turn, prompt: list[ChatMessage], *, keeps: bool) -> tuple[Turn | None, list[ChatMessage]]:
    """Return the turn that a call continues, and the messages after it.

    The new call's instructions apply, unless the API keeps the old ones. If they differ, all messages are new.
    """
    new_instructions, old_instructions = _instructions(prompt), previous.instructions
    if new_instructions is None and (keeps or old_instructions is None):
        return previous, prompt
    if new_instructions == old_instructions:
        return previous, prompt[1:]
    earlier_messages = previous.whole[1:] if old_instructions else previous.whole
    return None, [
        *([new_instructions] if new_instructions else []),
        *earlier_messages,
        *(prompt[1:] if new_instructions else prompt),
    ]


def _resumed(paused: Turn, chat: ChatCall) -> tuple[Turn | None, ChatCall]:
    """Return a call that sends nothing but resumes a paused answer, with the prompt of the paused call."""
    prompt, tools = [*paused.new, paused.answer], chat.tools or paused.tools
    return paused.previous, msgspec.structs.replace(continuing(chat, prompt), tools=tools)


def _instructions(messages: list[ChatMessage]) -> ChatMessage | None:
    return messages[0] if messages and messages[0]["role"] == "system" else None


def _digest(message: ChatMessage) -> bytes:
    return hashlib.sha256(canonical(message)).digest()


def _node(parent: bytes, digest: bytes) -> bytes:
    return hashlib.sha256(parent + digest).digest()
