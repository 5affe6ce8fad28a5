"""Joints: where a call's conversation can be joined with another call's, as numbers that contain no text.

A joint is the hash of an id or of a history. Later calls bring back what an answer issued, so a call *offers* joints
and *seeks* those of the call before it. From the strongest to the weakest (`JoinedBy`):

- `seal`: what a provider sealed and wants back unchanged, such as signatures of reasoning;
- `kept`: what the provider keeps: the response or conversation that a request names, a container;
- `tool`: the id of a tool call whose result the request has, with that tool call's name and arguments;
- `history`: all messages of the earlier request and its answer, with which the request begins;
- `mention`: the id of a tool call in a text of the request.

Histories are compared as `same_message` says. Instructions belong to a history; tools do not. Loops may write more
behind the text of an answer, so an answer that ends with a text is a joint by the beginning of this text, with its
length and hash as proof.

Hashing whole histories is dear, so each call also has an *offer*: the hash of the instructions, the last part before
its answer, and the beginning of the answer. A request has these of all answers in it. An offer proves nothing; it tells
whose histories have to be read, and finds the calls whose request ended as a history in question begins, before an
application cut its beginning off (`is_cut`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from hashlib import blake2b
from typing import Final, NamedTuple, TypeAlias, get_args

from callspan.joining.same_message import ANSWER, CALL, NO_MEDIA, atom_of, encoded
from callspan.record.call import CallRecord, IdHashes, JoinedBy
from callspan.record.id_hashes import (
    BODIES,
    MAX_IDS,
    container_of_answer,
    container_of_request,
    is_masked,
    is_tool_call_id,
    seals_in,
)
from callspan.record.labels import tenant_of
from callspan.record.messages import (
    INSTRUCTION_ROLES,
    Conversation,
    Message,
    Part,
    Reasoning,
    Text,
    ToolCall,
    ToolResult,
    parse_arguments,
)

RULES: Final[tuple[JoinedBy, ...]] = get_args(JoinedBy)
"""From the strongest to the weakest."""
_MAX_OFFERS: Final = 4
"""Parts of the model in a row of which each may begin an answer."""
KEEPS_RESPONSES: Final = frozenset({"responses", "interactions"})
"""APIs whose requests may continue a response by its id."""
_MIN_CONTINUED: Final = 20
"""Characters of a text that a loop may continue, which its joint contains; shorter ones have to be equal."""
_BRIEF: Final = 100
"""Characters of the beginning and the end of a text that an offer is made of."""
_MAX_WORDS, _MAX_CHOICES = 200, 8
_MAX_TEXTS: Final = 4
"""Answers of a known request whose texts are kept."""
_MIN_WORD: Final = 10
_WORD: Final = re.compile(r"[A-Za-z0-9_\-][A-Za-z0-9_\-.:]{8,78}[A-Za-z0-9_\-]")
_LIKE_AN_ID: Final = re.compile(r"[0-9]")
_LENGTH_BITS: Final = 22


class Joint(NamedTuple):
    """A point at which two calls may be joined."""

    key: int
    proof: int = 0
    """What also has to agree, see `agrees`."""
    text: str | None = None
    """For a history whose answer ends with this text: the text, of which another call's proof may be a beginning."""
    offers: tuple[int, ...] = ()
    """For a history: the offers that calls with its answer may have."""


class Joints(NamedTuple):
    """The joints of a call."""

    offered: Sequence[Joint]
    """What later calls may seek, without histories."""
    offered_ids: frozenset[int]
    """Keys among these that only one answer may have."""
    sought: Mapping[JoinedBy, Sequence[Joint]]
    """What the call seeks, the nearest first, without what its texts mention."""
    mentioned: Sequence[Joint] | None = None
    """As `mentions_of`; None if the texts of the request were not read."""
    last_results: int = 0
    """Number of sought tool calls whose results follow the last answer."""
    offers: tuple[int, ...] = ()
    """The offer of each of its answers."""
    histories: Sequence[Joint] | None = None
    """Its history with each of its answers; None if only its offers were read."""


