"""Requests: observes the SDKs' request method: the start of every call, and the end of a plain one.

Every method, helper and raw call of the SDKs uses `APIClient.request`, which builds the body, sends it, retries, and
processes the response. Sync and async share the logic, with thin drivers.
"""

from __future__ import annotations

from typing import Any, Final

from opentelemetry import context as otel_context

from callspan import private_names as names
from callspan.agent.call_ids import call_behind
from callspan.intercept import other_instrumentations
from callspan.intercept.body_parsers import form_bytes, is_form
from callspan.intercept.generated_sdks.client_info import call_info
from callspan.intercept.generated_sdks.other_requests import request_name, route_other
from callspan.intercept.generated_sdks.streams import request_usage
from callspan.intercept.hooks import HOOK_CONTEXT, HookSteps, calls_hook
from callspan.intercept.open_call import ATTACH_RESPONSE, OpenCall
from callspan.intercept.responses import CURRENT_CALL
from callspan.observe.call import Call
from callspan.providers import registry
from callspan.runtime.fail_open import fail_open

_OPEN: Final = fail_open("start observing a call")
_BODY: Final = fail_open("read a request body")
_REQUEST: Final = "request"


def _opened(args: tuple[Any, ...], options: Any, kwargs: dict[str, Any]) -> OpenCall | None:
    """Start a call; return None if the request must not be observed."""
    context = otel_context.get_current()
    # An empty context has no setting and no suppression.
    factory = HOOK_CONTEXT.factory() if context else HOOK_CONTEXT.factories.get(HOOK_CONTEXT.content)
    if factory is None:
        return None
    client, stream = args[0], bool(kwargs.get("stream"))
    route = registry.endpoint_for(options.method, options.url) or route_other(client, options)
    if route is None:
        return None
    inject = HOOK_CONTEXT.propagate
    # Reading a missing field of a pydantic model raises, with a message that is more expensive than a span.
    is_native = getattr(options, "__dict__", {}).get(names.SPAN_NAME.name) is not None
    if is_native and not callable(route):
        inject = other_instrumentations.without_own_span(client, options) or inject
    if not HOOK_CONTEXT.warned_about_other_tracers:
        HOOK_CONTEXT.warn_about_other_tracers()
    info = call_info(client, options, stream)
    call = route(factory, info, context) if callable(route) else Call(factory, route, info, alone=not context)
    if HOOK_CONTEXT.stream_usage and stream and not info.raw:
        call.hides_usage = request_usage(route, options)
    return OpenCall(call, context, inject=inject)


def _identified(args: tuple[Any, ...], response: object, kwargs: dict[str, Any]) -> None:
    """Attach the final HTTP response to its call."""
    open_call = CURRENT_CALL.get()
    if open_call is None or not open_call.is_sent_by_http_library:
        _note_unseen(args[0], kwargs.get("options"), response)
    else:
        open_call.attach_response(response)


def _note_unseen(client: object, options: Any, response: object) -> None:
    """Count a call that bypassed `request`, for example in a client class that sends by itself.

    Its HTTP request alone may have been a call.
    """
    if options is None or HOOK_CONTEXT.factory() is None:
        return
    method: Any = getattr(client, _REQUEST, None)
    classes = (vars(base).get(_REQUEST) for base in type(client).__mro__)
    if calls_hook(method) or not any(map(calls_hook, filter(None, classes))):
        return  # it began before the hook was applied, or ended before it was applied again
    if registry.endpoint_for(options.method, options.url) is not None and call_behind(response) is None:
        HOOK_CONTEXT.unrecorded(f"{request_name(client, options)} by {type(client).__name__}.{_REQUEST}")


def _building(_args: object, options: Any, kwargs: dict[str, Any]) -> tuple[OpenCall, Any, object] | None:
    open_call = CURRENT_CALL.get()
    if open_call is None or not open_call.is_sent_by_http_library:
        return None
    return open_call, options, kwargs.get("retries_taken")


def _built(state: tuple[OpenCall, Any, Any], built: Any) -> None:
    """Record the body exactly as sent."""
    open_call, options, retries = state
    open_call.built, open_call.built_retries = built, retries
    extra = getattr(options, "extra_json", None)
    body = options.json_data
    if extra and isinstance(body, dict | None):
        body = {**(body or {}), **extra}
    try:
        content = built.content
    except RuntimeError:  # it is read while it is sent
        if is_form(built):
            open_call.call.form(body, options.files, form_bytes(built))
    else:
        open_call.call.sent(content, registry.decoded(content) if body is None else body)
    open_call.body_seen = True


REQUEST: Final = HookSteps(
    step=_OPEN, before=_opened, enter=OpenCall.enter, on_return=OpenCall.finish, on_error=OpenCall.fail,
    on_failure=OpenCall.abandon,
)  # fmt: skip
"""Observes the calls of `APIClient.request`."""
RESPONSE: Final = HookSteps(step=ATTACH_RESPONSE, before=_identified)
"""Observes the final HTTP response before `_process_response`."""
BUILD: Final = HookSteps(step=_BODY, before=_building, on_return=_built)
"""Records the body around `_build_request`."""
