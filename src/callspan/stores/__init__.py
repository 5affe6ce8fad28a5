"""Stores: what keeps records, found by the scheme of its URL. What a store of your own needs is named here."""

from __future__ import annotations

from callspan.record.codec import decode, encode
from callspan.record.events import Record
from callspan.settings import SettingError
from callspan.spool.sink import BaseSink, Entry, PoisonError, Sink
from callspan.stores.base import (
    CallFilter,
    DeletionResult,
    DeletionScope,
    EmptyStoreError,
    Grouping,
    History,
    Order,
    Reader,
    SessionFilter,
    SessionSummary,
    StoreError,
    Summary,
)
from callspan.stores.protocol import (
    Erasable,
    FileStore,
    Options,
    Readable,
    ServerStore,
    Store,
    Triable,
    read_records,
)

__all__ = [
    "BaseSink",
    "CallFilter",
    "DeletionResult",
    "DeletionScope",
    "EmptyStoreError",
    "Entry",
    "Erasable",
    "FileStore",
    "Grouping",
    "History",
    "Options",
    "Order",
    "PoisonError",
    "Readable",
    "Reader",
    "Record",
    "ServerStore",
    "SessionFilter",
    "SessionSummary",
    "SettingError",
    "Sink",
    "Store",
    "StoreError",
    "Summary",
    "Triable",
    "decode",
    "encode",
    "read_records",
]
