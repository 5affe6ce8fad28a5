"""Bedrock replay: sends a recorded request to a model on Bedrock again, by boto3 and the account of the environment.

The recorded JSON is the wire's, so bytes are base64. boto3 encodes them itself; they are decoded first, wherever its
model of the operation has bytes.
"""

from __future__ import annotations

import base64
import importlib
from contextlib import suppress
from typing import Any, Final

import msgspec

from callspan.cli.replay.http import SendError, named_model
from callspan.records import CallRecord

_BEDROCK: Final = "aws.bedrock"
_OWN: Final = ("converse", "invoke_model")
"""The APIs that only Bedrock speaks."""
_INVOKED: Final = ("messages", "chat_completions")
"""The APIs of the models that it invokes, whose body then names no model."""
_OF_BEDROCK: Final = "bedrock-"
"""What the version of Anthropic's API begins with there, at whatever address."""
_ATTEMPTS: Final = {"total_max_attempts": 1}


def is_of_bedrock(call: CallRecord, body: dict[str, object]) -> bool:
    """Return whether the request of a call is one of Bedrock's API, by whatever client it was sent."""
    if call.api in _OWN:
        return True
    is_at_bedrock = call.provider == _BEDROCK or str(body.get("anthropic_version")).startswith(_OF_BEDROCK)
    return call.api in _INVOKED and "model" not in body and is_at_bedrock


def send(call: CallRecord, body: dict[str, Any], *, model: str | None, base_url: str | None) -> None:
    """Send the body of a call, and read the answer to its end. Raises SendError before anything is sent."""
    name = named_model(call, model)
    session, config, exceptions = map(_imported, ("boto3", "botocore.config", "botocore.exceptions"))
    try:
        client = session.Session().client(
            "bedrock-runtime", endpoint_url=base_url, config=config.Config(retries=_ATTEMPTS)
        )
    except exceptions.BotoCoreError as error:
        raise SendError(str(error)) from error
    host = client.meta.endpoint_url.partition("://")[2].partition("/")[0].partition(":")[0]
    if base_url is None and host != (call.server_address or host):
        raise SendError(f"the call went to {call.server_address}, and boto3 would now call {host}: use --base-url")
    with suppress(exceptions.BotoCoreError, exceptions.ClientError):  # the record, which is shown, has the error
        _read(client, body, name, is_stream=call.request.stream is True)


def _imported(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise SendError('boto3 is not installed: pip install "callspan[bedrock]"') from error


def _read(client: Any, body: dict[str, Any], model: str, *, is_stream: bool) -> None:
    shape = client.meta.service_model.operation_model("Converse").input_shape
    if "messages" in body and body.keys() <= shape.members.keys():
        ask, part = (client.converse_stream, "stream") if is_stream else (client.converse, "")
        answer = ask(**_with_bytes(shape, body), modelId=model)
    else:  # the body of a vendor's own
        ask = client.invoke_model_with_response_stream if is_stream else client.invoke_model
        answer, part = ask(body=msgspec.json.encode(body), modelId=model), "body"
    for _ in answer[part] if part else ():
        continue


def _with_bytes(shape: Any, value: Any) -> Any:
    """Return JSON as boto3 takes it, with the bytes of the shapes that are bytes."""
    match shape.type_name:
        case "blob":
            return base64.b64decode(value)
        case "structure" if not shape.is_document_type:  # such as a schema, which may be anything
            members = shape.members.keys() & value.keys()  # boto3 names the others as errors
            return value | {name: _with_bytes(shape.members[name], value[name]) for name in members}
        case "list":
            return [_with_bytes(shape.member, item) for item in value]
    return value
