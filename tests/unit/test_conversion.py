"""What msgspec knows of a type is read before a call needs it: read in part, it ends the process."""

from __future__ import annotations

import subprocess
import sys
from typing import Final

FIRST_USES: Final = """
import sys
import threading
import msgspec
from callspan.conversion import converter

def convert(made, barrier):
    barrier.wait()
    made({"f1": {"f2": 1}})

sys.setswitchinterval(1e-6)
for _ in range(200):
    inner = msgspec.defstruct("Inner", [(f"f{number}", "int | None", None) for number in range(20)])
    outer = msgspec.defstruct("Outer", [(f"f{number}", inner | None, None) for number in range(20)])
    made, barrier = converter(outer), threading.Barrier(4)
    threads = [threading.Thread(target=convert, args=(made, barrier)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
print("whole")
"""


def test_a_type_is_first_needed_by_several_threads_at_once() -> None:
    """With `partial(msgspec.convert, type=outer)` the first few types end the process."""
    done = subprocess.run([sys.executable, "-c", FIRST_USES], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, "whole\n")
