"""Hook context: the state shared by the hooks. If it is empty, every hook passes its call through."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from opentelemetry import context as otel_context
from opentelemetry.instrumentation.utils import is_instrumentation_enabled

from callspan.agent.context import content_of, stricter
from callspan.background import AtomicFlag
from callspan.intercept import other_instrumentations
from callspan.observe.deferred_ends import DeferredEnds
from callspan.observe.factory import CallFactory
from callspan.settings import Content, Native


def _nothing() -> None:
    """Placeholder if nothing is instrumented."""


def not_counted(path: str) -> None:
    """Placeholder if nothing is instrumented."""


class HookContext:
    """Connects the hooks with the rest of callspan; one per process, safe from any thread."""

    def __init__(self) -> None:
        self.factories: Mapping[Content, CallFactory] = {}
        """The call factory for each content setting; empty: not instrumented, calls pass straight through."""
        self.content: Content = "full"
        """The current content setting, unless a block sets a stricter one."""
        self.propagate = False
        """Whether to send W3C `traceparent` with provider requests."""
        self.stream_usage = False
        """Whether to request the usage of chat streams, see `stream_readers.request_usage`."""
        self.native: Native = "replace"
        """How to handle the spans the anthropic SDK creates itself."""
        self.looked_around = False
        """Whether other instrumentations were searched for since the last `instrument()`."""
        self.missing: set[tuple[str, str]] = set()
        """SDK and name of each function that could not be hooked; see `lacks`."""
        self.deferred_ends = DeferredEnds()
        self.prepare: Callable[[], object] = _nothing
        """Imports the modules that calls need besides the adapters of their SDK; called when an SDK is patched."""
        self.unknown_posts = AtomicFlag()
        """Set by the first observed POST to a path without an adapter; until then, no other response is looked at."""
        self.unrecorded: Callable[[str], object] = not_counted
        """Takes the path of each call that is, or may be, inference and leaves no record, see `unrecorded`."""

    def factory(self) -> CallFactory | None:
        """Return the factory for a call made now; None if the call must not be observed (suppressed, for example)."""
        context = otel_context.get_current()
        # An empty context holds no setting, and not the key that suppresses instrumentation either.
        if not context:
            return self.factories.get(self.content)
        if not is_instrumentation_enabled():
            return None
        requested = content_of(context)
        return self.factories.get(self.content if requested is None else stricter(self.content, requested))

    def lacks(self, sdk: str | None, name: str) -> bool:
        """Return whether a name could not be hooked in the SDK (`openai/1.2.3`), so that the caller uses a fallback."""
        return ((sdk or "").partition("/")[0], name) in self.missing

    def look_around(self) -> None:
        """Warn of other instrumentations at the first call, when they are in place."""
        self.looked_around = True
        other_instrumentations.warn_once(other_instrumentations.found())
