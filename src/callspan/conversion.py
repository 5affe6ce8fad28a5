"""Conversion: plain values to structs, on any thread and in any forked child.

msgspec reads the fields of a type when they are first needed, and the type seems ready meanwhile: a thread that comes
in between, or a child that is forked then, crashes. So no type is first needed by a call: converters and decoders are
made where their module is imported.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TypeVar

import msgspec

from callspan.forks import LATE_IMPORTS

_T = TypeVar("_T")


def converter(kind: type[_T], *, strict: bool = True) -> Callable[[object], _T]:
    """Return the function from dicts, lists and scalars to a `kind`; it raises msgspec.ValidationError.

    `strict` False: texts that are numbers are taken for them.
    """
    with LATE_IMPORTS:
        msgspec.json.Decoder(kind)
    return partial(msgspec.convert, type=kind, strict=strict)