NO_IDS: Final = frozenset[int]()
NONE_SOUGHT: Final[Mapping[JoinedBy, Sequence[Joint]]] = {}
NOTHING: Final = Joints((), NO_IDS, NONE_SOUGHT, histories=())


Read: TypeAlias = "tuple[RequestJoints | None, list[Message]]"


def joints_of(call: CallRecord, read: Callable[[CallRecord, bytes], Read] | None = None) -> Joints:
    """Return the joints of a call; none for a call that is in a session or has only begun.

    `read`: reads what the request and the answer say, instead of the whole bodies. Histories are then left out where an
    id joins most calls.
    """
    if call.place.session_id is not None or call.is_first_version:
        return NOTHING
    scope = scope_of(call)
    kept, offered = kept_by(call, scope)
    sought: dict[JoinedBy, list[Joint]] = {"kept": kept}
    if call.content_level != "full":
        return _of_hashes(call, scope, offered, sought)
    request, output = (read or parsed)(call, scope)
    if request is None:
        return Joints(offered, NO_IDS, sought if sought["kept"] else NONE_SOUGHT, histories=())
    sought["seal"], sought["tool"] = request.seals[: -MAX_IDS - 1 : -1], request.results()
    sought["history"] = request.histories[::-1]
    mentioned, request.mentioned = request.mentioned, None
    ids, tools = issued_by(output, scope, is_masked=request.is_masked)
    answered = [*request.answered(output)]
    return Joints(
        _distinct([*offered, *ids]),
        tools,
        sought,
        mentioned,
        min(request.last_results, len(sought["tool"])),
        tuple(dict.fromkeys(offer for _, offer in answered)),
        # An id joins most of the calls that bring one back.
        None if read is not None and tools else _distinct(joint for joint, _ in answered),
    )


def is_cut(later: CallRecord, earlier: CallRecord) -> bool:
    """Return whether a request begins with the end of an earlier one and its answer."""
    before, after = earlier.conversation, later.conversation
    if before is None or after is None:
        return False
    sent, received = _atoms(before.input), _atoms(before.output[:1])
    atoms = _atoms(after.input)
    return any(
        atoms[:length] == sent[-length:] and _continues(atoms[length : length + len(received)], received)
        for length in range(1, min(len(sent), len(atoms) - len(received) + 1))
    )


def _atoms(messages: Iterable[Message]) -> list[tuple[bool, object]]:
    """Return what histories are compared by, with whether the model said it."""
    said = [message for message in messages if message.role not in INSTRUCTION_ROLES]
    atoms = (atom_of(message.role, part) for message in said for part in message.parts)
    return [atom for atom in atoms if atom is not None]


def _continues(atoms: Sequence[tuple[bool, object]], answer: Sequence[tuple[bool, object]]) -> bool:
    """Return whether these are the parts of an answer; a loop may have written behind its last text."""
    if not answer or len(atoms) != len(answer) or [*atoms[:-1]] != [*answer[:-1]]:
        return False
    match atoms[-1], answer[-1]:
        case (True, [kind, str(text)]), (True, [other, str(beginning)]) if kind == other == ANSWER:
            return text == beginning or (len(beginning) >= _MIN_CONTINUED and text.startswith(beginning))
        case last, ending:
            return last == ending


def mentions_of(call: CallRecord) -> list[Joint]:
    """Return the joints of the words in the texts of a request that may be ids of tool calls, the last first."""
    if call.place.session_id is not None or call.is_first_version or is_masked(call) or call.conversation is None:
        return []
    return _mentions(call.conversation.input, scope_of(call))


def _of_hashes(call: CallRecord, scope: bytes, offered: Sequence[Joint], sought: dict[JoinedBy, list[Joint]]) -> Joints:
    """Return the joints of a call without content, given those of what the provider keeps."""
    returned, issued = call.request.returned or IdHashes(), (call.response and call.response.issued) or IdHashes()
    sought["kept"] += _hashed("container", [*returned.containers, *issued.containers], scope)
    sought["seal"] = _hashed("seal", returned.seals, scope)
    sought["tool"] = [joint._replace(proof=-1) for joint in _hashed("tool", returned.tools, scope)]
    tools = _hashed("tool", issued.tools, scope)
    others = _hashed("seal", issued.seals, scope) + _hashed("container", issued.containers, scope)
    ids = frozenset(tool.key for tool in tools)
    return Joints(
        _distinct([*offered, *others, *tools]), ids, sought if any(sought.values()) else NONE_SOUGHT, histories=()
    )


