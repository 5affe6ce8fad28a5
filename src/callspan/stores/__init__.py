"""Stores: what keeps records, found by the scheme of its URL. What a store of your own needs is named here."""

from __future__ import annotations

from callspan.record.codec import decode, encode
from callspan.record.events import Record
from callspan.settings import SettingError
from callspan.spool.destination import Rejected
from callspan.stores.base import (
    ORDERS,
    CallIds,
    EmptyStoreError,
    Event,
    Grouping,
    History,
    Order,
    SessionSummary,
    StoreError,
    Summary,
    ids_of,
)
from callspan.stores.entries import Entry, duration_of, end_of, start_of, step_of
from callspan.stores.filters import CallFilter, SessionFilter
from callspan.stores.history import whole_conversation
from callspan.stores.named import named_by
from callspan.stores.protocol import FileStore, Options, ServerStore, Sink, SqlStore, Store
from callspan.stores.reader import Reader
from callspan.stores.scores import ScoredReader, Scoring, scored
from callspan.stores.sent import SentVersions
from callspan.stores.sums import GROUPINGS
from callspan.stores.urls import driver_errors, find_store, first_readable, split_urls

__all__ = [
    "GROUPINGS",
    "ORDERS",
    "CallFilter",
    "CallIds",
    "EmptyStoreError",
    "Entry",
    "Event",
    "FileStore",
    "Grouping",
    "History",
    "Options",
    "Order",
    "Reader",
    "Record",
    "Rejected",
    "ScoredReader",
    "Scoring",
    "SentVersions",
    "ServerStore",
    "SessionFilter",
    "SessionSummary",
    "SettingError",
    "Sink",
    "SqlStore",
    "Store",
    "StoreError",
    "Summary",
    "decode",
    "driver_errors",
    "duration_of",
    "encode",
    "end_of",
    "find_store",
    "first_readable",
    "ids_of",
    "named_by",
    "scored",
    "split_urls",
    "start_of",
    "step_of",
    "whole_conversation",
]
