"""openai-agents: a realtime session with a tool, over a websocket that it opens itself; prints what came of it."""

from __future__ import annotations

import asyncio
import json
import sys
from contextlib import nullcontext
from typing import Any

from agents import function_tool
from agents.realtime import RealtimeAgent, RealtimeRunner
from stage import weather, websocket_server
from tests.support.realtime_server import USAGE, answer, created, event, response, session, speech, transcribed

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


def play(connection: Any, received: list[str]) -> None:
    """Speak, then answer each create."""
    for each in ASKS:
        connection.send(json.dumps(each))
    for message in connection:
        received.append(json.loads(message)["type"])
        result = json.loads(message).get("item")
        if result is not None:
            connection.send(json.dumps(event("conversation.item.added", item={"id": "item_r", **result})))
        if received[-1] == "response.create":
            for each in answer("resp_2", "It rains."):
                connection.send(json.dumps(each))


async def talk(url: str) -> list[str]:
    agent: Any = RealtimeAgent(name="guide", instructions="Be brief.", tools=[function_tool(weather)])
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
    with websocket_server(play) as (url, received):
        kinds = asyncio.run(talk(f"{url}/realtime?model=gpt-realtime"))
    return {"kinds": kinds, "received": received}


def main() -> None:
    with capture() if sys.argv[1] == "on" else nullcontext() as seen:
        found = run()
    if seen is not None:
        found["calls"] = [
            (one.api, one.outcome, one.text, [call.name for call in one.tool_calls], one.place.session_name)
            for one in seen.records
        ]
        found["spans"] = [span.name for span in seen.spans]
    print("RESULT", json.dumps(found))


main()
