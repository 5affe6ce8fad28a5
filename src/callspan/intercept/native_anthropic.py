"""Native anthropic tracing: avoids a second span per call, as the SDK (1.14 and later) creates spans itself.

The SDK creates its span in `request` if `options.span_name` is set, with the client's tracer. `replace` clears the name
per call and sets on callspan's span what only the SDK's would contain; `keep` leaves it as a child of callspan's span.
Other spans of the SDK (tool runner, count_tokens) stay.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from opentelemetry.trace import Span, Tracer
from opentelemetry.util.types import AttributeValue

from callspan import private_names as names
from callspan.fail_open import fail_open
from callspan.semconv import anthropic
from callspan.semconv.call import CONVERSATION_ID
from callspan.settings import Native

_ARRANGE: Final = fail_open("decide who makes the span of a call")
_SHOW: Final = fail_open("set the attributes of the anthropic SDK's own span")
_ABOUT_ANSWER: Final = {
    b"anthropic-organization-id": anthropic.ORGANIZATION_ID,
    b"anthropic-workspace-id": anthropic.WORKSPACE_ID,
}
"""Response headers and their attributes."""
_SCALARS: Final = (str, bool, int, float)


class Arrangement(NamedTuple):
    """How to observe one call together with the SDK's own tracing."""

    inject: bool
    """Whether callspan sends `traceparent`."""
    replaced: Mapping[str, AttributeValue] | None = None
    """The start attributes of the SDK's span, if callspan's span replaces it."""


OURS: Final = (Arrangement(inject=False), Arrangement(inject=True))
"""The arrangements of calls that have no span of the SDK, by whether callspan sends `traceparent`."""


class Replaced:
    """The SDK's span that callspan's replaces: sets the attributes that are not in the record."""

    __slots__ = ("_request_seen", "_span")

    def __init__(self, span: Span, start_attributes: Mapping[str, AttributeValue]) -> None:
        self._span = span
        self._request_seen = False
        with _SHOW:
            span.set_attributes(start_attributes)

    def sending(self, request: Any) -> None:  # noqa: ANN401 - httpx or httpx2
        """Set the URL of the first request, without credentials and query."""
        if self._request_seen:
            return
        self._request_seen = True
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

    def response_received(self, response: Any) -> None:  # noqa: ANN401 - httpx or httpx2
        """Set organization and workspace of the API key from the response headers."""
        with _SHOW:
            for name, value in response.headers.raw:
                attribute = _ABOUT_ANSWER.get(name.lower())
                if attribute is not None:
                    self._span.set_attribute(attribute, value.decode("latin-1"))


def replaced_by(span: Span, arrangement: Arrangement, *, in_session: bool) -> Replaced | None:
    """Return the writer of the SDK span's attributes to `span`; None if it replaces none or is not recording.

    A session of callspan takes precedence over the client's conversation id.
    """
    start_attributes = arrangement.replaced
    if start_attributes is None or not span.is_recording():
        return None
    if in_session:
        start_attributes = {name: value for name, value in start_attributes.items() if name != CONVERSATION_ID}
    return Replaced(span, start_attributes)


def arrange(
    client: Any, options: Any, *, native: Native, propagate: bool,  # noqa: ANN401 - of either SDK
) -> Arrangement:  # fmt: skip
    """Decide who creates the span of a call that has one of the SDK; changes `options` if the SDK must not.

    Never raises.
    """
    ours = OURS[propagate]
    with _ARRANGE:
        tracer = getattr(client, names.TRACER.name, None)
        if not isinstance(tracer, Tracer):
            return ours
        propagates = _propagates(client)
        if native == "replace":
            start_attributes = _start_attributes(client, options)
            setattr(options, names.SPAN_NAME.name, None)
            return Arrangement(propagate or propagates, start_attributes)
        return Arrangement(propagate and not propagates)
    return ours


def _propagates(client: object) -> bool:
    settings = getattr(client, names.OPEN_TELEMETRY.name, None)
    return bool(settings.get("propagation", False)) if isinstance(settings, dict) else False


def _start_attributes(client: object, options: Any) -> dict[str, AttributeValue]:  # noqa: ANN401 - of the anthropic SDK
    found: dict[str, AttributeValue] = {anthropic.HTTP_METHOD: str(getattr(options, "method", "post")).upper()}
    with _SHOW:
        route = getattr(options, names.SPAN_ROUTE.name, None)
        if isinstance(route, str):
            found[anthropic.HTTP_ROUTE] = route
        of_method = getattr(options, names.SPAN_ATTRIBUTES.name, None)
        found |= _plain(of_method(_body(options)) if callable(of_method) else of_method)
        settings = getattr(client, names.OPEN_TELEMETRY.name, None)
        conversation = settings.get("conversation_id") if isinstance(settings, dict) else None
        if isinstance(conversation, str):
            found[CONVERSATION_ID] = conversation
    return found


def _body(options: Any) -> object:  # noqa: ANN401 - of the anthropic SDK
    """Return the body merged with `extra_body`, which the SDK merges only later."""
    body, extra = options.json_data, getattr(options, "extra_json", None)
    return {**body, **extra} if isinstance(body, Mapping) and isinstance(extra, Mapping) else body


def _plain(attributes: object) -> dict[str, AttributeValue]:
    """Return the attributes without values OpenTelemetry rejects, such as the SDK's `Omit` for omitted arguments."""
    given = attributes.items() if isinstance(attributes, Mapping) else ()
    return {name: value for name, value in given if isinstance(name, str) and _is_plain(value)}


def _is_plain(value: object) -> bool:
    if isinstance(value, list | tuple):
        return all(isinstance(item, _SCALARS) for item in value)
    return isinstance(value, _SCALARS)
