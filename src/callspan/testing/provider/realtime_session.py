"""A realtime session over a websocket: replies answer `response.create` and the user's speech.

Wire reference: https://platform.openai.com/docs/guides/realtime-conversations
"""

from __future__ import annotations

import base64
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from http import HTTPStatus
from typing import TYPE_CHECKING

import msgspec

from callspan.testing.provider.answer import (
    OPENAI,
    ErrorAnswer,
    StreamEvent,
    base62,
    encode,
    fragments,
    member,
    tool_calls,
    typed,
    with_usage,
    words,
)
from callspan.testing.provider.openai_responses import EMPTY_ITEM, end_of, usage_of
from callspan.testing.provider.script import DEFAULT_REPLY, Json, ReceivedRequest, Reply, Script, resolved

if TYPE_CHECKING:
    from websockets.sync.connection import Connection as WebSocket

    from callspan.testing.provider.server import Connection


_PCM = {"type": "audio/pcm", "rate": 24000}
_AUDIO = {"input": {"format": _PCM, "turn_detection": {"type": "server_vad"}}, "output": {"format": _PCM}}
"""The settings of a new session."""

BYTES_PER_S = 48_000
"""Of audio with 16 bits at 24 kHz."""
_PIECE = 12_000


def accept(upgrade: ReceivedRequest, connection: socket.socket) -> WebSocket:
    """Accept a websocket after its request has been read."""
    from websockets.http11 import Request
    from websockets.server import ServerProtocol
    from websockets.sync.connection import Connection as WebSocket

    protocol = ServerProtocol(max_size=None)
    headers = "".join(f"{name}: {value}\r\n" for name, value in upgrade.headers.items())
    protocol.receive_data(f"GET {upgrade.path} HTTP/1.1\r\n{headers}\r\n".encode())
    for request in protocol.events_received():
        if isinstance(request, Request):
            protocol.send_response(protocol.accept(request))
    connection.sendall(b"".join(protocol.data_to_send()))
    return WebSocket(connection, protocol)


