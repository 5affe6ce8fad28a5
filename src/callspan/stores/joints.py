"""Joints: where a call's conversation can be joined with another call's, as numbers that contain no text.

A joint is the hash of an id or of a history. Later calls bring back what an answer issued, so a call *offers* joints
and *seeks* those of the call before it. From the strongest to the weakest (`JoinedBy`):

- `seal`: what a provider sealed and wants back unchanged, such as signatures of reasoning;
- `kept`: what the provider keeps: the response or conversation that a request names, a container;
- `tool`: the id of a tool call whose result the request has, with that tool call's name and arguments;
- `history`: all messages of the earlier request and its answer, with which the request begins;
- `mention`: the id of a tool call in a text of the request.

Histories are compared as typed parts, without reasoning, ids, and borders between messages: frameworks write answers
anew when they send them back. Instructions belong to a history; tools do not. Loops may write more behind the text of
an answer, so an answer that ends with a text is a joint by the beginning of this text, with its length and hash as
proof.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from hashlib import blake2b
from typing import Final, NamedTuple, get_args

import msgspec

from callspan.record.call import CallRecord, JoinedBy
from callspan.record.foreign_json import read_json
from callspan.record.labels import label_of
from callspan.record.messages import (
    INSTRUCTION_ROLES,
    Conversation,
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

RULES: Final[tuple[JoinedBy, ...]] = get_args(JoinedBy)
"""From the strongest to the weakest."""
ANSWER, _USER = "assistant", "user"
_OWN_TOOLS: Final = frozenset({"function", "custom"})
"""Types of tool calls that the application answers."""
_KEEPS_RESPONSES: Final = frozenset({"responses", "interactions"})
"""APIs whose requests may continue a response by its id."""
TENANT_KEYS: Final = ("organization_id", "project_id", "tenant", "tenant_id")
_MIN_SEAL: Final = 31
_NO_SEAL: Final = "skip_thought"
"""Begins what clients send instead of a signature."""
_MIN_CONTINUED: Final = 20
"""Characters of a text that a loop may continue, which its joint contains; shorter ones have to be equal."""
_MAX_WORDS, _MAX_SEALS, _MAX_CHOICES = 200, 8, 8
_WORD: Final = re.compile(r"[A-Za-z0-9_\-][A-Za-z0-9_\-.:]{8,78}[A-Za-z0-9_\-]")
_UNMASKED_ID: Final = re.compile(r"(?=.*[0-9])[A-Za-z0-9_\-.:]+")
_LIKE_AN_ID: Final = re.compile(r"[0-9_]|[a-z][A-Z]")
_LENGTH_BITS: Final = 22
_NEAREST: Final[tuple[JoinedBy, ...]] = ("seal", "kept", "history")
_SHARED: Final = 1
"""Proof of a joint that each of two calls offers, so that it need not be found by what it seeks."""
_CONTAINER: Final = b'"container"'
_BODIES: Final = ("request.body", "response.body")


class Joint(NamedTuple):
    """A point at which two calls may be joined."""

    key: int
    proof: int = 0
    """What also has to agree, see `agrees`."""
    text: str | None = None
    """For a history whose answer ends with this text: the text, of which another call's proof may be a beginning."""


class Joints(NamedTuple):
    """The joints of a call."""

    offered: list[Joint]
    """What later calls may seek."""
    offered_ids: frozenset[int]
    """Keys among these that only one answer may have."""
    sought: dict[JoinedBy, list[Joint]]
    """What the call seeks, the nearest first."""
    kept: list[Joint]
    """What an earlier call that comes late is found by: the nearest of each rule."""


_NOTHING: Final = Joints([], frozenset(), {}, [])


