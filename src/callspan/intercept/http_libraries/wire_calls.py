"""Wire calls: requests of any code to models, through any HTTP library, known by their path and body alone.

Each HTTP request is one call, because what repeats it is above the HTTP library. A request within a call of a hooked
SDK is an attempt of that call, also if a transport sends it on another thread; below a request that is a call, such as
a transport's call of a model, nothing is counted again. Nor is a request of an SDK that was left out a call: no hook of
ours sends it, so its headers alone tell. The content type says how an answer is read, else its first
bytes. Bytes that pass around `iter_bytes` are not recorded, but it is seen whether they came to their end
(`raw_streams`). Requests and answers of other libraries than httpx are shown under its names (`exchanges`).
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial, update_wrapper
from typing import Any, Final, NamedTuple

import msgspec
from opentelemetry import context as otel_context
from opentelemetry.context import Context

from callspan.agent.call_ids import remember_late_call, remember_result
from callspan.errors import error_status
from callspan.intercept import raw_streams
from callspan.intercept.body_parsers import (
    EventParser,
    Parser,
    UntypedParser,
    chunks_in,
    decompressed,
    ends_stream,
    is_json,
    is_media,
    is_stream,
    parser_of,
    read_file,
    stated_length,
)
from callspan.intercept.generated_sdks.other_requests import path_template
from callspan.intercept.hooks import HOOK_CONTEXT, Function, HookSteps, Reads
from callspan.intercept.invoked_chunks import take_invoked
from callspan.intercept.open_call import OpenCall
from callspan.intercept.responses import CURRENT_CALL, READING, ResponseObserver, parsing_error, send_trace
from callspan.observe.call import Call, failure
from callspan.observe.factory import CallFactory, CallInfo
from callspan.observe.later import UndecidedCall
from callspan.providers import registry, wires
from callspan.providers.base import NULL_BODY, Endpoint
from callspan.providers.bedrock.invoke import header_params
from callspan.providers.error_kinds import FIRST_ERROR, error_in, error_info
from callspan.providers.hosts import UNKNOWN, port_of, provider_of_server, serves_models
from callspan.providers.rate_limits import relevant_headers, request_id
from callspan.providers.user_agents import UserAgent, is_of, user_agent_of
from callspan.record.apis import APIS
from callspan.record.call import ErrorInfo, Outcome, Request, StreamEnd
from callspan.runtime.fail_open import fail_open, value_of

_OPEN: Final = fail_open("observe a request to a model")
_DESCRIBE: Final = fail_open("read model and stream of a request to a model")
_POST: Final = "POST"
_URL: Final = "://"
_INVOKED: Final = "invoke_model"
_ENCODING: Final = b"content-encoding"
_NULL: Final = b"null"
_MAX_SENDERS: Final = 64
_NO_CONTENT: Final = 204
_MAX_RAW_BYTES: Final = 8 << 20
_REDIRECTS: Final = 300
_REDIRECTED: Final = "The server answered %d, which was not followed."
_EMPTY: Final = ErrorInfo(kind="parsing", type="empty", message="The body of the response is empty.")
_NO_EVENT: Final = ErrorInfo(kind="parsing", type="no event", message="The body of the response has no event.")
_FOREIGN: Final = "%s %s: the answer has no field of %s"


class WireCall(OpenCall):
    """A call while its HTTP request is sent, which is its only attempt."""

    __slots__ = ("invokes", "shared_path")
    is_sent_by_http_library = False
    is_whole = True

    def __init__(self, call: Call, outer: Context, *, invokes: bool, shared_path: str) -> None:
        super().__init__(call, outer, inject=HOOK_CONTEXT.propagate)
        self.shared_path = shared_path
        """Its path if only its answer shows that it is a call, so that what is sent below it may be one, too."""
        self.invokes = invokes
        """Whether it invokes a model of Bedrock: its events have the chunks of another API in them."""

    def fail(self, error: BaseException) -> None:
        """End the call with the exception that is raised to the caller, or with an interrupt. May be repeated."""
        self.leave()
        how, outcome, info = self.failure(error)
        if info is not None and _URL in (info.message or ""):  # its query may have a key
            info = msgspec.structs.replace(info, message=None)
        self.call.end(how, outcome, info)

    def failure(self, error: BaseException) -> tuple[StreamEnd | None, Outcome, ErrorInfo]:
        """Record the failure of the last attempt; return how the call ends."""
        self.call.attempts.failed(error, error_status(error))
        return failure(error, in_stream=False)

    def answered(self, response: Any) -> None:
        """End a call if its answer was read, else observe the answer while it is read."""
        self.leave()
        remember_result(response, self.call.id_cell)
        call, status = self.call, response.status_code
        self.note_answer(response)
        failed = status >= _REDIRECTS or status == _NO_CONTENT
        if failed and response.history:
            call.attempts.request = response.request  # a redirect has added a key to its URL
        is_requested = call.streaming and not getattr(call.endpoint, "returns_files", False)
        call.set_streaming(not failed and is_stream(response, is_requested=is_requested))
        if not response.is_closed:
            self.observe(response)
            return
        content = response.content
        body = self._folded(content, response) if call.streaming else _joined(call, registry.decoded(content))
        if body is None and not failed:
            body = read_file(call.endpoint, None, response)
        call.set_streaming(False)
        error = _error_of_status(call, status, body) if failed else None
        if body is not None:
            call.take_body(body)
        else:
            error = error or _error_without_body(call, response, content)
        call.end(how=None, error=error)

    def note_answer(self, response: Any) -> None:
        """Record the answer to the last attempt, unless what lies below has shown it."""
        if not self.call.attempts.is_over or response.extensions is not None:
            headers = relevant_headers(response.headers.raw)
            self.call.attempts.headers_received(response.status_code, headers, None, response.extensions)

    def observe(self, response: Any) -> None:
        """Observe an open answer while it is read."""
        observer = WireObserver(self, response, response.status_code)
        raw_streams.observe(response, observer)
        observer.release()

    def _folded(self, content: bytes, response: Any) -> object:
        """Return what the chunks of a stream join to that was read before the caller has its response."""
        parser = parser_of(response)
        if isinstance(parser, UntypedParser) and (body := _joined(self.call, registry.decoded(content))) is not None:
            return body
        chunks: list[object] = []
        for chunk in chunks_in([*parser.feed(content), *parser.end()]):
            if self.invokes:
                take_invoked(self.call, chunk, chunks.append)
            else:
                chunks.append(chunk)
        return _fold(self.call, chunks)


class WireObserver(ResponseObserver):
    """Observes an open response of such a call."""

    ends_with_last_event = True
    __slots__ = ("_invokes", "_left", "_raw", "_raw_size", "_status")

    def __init__(self, opened: WireCall, response: Any, status: int, *, is_open: bool = True) -> None:
        """`is_open` False: the collection of the response is no end, because it may be read without it."""
        super().__init__(opened.call, response, is_open=is_open)
        self._status, self._invokes = status, opened.invokes
        self._left = stated_length(response)
        """Number of raw bytes that have not been read yet; None if unknown."""
        self._raw: list[bytes] = []
        """The raw bytes that were read, while they may tell whether the body is whole."""
        self._raw_size = 0
        if opened.call.streaming:
            self.on_data = self._take

    def parser(self) -> Parser:
        """Return the parser for the content type of the response."""
        response = self.response()
        return EventParser() if response is None else parser_of(response)

    def take_body(self, body: object) -> None:
        """Record a complete body; of the chunks of a stream in a list, what they join to."""
        super().take_body(_joined(self.call, body))

    def unparsed(self, start: bytes) -> ErrorInfo | None:
        """Report that the answer, which begins so, has neither JSON nor an event; return its error."""
        self.call.set_streaming(False)
        return _error_without_body(self.call, self.response(), start)

    def _take(self, chunk: object) -> None:
        """Record a chunk. An error that it states is the call's: who reads it raises above the bytes."""
        call = self.call
        if self._invokes:
            take_invoked(call, chunk, call.chunk)
        else:
            call.chunk(chunk)
        if isinstance(chunk, dict) and error_in(chunk) is not None:
            error = call.endpoint.response_info(chunk).error or error_info(body=chunk)
            call.end("error", error=error)

    def completed(self, error: ErrorInfo | None = None) -> None:
        """Report the end of the reader."""
        super().completed(self._failure() or error)

    def closed(self) -> None:
        """Report that the response was closed."""
        failure = self._failure()
        if failure is not None and (self.reader is None or self.reader() is not None) and not self.is_reading():
            self._end(partial(self.call.end, None, error=failure))
        else:
            super().closed()

    def raw_begun(self) -> bool:
        """Do so, and note what the bytes lack to be whole."""
        if not super().raw_begun():
            return False
        if self._left is None:
            response: Any = self.response()
            coding = "" if response is None else response.headers.get("content-encoding", "").strip().lower()
            # The response may be collected before the end.
            self.flush_copied_bytes = partial(self._note_whole_body, self.parser(), coding)
        return True

    def raw_passed(self, piece: bytes) -> None:
        """Report raw bytes. After the last ones a reader may stop, and close the response."""
        size = len(piece)
        if self._left is not None:
            self._left -= size
            if self._left == 0:
                self.raw_ended()
        elif self._raw_size <= _MAX_RAW_BYTES:
            self._raw_size += size
            self._raw.append(piece)
            if self._raw_size > _MAX_RAW_BYTES:
                self._raw.clear()

    def _note_whole_body(self, parser: Parser, coding: str) -> None:
        """Note that the answer was read to its end if the raw bytes that were read are whole: JSON, or all events."""
        content = b"".join(self._raw)
        self._raw.clear()
        plain = decompressed(content, coding) if coding else content
        if plain and self._is_whole(plain, parser):
            self.call.mark_complete()

    def _is_whole(self, content: bytes, parser: Parser) -> bool:
        # A first line of many is JSON, too.
        may_be_json = not self.call.streaming or isinstance(parser, EventParser)
        if may_be_json and registry.decoded(content) is not None:
            return True
        payloads = parser.feed(content) if self.call.streaming else []
        accumulator = self.call.endpoint.accumulator()
        for chunk in chunks_in(payloads):
            if self._invokes:
                take_invoked(self.call, chunk, accumulator.add)
            else:
                accumulator.add(chunk)
        return accumulator.complete or (bool(payloads) and ends_stream(payloads[-1]))

    def raw_ended(self) -> None:
        """Report that all raw bytes were read."""
        self._end(partial(self.call.end, error=self._failure()))

    def lost(self) -> None:
        """Report that the reader or the response was collected. Safe in a finalizer."""
        self._end(partial(self.call.lost, self._failure()))

    def _failure(self) -> ErrorInfo | None:
        """Return the error of an answer with the status of an error, or of one without a body."""
        return _error_of_status(self.call, self._status, self.call.received_body)


