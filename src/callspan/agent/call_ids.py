"""Call ids: finds the call behind an object of the application, the newest call, and the spans of recent calls.

`callspan.call_id`, `callspan.last_call_id` and feedback use them.
"""

from __future__ import annotations

import re
import weakref
from contextvars import ContextVar
from functools import partial
from itertools import chain
from typing import Any, Final

import msgspec
from opentelemetry.context import Context
from opentelemetry.trace import format_span_id, format_trace_id

from callspan.agent.arguments import as_text
from callspan.agent.context import SCOPE
from callspan.agent.misuse import UnknownCallError, report_misuse
from callspan.agent.registry import REGISTRY
from callspan.agent.sdk_objects import request_id, response_ids
from callspan.agent.tree import current_scope
from callspan.record.call import CallRecord
from callspan.record.ids import CallIdCell, response_call_id
from callspan.runtime.fail_open import value_of
from callspan.sdk_profiles import PROVIDERS
from callspan.spans.session import SpanRef

_SPAN_ID: Final = re.compile("[0-9a-f]{16}")
_RESPONSES: Final = ("__wrapped__", "http_response", "response", "_response")
"""Attributes with the object in the proxy of a tracer, and the HTTP response in that of an SDK."""
NEWEST: Final = "callspan.last_call_id() has the id of the newest call"
"""Advice to those whose objects name no call."""
_SEVERAL: Final = CallIdCell(None)
"""Stands for several calls with the same request id in their answers, as from a stub."""
_LAST_CALL: Final[ContextVar[CallIdCell | None]] = ContextVar("callspan_last_call", default=None)
"""The id of the newest call outside of sessions, timesteps and operations."""


def remember_call(context: Context, id_cell: CallIdCell) -> None:
    """Note the start of a call for all its sessions, timesteps and tools, else for the current context."""
    scope: Any = context.get(SCOPE)
    if scope is None:
        _LAST_CALL.set(id_cell)
    while scope is not None:
        scope.last_call = id_cell
        scope = scope.above or (None if scope.base is None else scope.base.get(SCOPE))


def remember_late_call(context: Context, id_cell: CallIdCell) -> None:
    """Note a call that only its answer has shown to be one, unless a newer one was noted meanwhile."""
    scope: Any = context.get(SCOPE)
    if scope is None and _is_newer(id_cell, _LAST_CALL.get()):
        _LAST_CALL.set(id_cell)
    while scope is not None:
        if _is_newer(id_cell, scope.last_call):
            scope.last_call = id_cell
        scope = scope.above or (None if scope.base is None else scope.base.get(SCOPE))


def _is_newer(id_cell: CallIdCell, other: CallIdCell | None) -> bool:
    return other is None or (other.value or "") < (id_cell.value or "")  # ids are in the order of time


def remember_result(result: object, id_cell: CallIdCell) -> None:
    """Note the object returned by a call: a result of the SDK, a raw response, a stream or an HTTP response."""
    key = id(result)
    try:
        # The callback runs no Python code, where an interrupt would be lost.
        reference = weakref.ref(result, partial(REGISTRY.call_ids.pop, key))
    except TypeError:
        return  # text, for example: two calls may return equal texts
    REGISTRY.call_ids[key] = (reference, id_cell)


def remember_request(answer: object, id_cell: CallIdCell) -> None:
    """Note the request id in a dict that botocore returns, because nothing can refer to a dict weakly."""
    identity = request_id(answer)
    if identity is not None and REGISTRY.call_requests.setdefault(identity, id_cell) is not id_cell:
        REGISTRY.call_requests.put(identity, _SEVERAL)


def remember_span(record: CallRecord) -> None:
    """Keep a reference to the span of a call."""
    place, response = record.place, record.response
    ref = SpanRef(
        trace_id=record.trace_id,
        span_id=record.span_id,
        sampled=record.sampled is not False,
        place=place if place.session_name is None else msgspec.structs.replace(place, session_name=None),
        response_id=response.id if response is not None else None,
        created=response.created if response is not None else None,
        is_bought=record.is_bought,
        request_id=record.attempts[-1].request_id if record.attempts else None,
    )
    REGISTRY.call_spans.put(record.call_id, ref)


