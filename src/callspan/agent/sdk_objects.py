"""SDK objects: where the objects and dicts of SDKs state the provider's ids, and a tool call its name and arguments.

A new SDK has a row here, and one in `tests/sessions/test_sdk_objects.py`. Objects of other code (frameworks, JSON) may
state an id of anybody: they are a call only if this process knows one with that id.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from functools import partial
from itertools import chain
from typing import Any, Final, TypeAlias
from uuid import UUID

from callspan.agent.arguments import as_text
from callspan.runtime.fail_open import value_of

Path: TypeAlias = tuple[str, ...]
"""Attributes of an object, or keys of a dict, from the outermost to the innermost."""

MAX_ID_LENGTH: Final = 200
_GENERATED: Final[tuple[Path, ...]] = (("id",), ("_request_id",), ("response", "id"), ("message", "id"))
"""Answers and chunks, and the events of Responses and Messages that have the answer."""
_RESPONSE_IDS: Final[Mapping[str, tuple[Path, ...]]] = {
    **dict.fromkeys(("openai", "anthropic", "groq", "together", "fireworks", "cerebras"), _GENERATED),
    "google": (("response_id",), ("id",), ("interaction", "id")),
    "mistralai": (("id",), ("data", "id")),
    "cohere": (
        ("response_id",), ("generation_id",), ("id",), ("response", "response_id"), ("response", "generation_id"),
    ),
    "huggingface_hub": (("id",),),
}  # fmt: skip
"""Where the objects of each SDK state the provider's id of their answer or request, by its package."""
_REQUEST_ID: Final[Path] = ("ResponseMetadata", "RequestId")
"""In the dicts of botocore."""
_ANYWHERE: Final = tuple(
    dict.fromkeys((_REQUEST_ID, *chain.from_iterable(_RESPONSE_IDS.values()), ("responseId",)))
)  # fmt: skip
_TIMES: Final[tuple[Path, ...]] = (("created",), ("created_at",))
_TOOL_CALL_IN: Final[tuple[Path, ...]] = (("toolUse",), ("functionCall",), ("function_call",))
"""Parts of an answer that hold a tool call."""
_TOOL_CALL_PATHS: Final[Mapping[str, tuple[Path, ...]]] = {
    "id": (("call_id",), ("id",), ("toolUseId",)),
    "name": (("name",), ("function", "name"), ("custom", "name")),
    "arguments": (
        ("arguments",), ("input",), ("args",), ("parameters",), ("action",), ("actions",), ("operation",),
        ("function", "arguments"), ("custom", "input"),
    ),
}  # fmt: skip
"""Fields of a tool call: items and blocks, chat tool calls, the calls of Gemini and Cohere."""
_TOOL_TYPES: Final = ("call", "tool_use")
"""Endings of the types of tool calls without a name."""
_ABSENT: Final = object()


def response_ids(of: object) -> Iterator[tuple[str, object]]:
    """Yield the ids that an object may state of an answer or request, each with the time of the answer, if stated."""
    created = next(filter(None, (at(of, path) for path in _TIMES)), None)
    for path in _RESPONSE_IDS.get(_package(of), _ANYWHERE):
        identity = at(of, path)
        if isinstance(identity, str) and identity:
            yield identity, created if len(path) == 1 else None


def request_id(of: object) -> str | None:
    """Return the request id that a dict of botocore states; None for any other object."""
    identity = at(of, _REQUEST_ID) if isinstance(of, dict) else None
    return identity if isinstance(identity, str) and identity else None


def providers_id(of: object) -> str | None:
    """Return the provider's id in an SDK's object, even if this process does not know the call.

    None for other objects, because their ids may be made up.
    """
    if _package(of) not in _RESPONSE_IDS:
        return None
    return next((text for identity, _ in response_ids(of) if (text := id_text(identity)) is not None), None)


def tool_call_in(of: object) -> object:
    """Return the tool call that an object or dict is, or holds as its only one; None for other objects."""
    for path in _TOOL_CALL_IN:
        inner = at(of, path)
        if inner is not None:
            of = inner
            break
    if isinstance(tool_call_field(of, "name"), str):
        return of if _identity(of) is not None or _has(of, "arguments") else None
    kind = member(of, "type")
    return of if isinstance(kind, str) and kind.endswith(_TOOL_TYPES) and _identity(of) is not None else None


def tool_call_field(call: object, field: str) -> object:
    """Return the `id`, `name` or `arguments` of a provider's tool call (an object or dict), or None."""
    for path in () if call is None else _TOOL_CALL_PATHS[field]:
        value = at(call, path)
        if value is not None:
            return value
    return None


def _identity(call: object) -> str | None:
    stated = tool_call_field(call, "id")
    return id_text(stated) if isinstance(stated, str | UUID) else None


def _has(call: object, field: str) -> bool:
    """Return whether a tool call has a field, which may be null."""
    return any(member(at(call, path[:-1]), path[-1], _ABSENT) is not _ABSENT for path in _TOOL_CALL_PATHS[field])


def id_text(value: object) -> str | None:
    """Return an id as text; None if it cannot be one: no text, integer or UUID, blank, of several lines, too long."""
    if isinstance(value, bool) or not isinstance(value, str | int | UUID):
        return None
    text = as_text(value)
    is_id = text is not None and text.strip() and len(text) <= MAX_ID_LENGTH and "\n" not in text
    return text if is_id else None


def at(of: object, path: Path) -> object:
    """Return what is at a path of an object or dict; None if there is nothing."""
    return functools.reduce(member, path, of)


def member(value: object, name: str, default: object = None) -> object:
    """Return an attribute of an object or an item of a dict; None if reading it raises an exception."""
    if value is None or isinstance(value, str):
        return default
    read: Any = value.get if isinstance(value, Mapping) else partial(getattr, value)
    return value_of(partial(read, name, default))


def _package(of: object) -> str:
    module: object = type(of).__module__
    return module.partition(".")[0] if isinstance(module, str) else ""
