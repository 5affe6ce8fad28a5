"""A program that forks while another thread makes its first calls. See `test_forks`.

Each trial is a process of its own, forked from one that has instrumented and made no call: `python fork_storm.py
TRIALS`, in a directory of its own. Prints which trials hung, and every name recorded other than once.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import ssl
import sys
import threading
import time
from collections import Counter

import openai

import callspan
from callspan.testing import ScriptedProvider

STORE = "sqlite:///calls.db"
SSL_CONTEXT = ssl.create_default_context()
"""Made once: a fork while another thread makes one leaves OpenSSL's own locks held in the child, also without us."""
LOCKED = (vars(openai.OpenAI)["chat"], vars(openai.OpenAI)["responses"], vars(openai.resources.Chat)["completions"])
"""Before Python 3.12 a `cached_property` has a lock; a fork while another thread holds it hangs, also without us."""
HANGS_AFTER_S = 60
"""A hang lasts for ever; on a loaded machine everything else may take its time."""


def ask(url: str, name: str) -> None:
    """Make a plain call, a stream, and one recorded by hand, in a session."""
    http_client = openai.DefaultHttpxClient(verify=SSL_CONTEXT)
    with callspan.session(), openai.OpenAI(api_key="k", base_url=url, http_client=http_client) as client:
        client.chat.completions.create(model=f"{name} plain", messages=[])
        for _ in client.responses.create(model=f"{name} stream", input="Hi", stream=True):
            pass
    with callspan.record_call(provider="p", api="messages", model=f"{name} by hand") as call:
        call.request({"model": f"{name} by hand", "messages": []})


def trial(url: str, number: int, delay_s: float) -> int:
    """Fork while another thread makes its first calls; 0 where the child, too, has ended well."""
    first = threading.Thread(target=ask, args=(url, f"{number} parent"))
    first.start()
    time.sleep(delay_s)
    child = os.fork()
    if child == 0:
        signal.alarm(HANGS_AFTER_S)
        ask(url, f"{number} child")
        # Where the parent's delivery was in use for too long at the fork, another process delivers.
        callspan.instrument(stores=STORE).force_flush(5_000)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    first.join()
    flushed = callspan.instrument(stores=STORE).force_flush(20_000)
    return os.waitstatus_to_exitcode(status) or (0 if flushed else 3)


def unlock() -> None:
    """Renew the locks of the SDK's properties."""
    for found in LOCKED:
        if hasattr(found, "lock"):
            found.lock = threading.RLock()


def main() -> None:
    """Run the trials and say what is wrong."""
    os.register_at_fork(after_in_child=unlock)
    trials = int(sys.argv[1])
    chance = random.Random(7)
    bad: list[object] = []
    with ScriptedProvider() as provider:
        # The SDK, too, imports with its first calls, and then hangs without us.
        ask(provider.openai_url, "bare")
        callspan.instrument(stores=STORE)
        # Imported by the thread that delivers, later, it would hold the import lock over a fork.
        assert "genai_prices" in sys.modules
        for number in range(trials):
            process = os.fork()
            if process == 0:
                signal.alarm(2 * HANGS_AFTER_S)
                os._exit(trial(provider.openai_url, number, chance.uniform(0, 0.05)) & 0xFF)
            status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
            if status:
                bad.append((number, status))
    with contextlib.closing(callspan.open_store(STORE, deliver=True)) as store:
        names = Counter(call.request.model for call in store.calls() if call.outcome != "in_progress")
    for number in range(trials):
        for whose in ("parent", "child"):
            for kind in ("plain", "stream", "by hand"):
                if names[f"{number} {whose} {kind}"] != 1:
                    bad.append((f"{number} {whose} {kind}", names[f"{number} {whose} {kind}"]))
    print(bad)


if __name__ == "__main__":
    main()
