"""Manual recording: the same span and record for calls made without a supported SDK.

Your client reports its requests and responses; everything else is as for the SDKs.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import msgspec
from opentelemetry import context as otel_context

from callspan.agent.arguments import Time, as_text, moment, offset
from callspan.agent.call_ids import remember_call
from callspan.agent.context import AsyncWithMixin, current_context
from callspan.agent.misuse import UsageError, current_runtime_or_warn, report_misuse
from callspan.errors import stated_error
from callspan.observe.call import Call
from callspan.observe.factory import CallInfo, ExplicitTimes
from callspan.providers import registry
from callspan.providers.base import Endpoint
from callspan.providers.hosts import port_of
from callspan.record.apis import APIS
from callspan.record.codec import encode_json
from callspan.record.plain_json import plain
from callspan.runtime.fail_open import fail_open
from callspan.wiring import WIRING

if TYPE_CHECKING:
    from typing_extensions import Self

_START: Final = fail_open("start recording a call")
_FEED: Final = fail_open("record the data of a client")
_END: Final = fail_open("finish recording a call")


class RecordedCall(AsyncWithMixin):
    """One call recorded manually, see `record_call`. Methods have no effect after its end, or with an invalid `at`.

    Example:
        >>> with callspan.record_call(provider="my_gateway", model="m") as call:
        ...     call.request({"messages": [{"role": "user", "content": "Hi"}]})
        ...     call.response({"choices": [{"message": {"role": "assistant", "content": "Hello!"}}]})
    """

    def __init__(self, endpoint: Endpoint, info: CallInfo, at: Time | None = None) -> None:
        self._endpoint = endpoint
        self._at = at
        self._info = info
        self._call: Call | None = None
        self._outer = otel_context.Context()
        self._inner: otel_context.Context | None = None

    @property
    def call_id(self) -> str | None:
        """Id of the record; None if nothing is instrumented, or if it is still to be made from the provider's id."""
        return None if self._call is None else self._call.id_cell.value

    def request(self, body: object) -> None:
        """Record the request's body, parsed or as exact bytes; `stream` in it makes the call a stream."""
        call = self._call
        if call is None:
            return
        with _FEED:
            content = body if isinstance(body, bytes) else encode_json(body)
            parsed = registry.decoded(content)
            if isinstance(parsed, dict):
                call.streaming = call.streaming or parsed.get("stream") is True
            call.sent(content, parsed)

    def attempt_started(self) -> None:
        """Record the start of an attempt, before its request is sent. Needed only for the times of attempts."""
        call = self._call
        if call is not None:
            with _FEED:
                call.attempts.started()

    def response_headers(self, status: int, headers: Mapping[str, str] | None = None) -> None:
        """Record the response's HTTP status and, if known, its headers (case-insensitive)."""
        call = self._call
        if call is not None:
            with _FEED:
                lowered = {str(name).lower(): str(value) for name, value in (headers or {}).items()}
                call.attempts.headers_received(status, lowered)

    def first_token(self, *, at: Time | None = None) -> None:
        """Record the time of the first content, if no chunk shows it. Only the first call counts.

        `at` is the time, now by default; it is required for a call that itself has `at`.
        """
        call = self._call
        if call is None or call.ended:
            return
        if at is not None:
            offset_ns = offset(at, call.record.timing.start_ns)
            if offset_ns is None:
                return
            times = call.state_times()
        else:
            times = call.explicit = call.explicit or ExplicitTimes()
            offset_ns = None if times.is_past else call.offset_ns()
        if times.first_token_ns is None:
            times.first_token_ns = offset_ns

    def end(self, error: BaseException | None = None, *, at: Time | None = None) -> None:
        """End the call, with the exception that ended it if there was one; the end of the block ends it too.

        `at` is the end time; by default now, or unknown if the call itself has `at`. Only the first end counts.
        """
        call = self._call
        if call is None:
            return
        duration_ns = None
        if at is not None and not call.ended:
            duration_ns = offset(at, call.record.timing.start_ns)
            if duration_ns is None:
                return
            call.state_times().duration_ns = duration_ns
        with _END:
            self._restore()
        with _END:
            failure = stated_error(error)
            if failure is None:
                call.end(at_ns=duration_ns)
            else:
                call.fail(failure, at_ns=duration_ns)

    def chunk(self, data: object) -> None:
        """Record one parsed event of a stream."""
        call = self._call
        if call is not None:
            call.set_streaming(True)
            call.chunk(data if isinstance(data, dict) else plain(data))

    def response(self, body: object) -> None:
        """Record the parsed response body, which is copied."""
        call = self._call
        if call is not None:
            with _FEED:
                call.set_streaming(False)
                call.take_body(msgspec.json.decode(encode_json(body)))

    def __enter__(self) -> Self:
        """Start the call; its span is the current one within the block."""
        if self._call is not None and not self._call.ended:
            report_misuse(UsageError("the recorded call is running; create one for each call"))
            return self
        self._outer = current_context()
        try:
            self._start()
        except BaseException:
            self._restore()
            self._call = None  # the background worker ends it
            raise
        return self

    def _start(self) -> None:
        try:
            start_ns = None if self._at is None else moment(self._at)
        except UsageError as misuse:
            report_misuse(misuse)
            return
        with _START:
            factory = WIRING.hook_context.factory()
            if factory is None:
                current_runtime_or_warn()
            else:
                self._call = Call(factory, self._endpoint, self._info, past_ns=start_ns)
                remember_call(otel_context.get_current(), self._call.id_cell)
                self._inner = self._call.span.within(self._outer)
                otel_context.attach(self._inner)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the call; an exception propagates, and sets the outcome to error, timeout or cancelled."""
        try:
            self.end(error)
        finally:
            self._restore()  # also if an interrupt came before the end

    def _restore(self) -> None:
        """Restore the context from before the block."""
        if otel_context.get_current() is self._inner:
            otel_context.attach(self._outer)


def _url_text(server: object) -> str:
    """Return a URL as text. An SDK's client states it as an object of its HTTP library."""
    is_url = all(hasattr(server, name) for name in ("scheme", "host", "port"))
    return as_text(str(server) if is_url else server) or ""