class RealtimeSession:
    """The server of one session. It takes the client's events one after the other."""

    def __init__(self, upgrade: ReceivedRequest, script: Script, record: Callable[[ReceivedRequest], None]) -> None:
        """`record` gets each event of the client as a request."""
        self._upgrade = upgrade
        self._script = script
        self._record = record
        self._connection: Connection
        self._socket: WebSocket
        model = upgrade.query.get("model")
        self._session: Json = {"type": "realtime", "id": f"sess_{base62(21)}", "model": model, "audio": _AUDIO}
        self._audio_ms = self._turn_began_ms = 0
        """The length of the audio received, and where in it the user's turn began."""
        self._item_id = f"item_{base62(21)}"
        """Of the user's next message; its speech may have begun."""
        self._is_speaking = False
        self._heard: Reply | None = None
        """The reply to the user's last turn, until it is sent."""

    def serve(self, connection: Connection) -> None:
        """Serve until either side closes."""
        from websockets.exceptions import ConnectionClosed

        self._connection = connection
        with accept(self._upgrade, connection.connection) as self._socket, suppress(ConnectionClosed):
            self._send({"type": "session.created", "session": self._session})
            for message in self._socket:
                self._take(message.encode() if isinstance(message, str) else message)

    def _send(self, event: Json | str) -> None:
        text = event if isinstance(event, str) else encode({**event, "event_id": f"event_{base62(21)}"}).decode()
        self._socket.send(text)

    def _take(self, content: bytes) -> None:
        event, time_ns = msgspec.json.decode(content), time.monotonic_ns()
        request = replace(self._upgrade, method="WEBSOCKET", content=content, json=event, time_ns=time_ns)
        self._record(request)
        match request.body.get("type"):
            case "session.update":
                self._session = _merged(self._session, member(request.body, "session"))
                self._send({"type": "session.updated", "session": self._session})
            case "conversation.item.create":
                self._add({**new_item("message"), **member(request.body, "item")})
            case "input_audio_buffer.append":
                self._append(request)
            case "input_audio_buffer.commit":
                self._commit(request)
            case "response.create":
                self._respond(request)
            case "conversation.item.truncate":
                self._send({**request.body, "type": "conversation.item.truncated"})
            case "input_audio_buffer.clear":
                self._turn_began_ms = self._audio_ms
                self._send({"type": "input_audio_buffer.cleared"})
            case kind:
                self._refuse(request, Reply(status=400, message=f"Unexpected event {kind!r}."))

    def _refuse(self, request: ReceivedRequest, reply: Reply) -> None:
        error = ErrorAnswer(reply.status, reply.error_type, reply.error_code, reply.message, "")
        body = {**member(OPENAI.error(error), "error"), "event_id": request.body.get("event_id")}
        self._send({"type": "error", "error": body})

    def _add(self, item: Json) -> None:
        self._send({"type": "conversation.item.added", "item": item})
        self._send({"type": "conversation.item.done", "item": item})

    def _append(self, request: ReceivedRequest) -> None:
        """Take audio. With turn detection, the turn ends when the next reply has heard enough of it."""
        self._audio_ms += 1000 * len(base64.b64decode(str(request.body.get("audio")))) // BYTES_PER_S
        detection = member(self._settings("input"), "turn_detection")
        reply = self._script.take(request, inference=True, is_due=self._is_heard) if detection else None
        if reply is None:
            return
        self._start_speech()
        self._send_speech("speech_stopped", audio_end_ms=self._audio_ms)
        self._end_turn(reply)
        if detection.get("create_response", True):
            self._respond(request)

    def _commit(self, request: ReceivedRequest) -> None:
        if self._audio_ms == self._turn_began_ms:
            code = "input_audio_buffer_commit_empty"
            self._refuse(request, Reply(status=400, error_code=code, message="The input audio buffer is empty."))
        else:
            self._end_turn(self._script.take(request, inference=True, is_due=lambda reply: bool(reply.heard)))

    def _is_heard(self, reply: Reply) -> bool:
        return reply.heard is not None and self._audio_ms - self._turn_began_ms >= 1000 * reply.heard_s

    def _start_speech(self) -> None:
        if not self._is_speaking:
            self._is_speaking = True
            self._send_speech("speech_started", audio_start_ms=self._turn_began_ms)

    def _send_speech(self, kind: str, **fields: object) -> None:
        self._send({"type": f"input_audio_buffer.{kind}", "item_id": self._item_id, **fields})

    def _end_turn(self, reply: Reply | None) -> None:
        """Add the user's speech to the conversation; `reply` has heard it."""
        self._send_speech("committed")
        content = [{"type": "input_audio", "transcript": None}]
        self._add(new_item("message", role="user", content=content, id=self._item_id))
        if reply is not None and self._settings("input").get("transcription"):
            self._transcribe(reply)
        self._heard, self._item_id, self._is_speaking = reply, f"item_{base62(21)}", False
        self._turn_began_ms = self._audio_ms

    def _transcribe(self, reply: Reply) -> None:
        kind, about = "conversation.item.input_audio_transcription", {"item_id": self._item_id, "content_index": 0}
        for word in words(reply.heard or ""):
            self._send({"type": f"{kind}.delta", **about, "delta": word})
        self._send({"type": f"{kind}.completed", **about, "transcript": reply.heard, "usage": reply.heard_usage})

    def _respond(self, request: ReceivedRequest) -> None:
        reply = resolved(self._heard or self._script.take(request, inference=True) or DEFAULT_REPLY, request)
        self._heard = None
        self._connection.wait(reply.delay_s)
        if reply.status >= HTTPStatus.BAD_REQUEST:
            self._refuse(request, reply)
        elif not reply.hang:
            self._answer(reply, member(request.body, "response"))

    def _answer(self, reply: Reply, create: Json) -> None:
        events = realtime_events(reply, create, self._settings("output"))
        for event in self._connection.timed(reply, events[: reply.end_after]):
            if reply.interrupted and str(event.name).endswith(".done"):
                self._start_speech()
            self._send(event.data)
        if reply.cut_after is not None:
            self._socket.socket.shutdown(socket.SHUT_RDWR)
        elif reply.end_after is not None:
            self._socket.close()

    def _settings(self, side: str) -> Json:
        return member(member(self._session, "audio"), side)


def _merged(settings: Json, changes: Json) -> Json:
    """The settings with changes, also inside their objects."""
    objects = {
        name: _merged(member(settings, name), value) for name, value in changes.items() if isinstance(value, Mapping)
    }
    return {**settings, **changes, **objects}