def _fold(call: Call, chunks: list[object]) -> object:
    """Return what the chunks of a stream join to."""
    accumulator = call.endpoint.accumulator()
    for chunk in chunks:
        if isinstance(call, UndecidedCall):
            call.look_at(chunk)
        accumulator.add(chunk)
    return accumulator.body()


def _joined(call: Call, body: object) -> object:
    """Return a body; of a list that is a stream without events, what its chunks join to."""
    endpoint = call.endpoint
    chunks = [body] if isinstance(body, dict) and getattr(endpoint, "is_folded", False) else body
    joined = _fold(call, chunks) if isinstance(chunks, list) else None
    return joined if joined and endpoint.response_info(joined).recognized else body


def _error_of_status(call: Call, status: int, body: object) -> ErrorInfo | None:
    """Return the error that a status states; None for an answer."""
    if status >= FIRST_ERROR:
        return error_info(status=status, body=body, request_id=request_id(call.attempts.headers))
    if status != _NO_CONTENT and status < _REDIRECTS:
        return None
    if status == _NO_CONTENT and isinstance(call, UndecidedCall):
        call.mark_foreign()
    message = f"The server answered {status} without a body." if status == _NO_CONTENT else _REDIRECTED % status
    return ErrorInfo(kind="unknown", type=str(status), status=status, message=message)


