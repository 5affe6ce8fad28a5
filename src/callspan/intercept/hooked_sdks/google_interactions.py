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
from callspan.providers import registry, wires
from callspan.providers.error_kinds import error_info
from callspan.providers.hosts import known_provider, port_of
from callspan.sdk_profiles import PROFILES

_OPEN: Final = fail_open("observe an interaction of google-genai")
_PROFILE: Final = PROFILES["google"]
_FIRST_ERROR: Final = 400


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
        call.end(how=None, error=error_info(status=status, body=body) if status >= _FIRST_ERROR else None)


def _opened(_args: object, request: Any, kwargs: dict[str, Any]) -> Interaction | None:
    """Start a call; return None if the request is none, or must not be observed."""
    factory, wire = HOOK_CONTEXT.factory(), wires.find(request.method, request.url.path)
    endpoint = None if wire is None else registry.by_api(wire.api)
    if factory is None or endpoint is None:
        return None
    context, url = otel_context.get_current(), request.url
    body = registry.decoded(request.content)
    described = endpoint.request(body)
    info = CallInfo(
        provider=known_provider(url.host, _PROFILE) or _PROFILE.provider, sdk=sdk_of(_PROFILE.distribution),
        server_address=url.host, server_port=port_of(url.scheme, url.port), model=described.model,
        stream=bool(kwargs.get("stream")),
    )  # fmt: skip
    call = Call(factory, endpoint, info, alone=not context)
    opened = Interaction(call, context, inject=HOOK_CONTEXT.propagate)
    opened.built, opened.body_seen = request, True
    call.sent(request.content, body)
    return opened


REQUEST: Final = HookSteps(
    step=_OPEN, before=_opened, enter=OpenCall.enter, on_return=Interaction.answered, on_error=OpenCall.fail
)  # fmt: skip
"""Observes interactions around `do_request` and `do_request_async`."""
