"""Interactions of google-genai: observes the requests of the client that sends them, with their retries.

From 2.9 on it is `do_request`. The HTTP library sends its request, and the library's hooks see its attempts and the
bytes of a stream. From 1.55 to 2.8 the client belongs to an SDK generated as openai's is, with the same hooks.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
from opentelemetry import context as otel_context

from callspan.agent.call_ids import remember_result
from callspan.intercept.generated_sdks.client_info import call_info
from callspan.intercept.hooked_sdks.google_genai import VERTEX
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
from callspan.runtime.fail_open import fail_open
from callspan.sdk_profiles import PROFILES

_OPEN: Final = fail_open("observe an interaction of google-genai")
_PROFILE: Final = PROFILES["google"]
_PROJECTS: Final = "/projects/"
"""In the paths of Vertex, which may be behind a host of any name."""


class InteractionObserver(ResponseObserver):
    """Observes an open response. The SDK reads its stream until the last event."""

    ends_with_last_event = True
    __slots__ = ()


class Interaction(OpenCall):
    """An interaction while `do_request` runs."""

    __slots__ = ()

    def answered(self, response: Any) -> None:
        """End a call if its answer was read, else observe the answer while it is read."""
        self.leave()
        call, status = self.call, response.status_code
        remember_result(response, call.id_cell)
        if not response.is_closed:
            self.observer = InteractionObserver(call, response, is_open=True)
            self.observer.release()
            return
        body = registry.decoded(response.content)
        call.set_streaming(False)
        call.take_body(body)
        call.end(how=None, error=error_info(status=status, body=body) if status >= FIRST_ERROR else None)


def _opened(_args: object, request: Any, kwargs: dict[str, Any]) -> Interaction | None:
    """Start a call; return None for a request that is no call, or must not be observed."""
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
        provider=known_provider(url.host, _PROFILE) or _provider(url.path), sdk=sdk_of(_PROFILE.distribution),
        server_address=url.host, server_port=port_of(url.scheme, url.port), model=model, stream=stream,
    )  # fmt: skip


def _provider(path: str) -> str:
    return VERTEX if _PROJECTS in path else _PROFILE.provider


def _begun(call: Call, request: Any, context: Any) -> Interaction:
    opened = Interaction(call, context, inject=HOOK_CONTEXT.propagate)
    opened.built, opened.body_seen = request, True
    return opened


def _requested(args: tuple[Any, ...], options: Any, kwargs: dict[str, Any]) -> OpenCall | None:
    """Start a call of the older client. Another hook records its body."""
    factory, path = HOOK_CONTEXT.factory(), options.url.partition("?")[0]
    if factory is None:
        return None
    context, info = otel_context.get_current(), call_info(args[0], options, bool(kwargs.get("stream")))
    if info.provider == _PROFILE.provider:
        info = msgspec.structs.replace(info, provider=_provider(path))
    if wires.fetches_interaction(options.method, path):
        call: Call = InteractionFetch(factory, info, context)
        return OpenCall(call, context, inject=HOOK_CONTEXT.propagate)
    wire = wires.find(options.method, path)
    endpoint = None if wire is None else registry.by_api(wire.api)
    if endpoint is None:
        return None
    info = msgspec.structs.replace(info, model=endpoint.request(options.json_data).model)
    return OpenCall(Call(factory, endpoint, info, alone=not context), context, inject=HOOK_CONTEXT.propagate)


OLDER_REQUEST: Final = HookSteps(
    step=_OPEN, before=_requested, enter=OpenCall.enter, on_return=OpenCall.finish, on_error=OpenCall.fail,
    on_failure=OpenCall.abandon,
)  # fmt: skip
"""Observes interactions around `APIClient.request`."""
REQUEST: Final = HookSteps(
    step=_OPEN, before=_opened, enter=OpenCall.enter, on_return=Interaction.answered, on_error=OpenCall.fail,
    on_failure=OpenCall.abandon,
)  # fmt: skip
"""Observes interactions around `do_request` and `do_request_async`."""
