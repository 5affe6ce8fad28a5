"""Hook rows: one function of an SDK or library, with its replacement, for the tables of hooks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

import msgspec

from callspan.intercept.hooks import Function, Reads


class Hook(msgspec.Struct, frozen=True):
    """One function and its replacement."""

    attribute: str
    targets: tuple[str, ...]
    """Each `module:Class` with the method, in every SDK and HTTP library; `module` for a function."""
    make: Callable[..., Function]
    """Creates the replacement of the original; see `HookSteps.around`."""
    without: str
    """The loss if the name is missing."""
    keep_while_streaming: bool = True
    """Left in place when callspan is switched off, for the calls in progress."""
    in_code: bool = False
    """Put into the code of the function, which other libraries wrap, instead of in its place; see `CodeHook`."""
    reads: Reads = {}
    """Parameters that the hook reads; the first is passed to `before` wherever the caller puts it."""
    is_async: bool = False
    """Whether the function returns an awaitable, even if it is no coroutine function."""
    late: bool = False
    """Whether the SDK imports the module on first use."""
    is_public: bool = False
    """Whether applications call it: wrong arguments of an async function then raise when it is called."""
    with_: str = ""
    """Expected only if the class also has this name, because older versions lack both."""


_SYNC: Final = {"Sync": "Sync", "Async": "", "sync": "sync", "a": "", "io": "sync"}
_ASYNC: Final = {"Sync": "Async", "Async": "Async", "sync": "async", "a": "a", "io": "asyncio"}


def both(
    attribute: str, targets: tuple[str, ...], make: Callable[..., Function], without: str, *, awaits: bool = False,
    **fields: Any,
) -> Iterator[Hook]:  # fmt: skip
    """Yield the hooks of a sync and an async class; `awaits`: the async function returns an awaitable."""
    for words in (_SYNC, _ASYNC):
        formatted, is_async = tuple(target.format(**words) for target in targets), awaits and words is _ASYNC
        yield Hook(attribute.format(**words), formatted, make, without.format(**words), is_async=is_async, **fields)
