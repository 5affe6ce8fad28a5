"""Interactions of google-genai 3: observes `do_request` of the client that sends them, with its retries.

The request is one of the HTTP library, whose hooks see its attempts and the bytes of a stream.
"""

from __future__ import annotations

from typing import Any, Final

from opentelemetry import context as otel_context

from callspan.fail_open import fail_open
from callspan.intercept.hooks import HOOK_CONTEXT, HookSteps
from callspan.intercept.open_call import OpenCall
from callspan.intercept.responses import ResponseObserver
from callspan.intercept.sdk_versions import sdk_of
from callspan.observe.call import Call
from callspan.observe.factory import CallInfo
from callspan.observe.later import InteractionFetch
from callspan.providers import registry, wires
from callspan.providers.error_kinds import FIRST_ERROR, error_info
from callspan.providers.hosts import known_provider, port_of
from callspan.sdk_profiles import PROFILES

_OPEN: Final = fail_open("observe an interaction of google-genai")
_PROFILE: Final = PROFILES["google"]


class Interaction(OpenCall):
    """An interaction while `do_request` runs."""

    __slots__ = ()

    def answered(self, response: Any) -> None:
        """End a call whose answer was read, or observe the answer while it is read."""
        self.leave()
        call, status = self.call, response.status_code
        if not response.is_closed:
            self.observer = ResponseObserver(call, response, is_open=True)
            self.observer.release()
            return
        body = registry.decoded(response.content)
        call.set_streaming(False)
        call.take_body(body)
        call.end(how=None, error=error_info(status=status, body=body) if status >= FIRST_ERROR else None)


def _opened(_args: object, request: Any, kwargs: dict[str, Any]) -> Interaction | None:
    """Start a call; return None if the request is none, or must not be observed."""
    factory, path = HOOK_CONTEXT.factory(), request.url.path
    if factory is None:
        return None
    context, stream = otel_context.get_current(), bool(kwargs.get("stream"))
    if wires.fetches_interaction(request.method, path):
        call: Call = InteractionFetch(factory, _info(request.url, None, stream=stream), context)
        return _begun(call, request, context)
    wire = wires.find(request.method, path)
    endpoint = None if wire is None else registry.by_api(wire.api)
    if endpoint is None:
        return None
    body = registry.decoded(request.content)
    info = _info(request.url, endpoint.request(body).model, stream=stream)
    call = Call(factory, endpoint, info, alone=not context)
    call.sent(request.content, body)
    return _begun(call, request, context)


def _info(url: Any, model: str | None, *, stream: bool) -> CallInfo:
    return CallInfo(
        provider=known_provider(url.host, _PROFILE) or _PROFILE.provider, sdk=sdk_of(_PROFILE.distribution),
        server_address=url.host, server_port=port_of(url.scheme, url.port), model=model, stream=stream,
    )  # fmt: skip


def _begun(call: Call, request: Any, context: Any) -> Interaction:
    opened = Interaction(call, context, inject=HOOK_CONTEXT.propagate)
    opened.built, opened.body_seen = request, True
    return opened


REQUEST: Final = HookSteps(
    step=_OPEN, before=_opened, enter=OpenCall.enter, on_return=Interaction.answered, on_error=OpenCall.fail
)  # fmt: skip
"""Observes interactions around `do_request` and `do_request_async`."""
