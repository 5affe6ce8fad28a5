"""Same message: what messages are compared by, and which tool call a result is of.

Frameworks write an answer anew when they send it back. So messages are compared as typed parts with their roles,
without names, ids, reasoning and the borders between messages; arguments of tools are compared as what they say.
"""

from __future__ import annotations

import hashlib
from typing import Final, TypeAlias

import msgspec

from callspan.record.id_hashes import is_tool_call_id, is_unique
from callspan.record.messages import (
    INSTRUCTION_ROLES,
    Media,
    Message,
    Part,
    Reasoning,
    Refusal,
    Text,
    ToolCall,
    ToolResult,
    parse_arguments,
)

ANSWER, USER = "assistant", "user"
ANSWERING: Final = frozenset({ANSWER, "model"})
CALL, _MEDIA = "call", "media"
NO_MEDIA: Final[list[object]] = [_MEDIA, None]
_NODE_DIGITS: Final = 16

Node: TypeAlias = bytes
"""The hash of a history; equal for the same messages, in whatever form they are sent."""


def atom_of(role: str, part: Part) -> tuple[bool, list[object]] | None:
    """Return what a part is compared by, and whether the model said it; None if it does not count."""
    is_answer = role in ANSWERING
    match part:
        case Text(text=text) | Refusal(text=text):
            text = text.strip()
            side = ANSWER if is_answer else role if role in INSTRUCTION_ROLES else USER
            return (is_answer, [side, text]) if text else None
        case Reasoning():
            return None
        case ToolCall():
            return True, [CALL, part.name, parse_arguments(part.arguments or "{}")]
        case ToolResult():
            return False, ["result", _plain(part.content)]
        case Media():
            return is_answer, [_MEDIA, part.sha256 or part.url or part.file_id]
        case _:
            return is_answer, ["other", part.data]


def encoded(value: object) -> bytes:
    """Return atoms as JSON, else as what Python prints."""
    try:
        return msgspec.json.encode(value, order="deterministic")
    except (UnicodeEncodeError, TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError):
        return repr(value).encode(errors="surrogatepass")


def nodes_of(node: Node, message: Message) -> list[Node]:
    """Return the node of the history before a message, then that after each of its parts."""
    nodes = [node]
    for part in message.parts:
        atom = atom_of(message.role, part)
        nodes.append(nodes[-1] if atom is None else hashlib.sha256(nodes[-1] + encoded(atom)).digest())
    return nodes


class ToolIds:
    """Gives each tool call of a session an id that no other one has, and each result the id of its call.

    Some APIs have no ids, some providers count them anew in each conversation, and frameworks send others back.
    """

    def __init__(self) -> None:
        self._of_nodes: dict[Node, str] = {}
        self._of_ids: dict[str, str] = {}
        """By the id on the wire, which the latest tool call with it has."""
        self._waiting: list[tuple[str | None, str]] = []
        """Of the tool calls of one answer without a result: the id on the wire and that given here."""
        self._is_answered = False

    def begin(self) -> None:
        """Leave the history that was read last."""
        self._waiting = []

    def identified(self, part: Part, node: Node, *, is_new: bool) -> Part:
        """Return the next part with its id. `node`: the history with it; `is_new`: the model has just said it."""
        match part:
            case ToolCall():
                if self._is_answered:
                    self._waiting = []
                ident = self._of_nodes[node] = self._id_of(part, node, is_new=is_new)
                if part.id:
                    self._of_ids[part.id] = ident
                self._waiting.append((part.id, ident))
                self._is_answered = False
                return msgspec.structs.replace(part, id=ident)
            case ToolResult():
                self._is_answered = True
                return msgspec.structs.replace(part, id=self._called_by(part.id))
        return part

    def of_event(self, tool_call_id: str | None) -> str | None:
        """Return the id of the tool call that a tool ran for, given the one on the wire."""
        return self._of_ids.get(tool_call_id or "", tool_call_id)

    def _id_of(self, call: ToolCall, node: Node, *, is_new: bool) -> str:
        before = self._of_nodes.get(node)
        if call.id is None or not is_tool_call_id(call.id, call.name, is_masked=False):
            return before or f"{call.name} {node.hex()[:_NODE_DIGITS]}"
        # After a history that was written anew, the id alone says which one it is.
        same_id = None if is_new else self._of_ids.get(call.id)
        if is_unique(call.id, call):
            return call.id if is_new else same_id or before or call.id
        return before or same_id or f"{call.id} {node.hex()[:_NODE_DIGITS]}"

    def _called_by(self, result_id: str | None) -> str | None:
        at = next((at for at, (call_id, _) in enumerate(self._waiting) if call_id == result_id), None)
        if at is None and (result_id in self._of_ids or not self._waiting):
            return self.of_event(result_id)
        return self._waiting.pop(at or 0)[1]


def _plain(content: object) -> object:
    """Return the content of a tool's result without the form in which a wire carries it."""
    if isinstance(content, list) and len(content) == 1:
        content = content[0]
    if isinstance(content, dict) and isinstance(content.get("text"), str):
        return content["text"].strip()
    return content.strip() if isinstance(content, str) else content
