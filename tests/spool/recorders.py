"""A process that records calls in stores and ends, waits or is killed."""

from __future__ import annotations

import signal
import subprocess
import sys

PROGRAM = """
import os, sys, callspan
handle = callspan.instrument(stores=sys.argv[1])
with callspan.session("s", session_id="one"):
    for number in range(int(sys.argv[2])):
        with callspan.record_call(provider="mine", model="m") as call:
            call.request({"model": "m", "messages": [{"role": "user", "content": "Hi"}]})
            call.response({"choices": [{"message": {"role": "assistant", "content": f"Hello {number}"}}]})
if sys.argv[3] == "wait":
    print("ready", flush=True)
    sys.stdin.read()
if sys.argv[3] == "kill":
    os.kill(os.getpid(), 9)
"""


def start(stores: str, count: int, end: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", PROGRAM, stores, str(count), end]
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )


def killed(stores: str, count: int = 3) -> None:
    process = start(stores, count, "kill")
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
