"""Record types, as returned by stores and built by tests and imports, with `encode` and `decode`."""

from __future__ import annotations

from callspan.record.call import (
    Attempt,
    CallRecord,
    ChunkNote,
    ErrorInfo,
    Outcome,
    Place,
    RateLimit,
    RateLimits,
    Redaction,
    Request,
    Response,
    SpanLink,
    Stream,
    StreamEnd,
    Timing,
    Trace,
)
from callspan.record.codec import decode, encode, encode_json
from callspan.record.events import (
    Agents,
    EventRecord,
    MessageRecord,
    Record,
    RewardRecord,
    SessionRecord,
    TimestepRecord,
    Totals,
    is_agent,
)
from callspan.record.formats import FORMAT, OtherFormatError
from callspan.record.ids import new_id
from callspan.record.labels import labels
from callspan.record.messages import (
    INSTRUCTION_ROLES,
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
    tool_name,
)
from callspan.record.reward_sums import REWARD, mean_of, written
from callspan.record.usage import Cost, Usage, UsageIteration

__all__ = [
    "FORMAT",
    "INSTRUCTION_ROLES",
    "REWARD",
    "Agents",
    "Attempt",
    "CallRecord",
    "ChunkNote",
    "Conversation",
    "Cost",
    "ErrorInfo",
    "EventRecord",
    "Media",
    "Message",
    "MessageRecord",
    "OtherFormatError",
    "Outcome",
    "Part",
    "Place",
    "RateLimit",
    "RateLimits",
    "Reasoning",
    "Record",
    "Redaction",
    "Refusal",
    "Request",
    "Response",
    "RewardRecord",
    "SessionRecord",
    "SpanLink",
    "Stream",
    "StreamEnd",
    "Text",
    "TimestepRecord",
    "Timing",
    "ToolCall",
    "ToolResult",
    "Totals",
    "Trace",
    "UnknownPart",
    "Usage",
    "UsageIteration",
    "decode",
    "encode",
    "encode_json",
    "is_agent",
    "labels",
    "mean_of",
    "new_id",
    "tool_name",
    "written",
]


def __dir__() -> list[str]:
    return sorted(__all__)
