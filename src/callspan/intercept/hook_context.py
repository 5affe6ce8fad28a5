"""Hook context: the state that the hooks share. If it is empty, every hook passes its call through."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from opentelemetry import context as otel_context
from opentelemetry.context import Context
from opentelemetry.instrumentation.utils import is_instrumentation_enabled

from callspan.agent.context import content_of, stricter
from callspan.background import AtomicFlag
from callspan.intercept import other_instrumentations
from callspan.observe.deferred_ends import DeferredEnds
from callspan.observe.factory import CallFactory
from callspan.observe.live_call import LiveCall
from callspan.settings import Content, Native


def _nothing() -> None:
    """Stand in where nothing is instrumented."""


def not_counted(path: str) -> None:
    """Stand in where nothing is instrumented."""


class HookContext:
    """The link from the hooks to the rest; one per process, safe from any thread."""

    def __init__(self) -> None:
        self.factories: Mapping[Content, CallFactory] = {}
        """What starts calls under each content setting; empty: not instrumented, calls go straight through."""
        self.content: Content = "full"
        """The setting in force, unless a block sets a stricter one."""
        self.propagate = False
        """W3C `traceparent` on provider requests."""
        self.stream_usage = False
        """Request the usage of chat streams, see `stream_readers.request_usage`."""
        self.native: Native = "replace"
        """What becomes of the spans the anthropic SDK makes itself."""
        self.looked_around = False
        """Whether other instrumentations have been looked for since the last `instrument()`."""
        self.missing: set[tuple[str, str]] = set()
        """SDK and name of what could not be hooked; see `lacks`."""
        self.deferred_ends = DeferredEnds()
        self.prepare: Callable[[], object] = _nothing
        """Imports what calls will need in addition to the adapters of their SDK; called when one is patched."""
        self.unknown_posts = AtomicFlag()
        """Set by the first observed POST to a path without an adapter; until then, no other response is looked at."""
        self.unrecorded: Callable[[str], object] = not_counted
        """Takes the path of each call that is, or may be, inference and leaves no record, see `unrecorded`."""

    def factory(self) -> CallFactory | None:
        """Return what starts a call made here and now; None: it is not observed, as where that is suppressed."""
        context = otel_context.get_current()
        # An empty context cannot hold the key that suppresses instrumentation.
        if context and not is_instrumentation_enabled():
            return None
        requested = content_of(context)
        return self.factories.get(self.content if requested is None else stricter(self.content, requested))

    def lacks(self, sdk: str | None, name: str) -> bool:
        """Return whether a name could not be hooked in the SDK (`openai/1.2.3`): the caller takes another way."""
        return bool(self.missing) and ((sdk or "").partition("/")[0], name) in self.missing

    def look_around(self) -> None:
        """Warn of other instrumentations, with the first call: by then they are in place."""
        self.looked_around = True
        other_instrumentations.warn_once(other_instrumentations.found())

    @staticmethod
    def context_of(call: LiveCall, current: Context) -> Context:
        """Return the context `current` with the call's span in it."""
        within = getattr(call.span, "within", None)
        return current if within is None else within(current)
