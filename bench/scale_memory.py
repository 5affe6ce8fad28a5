"""Memory over very many calls whose records have nowhere to go: a store that refuses every connection.

    python bench/scale_memory.py CALLS MINUTES DIRECTORY

One call of twenty is made with the real SDK over a mocked transport, the others with `record_call`, at full speed; all
have spans. Prints what was made and the resident memory on the way as JSON.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from pathlib import Path
from typing import Any

import callspan
import wire_bodies as wire
from columns import columns
from rows import provider

_SPOOL_BYTES = 64 * 1024**2
_SAMPLES = 50
_SDK_EVERY = 20


def main() -> None:
    """Make the calls, as many as fit into the time."""
    calls, deadline = int(sys.argv[1]), time.monotonic() + 60 * float(sys.argv[2])
    handle = callspan.instrument(
        tracer_provider=provider(), stores=f"postgresql://nobody@127.0.0.1:{_closed_port()}/none",
        spool_dir=sys.argv[3], spool_max_bytes=_SPOOL_BYTES,
    )  # fmt: skip
    began, samples, made = time.monotonic(), [], 0
    with_sdk = columns()[0].one
    request = {"model": "gpt-5", "messages": wire.messages(1000)}
    answer = json.loads(wire.openai_answer())
    while made < calls and time.monotonic() < deadline:
        for _ in range(max(calls // _SAMPLES, _SDK_EVERY) // _SDK_EVERY):
            with_sdk()
            for _ in range(_SDK_EVERY - 1):
                _recorded(request, answer)
            made += _SDK_EVERY
        samples.append((made, _resident_mb()))
    counters = dict(handle.counters())
    spooled = sum(file.stat().st_size for file in Path(sys.argv[3]).rglob("*") if file.is_file())
    print(
        json.dumps(
            {
                "calls": made, "sdk": made // _SDK_EVERY, "seconds": time.monotonic() - began, "samples": samples,
                "counters": counters, "spooled_mb": spooled / 1024**2,
            }
        )
    )  # fmt: skip


def _recorded(request: dict[str, Any], answer: dict[str, Any]) -> None:
    with callspan.record_call(provider="my_gateway") as call:
        call.request(request)
        call.response(answer)


def _resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1024**2


def _closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


if __name__ == "__main__":
    main()
