"""Server: the page's files and its data, for one browser on this machine."""

from __future__ import annotations

import asyncio
import hmac
import secrets
import socket
import tempfile
from collections.abc import Awaitable, Callable
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Final

import msgspec
import uvicorn
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from callspan.stores import EmptyStoreError
from callspan.view import call, calls, charts, compare, find, groups, keys, now, rate, session, sessions
from callspan.view.downloads import DOWNLOADS
from callspan.view.source import BadQueryError, PageRequest, StoreAccess, StoreSource

_VERSION: Final = "version"
PAGES: Final[dict[str, Callable[[PageRequest], object]]] = {
    _VERSION: now.version,
    "store": now.store,
    "now": now.page,
    "sessions": sessions.page,
    "counts": sessions.counts,
    "session": session.page,
    "turns": session.turns,
    "calls": calls.page,
    "call": call.page,
    "bodies": call.bodies,
    "cache": call.cache_difference,
    "find": find.page,
    "compare": compare.page,
    "charts": charts.page,
    "table": charts.table,
    "groups": groups.page,
    "keys": keys.page,
    "command": find.command,
    "scores": charts.scores,
    "unrated": rate.unrated,
}
"""The pages behind `/api/NAME?query`."""
_TYPES: Final = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
_HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
        "media-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_KEY: Final = "x-callspan-key"
_RATE_PATH: Final = "/api/rate"
_MAX_BODY_BYTES: Final = 65_536
_MAX_NAME_LENGTH: Final = 64
_ADDRESS: Final = "127.0.0.1"
_CLOSED: Final = "This page is for the browser that opened the address which `callspan view` printed, once.\n"


class _Gate:
    """Admits only requests from the page in the browser that opened the printed address.

    A browser sends the cookies of 127.0.0.1 to every port, so that another server on this machine may learn them.
    Therefore data also requires the page's key. The page gets it after the `#` of its address, keeps it in
    `localStorage`, which is specific to the port, and sends it as a header.
    """

    def __init__(self, app: ASGIApp, port: int) -> None:
        self._app = app
        self._hosts = {f"{name}:{port}" for name in (_ADDRESS, "localhost")}
        self._cookie = f"callspan_{port}"
        self.token: str | None = secrets.token_urlsafe(32)
        self._browser = secrets.token_urlsafe(32)
        self._page = secrets.token_urlsafe(32)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request or pass it on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope)

        async def with_headers(message: dict[str, object]) -> None:
            if message["type"] == "http.response.start":
                headers = [(name.lower().encode(), value.encode()) for name, value in _HEADERS.items()]
                message["headers"] = [*message.get("headers", []), *headers]  # type: ignore[misc]
            await send(message)

        answer: ASGIApp = self._refusal(request) or self._app
        await answer(scope, receive, with_headers)  # type: ignore[arg-type]

    def _refusal(self, request: Request) -> Response | None:
        methods = {"POST"} if request.url.path == _RATE_PATH else {"GET", "HEAD"}
        if request.headers.get("host") not in self._hosts or request.method not in methods:
            return PlainTextResponse(_CLOSED, 403)
        origin = request.headers.get("origin")
        if origin is not None and origin.removeprefix("http://") not in self._hosts:
            return PlainTextResponse(_CLOSED, 403)
        is_browser = _is_equal(request.cookies.get(self._cookie, ""), self._browser)
        if request.url.path == "/" and "token" in request.query_params:
            return self._exchange(request.query_params["token"], is_browser=is_browser)
        if request.headers.get("sec-fetch-site", "none") not in {"none", "same-origin"}:
            return PlainTextResponse(_CLOSED, 403)
        is_page = not request.url.path.startswith("/api/") or _is_equal(request.headers.get(_KEY, ""), self._page)
        return None if is_browser and is_page else PlainTextResponse(_CLOSED, 403)

    def _exchange(self, presented: str, *, is_browser: bool) -> Response:
        """Return the answer to the printed address; its token works once.

        It is a page with a link instead of a redirect, because browsers send strict cookies only from the same address.
        """
        if self.token is None or not _is_equal(presented, self.token):
            return RedirectResponse("/", 303) if is_browser else PlainTextResponse(_CLOSED, 403)
        self.token = None
        leads_on = f'<link rel="icon" href="data:,"><meta http-equiv="refresh" content="0; url=/#key={self._page}">'
        answer = HTMLResponse(leads_on)
        answer.set_cookie(self._cookie, self._browser, httponly=True, samesite="strict", path="/")
        return answer


