"""Resending: a recorded request through the SDK again, observed like any other call."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import msgspec

from callspan.process.media import MEDIA_KEY
from callspan.providers.registry import by_api
from callspan.record.call import CallRecord


class ResendError(Exception):
    """A recorded request cannot be sent again. The message says why, and what to do."""


class _Sdk(NamedTuple):
    """One SDK: its module, its client, and the path of its endpoints below the base URL."""

    module: str
    client: str
    prefix: str
    host: str


_SDKS: Final = {
    "messages": _Sdk("anthropic", "Anthropic", "/v1", "api.anthropic.com"),
    "chat_completions": _Sdk("openai", "OpenAI", "", "api.openai.com"),
    "responses": _Sdk("openai", "OpenAI", "", "api.openai.com"),
    "completions": _Sdk("openai", "OpenAI", "", "api.openai.com"),
    "embeddings": _Sdk("openai", "OpenAI", "", "api.openai.com"),
    "decisions": _Sdk("openai", "OpenAI", "", "api.openai.com"),
}


def resend(call: CallRecord, *, model: str | None, base_url: str | None, timeout_s: float) -> CallRecord:
    """Send the recorded request and return the record of the new call, be it an error.

    Raises ResendError for a request that was not kept whole, an SDK or key that is missing, or a host that would not
    be the recorded one.
    """
    from callspan.testing.capturing import capture

    body = _body(call)
    if model is not None:
        body["model"] = model
    sdk = _SDKS.get(call.api)
    endpoint = by_api(call.api)
    if sdk is None or endpoint is None:
        raise ResendError(f"{call.api} is not an API that can be replayed")
    client, errors = _client(sdk, call, base_url, timeout_s)
    path = sdk.prefix + endpoint.path.removeprefix("/v1")
    # Inline, so that the new answer can be looked at whole.
    with capture(strict=False, media="inline") as captured:
        try:
            _send(client, path, body, errors)
        finally:
            client.close()
    if not captured.records:
        raise ResendError("the SDK sent no request; this version may be unsupported, see `callspan doctor`")
    return captured.records[-1]


def _send(client: Any, path: str, body: dict[str, object], errors: type[Exception]) -> None:  # noqa: ANN401 - an SDK's client
    stream = body.get("stream") is True
    streams = importlib.import_module(type(client).__module__.partition(".")[0]).Stream[object]
    try:
        answer = client.post(path, body=body, cast_to=object, stream=stream, stream_cls=streams)
        for _ in answer if stream else ():
            continue
    except errors:
        # It is in the record, which is what is shown.
        return


def _body(call: CallRecord) -> dict[str, object]:
    kept = bytes(call.request.body)
    lost = [redaction for redaction in call.redactions if redaction.what.startswith("request")]
    if not kept:
        raise ResendError("the request was not kept: record with content='full'")
    if MEDIA_KEY.encode() in kept:
        raise ResendError("images or audio of the request were replaced by references: record with media='inline'")
    if lost:
        reasons = ", ".join(sorted({redaction.why for redaction in lost}))
        raise ResendError(f"the request was not kept in full ({reasons}), so it cannot be replayed")
    found = msgspec.json.decode(kept)
    if not isinstance(found, dict):
        raise ResendError("the request is not a JSON object")
    return found


def _client(sdk: _Sdk, call: CallRecord, base_url: str | None, timeout_s: float) -> tuple[Any, type[Exception]]:
    try:
        module = importlib.import_module(sdk.module)
    except ImportError as error:
        raise ResendError(f'{sdk.module} is not installed: pip install "callspan[{sdk.module}]"') from error
    failure: type[Exception] = getattr(module, f"{sdk.client}Error")
    make: Callable[..., Any] = getattr(module, sdk.client)
    try:
        client = make(base_url=base_url, timeout=timeout_s)
    except failure as error:
        raise ResendError(str(error)) from error
    host = client.base_url.host
    if base_url is None and host != (call.server_address or sdk.host):
        client.close()
        raise ResendError(
            f"the call went to {call.server_address}, and {sdk.module} would now call {host}: use --base-url"
        )
    return client, failure
