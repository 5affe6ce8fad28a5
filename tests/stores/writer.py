"""A process that writes to a store: `writer.py URL NUMBER`. Started by the tests."""

from __future__ import annotations

import sys

from conftest import Delivery, Records  # type: ignore[import-not-found]


def main(url: str, number: str) -> None:
    delivery, records = Delivery(url), Records()
    delivery.segment = f"{number}.seg"
    for index in range(20):
        own = records.call(call_id=f"call-{number}-{index}", session_id=f"s{number}", answer=f"answer {number} {index}")
        delivery.write(own, records.call(call_id=f"shared-{index}"), records.session("shared", version=index))
    delivery.sink.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