def _hashed(kind: str, hashes: Iterable[int], scope: bytes) -> list[Joint]:
    return [Joint(key_of(kind, f"{number}", scope)) for number in hashes]


def issued_by(output: Iterable[Message], scope: bytes, *, is_masked: bool) -> tuple[list[Joint], frozenset[int]]:
    """Return the joints of what an answer issued, and the keys of those that only one answer may have."""
    answer = RequestJoints(scope, None, is_masked=is_masked)
    answer.add(output)
    tools = [tool for tool in answer.asked.values() if tool is not None]
    return [*answer.seals[-MAX_IDS:], *tools], frozenset(tool.key for tool in tools)


def parsed(call: CallRecord, scope: bytes, *, mentions: bool = True) -> Read:
    """Return what a whole request says, and the messages of the answer. `mentions`: also the words of its texts."""
    conversation = call.conversation
    if conversation is None:
        return None, []
    chain = _chain(call, _instructions(conversation)) if has_history(call) else None
    request = RequestJoints(scope, chain, is_masked=is_masked(call))
    request.add(conversation.input)
    request.mentioned = _mentions(conversation.input, scope) if mentions and not request.is_masked else []
    return request, conversation.output


class RequestJoints:
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

    def copy(self) -> RequestJoints:
        """Return a copy to add messages to. Texts of older answers are left out."""
        chain = None if self._chain is None else self._chain.copy()
        other = RequestJoints(self._scope, chain, is_masked=self.is_masked)
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
            case Reasoning():
                self._add_seals(part)
            case ToolCall():
                self._add_seals(part)
                if part.id and part.is_of_application:
                    self.asked[part.id] = _of_tool(part, self._scope, is_masked=self.is_masked)
            case ToolResult(id=str(ident)):
                self._brought.append(ident)
            case _:
                pass
        if self._chain is not None and (joint := self._chain.add(role, part)) is not None:
            self.histories.append(joint)
        return isinstance(part, ToolResult)

    def _add_seals(self, part: Reasoning | ToolCall) -> None:
        self.seals += (Joint(key_of("seal", seal, self._scope)) for seal in seals_in(part))

    def results(self) -> list[Joint]:
        """Return the joints of the results, the last first."""
        if self.asked:
            return [joint for ident in reversed(self._brought) if (joint := self.asked.get(ident)) is not None]
        ids = (ident for ident in reversed(self._brought) if is_tool_call_id(ident, None, is_masked=self.is_masked))
        return [Joint(key_of("tool", ident, self._scope), -1) for ident in ids]

    def answered(self, output: Sequence[Message]) -> Iterator[tuple[Joint, int]]:
        """Yield the joints and offers of this history with each of these answers, and with all of them in a row."""
        if self._chain is None or self._chain.is_broken or not self._chain.number:
            return
        answers = output[:_MAX_CHOICES]
        for choice in [[answer] for answer in answers] + ([[*answers]] if len(answers) > 1 else []):
            joint = self._chain.answered(part for message in choice for part in message.parts)
            if joint is not None:
                yield joint


def agrees(sought: Joint, offered: Joint) -> bool:
    """Return whether two joints with one key are the same; -1 as the proof of a sought one agrees with any."""
    if sought.proof in (-1, offered.proof):
        return True
    length = offered.proof & ((1 << _LENGTH_BITS) - 1)
    is_beginning = sought.text is not None and _MIN_CONTINUED <= length < len(sought.text)
    return is_beginning and sought.text is not None and _proof_of(sought.text[:length]) == offered.proof


