"""Scratch: reads records that are in no database, as they wait on disk, from a private file that is deleted again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from callspan.record.events import Record
from callspan.stores.protocol import deliver_all
from callspan.stores.reader import Reader
from callspan.stores.sqlite.database import SQLiteDatabase
from callspan.stores.sqlite.store import SQLiteStore


@contextmanager
def scratch_reader(records: Iterable[Record]) -> Iterator[Reader]:
    """Yield a reader of records, given in any order; repeated ones and older versions too."""
    with TemporaryDirectory(prefix="callspan-") as directory:
        path = Path(directory) / "records.db"
        with closing(SQLiteStore(path)) as sink:
            deliver_all(sink, records)
        with closing(Reader(SQLiteDatabase.open(path))) as reader:
            yield reader
