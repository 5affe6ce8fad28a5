"""Id hashes: what a call without content keeps of the ids that answers issue and requests bring back.

Stores join the calls of a run by them. No text is hashed. Ids that end with a counter, such as `call_1`, are left out:
other conversations have the same ones, and there are no arguments to compare.

The caller waits for this, so of a request only the last message with an id is parsed. An answer that issued several
is known by one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from hashlib import blake2b
from itertools import islice
from operator import attrgetter
from typing import Any, Final, TypeAlias

import msgspec
from msgspec.structs import replace

from callspan.record.apis import APIS, nested
from callspan.record.call import CallRecord, IdHashes
from callspan.record.codec import decoder_of_fields
from callspan.record.events import Record
from callspan.record.foreign_json import read_json
from callspan.record.messages import INSTRUCTION_ROLES, Message, Part, Reasoning, ToolCall, ToolResult
from callspan.runtime.forks import late_attribute

BODIES: Final = ("request.body", "response.body")
MAX_IDS: Final = 8
"""Ids of a kind that are sought, or offered: the last ones."""
HAVE_CONTAINERS: Final = frozenset({"messages", "invoke_model"})
"""APIs whose answers name the container in which code ran."""
_CONTAINER: Final = b'"container"'
_MIN_ID: Final = 9
_COUNTED: Final = re.compile(r"[^0-9]*[0-9]{1,6}")
_NUMBERED: Final = re.compile(r"(:[0-9]+)?")
"""What follows the tool's name, see `providers.named_calls`."""
_MIN_SEAL: Final = 31
_NO_SEAL: Final = "skip_thought"
"""Begins what clients send instead of a signature."""
_UNMASKED_ID: Final = re.compile(r"(?=.*[0-9])[A-Za-z0-9_\-.:]+")
_MAX_SEARCHED: Final = 64
"""Last messages of a request that are searched for ids."""
_MAX_PARSED: Final = 16
_WORDS_NEAR_IDS: Final = (b"tool", b"unction", b"call_id", b"ignature", b"encrypted")
_Ids: TypeAlias = tuple[Sequence[str], Sequence[str]]
"""Ids of tool calls, and seals."""
_NO_IDS: Final[_Ids] = [], []


def with_id_hashes(record: Record) -> Record:
    """Return a call outside of sessions with the hashes of its ids; the same object if it has none."""
    if not isinstance(record, CallRecord) or record.place.session_id is not None or record.is_first_version:
        return record
    endpoint = late_attribute("callspan.providers.registry:by_api")(record.api)
    fields: dict[str, Any] = {}
    if returned := _hashes(_read(_last_returned, record, endpoint), container_of_request(record)):
        fields["request"] = replace(record.request, returned=returned)
    if record.response and (issued := _hashes(_read(_answer, record, endpoint), container_of_answer(record))):
        fields["response"] = replace(record.response, issued=issued)
    return replace(record, **fields) if fields else record


def _read(read: Callable[[CallRecord, Any], _Ids], call: CallRecord, endpoint: Any) -> _Ids:
    """Return the ids in a body; none of a body that is not JSON, or of an API that callspan does not read."""
    if endpoint is None:
        return _NO_IDS
    try:
        return read(call, endpoint)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return _NO_IDS


def _last_returned(call: CallRecord, endpoint: Any) -> _Ids:
    """Return the ids of the last message in a request that has any, as results of tools or seals."""
    for name, element in islice(_last_messages(bytes(call.request.body), APIS[call.api].said), _MAX_PARSED):
        ids = _ids_in(endpoint.conversation(nested(name, [msgspec.json.decode(element)]), None).input, ToolResult)
        if ids != _NO_IDS:
            return ids
    return _NO_IDS


def _last_messages(body: bytes, names: tuple[str, ...]) -> Iterator[tuple[str, bytes]]:
    """Yield the last messages in these fields that may have ids, the last first, with the name of the field."""
    if not body:
        return
    fields = decoder_of_fields(names, msgspec.Raw).decode(body)
    for name in reversed(names):
        elements = attrgetter(name)(fields)
        for element in reversed(elements[-_MAX_SEARCHED:]) if isinstance(elements, list) else ():
            json = bytes(element)
            if _may_have_ids(json):
                yield name, json


