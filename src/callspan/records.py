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
from callspan.record.codec import decode, encode
from callspan.record.events import (
    EventRecord,
    MessageRecord,
    Record,
    RewardRecord,
    SessionRecord,
    TimestepRecord,
    Totals,
)
from callspan.record.formats import FORMAT, OtherFormatError
from callspan.record.ids import new_id
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
from callspan.record.reward_sums import REWARD
from callspan.record.usage import Cost, Usage, UsageIteration

__all__ = [
    "FORMAT",
    "REWARD",
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
    "new_id",
]


def __dir__() -> list[str]:
    return sorted(__all__)
