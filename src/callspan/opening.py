"""Opening: opens a store for reading, optionally after delivering to it the records left by ended processes."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from callspan.stores.query.reader import Reader
from callspan.stores.urls import first_readable, readable, split_urls


def open_store(urls: str | Path | Iterable[str | Path], *, deliver: bool = False) -> Reader:
    """Return a reader of the first readable store among these. Close it after use.

    Args:
        urls: URLs or paths of stores.
        deliver: First deliver the records that ended processes left in the store's spool, as commands that read do.
            This writes to the store, and takes at most 30 s.

    Raises:
        SettingError: None of the stores is of a readable kind.
        StoreError: The store cannot be opened, for example because its file is missing.

    Example:
        >>> handle = callspan.instrument(stores="callspan.db")
        >>> _ = client.chat.completions.create(model="m", messages=[{"role": "user", "content": "Hi"}])
        >>> handle.force_flush()
        True
        >>> with callspan.open_store("callspan.db") as reader:
        ...     [record.text for record in reader.calls()]
        ['Hello!']
    """
    url = first_readable(urls)
    if deliver:
        # Imported here, because that takes longer than opening a store.
        from callspan.delivery import leftovers

        leftovers.deliver(url, other_urls=split_urls(urls))
    return readable([url])[url].reader()
