"""HTTP replay: sends a recorded request again as it was, for APIs without an SDK method that takes a whole body.

A provider's key from the environment goes only to that provider's host, or where the user says.
"""

from __future__ import annotations

import importlib
import os
from types import ModuleType
from typing import Any, Final, NamedTuple
from urllib.parse import quote

from callspan.records import CallRecord

_TIMEOUT_S: Final = 600.0


class HttpApi(NamedTuple):
    """Where and how an API is asked."""

    path: str
    """`{model}` and `{verb}` are filled in for Gemini."""
    host: str
    keys: tuple[str, ...] = ()
    """Environment variables with the key; the first one that is set counts."""
    header: str = "authorization"
    prefix: str = "Bearer "


_COHERE: Final = ("CO_API_KEY", "COHERE_API_KEY")
_GOOGLE: Final = ("GEMINI_API_KEY", "GOOGLE_API_KEY")
_OLLAMA: Final = "localhost"
_GOOGLE_HOST: Final = "generativelanguage.googleapis.com"
HTTP_APIS: Final = {
    "cohere_chat": HttpApi("/v2/chat", "api.cohere.com", _COHERE),
    "cohere_chat_v1": HttpApi("/v1/chat", "api.cohere.com", _COHERE),
    "ollama_chat": HttpApi("/api/chat", _OLLAMA),
    "ollama_generate": HttpApi("/api/generate", _OLLAMA),
    "fim_completions": HttpApi("/v1/fim/completions", "api.mistral.ai", ("MISTRAL_API_KEY",)),
    "generate_content": HttpApi("/v1beta/models/{model}:{verb}", _GOOGLE_HOST, _GOOGLE, "x-goog-api-key", ""),
    "interactions": HttpApi("/v1beta/interactions", _GOOGLE_HOST, _GOOGLE, "x-goog-api-key", ""),
}
"""The APIs that are sent again so, and that answer with text."""
_LOCAL: Final = ("localhost", "127.0.0.1", "::1")
_VERBS: Final = {False: "generateContent", True: "streamGenerateContent?alt=sse"}


class SendError(Exception):
    """The request cannot be sent. The message has the reason."""


def send(call: CallRecord, body: dict[str, object], *, model: str | None, base_url: str | None) -> None:
    """Send the body of a call, and read the answer to its end. Raises SendError before anything is sent."""
    api = HTTP_APIS[call.api]
    library, headers = _library(), {}
    key = next((value for name in api.keys if (value := os.environ.get(name))), None)
    if key is not None:
        headers[api.header] = api.prefix + key
    elif api.keys and base_url is None:
        raise SendError(f"set {api.keys[0]}, the key of {call.provider}")
    verb = _VERBS[call.request.stream is True]
    is_in_path = "{model}" in api.path
    path = api.path.format(model=quote(named_model(call, model), safe=""), verb=verb) if is_in_path else api.path
    try:
        with library.Client(timeout=_TIMEOUT_S) as client:
            _read(client, (base_url or _server(call, api)).rstrip("/") + path, body, headers)
    except library.HTTPError:
        return  # the record, which is shown, has the error


def named_model(call: CallRecord, model: str | None) -> str:
    """Return the model to ask, for an API that has it in the path. Raises SendError if neither names one."""
    name = model or call.request.model
    if name is None:
        raise SendError("its path named the model, which was not recorded: use --model")
    return name


def _read(client: Any, url: str, body: dict[str, object], headers: dict[str, str]) -> None:
    with client.stream("POST", url, json=body, headers=headers) as answer:
        for _ in answer.iter_bytes():
            continue


def _server(call: CallRecord, api: HttpApi) -> str:
    """Return the address of the server of a call. Raises SendError unless it is the one that the key is for."""
    host = call.server_address or api.host
    if api.host in _LOCAL and host in _LOCAL:
        return f"http://{host}:{call.server_port or 11434}"
    if host != api.host:
        raise SendError(f"the call went to {host}, and the key is for {api.host}: use --base-url")
    return f"https://{host}"


def _library() -> ModuleType:
    """Return the HTTP library that is installed. Raises SendError without one."""
    for name in ("httpx2", "httpx"):
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    raise SendError("httpx is not installed: pip install httpx")
