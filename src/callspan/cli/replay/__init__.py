"""`callspan replay CALL`: sends the exact recorded request again and shows both outputs."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from typing import Any, Final

import click
import msgspec
from rich.rule import Rule

from callspan.cli.command_context import Command, CommandContext
from callspan.cli.json_rows import call_row, call_rows
from callspan.cli.prices import configured_pricer
from callspan.cli.replay import bedrock, http
from callspan.cli.replay.http import HTTP_APIS, SendError
from callspan.cli.terminal.call_text import call_tokens
from callspan.cli.terminal.safe_text import clean_lines
from callspan.cli.terminal.screen import Screen
from callspan.cli.values import HTTP_URL
from callspan.formatting import UNKNOWN, duration, money
from callspan.providers.registry import wire_of
from callspan.records import CallRecord
from callspan.runtime.safe_urls import error_text
from callspan.sdk_profiles import GENERATED, PROFILES, SdkProfile

_EPILOG: Final = """\
callspan replay 01a1f810-d13f --model gpt-5-mini
callspan replay 01a1f810-d13f --base-url http://localhost:8000/v1"""
_REPLAYED: Final = {
    "messages": "/messages", "chat_completions": "/chat/completions", "responses": "/responses",
    "completions": "/completions",
}  # fmt: skip
"""The paths of the APIs that answer with text."""
_WITHOUT_MODEL: Final = ("responses",)
"""APIs that accept a stored prompt instead of a model."""


@click.command(
    "replay",
    cls=Command,
    page="Evaluate and train: Replay",
    short_help="Send a recorded request again; compare both outputs.",
    epilog=_EPILOG,
)
@click.argument("ident", metavar="CALL")
@click.option("--model", metavar="NAME", help="Send the request to this model instead.")
@click.option("--base-url", type=HTTP_URL, metavar="URL", help="Send the request to this URL instead.")
def replay_command(context: CommandContext, ident: str, model: str | None, base_url: str | None) -> None:
    """Send a recorded request again with the same JSON, and show both answers. It may cost money.

    CALL is a call's id, the beginning of it, or its span id. The API key is the SDK's own, as in OPENAI_API_KEY. Exit
    code 0 if the new call succeeds, also with another answer; 1 if it fails or cannot be sent.
    """
    with context.reader() as reader:
        original = context.named(reader, ident)
        if not isinstance(original, CallRecord):
            context.no_match(f"{ident} is a session: name one of its calls.")
        (row,) = call_rows(reader, [original])
    pricer = configured_pricer()
    try:
        replayed = pricer.priced(resend(original, model=model, base_url=base_url))
    except ResendError as error:
        context.fail(error_text(error))
    if context.json:
        recorded_row, replayed_row = (
            fields | {"output": _output(call)} for fields, call in ((row, original), (call_row(replayed), replayed))
        )
        context.emit(
            {"recorded": recorded_row, "replayed": replayed_row, "same": _output(original) == _output(replayed)}
        )
    else:
        _show(context.screen, original, replayed)
    if replayed.outcome != "success":
        raise click.exceptions.Exit(1)


def _show(screen: Screen, original: CallRecord, replayed: CallRecord) -> None:
    for title, call in (("recorded", original), ("now", replayed)):
        screen.print(Rule(style="bright_black"))
        screen.line(
            (f"{title:<9} ", "dim"),
            (call.model or UNKNOWN, "bold cyan"),
            f"  {call_tokens(call)} tokens",
            f"  {money(call.cost.usd if call.cost else None)}  {duration(call.timing.duration_ns)}",
            ("" if call.outcome == "success" else f"  {call.outcome}", "red"),
        )
        screen.print(clean_lines(_output(call) or (call.error.message if call.error else None) or "no output"))
    screen.print(Rule(style="bright_black"))
    is_same = _output(original) == _output(replayed)
    screen.line(("the same words", "green") if is_same else ("other words", "yellow"))


def _output(call: CallRecord) -> str | None:
    """Return the complete output; None if it was not recorded."""
    return "\n".join(call.answer_texts or ()) or None


class ResendError(Exception):
    """The recorded request cannot be sent again. The message has the reason and the remedy."""