def call_id(of: object) -> str | None:
    """Return the id of the call that returned an object: a response, raw response or stream.

    None if this process knows no such call, which is logged each time. Works in any task or thread of the process,
    during a stream and after its end. Chunks, and objects that an SDK derives from a stream or raw response (a final
    message, the parsed object, JSON), are found by the provider's id that they state, once the call has ended, among
    the last 4,096 calls of the process. Objects of LiteLLM and ollama, and generators, state none:
    `callspan.last_call_id()` has the id of their call.

    Raises:
        UsageError: The call is unknown; only inside `callspan.testing.capture()`, see `callspan.Session`.

    Example:
        >>> answer = client.chat.completions.create(model="m", messages=[{"role": "user", "content": "Hi"}])
        >>> page = {"answer": answer.choices[0].message.content, "call_id": callspan.call_id(answer)}
    """
    call = call_behind(of)
    if call is None:
        report_misuse(
            UnknownCallError(f"callspan.call_id: no call of this process is known by {kind_of(of)} ({NEWEST})")
        )
    return call


def call_behind(of: object) -> str | None:
    """Return the same as `call_id`, without a word about an unknown call."""
    # Attributes of an object of the application may raise anything.
    responses = (value_of(partial(getattr, of, name, None)) for name in _RESPONSES)
    for holder in chain((of,), responses):
        entry = REGISTRY.call_ids.get(id(holder))
        if entry is not None and entry[0]() is holder:
            return entry[1].value
    requested = REGISTRY.call_requests.get(request_id(of) or "")
    if requested is not None and requested is not _SEVERAL:
        return requested.value
    calls = (call_of(identity, created) for identity, created in response_ids(of))
    return next(filter(None, calls), None)


def kind_of(of: object) -> str:
    """Return an object's type in words, without its text."""
    return "text that is no id" if isinstance(of, str) else f"a {type(of).__name__}"


def target_of_span(trace_id: str | int, span_id: str | int) -> str | None:
    """Return the id of the recent call with this span, else the span's id; None for invalid ids.

    Both ids are hexadecimal text, or integers as in an OpenTelemetry span context.
    """
    trace = format_trace_id(trace_id) if isinstance(trace_id, int) else as_text(trace_id)
    span = format_span_id(span_id) if isinstance(span_id, int) else as_text(span_id)
    if not trace or not span or not _SPAN_ID.fullmatch(span.lower()):
        return None
    span_ids = (trace.lower(), span.lower())
    calls = reversed(REGISTRY.call_spans.items())
    return next((call for call, ref in calls if (ref.trace_id, ref.span_id) == span_ids), span.lower())


def call_of(identity: object, created: object = None) -> str | None:
    """Return the id of the only recent call with this id: its own, or the provider's of its response or request.

    None if there is no such call, or several that were bought. `created` is the time of the response, if known, because
    servers repeat ids.
    """
    if not isinstance(identity, str) or not identity:
        return None
    for call in (identity, *(response_call_id(provider, identity) for provider in PROVIDERS)):
        ref = REGISTRY.call_spans.get(call)
        if ref is not None and _is_of_time(ref, created):
            return call
    matches = [
        (call, ref)
        for call, ref in REGISTRY.call_spans.items()
        if identity in (ref.response_id, ref.request_id) and _is_of_time(ref, created)
    ]
    calls = [call for call, ref in matches if ref.is_bought] or [call for call, _ in matches]
    return calls[0] if len(calls) == 1 else None


def _is_of_time(ref: SpanRef, created: object) -> bool:
    return created is None or ref.created in (None, created)


def last_call_id() -> str | None:
    """Return the id of the newest call in the current tool, timestep or session, the innermost with a call, if any.

    Calls of other tasks and threads count too (`asyncio.gather`, `asyncio.to_thread`). Outside of sessions it is the
    newest call started there in this context; a pooled thread may return an earlier one. `callspan.call_id(response)`
    is exact and independent of the context.

    Example:
        >>> with callspan.session("chat"):
        ...     _ = client.chat.completions.create(model="m", messages=[{"role": "user", "content": "Hi"}])
        ...     page = {"call_id": callspan.last_call_id()}
    """
    scope = current_scope()
    while scope is not None and scope.last_call is None and scope.above is not None:
        scope = scope.above
    id_cell = _LAST_CALL.get() if scope is None else scope.last_call
    return None if id_cell is None else id_cell.value
