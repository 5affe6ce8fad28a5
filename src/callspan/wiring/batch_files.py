"""Batch files: the requests of uploaded files, processed, until a batch is created from their file.

They are in the directory of the spool, so that another process finds them, or in memory where there is no store.
"""

from __future__ import annotations

import os
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Final

from callspan.fail_open import ours
from callspan.record import codec
from callspan.record.call import CallRecord

DIRECTORY: Final = "batch_files"
_UNFINISHED: Final = ".part"
_KEPT_S: Final = 30 * 86_400
"""OpenAI deletes the files of batches after 30 days."""
_MOST_BYTES: Final = 1 << 30
_MOST_IN_MEMORY: Final = 32 << 20


class BatchFiles:
    """Keeps the requests of uploaded files. Safe from any thread. Methods raise OSError."""

    def __init__(self, directory: Callable[[], Path | None]) -> None:
        """`directory` returns that of the spool; None where there is no store."""
        self._directory = directory
        self._in_memory: OrderedDict[tuple[str, str], bytes] = OrderedDict()

    def keep(self, provider: str, file_id: str, records: Iterable[CallRecord]) -> None:
        """Keep the records of a file's requests, whose batch is not known yet."""
        directory = self._directory()
        if directory is None:
            self._keep_in_memory((provider, file_id), records)
            return
        path = _path(directory, provider, file_id)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _tidy(path.parent)
        fresh = path.with_name(f"{path.name}.{os.getpid()}{_UNFINISHED}")
        fresh.touch(0o600)
        with fresh.open("wb") as file:
            file.writelines(codec.encode(record) + b"\n" for record in records)
        fresh.replace(path)

    def take(self, provider: str, file_id: str) -> Iterator[CallRecord]:
        """Yield the records of a file's requests, and forget them after the last one; none where it is not known."""
        kept = self._in_memory.pop((provider, file_id), None)
        if kept is not None:
            yield from _decoded(kept.splitlines())
        directory = self._directory()
        if directory is None:
            return
        path = _path(directory, provider, file_id)
        try:
            with path.open("rb") as file:
                yield from _decoded(file)
            path.unlink(missing_ok=True)
        except ours(FileNotFoundError):
            return

    def _keep_in_memory(self, key: tuple[str, str], records: Iterable[CallRecord]) -> None:
        lines, size = [], 0
        for record in records:
            lines.append(codec.encode(record))
            size += len(lines[-1])
            if size > _MOST_IN_MEMORY:
                return
        self._in_memory[key] = b"\n".join(lines)
        while sum(map(len, list(self._in_memory.values()))) > _MOST_IN_MEMORY:
            self._in_memory.popitem(last=False)


def _decoded(lines: Iterable[bytes]) -> Iterator[CallRecord]:
    for line in lines:
        record = codec.decode(line)
        if isinstance(record, CallRecord):
            yield record


def _path(directory: Path, provider: str, file_id: str) -> Path:
    return directory / DIRECTORY / f"{sha256(f'{provider} {file_id}'.encode()).hexdigest()[:32]}.jsonl"


def _tidy(directory: Path) -> None:
    """Delete files that no batch was created from for long, and the oldest where all are too large."""
    found = [(path.stat().st_mtime, path.stat().st_size, path) for path in directory.iterdir()]
    size, now = 0, time.time()
    for changed, bytes_of, path in sorted(found, reverse=True):
        size += bytes_of
        if size > _MOST_BYTES or now - changed > _KEPT_S:
            path.unlink(missing_ok=True)
