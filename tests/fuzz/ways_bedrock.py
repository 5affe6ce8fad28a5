"""Ways of boto3's client of bedrock-runtime."""

from __future__ import annotations

import json
from typing import Any

from tests.fuzz.ways import Call, Caller, contents

_NOVA = "us.amazon.nova-micro-v1:0"
_MODELS = {
    "claude": "us.anthropic.claude-sonnet-4-5-20250929-v1:0",
    "nova": _NOVA,
    "llama": "meta.llama3-8b-instruct-v1:0",
}
_SCHEMA = {"json": {"type": "object", "properties": {"to": {"type": "string"}}}}
_EXTRAS: dict[str, dict[str, Any]] = {
    "extra": {
        "inferenceConfig": {"temperature": 0.5, "maxTokens": 64},
        "system": [{"text": "Be brief."}],
        "additionalModelRequestFields": {"own": [1, None]},
    },
    "tools": {"toolConfig": {"tools": [{"toolSpec": {"name": "move", "inputSchema": _SCHEMA}}]}},
    "no model": {"modelId": None},
    "wrong argument": {"no_such_argument": 1},
}


def _messages(request: str) -> Any:
    question: dict[str, Any] = {"role": "user", "content": [{"text": contents(request)}]}
    if request == "generator":
        return (message for message in [question])
    if request != "turns":
        return [question]
    picture = {"image": {"format": "png", "source": {"bytes": b"\xfb\xff\xfe"}}}
    return [{**question, "content": [*question["content"], picture]}, {"role": "assistant", "content": [{"text": "A"}]}]


def _converse(method: str) -> Call:
    def call(caller: Caller, wrap: str, request: str) -> Any:
        return getattr(caller.client, method)(
            **{"modelId": _NOVA, "messages": _messages(request), **_EXTRAS.get(request, {})}
        )

    return call


def _body(vendor: str, request: str) -> Any:
    text = contents(request)
    if not isinstance(text, str):
        return text
    asked: dict[str, Any] = {"messages": [{"role": "user", "content": [{"type": "text", "text": text}]}]}
    if vendor == "claude":
        asked |= {"anthropic_version": "bedrock-2023-05-31", "max_tokens": 64}
    made = json.dumps({"prompt": text} if vendor == "llama" else asked)
    return made.encode() if request == "extra" else made[:-1] if request == "usage" else made


def _invoked(vendor: str, *, stream: bool) -> Call:
    def call(caller: Caller, wrap: str, request: str) -> Any:
        client = caller.client
        method = client.invoke_model_with_response_stream if stream else client.invoke_model
        more = _EXTRAS[request] if request in ("no model", "wrong argument") else {}
        return method(**{"modelId": _MODELS[vendor], "body": _body(vendor, request), **more})

    return call


def _count(caller: Caller, wrap: str, request: str) -> Any:
    asked = {"converse": {"messages": _messages(request)}}
    more = {"no_such_argument": 1} if request == "wrong argument" else {}
    return caller.client.count_tokens(modelId=_NOVA, input=asked, **more)


BEDROCK: dict[str, Call] = {
    "converse.create": _converse("converse"),
    "converse.stream": _converse("converse_stream"),
    "claude.invoke": _invoked("claude", stream=False),
    "claude.stream": _invoked("claude", stream=True),
    "nova.invoke": _invoked("nova", stream=False),
    "nova.stream": _invoked("nova", stream=True),
    "llama.invoke": _invoked("llama", stream=False),
    "llama.stream": _invoked("llama", stream=True),
    "count_tokens": _count,
}

CALLS = ("Converse", "ConverseStream", "InvokeModel", "InvokeModelWithResponseStream")
"""The operations that call a model."""