def _error_without_body(call: Call, response: object, content: bytes) -> ErrorInfo | None:
    """Return the error of an answer with the status of success that has neither JSON nor an event; None for media.

    It may be that of any API if it is JSON that is cut, or a stream before its first byte, else another program's.
    """
    start = content.strip()
    is_events = is_stream(response, is_requested=False)
    is_cut = not start if is_events else is_json(response) and start not in (b"", _NULL)
    if isinstance(call, UndecidedCall) and not is_cut:
        call.mark_foreign()
    if is_media(response):
        return None
    return _EMPTY if not start else NULL_BODY.error if start == _NULL else parsing_error(content) or _NO_EVENT


class _Body(NamedTuple):
    """The body of a request."""

    content: bytes
    """Its JSON."""
    parsed: dict[str, object]
    size: int
    """Number of bytes as sent."""


def is_within_call() -> bool:
    """Return whether the running code sends the request of another call."""
    open_call = CURRENT_CALL.get()
    is_sent = open_call is not None and open_call.is_sending and not open_call.shared_path
    return is_sent or READING.get() is not None


def opened(request: Any, kind: type[WireCall], context: Context | None = None) -> WireCall | None:
    """Start the call of a request; return None if it is none, must not be observed, or is sent for another call.

    `context` is that of the code that sends it; None for the current one.
    """
    if not HOOK_CONTEXT.http_calls or request.method != _POST:
        return None
    path = _path_of(request)
    if not wires.are_of(path, request.url.host) or is_within_call():
        return None
    candidates = wires.of_path(path)
    factory = HOOK_CONTEXT.factory()
    body = None if factory is None else _body_of(request, path, has_api=bool(candidates))
    if factory is None or body is None or _is_of_sdk_left_out(request):
        return None
    user_agent = user_agent_of(request.headers.raw)
    wire = wires.of_body(candidates, body.parsed, partial(_asked, request.url, user_agent))
    if wire is None:
        _count(request, path, None)
        return None
    if wire.shared_path and _is_sent_below(wire.shared_path):
        return None
    endpoint = registry.of_call(wire.api, wire.model)
    if endpoint is None or _is_attempt_of_sdk(body.content):
        return None
    if not HOOK_CONTEXT.warned_about_other_tracers:
        HOOK_CONTEXT.warn_about_other_tracers()
    context = otel_context.get_current() if context is None else context
    invokes = candidates[0].api == _INVOKED
    if invokes and user_agent.provider is None:  # whatever the body is of
        user_agent = user_agent._replace(provider=APIS[_INVOKED].owner)
    call = _call(factory, endpoint, _info(request.url, wire, user_agent, endpoint, body.parsed), wire, context)
    wire_call = kind(call, context, invokes=invokes, shared_path="" if wire.is_shown else wire.shared_path)
    call.sent(body.content, body.parsed, body.size, header_params=header_params(request.headers) if invokes else None)
    call.attempts.started(request=request)
    if wire_call.inject:
        send_trace(wire_call, request.headers)
    return wire_call