def record_call(
    *, provider: str, api: str = "chat_completions", model: str | None = None, server: str | None = None,
    client: str | None = None, stream: bool | None = None, at: Time | None = None,
) -> RecordedCall:  # fmt: skip
    """Record a call of your own client: a context manager for `with` and `async with`.

    Args:
        provider: Value of `gen_ai.provider.name`, such as `vllm`.
        api: The API that defines the format of the bodies. OpenAI's `chat_completions`, `responses`, `completions`,
            `embeddings`, `decisions`, `moderations`, `images`, `image_edits`, `image_variations`, `transcriptions`,
            `translations` and `speech`; Anthropic's `messages`; Gemini's and Vertex's `generate_content`,
            `embed_content`, `predict` and `interactions`; Bedrock's `converse`, `invoke_model` and
            `invoke_embeddings`; Cohere's `cohere_chat`, `cohere_chat_v1`, `cohere_embed` and `rerank`; Mistral's
            `fim_completions`; Ollama's `ollama_chat`, `ollama_generate` and `ollama_embed`; Hugging Face's
            `text_generation`; IBM's `watsonx_chat`, `watsonx_generation`, `watsonx_embeddings` and
            `watsonx_rerank`; Cloudflare's `workers_ai`; DashScope's `dashscope_generation`. Of xai-sdk and others over
            gRPC, what their servers speak over HTTP.
        model: The requested model, if known before the body.
        server: URL of the server.
        client: Name and version of the client, such as `mine/1.0`.
        stream: Whether the call is a stream, if known before the body and the first chunk.
        at: Start time of a past call, for example from a log: Unix nanoseconds (int), Unix seconds (float) or a
            datetime with a time zone; with an invalid time nothing is recorded. `first_token(at=)` and `end(at=)` state
            the times of its first token and its end, else these are unknown. It is priced with the prices of its day,
            and counts in no metric of this process.

    Returns:
        The call; without `instrument()` it records nothing.

    Raises:
        ValueError: `api` is not one of the above, or `server` is not a URL.

    Example:
        >>> with callspan.record_call(provider="vllm", api="chat_completions", model="m", stream=True) as call:
        ...     call.request({"model": "m", "stream": True, "messages": [{"role": "user", "content": "Hi"}]})
        ...     call.chunk({"choices": [{"index": 0, "delta": {"content": "Hello!"}}]})
        >>> with callspan.record_call(provider="gcp.gemini", api="generate_content", model="gemini-2.5-flash") as call:
        ...     call.request({"contents": [{"role": "user", "parts": [{"text": "Hi"}]}]})
        ...     call.response({"candidates": [{"content": {"role": "model", "parts": [{"text": "Hello!"}]}}]})
    """
    endpoint = registry.by_api(api)
    if endpoint is None:
        apis = ", ".join(sorted(name for name in APIS if registry.wire_of(name) != "spans"))
        raise ValueError(f"record_call: api={api!r} is unknown; use one of {apis}")
    address = urlsplit(_url_text(server))
    info = CallInfo(
        provider=as_text(provider) or "unknown", sdk=as_text(client), model=as_text(model), stream=stream,
        server_address=address.hostname,
        server_port=port_of(address.scheme, address.port),
    )  # fmt: skip
    return RecordedCall(endpoint, info, at)