def new_item(kind: str, **fields: object) -> Json:
    """An item of the conversation."""
    return {"id": f"item_{base62(21)}", "object": "realtime.item", "type": kind, "status": "completed", **fields}


def realtime_events(reply: Reply, create: Json, voice: Json) -> list[StreamEvent]:
    """The events of a response; `create` is what the client requests of it, `voice` the session's audio output."""
    if isinstance(reply.raw, list):
        return [StreamEvent(event) for event in reply.raw]
    about = {"id": f"resp_{base62(21)}", "object": "realtime.response", "metadata": create.get("metadata")}
    body = {**about, "audio": {"output": voice}, "status": "in_progress", "output": []}
    items = [*_message(reply), *_calls(reply)]
    events = [typed("response.created", response=body)]
    for index, item in enumerate(items):
        events += _item_events(reply, item, {"response_id": about["id"], "output_index": index})
    final = with_usage({**body, **_end(reply), "output": items}, reply, _usage(reply))
    return [*events, typed("response.done", response=final)]


def _message(reply: Reply) -> list[Json]:
    if reply.text is None and reply.audio is None:
        return []
    status = "incomplete" if reply.interrupted else "completed"
    part = {"type": "output_text", "text": reply.text}
    if reply.audio is not None:
        part = {"type": "output_audio", "transcript": reply.text or ""}
    return [new_item("message", role="assistant", status=status, content=[part])]


def _calls(reply: Reply) -> list[Json]:
    calls = [] if reply.interrupted else tool_calls(reply, lambda: f"call_{base62(24)}")
    return [new_item("function_call", name=call.name, call_id=call.id, arguments=call.arguments) for call in calls]


def _end(reply: Reply) -> Json:
    """The status and its details."""
    if reply.interrupted:
        return {"status": "cancelled", "status_details": {"type": "cancelled", "reason": "turn_detected"}}
    end = end_of(reply, reply)
    details = {"type": end["status"], "error": end["error"], **member(end, "incomplete_details")}
    return {"status": end["status"], "status_details": details}


def _usage(reply: Reply) -> Json:
    """The usage from the counters; tokens by modality are only in `Reply.usage`."""
    return {name.replace("tokens_details", "token_details"): value for name, value in usage_of(reply, {}).items()}


def _item_events(reply: Reply, item: Json, position: Json) -> Iterator[StreamEvent]:
    empty_item, item_position = {**item, **EMPTY_ITEM[str(item["type"])]}, {**position, "item_id": item["id"]}
    yield typed("response.output_item.added", **position, item=empty_item)
    yield typed("conversation.item.added", item=empty_item)
    if item["type"] == "message":
        yield from _message_events(reply, {**item_position, "content_index": 0})
    else:
        yield from _call_events(item, {**item_position, "call_id": item["call_id"]})
    yield typed("response.output_item.done", **position, item=item)
    yield typed("conversation.item.done", item=item)


def _message_events(reply: Reply, position: Json) -> Iterator[StreamEvent]:
    is_spoken, text = reply.audio is not None, reply.text or ""
    kind, field = ("output_audio_transcript", "transcript") if is_spoken else ("output_text", "text")
    part = {"type": "audio" if is_spoken else "text", field: text}
    yield typed("response.content_part.added", **position, part={**part, field: ""})
    for word in words(text):
        yield typed(f"response.{kind}.delta", **position, delta=word)
    for piece in _pieces(reply.audio or b""):
        yield typed("response.output_audio.delta", **position, delta=piece)
    if is_spoken:
        yield typed("response.output_audio.done", **position)
    yield typed(f"response.{kind}.done", **position, **{field: text})
    yield typed("response.content_part.done", **position, part=part)


def _pieces(audio: bytes | float) -> list[str]:
    """The audio, or seconds of silence, in base64."""
    sound = audio if isinstance(audio, bytes) else bytes(int(audio * BYTES_PER_S))
    return [base64.b64encode(sound[start : start + _PIECE]).decode() for start in range(0, len(sound), _PIECE)]


def _call_events(item: Json, position: Json) -> Iterator[StreamEvent]:
    arguments = str(item["arguments"])
    for piece in fragments(arguments):
        yield typed("response.function_call_arguments.delta", **position, delta=piece)
    yield typed("response.function_call_arguments.done", **position, name=item["name"], arguments=arguments)
