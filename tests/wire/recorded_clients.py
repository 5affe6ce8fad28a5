"""Recorded exchanges through google-genai and boto3: makes the request of each, and answers it as recorded.

A mock transport of the HTTP library, or a handler of botocore, stands for the network. Nothing here knows the code
under test.
"""

from __future__ import annotations

import asyncio
import base64
import inspect
import json
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, Final
from urllib.parse import unquote

import httpx2
import pytest

Json = dict[str, Any]
_PIECE: Final = 97
"""Bytes per piece of a stream."""
_CONFIG: Final = {"systemInstruction", "tools", "toolConfig", "safetySettings", "cachedContent", "labels"}
"""Fields of a request of Gemini that the SDK takes in its `config`, beside those of `generationConfig`."""
_BYTES: Final = ("bytes", "redactedContent")
"""Members of Bedrock's requests that are bytes."""


def body_of(row: Json) -> bytes:
    """The bytes of a recorded answer."""
    return base64.b64decode(row["body_base64"]) if row.get("body_base64") else str(row["body"]).encode()


def model_of(row: Json) -> str:
    """The model in a recorded path: `/v1beta/models/gemini-2.5-flash:generateContent`, `/model/…/converse`."""
    for mark in ("/models/", "/model/"):
        _, found, rest = row["path"].partition(mark)
        if found:
            return unquote(rest.partition("/")[0] if mark == "/model/" else rest.rpartition(":")[0])
    return str(row["model"])


async def outcome(call: Callable[[], Any]) -> tuple[list[Any], str | None]:
    """What the caller gets: the answer, or the chunks of a stream, as plain data; and the exception."""
    taken: list[Any] = []
    try:
        answer = call()
        answer = await answer if inspect.isawaitable(answer) else answer
        if hasattr(answer, "__aiter__"):
            async for item in answer:
                taken.append(_plain(item))
        elif inspect.isgenerator(answer):
            taken.extend(_plain(item) for item in answer)
        else:
            taken.append(_plain(answer))
    except Exception as error:  # noqa: BLE001 - whatever it is, it is compared with what the bare SDK raises
        return taken, f"{type(error).__qualname__}: {error}"
    return taken, None


def _plain(item: Any) -> Any:
    if hasattr(item, "model_dump"):
        return item.model_dump(mode="json", exclude={"sdk_http_response"}, warnings=False)
    return item


class Gemini:
    """Plays exchanges through google-genai, sync or async."""

    def __init__(self, *, is_async: bool) -> None:
        genai = pytest.importorskip("google.genai", reason="google-genai is not installed")
        api_client: Any = genai._api_client
        self._http: Any = getattr(api_client, "httpx2", None) or api_client.httpx
        self._types: Any = genai.types
        self._row: Json = {}
        self.sent: Any = None
        """The JSON body of the last request."""
        name = "httpx_async_client" if is_async else "httpx_client"
        if name not in self._types.HttpOptions.model_fields:
            pytest.skip("this version takes no client of its HTTP library")
        kind = self._http.AsyncClient if is_async else self._http.Client
        transport = kind(transport=self._http.MockTransport(self._answer))
        client = genai.Client(api_key="test", http_options={name: transport})
        self._stream: Any = type("Stream", (_Pieces, self._http.SyncByteStream, self._http.AsyncByteStream), {})
        self._client = client  # which closes the transport when it is collected
        self._models = client.aio.models if is_async else client.models

    def _answer(self, request: Any) -> Any:
        self.sent = json.loads(request.content)
        headers, body = self._row["headers"], body_of(self._row)
        if not self._row["stream"]:
            return self._http.Response(self._row["status"], headers=headers, content=body)
        return self._http.Response(self._row["status"], headers=headers, stream=self._stream(body))

    def play(self, row: Json) -> tuple[list[Any], str | None]:
        self._row, self.sent = row, None
        result = asyncio.run(outcome(lambda: self._call(row)))
        if self.sent is None:  # this version refuses something in the request
            result = asyncio.run(outcome(lambda: self._call_with_body(row)))
        return result

    def _call(self, row: Json) -> Any:
        model, request = model_of(row), dict(row["request"])
        if row["endpoint"] == "embed_content":
            asked = request.get("requests") or [request]
            return self._models.embed_content(model=model, contents=[each["content"] for each in asked])
        config = self._types.GenerateContentConfig(**_config(request))
        return self._method(row)(model=model, contents=request["contents"], config=config)

    def _call_with_body(self, row: Json) -> Any:
        """The same with a body that the SDK adds to its own."""
        options = self._types.HttpOptions(extra_body=row["request"])
        return self._method(row)(model=model_of(row), contents="Hi", config={"http_options": options})

    def _method(self, row: Json) -> Any:
        return self._models.generate_content_stream if row["stream"] else self._models.generate_content