def scope_of(call: CallRecord) -> bytes:
    """Return what two calls with a common joint have in common: content level and service."""
    return digest_of(call.content_level, call.service or "")


def has_history(call: CallRecord) -> bool:
    """Return whether the messages of a call are the application's, all of them and unchanged."""
    is_whole = call.request.continues is None and call.request.conversation_id is None
    is_unchanged = not (call.redactions and any(note.what.startswith(BODIES) for note in call.redactions))
    return is_whole and is_unchanged and call.content_level == "full"


def digest_of(*values: object) -> bytes:
    """Return the hash of some values."""
    return blake2b(encoded(values), digest_size=8).digest()


def key_of(kind: str, value: str, scope: bytes) -> int:
    """Return the key of a joint by an id."""
    return (
        int.from_bytes(
            blake2b(f"{kind} {value}".encode(errors="surrogatepass"), key=scope, digest_size=8).digest(), "big"
        )
        >> 1
    )


def _number(value: object) -> int:
    return int.from_bytes(blake2b(encoded(value), digest_size=8).digest(), "big") >> 1


def _distinct(joints: Iterable[Joint]) -> list[Joint]:
    return [*{(joint.key, joint.proof): joint for joint in joints}.values()]


def kept_by(call: CallRecord, scope: bytes) -> tuple[list[Joint], list[Joint]]:
    """Return what the provider keeps: what a call names, and what a later call may name.

    What both calls name is sought and offered by each, so that it joins them whichever comes first.
    """
    request, response = call.request, call.response
    sought, offered = list[Joint](), list[Joint]()
    if request.continues is not None:
        sought.append(Joint(key_of("response", request.continues, scope)))
    if (container := container_of_request(call)) is not None:
        sought.append(Joint(key_of("container", container, scope)))
    if request.conversation_id is not None:
        offered.append(Joint(key_of("conversation", f"{call.provider} {request.conversation_id}", scope)))
    if (container := container_of_answer(call)) is not None:
        offered.append(Joint(key_of("container", container, scope)))
    sought += offered
    is_kept = call.api in KEEPS_RESPONSES or request.continues is not None or request.conversation_id is not None
    if response is not None and response.id and is_kept:
        offered.append(Joint(key_of("response", response.id, scope)))
    return sought, offered


def _of_tool(part: ToolCall, scope: bytes, *, is_masked: bool) -> Joint | None:
    if part.id is None or not is_tool_call_id(part.id, part.name, is_masked=is_masked):
        return None
    return Joint(key_of("tool", part.id, scope), _arguments(part))


def _arguments(part: ToolCall) -> int:
    return _number([part.name, parse_arguments(part.arguments or "{}")])


def _mentions(messages: Iterable[Message], scope: bytes) -> list[Joint]:
    """Return the joints of the words in texts that may be ids of tool calls, the last first."""
    texts = [
        part.text for message in messages if message.role not in INSTRUCTION_ROLES
        for part in message.parts if isinstance(part, Text)
    ]  # fmt: skip
    return [Joint(key_of("tool", word, scope), -1) for word in words_in(reversed(texts))]


def words_in(texts: Iterable[str]) -> list[str]:
    """Return the words in texts that may be ids of tool calls, the last texts first."""
    words: dict[str, None] = {}
    for text in texts:
        # Most words are too short, and have no digit; the expression takes four times as long to say so.
        long = [word for word in text.split() if not word.isalpha() and len(word) >= _MIN_WORD]
        if long:
            words.update(dict.fromkeys(word for word in _WORD.findall(" ".join(long)) if _LIKE_AN_ID.search(word)))
        if len(words) > _MAX_WORDS:
            break
    return [*words][:_MAX_WORDS]


def instructions_of(call: CallRecord) -> list[str]:
    """Return the texts of a call's instructions."""
    return [] if call.conversation is None else _instructions(call.conversation)


def _instructions(conversation: Conversation) -> list[str]:
    messages = (message for message in conversation.input if message.role in INSTRUCTION_ROLES)
    parts = [*conversation.system, *(part for message in messages for part in message.parts)]
    return [part.text for part in parts if isinstance(part, Text)]


