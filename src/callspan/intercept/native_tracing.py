"""Native tracing: the anthropic SDK (1.14 and later) opens a span per call itself; with ours there is still one.

Its span is made in `request` when `options.span_name` is set, by the client's own tracer. `replace` clears the
name, per call, for any client at any time, and shows on ours what only the SDK's would have said; `enrich` starts our
span with its tracer and gives it to the SDK as the one it asked for; `keep` lets it be made within ours. Other spans of
the SDK (tool runner, count_tokens) stay.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final, NamedTuple, TypeAlias

import msgspec
from opentelemetry import trace
from opentelemetry.trace import Span, SpanContext, Status, StatusCode, Tracer
from opentelemetry.util.types import Attributes, AttributeValue

from callspan import private_names as names
from callspan.config import Native
from callspan.fail_open import fail_open
from callspan.observe.factory import CallFactory, SpanHandle
from callspan.record.call import CallRecord
from callspan.semconv import anthropic
from callspan.semconv.call import CONVERSATION_ID

StartWith: TypeAlias = Callable[[CallRecord, Tracer], SpanHandle]
"""Starts the span of a call with a tracer that is not ours."""

_ARRANGE: Final = fail_open("settle who makes the span of a call")
_SHARE: Final = fail_open("share the span of a call with the anthropic SDK")
_SHOW: Final = fail_open("show what the anthropic SDK's own span would have said")
_ABOUT_ANSWER: Final = {
    b"anthropic-organization-id": anthropic.ORGANIZATION_ID,
    b"anthropic-workspace-id": anthropic.WORKSPACE_ID,
}
"""Response headers and the attributes they become."""
_SCALARS: Final = (str, bool, int, float)
_BEFORE: Final = 2
"""How many arguments come before the attributes, besides the name."""
_EXPECTED: Final[ContextVar[int | None]] = ContextVar("callspan_expected_native_span", default=None)
"""Id of our span that the SDK is about to ask for."""


class Arrangement(NamedTuple):
    """How one call is to be observed beside the SDK's own tracing."""

    factory: CallFactory
    inject: bool
    """Whether `traceparent` is for us to send."""
    replaced: Mapping[str, AttributeValue] | None = None
    """What the SDK's span would have begun with, where ours stands in its place."""


class Replaced:
    """The SDK's own span that ours stands in for: what no record knows of the exchange is shown on ours."""

    __slots__ = ("_asked", "_span")

    def __init__(self, span: Span, begun_with: Mapping[str, AttributeValue]) -> None:
        self._span = span
        self._asked = False
        with _SHOW:
            span.set_attributes(begun_with)

    def sending(self, request: Any) -> None:  # noqa: ANN401 - httpx or httpx2
        """Show where the first request goes: no credentials, no query."""
        if self._asked:
            return
        self._asked = True
        with _SHOW:
            url = request.url
            path = url.raw_path.partition(b"?")[0].decode("ascii")
            beta = request.headers.get("anthropic-beta", "")
            shown: dict[str, AttributeValue] = {
                anthropic.URL_SCHEME: url.scheme,
                anthropic.URL_PATH: path,
                anthropic.URL_FULL: f"{url.scheme}://{url.netloc.decode('ascii')}{path}",
            }
            if beta:
                shown[anthropic.BETA] = [name for part in beta.split(",") if (name := part.strip())]
            self._span.set_attributes(shown)

    def answered(self, response: Any) -> None:  # noqa: ANN401 - httpx or httpx2
        """Show whose key it was."""
        with _SHOW:
            for name, value in response.headers.raw:
                attribute = _ABOUT_ANSWER.get(name.lower())
                if attribute is not None:
                    self._span.set_attribute(attribute, value.decode("latin-1"))


def replaced_by(span: Span, arrangement: Arrangement, *, in_session: bool) -> Replaced | None:
    """Have `span` show what the SDK's own would; None where it stands in for none, or takes nothing.

    A session of ours is the conversation, whatever the client was told.
    """
    begun_with = arrangement.replaced
    if begun_with is None or not span.is_recording():
        return None
    if in_session:
        begun_with = {name: value for name, value in begun_with.items() if name != CONVERSATION_ID}
    return Replaced(span, begun_with)


def arrange(
    factory: CallFactory, client: Any, options: Any,  # noqa: ANN401 - of either SDK
    *, native: Native, propagate: bool, start_with: StartWith,
) -> Arrangement:  # fmt: skip
    """Settle who makes the span of this call; changes `options` where the SDK shall make none. Never raises."""
    ours = Arrangement(factory, propagate)
    with _ARRANGE:
        tracer = getattr(client, names.TRACER.name, None) if _is_named(options) else None
        if not isinstance(tracer, Tracer):
            return ours
        propagates = _propagates(client)
        if native == "replace":
            begun_with = _begun_with(client, options)
            setattr(options, names.SPAN_NAME.name, None)
            return Arrangement(factory, propagate or propagates, begun_with)
        if native == "enrich" and (real := _shared(client, tracer)) is not None:
            return Arrangement(msgspec.structs.replace(factory, start_span=_expecting(start_with, real)), inject=False)
        return Arrangement(factory, propagate and not propagates)
    return ours