def joints_of(call: CallRecord) -> Joints:
    """Return the joints of a call; none for a call that is in a session or has only begun."""
    if call.place.session_id is not None or call.is_first_version:
        return _NOTHING
    scope = _hash(call.content_level, call.service or "")
    offered: list[Joint] = []
    offered_ids: set[int] = set()
    sought: dict[JoinedBy, list[Joint]] = {"kept": _kept_before(call, scope)}
    conversation = call.conversation
    offered += _kept_after(call, scope)
    if conversation is not None:
        seals = _seals(conversation.input)
        sought["seal"] = [Joint(_key("seal", seal, scope)) for seal in reversed(seals)][:_MAX_SEALS]
        offered += (Joint(_key("seal", seal, scope)) for seal in _seals(conversation.output)[-_MAX_SEALS:])
        is_masked = any(note.why == "redactor" and note.what.startswith(_BODIES) for note in call.redactions)
        tools = [joint for part in _issued(conversation) if (joint := _of_tool(part, scope, is_masked=is_masked))]
        offered += tools
        offered_ids.update(joint.key for joint in tools)
        sought["tool"] = _results(conversation.input, scope, is_masked=is_masked)
        histories = _histories(call, conversation)
        offered += histories.offered
        sought["history"] = histories.sought
        if not is_masked:
            sought["mention"] = _mentions(conversation.input, scope)
    nearest = [joint for rule in _NEAREST for joint in sought.get(rule, [])[:1] if joint.proof != _SHARED]
    return Joints(
        _distinct(offered), frozenset(offered_ids), sought, _distinct([*nearest, *_last_results(call, sought)])
    )


def agrees(sought: Joint, offered: Joint) -> bool:
    """Return whether two joints with one key are the same; -1 as the proof of a sought one agrees with any."""
    if sought.proof in (-1, offered.proof):
        return True
    length = offered.proof & ((1 << _LENGTH_BITS) - 1)
    is_beginning = sought.text is not None and _MIN_CONTINUED <= length < len(sought.text)
    return is_beginning and sought.text is not None and _proof_of(sought.text[:length]) == offered.proof


def tenant_of(call: CallRecord) -> str | None:
    """Return the tenant that a call's metadata states, as one text."""
    if not call.metadata:
        return None
    labels = [label_of(call.metadata, key) for key in TENANT_KEYS]
    return None if labels == [None] * len(labels) else msgspec.json.encode(labels).decode()


def tool_calls_of(call: CallRecord) -> list[ToolCall]:
    """Return the tool calls of an answer that the application has to answer, in order."""
    return [] if call.conversation is None else _issued(call.conversation)


def has_history(call: CallRecord) -> bool:
    """Return whether the messages of a call are the application's, all of them and unchanged."""
    is_whole = call.request.continues is None and call.request.conversation_id is None
    is_unchanged = not any(note.what.startswith(_BODIES) for note in call.redactions)
    return is_whole and is_unchanged and call.content_level == "full"


def _hash(*values: object) -> bytes:
    return blake2b(_encoded(values), digest_size=8).digest()


def _key(kind: str, value: str, scope: bytes) -> int:
    return (
        int.from_bytes(
            blake2b(f"{kind} {value}".encode(errors="surrogatepass"), key=scope, digest_size=8).digest(), "big"
        )
        >> 1
    )


def _number(value: object) -> int:
    return int.from_bytes(blake2b(_encoded(value), digest_size=8).digest(), "big") >> 1


def _encoded(value: object) -> bytes:
    try:
        return msgspec.json.encode(value, order="deterministic")
    except (UnicodeEncodeError, TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError):
        return repr(value).encode(errors="surrogatepass")


def _distinct(joints: Iterable[Joint]) -> list[Joint]:
    return [*{(joint.key, joint.proof): joint for joint in joints}.values()]


def _kept_before(call: CallRecord, scope: bytes) -> list[Joint]:
    request = call.request
    kept: list[Joint] = []
    if request.continues is not None:
        kept.append(Joint(_key("response", request.continues, scope)))
    container = request.params.get("container") if request.params else None
    if isinstance(container, dict):
        container = container.get("id")
    if isinstance(container, str) and container:
        kept.append(Joint(_key("container", container, scope)))
    if request.conversation_id is not None:
        kept.append(Joint(_key("conversation", f"{call.provider} {request.conversation_id}", scope), _SHARED))
    return kept


