"""Descriptions: the observable properties of a value or exception, as JSON that two processes can compare."""

from __future__ import annotations

import re
from types import ModuleType
from typing import Any

_ADDRESS = re.compile(r"0x[0-9a-fA-F]{6,}")
_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_PORT = re.compile(r"127\.0\.0\.1:\d+")
_DEEPEST = 8
_OF_ERRORS = ("status_code", "body", "code", "param", "type", "request_id", "message")
_SCALARS = (str, int, float, bool, bytes, type(None))


def text(value: object) -> str:
    """Return a representation without addresses and random ids; what raises in it is said instead."""
    try:
        shown = repr(value)
    except Exception as error:  # noqa: BLE001 - whatever the SDK raises is compared too
        shown = f"<repr: {type(error).__name__}: {error}>"
    return _comparable(shown)


def _comparable(text: str) -> str:
    return _PORT.sub("127.0.0.1:0", _ID.sub("<id>", _ADDRESS.sub("0x", text)))


def name_of(kind: type) -> str:
    """Return the full name of a class."""
    return f"{kind.__module__}.{kind.__qualname__}"


def value(found: object) -> object:
    """Return what can be seen of a result, a chunk or an item."""
    if isinstance(found, _SCALARS):
        return [type(found).__name__, text(found)]
    seen: list[object] = [name_of(type(found)), text(found)]
    for method in ("model_dump", "to_dict"):
        dump = getattr(found, method, None)
        if callable(dump):
            seen.append([method, _called(dump)])
            break
    if hasattr(found, "_request_id"):
        seen.append(["request id", text(getattr(found, "_request_id", None))])
    if hasattr(found, "model_fields_set"):
        seen.append(["set", text(sorted(found.model_fields_set))])
    if hasattr(found, "status_code") and hasattr(found, "headers"):
        seen.append(["http", text(found.status_code), text(list(_items(found.headers)))])
    return seen


def _items(headers: Any) -> Any:
    return getattr(headers, "multi_items", headers.items)()


def _called(function: Any) -> str:
    try:
        return text(function())
    except Exception as error:  # noqa: BLE001 - an SDK model may refuse to be dumped
        return f"<{type(error).__name__}: {text(error)}>"


def error(raised: BaseException | None, depth: int = 0) -> object:
    """Return what can be seen of an exception with its causes and contexts, and where each came from outside us."""
    if raised is None:
        return None
    if depth > _DEEPEST:
        return "deeper"
    return {
        "type": name_of(type(raised)),
        "said": _comparable(_message_of(raised)),
        "args": [text(one) for one in raised.args],
        "has": {name: text(getattr(raised, name)) for name in _OF_ERRORS if hasattr(raised, name)},
        "notes": [text(note) for note in getattr(raised, "__notes__", ())],
        "hides context": raised.__suppress_context__,
        "cause": error(raised.__cause__, depth + 1),
        "context": error(raised.__context__, depth + 1),
    }


def _message_of(raised: BaseException) -> str:
    try:
        return str(raised)
    except Exception as failed:  # noqa: BLE001 - some exceptions cannot say what they are
        return f"<{type(failed).__name__}>"


def http_of(base: Any) -> ModuleType:
    """Return the HTTP library an SDK is built on, by its `_base_client`."""
    library: ModuleType = getattr(base, "httpx2", None) or base.httpx
    return library
