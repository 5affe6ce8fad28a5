"""Call ids: which call made an object that the application holds, which was begun last, and where its span is.

What this process keeps of its calls for feedback, `callspan.call_id` and later reports is kept here.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from contextvars import ContextVar
from functools import partial
from itertools import count
from typing import Any, Final, TypeAlias
from uuid import UUID

import msgspec
from opentelemetry.context import Context
from opentelemetry.trace import format_span_id, format_trace_id

from callspan.agent.arguments import as_text
from callspan.agent.context import SCOPE
from callspan.agent.runtime import CALL_SPANS
from callspan.agent.scope import current_scope
from callspan.fail_open import value_of
from callspan.record.call import CallRecord
from callspan.record.ids import response_call_id
from callspan.sdk_profiles import SDKS
from callspan.spans.session import SpanRef

Begun: TypeAlias = tuple[int, list[str], str | None]
"""A call that has begun: its place in the order of all, its id (see `Call.named`), its session."""

MAX_ID: Final = 200
"""Characters of the longest text that is taken for an id."""
_RESPONSES: Final = ("http_response", "response", "_response")
"""Where readers, raw responses and stream helpers of the SDKs have the HTTP response that they read."""
MADE: Final[dict[int, tuple[weakref.ref[Any], list[str]]]] = {}
"""What calls returned, by its `id()`, with the call's id (see `Call.named`), while the application holds it."""
_LAST_CALL: Final[ContextVar[Begun | None]] = ContextVar("callspan_last_call", default=None)
_ORDER: Final = count()


def call_begun(context: Context, named: list[str]) -> None:
    """Note a call that begins in a context, the current one, and in all sessions, timesteps and tools there."""
    scope: Any = context.get(SCOPE)
    begun = (next(_ORDER), named, None if scope is None else scope._place.session_id)
    _LAST_CALL.set(begun)
    while scope is not None:
        scope._last_call = begun
        scope = scope._above or (None if scope._base is None else scope._base.get(SCOPE))


def call_made(made: object, named: list[str]) -> None:
    """Note what the request of a call returned: an object of the SDK, a raw response, a stream or an HTTP response."""
    key = id(made)
    try:
        # Removed without a frame of Python's: an interrupt that came in there would be lost.
        reference = weakref.ref(made, partial(MADE.pop, key))
    except TypeError:
        return  # text, for example: it is indistinguishable from the same text of another call
    MADE[key] = (reference, named)


def call_recorded(record: CallRecord) -> None:
    """Keep where the span of a call is."""
    place = record.place
    ref = SpanRef(
        trace_id=record.trace_id,
        span_id=record.span_id,
        sampled=record.sampled is not False,
        place=place if place.session_name is None else msgspec.structs.replace(place, session_name=None),
        response_id=record.response.id if record.response is not None else None,
        request_id=record.attempts[-1].request_id if record.attempts else None,
    )
    CALL_SPANS.put(record.call_id, ref)


def call_id(of: object) -> str | None:
    """Return the id of the call that made an object: a response, a raw response or a stream of an SDK; None if unknown.

    Works in any task or thread of the process, while a stream is read and after its end. What an SDK makes of a stream
    or a raw response (a final message, the parsed object) is found by its own id, once the call has ended, among the
    last 4,096 calls of the process.

    Example:
        >>> answer = client.chat.completions.create(model="m", messages=[{"role": "user", "content": "Hi"}])
        >>> page = {"answer": answer.choices[0].message.content, "call_id": callspan.call_id(answer)}
    """
    for one in _with_responses(of):
        made = MADE.get(id(one))
        if made is not None and made[0]() is one:
            return made[1][0] or None
    for name in ("_request_id", "id"):
        known = call_of(value_of(partial(getattr, of, name, None)))
        if known is not None:
            return known
    return None


def _with_responses(of: object) -> Iterator[object]:
    yield of
    for name in _RESPONSES:
        # Whatever an application passes may raise here.
        response = value_of(lambda name=name: getattr(of, name, None))  # type: ignore[misc]
        if response is not None:
            yield response


def target_id(of: object) -> str | None:
    """Return the id by which feedback names a call: its own where this process knows it; None for what can be no id.

    `of`: what `call_id` takes, or an id: of the call, or the provider's of its response or request.
    """
    if isinstance(of, str | int | UUID):
        given = None if isinstance(of, bool) else as_text(of)
        given = call_of(given) or given
    else:
        named = value_of(partial(getattr, of, "id", None))
        given = call_id(of) or (as_text(named) if isinstance(named, str | UUID) else None)
    return given if given and given.strip() and len(given) <= MAX_ID else None


def target_of_span(trace_id: str | int, span_id: str | int) -> str | None:
    """Return the id of the recent call of this process with this span, as text or as OpenTelemetry has it in a context.

    Else the id of the span; None for what can be no id.
    """
    trace = format_trace_id(trace_id) if isinstance(trace_id, int) else as_text(trace_id)
    span = format_span_id(span_id) if isinstance(span_id, int) else as_text(span_id)
    if not trace or not span:
        return None
    wanted = (trace.lower(), span.lower())
    calls = reversed(CALL_SPANS.items())
    return next((one for one, where in calls if (where.trace_id, where.span_id) == wanted), target_id(span.lower()))


def call_of(identity: object) -> str | None:
    """Return the id of the only recent call of this process that has an id of the provider; None if there is not one.

    That is the id of its response or of its request, or its own.
    """
    if not isinstance(identity, str) or not identity:
        return None
    for own in (identity, *(response_call_id(one, identity) for one in SDKS)):
        if CALL_SPANS.get(own) is not None:
            return own
    found = [one for one, where in CALL_SPANS.items() if identity in (where.response_id, where.request_id)]
    return found[0] if len(found) == 1 else None


def last_call_id() -> str | None:
    """Return the id of the newest call begun in this context, or below the session or timestep that is current in it.

    Below these also calls of other tasks and threads count (`asyncio.gather`, `asyncio.to_thread`); in a session those
    of other sessions do not. None if there is none. `callspan.call_id(response)` is exact and needs no context: outside
    a session, a thread of a pool still has what it did before.

    Example:
        >>> with callspan.session("chat"):
        ...     _ = client.chat.completions.create(model="m", messages=[{"role": "user", "content": "Hi"}])
        ...     page = {"call_id": callspan.last_call_id()}
    """
    here, scope = _LAST_CALL.get(), current_scope()
    if scope is not None:
        # A thread of a pool has had calls of other sessions.
        elsewhere = here is None or here[2] != scope._place.session_id
        here = max((one for one in (None if elsewhere else here, scope._last_call) if one), default=None)
    return None if here is None else here[1][0] or None