def base_of(call: CallRecord, user: object, instructions: Iterable[str]) -> str:
    """Return what two calls with one offer have in common besides their messages."""
    tenant = tenant_of(call.metadata)
    return f"{call.content_level} {call.service} {user} {tenant} {' '.join(map(_brief, instructions))}"


def offer_of(base: str, last: Sequence[object], answer: Sequence[object]) -> int:
    """Return the offer of an answer, given the last part before it and its own first one."""
    kind, value, *_ = answer
    beginning = f"{value}"[:_MIN_CONTINUED] if kind in (ANSWER, CALL) else ""
    text = f"{base} {last[0]} {_brief(last[1])} {kind} {beginning}"
    digest = blake2b(text.encode(errors="surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def _brief(value: object) -> str:
    """Return what tells most values from each other."""
    text = value if isinstance(value, str) else encoded(value).decode(errors="replace")
    return text if len(text) <= 2 * _BRIEF else f"{text[:_BRIEF]} {len(text)} {text[-_BRIEF:]}"


def _chain(call: CallRecord, instructions: Sequence[str]) -> _Chain:
    """Return a conversation without messages."""
    user = call.user_id
    root = digest_of(call.content_level, call.service, user, tenant_of(call.metadata), instructions)
    return _Chain(blake2b(root, digest_size=16), base_of(call, user, instructions))


class _Chain:
    """Hashes a conversation part by part."""

    def __init__(self, root: blake2b, base: str) -> None:
        """`root`: the hash of what is before the messages; `base`: the same of offers."""
        self._hash, self._base = root, base
        self._last: list[object] = []
        self._offers: tuple[int, ...] = ()
        """Of the parts of the model behind the last one of another role."""
        self.number = 0
        """Number of parts."""
        self.is_broken = False
        """Whether a part cannot be compared, because its content was not recorded."""

    def copy(self, *, is_asked: bool = False) -> _Chain:
        """Return a chain that goes on by itself. `is_asked`: what comes next is an answer of its own."""
        other = _Chain(self._hash.copy(), self._base)
        other._last, other._offers = self._last, () if is_asked else self._offers
        other.number, other.is_broken = self.number, self.is_broken
        return other

    def add(self, role: str, part: Part) -> Joint | None:
        """Add a part; return its joint if an answer may end with it."""
        if self.is_broken or (read := atom_of(role, part)) is None:
            return None
        is_answer, atom = read
        if atom == NO_MEDIA:
            self.is_broken = True
            return None
        joint = None
        if is_answer:
            if self.number and len(self._offers) < _MAX_OFFERS:
                self._offers += (offer_of(self._base, self._last, atom),)
        else:
            self._offers = ()
        if is_answer and atom[0] == ANSWER and isinstance(text := atom[1], str):
            joint = Joint(self._digest(text[:_MIN_CONTINUED]), _proof_of(text), text, self._offers)
        self._hash.update(encoded(atom))
        self._last = atom
        self.number += 1
        return joint if joint is not None or not is_answer else Joint(self._digest(""), offers=self._offers)

    def answered(self, answer: Iterable[Part]) -> tuple[Joint, int] | None:
        """Return the joint of the history with an answer, and the offer of the answer; None if it has none."""
        behind = self.copy(is_asked=True)
        joints = [behind.add(ANSWER, part) for part in answer]
        last = next((joint for joint in reversed(joints) if joint is not None), None)
        if last is None or behind.is_broken or not last.offers:
            return None
        return last._replace(offers=()), last.offers[0]

    def _digest(self, beginning: str) -> int:
        state = self._hash.copy()
        state.update(b" " + beginning.encode(errors="surrogatepass"))
        return int.from_bytes(state.digest()[:8], "big") >> 1


def _proof_of(text: str) -> int:
    """Return the hash and length of a text as one number."""
    digest = blake2b(text.encode(errors="surrogatepass"), digest_size=5).digest()
    return int.from_bytes(digest, "big") << _LENGTH_BITS | min(len(text), (1 << _LENGTH_BITS) - 1)
