"""Batch files: stores the requests of uploaded files until their batch is created, and the batch of each results file.

They are in the directory of the spool, so that another process finds them. Where there is no store, requests are kept
in memory.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Final

import msgspec

from callspan.fail_open import ours
from callspan.process.processed import Processed
from callspan.providers.batches import BatchInfo
from callspan.record import codec
from callspan.record.call import CallRecord
from callspan.spool import uploads

_BATCH: Final = ".batch"
_MOST_IN_MEMORY: Final = 32 << 20
_BATCHES_BETWEEN: Final = 256
"""After so many batches old files are deleted again."""
_batch: Final = msgspec.json.Decoder(BatchInfo).decode


class BatchFiles:
    """Stores the requests of uploaded files. Safe from any thread. Methods raise OSError."""

    def __init__(self, directory: Callable[[], Path | None]) -> None:
        """`directory` returns the spool directory; None without stores."""
        self._directory = directory
        self._in_memory: OrderedDict[tuple[str, str], bytes] = OrderedDict()
        self._batches = 0

    def keep(self, provider: str, file_id: str, records: Iterable[Processed[CallRecord]]) -> None:
        """Store the records of a file's requests until its batch is known."""
        directory = self._directory()
        if directory is None:
            self._keep_in_memory((provider, file_id), records)
            return
        uploads.tidy(directory)
        path = _path(directory, provider, file_id, uploads.REQUESTS)
        uploads.write(path, (codec.encode(processed.record) + b"\n" for processed in records))

    def keep_batch(self, provider: str, batch: BatchInfo) -> None:
        """Store the ids of a batch's results files, for other processes."""
        directory = self._directory()
        if directory is None:
            return
        # Counts and usage change until the batch has ended, and the lines have them.
        note = msgspec.json.encode(msgspec.structs.replace(batch, counts={}, usage=None))
        for file_id in batch.result_files:
            if self._batches % _BATCHES_BETWEEN == 0:
                uploads.tidy(directory)
            self._batches += 1
            uploads.write(_path(directory, provider, file_id, _BATCH), [note])

    def batch_of(self, provider: str, file_id: str) -> BatchInfo | None:
        """Return the batch of a results file; None if no process with this directory has seen it."""
        directory = self._directory()
        if directory is None:
            return None
        try:
            batch = _batch(_path(directory, provider, file_id, _BATCH).read_bytes())
        except ours(FileNotFoundError, msgspec.MsgspecError):
            return None
        return batch if file_id in batch.result_files else None

    def take(self, provider: str, file_id: str) -> Iterator[CallRecord]:
        """Yield the records of a file's requests and delete them after the last one; nothing for an unknown file.

        They are to be processed again, together with what is added to them.
        """
        kept = self._in_memory.get((provider, file_id))
        if kept is not None:
            yield from _decoded(kept.splitlines())
            self._in_memory.pop((provider, file_id), None)
        directory = self._directory()
        if directory is None:
            return
        path = _path(directory, provider, file_id, uploads.REQUESTS)
        try:
            with path.open("rb") as file:
                yield from _decoded(file)
            path.unlink(missing_ok=True)
        except ours(FileNotFoundError):
            return

    def _keep_in_memory(self, key: tuple[str, str], records: Iterable[Processed[CallRecord]]) -> None:
        lines, size = [], 0
        for processed in records:
            lines.append(codec.encode(processed.record))
            size += len(lines[-1])
            if size > _MOST_IN_MEMORY:
                return
        self._in_memory[key] = b"\n".join(lines)
        while sum(map(len, list(self._in_memory.values()))) > _MOST_IN_MEMORY:
            self._in_memory.popitem(last=False)


class Upload:
    """An uploaded file whose requests are being stored."""

    __slots__ = ("_then", "is_finished")

    def __init__(self) -> None:
        self.is_finished = False
        self._then: list[Callable[[], object]] = []

    def after(self, work: Callable[[], object]) -> None:
        """Run `work` when the requests are stored; now if they already are."""
        if work not in self._then:  # after an interrupt it may be
            self._then.append(work)
        if self.is_finished:
            self._work()

    def finish(self) -> None:
        """Report that the requests are stored."""
        self.is_finished = True
        self._work()

    def _work(self) -> None:
        while self._then:
            try:
                work = self._then.pop()
            except ours(IndexError):
                return
            work()


def _decoded(lines: Iterable[bytes]) -> Iterator[CallRecord]:
    for line in lines:
        record = codec.decode(line)
        if isinstance(record, CallRecord):
            yield record


def _path(directory: Path, provider: str, file_id: str, suffix: str) -> Path:
    key = f"{provider} {file_id}".encode(errors="surrogatepass")
    return directory / uploads.DIRECTORY / f"{sha256(key).hexdigest()[:32]}{suffix}"