def _call(factory: CallFactory, endpoint: Endpoint, info: CallInfo, wire: wires.Wire, context: Context) -> Call:
    if not wire.shared_path:
        return Call(factory, endpoint, info, alone=not context)
    return UndecidedCall(
        factory, endpoint, info, alone=not context, is_shown=wire.is_shown, known=partial(remember_late_call, context),
        dropped=partial(HOOK_CONTEXT.unrecorded, _FOREIGN % (_POST, wire.shared_path, wire.api)),
    )  # fmt: skip


def _body_of(request: Any, path: str, *, has_api: bool) -> _Body | None:
    """Return the body of a request; None if its path has no API, it is no JSON object, or it is read while sent."""
    if not has_api:
        _count(request, path, wires.unrecorded(_POST, path))
        return None
    try:
        content = request.content
    except RuntimeError:  # it is read while it is sent
        _count(request, path, wires.unread(path))
        return None
    size, parsed = len(content), registry.decoded(content)
    if parsed is None and content:
        content = _decompressed(request, content)
        parsed = registry.decoded(content)
    if isinstance(parsed, dict):
        return _Body(content, parsed, size)
    _count(request, path, wires.unread(path) if parsed is None and size and not content else None)
    return None


def _count(request: Any, path: str, unrecorded: wires.Unrecorded | None) -> None:
    """Count a POST that costs money and leaves no record: `unrecorded`, or any other one to the host of a provider."""
    if HOOK_CONTEXT.factory() is None or not (provider := _known_provider(request)):
        return
    if unrecorded is not None and unrecorded.is_of(provider):
        HOOK_CONTEXT.unrecorded(f"{_POST} {unrecorded.name}")
    elif serves_models(request.url.host) and not wires.is_free(path):
        HOOK_CONTEXT.unrecorded(f"{_POST} {path_template(path)}")


