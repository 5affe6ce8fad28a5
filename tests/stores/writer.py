"""A process that writes to a store: `writer.py URL NUMBER`. Started by the tests."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[2]))

from tests.support.records import Delivery, Records

url, number = sys.argv[1:]
delivery, records = Delivery(url), Records()
for index in range(20):
    own = records.call(call_id=f"call-{number}-{index}", session_id=f"s{number}", answer=f"answer {number} {index}")
    delivery.write(own, records.call(call_id=f"shared-{index}"), records.session("shared", version=index))
delivery.close()
