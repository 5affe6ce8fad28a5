"""Captured originals: wrappers of others, on subclasses, that hold an SDK's original from before it was patched.

OpenInference wraps `OpenAI.request`, which is inherited: whoever calls it would reach the original behind our back.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from callspan import private_names as names

_DEEPEST: Final = 16


def hand_over(owner: type, attribute: str, original: Any, replacement: Any) -> None:  # noqa: ANN401 - any callable
    """Put `replacement` in the place of `original` in every wrapper on a subclass of `owner` that holds it."""
    for wrapper in _wrappers(owner, attribute):
        for _ in range(_DEEPEST):
            inner = getattr(wrapper, "__wrapped__", None)
            if inner is None:
                break
            if inner is original:
                wrapper.__wrapped__ = replacement
                break
            wrapper = inner  # noqa: PLW2901 - one layer deeper


def _wrappers(owner: type, attribute: str) -> Iterator[Any]:
    subclasses: list[type] = type.__subclasses__(owner)
    for subclass in subclasses:
        found = vars(subclass).get(attribute)
        # A plain function is a subclass's own method, or a decorated one whose inner function nobody can exchange.
        if hasattr(found, names.SELF_WRAPPER.name):
            yield found
        yield from _wrappers(subclass, attribute)
