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
    Reader,
    SessionFilter,
    StoreError,
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
    "Options",
    "PoisonError",
    "Readable",
    "Reader",
    "Record",
    "ServerStore",
    "SessionFilter",
    "SettingError",
    "Sink",
    "Store",
    "StoreError",
    "Triable",
    "decode",
    "encode",
    "read_records",
]
