"""Engine: what the hooks share while callspan is on; emptied, every hook lets its call straight through."""

from __future__ import annotations

from typing import Protocol

from opentelemetry import context as otel_context
from opentelemetry.context import Context
from opentelemetry.instrumentation.utils import is_instrumentation_enabled

from callspan.config import Native
from callspan.intercept.native_tracing import StartWith
from callspan.observe.factory import CallFactory
from callspan.observe.late_ends import LateEnds
from callspan.observe.live_call import LiveCall


class Contextual(Protocol):
    """A span handle that can be made the current span."""

    def within(self, context: Context) -> Context:
        """Return `context` with this span as the current one."""


class Engine:
    """The link from the hooks to the rest; one per process, safe from any thread."""

    def __init__(self) -> None:
        self.factory: CallFactory | None = None
        """None: not instrumented; calls go straight through."""
        self.propagate = False
        """W3C `traceparent` on provider requests."""
        self.native: Native = "replace"
        """What becomes of the spans the anthropic SDK makes itself."""
        self.start_with: StartWith | None = None
        """Starts the span of a call with another tracer; needed to enrich the SDK's own span."""
        self.late_ends = LateEnds()

    @staticmethod
    def suppressed() -> bool:
        """True where the application asked for no instrumentation in the current context."""
        return not is_instrumentation_enabled()

    @staticmethod
    def context_of(call: LiveCall) -> Context:
        """Return the current context with the call's span in it."""
        current = otel_context.get_current()
        within = getattr(call.span, "within", None)
        return current if within is None else within(current)