def _is_named(options: object) -> bool:
    # A pydantic model that is asked for a field it lacks raises, with a message that costs more than a span.
    return getattr(options, "__dict__", {}).get(names.SPAN_NAME.name) is not None


def _propagates(client: object) -> bool:
    settings = getattr(client, names.OPEN_TELEMETRY.name, None)
    return bool(settings.get("propagation", False)) if isinstance(settings, dict) else False


def _begun_with(client: object, options: Any) -> dict[str, AttributeValue]:  # noqa: ANN401 - of the anthropic SDK
    found: dict[str, AttributeValue] = {anthropic.HTTP_METHOD: str(getattr(options, "method", "post")).upper()}
    with _SHOW:
        route = getattr(options, names.SPAN_ROUTE.name, None)
        if isinstance(route, str):
            found[anthropic.HTTP_ROUTE] = route
        of_method = getattr(options, names.SPAN_ATTRIBUTES.name, None)
        found |= _plain(of_method(options.json_data) if callable(of_method) else of_method)
        settings = getattr(client, names.OPEN_TELEMETRY.name, None)
        conversation = settings.get("conversation_id") if isinstance(settings, dict) else None
        if isinstance(conversation, str):
            found[CONVERSATION_ID] = conversation
    return found


def _plain(attributes: object) -> dict[str, AttributeValue]:
    """The attributes that OpenTelemetry takes. The SDK gives its `Omit` for what the caller did not say."""
    given = attributes.items() if isinstance(attributes, Mapping) else ()
    return {name: value for name, value in given if isinstance(name, str) and _is_plain(value)}


def _is_plain(value: object) -> bool:
    if isinstance(value, list | tuple):
        return all(isinstance(item, _SCALARS) for item in value)
    return isinstance(value, _SCALARS)


def _shared(client: Any, tracer: Tracer) -> Tracer | None:  # noqa: ANN401 - an anthropic client
    """Put a sharing tracer into the client, once; return the real one, or None where the client does not take it."""
    if isinstance(tracer, SharingTracer):
        return tracer.real
    sharing = SharingTracer(tracer)
    setattr(client, names.LAZY_TRACER.name, sharing)
    if getattr(client, names.TRACER.name, None) is sharing:
        return tracer
    delattr(client, names.LAZY_TRACER.name)
    return None


def _expecting(start_with: StartWith, tracer: Tracer) -> Callable[[CallRecord], SpanHandle]:
    def start(record: CallRecord) -> SpanHandle:
        handle = start_with(record, tracer)
        _EXPECTED.set(int(handle.span_id, 16) if handle.span_id is not None else None)
        return handle

    return start


class SharingTracer(Tracer):
    """The SDK's tracer, but for the one span that is made already: that is shared."""

    def __init__(self, real: Tracer) -> None:
        self.real = real

    def start_span(self, name: str, *args: Any, **kwargs: Any) -> Span:  # noqa: ANN401 - the real one's
        """Return our span of the call that is being made, under the SDK's name, else a new one."""
        with _SHARE:
            current = trace.get_current_span()
            if _EXPECTED.get() == current.get_span_context().span_id:
                _EXPECTED.set(None)
                shared = SharedSpan(current)
                shared.update_name(name)
                shared.set_attributes(_plain(kwargs.get("attributes", args[2] if len(args) > _BEFORE else None)))
                return shared
        return self.real.start_span(name, *args, **kwargs)

    @contextmanager
    def _current(self, *args: Any, **kwargs: Any) -> Iterator[Span]:  # noqa: ANN401 - the real one's
        with self.real.start_as_current_span(*args, **kwargs) as span:
            yield span

    start_as_current_span = _current  # type: ignore[assignment] # of whatever arguments the real one takes


class SharedSpan(Span):
    """Our span as the SDK sees it: what it says goes there, only the end is ours."""

    def __init__(self, span: Span) -> None:
        self._span = span
        self._over = False

    def end(self, end_time: int | None = None) -> None:
        """Take no more from the SDK."""
        del end_time
        self._over = True

    def is_recording(self) -> bool:
        """Return whether the SDK may still say something."""
        return not self._over and self._span.is_recording()

    def get_span_context(self) -> SpanContext:
        """Return the context of our span."""
        return self._span.get_span_context()

    def set_attributes(self, attributes: Mapping[str, AttributeValue]) -> None:
        """Set them on our span."""
        self._span.set_attributes(_plain(attributes))

    def set_attribute(self, key: str, value: AttributeValue) -> None:
        """Set it on our span."""
        self._span.set_attribute(key, value)

    def add_event(self, name: str, attributes: Attributes = None, timestamp: int | None = None) -> None:
        """Add it to our span."""
        self._span.add_event(name, attributes, timestamp)

    def add_link(self, context: SpanContext, attributes: Attributes = None) -> None:
        """Add it to our span."""
        self._span.add_link(context, attributes)

    def update_name(self, name: str) -> None:
        """Rename our span."""
        self._span.update_name(name)

    def set_status(self, status: Status | StatusCode, description: str | None = None) -> None:
        """Set it on our span."""
        self._span.set_status(status, description)

    def record_exception(
        self, exception: BaseException, attributes: Attributes = None, timestamp: int | None = None,
        escaped: bool = False,
    ) -> None:  # fmt: skip
        """Record it on our span."""
        self._span.record_exception(exception, attributes, timestamp, escaped)
