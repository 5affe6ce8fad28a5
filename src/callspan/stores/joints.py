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
from collections.abc import Iterable, Iterator, Mapping, Sequence
from hashlib import blake2b
from typing import Final, NamedTuple, get_args

import msgspec

from callspan.providers.registry import by_api, decoded
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
from callspan.stores.tables.bodies import Parts

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
_MAX_NEW: Final = 16
"""Messages that a request may have more than a known one that it begins with."""
_MAX_TEXTS: Final = 4
"""Answers of a known request whose texts are kept."""
_WORD: Final = re.compile(r"[A-Za-z0-9_\-][A-Za-z0-9_\-.:]{8,78}[A-Za-z0-9_\-]")
_UNMASKED_ID: Final = re.compile(r"(?=.*[0-9])[A-Za-z0-9_\-.:]+")
_LIKE_AN_ID: Final = re.compile(r"[0-9]")
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
    """What the call seeks, the nearest first, without what its texts mention."""
    kept: list[Joint]
    """What an earlier call that comes late is found by: the nearest of each rule."""
    mentioned: list[Joint] | None = None
    """As `mentions_of`; None if the texts of the request were not read."""
    last_results: int = 0
    """Number of sought tool calls whose results follow the last answer."""


_NOTHING: Final = Joints([], frozenset(), {}, [])


def joints_of(call: CallRecord) -> Joints:
    """Return the joints of a call; none for a call that is in a session or has only begun."""
    return JointReader().joints(call, None)


def mentions_of(call: CallRecord) -> list[Joint]:
    """Return the joints of the words in the texts of a request that may be ids of tool calls, the last first."""
    if call.place.session_id is not None or call.is_first_version or _is_masked(call) or call.conversation is None:
        return []
    return _mentions(call.conversation.input, _scope(call))


class JointReader:
    """Reads the joints of calls. Of a request that begins as an earlier one did, only the rest is parsed.

    It keeps hashes of the latest requests, and the texts of few answers.
    """

    def __init__(self, max_requests: int = 500) -> None:
        """`max_requests`: how many requests are remembered."""
        self._max_requests = max_requests
        self._requests: dict[bytes, _Request] = {}

    def joints(self, call: CallRecord, parts: Parts | None) -> Joints:
        """Return the joints of a call, given the parts of its request if they are known."""
        if call.place.session_id is not None or call.is_first_version:
            return _NOTHING
        scope = _scope(call)
        sought: dict[JoinedBy, list[Joint]] = {"kept": _kept_before(call, scope)}
        offered = [*_kept_after(call, scope)]
        request, output = self._read(call, parts, scope)
        if request is None:
            return Joints(offered, frozenset(), sought, _nearest(sought, 0))
        sought["seal"], sought["tool"] = request.seals[: -_MAX_SEALS - 1 : -1], request.results()
        sought["history"] = request.histories[::-1]
        mentioned, request.mentioned = request.mentioned, None
        answer = _Request(scope, None, is_masked=request.is_masked)
        answer.add(output)
        tools = [tool for tool in answer.asked.values() if tool is not None]
        offered += [*answer.seals[-_MAX_SEALS:], *tools, *request.answered(output)]
        return Joints(
            _distinct(offered),
            frozenset(tool.key for tool in tools),
            sought,
            _nearest(sought, request.last_results),
            mentioned,
            min(request.last_results, len(sought["tool"])),
        )

    def _read(self, call: CallRecord, parts: Parts | None, scope: bytes) -> tuple[_Request | None, list[Message]]:
        """Return what the request says, and the messages of the answer."""
        seed = _seed(call, parts, scope)
        if seed is None or parts is None:
            return _parsed(call, scope)
        hashes = [piece.hash for piece in parts.history]
        known = self._longest(seed, hashes)
        read = None if known is None else _continued(call, parts, *known)
        request, output = _parsed(call, scope) if read is None else read
        if request is not None:
            self._requests[_prefix(seed, hashes, len(hashes))] = request
            if len(self._requests) > self._max_requests:
                del self._requests[next(iter(self._requests))]
        return request, output

    def _longest(self, seed: bytes, hashes: Sequence[bytes]) -> tuple[_Request, int] | None:
        """Return the longest known request that this one begins with, and the number of its messages."""
        for number in range(len(hashes) - 1, max(0, len(hashes) - _MAX_NEW), -1):
            if (request := self._requests.get(_prefix(seed, hashes, number))) is not None:
                return request, number
        return None


def _prefix(seed: bytes, hashes: Sequence[bytes], number: int) -> bytes:
    return blake2b(seed + b"".join(hashes[:number]), digest_size=16).digest()


def _seed(call: CallRecord, parts: Parts | None, scope: bytes) -> bytes | None:
    """Return what two requests have in common besides their messages; None if they cannot be compared by parts."""
    if parts is None or not parts.field or any(position >= 0 for position, _ in parts.others):
        return None
    instructions = [piece.hash for position, piece in parts.others if position == -1]
    return _hash(
        scope, call.api, call.user_id, tenant_of(call), has_history(call), _is_masked(call), len(instructions)
    ) + b"".join(instructions)


def _parsed(call: CallRecord, scope: bytes) -> tuple[_Request | None, list[Message]]:
    conversation = call.conversation
    if conversation is None:
        return None, []
    chain = _Chain(_root(call, conversation)) if has_history(call) else None
    request = _Request(scope, chain, is_masked=_is_masked(call))
    request.add(conversation.input)
    request.mentioned = [] if request.is_masked else _mentions(conversation.input, scope)
    return request, conversation.output


