"""Replay: serves recorded calls as a provider, so that tests run offline with reproducible results."""

from __future__ import annotations

import hashlib
import json
import threading
from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from http.client import HTTPException
from typing import Final, Literal, NamedTuple, TypeAlias
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import Request, urlopen

import msgspec

from callspan.opening import open_store
from callspan.process.media_references import VECTOR_KEY
from callspan.providers import wires
from callspan.providers.registry import endpoint_for
from callspan.record.call import CallRecord, ErrorInfo
from callspan.record.media_reference import MEDIA_KEY
from callspan.record.plain_json import TRUNCATED_KEY
from callspan.stores.query.filters import CallFilter
from callspan.stores.query.reader import Reader
from callspan.testing.provider import ReceivedRequest, Reply, ScriptedProvider

Match: TypeAlias = Literal["body", "order"]
_REPLACED: Final = tuple(f'"{key}"'.encode() for key in (MEDIA_KEY, VECTOR_KEY, TRUNCATED_KEY))
"""Placeholder in an answer for content that was not recorded."""
_BROKEN: Final = frozenset({"connection", "timeout"})
"""The kinds of errors that a provider does not send."""
_HASH_LENGTH: Final = 12
_OF_CONNECTION: Final = frozenset(
    {"accept", "accept-encoding", "connection", "content-length", "host", "transfer-encoding"}
)
_OF_STREAM: Final = frozenset({"stream", "stream_options"})
_LIVE_S: Final = 600.0
"""The limit on a live answer, as the SDKs have it by default."""


class ReplayError(LookupError):
    """No recorded call answers a request, or there is nothing to replay.

    Example:
        >>> with callspan.testing.replay(callspan.open_store("recorded.db"), session="unknown"):
        ...     pass
        Traceback (most recent call last):
        callspan.testing.replaying.ReplayError: no session unknown in sqlite:///recorded.db, or several match
    """


class LiveProvider(NamedTuple):
    """The provider that answers after the fork of a recorded session."""

    url: str
    """Its address, which the path of each request is added to."""
    model: str | None = None
    """The model to request; None is the application's."""

    def answer(self, request: ReceivedRequest) -> Reply:
        """Send a request with the client's own headers, and return the whole answer, also to a stream."""
        body = {name: value for name, value in request.body.items() if name not in _OF_STREAM}
        if self.model is not None:
            body["model"] = self.model
        query = urlencode({name: value for name, value in request.query.items() if value != "sse"})
        path = request.path.replace(":streamGenerateContent", ":generateContent")
        sent = Request(  # noqa: S310 - the caller's own address
            f"{self.url.rstrip('/')}{path}{query and '?'}{query}",
            json.dumps(body).encode() if body else request.content or None,
            {name: value for name, value in request.headers.items() if name not in _OF_CONNECTION},
            method=request.method,
        )
        try:
            with urlopen(sent, timeout=_LIVE_S) as response:  # noqa: S310
                return Reply(raw=json.loads(response.read()))
        except HTTPError as error:
            headers = {name: error.headers[name] for name in ("retry-after", "x-should-retry") if name in error.headers}
            return Reply(status=error.code, headers=headers, raw=error.read())
        except (OSError, ValueError, HTTPException) as error:
            raise ReplayError(f"no live answer by {self.url} to {request.method} {path}: {error}") from error


