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

Most calls outside of sessions are single ones, and hashing whole histories is dear. So each call also has an *offer*:
the hash of the instructions, the last part before its answer, and the beginning of the answer. A request has these of
all answers in it. A call whose request has no answer and no id has only its offer (`JointReader`). What else it offers
is read from its stored bodies once a request has this offer. An offer proves nothing; it also finds the calls whose
request ended as a history in question begins, before an application cut its beginning off (`is_cut`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from hashlib import blake2b
from typing import Final, NamedTuple, TypeAlias, get_args

import msgspec

from callspan.record.apis import APIS, OTHER
from callspan.record.call import CallRecord, IdHashes, JoinedBy
from callspan.record.id_hashes import (
    BODIES,
    HAVE_CONTAINERS,
    MAX_IDS,
    container_of_answer,
    container_of_request,
    is_masked,
    is_tool_call_id,
    seals_in,
)
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
from callspan.stores.tables.bodies import Parts, Piece, messages_of, read, repeats
from callspan.stores.tables.payloads import PreparedCall

RULES: Final[tuple[JoinedBy, ...]] = get_args(JoinedBy)
"""From the strongest to the weakest."""
ANSWER, _USER = "assistant", "user"
_ANSWERING: Final = frozenset({ANSWER, "model"})
_CALL, _MEDIA = "call", "media"
_NO_MEDIA: Final[list[object]] = [_MEDIA, None]
_MAX_OFFERS: Final = 4
"""Parts of the model in a row of which each may begin an answer."""
_KEEPS_RESPONSES: Final = frozenset({"responses", "interactions"})
"""APIs whose requests may continue a response by its id."""
TENANT_KEYS: Final = ("organization_id", "project_id", "tenant", "tenant_id")
_MIN_CONTINUED: Final = 20
"""Characters of a text that a loop may continue, which its joint contains; shorter ones have to be equal."""
_BRIEF: Final = 100
"""Characters of the beginning and the end of a text that an offer is made of."""
_MAX_WORDS, _MAX_CHOICES = 200, 8
_MAX_NEW: Final = 16
"""Messages that a request may have more than a known one that it begins with."""
_MAX_TEXTS: Final = 4
"""Answers of a known request whose texts are kept."""
_MIN_WORD: Final = 10
_MAX_SEARCHED: Final = 2_000
"""Last characters of each text of a single call that are searched for ids."""
_WORD: Final = re.compile(r"[A-Za-z0-9_\-][A-Za-z0-9_\-.:]{8,78}[A-Za-z0-9_\-]")
_LIKE_AN_ID: Final = re.compile(r"[0-9]")
_LENGTH_BITS: Final = 22
_INSTRUCTIONS: Final = "instructions"
SHARED: Final = 1
"""Proof of a joint that each of two calls offers, so that it need not be found by what it seeks."""
_ISSUING: Final = _KEEPS_RESPONSES | HAVE_CONTAINERS
_MODEL: Final = (b'"assistant"', b'"model"')


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


_NO_IDS: Final = frozenset[int]()
_NONE_SOUGHT: Final[Mapping[JoinedBy, Sequence[Joint]]] = {}
NOTHING: Final = Joints((), _NO_IDS, _NONE_SOUGHT, histories=())


_Read: TypeAlias = "tuple[_Request | None, list[Message]]"


def joints_of(call: CallRecord) -> Joints:
    """Return all joints of a call; none for a call that is in a session or has only begun."""
    return JointReader().joints(call, None)


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
    atoms = (_atom(message.role, part) for message in said for part in message.parts)
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
    return _mentions(call.conversation.input, _scope(call))


class JointReader:
    """Reads the joints of calls. Of a request that begins as an earlier one did, only the rest is parsed.

    It keeps hashes of the latest requests, and the texts of few answers.
    """

    def __init__(self, max_requests: int = 500) -> None:
        """`max_requests`: how many requests are remembered."""
        self._max_requests = max_requests
        self._requests: dict[bytes, _Request] = {}

    def joints(self, call: CallRecord, prepared: PreparedCall | None) -> Joints:
        """Return the joints of a call. `prepared`: its bodies in parts; without them all of its joints are read."""
        if call.place.session_id is not None or call.is_first_version:
            return NOTHING
        if prepared is not None and (single := _single(call, prepared)) is not None:
            return single
        scope = _scope(call)
        sought: dict[JoinedBy, list[Joint]] = {"kept": _kept_before(call, scope)}
        offered = [*_kept_after(call, scope)]
        if call.content_level != "full":
            return _of_hashes(call, scope, offered, sought)
        request, output = self._read(call, prepared, scope)
        if request is None:
            return Joints(offered, _NO_IDS, sought if sought["kept"] else _NONE_SOUGHT, histories=())
        sought["seal"], sought["tool"] = request.seals[: -MAX_IDS - 1 : -1], request.results()
        sought["history"] = request.histories[::-1]
        mentioned, request.mentioned = request.mentioned, None
        ids, tools = _issued(output, scope, is_masked=request.is_masked)
        answered = [*request.answered(output)]
        # An id joins most of the calls that bring one back.
        is_joined_by_ids = prepared is not None and len(tools) > 0
        return Joints(
            _distinct([*offered, *ids]),
            tools,
            sought,
            mentioned,
            min(request.last_results, len(sought["tool"])),
            tuple(dict.fromkeys(offer for _, offer in answered)),
            None if is_joined_by_ids else _distinct(joint for joint, _ in answered),
        )

    def _read(self, call: CallRecord, prepared: PreparedCall | None, scope: bytes) -> _Read:
        """Return what the request says, and the messages of the answer."""
        parts = None if prepared is None else prepared.request
        seed = _seed(call, parts, scope)
        if seed is None or parts is None or prepared is None:
            return _parsed(call, scope)
        hashes = [piece.hash for piece in parts.history]
        known = self._longest(seed, hashes)
        read = None if known is None else _continued(prepared, parts.history[known[1] :], known[0], call.api)
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


def _of_hashes(call: CallRecord, scope: bytes, offered: Sequence[Joint], sought: dict[JoinedBy, list[Joint]]) -> Joints:
    """Return the joints of a call without content, given those of what the provider keeps."""
    returned, issued = call.request.returned or IdHashes(), (call.response and call.response.issued) or IdHashes()
    sought["kept"] += _hashed("container", returned.containers, scope)
    sought["seal"] = _hashed("seal", returned.seals, scope)
    sought["tool"] = [joint._replace(proof=-1) for joint in _hashed("tool", returned.tools, scope)]
    tools = _hashed("tool", issued.tools, scope)
    others = _hashed("seal", issued.seals, scope) + _hashed("container", issued.containers, scope)
    ids = frozenset(tool.key for tool in tools)
    return Joints(
        _distinct([*offered, *others, *tools]), ids, sought if any(sought.values()) else _NONE_SOUGHT, histories=()
    )


def _hashed(kind: str, hashes: Iterable[int], scope: bytes) -> list[Joint]:
    return [Joint(_key(kind, f"{number}", scope)) for number in hashes]


def _issued(output: Iterable[Message], scope: bytes, *, is_masked: bool) -> tuple[list[Joint], frozenset[int]]:
    """Return the joints of what an answer issued, and the keys of those that only one answer may have."""
    answer = _Request(scope, None, is_masked=is_masked)
    answer.add(output)
    tools = [tool for tool in answer.asked.values() if tool is not None]
    return [*answer.seals[-MAX_IDS:], *tools], frozenset(tool.key for tool in tools)


def _single(call: CallRecord, prepared: PreparedCall) -> Joints | None:
    """Return the joints of a call whose request has no answer and no id; None for any other one.

    All that is read of it here is also read to store it.
    """
    request, answer = prepared.request, prepared.answer
    if request is None or not has_history(call) or container_of_request(call) is not None:
        return None
    asked = _Asked()
    if not asked.reads(request):
        return None
    output: list[Message] = []
    if answer is not None:
        output = messages_of(answer.piece)
        if len(output) > 1 or (APIS.get(call.api, OTHER).repeats and repeats(answer.piece.json)):
            return None
    offers = asked.offers(call, prepared.row.get("user_id"), output)
    words = _words(reversed(asked.texts))
    parts = output[0].parts if output else ()
    if not words and call.api not in _ISSUING and all(type(part) is Text for part in parts):
        return Joints((), _NO_IDS, _NONE_SOUGHT, (), 0, offers)
    scope = _scope(call)
    ids, tools = _issued(output, scope, is_masked=False)
    mentioned = [Joint(_key("tool", word, scope), -1) for word in words]
    return Joints([*_kept_after(call, scope), *ids], tools, _NONE_SOUGHT, mentioned, 0, offers)


class _Asked:
    """What the request of a single call says."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        """Ends of its texts, without instructions."""
        self._instructions: list[str] = []
        self._last: list[object] | None = None

    def reads(self, request: Parts) -> bool:
        """Read a request; return False if it has an answer, the result of a tool, or what is not read by itself."""
        history = request.history
        # The last answer of most conversations is there, and the first messages are not to be read.
        if not history or (len(history) > 1 and any(role in history[-2].json for role in _MODEL)):
            return False
        for position, piece in request.others:
            if position >= 0:
                return False
            if piece.place is not None and piece.place.side == _INSTRUCTIONS:
                system = [part for message in messages_of(piece) for part in message.parts]
                self._instructions += (part.text for part in system if isinstance(part, Text))
        for piece in history:
            said = piece.said or read(piece)
            if isinstance(said, tuple):
                if not self._adds_text(*said):
                    return False
            elif said is None or not said.messages or not all(map(self._adds, said.messages)):
                return False
        return True

    def _adds(self, message: Message) -> bool:
        return all(self._adds_part(message.role, part) for part in message.parts)

    def _adds_part(self, role: str, part: Part) -> bool:
        if type(part) is Text:
            return self._adds_text(role, part.text)
        if isinstance(part, ToolCall | ToolResult | Reasoning) or role in _ANSWERING:
            return False
        if role not in INSTRUCTION_ROLES and (atom := _atom(role, part)) is not None:
            self._last = atom[1]
        return True

    def _adds_text(self, role: str, text: str) -> bool:
        if role == _USER or not (role in INSTRUCTION_ROLES or role in _ANSWERING):
            if said := text.strip():
                self.texts.append(said[-_MAX_SEARCHED:])
                self._last = [_USER, said]
        elif role in INSTRUCTION_ROLES:
            self._instructions.append(text)
        else:
            return False
        return True

    def offers(self, call: CallRecord, user: object, output: Sequence[Message]) -> tuple[int, ...]:
        """Return the offer of an answer, if it has one."""
        if self._last is None or not output:
            return ()
        for part in output[0].parts:
            if (atom := _atom(ANSWER, part)) is not None:
                if _NO_MEDIA in (self._last, atom[1]):
                    break
                return (_offer(_base(call, user, self._instructions), self._last, atom[1]),)
        return ()


def _prefix(seed: bytes, hashes: Sequence[bytes], number: int) -> bytes:
    return blake2b(seed + b"".join(hashes[:number]), digest_size=16).digest()


def _seed(call: CallRecord, parts: Parts | None, scope: bytes) -> bytes | None:
    """Return what two requests have in common besides their messages; None if they cannot be compared by parts."""
    if parts is None or not parts.field or any(position >= 0 for position, _ in parts.others):
        return None
    instructions = [piece.hash for position, piece in parts.others if position == -1]
    return _hash(
        scope, call.api, call.user_id, tenant_of(call), has_history(call), is_masked(call), len(instructions)
    ) + b"".join(instructions)


def _parsed(call: CallRecord, scope: bytes) -> _Read:
    conversation = call.conversation
    if conversation is None:
        return None, []
    chain = _chain(call, _instructions(conversation)) if has_history(call) else None
    request = _Request(scope, chain, is_masked=is_masked(call))
    request.add(conversation.input)
    request.mentioned = [] if request.is_masked else _mentions(conversation.input, scope)
    return request, conversation.output


def _continued(prepared: PreparedCall, history: Sequence[Piece], known: _Request, api: str) -> _Read | None:
    """Return the same as `_parsed`, given what the messages before this part of the history say.

    None if these are not read by themselves, or have instructions. What is read of them is also read to store them.
    """
    added: list[Message] = []
    for piece in history:
        messages = messages_of(piece)
        if not messages or any(message.role in INSTRUCTION_ROLES for message in messages):
            return None
        added += messages
    answer = prepared.answer
    if answer is not None and APIS.get(api, OTHER).repeats and repeats(answer.piece.json):
        return None
    request = known.copy()
    request.add(added)
    return request, [] if answer is None else messages_of(answer.piece)


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
        self.seals += (Joint(_key("seal", seal, self._scope)) for seal in seals_in(part))

    def results(self) -> list[Joint]:
        """Return the joints of the results, the last first."""
        if self.asked:
            return [joint for ident in reversed(self._brought) if (joint := self.asked.get(ident)) is not None]
        ids = (ident for ident in reversed(self._brought) if is_tool_call_id(ident, None, is_masked=self.is_masked))
        return [Joint(_key("tool", ident, self._scope), -1) for ident in ids]

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


def tenant_of(call: CallRecord) -> str | None:
    """Return the tenant that a call's metadata states, as one text."""
    if not call.metadata:
        return None
    labels = [label_of(call.metadata, key) for key in TENANT_KEYS]
    return None if labels == [None] * len(labels) else msgspec.json.encode(labels).decode()


def _scope(call: CallRecord) -> bytes:
    return _hash(call.content_level, call.service or "")


def has_history(call: CallRecord) -> bool:
    """Return whether the messages of a call are the application's, all of them and unchanged."""
    is_whole = call.request.continues is None and call.request.conversation_id is None
    is_unchanged = not (call.redactions and any(note.what.startswith(BODIES) for note in call.redactions))
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
    if (container := container_of_request(call)) is not None:
        kept.append(Joint(_key("container", container, scope)))
    if request.conversation_id is not None:
        kept.append(Joint(_key("conversation", f"{call.provider} {request.conversation_id}", scope), SHARED))
    return kept


def _kept_after(call: CallRecord, scope: bytes) -> Iterator[Joint]:
    request, response = call.request, call.response
    if request.conversation_id is not None:
        yield Joint(_key("conversation", f"{call.provider} {request.conversation_id}", scope), SHARED)
    if response is None:
        return
    is_kept = call.api in _KEEPS_RESPONSES or request.continues is not None or request.conversation_id is not None
    if response.id and is_kept:
        yield Joint(_key("response", response.id, scope))
    if (container := container_of_answer(call)) is not None:
        yield Joint(_key("container", container, scope))


def _of_tool(part: ToolCall, scope: bytes, *, is_masked: bool) -> Joint | None:
    if part.id is None or not is_tool_call_id(part.id, part.name, is_masked=is_masked):
        return None
    return Joint(_key("tool", part.id, scope), _arguments(part))


def _arguments(part: ToolCall) -> int:
    return _number([part.name, parse_arguments(part.arguments or "{}")])


def _mentions(messages: Iterable[Message], scope: bytes) -> list[Joint]:
    """Return the joints of the words in texts that may be ids of tool calls, the last first."""
    texts = [
        part.text for message in messages if message.role not in INSTRUCTION_ROLES
        for part in message.parts if isinstance(part, Text)
    ]  # fmt: skip
    return [Joint(_key("tool", word, scope), -1) for word in _words(reversed(texts))]


def _words(texts: Iterable[str]) -> list[str]:
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


def _instructions(conversation: Conversation) -> list[str]:
    messages = (message for message in conversation.input if message.role in INSTRUCTION_ROLES)
    parts = [*conversation.system, *(part for message in messages for part in message.parts)]
    return [part.text for part in parts if isinstance(part, Text)]


def _atom(role: str, part: Part) -> tuple[bool, list[object]] | None:
    """Return what a part is compared by, and whether the model said it; None if it does not count."""
    is_answer = role in _ANSWERING
    match part:
        case Text(text=text) | Refusal(text=text):
            text = text.strip()
            return (is_answer, [ANSWER if is_answer else _USER, text]) if text else None
        case Reasoning():
            return None
        case ToolCall():
            return True, [_CALL, part.name, parse_arguments(part.arguments or "{}")]
        case ToolResult():
            return False, ["result", _plain(part.content)]
        case Media():
            return is_answer, [_MEDIA, part.sha256 or part.url or part.file_id]
        case _:
            return is_answer, ["other", part.data]


def _base(call: CallRecord, user: object, instructions: Iterable[str]) -> str:
    """Return what two calls with one offer have in common besides their messages."""
    tenant = tenant_of(call) if call.metadata else None
    return f"{call.content_level} {call.service} {user} {tenant} {' '.join(map(_brief, instructions))}"


def _offer(base: str, last: Sequence[object], answer: Sequence[object]) -> int:
    """Return the offer of an answer, given the last part before it and its own first one."""
    kind, value, *_ = answer
    beginning = f"{value}"[:_MIN_CONTINUED] if kind in (ANSWER, _CALL) else ""
    text = f"{base} {last[0]} {_brief(last[1])} {kind} {beginning}"
    digest = blake2b(text.encode(errors="surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def _brief(value: object) -> str:
    """Return what tells most values from each other."""
    text = value if isinstance(value, str) else _encoded(value).decode(errors="replace")
    return text if len(text) <= 2 * _BRIEF else f"{text[:_BRIEF]} {len(text)} {text[-_BRIEF:]}"


def _chain(call: CallRecord, instructions: Sequence[str]) -> _Chain:
    """Return a conversation without messages."""
    user = call.user_id
    root = _hash(call.content_level, call.service, user, tenant_of(call), instructions)
    return _Chain(blake2b(root, digest_size=16), _base(call, user, instructions))


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
        if self.is_broken or (read := _atom(role, part)) is None:
            return None
        is_answer, atom = read
        if atom == _NO_MEDIA:
            self.is_broken = True
            return None
        joint = None
        if is_answer:
            if self.number and len(self._offers) < _MAX_OFFERS:
                self._offers += (_offer(self._base, self._last, atom),)
        else:
            self._offers = ()
        if is_answer and atom[0] == ANSWER and isinstance(text := atom[1], str):
            joint = Joint(self._digest(text[:_MIN_CONTINUED]), _proof_of(text), text, self._offers)
        self._hash.update(_encoded(atom))
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


def _plain(content: object) -> object:
    """Return the content of a tool's result without the form in which a wire carries it."""
    if isinstance(content, list) and len(content) == 1:
        content = content[0]
    if isinstance(content, dict) and isinstance(content.get("text"), str):
        return content["text"].strip()
    return content.strip() if isinstance(content, str) else content