def resend(call: CallRecord, *, model: str | None, base_url: str | None) -> CallRecord:
    """Send the recorded request and return the record of the new call, whether it succeeds or fails.

    Raises ResendError if the request was not recorded completely, the SDK or its key is missing, or the host would
    not be the recorded one.
    """
    from callspan.testing.capturing import capture

    body = _body(call)
    if model is not None and "model" in body:
        body["model"] = model
    if bedrock.is_of_bedrock(call, body):
        return _resend_by(bedrock.send, call, body, model, base_url)
    if call.api in HTTP_APIS:
        return _resend_by(http.send, call, body, model, base_url)
    if call.api not in _REPLAYED:
        raise ResendError(f"{call.api} is not an API that can be replayed")
    if call.api not in _WITHOUT_MODEL and "model" not in body:
        raise ResendError("its path named the model, as on Vertex: such requests cannot be replayed")
    sdk = _profile(call)
    client, streams, errors = _client(sdk, call, base_url)
    path = sdk.prefix + _REPLAYED[call.api]
    # Inline, so that the complete new output is in the record.
    with capture(media="inline") as captured:
        try:
            _send(client, path, body, streams, errors)
        finally:
            client.close()
    return _last(captured.records)


def _resend_by(
    send: Callable[..., None], call: CallRecord, body: dict[str, object], model: str | None, base_url: str | None
) -> CallRecord:
    from callspan.testing.capturing import capture

    with capture(media="inline", http=True) as captured:
        try:
            send(call, body, model=model, base_url=base_url)
        except SendError as error:
            raise ResendError(str(error)) from error
    return _last(captured.records)


def _last(records: Sequence[CallRecord]) -> CallRecord:
    if not records:
        raise ResendError("the SDK sent no request; this version may be unsupported, see `callspan doctor`")
    return records[-1]


def _send(client: Any, path: str, body: dict[str, object], streams: Any, errors: type[Exception]) -> None:
    stream = body.get("stream") is True
    try:
        answer = client.post(path, body=body, cast_to=object, stream=stream, stream_cls=streams[object])
        for _ in answer if stream else ():
            continue
    except errors:
        # The record, which is shown, has the error.
        return


def _body(call: CallRecord) -> dict[str, object]:
    body = bytes(call.request.body)
    losses = [redaction for redaction in call.redactions if redaction.what.startswith("request")]
    if not body:
        raise ResendError("the request was not kept: record with content='full'")
    if any(redaction.why == "media" for redaction in losses):
        raise ResendError("images or audio of the request were replaced by references: record with media='inline'")
    if losses:
        reasons = ", ".join(sorted({redaction.why for redaction in losses}))
        raise ResendError(f"the request was not kept in full ({reasons}), so it cannot be replayed")
    request = msgspec.json.decode(body)
    if not isinstance(request, dict):
        raise ResendError("the request is not a JSON object")
    return request


def _profile(call: CallRecord) -> SdkProfile:
    """Return the profile of the SDK that made the call; for an unknown SDK, of the API's own SDK."""
    name = (call.sdk or "").partition("/")[0]
    return next((profile for profile in GENERATED if profile.distribution == name), PROFILES[wire_of(call.api)])


def _client(sdk: SdkProfile, call: CallRecord, base_url: str | None) -> tuple[Any, Any, type[Exception]]:
    """Return a client, the class of its streams, and the base class of its errors."""
    try:
        module = importlib.import_module(sdk.package)
    except ImportError as error:
        raise ResendError(f'{sdk.name} is not installed: pip install "callspan[{sdk.name}]"') from error
    failure: type[Exception] = getattr(module, f"{sdk.title}Error")
    make: Callable[..., Any] = getattr(module, sdk.title)
    try:
        client = make(base_url=base_url)
    except failure as error:
        raise ResendError(error_text(error)) from error
    host = client.base_url.host
    if base_url is None and host != (call.server_address or sdk.host):
        client.close()
        raise ResendError(
            f"the call went to {call.server_address}, and {sdk.name} would now call {host}: use --base-url"
        )
    return client, module.Stream, failure
