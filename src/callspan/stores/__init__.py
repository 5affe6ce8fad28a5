"""Stores: what keeps records, found by the scheme of its URL. What a store of your own needs is named here."""

from __future__ import annotations

from callspan.record.codec import decode, encode
from callspan.record.events import Record
from callspan.settings import SettingError
from callspan.spool.destination import Rejected
from callspan.stores.base import EmptyStoreError, Grouping, History, Order, SessionSummary, StoreError, Summary
from callspan.stores.filters import CallFilter, SessionFilter
from callspan.stores.protocol import FileStore, Options, ServerStore, Sink, Store
from callspan.stores.reader import Reader

__all__ = [
    "CallFilter",
    "EmptyStoreError",
    "FileStore",
    "Grouping",
    "History",
    "Options",
    "Order",
    "Reader",
    "Record",
    "Rejected",
    "ServerStore",
    "SessionFilter",
    "SessionSummary",
    "SettingError",
    "Sink",
    "Store",
    "StoreError",
    "Summary",
    "decode",
    "encode",
]