def _kept_after(call: CallRecord, scope: bytes) -> Iterator[Joint]:
    request, response = call.request, call.response
    if request.conversation_id is not None:
        yield Joint(_key("conversation", f"{call.provider} {request.conversation_id}", scope), _SHARED)
    if response is None:
        return
    is_kept = call.api in _KEEPS_RESPONSES or request.continues is not None or request.conversation_id is not None
    if response.id and is_kept:
        yield Joint(_key("response", response.id, scope))
    if _CONTAINER in bytes(response.body):
        reading = read_json(bytes(response.body))
        container = reading.value.get("container") if reading is not None and isinstance(reading.value, dict) else None
        if isinstance(container, dict) and isinstance(ident := container.get("id"), str):
            yield Joint(_key("container", ident, scope))


def _seals(messages: Iterable[Message]) -> list[str]:
    """Return what a provider sealed in these messages, in order."""
    seals: list[str] = []
    for message in messages:
        for part in message.parts:
            if isinstance(part, Reasoning):
                seals += (seal for seal in (part.signature, part.sealed) if seal)
            elif isinstance(part, ToolCall) and part.extra:
                seals += _signatures(part.extra)
    return [seal for seal in seals if len(seal) >= _MIN_SEAL and _NO_SEAL not in seal]


def _signatures(value: object, depth: int = 4) -> Iterator[str]:
    if isinstance(value, dict) and depth:
        for name, inner in value.items():
            if isinstance(inner, str) and "ignature" in str(name):
                yield inner
            else:
                yield from _signatures(inner, depth - 1)


def _issued(conversation: Conversation) -> list[ToolCall]:
    parts = (part for message in conversation.output for part in message.parts)
    return [part for part in parts if isinstance(part, ToolCall) and part.tool_type in _OWN_TOOLS]


def _is_id(ident: str | None, name: str | None, *, is_masked: bool) -> bool:
    """Return whether a tool call's id is one: its name stands there if an API has none, and a redactor may mask it."""
    if not ident or ident == name:
        return False
    return not is_masked or _UNMASKED_ID.fullmatch(ident) is not None


def _of_tool(part: ToolCall, scope: bytes, *, is_masked: bool) -> Joint | None:
    if part.id is None or not _is_id(part.id, part.name, is_masked=is_masked):
        return None
    return Joint(_key("tool", part.id, scope), _arguments(part))


def _arguments(part: ToolCall) -> int:
    return _number([part.name, parse_arguments(part.arguments or "{}")])


def _results(messages: Iterable[Message], scope: bytes, *, is_masked: bool) -> list[Joint]:
    """Return the joints of the tool results of a request, the last first."""
    parts = [part for message in messages for part in message.parts if isinstance(part, ToolCall | ToolResult)]
    asked = {part.id: part for part in parts if isinstance(part, ToolCall) and part.id}
    joints: list[Joint] = []
    for part in reversed(parts):
        if not isinstance(part, ToolResult) or part.id is None:
            continue
        tool = asked.get(part.id)
        if tool is None:
            if not asked and _is_id(part.id, None, is_masked=is_masked):
                joints.append(Joint(_key("tool", part.id, scope), -1))
        elif joint := _of_tool(tool, scope, is_masked=is_masked):
            joints.append(joint)
    return joints


def _last_results(call: CallRecord, sought: dict[JoinedBy, list[Joint]]) -> list[Joint]:
    """Return the joints of the results behind the last answer in a request."""
    conversation = call.conversation
    if conversation is None or not sought.get("tool"):
        return []
    number = 0
    for message in reversed(conversation.input):
        results = sum(isinstance(part, ToolResult) for part in message.parts)
        if not results and number:
            break
        number += results
    return sought["tool"][:number]


def _mentions(messages: Iterable[Message], scope: bytes) -> list[Joint]:
    """Return the joints of the words in texts that may be ids of tool calls, the last first."""
    words: dict[str, None] = {}
    for message in reversed([message for message in messages if message.role not in INSTRUCTION_ROLES]):
        for part in reversed(message.parts):
            if isinstance(part, Text):
                words.update(dict.fromkeys(word for word in _WORD.findall(part.text) if _LIKE_AN_ID.search(word)))
        if len(words) > _MAX_WORDS:
            break
    return [Joint(_key("tool", word, scope), -1) for word in [*words][:_MAX_WORDS]]


