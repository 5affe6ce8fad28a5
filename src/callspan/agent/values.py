"""Values: total readers of what an application hands in; odd objects become None or text, nothing raises."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Protocol

from callspan.fail_open import value_of


class SupportsBool(Protocol):
    """A bool, also NumPy's; no text, whose truth is its length."""

    def __bool__(self) -> bool:
        """Return whether it is true."""


def as_float(value: object) -> float | None:
    """Return a reward as a float, also from NumPy and one-element tensors; None for what is no finite number."""
    if isinstance(value, str):
        return None
    read = value_of(partial(float, value))  # type: ignore[arg-type]
    return read if read is not None and math.isfinite(read) else None


def as_int(value: object) -> int | None:
    """Return a turn number as an int; None for what is none."""
    return value_of(partial(int, value)) if value is not None else None


def as_text(value: object) -> str | None:
    """Return a name or an id as text, whatever it was; None stays None."""
    return value if value is None or isinstance(value, str) else value_of(partial(str, value))


def as_bool(value: object) -> bool | None:
    """Return a flag as a bool, also from NumPy; None stays None."""
    return value if value is None or isinstance(value, bool) else value_of(partial(bool, value))


def as_dict(metadata: object) -> dict[str, object]:
    """Return metadata as a dict of its own, without None values; what is no mapping is under `metadata`."""
    if metadata is None:
        return {}
    if not isinstance(metadata, Mapping):
        return {"metadata": metadata}
    items: dict[object, object] = value_of(partial(dict, metadata)) or {}
    return {str(key): value for key, value in items.items() if value is not None}


def as_texts(values: Iterable[str] | str) -> list[str]:
    """Return ids as a list; a single one may come as text."""
    listed = [values] if isinstance(values, str) else value_of(partial(list, values)) or []
    return [value if isinstance(value, str) else as_text(value) or "" for value in listed]
