"""Makes a large SQLite store, as `callspan` would have: one session for every 50 calls.

python bench/large_store.py FILE CALLS
"""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

import workload
from callspan.record.call import CallRecord
from callspan.record.events import SessionRecord
from callspan.spool.sink import Entry
from callspan.wiring.store_sinks import store_sinks

_BATCH = 1_000
_USERS = 1_000


def make(path: Path, calls: int) -> None:
    """Deliver so many calls, priced, and their sessions to a new file."""
    (sink,) = store_sinks(f"sqlite:///{path}")
    sink.open()
    for batch in _batches(_payloads(calls)):
        sink.deliver(batch)
    sink.close()


def _payloads(calls: int) -> Iterator[bytes]:
    for number, record in enumerate(workload.records(calls)):
        if number % workload.PER_SESSION == 0:
            yield msgspec.json.encode(_session(record, number // workload.PER_SESSION))
        yield msgspec.json.encode(record)


def _session(first: CallRecord, number: int) -> SessionRecord:
    start_ns = first.timing.start_ns
    return SessionRecord(
        session_id=str(first.place.session_id),
        record_version=start_ns,
        name=first.place.session_name,
        user_id=f"user-{number % _USERS}",
        trace_id=first.trace_id,
        start_ns=start_ns,
        end_ns=start_ns + 10**10,
        outcome="success",
    )


def _batches(payloads: Iterator[bytes]) -> Iterator[list[Entry]]:
    start = 0
    while batch := [
        Entry("made", at, at + 1, payload) for at, payload in enumerate(itertools.islice(payloads, _BATCH), start)
    ]:
        yield batch
        start += len(batch)


def main() -> None:
    """Make the file and say what it took."""
    path, calls = Path(sys.argv[1]), int(sys.argv[2])
    began = time.process_time()
    make(path, calls)
    size = path.stat().st_size
    print(f"{calls:,} calls, {time.process_time() - began:.0f} s of CPU, {size / calls / 1000:.2f} KB a call")


if __name__ == "__main__":
    main()
