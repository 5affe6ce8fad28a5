"""Partial arguments: a stream states the arguments of a function call piece by piece, by their paths (RFC 9535)."""

from __future__ import annotations

import re
from typing import Any, Final

from callspan.providers.wire_json import Json, detached_object, mapping, objects, text

_STEP: Final = re.compile(r"""\.([^.\[\]]+)|\[(\d{1,4})\]|\['((?:[^'\\]|\\.)*)'\]|\["((?:[^"\\]|\\.)*)"\]""")
_ESCAPED: Final = re.compile(r"\\(.)")
_SCALARS: Final = ("numberValue", "boolValue", "nullValue")


def with_whole_arguments(function_call: Json) -> Json:
    """Return a function call with its arguments as an answer without a stream has them. It shares nothing."""
    whole = {key: value for key, value in detached_object(function_call).items() if key != "partialArgs"}
    arguments: Json = {**(mapping(whole, "args") or {})}
    for piece in objects(function_call, "partialArgs"):
        _put(arguments, _steps(text(piece, "jsonPath") or ""), piece)
    if whole.get("willContinue") is not True:
        whole.pop("willContinue", None)
    return {**whole, "args": arguments}


def _steps(path: str) -> list[str | int]:
    return [
        int(index) if index else _ESCAPED.sub(r"\1", name or single or double)
        for name, index, single, double in _STEP.findall(path)
    ]


def _put(arguments: Json, steps: list[str | int], piece: Json) -> None:
    """Put a value at its place, or a piece of a text behind what is there."""
    holder: Any = arguments
    for step, after in zip(steps, [*steps[1:], None], strict=False):
        if not _has_room(holder, step):
            return
        if after is None:
            holder[step] = _value(piece, holder[step])
            return
        if not isinstance(holder[step], dict | list):
            holder[step] = [] if isinstance(after, int) else {}
        holder = holder[step]


def _has_room(holder: Any, step: str | int) -> bool:
    """Make room for a step; return False if the path does not fit what is there."""
    if isinstance(holder, list) and isinstance(step, int):
        holder.extend([None] * (step + 1 - len(holder)))
        return True
    if isinstance(holder, dict) and isinstance(step, str):
        holder.setdefault(step, None)
        return True
    return False


def _value(piece: Json, current: object) -> object:
    words = text(piece, "stringValue")
    if words is not None:
        return current + words if isinstance(current, str) else words
    stated = next((piece[name] for name in _SCALARS if name in piece), current)
    return None if "nullValue" in piece else stated