def _is_equal(presented: str, expected: str) -> bool:
    return hmac.compare_digest(presented.encode(), expected.encode())


async def _data(source: StoreSource, request: Request) -> Response:
    name = request.path_params["name"]
    if name not in PAGES:
        return _failed("there is no such page", 404)
    answer = await _answer(source, PAGES[name], request)
    if name == _VERSION:
        # A browser logs each answer with another status, and this is polled.
        answer.status_code = 200
    return answer


async def _answer(source: StoreSource, page: Callable[[PageRequest], object], request: Request) -> Response:
    async def answer() -> Response:
        body = await asyncio.to_thread(source.answer, page, dict(request.query_params))
        return Response(body, media_type="application/json")

    return await _or_failure(source, answer)


async def _save(source: StoreSource, request: Request) -> Response:
    name = request.path_params["name"]
    if name not in DOWNLOADS:
        return _failed("there is no such file", 404)
    download = DOWNLOADS[name]

    async def answer() -> Response:
        directory = tempfile.TemporaryDirectory(prefix="callspan-")  # of mode 0700
        file = Path(directory.name, download.file_name)
        try:
            await asyncio.to_thread(source.write, download.write, dict(request.query_params), file)
        except BaseException:
            directory.cleanup()
            raise
        removal = BackgroundTask(directory.cleanup)
        return FileResponse(file, media_type=download.media_type, filename=download.file_name, background=removal)

    return await _or_failure(source, answer)


async def _or_failure(source: StoreSource, answer: Callable[[], Awaitable[Response]]) -> Response:
    try:
        return await answer()
    except BadQueryError as error:
        return _failed(str(error), 400)
    except LookupError as error:
        return _failed(str(error.args[0] if error.args else error), 404)
    except source.access.errors() as error:
        text = source.access.error_text(error)
        if isinstance(error, EmptyStoreError) and not source.was_open:
            return _failed(text, 200, waits=True, command=source.access.command)
        return _failed(text, 503)


async def _rate(source: StoreSource, request: Request) -> Response:
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > _MAX_BODY_BYTES:
            return _failed("this is too long", 413)

    def write_rating(view: PageRequest) -> object:
        record = rate.rate(view, bytes(body))
        view.access.write_reward(record)
        return record

    return await _answer(source, write_rating, request)


def _failed(text: str, status: int, **fields: object) -> Response:
    return Response(msgspec.json.encode({"error": text, **fields}), status, media_type="application/json")


async def _file(request: Request) -> Response:
    name = request.path_params.get("name", "index.html")
    kind = _TYPES.get(name.rpartition(".")[2])
    file = resources.files("callspan.view").joinpath("static").joinpath(name)
    if kind is None or "/" in name or len(name) > _MAX_NAME_LENGTH or not file.is_file():
        return PlainTextResponse("There is no such file.\n", 404)
    return Response(file.read_bytes(), media_type=kind)


def application(access: StoreAccess, port: int) -> tuple[ASGIApp, str]:
    """Return the application and the token that opens it once."""
    source = StoreSource(access)
    routes = [
        Route("/", _file),
        Route("/static/{name}", _file),
        Route(_RATE_PATH, partial(_rate, source), methods=["POST"]),
        Route("/api/save/{name}", partial(_save, source)),
        Route("/api/{name}", partial(_data, source)),
    ]
    gate = _Gate(Starlette(routes=routes), port)
    return gate, gate.token or ""


def serve(access: StoreAccess, port: int, ready: Callable[[str], object]) -> None:
    """Serve the page until the process is interrupted. Raises OSError if the port is in use.

    Port 0 is any free one; `ready` is called with the address once it can be opened.
    """
    with socket.create_server((_ADDRESS, port), backlog=64) as listener:
        port = listener.getsockname()[1]
        app, token = application(access, port)
        ready(f"http://{_ADDRESS}:{port}/?token={token}")
        config = uvicorn.Config(
            app, log_level="warning", access_log=False, server_header=False, timeout_graceful_shutdown=1, ws="none"
        )
        uvicorn.Server(config).run(sockets=[listener])