class _Histories(NamedTuple):
    offered: list[Joint]
    sought: list[Joint]
    """The longest history first."""


def _histories(call: CallRecord, conversation: Conversation) -> _Histories:
    """Return the joints of what a request begins with, and of the request with each of its answers."""
    if not has_history(call):
        return _Histories([], [])
    chain = _Chain(_root(call, conversation))
    spoken = (message for message in conversation.input if message.role not in INSTRUCTION_ROLES)
    sought = [joint for message in spoken for part in message.parts if (joint := chain.add(message.role, part))]
    if chain.is_broken or not chain.number:
        return _Histories([], sought[::-1])
    offered: list[Joint] = []
    if call.outcome == "success":
        answers = conversation.output[:_MAX_CHOICES]
        choices = [[answer] for answer in answers] + ([answers] if len(answers) > 1 else [])
        for choice in choices:
            behind = chain.copy()
            joints = [behind.add(ANSWER, part) for message in choice for part in message.parts]
            last = next((joint for joint in reversed(joints) if joint is not None), None)
            if last is not None and not behind.is_broken:
                offered.append(last)
    return _Histories(offered, sought[::-1])


def _root(call: CallRecord, conversation: Conversation) -> bytes:
    """Return the hash of what two calls with one history have in common besides their messages."""
    instructions = [message for message in conversation.input if message.role in INSTRUCTION_ROLES]
    parts = [*conversation.system, *(part for message in instructions for part in message.parts)]
    texts = [part.text for part in parts if isinstance(part, Text)]
    return _hash(call.content_level, call.service, call.user_id, tenant_of(call), texts)


class _Chain:
    """Hashes a conversation part by part."""

    def __init__(self, root: bytes) -> None:
        self._hash = blake2b(root, digest_size=16)
        self.number = 0
        """Number of parts."""
        self.is_broken = False
        """Whether a part cannot be compared, because its content was not recorded."""

    def copy(self) -> _Chain:
        """Return a chain that goes on by itself."""
        other = _Chain(b"")
        other._hash, other.number, other.is_broken = self._hash.copy(), self.number, self.is_broken
        return other

    def add(self, role: str, part: Part) -> Joint | None:
        """Add a part; return its joint if an answer may end with it."""
        if isinstance(part, Reasoning) or self.is_broken:
            return None
        is_answer = role in (ANSWER, "model")
        joint = None
        match part:
            case Text(text=text) | Refusal(text=text):
                text = text.strip()
                if not text:
                    return None
                if is_answer:
                    joint = Joint(self._digest(text[:_MIN_CONTINUED]), _proof_of(text), text)
                atom: object = [ANSWER if is_answer else _USER, text]
            case ToolCall():
                atom, is_answer = ["call", part.name, parse_arguments(part.arguments or "{}")], True
            case ToolResult():
                atom, is_answer = ["result", _plain(part.content)], False
            case Media():
                source = part.sha256 or part.url or part.file_id
                self.is_broken = source is None
                atom = ["media", source]
            case _:
                atom = ["other", part.data]
        self._hash.update(_encoded(atom))
        self.number += 1
        return joint if joint is not None or not is_answer or self.is_broken else Joint(self._digest(""))

    def _digest(self, beginning: str) -> int:
        state = self._hash.copy()
        state.update(b" " + beginning.encode(errors="surrogatepass"))
        return int.from_bytes(state.digest()[:8], "big") >> 1


def _proof_of(text: str) -> int:
    """Return the hash and length of a text as one number."""
    digest = blake2b(text.encode(errors="surrogatepass"), digest_size=5).digest()
    return int.from_bytes(digest, "big") << _LENGTH_BITS | min(len(text), (1 << _LENGTH_BITS) - 1)


def _plain(content: object) -> object:
    """Return the content of a tool's result without the form in which a wire carries it."""
    if isinstance(content, list) and len(content) == 1:
        content = content[0]
    if isinstance(content, dict) and isinstance(content.get("text"), str):
        return content["text"].strip()
    return content.strip() if isinstance(content, str) else content
