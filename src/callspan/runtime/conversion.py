"""Conversion: converts plain values to structs, on any thread and in any forked child.

msgspec reads the fields of a type on first use, and a thread that uses the type meanwhile, or a child that is forked
meanwhile, crashes. Converters and decoders are therefore created when their module is imported.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from functools import partial
from typing import TypeVar

import msgspec

from callspan.runtime.forks import LATE_IMPORTS, renew_locks

_T = TypeVar("_T")
_READING: threading.RLock = threading.RLock()
"""Held while msgspec reads the fields of a type. This runs no foreign code."""
renew_locks(sys.modules[__name__], "_READING")


def converter(kind: type[_T], *, strict: bool = True) -> Callable[[object], _T]:
    """Return a function that converts dicts, lists and scalars to a `kind`; it raises msgspec.ValidationError.

    Without `strict`, strings are converted to numbers where needed.
    """
    with LATE_IMPORTS, _READING:
        msgspec.json.Decoder(kind)
    return partial(msgspec.convert, type=kind, strict=strict)