class CallQueue:
    """Recorded calls. Each is served once. Thread-safe."""

    def __init__(self, calls: list[CallRecord], *, match: Match = "order", live: LiveProvider | None = None) -> None:
        """`match` is `body` for requests with an equal body only, `order` to serve other requests the next call.

        `live` answers what is requested after the last of them.
        """
        self._match, self._live = match, live
        self._lock = threading.Lock()
        self._unused: dict[str, CallRecord] = {call.call_id: call for call in calls}
        self._by_body: dict[str, deque[CallRecord]] = defaultdict(deque)
        self._last: dict[str, CallRecord] = {}
        for call in calls:
            self._by_body[body_hash(bytes(call.request.body))].append(call)

    @property
    def unused(self) -> list[CallRecord]:
        """The calls that were not served yet, in the order they were recorded in."""
        with self._lock:
            return list(self._unused.values())

    def answer(self, request: ReceivedRequest) -> Reply:
        """Return the recorded answer to a request. Raises ReplayError without one."""
        key = body_hash(request.content)
        with self._lock:
            # A retry of the SDK is the same call.
            retried_call = self._last.get(key) if request.retry_count else None
            call, is_over = retried_call or self._next(key, request), not self._unused
            if call is not None:
                self._unused.pop(call.call_id, None)
                self._last[key] = call
        if call is not None:
            return reply_of(call)
        if self._live is None or not is_over:
            raise ReplayError(self._reason_without_answer(request, key))
        return self._live.answer(request)

    def _next(self, key: str, request: ReceivedRequest) -> CallRecord | None:
        candidates = self._by_body[key]
        while candidates:
            call = candidates.popleft()
            if call.call_id in self._unused:
                return call
        if self._match == "body":
            return None
        api = _api_of(request)
        fitting = (call for call in self._unused.values() if api is None or call.api == api)
        return next(fitting, None)

    def _reason_without_answer(self, request: ReceivedRequest, key: str) -> str:
        unused = self.unused
        why, differs = "of this API that has not been used", ""
        if self._match == "body":
            why = "with this body"
            recorded = next((call for call in unused if call.api == _api_of(request)), None)
            if recorded is not None:
                sent = _first_difference(_json_of(bytes(recorded.request.body)), request.json)
                differs = f", which differs at {sent} from the next recorded one"
        return (
            f"no recorded call {why} for {request.method} {request.path} (body {key[:_HASH_LENGTH]}{differs}); "
            f"{len(unused)} recorded calls are left"
        )


class ReplayProvider(ScriptedProvider):
    """A provider that answers with recorded calls, see `replay`.

    Example:
        >>> with callspan.testing.replay("recorded.db") as provider:
        ...     client = openai.OpenAI(base_url=provider.openai_url, api_key="any")
        ...     _ = client.chat.completions.create(model="m", messages=[{"role": "user", "content": "Hi"}])
        ...     len(provider.unused)
        0
    """

    def __init__(self, calls: CallQueue) -> None:
        super().__init__()
        self._calls = calls
        self.reply(Reply(responder=calls.answer), repeat=True)
        # Paths without a default answer need an explicit reply.
        self.reply(Reply(responder=calls.answer), on=_is_a_call, repeat=True)

    @property
    def unused(self) -> list[CallRecord]:
        """The recorded calls that were not served yet."""
        return self._calls.unused


@contextmanager
def replay(
    store: str | Reader | Sequence[CallRecord],
    *,
    session: str | None = None,
    match: Match = "order",
    until: int | None = None,
    then: str | None = None,
    model: str | None = None,
) -> Iterator[ReplayProvider]:
    """Serve recorded calls on loopback, in place of their providers; nothing leaves the machine without `then`.

    A request with the same JSON body as a recorded one gets its response, as a stream if requested; calls with equal
    bodies are served in recorded order. Other requests get the next unused call of their API or, with `match="body"`,
    none. A request without an answer is an error for the client, and raises ReplayError at the end of the block.
    Recorded errors are served as errors, without retries.

    Args:
        store: URL of a store, an open reader, or records such as `Capture.records`.
        session: Only the calls of this session, by its id or a prefix of it.
        match: `order` or `body`.
        until: Number of calls to replay, from the first; by default all.
        then: Address of a provider, such as `https://api.openai.com`, that gets every request after these calls, with
            the path and headers of the client: the session is forked there, and goes on. Not for Bedrock, which signs
            the host.
        model: Requested there in place of the application's, if the body states the model.

    Raises:
        ReplayError: There is nothing to replay, or a request had no answer.
        SettingError: The URL names no readable store.
        StoreError: The store cannot be opened, for example because its file is missing.

    Example:
        >>> with callspan.testing.replay("sqlite:///recorded.db") as provider:
        ...     client = openai.OpenAI(base_url=provider.openai_url, api_key="any")
        ...     answer = client.chat.completions.create(model="m", messages=[{"role": "user", "content": "Hi"}])
        >>> answer.choices[0].message.content
        'Hello!'
    """
    live = None if then is None else LiveProvider(then, model)
    provider = ReplayProvider(CallQueue(_recorded(store, session)[:until], match=match, live=live))
    with provider:
        yield provider