def _known_provider(request: Any) -> str:
    """Return the provider by its host or SDK; `unknown`, or nothing for an SDK that was left out."""
    return "" if _is_of_sdk_left_out(request) else _provider_of(request.url, user_agent_of(request.headers.raw))


def _asked(url: Any, user_agent: UserAgent) -> str | None:
    """Return the provider that is asked; None if neither host nor SDK tells that one is, see `wires.Asked`."""
    provider = _provider_of(url, user_agent)
    return provider if provider != UNKNOWN or user_agent.calls_models else None


def _provider_of(url: Any, user_agent: UserAgent) -> str:
    return provider_of_server(url.host, url.port, "", "", url.path, user_agent.provider)


def _is_sent_below(shared_path: str) -> bool:
    """Return whether a request whose answer must show that it is a call is how another HTTP library sends one."""
    outer = CURRENT_CALL.get()
    return outer is not None and outer.is_sending and outer.shared_path == shared_path


def _is_attempt_of_sdk(content: bytes) -> bool:
    """Return whether the client of an SDK sends this body by a transport of the application, on another thread.

    The context of the call is not there, but the object is: an SDK makes one for each call, so that nobody else sends
    it. Among many calls, only the newest are looked at.
    """
    return any(
        value_of(partial(getattr, call.attempts.sent_by_sdk, "content", None)) is content and not call.attempts.is_over
        for call in HOOK_CONTEXT.deferred_ends.open_calls(_MAX_SENDERS)
    )


def _decompressed(request: Any, content: bytes) -> bytes:
    """Return the content of a request without its compression; empty if that cannot be undone."""
    codings = [value for name, value in request.headers.raw if name.lower() == _ENCODING]
    return (decompressed(content, codings[0].decode("latin-1").strip().lower()) or b"") if codings else content


def _path_of(request: Any) -> str:
    path: bytes = request.url.raw_path
    return path.partition(b"?")[0].decode("latin-1")


def within_call(steps: HookSteps) -> Callable[..., Function]:
    """Return what makes hooks with these steps, in which a request outside of a call costs no more than one look."""

    def make(original: Function, reads: Reads, *, is_async: bool = False) -> Function:
        observed, current_call = steps.around(original, reads, is_async=is_async), CURRENT_CALL.get

        def hooked(*args: Any, **kwargs: Any) -> Any:
            return original(*args, **kwargs) if current_call() is None else observed(*args, **kwargs)

        return update_wrapper(hooked, original)

    return make


def may_be_call(request: Any) -> bool:
    """Return whether a request is a call if its JSON belongs to the API of its path."""
    is_json = b"json" in next((value for name, value in request.headers.raw if name.lower() == b"content-type"), b"")
    return request.method == _POST and is_json and bool(wires.of_path(_path_of(request)))


def _is_of_sdk_left_out(request: Any) -> bool:
    """Return whether an SDK whose calls are not to be recorded says that it sends a request: it has no hook."""
    sdks = [sdk.name for sdk in HOOK_CONTEXT.left_out if sdk.anchor in sys.modules]
    return bool(sdks) and is_of(request.headers.raw, sdks)


def _info(url: Any, wire: wires.Wire, user_agent: UserAgent, endpoint: Endpoint, body: object) -> CallInfo:
    api, described = endpoint.api, Request()
    with _DESCRIBE:
        described = endpoint.request(body)
    return CallInfo(
        provider=provider_of_server(url.host, url.port, api, registry.wire_of(api), url.path, user_agent.provider),
        sdk=user_agent.sdk, server_address=url.host, server_port=port_of(url.scheme, url.port),
        model=described.model or wire.model, stream=wire.stream or described.stream,
    )  # fmt: skip


def _opened(_args: object, request: Any, _kwargs: object) -> WireCall | None:
    """Start the call of a request of httpx."""
    # Asked first, because this runs for each request of a hooked SDK.
    open_call = CURRENT_CALL.get()
    if open_call is None or not open_call.is_sending:
        return opened(request, WireCall)
    if not open_call.is_whole:
        open_call.call.attempts.sent_by_sdk = request
    return None


CALL: Final = HookSteps(
    step=_OPEN, before=_opened, enter=OpenCall.enter, on_return=WireCall.answered, on_error=WireCall.fail,
    on_failure=OpenCall.abandon,
)  # fmt: skip
"""Observes requests that are calls, around what sends any request of an HTTP library."""
