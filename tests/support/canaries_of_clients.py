"""Canaries of other clients: google-genai, boto3, and requests of any code by four libraries, with all kinds of keys.

`CLIENTS` are their kinds for the program of `canaries`, `KEYS` what authenticates them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Final, NamedTuple

from tests.support.canaries import HEADER, Kind, Program
from tests.support.scale import scaled
from tests.support.waiting import HANG_S

GOOGLE_KEY, QUERY_KEY = "AIzaSECRETKEYsecretkey0123456789abcdefgh", "query-SECRETKEY-0123456789ab"
AWS_ID, AWS_SECRET = "AKIASECRETSECRET0001", "awssecret/SECRETKEY+0123456789abcdefghijk"
AWS_TOKEN, SIGNATURE = "FwoGZXIvYXdzSECRETTOKEN0123456789//////////", "5ec2e7" * 10 + "aaaa"
BEARER, HUGGING_KEY = "c0SECRETtokenSECRETtoken0123456789abcdEF", "hf_SECRETKEYsecretkey0123456789abcd"
PROXY_KEY, PATH_KEY = "pr0xySECRETKEYSECRETKEY0123456789abcdef", "pathSECRETKEY0123456789abcdefghij"
QUERY = "query-VALUE-77"
KEYS: Final = (
    GOOGLE_KEY, QUERY_KEY, AWS_ID, AWS_SECRET, AWS_TOKEN, SIGNATURE, BEARER, HUGGING_KEY, PROXY_KEY, PATH_KEY, QUERY,
)  # fmt: skip
"""And a query that is none: no query is recorded."""
CLIENTS: Final[list[Kind]] = []
SIGNED: Final = {
    "authorization": f"AWS4-HMAC-SHA256 Credential={AWS_ID}/20261129/us-east-1/bedrock/aws4_request, "
    f"SignedHeaders=host;x-amz-date;x-amz-security-token, Signature={SIGNATURE}",
    "x-amz-security-token": AWS_TOKEN, "x-amz-date": "20261129T000000Z",
}  # fmt: skip
_OF_PROXIES: Final = (
    "x-portkey-api-key", "x-portkey-virtual-key", "helicone-auth", "cf-aig-authorization", "x-litellm-api-key",
    "proxy-authorization", "x-forwarded-access-token", "api-key", "x-api-key", "cookie",
)  # fmt: skip
PROXIED: Final = dict.fromkeys(_OF_PROXIES, PROXY_KEY)
ECHO: Final = (
    f"x-goog-api-key: {GOOGLE_KEY}; key {GOOGLE_KEY}; https://h.example/v1beta/models/m:x?alt=sse&key={QUERY_KEY}; "
    f"{SIGNED['authorization']}; x-amz-security-token:{AWS_TOKEN}; X-Amz-Security-Token={AWS_TOKEN}; "
    f"aws_secret_access_key={AWS_SECRET}; Authorization: Bearer {BEARER}; invalid token {HUGGING_KEY}; "
    f"cf-aig-authorization: Bearer {PROXY_KEY}; x-portkey-api-key: {PROXY_KEY}"
)
"""What a server might repeat of a request in its error."""


class Wire(NamedTuple):
    """Requests by any code: their path, the name of their body, and what authenticates them."""

    path: str
    api: str
    headers: dict[str, str]
    stream_path: str = ""
    sdk: str = ""
    """The user agent of its SDK, where its request shows no call: bytes that pass unread and errors do not either."""


WIRES: Final = {
    "g": Wire(
        f"/v1beta/models/m:generateContent?page={QUERY}&key={QUERY_KEY}", "generate_content",
        {"x-goog-api-key": GOOGLE_KEY},
        f"/v1beta/models/m:streamGenerateContent?alt=sse&key={QUERY_KEY}",
    ),
    "b": Wire("/model/us.amazon.nova-micro-v1:0/converse", "converse", SIGNED, "/model/m/converse-stream"),
    "c": Wire(f"/{PATH_KEY}/v2/chat", "cohere_chat", {"authorization": f"Bearer {BEARER}"}, sdk="cohere/5.0"),
    "o": Wire("/api/chat", "ollama_chat", {"authorization": f"Bearer {BEARER}"}, sdk="ollama-python/0.5"),
    "h": Wire(f"/v1/chat/completions?page={QUERY}", "chat", {"authorization": f"Bearer {HUGGING_KEY}", **PROXIED}),
}  # fmt: skip
Way = Callable[[Any, Any], object]
"""Sends a request by a client, and reads the answer."""


def _raising(response: Any) -> None:
    response.raise_for_status()


def _left(client: Any, request: Any) -> None:
    """After two events: the first one of some APIs tells nothing of a path that other programs have too."""
    response = client.send(request, stream=True)
    pieces = response.iter_bytes()
    next(pieces), next(pieces)
    response.close()


def _read_raw(client: Any, request: Any) -> None:
    list(client.send(request, stream=True).iter_raw())


def _raised(client: Any, request: Any) -> None:
    client.event_hooks = {"response": [_raising]}
    client.send(request)


def _unreachable(client: Any, request: Any) -> None:
    request.url = request.url.copy_with(host="127.0.0.1", port=9)
    client.send(request)


def _misdirected(client: Any, request: Any) -> None:
    """The exception of a redirect to no HTTP names the URL."""
    client.follow_redirects = True
    client.send(request)


WAYS: Final[dict[str, tuple[Way, dict[str, Any]]]] = {
    "plain": (lambda client, request: client.send(request), {}),
    "read": (lambda client, request: client.send(request, stream=True).read(), {}),
    "left": (_left, {}),
    "raw": (_read_raw, {}),
    "refused": (lambda client, request: client.send(request), {"status": 400}),
    "limited": (lambda client, request: client.send(request, stream=True).read(), {"status": 429}),
    "raised": (_raised, {"status": 401}),
    "unreachable": (_unreachable, {}),
    "misdirected": (
        _misdirected, {"status": 307, "raw": b"", "headers": {"location": f"ftp://h.example/?key={QUERY_KEY}"}},
    ),
    "cut": (lambda client, request: client.send(request, stream=True).read(), {"cut_after": 2}),
    "broken": (lambda client, request: client.send(request, stream=True).read(), {"error_after": 1}),
}  # fmt: skip
STREAMED: Final = ("read", "left", "raw", "cut", "broken")
READ, TOLD = ("plain", "read"), ("refused", "limited", "broken")
"""The ways whose answers are read to their end, and those whose errors are read."""
UNSHOWN: Final = ("raw", "refused", "limited", "raised", "misdirected", "unreachable")
"""The ways whose answers do not show that a request is a call."""


def _headers(wire: Wire, name: str) -> dict[str, str]:
    sender = {"user-agent": wire.sdk} if name in UNSHOWN and wire.sdk else {}
    return {**wire.headers, "x-internal": HEADER, **sender}


@CLIENTS.append
def other_code(c: Program) -> None:
    """Each wire by every way and ending; at full scale by each library, else by one of them in turn."""
    libraries = [library for library in ("httpx", "httpx2") if find_spec(library)]
    for turn, (letter, wire) in enumerate(WIRES.items()):
        for library in scaled(libraries[turn % len(libraries) :][:1], libraries):
            for name, (way, reply) in WAYS.items():
                of = f"{letter}{library[5:]}{name}"
                if name != "unreachable":
                    c.provider.reply(**_answer(c, name, of, reply))
                client = import_module(library).Client(base_url=f"http://{c.host}", verify=False)
                path = wire.stream_path if name in STREAMED and wire.stream_path else wire.path
                body = {**c.body(wire.api, of), "stream": name in STREAMED}
                body |= body.pop("extra_body", {})
                headers = _headers(wire, name)
                with suppress(Exception):
                    way(client, client.build_request("POST", path, json=body, headers=headers))
                client.close()


def _by_requests(name: str, url: str, options: dict[str, Any]) -> None:
    import requests

    with (
        requests.Session() as session,
        session.post(url, stream=name in STREAMED, timeout=HANG_S, **options) as response,
    ):
        if name == "left":
            next(response.iter_lines())
        elif name == "raw":
            list(response.raw.stream())
        elif name == "raised":
            response.raise_for_status()
        else:
            len(response.content)


def _by_aiohttp(name: str, url: str, options: dict[str, Any]) -> None:
    import aiohttp

    if "authorization" in options["headers"]:  # it refuses both
        scheme, _, rest = url.partition("://")
        url = f"{scheme}://{rest.rpartition('@')[2]}"

    async def sent() -> None:
        async with (
            aiohttp.ClientSession(raise_for_status=name == "raised") as session,
            session.post(url, **options) as response,
        ):
            if name == "left":
                await response.content.readany()
                await response.content.readany()
            elif name == "raw":
                _ = [piece async for piece in response.content.iter_any()]
            else:
                await response.read()

    asyncio.run(sent())


LIBRARIES: Final[dict[str, Callable[[str, str, dict[str, Any]], None]]] = {
    "requests": _by_requests,
    "aiohttp": _by_aiohttp,
}


@CLIENTS.append
def other_libraries(c: Program) -> None:
    """The same by the libraries that have requests of other shapes."""
    libraries = [library for library in LIBRARIES if find_spec(library)]
    for turn, (letter, wire) in enumerate(WIRES.items()):
        for library in scaled(libraries[turn % len(libraries) :][:1], libraries):
            for name, (_, reply) in WAYS.items():
                of = f"{letter}{library[0]}{name}"
                if name != "unreachable":
                    c.provider.reply(**_answer(c, name, of, reply))
                path = wire.stream_path if name in STREAMED and wire.stream_path else wire.path
                host = "127.0.0.1:9" if name == "unreachable" else c.host
                body = {**c.body(wire.api, of), "stream": name in STREAMED}
                body |= body.pop("extra_body", {})
                options = {"json": body, "headers": _headers(wire, name)}
                with suppress(Exception):
                    LIBRARIES[library](name, f"http://{host}{path}", options)


def _answer(c: Program, name: str, of: str, reply: dict[str, Any]) -> dict[str, Any]:
    """A reply whose texts are recorded, or may be in part."""
    if "raw" in reply:
        return reply
    text, message = (f"{'' if name in names else 'part'}{kind}{of}" for kind, names in (("answer", READ), ("no", TOLD)))
    return {"text": c(text), "message": f"{c(message)} {ECHO}", **reply}


@CLIENTS.append
def gemini(c: Program) -> None:
    if not find_spec("google") or not find_spec("google.genai"):
        return
    genai: Any = import_module("google.genai")
    client = genai.Client(api_key=GOOGLE_KEY, http_options={"base_url": f"http://{c.host}", "headers": PROXIED})
    asked = {"model": "m", "contents": c("ggencontents"), "config": {"system_instruction": c("ggensystem")}}
    c.provider.reply(text=c("ggenanswer"), reasoning=c("ggenthought"), tool_calls=c.tools("ggen"))
    client.models.generate_content(**asked)
    c.provider.reply(text=c("ggenstreamed"))
    list(client.models.generate_content_stream(**asked))
    for reply in ({"status": 400}, {"status": 503}, {"cut_after": 2}, {"error_after": 2}):
        c.provider.reply(text=c("partggen"), message=f"{c('ggenerror')} {ECHO}", **reply)
        with suppress(Exception):
            if "status" in reply:
                client.models.generate_content(**asked)
            else:
                list(client.models.generate_content_stream(**asked))
    c.provider.reply()
    client.models.embed_content(model="m", contents=[c("ggenembedded")])
    client.close()


@CLIENTS.append
def bedrock(c: Program) -> None:
    if not find_spec("boto3"):
        return
    import boto3
    from botocore.config import Config

    session = boto3.Session(AWS_ID, AWS_SECRET, AWS_TOKEN, region_name="us-east-1")
    options: Any = {"endpoint_url": f"http://{c.host}", "config": Config(retries={"max_attempts": 0})}
    client = session.client("bedrock-runtime", **options)
    body = c.body("converse", "bedrock")
    c.provider.reply(text=c("bedanswer"), reasoning=c("bedthought"), tool_calls=c.tools("bed"))
    client.converse(modelId="m", **body)
    c.provider.reply(text=c("bedstreamed"))
    list(client.converse_stream(modelId="m", **body)["stream"])
    for reply in ({"status": 403}, {"status": 500}, {"cut_after": 3}, {"error_after": 2}):
        c.provider.reply(text=c("partbed"), message=f"{c('bederror')} {ECHO}", **reply)
        with suppress(Exception):
            list(client.converse_stream(modelId="m", **body)["stream"])
    client.close()
