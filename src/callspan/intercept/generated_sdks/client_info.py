"""Client info: the provider, server and platform of a call, read from the SDK's client before anything is sent."""

from __future__ import annotations

from typing import Any, Final, TypeAlias
from urllib.parse import urlsplit

from callspan import private_names as names
from callspan.intercept.sdk_versions import sdk_of
from callspan.observe.factory import CallInfo
from callspan.providers.hosts import DEFERRED, port_of, provider_of
from callspan.record.codec import encodable
from callspan.runtime.fail_open import fail_open
from callspan.sdk_profiles import profile_of

_Server: TypeAlias = tuple[str, str, str | None, int | None]
"""SDK and its version, provider, host, port."""

_READ_URL: Final = fail_open("read the address of a client")
_RAW_HEADER: Final = "x-stainless-raw-response"
_MAX_KNOWN: Final = 256
_HTTP_LIBRARIES: Final = ("httpx", "httpx2")
_KNOWN: Final[dict[int, tuple[object, type, _Server]]] = {}
"""Cache by `id()` of the base URL, which is referenced so that its id is not reused."""


def call_info(client: Any, options: Any, stream: bool) -> CallInfo:
    """Return provider, server, model and SDK of a call. Reads only scalars, because `messages` may be a generator."""
    sdk, provider, host, port = _server_of(client, getattr(options, "url", None))
    headers = getattr(options, "headers", None)
    return CallInfo(
        provider=provider,
        sdk=sdk,
        server_address=host,
        server_port=port,
        model=_model(options),
        stream=stream,
        raw=isinstance(headers, dict) and _RAW_HEADER in map(str.lower, map(str, headers)),
    )


def _server_of(client: Any, path: object) -> _Server:
    """Return the server of a request: from its path, if the path is a whole URL, else from the client."""
    kind: type = type(client)
    # The openai SDK's property imports a module on every access; the client also has the value in a field.
    url = path if isinstance(path, str) and "://" in path else getattr(client, names.BASE_URL.name, None)
    if url is None:
        url = getattr(client, "base_url", None)
    cached = _KNOWN.get(id(url))
    # Formatting a URL is expensive; the object is the same for every call of a client.
    return (
        cached[2] if cached is not None and cached[0] is url and cached[1] is kind else _new_server(client, kind, url)
    )


def _new_server(client: Any, kind: type, url: object) -> _Server:
    try:
        if not isinstance(url, str) and type(url).__module__.partition(".")[0] not in _HTTP_LIBRARIES:
            url = getattr(client, "base_url", None)
        server = _server(client, str(url) if url is not None else "")
    except Exception as error:
        _READ_URL.report(error)
        server = _server(client, "")
    if len(_KNOWN) >= _MAX_KNOWN:
        _KNOWN.clear()
    _KNOWN[id(url)] = (url, kind, server)
    return server


def _model(options: Any) -> str | None:
    body = getattr(options, "json_data", None)
    for source in (getattr(options, "extra_json", None), body):
        if not isinstance(source, dict):
            continue
        model = source.get("model")
        if isinstance(model, str):
            return encodable(model)
    return None


def _server(client: object, url: str) -> _Server:
    kind = type(client)
    classes = [base.__name__.removeprefix("Async") for base in kind.__mro__]
    profile, parts = profile_of(kind), urlsplit(url or next(filter(None, map(DEFERRED.get, classes)), ""))
    runtime = getattr(getattr(client, names.PROVIDER.name, None), "name", None)
    client_names = [*classes, runtime] if isinstance(runtime, str) else classes
    return (
        sdk_of(profile.distribution),
        provider_of(client_names, parts.netloc.rpartition("@")[2], profile),
        parts.hostname,
        port_of(parts.scheme, parts.port),
    )
