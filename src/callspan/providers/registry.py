"""Registry: the adapters of all APIs, by method and path of a request, and by API of a record.

Adapters are imported when their SDK is patched, or else when first used: importing this module costs nothing.
"""

from __future__ import annotations

from functools import cache, lru_cache
from typing import Any, Final, cast

import msgspec

from callspan.providers import routes
from callspan.providers.base import Endpoint
from callspan.providers.sockets import SocketKind
from callspan.record.apis import APIS, Reader
from callspan.record.call import CallRecord
from callspan.record.foreign_json import read_json
from callspan.record.messages import Conversation
from callspan.runtime.forks import late_import
from callspan.sdk_profiles import Wire

_MAX_PATHS: Final = 128
_INVALID: Final = (msgspec.DecodeError, UnicodeError, RecursionError)

_SOCKETS: Final = {ending: reader for row in APIS.values() for ending, reader in row.sockets}
_ATTACH, _FORK = "attach", "fork"
"""Path endings of live sessions: a sideband of a session, and a new session that continues a stored one."""


@lru_cache(maxsize=_MAX_PATHS)
def endpoint_for(method: str, path: str) -> Endpoint | None:
    """Return the endpoint of a request, or None if it is not a call to a model.

    `path` is the logical path given to the SDK, see `routes.find`. Never raises.
    """
    route = routes.find(method, path)
    if route is None or route.path.kind != "call":
        return None
    return _endpoint(route.path.adapter)


def socket_kind(path: str, model: str | None = None, *, hashes_audio: bool = False) -> SocketKind | None:
    """Return a reader for the frames of a new websocket with this path and model; None for other paths."""
    reader, session_id = _socket_reader(path)
    if reader is None:
        return None
    kind: Any = _class(reader)
    return cast("SocketKind", kind(model, session_id, hashes_audio=hashes_audio))


def socket_wire(path: str) -> Wire | None:
    """Return the family of the API of websockets with this path; None for other paths."""
    reader, _ = _socket_reader(path)
    return None if reader is None else reader.partition(".")[0]


def _socket_reader(path: str) -> tuple[Reader | None, str | None]:
    """Return the reader of a path, if there is one, and the session that it attaches to."""
    segments = path.strip("/").split("/")
    session_id = segments[-2] if segments[-1] == _ATTACH else None
    if segments[-1] in (_ATTACH, _FORK):
        del segments[-2:]
    *before, last = segments or [""]
    segments = [*before, last.rpartition(".")[2]]
    reader = next((_SOCKETS[ending] for n in (2, 1) if (ending := "/".join(segments[-n:])) in _SOCKETS), None)
    return reader, session_id


def by_api(api: str) -> Endpoint | None:
    """Return the endpoint of that name (`CallRecord.api`), or None."""
    return _endpoint(api) if api in APIS else None


def load(wire: Wire) -> None:
    """Import the adapters of a family of APIs and everything that their first response requires."""
    late_import("email.utils")  # parses dates in headers
    for api in APIS:
        if wire_of(api) == wire:
            _endpoint(api)


def wire_of(api: str) -> Wire:
    """Return the family of an API that callspan reads. Raises KeyError for any other."""
    return APIS[api].family


def conversation_of(record: CallRecord) -> Conversation | None:
    """Return the messages of a call, parsed from its bodies.

    None if neither body was recorded or can be parsed, or the endpoint is unknown. Never raises.
    """
    endpoint = by_api(record.api)
    if endpoint is None:
        return None
    request = decoded(record.request.body)
    response = None if record.response is None else decoded(record.response.body)
    return None if request is None and response is None else endpoint.conversation(request, response)


def with_conversation(record: CallRecord) -> CallRecord:
    """Return the record with its conversation as a field of its own; unchanged if none can be parsed."""
    conversation = record.conversation
    return record if conversation is None else msgspec.structs.replace(record, conversation=conversation)


def decoded(body: msgspec.Raw | bytes | str | dict[str, Any] | list[Any] | None) -> object:
    """Return the parsed JSON of a body, as leniently as others write it (`read_json`); None if invalid. Never raises.

    A body that is plain JSON, as in the records that the application's functions get, is returned itself.
    """
    if body is None or isinstance(body, dict | list):
        return body
    data = body if isinstance(body, str) else bytes(body)
    if not data:
        return None
    try:
        return msgspec.json.decode(data)
    except _INVALID:
        reading = read_json(data)
        return None if reading is None else reading.value


def of_call(api: str, model: str | None) -> Endpoint | None:
    """Return the endpoint of that name for a call of a model, or None. Some models count in another way."""
    endpoint = by_api(api)
    return getattr(endpoint, "of_model", lambda _: endpoint)(model) if model and endpoint is not None else endpoint


@cache
def _endpoint(api: str) -> Endpoint:
    return cast("Endpoint", _class(APIS[api].adapter)(api))


def _class(reader: Reader) -> Any:
    module, _, name = reader.partition(":")
    return getattr(late_import(f"callspan.providers.{module}"), name)


def generic(api: str) -> Endpoint:
    """Return the reader for a path without an adapter; `api` is the path without ids."""
    return cast("Endpoint", late_import("callspan.providers.generic_body").GenericBody(api))


@cache
def fetch(api: str = "responses") -> Endpoint:
    """Return the endpoint of requests that fetch or cancel a background response of an API."""
    return cast("Endpoint", _class(APIS[api].fetch)(api))
