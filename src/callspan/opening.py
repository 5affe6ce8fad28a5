"""Opening: a store for reading; if requested, records of ended processes are delivered to it first."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from callspan.stores import urls as stores
from callspan.stores.reader import Reader


def open_store(urls: str | Path | Iterable[str | Path], *, deliver: bool = False) -> Reader:
    """Return a reader of the first of these stores, given by URL or path, that can be read. Close it after use.

    Args:
        urls: URLs or paths of stores.
        deliver: First deliver to that store what processes that have ended left for it in its spool, as the commands
            that read do; it takes 30 s at most, and writes to the store.

    Raises:
        SettingError: None of them is readable by its kind.
        StoreError: It cannot be opened now, such as a file that is missing.

    Example:
        >>> handle = callspan.instrument(stores="callspan.db")
        >>> _ = client.chat.completions.create(model="m", messages=[{"role": "user", "content": "Hi"}])
        >>> handle.force_flush()
        True
        >>> reader = callspan.open_store("callspan.db")
        >>> [record.text for record in reader.calls()]
        ['Hello!']
        >>> reader.close()
    """
    split = stores.split_urls(urls)
    if deliver:
        # Importing what delivers takes longer than opening a store.
        from callspan.delivery import leftovers

        leftovers.deliver(stores.first_readable(split))
    return stores.open_store(split)