def _first_difference(recorded: object, sent: object, path: str = "") -> str:
    """Return the path of the first different value of two JSON bodies, such as `messages[1].content`."""
    if isinstance(recorded, dict) and isinstance(sent, dict):
        for name in {**recorded, **sent}:
            if recorded.get(name) != sent.get(name):
                return _first_difference(recorded.get(name), sent.get(name), f"{path}.{name}".lstrip("."))
    if isinstance(recorded, list) and isinstance(sent, list):
        pairs = enumerate(zip(recorded, sent, strict=False))
        index = next((index for index, (expected, received) in pairs if expected != received), None)
        if index is not None:
            return _first_difference(recorded[index], sent[index], f"{path}[{index}]")
        return f"{path}[{min(len(recorded), len(sent))}]"
    return path or "its start"


def _json_of(content: bytes) -> object:
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return None


def _is_a_call(request: ReceivedRequest) -> bool:
    return _api_of(request) is not None


def _api_of(request: ReceivedRequest) -> str | None:
    """Return the API of a request, as its record has it; None for one that calls no model."""
    endpoint = endpoint_for(request.method, request.path)
    if endpoint is not None:
        return endpoint.api
    wire = wires.of_request(request.method, request.path, request.json)
    return None if wire is None else wire.api


def reply_of(call: CallRecord) -> Reply:
    """Return the recorded answer as a reply. Raises ReplayError if its content was not recorded."""
    error = call.error
    if error is not None and error.status is not None:
        return Reply(
            status=error.status, error_type=error.type, error_code=error.code, message=error.message or "",
            headers={"x-should-retry": "false"}, raw=_error_body(error),
        )  # fmt: skip
    body = bytes(call.response.body) if call.response is not None else b""
    if not body and call.outcome != "success":
        return Reply(body_cut=True)
    if not body or any(mark in body for mark in _REPLACED):
        raise ReplayError(
            f"call {call.call_id} has no complete answer: record with content='full', media='inline' and enough "
            "max_record_bytes"
        )
    reply = Reply(raw=msgspec.json.decode(body))
    if error is None or call.stream is None or call.stream.end != "error":
        return reply
    # What arrived before the error comes first.
    if error.kind in _BROKEN:
        return replace(reply, cut_after=-1)
    return replace(reply, error_after=-1, error_type=error.type, error_code=error.code, message=error.message or "")


def _error_body(error: ErrorInfo) -> object:
    """Return the body of an error answer as it was sent; None if it was not recorded completely."""
    body = error.body
    if not isinstance(body, dict) or TRUNCATED_KEY in body:
        return None
    # OpenAI's exceptions, and so the records, have only the inner object.
    return body if "error" in body else {"error": body}


def body_hash(content: bytes) -> str:
    """Return a hash of a JSON body that ignores key order and white space; for other bytes a plain hash."""
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _recorded(store: str | Reader | Sequence[CallRecord], session: str | None) -> list[CallRecord]:
    if isinstance(store, Sequence) and not isinstance(store, str):
        selected_calls = [
            call for call in store if session is None or (call.place.session_id or "").startswith(session)
        ]
        if not selected_calls:
            raise ReplayError("nothing to replay in the records" + (f" of session {session}" if session else ""))
        return selected_calls
    reader = open_store(store) if isinstance(store, str) else store
    try:
        selection = CallFilter(newest_first=False)
        if session is not None:
            tree = reader.session(session)
            if tree is None:
                raise ReplayError(f"no session {session} in {reader.name}, or several match")
            selection = CallFilter(session_id=tree.session.session_id, newest_first=False)
        calls = [call for call in reader.calls(selection) if not call.is_first_version]
    finally:
        if isinstance(store, str):
            reader.close()
    if not calls:
        raise ReplayError(f"nothing to replay in {reader.name}")
    return calls