def _config(request: Json) -> Json:
    fields = {_camel(name): value for name, value in request.items()}
    chosen = {name: fields[name] for name in _CONFIG & fields.keys()}
    return {**fields.get("generationConfig", {}), **chosen, "automaticFunctionCalling": {"disable": True}}


def _camel(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(word.capitalize() for word in others)


class _Pieces:
    """A body in pieces."""

    def __init__(self, whole: bytes) -> None:
        self._pieces = [whole[start : start + _PIECE] for start in range(0, len(whole), _PIECE)]

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._pieces)

    async def __aiter__(self) -> Any:
        for piece in self._pieces:
            yield piece


class Bedrock:
    """Plays exchanges through boto3."""

    def __init__(self) -> None:
        boto3 = pytest.importorskip("boto3", reason="boto3 is not installed")
        from botocore.config import Config

        self._row: Json = {}
        self._client = boto3.Session("key", "secret", region_name="us-east-1").client(
            "bedrock-runtime", config=Config(parameter_validation=False, retries={"total_max_attempts": 1})
        )
        self._client.meta.events.register_first("before-send.bedrock-runtime", self._answer)

    def _answer(self, request: Any, **_: Any) -> Any:
        from botocore.awsrequest import AWSResponse

        return AWSResponse(request.url, self._row["status"], self._row["headers"], _Raw(body_of(self._row)))

    def play(self, row: Json) -> tuple[list[Any], str | None]:
        self._row = row
        return asyncio.run(outcome(lambda: self._call(row)))

    def _call(self, row: Json) -> Any:
        model, request = model_of(row), row["request"]
        if row["endpoint"].startswith("invoke"):
            operation = self._client.invoke_model_with_response_stream if row["stream"] else self._client.invoke_model
            answer = operation(modelId=model, body=json.dumps(request))
            return list(answer["body"]) if row["stream"] else answer["body"].read()
        arguments = {name: value for name, value in _with_bytes(request).items() if name != "modelId"}
        if not row["stream"]:
            answer = self._client.converse(modelId=model, **arguments)
            return {name: value for name, value in answer.items() if name != "ResponseMetadata"}
        return list(self._client.converse_stream(modelId=model, **arguments)["stream"])


class _Raw:
    """A body as botocore reads it of urllib3."""

    def __init__(self, whole: bytes) -> None:
        self._pieces = _Pieces(whole)
        self._rest = whole

    def stream(self, *_: Any, **__: Any) -> Iterator[bytes]:
        return iter(self._pieces)

    def read(self, amount: int | None = None, **_: Any) -> bytes:
        taken = self._rest if amount is None else self._rest[:amount]
        self._rest = self._rest[len(taken) :]
        return taken

    def close(self) -> None:
        """Do nothing."""


def _with_bytes(value: Any) -> Any:
    if isinstance(value, list):
        return [_with_bytes(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {
        name: base64.b64decode(item) if name in _BYTES and isinstance(item, str) else _with_bytes(item)
        for name, item in value.items()
    }


class Http:
    """Plays exchanges through httpx, as clients without a hook of their own do."""

    def __init__(self) -> None:
        self._row: Json = {}
        self._client = httpx2.Client(transport=httpx2.MockTransport(self._answer))

    def _answer(self, _: httpx2.Request) -> httpx2.Response:
        row = self._row
        return httpx2.Response(row["status"], headers=row["headers"], content=iter(_Pieces(body_of(row))))

    def play(self, row: Json) -> tuple[list[Any], str | None]:
        self._row = row
        return asyncio.run(outcome(lambda: self._call(row)))

    def _call(self, row: Json) -> list[bytes]:
        with self._client.stream("POST", f"https://{row['host']}{row['path']}", json=row["request"]) as answer:
            return [*answer.iter_bytes()]


@cache
def player(name: str) -> Gemini | Bedrock | Http:
    """The client of a name, made once."""
    if name == "httpx":
        return Http()
    return Bedrock() if name == "boto3" else Gemini(is_async=name == "google-genai async")
