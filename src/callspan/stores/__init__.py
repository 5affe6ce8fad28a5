"""Stores: where records are kept, each found by the scheme of its URL. A custom store needs no other module."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from callspan.providers.openai.voice_items import cut_of
from callspan.record.codec import decode, encode
from callspan.record.events import Record, end_of
from callspan.record.interrupted import INTERRUPTED, UNKNOWN
from callspan.runtime.forks import late_import
from callspan.settings import SettingError
from callspan.spool.delivering import Rejected
from callspan.stores.base import (
    IN_PROGRESS,
    ORDERS,
    Content,
    EmptyStoreError,
    Entry,
    Event,
    Grouping,
    History,
    Opening,
    Order,
    ProcessActivity,
    Run,
    SessionSummary,
    StepSums,
    StoreError,
    Summary,
    duration_of,
    start_of,
    step_of,
)
from callspan.stores.protocol import FileStore, ReadableStore, ServerStore, Sink, SqlStore, Store
from callspan.stores.sent import SentVersions
from callspan.stores.urls import driver_errors, find_store, first_readable, split_urls

if TYPE_CHECKING:
    from callspan.joining.prompt_cache import CacheUse
    from callspan.stores.query.aggregates import exact_sum, is_error, known_sum
    from callspan.stores.query.bill_sums import BillCause, BillSums
    from callspan.stores.query.fact_rows import LISTED, as_row, call_facts, session_facts, timestep_facts
    from callspan.stores.query.filters import SCORE_FIELDS, CallFilter, conditions_on_calls
    from callspan.stores.query.history import KEEPS_INSTRUCTIONS, whole_conversation
    from callspan.stores.query.lookup import id_of, look_up
    from callspan.stores.query.new_messages import ConversationReader, NewMessages, instructions, question, spoken
    from callspan.stores.query.reader import Reader
    from callspan.stores.query.rewards import Labels, Scores
    from callspan.stores.query.session_values import SESSION_FACTS, Number, SessionValues
    from callspan.stores.query.sums import GROUPINGS, META
    from callspan.stores.query.voice import VoiceTurn, is_realtime, is_voice, minute_cost, seconds_of, voice_turns

_QUERY: Final = (
    "aggregates", "fact_rows", "filters", "history", "lookup", "new_messages", "reader", "rewards", "session_values",
    "sums", "voice", "bill_sums", "prompt_cache",
)  # fmt: skip
"""Modules of `query` whose names are imported on first use: an application that only records needs none.

They are looked into in this order: the last two load what few commands need."""

__all__ = [
    "GROUPINGS",
    "INTERRUPTED",
    "IN_PROGRESS",
    "KEEPS_INSTRUCTIONS",
    "LISTED",
    "META",
    "ORDERS",
    "SCORE_FIELDS",
    "SESSION_FACTS",
    "UNKNOWN",
    "BillCause",
    "BillSums",
    "CacheUse",
    "CallFilter",
    "Content",
    "ConversationReader",
    "EmptyStoreError",
    "Entry",
    "Event",
    "FileStore",
    "Grouping",
    "History",
    "Labels",
    "NewMessages",
    "Number",
    "Opening",
    "Order",
    "ProcessActivity",
    "ReadableStore",
    "Reader",
    "Record",
    "Rejected",
    "Run",
    "Scores",
    "SentVersions",
    "ServerStore",
    "SessionSummary",
    "SessionValues",
    "SettingError",
    "Sink",
    "SqlStore",
    "StepSums",
    "Store",
    "StoreError",
    "Summary",
    "VoiceTurn",
    "as_row",
    "call_facts",
    "conditions_on_calls",
    "cut_of",
    "decode",
    "driver_errors",
    "duration_of",
    "encode",
    "end_of",
    "exact_sum",
    "find_store",
    "first_readable",
    "id_of",
    "instructions",
    "is_error",
    "is_realtime",
    "is_voice",
    "known_sum",
    "look_up",
    "minute_cost",
    "question",
    "seconds_of",
    "session_facts",
    "split_urls",
    "spoken",
    "start_of",
    "step_of",
    "timestep_facts",
    "voice_turns",
    "whole_conversation",
]


def __getattr__(name: str) -> object:
    for module in _QUERY if name in __all__ else ():
        value = vars(late_import(f"callspan.stores.query.{module}")).get(name)
        if value is not None:
            globals()[name] = value
            return value
    raise AttributeError(f"module 'callspan.stores' has no attribute {name!r}")
