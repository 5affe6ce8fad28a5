"""The Messages endpoint: requests, answers and streams of `/v1/messages`, on every platform that serves it."""

from __future__ import annotations

from typing import Final

from callspan.providers.anthropic.parts import conversation
from callspan.providers.anthropic.response import response_info
from callspan.providers.anthropic.stream import MessageAccumulator
from callspan.providers.base import Accumulator, Api, Operation, ResponseInfo
from callspan.providers.copies import detached
from callspan.providers.json_readers import objects, text, word
from callspan.record.call import Request
from callspan.record.codec import encode_json
from callspan.record.messages import Conversation

_NO_PARAMS: Final = frozenset({"model", "stream", "messages", "system", "tools", "mcp_servers"})
"""What is content, kept elsewhere, or (the servers' authorization tokens) secret."""

_MAX_PARAM_BYTES: Final = 4096


class Messages:
    """The Messages API. Satisfies `callspan.providers.base.Endpoint`; has no state."""

    api: Api = "messages"
    operation: Operation = "chat"
    path: str = "/v1/messages"
    message_key: str = "messages"

    def request(self, body: object) -> Request:
        """Return model, stream, parameters and counts of a request; large parameters are left to its body."""
        if not isinstance(body, dict):
            return Request()
        messages = body.get("messages")
        return Request(
            model=word(body, "model"),
            stream=body.get("stream") is True,
            params={key: detached(value) for key, value in body.items() if key not in _NO_PARAMS and _is_small(value)},
            message_count=len(messages) if isinstance(messages, list) else None,
            tool_names=_tool_names(body) if isinstance(body.get("tools"), list) else None,
        )

    def accumulator(self) -> Accumulator:
        """Return a fresh accumulator for one stream."""
        return MessageAccumulator()

    def response_info(self, body: object) -> ResponseInfo:
        """Return what a whole or folded answer states."""
        return response_info(body)

    def conversation(self, request: object, response: object) -> Conversation:
        """Return the messages of both bodies, typed. Either may be None."""
        return conversation(request, response)


def _is_small(value: object) -> bool:
    """Whether a parameter is one to keep beside the body; null is as good as absent."""
    if isinstance(value, bool | int | float):
        return True
    return value is not None and len(encode_json(value)) <= _MAX_PARAM_BYTES


def _tool_names(body: object) -> list[str]:
    """Names of the tools; toolsets of MCP servers go by the server, tools without either by their type."""
    places = ("name", "mcp_server_name", "type")
    names = (next((name for place in places if (name := text(tool, place))), None) for tool in objects(body, "tools"))
    return [name for name in names if name]
