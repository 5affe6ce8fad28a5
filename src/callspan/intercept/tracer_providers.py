"""The global tracer provider: it tells of its spans also if an application sets it after `instrument()`.

An agent may begin before any model call, so the provider must have callspan's processor before its first span. The
hook is the one function through which every setter of OpenTelemetry's API goes, however it was imported.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from opentelemetry import trace

from callspan import private_names as names
from callspan.agent.adopted import AGENT_SPANS
from callspan.runtime.fail_open import fail_open

_STEP: Final = fail_open("watch the spans of the global tracer provider")
_NAME: Final = names.SET_TRACER_PROVIDER.name
_hooked: Final[list[tuple[Callable[..., Any], Callable[..., Any]]]] = []
"""The original function and its replacement; empty unless it is hooked."""


def apply() -> None:
    """Hook the setter of the global provider."""
    original = getattr(trace, _NAME, None)
    if original is None or _hooked:
        return

    def set_and_watch(*args: object, **kwargs: object) -> None:
        original(*args, **kwargs)
        with _STEP:
            AGENT_SPANS.attach_global()

    _hooked.append((original, set_and_watch))
    setattr(trace, _NAME, set_and_watch)


def undo() -> None:
    """Restore the function, unless other code has wrapped it: then it passes everything through."""
    if _hooked and getattr(trace, _NAME) is _hooked[0][1]:
        setattr(trace, _NAME, _hooked.pop()[0])