def _continued(call: CallRecord, parts: Parts, known: _Request, number: int) -> tuple[_Request, list[Message]] | None:
    """Return the same as `_parsed`, given what the first messages say; None if the others have instructions."""
    endpoint = by_api(call.api)
    added = [read_json(piece.json) for piece in parts.history[number:]]
    answer = None if call.response is None else decoded(call.response.body)
    if endpoint is None or None in added:
        return None
    messages = [reading.value for reading in added if reading is not None]
    conversation = endpoint.conversation({parts.field: messages}, answer)
    if any(message.role in INSTRUCTION_ROLES for message in conversation.input):
        return None
    request = known.copy()
    request.add(conversation.input)
    return request, conversation.output


class _Request:
    """The joints in the messages of a request, oldest first. What an answer issues is read in the same way."""

    def __init__(self, scope: bytes, chain: _Chain | None, *, is_masked: bool) -> None:
        """`chain`: of the history so far; None without a history."""
        self._scope, self._chain, self.is_masked = scope, chain, is_masked
        self.asked: dict[str, Joint | None] = {}
        """By its id, the joint of each tool call; None if the id is none."""
        self.seals: list[Joint] = []
        self.histories: list[Joint] = []
        self.last_results = 0
        """Number of results behind the last message without any."""
        self._brought: list[str] = []
        self.mentioned: list[Joint] | None = None

    def copy(self) -> _Request:
        """Return a copy to add messages to. Texts of older answers are left out."""
        chain = None if self._chain is None else self._chain.copy()
        other = _Request(self._scope, chain, is_masked=self.is_masked)
        other.asked, other.seals, other.last_results = dict(self.asked), [*self.seals], self.last_results
        older = [joint if joint.text is None else joint._replace(text=None) for joint in self.histories[:-_MAX_TEXTS]]
        other.histories = [*older, *self.histories[-_MAX_TEXTS:]]
        other._brought = [*self._brought]
        return other

    def add(self, messages: Iterable[Message]) -> None:
        """Add messages, of which instructions are left out."""
        for message in messages:
            if message.role not in INSTRUCTION_ROLES:
                results = [self._add(message.role, part) for part in message.parts].count(True)
                self.last_results = self.last_results + results if results else 0

    def _add(self, role: str, part: Part) -> bool:
        """Add a part; return whether it is the result of a tool."""
        match part:
            case Reasoning(signature=signature, sealed=sealed):
                self._add_seals(seal for seal in (signature, sealed) if seal)
            case ToolCall():
                if part.extra:
                    self._add_seals(_signatures(part.extra))
                if part.id and part.tool_type in _OWN_TOOLS:
                    self.asked[part.id] = _of_tool(part, self._scope, is_masked=self.is_masked)
            case ToolResult(id=str(ident)):
                self._brought.append(ident)
            case _:
                pass
        if self._chain is not None and (joint := self._chain.add(role, part)) is not None:
            self.histories.append(joint)
        return isinstance(part, ToolResult)

    def _add_seals(self, seals: Iterable[str]) -> None:
        self.seals += (
            Joint(_key("seal", seal, self._scope)) for seal in seals if len(seal) >= _MIN_SEAL and _NO_SEAL not in seal
        )

    def results(self) -> list[Joint]:
        """Return the joints of the results, the last first."""
        if self.asked:
            return [joint for ident in reversed(self._brought) if (joint := self.asked.get(ident)) is not None]
        ids = (ident for ident in reversed(self._brought) if _is_id(ident, None, is_masked=self.is_masked))
        return [Joint(_key("tool", ident, self._scope), -1) for ident in ids]

    def answered(self, output: Sequence[Message]) -> Iterator[Joint]:
        """Yield the joints of this history with each of these answers, and with all of them in a row."""
        if self._chain is None or self._chain.is_broken or not self._chain.number:
            return
        answers = output[:_MAX_CHOICES]
        for choice in [[answer] for answer in answers] + ([[*answers]] if len(answers) > 1 else []):
            behind = self._chain.copy()
            joints = [behind.add(ANSWER, part) for message in choice for part in message.parts]
            last = next((joint for joint in reversed(joints) if joint is not None), None)
            if last is not None and not behind.is_broken:
                yield last


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


def _scope(call: CallRecord) -> bytes:
    return _hash(call.content_level, call.service or "")


def _is_masked(call: CallRecord) -> bool:
    """Return whether a redactor changed a body."""
    return any(note.why == "redactor" and note.what.startswith(_BODIES) for note in call.redactions)


def _nearest(sought: Mapping[JoinedBy, Sequence[Joint]], results: int) -> list[Joint]:
    """Return what an earlier call that comes late is found by, given the number of results behind the last answer."""
    nearest = [joint for rule in _NEAREST for joint in sought.get(rule, [])[:1] if joint.proof != _SHARED]
    # Also an old result: the id of a tool call is stronger than a history, whichever of both calls comes first.
    return _distinct([*nearest, *sought.get("tool", [])[: max(1, results)]])


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


def _signatures(value: object, depth: int = 4) -> Iterator[str]:
    if isinstance(value, dict) and depth:
        for name, inner in value.items():
            if isinstance(inner, str) and "ignature" in str(name):
                yield inner
            else:
                yield from _signatures(inner, depth - 1)


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
