"""Endpoints of your own: the protocol that reads the bodies of one API, and the types that it returns.

An endpoint is given to `callspan.record_call(api=...)`. Its methods get plain JSON and should take any: what they
raise costs what they would have read, never the call.
"""

from __future__ import annotations

from callspan.providers.base import Accumulator, Endpoint, ResponseInfo
from callspan.providers.registry import register
from callspan.record.call import ErrorInfo, Request, Response
from callspan.record.messages import (
    Conversation,
    Media,
    Message,
    Part,
    Reasoning,
    Refusal,
    Text,
    ToolCall,
    ToolResult,
    UnknownPart,
)
from callspan.record.usage import Usage

__all__ = [
    "Accumulator",
    "Conversation",
    "Endpoint",
    "ErrorInfo",
    "Media",
    "Message",
    "Part",
    "Reasoning",
    "Refusal",
    "Request",
    "Response",
    "ResponseInfo",
    "Text",
    "ToolCall",
    "ToolResult",
    "UnknownPart",
    "Usage",
    "register",
]


def __dir__() -> list[str]:
    return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})
