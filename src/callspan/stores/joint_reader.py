"""Joint reader: reads the joints of calls that are being written from what is parsed to store them.

Most calls outside of sessions are single ones, and hashing whole histories is dear. A call whose request has no answer
and no id has only its offer; what else it offers is read from its stored bodies once a request has this offer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from hashlib import blake2b
from typing import Final

from callspan.joining.joints import (
    KEEPS_RESPONSES,
    NO_IDS,
    NONE_SOUGHT,
    NOTHING,
    Joint,
    Joints,
    Read,
    RequestJoints,
    base_of,
    digest_of,
    has_history,
    issued_by,
    joints_of,
    kept_by,
    key_of,
    offer_of,
    parsed,
    scope_of,
    words_in,
)
from callspan.joining.same_message import ANSWER, ANSWERING, NO_MEDIA, USER, atom_of
from callspan.record.apis import APIS, OTHER
from callspan.record.call import CallRecord, JoinedBy
from callspan.record.id_hashes import HAVE_CONTAINERS, container_of_request, is_masked
from callspan.record.labels import tenant_of
from callspan.record.messages import INSTRUCTION_ROLES, Message, Part, Reasoning, Text, ToolCall, ToolResult
from callspan.stores.tables.bodies import Parts, Piece, messages_of, read, repeats
from callspan.stores.tables.payloads import PreparedCall

_MAX_NEW: Final = 16
"""Messages that a request may have more than a known one that it begins with."""
_MAX_SEARCHED: Final = 2_000
"""Last characters of each text of a single call that are searched for ids."""
_INSTRUCTIONS: Final = "instructions"
_ISSUING: Final = KEEPS_RESPONSES | HAVE_CONTAINERS
_MODEL: Final = (b'"assistant"', b'"model"')


class JointReader:
    """Reads the joints of calls. Of a request that begins as an earlier one did, only the rest is parsed.

    It keeps hashes of the latest requests, and the texts of few answers.
    """

    def __init__(self, max_requests: int = 500) -> None:
        """`max_requests`: how many requests are remembered."""
        self._max_requests = max_requests
        self._requests: dict[bytes, RequestJoints] = {}

    def joints(self, call: CallRecord, prepared: PreparedCall) -> Joints:
        """Return the joints of a call with these bodies in parts, without histories that are hardly needed."""
        if call.place.session_id is None and not call.is_first_version:
            if (single := _single(call, prepared)) is not None:
                return single
            return joints_of(call, partial(self._read, prepared))
        return NOTHING

    def _read(self, prepared: PreparedCall, call: CallRecord, scope: bytes) -> Read:
        """Return what the request says, and the messages of the answer."""
        parts = prepared.request
        seed = _seed(call, parts, scope)
        if seed is None or parts is None:
            return parsed(call, scope)
        hashes = [piece.hash for piece in parts.history]
        known = self._longest(seed, hashes)
        read = None if known is None else _continued(prepared, parts.history[known[1] :], known[0], call.api)
        request, output = parsed(call, scope) if read is None else read
        if request is not None:
            self._requests[_prefix(seed, hashes, len(hashes))] = request
            if len(self._requests) > self._max_requests:
                del self._requests[next(iter(self._requests))]
        return request, output

    def _longest(self, seed: bytes, hashes: Sequence[bytes]) -> tuple[RequestJoints, int] | None:
        """Return the longest known request that this one begins with, and the number of its messages."""
        for number in range(len(hashes) - 1, max(0, len(hashes) - _MAX_NEW), -1):
            if (request := self._requests.get(_prefix(seed, hashes, number))) is not None:
                return request, number
        return None


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
    words = words_in(reversed(asked.texts))
    parts = output[0].parts if output else ()
    if not words and call.api not in _ISSUING and all(type(part) is Text for part in parts):
        return Joints((), NO_IDS, NONE_SOUGHT, (), 0, offers)
    scope = scope_of(call)
    ids, tools = issued_by(output, scope, is_masked=False)
    mentioned = [Joint(key_of("tool", word, scope), -1) for word in words]
    kept, offered = kept_by(call, scope)
    sought: Mapping[JoinedBy, Sequence[Joint]] = {"kept": kept} if kept else NONE_SOUGHT
    return Joints([*offered, *ids], tools, sought, mentioned, 0, offers)


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
        if isinstance(part, ToolCall | ToolResult | Reasoning) or role in ANSWERING:
            return False
        if role not in INSTRUCTION_ROLES and (atom := atom_of(role, part)) is not None:
            self._last = atom[1]
        return True

    def _adds_text(self, role: str, text: str) -> bool:
        if role == USER or not (role in INSTRUCTION_ROLES or role in ANSWERING):
            if said := text.strip():
                self.texts.append(said[-_MAX_SEARCHED:])
                self._last = [USER, said]
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
            if (atom := atom_of(ANSWER, part)) is not None:
                if NO_MEDIA in (self._last, atom[1]):
                    break
                return (offer_of(base_of(call, user, self._instructions), self._last, atom[1]),)
        return ()


def _prefix(seed: bytes, hashes: Sequence[bytes], number: int) -> bytes:
    return blake2b(seed + b"".join(hashes[:number]), digest_size=16).digest()


def _seed(call: CallRecord, parts: Parts | None, scope: bytes) -> bytes | None:
    """Return what two requests have in common besides their messages; None if they cannot be compared by parts."""
    if parts is None or not parts.field or any(position >= 0 for position, _ in parts.others):
        return None
    instructions = [piece.hash for position, piece in parts.others if position == -1]
    return digest_of(
        scope, call.api, call.user_id, tenant_of(call.metadata), has_history(call), is_masked(call), len(instructions)
    ) + b"".join(instructions)


def _continued(prepared: PreparedCall, history: Sequence[Piece], known: RequestJoints, api: str) -> Read | None:
    """Return the same as `parsed`, given what the messages before this part of the history say.

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
