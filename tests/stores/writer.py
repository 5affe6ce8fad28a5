"""A process that writes to a store: `writer.py URL NUMBER`, or `writer.py URL endless`. Started by the tests."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[2]))

from tests.stores.conftest import Delivery, Records

from callspan.records import new_id


def write_some(url: str, number: str) -> None:
    delivery, records = Delivery(url), Records()
    for index in range(20):
        own = records.call(call_id=f"call-{number}-{index}", session_id=f"s{number}", answer=f"answer {number} {index}")
        delivery.write(own, records.call(call_id=f"shared-{index}"), records.session("shared", version=index))
    delivery.sink.close()


def write_until_killed(url: str) -> None:
    """Print the id of each call once its delivery has returned."""
    delivery, records = Delivery(url), Records()
    while True:
        made = records.call(call_id=new_id(), at_s=10**7)
        delivery.write(made)
        print(made.call_id, flush=True)


if __name__ == "__main__":
    if sys.argv[2] == "endless":
        write_until_killed(sys.argv[1])
    write_some(*sys.argv[1:])
