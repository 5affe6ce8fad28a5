"""Call reports: requests that are not calls but report some, the bytes of batch results, and webhooks.

All ways to read the results of a batch lead through `Response.iter_bytes`: anthropic's `JSONLDecoder` reads pieces of
64 bytes with it, and so does everything that reads what openai's `files.content` has not read itself.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, Final

from callspan import private_names as names
from callspan.fail_open import fail_open
from callspan.intercept.client_info import call_info
from callspan.intercept.hooks import Function, HookContext, HookSteps, guarded
from callspan.intercept.response_observer import ResponseObserver
from callspan.intercept.response_state import Event
from callspan.observe.batch_lines import LineReader, UnknownResults
from callspan.observe.factory import CallFactory, WebhookReport
from callspan.observe.live_call import LiveCall
from callspan.providers import batches, registry
from callspan.providers.base import Endpoint
from callspan.providers.wire_json import unix_ns

_READ: Final = fail_open("read a webhook")
_PREFIX: Final = "response."


def beside_calls(factory: CallFactory, options: Any) -> tuple[Endpoint | None, CallFactory | None]:  # noqa: ANN401
    """Return endpoint and factory for a request that is not a call but reports some; None for any other request."""
    fetch = registry.fetch_for(options.method, options.url)
    if fetch is not None:
        return fetch, factory.fetch
    about = None if factory.about_batches is None else batches.request_for(options.method, options.url)
    if about is not None and factory.about_batches is not None:
        return about, factory.about_batches(about)
    return registry.hosted_for(options.method, options.url, options), factory.hosted


def lines_of(call: LiveCall) -> LineReader | UnknownResults | None:
    """Return the reader of the batch results that this request downloads; None if it downloads none."""
    return getattr(call.span, "lines", None)


def upload_of(call: LiveCall) -> Callable[[object, object], Any] | None:
    """Return the function that takes the fields and files of an upload; None if the request is not an upload."""
    return getattr(call.span, "uploads", None)


def passed(pieces: Iterator[bytes], lines: LineReader | UnknownResults, observer: ResponseObserver) -> Iterator[bytes]:
    """Yield the pieces, and pass each to `lines`."""
    add = lines.add
    observer.pulling = True
    try:
        for piece in pieces:
            observer.pulling = False
            add(piece)
            yield piece
            observer.pulling = True
    except BaseException as error:
        _broken_off(observer, error)
        raise
    _completed(observer)


async def passed_async(
    pieces: AsyncIterator[bytes], lines: LineReader | UnknownResults, observer: ResponseObserver
) -> AsyncIterator[bytes]:
    """Yield the pieces, and pass each to `lines`."""
    add = lines.add
    observer.pulling = True
    try:
        async for piece in pieces:
            observer.pulling = False
            add(piece)
            yield piece
            observer.pulling = True
    except BaseException as error:
        _broken_off(observer, error)
        raise
    _completed(observer)


def _broken_off(observer: ResponseObserver, error: BaseException) -> None:
    observer.pulling = False
    if isinstance(error, GeneratorExit):
        observer.on(Event.READER_GONE)
    else:
        observer.failed(error)


def _completed(observer: ResponseObserver) -> None:
    observer.pulling = False
    observer.completed()


def observe_unwrap(hook_context: HookContext, original: Function) -> Function:
    """Return a replacement of `webhooks.unwrap` that reports background responses; the event is unchanged."""

    def begin(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[WebhookReport, Any] | None:
        del kwargs
        factory = hook_context.factory()
        report = None if factory is None else factory.webhook
        return None if report is None else (report, args[0])

    def returned(state: tuple[WebhookReport, Any], event: Any) -> None:  # noqa: ANN401 - an event of the SDK
        report, resource = state
        kind, response_id = getattr(event, "type", None), getattr(getattr(event, "data", None), "id", None)
        if isinstance(kind, str) and kind.startswith(_PREFIX) and isinstance(response_id, str):
            at_ns = unix_ns(getattr(event, "created_at", None))
            client = getattr(resource, names.RESOURCE_CLIENT.name, None)
            report(call_info(client, None, stream=False), response_id, kind.removeprefix(_PREFIX), at_ns)

    return guarded(original, HookSteps(step=_READ, begin=begin, returned=returned))
