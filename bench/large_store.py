"""Makes a large store, delivered as a shipper does it: one session for every 50 calls, and a long one of 20,000.

The long one has 2,000 steps. With STEPS there is an episode of so many steps without calls, too.

python bench/large_store.py FILE|URL CALLS [STEPS]
"""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

import workload
from callspan.delivery.store_sink import StoreSink
from callspan.records import CallRecord, EventRecord, Place, Record, SessionRecord, TimestepRecord
from callspan.stores.urls import find_store

LONG = "long-session"
"""Id of the session of the last calls."""
LONG_CALLS = 20_000
EPISODE = "episode"
"""Id of the session with steps and rewards."""
_FIRST_NS = 1_700_000_000 * 10**9
_STEP_NS = 10**7
_PER_STEP = 10
"""Calls of each step of the long session."""
_BATCH = 1_000
_MANDATORY = 3
"""Arguments of the command, its name included."""
_USERS = 1_000
_STEP = "01990000-0000-7000-8000-7"


def deliver(store: str | Path, payloads: Iterator[bytes]) -> None:
    """Deliver these records."""
    sink = StoreSink(find_store(str(store)))
    sink.open()
    while batch := list(itertools.islice(payloads, _BATCH)):
        sink.deliver(batch)
    sink.close()


def episode(steps: int) -> Iterator[bytes]:
    """Yield an episode with an action and a reward in each step; runs of ten steps have the same."""
    end_ns = _FIRST_NS + steps * _STEP_NS
    session = SessionRecord(
        session_id=EPISODE, seen_ns=_FIRST_NS, name="episode", start_ns=_FIRST_NS, end_ns=end_ns, outcome="success"
    )
    yield msgspec.json.encode(session)
    for number in range(steps):
        yield from map(msgspec.json.encode, _step(number))


def _step(number: int) -> Iterator[Record]:
    start_ns, step_id = _FIRST_NS + number * _STEP_NS, f"episode-step-{number:06}"
    yield TimestepRecord(
        timestep_id=step_id,
        session_id=EPISODE,
        seen_ns=start_ns,
        index=number,
        start_ns=start_ns,
        end_ns=start_ns + _STEP_NS,
        outcome="success",
    )
    for at, (kind, reward, data) in enumerate(
        (
            ("action", None, {"action": f"move {('north', 'east', 'south', 'west')[number // 10 % 4]}"}),
            ("environment", number // 10 % 3 - 1.0, {"after": {"x": number % 17, "y": number % 13}}),
        ),
        start=1,
    ):
        yield EventRecord(
            event_id=f"{step_id}-{kind}",
            session_id=EPISODE,
            timestep_id=step_id,
            timestep=number,
            event_type=kind,
            time_ns=start_ns + at * _STEP_NS // 3,
            reward=reward,
            data=data,
        )


def calls_of(number: int) -> Iterator[bytes]:
    """Yield so many calls, priced, with their sessions; beyond 20,000 the last are those of the long session."""
    short = number - LONG_CALLS if number > LONG_CALLS else number
    for place, record in enumerate(workload.records(number)):
        if place >= short:
            yield from map(msgspec.json.encode, _long(record, place - short))
            continue
        if place % workload.PER_SESSION == 0:
            yield msgspec.json.encode(_session(record, place // workload.PER_SESSION))
        yield msgspec.json.encode(record)


def _long(record: CallRecord, number: int) -> Iterator[Record]:
    """Yield a call of the long session, behind the session and its timestep where it is the first of these."""
    index, place_in_step = divmod(number, _PER_STEP)
    step_id, start_ns = f"{_STEP}{index:011x}", record.timing.start_ns
    place = Place(session_id=LONG, session_name="bench", timestep=index, timestep_id=step_id)
    call = msgspec.structs.replace(record, place=place)
    if number == 0:
        yield _session(call, 0)
    if place_in_step == 0:
        yield TimestepRecord(
            timestep_id=step_id, session_id=LONG, seen_ns=start_ns, index=index,
            start_ns=start_ns, end_ns=start_ns + 10**10, outcome="success",
        )  # fmt: skip
    yield call


def _session(first: CallRecord, number: int) -> SessionRecord:
    start_ns = first.timing.start_ns
    return SessionRecord(
        session_id=str(first.place.session_id),
        seen_ns=start_ns,
        name=first.place.session_name,
        user_id=f"user-{number % _USERS}",
        trace_id=first.trace_id,
        start_ns=start_ns,
        end_ns=start_ns + 10**10,
        outcome="success",
    )


def main() -> None:
    """Make the store and say what it took."""
    store, calls = sys.argv[1], int(sys.argv[2])
    began = time.process_time()
    deliver(store, calls_of(calls))
    if len(sys.argv) > _MANDATORY:
        deliver(store, episode(int(sys.argv[_MANDATORY])))
    size = f", {Path(store).stat().st_size / calls / 1000:.2f} KB a call" if Path(store).is_file() else ""
    print(f"{calls:,} calls, {time.process_time() - began:.0f} s of CPU{size}")


if __name__ == "__main__":
    main()
