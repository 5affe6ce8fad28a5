"""Bedrock: observes the operations of `bedrock-runtime` that call a model, by boto3 and aiobotocore.

`BaseClient._make_api_call` sends each operation of a client, with its retries, and returns the parsed answer;
`Endpoint._get_response` sends one attempt. A plain answer of Converse is there on return. A stream of events, and the
body of a model that was invoked, are read by the application; see `bedrock_answers`.
"""

from __future__ import annotations

import sys
import weakref
from functools import partial
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from opentelemetry import context as otel_context

from callspan.agent.call_ids import remember_request, remember_result
from callspan.intercept.hooked_sdks.bedrock_answers import BodyReader, forget, observe_events, wire_json
from callspan.intercept.hooked_sdks.bedrock_errors import error_bytes, fail
from callspan.intercept.hooks import HOOK_CONTEXT, HookSteps
from callspan.intercept.open_call import OpenCall
from callspan.intercept.responses import CURRENT_CALL, send_trace
from callspan.intercept.sdk_versions import sdk_of
from callspan.observe.call import Call
from callspan.observe.factory import CallInfo
from callspan.providers import registry
from callspan.providers.bedrock.invoke import api_of, header_params
from callspan.providers.hosts import port_of
from callspan.providers.rate_limits import relevant_text_headers
from callspan.providers.wire_json import dig, integer, text
from callspan.record.codec import encode_json
from callspan.runtime.fail_open import fail_open
from callspan.sdk_profiles import PROFILES

_OPEN: Final = fail_open("observe an operation of Bedrock")
_ATTEMPT: Final = fail_open("observe an attempt of Bedrock")
_PROFILE: Final = PROFILES["bedrock"]
_SERVICE: Final = "bedrock-runtime"
_AGENTS: Final = "bedrock-agent-runtime"
_PARAMS_AT: Final = 2
"""Position of the parameters of `_make_api_call`, and of the operation's model of `_get_response`."""
_METADATA: Final = "ResponseMetadata"
_SDKS: Final = ("aiobotocore", "boto3", "botocore")


class Operation(NamedTuple):
    """An operation that calls a model."""

    stream: bool
    answer: str = ""
    """The member of the answer that the application reads; empty if the answer is whole."""


_OPERATIONS: Final = {
    "Converse": Operation(stream=False),
    "ConverseStream": Operation(stream=True, answer="stream"),
    "InvokeModel": Operation(stream=False, answer="body"),
    "InvokeModelWithResponseStream": Operation(stream=True, answer="body"),
}
_UNRECORDED: Final = {
    "StartAsyncInvoke": _SERVICE,
    "ApplyGuardrail": _SERVICE,
    **dict.fromkeys(
        (
            "InvokeAgent",
            "InvokeFlow",
            "InvokeInlineAgent",
            "OptimizePrompt",
            "Rerank",
            "Retrieve",
            "RetrieveAndGenerate",
            "RetrieveAndGenerateStream",
        ),
        _AGENTS,
    ),
    **dict.fromkeys(("CreateEvaluationJob", "CreateModelCustomizationJob", "CreateModelInvocationJob"), "bedrock"),
}
"""Operations that cost money and leave no record, with their service."""


class BedrockCall(OpenCall):
    """A call while botocore sends it."""

    __slots__ = ("operation", "params", "source")
    is_sent_by_http_library = False
    operation: Operation
    params: dict[str, Any]
    """The parameters of the operation, which the request is read from if nothing was sent."""
    source: weakref.ref[Any] | None
    """What the application reads of the answer, once it is observed."""

    def answered(self, answer: dict[str, Any]) -> None:
        """End a whole answer, or observe one that the application reads."""
        self.leave()
        self._show_request()
        call, source = self.call, answer.get(self.operation.answer)
        remember_request(answer, call.id_cell)
        if source is not None:
            remember_result(source, call.id_cell)
            if self.source is None:  # a stub answered
                self.observe(source, answer)
        elif self.source is None:
            body = {key: value for key, value in answer.items() if key != _METADATA}
            call.take_body(wire_json(body))
            call.end(how=None)

    def observe(self, source: Any, parsed: dict[str, Any]) -> None:
        """Observe what the application reads of an answer, as botocore made it: a tracer above may wrap or read it."""
        remember_result(source, self.call.id_cell)
        if self.call.streaming:
            observe_events(source, self.call)
        else:
            BodyReader(self.call, source, integer(dig(parsed, _METADATA, "HTTPHeaders"), "content-length"))
        self.source = weakref.ref(source)

    def forget_source(self) -> None:
        """Observe an answer no longer that is followed by another attempt."""
        if self.source is not None:
            forget(self.source())
            self.source = None
            self.call.forget_response()

    def fail(self, error: BaseException) -> None:
        """End the call with the exception that is raised to the caller, or with an interrupt. May be repeated."""
        self.leave()
        with _OPEN:
            self._show_request()
            fail(self.call, error, in_stream=False)

    def show_sent(self, content: object) -> None:
        """Record the body as sent, except for a file, which is left to the HTTP library."""
        if isinstance(content, bytes | bytearray) and not self.body_seen:
            self.body_seen = True
            self.call.sent(bytes(content), registry.decoded(bytes(content)), header_params=self._header_params())

    def _show_request(self) -> None:
        """Record the request of a call that sent none: a stub answered, or the parameters are invalid."""
        if self.body_seen:
            return
        self.body_seen = True
        if (content := self.params.get("body")) is None:
            encoded = encode_json(wire_json({key: value for key, value in self.params.items() if key != "modelId"}))
            self.call.sent(encoded, registry.decoded(encoded), 0)  # the parameters may be no JSON
        elif isinstance(content, bytes | str):
            encoded = content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass")
            self.call.sent(encoded, registry.decoded(encoded), 0, header_params=self._header_params())

    def _header_params(self) -> dict[str, Any] | None:
        """Return what an invocation sets beside its body; None for Converse, whose body has it."""
        return header_params(self.params) if "body" in self.params else None


