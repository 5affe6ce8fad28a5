"""Left behind: records on disk, as a process leaves them that ends before any store has them; and such processes."""

from __future__ import annotations

import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

from tests.support.waiting import HANG_S

import callspan
from callspan import Settings
from callspan.delivery.store_sink import Retention, StoreSink, store_of
from callspan.record.events import record_key
from callspan.record.span_handle import FOREIGN_RUNS
from callspan.records import FORMAT, Record, encode
from callspan.spool import directory as spool_files
from callspan.spool.delivering import Delivery as BatchDelivery
from callspan.spool.delivering import SuspectError
from callspan.spool.directory import segments_in
from callspan.spool.losses import Kind, Loss, Losses, add_losses, read_losses
from callspan.spool.segment import Segment, lines_of
from callspan.spool.spool import Spool
from callspan.stores import find_store, split_urls
from callspan.stores.spools import spool_directory, target_of
from callspan.wiring import WIRING

__all__ = [
    "FOREIGN_RUNS", "BatchDelivery", "Retention", "Segment", "StoreSink", "SuspectError", "lines_of", "record_key",
    "segments_in", "store_of", "target_of",
]  # fmt: skip

_PROGRAM = """
import os, sys, callspan
handle = callspan.instrument(stores=sys.argv[1])
with callspan.session("s", session_id="one"):
    for number in range(int(sys.argv[2])):
        with callspan.record_call(provider="mine", model="m") as call:
            call.request({"model": "m", "messages": [{"role": "user", "content": "Hi"}]})
            call.response({"choices": [{"message": {"role": "assistant", "content": f"Hello {number}"}}]})
if sys.argv[3] == "delivered":
    assert handle.force_flush(300_000)
if sys.argv[3] in ("kill", "delivered"):
    os.kill(os.getpid(), 9)
"""


def end_instrumentation() -> bool:
    """Uninstrument this process; return whether it was instrumented."""
    left = WIRING.pipeline is not None
    if left:
        callspan.uninstrument()
    return left


def directory_of(stores: str, settings: Settings | None = None) -> Path:
    """Return the directory where records for a comma list of stores usually wait."""
    return spool_directory(settings or Settings(), split_urls(stores))


def losses_of(stores: str, settings: Settings | None = None) -> Losses:
    """Return the losses that were counted in that directory."""
    return read_losses(directory_of(stores, settings))


def losses_in(directory: Path) -> Losses:
    """Return the losses that were counted in a directory of a spool."""
    return read_losses(directory)


def cursors_of(segment: Path) -> list[Path]:
    """Return the cursors of a segment, one for each store of its directory, whether they are there or not."""
    return [segment.with_name(f"{segment.name}.{key}.cursor") for key in spool_files.keys_of(segment.parent)]


def count_loss(stores: str, kind: Kind, name: str) -> None:
    """Count a loss in that directory, as a process does that loses a record."""
    add_losses(directory_of(stores), Losses(**{kind: {name: Loss(2, 1, 2)}}))


def unrecorded(stores: str) -> dict[str, int]:
    """Return what was counted as not recorded in that directory: number of requests by method and path."""
    return {path: loss.count for path, loss in losses_of(stores).unrecorded.items()}


def leave_behind(stores: str, *records: Record | bytes, settings: Settings | None = None) -> Path:
    """Leave records, or lines that may be none, for a comma list of stores; return their segment."""
    directory = directory_of(stores, settings)
    spool_files.create(directory, [target_of(find_store(url)) for url in split_urls(stores)])
    segment = Segment.create(directory, spool_files.keys_of(directory))
    for record in records:
        segment.append(record if isinstance(record, bytes) else encode(record))
    segment.close()
    return segment.path


def open_spool(root: Path, *urls: str) -> Spool:
    """Return a spool of some stores, as a process has it."""
    return Spool([root], {target_of(store): partial(StoreSink, store) for store in map(find_store, urls)})


def of_another_version(segment: Path) -> Path:
    """Rename a segment as if a process of another format had written it; return its path.

    Its name states the format of its records, which every store would reject in today's.
    """
    before, today, after = segment.name.partition(f".v{FORMAT}.")
    assert today
    return segment.rename(segment.with_name(f"{before}.v{FORMAT + 1}.{after}"))


def start(stores: str, count: int, end: str) -> subprocess.Popen[bytes]:
    """Start a process that records so many calls in a session and then ends or is killed.

    `end` is "end", "kill" or, to be killed once its store has all of them, "delivered".
    """
    return subprocess.Popen([sys.executable, "-c", _PROGRAM, stores, str(count), end], stderr=subprocess.DEVNULL)


def killed(stores: str, count: int = 3, end: str = "kill") -> None:
    """Run one that is killed."""
    process = start(stores, count, end)
    process.communicate(timeout=HANG_S)
    assert process.returncode == -signal.SIGKILL


def end_open_calls() -> None:
    """Do what the end of this process does to calls that are under way."""
    WIRING.hook_context.deferred_ends.end_open(HANG_S)
