"""OpenAI's Realtime API: the events of a response.

Wire reference: https://platform.openai.com/docs/guides/realtime-conversations
"""

from __future__ import annotations

import base64
from collections.abc import Iterator

from callspan.testing.provider.answer import (
    StreamEvent,
    base62,
    fragments,
    member,
    tool_calls,
    typed,
    with_usage,
    words,
)
from callspan.testing.provider.openai_responses import EMPTY_ITEM, end_of, usage_of
from callspan.testing.provider.script import Json, Reply

BYTES_PER_S = 48_000
"""Of audio with 16 bits at 24 kHz."""
_PIECE = 12_000


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
    done = with_usage({**body, **_end(reply), "output": items}, reply, _usage(reply))
    return [*events, typed("response.done", response=done)]


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


def _item_events(reply: Reply, item: Json, place: Json) -> Iterator[StreamEvent]:
    added, where = {**item, **EMPTY_ITEM[str(item["type"])]}, {**place, "item_id": item["id"]}
    yield typed("response.output_item.added", **place, item=added)
    yield typed("conversation.item.added", item=added)
    if item["type"] == "message":
        yield from _message_events(reply, {**where, "content_index": 0})
    else:
        yield from _call_events(item, {**where, "call_id": item["call_id"]})
    yield typed("response.output_item.done", **place, item=item)
    yield typed("conversation.item.done", item=item)


def _message_events(reply: Reply, where: Json) -> Iterator[StreamEvent]:
    is_spoken, text = reply.audio is not None, reply.text or ""
    kind, field = ("output_audio_transcript", "transcript") if is_spoken else ("output_text", "text")
    part = {"type": "audio" if is_spoken else "text", field: text}
    yield typed("response.content_part.added", **where, part={**part, field: ""})
    for word in words(text):
        yield typed(f"response.{kind}.delta", **where, delta=word)
    for piece in _pieces(reply.audio or b""):
        yield typed("response.output_audio.delta", **where, delta=piece)
    if is_spoken:
        yield typed("response.output_audio.done", **where)
    yield typed(f"response.{kind}.done", **where, **{field: text})
    yield typed("response.content_part.done", **where, part=part)


def _pieces(audio: bytes | float) -> list[str]:
    """The audio, or seconds of silence, in base64."""
    sound = audio if isinstance(audio, bytes) else bytes(int(audio * BYTES_PER_S))
    return [base64.b64encode(sound[start : start + _PIECE]).decode() for start in range(0, len(sound), _PIECE)]


def _call_events(item: Json, where: Json) -> Iterator[StreamEvent]:
    arguments = str(item["arguments"])
    for piece in fragments(arguments):
        yield typed("response.function_call_arguments.delta", **where, delta=piece)
    yield typed("response.function_call_arguments.done", **where, name=item["name"], arguments=arguments)