def _opened(args: tuple[Any, ...], operation: Any, kwargs: dict[str, Any]) -> BedrockCall | None:
    """Start a call; return None for an operation that is no call, or must not be observed."""
    row = _OPERATIONS.get(operation)
    if row is None:
        _count(args[0], operation)
        return None
    client, factory = args[0], HOOK_CONTEXT.factory()
    if factory is None or client.meta.service_model.service_name != _SERVICE:
        return None
    if not HOOK_CONTEXT.warned_about_other_tracers:
        HOOK_CONTEXT.warn_about_other_tracers()
    params, context = kwargs["api_params"] if "api_params" in kwargs else args[_PARAMS_AT], otel_context.get_current()
    model, url = text(params, "modelId"), urlsplit(client.meta.endpoint_url)
    api = api_of(model, registry.decoded(_content(params))) if "body" in params else "converse"
    endpoint = registry.of_call(api, model)
    if endpoint is None:
        return None
    info = CallInfo(
        provider=_PROFILE.provider, sdk=_sdk(client), server_address=url.hostname,
        server_port=port_of(url.scheme, url.port), model=model, stream=row.stream,
    )  # fmt: skip
    opened = BedrockCall(Call(factory, endpoint, info, alone=not context), context, inject=HOOK_CONTEXT.propagate)
    opened.operation, opened.params, opened.source = row, params, None
    return opened


def _content(params: dict[str, Any]) -> bytes | str | None:
    content = params.get("body")
    return bytes(content) if isinstance(content, bytearray) else content if isinstance(content, bytes | str) else None


def _sdk(client: object) -> str:
    """Return the SDK of a client: by its class, else boto3 where it is used."""
    modules = {kind.__module__.partition(".")[0] for kind in type(client).__mro__}
    return sdk_of(next(name for name in _SDKS if name in modules or (name == "boto3" and name in sys.modules)))


def _count(client: Any, operation: object) -> None:
    """Count an operation that costs money and leaves no record."""
    service = _UNRECORDED.get(operation) if isinstance(operation, str) else None
    if service is not None and client.meta.service_model.service_name == service:
        HOOK_CONTEXT.unrecorded(f"{service} {operation}")


def _attempted(args: tuple[Any, ...], request: Any, kwargs: dict[str, Any]) -> BedrockCall | None:
    """Record the start of an attempt; return None outside of a call, and for other services within one."""
    opened = CURRENT_CALL.get()
    if not isinstance(opened, BedrockCall):
        return None
    operation = kwargs["operation_model"] if "operation_model" in kwargs else args[_PARAMS_AT]
    if operation.service_model.service_name != _SERVICE:  # a token of the credentials
        return None
    opened.forget_source()
    opened.call.attempts.started(request=request)
    if opened.inject:
        send_trace(opened, request.headers)
    opened.show_sent(request.body)
    return opened


def _received(opened: BedrockCall, answer: tuple[Any, BaseException | None]) -> None:
    """Record the end of an attempt that returns an exception."""
    success, error = answer
    if success is None:
        if error is not None:
            opened.call.attempts.failed(error)
        return
    response, parsed = success
    headers = relevant_text_headers(response.headers)
    opened.call.attempts.headers_received(response.status_code, headers, partial(error_bytes, parsed))
    if (source := parsed.get(opened.operation.answer)) is not None:
        opened.observe(source, parsed)


def _failed(opened: BedrockCall, error: BaseException) -> None:
    opened.call.attempts.failed(error)


CALL: Final = HookSteps(
    step=_OPEN, before=_opened, enter=OpenCall.enter, on_return=BedrockCall.answered, on_error=BedrockCall.fail,
    on_failure=OpenCall.abandon,
)  # fmt: skip
"""Observes calls around `BaseClient._make_api_call`."""
ATTEMPT: Final = HookSteps(step=_ATTEMPT, before=_attempted, on_return=_received, on_error=_failed)
"""Observes attempts around `Endpoint._get_response`."""
