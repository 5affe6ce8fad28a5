"""Realtime sessions of the scripted provider: turns of the user, answers, errors, and what the script may state."""

from __future__ import annotations

from typing import Any

from callspan.testing import ReceivedRequest, Reply
from tests.support import sdks
from tests.support.calls import Run
from tests.support.mode import Mode
from tests.support.realtime_server import SECOND, USAGE

sdks.needs_module("openai", "2.30", "realtime over a base URL of one's own")


class Client:
    """An open session, and the events it has received."""

    def __init__(self, mode: Mode, connection: Any) -> None:
        self.events: list[dict[str, Any]] = []
        self._mode = mode
        self._connection = connection

    @property
    def kinds(self) -> list[str]:
        return [event["type"] for event in self.events]

    async def send(self, kind: str, **fields: Any) -> None:
        await self._mode.wait(self._connection.send({"type": kind, **fields}))

    async def until(self, kind: str) -> dict[str, Any]:
        while True:
            self.events.append((await self._mode.wait(self._connection.recv())).to_dict())
            if self.kinds[-1] == kind:
                return self.events[-1]

    async def listens(self, **settings: Any) -> None:
        audio = {"input": {"transcription": {"model": "whisper-1"}, **settings}}
        await self.send("session.update", session={"type": "realtime", "audio": audio})


async def talk(mode: Mode, body: Any) -> Client:
    async with mode.entered(mode.openai().realtime.connect(model="gpt-realtime")) as connection:
        client = Client(mode, connection)
        await body(client)
        return client


def test_every_event_is_as_the_sdk_declares_it(mode: Mode, run: Run) -> None:
    from openai.types.realtime import RealtimeServerEvent
    from pydantic import TypeAdapter

    usage = {"type": "duration", "seconds": 1.0}
    mode.provider.reply(
        heard="Hi.", heard_usage=usage, text="Well.", audio=bytes(20_000), tool_calls=[{"name": "look"}]
    )
    mode.provider.reply(text="One", interrupted=True, usage=USAGE)
    mode.provider.reply(finish_reason="length", text="One")
    mode.provider.reply(status=429, error_code="rate_limit_exceeded")

    async def body(client: Client) -> None:
        await client.listens()
        await client.send("input_audio_buffer.append", audio=SECOND)
        await client.until("response.done")
        for end in ("response.done", "response.done", "error"):
            await client.send("response.create", event_id="mine")
            await client.until(end)
        await client.send("conversation.item.truncate", item_id="i", content_index=0, audio_end_ms=1)
        await client.send("input_audio_buffer.clear")
        await client.until("input_audio_buffer.cleared")
        await client.send("response.cancel")
        await client.until("error")

    client = run(lambda: talk(mode, body))
    declared: TypeAdapter[Any] = TypeAdapter(RealtimeServerEvent)
    for event in client.events:
        declared.validate_python(event)
    sound = [event["delta"] for event in client.events if event["type"] == "response.output_audio.delta"]
    assert [len(delta) for delta in sound] == [16_000, 10_668]
    refused, unexpected = [event["error"] for event in client.events if event["type"] == "error"]
    assert (refused["code"], refused["event_id"]) == ("rate_limit_exceeded", "mine")
    assert "response.cancel" in unexpected["message"]


def test_the_provider_shows_what_the_client_sent_and_replies_choose_by_it(mode: Mode, run: Run) -> None:
    def by_instructions(request: ReceivedRequest) -> bool:
        return request.body.get("response") == {"instructions": "Sing."}

    mode.provider.reply(text="La.", on=by_instructions)
    mode.provider.reply(responder=lambda request: Reply(text=str(request.body["event_id"])), on="/realtime")

    async def body(client: Client) -> None:
        for fields in ({"event_id": "e1"}, {"response": {"instructions": "Sing."}}):
            await client.send("response.create", **fields)
            texts.append((await client.until("response.done"))["response"]["output"][0]["content"][0]["text"])

    texts: list[str] = []
    run(lambda: talk(mode, body))
    assert texts == ["e1", "La."]
    assert [request.method for request in mode.provider.requests] == ["GET", "WEBSOCKET", "WEBSOCKET"]
    assert mode.provider.requests[-1].body == {"type": "response.create", "response": {"instructions": "Sing."}}
