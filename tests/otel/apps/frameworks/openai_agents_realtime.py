"""openai-agents: a realtime session with a tool, over a websocket that it opens itself; prints what came of it."""

from __future__ import annotations

import asyncio
import json
import sys
import threading
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parents[4]))

from agents import function_tool
from agents.realtime import RealtimeAgent, RealtimeRunner
from tests.intercept.realtime_server import USAGE, answer, created, event, response, session, speech, transcribed
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import serve

import callspan
from callspan.testing import capture

CALL = {
    "id": "item_c", "object": "realtime.item", "type": "function_call", "name": "weather", "call_id": "call_1",
    "arguments": '{"city":"Oslo"}', "status": "completed",
}  # fmt: skip
ABOUT = {"response_id": "resp_1", "output_index": 0}
ASKS = [
    session(),
    *speech("item_1"),
    created("resp_1"),
    *transcribed("item_1", "How is the weather?"),
    event("response.output_item.added", **ABOUT, item={**CALL, "arguments": "", "status": "in_progress"}),
    event(
        "response.function_call_arguments.delta", **ABOUT, item_id="item_c", call_id="call_1", delta=CALL["arguments"]
    ),
    event("response.output_item.done", **ABOUT, item=CALL),
    event("response.done", response=response("resp_1", status="completed", usage=USAGE)),
]


@function_tool
def weather(city: str) -> str:
    """The weather in a city."""
    return f"rain in {city}"


def play(connection: Any, received: list[str]) -> None:
    """Speak, then answer each create."""
    for each in ASKS:
        connection.send(json.dumps(each))
    try:
        for message in connection:
            received.append(json.loads(message)["type"])
            result = json.loads(message).get("item")
            if result is not None:
                connection.send(json.dumps(event("conversation.item.added", item={"id": "item_r", **result})))
            if received[-1] == "response.create":
                for each in answer("resp_2", "It rains."):
                    connection.send(json.dumps(each))
    except ConnectionClosed:
        return


async def talk(url: str) -> list[str]:
    agent: Any = RealtimeAgent(name="guide", instructions="Be brief.", tools=[weather])
    kinds: list[str] = []
    with callspan.session("voice"):
        running = await RealtimeRunner(agent).run(model_config={"api_key": "k", "url": url})
        async with running:
            async for each in running:
                kinds.append(each.type)
                if kinds.count("agent_end") == 2:
                    break
    return [kind for kind in kinds if not kind.startswith(("raw", "history"))]


def run() -> dict[str, Any]:
    received: list[str] = []
    with serve(lambda connection: play(connection, received), "127.0.0.1", 0, max_size=None) as server:
        threading.Thread(target=server.serve_forever).start()
        url = f"ws://127.0.0.1:{server.socket.getsockname()[1]}/v1/realtime?model=gpt-realtime"
        kinds = asyncio.run(talk(url))
        server.shutdown()
    return {"kinds": kinds, "received": received}


def main() -> None:
    if sys.argv[1] == "off":
        print("RESULT", json.dumps(run()))
        return
    with capture() as seen:
        found = run()
        calls = [
            (one.api, one.outcome, one.text, [call.name for call in one.tool_calls], one.place.session_name)
            for one in seen.records
        ]
        spans = [span.name for span in seen.spans]
    print("RESULT", json.dumps({**found, "calls": calls, "spans": spans}))


main()