def _answer(call: CallRecord, endpoint: Any) -> _Ids:
    """Return the ids of an answer."""
    body = b"" if call.response is None else bytes(call.response.body)
    if not _may_have_ids(body):
        return _NO_IDS
    return _ids_in(endpoint.conversation(None, msgspec.json.decode(body)).output, ToolCall)


def _may_have_ids(json: bytes) -> bool:
    return any(word in json for word in _WORDS_NEAR_IDS)


def container_of_request(call: CallRecord) -> str | None:
    """Return the id of the container that a request names."""
    container = call.request.params.get("container") if call.request.params else None
    if isinstance(container, dict):
        container = container.get("id")
    return container if isinstance(container, str) and container else None


def container_of_answer(call: CallRecord) -> str | None:
    """Return the id of the container that an answer names."""
    if call.response is None or call.api not in HAVE_CONTAINERS or _CONTAINER not in bytes(call.response.body):
        return None
    reading = read_json(bytes(call.response.body))
    container = reading.value.get("container") if reading is not None and isinstance(reading.value, dict) else None
    ident = container.get("id") if isinstance(container, dict) else None
    return ident if isinstance(ident, str) else None


def is_masked(call: CallRecord) -> bool:
    """Return whether a redactor changed a body."""
    return any(note.why == "redactor" and note.what.startswith(BODIES) for note in call.redactions)


def is_tool_call_id(ident: str | None, name: str | None, *, is_masked: bool) -> bool:
    """Return whether a tool call's id is one: its name, maybe with a number, stands there if an API has none.

    A redactor may mask it, too.
    """
    if not ident or (name and ident.startswith(name) and _NUMBERED.fullmatch(ident, len(name))):
        return False
    return not is_masked or _UNMASKED_ID.fullmatch(ident) is not None


def seals_in(part: Part) -> Iterator[str]:
    """Yield the signatures and the encrypted reasoning of a part."""
    if isinstance(part, Reasoning):
        seals: Iterable[str | None] = (part.signature, part.sealed)
    else:
        seals = _signatures(part.extra) if isinstance(part, ToolCall) and part.extra else ()
    for seal in seals:
        if seal and len(seal) >= _MIN_SEAL and _NO_SEAL not in seal:
            yield seal


def _signatures(value: object, depth: int = 4) -> Iterator[str]:
    if isinstance(value, dict) and depth:
        for name, inner in value.items():
            if isinstance(inner, str) and "ignature" in str(name):
                yield inner
            else:
                yield from _signatures(inner, depth - 1)


def _ids_in(messages: Iterable[Message], kind: type[ToolCall | ToolResult]) -> _Ids:
    """Return the ids of tool calls that the parts of a kind have, and the seals, the last first."""
    tools, seals = dict[str, None](), dict[str, None]()
    for message in messages:
        for part in message.parts if message.role not in INSTRUCTION_ROLES else ():
            if isinstance(part, kind) and part.id and is_unique(part.id, part):
                tools[part.id] = None
            if type(part) is Reasoning or type(part) is ToolCall:
                seals.update(dict.fromkeys(seals_in(part)))
    return [*tools][::-1][:MAX_IDS], [*seals][::-1][:MAX_IDS]


def is_unique(ident: str, part: ToolCall | ToolResult) -> bool:
    """Return whether no other conversation is likely to have the id of a tool call that the application answers."""
    if isinstance(part, ToolCall) and not (
        part.is_of_application and is_tool_call_id(ident, part.name, is_masked=False)
    ):
        return False
    return len(ident) >= _MIN_ID and _UNMASKED_ID.fullmatch(ident) is not None and _COUNTED.fullmatch(ident) is None


def _hashes(ids: _Ids, container: str | None) -> IdHashes | None:
    tools, seals = ids
    if not tools and not seals and container is None:
        return None
    return IdHashes(
        tools=[_hash("tool", ident) for ident in tools],
        seals=[_hash("seal", seal) for seal in seals],
        containers=[] if container is None else [_hash("container", container)],
    )


def _hash(kind: str, ident: str) -> int:
    """Return a hash that every reader of JSON has exactly."""
    digest = blake2b(f"{kind} {ident}".encode(errors="surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 12
