"""The cost of pricing a record and delivering it from the spool to a store: CPU time or instructions (`counted`)."""

from __future__ import annotations

import argparse
import gc
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import valgrind
from callspan.delivery.store_sink import StoreSink
from callspan.spool.delivering import Delivery
from callspan.spool.segment import Segment, lines_of
from callspan.stores.spools import target_of
from callspan.stores.urls import find_store

_BLOCK, _WARM = 500, 500
_ROUNDS = 8
_FIRST, _COUNTED = 200, 300
"""Numbers of uncounted, then counted records under callgrind."""
_HERE = Path(__file__).resolve().parent


class Store:
    """A store to which records are delivered as by a shipper, from a segment on disk with a cursor."""

    def __init__(self, url: str, segment: Segment) -> None:
        store = find_store(url)
        self._segment, self._key = segment, key_of(url, segment.path.parent)
        self._sink = StoreSink(store, pauses=True)
        self._delivery = Delivery(store.name, self._sink)
        self._usual = self._sink.batch_records
        self._sink.open()

    def deliver(self, records: int) -> None:
        """Deliver the next records."""
        while records > 0:
            self._sink.batch_records = min(records, self._usual)
            done = self._delivery.deliver(self._segment, self._key)
            if not done.records:
                raise ValueError("the segment has no more records")
            records -= done.records

    def waiting(self) -> int:
        """Return the number of undelivered records."""
        return sum(1 for _ in lines_of(self._segment.path, self._segment.cursor(self._key)))

    def close(self) -> None:
        """Close the store."""
        self._sink.close()


def key_of(url: str, directory: Path) -> str:
    """Return the short name of a store's cursors in a directory."""
    return target_of(find_store(url)).key(directory.parent)


def times(urls: Sequence[str]) -> dict[str, list[float]]:
    """Return CPU nanoseconds per record of each store, by block, alternating between stores."""
    found: dict[str, list[float]] = {url: [] for url in urls}
    with _segment(urls, _WARM + _ROUNDS * _BLOCK) as segment:
        deliveries = {url: Store(url, segment) for url in urls}
        for delivery in deliveries.values():
            delivery.deliver(_WARM)
        gc.collect()
        for _ in range(_ROUNDS):
            for url, delivery in deliveries.items():
                before = time.thread_time_ns()
                delivery.deliver(_BLOCK)
                found[url].append((time.thread_time_ns() - before) / _BLOCK)
        for delivery in deliveries.values():
            delivery.close()
    return found


def counted(urls: Sequence[str], records: int = _COUNTED) -> dict[str, float]:
    """Return instructions per record of each store. Requires callgrind."""
    with tempfile.TemporaryDirectory() as directory, _segment(urls, _FIRST + records) as segment:
        segment.close()
        arguments = [str(_HERE / "delivery.py"), *urls, "--count", directory, str(segment.path)]
        valgrind.run(sys.executable, arguments, Path(directory), {**os.environ, "PYTHONHASHSEED": "0"})
        found: dict[str, float] = json.loads(Path(directory, "delivered.json").read_text())
    return found


def _count(directory: Path, path: Path, urls: Sequence[str]) -> None:
    keys = frozenset(key_of(url, path.parent) for url in urls)
    counter, segment, found = valgrind.Counter(directory), Segment.adopt(path, keys), {}
    if segment is None:
        raise ValueError(f"{path} is held by another process")
    for url in urls:
        delivery = Store(url, segment)
        delivery.deliver(_FIRST)
        records = delivery.waiting()
        gc.collect()
        spent = counter.count(partial(delivery.deliver, records))
        found[url] = spent.instructions / records
        delivery.close()
    (directory / "delivered.json").write_text(json.dumps(found))


@contextmanager
def _segment(urls: Sequence[str], records: int) -> Iterator[Segment]:
    # Only the measurement needs an SDK.
    import workload

    with tempfile.TemporaryDirectory() as directory:
        keys = frozenset(key_of(url, Path(directory)) for url in urls)
        segment = Segment.create(Path(directory), keys)
        for payload in workload.payloads(records):
            segment.append(payload)
        yield segment
        segment.close()


@contextmanager
def files() -> Iterator[list[str]]:
    """Yield the URLs of new file stores."""
    with tempfile.TemporaryDirectory() as directory:
        yield [f"sqlite:///{directory}/calls.db", f"jsonl:///{directory}/calls.jsonl"]


def main() -> None:
    """Measure or count."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("urls", nargs="*", help="of stores; default: new files")
    parser.add_argument("--count", nargs=2, type=Path, metavar=("DIRECTORY", "SEGMENT"), help="under callgrind")
    options = parser.parse_args()
    if options.count:
        _count(*options.count, options.urls)
        return
    with files() as urls:
        for url, found in times(options.urls or urls).items():
            middle, best = statistics.median(found) / 1e6, min(found) / 1e6
            print(f"{url.partition(':')[0]}: {middle:.3f} ms of CPU per record, {best:.3f} at best")


if __name__ == "__main__":
    main()
