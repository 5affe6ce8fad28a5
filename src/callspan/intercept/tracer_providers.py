"""Tracer providers: whichever an application uses, also one that it sets up after `instrument()`, tells of its spans.

Each tracer comes from `get_tracer` of its provider, also that of a placeholder until the application sets the global
provider. So the hook is there, and the provider gets the processor before it has a tracer.
"""

from __future__ import annotations

from typing import Any, Final

from opentelemetry.sdk.trace import TracerProvider

from callspan.agent.adopted import AGENT_SPANS
from callspan.intercept.hooks import Function, HookSteps
from callspan.runtime.fail_open import fail_open

_STEP: Final = fail_open("watch the spans of a tracer provider")
_METHOD: Final = "get_tracer"
_hooked: Final[list[tuple[Function, Function]]] = []
"""The original method and its replacement; empty unless it is hooked."""


def apply() -> None:
    """Hook the providers of OpenTelemetry's SDK."""
    if not _hooked:
        original = getattr(TracerProvider, _METHOD)
        hooked = HookSteps(step=_STEP, before=_before).around(original)
        _hooked.append((original, hooked))
        setattr(TracerProvider, _METHOD, hooked)


def undo() -> None:
    """Restore the method, unless other code has wrapped it: then it passes everything through."""
    if _hooked and getattr(TracerProvider, _METHOD) is _hooked[0][1]:
        setattr(TracerProvider, _METHOD, _hooked.pop()[0])


def _before(_args: object, provider: Any, _kwargs: object) -> None:
    if AGENT_SPANS.is_on:
        AGENT_SPANS.attach(provider)
