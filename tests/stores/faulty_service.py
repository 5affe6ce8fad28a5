"""Applications for `test_faults.py`, which stops and kills them: each notes the calls and sessions that returned.

Run as a script: faulty_service.py STORES NOTES. Each line on standard input starts an application, whose id is printed:
the SDKs are imported once.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from itertools import count
from pathlib import Path
from typing import Any, Final

import httpx2
import openai

import callspan

KEY: Final = "sk-proj-SECRETKEYSECRETKEY0123456789"
CANARY: Final = "canary of a prompt"
LEVELS: Final = ("full", "metadata", "off")
"""Of the applications in turn. Only the first sends no canary."""
_PAUSE_S: Final = 0.05
"""Between two sessions, which leaves the machine to others."""
_SESSION: Final = 5
"""Number of calls in one."""


class Application:
    """A client whose answers need no network, and the notes of what returned."""

    def __init__(self, notes: Path, level: str) -> None:
        self.prompt = "How are you?" if level == "full" else CANARY
        self.name = f"{os.getpid()}-{os.urandom(4).hex()}"
        self._notes = os.open(notes / self.name, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        transport = httpx2.MockTransport(answer)
        self._client = openai.OpenAI(
            api_key=KEY, base_url="http://localhost/v1", http_client=httpx2.Client(transport=transport)
        )

    def run(self) -> None:
        """Play sessions until it is ended."""
        for number in count():
            key = f"{self.name}-{number}"
            with callspan.session("s", session_id=key), callspan.timestep():
                for each in range(_SESSION):
                    self.call(f"{key}-{each}", stream=each % 2 == 1)
            self.note("session", key)
            time.sleep(_PAUSE_S)

    def call(self, key: str, *, stream: bool) -> None:
        """Make a call, and read its stream to the end."""
        asked: Any = {"model": "m", "messages": [{"role": "user", "content": self.prompt}]}
        with callspan.metadata(run_id=key):
            given = self._client.chat.completions.create(**asked, stream=stream)
            if stream:
                list(given)
        self.note("call", key)

    def note(self, kind: str, key: str) -> None:
        """Note what returned; the operating system has the note on return."""
        os.write(self._notes, f"{kind} {key}\n".encode())


def answer(request: httpx2.Request) -> httpx2.Response:
    """The answer of a model, as a stream if it was asked for."""
    facts = {"id": f"chatcmpl-{os.urandom(8).hex()}", "model": "m", "created": 1}
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    if not json.loads(request.content).get("stream"):
        choice = {"index": 0, "message": {"role": "assistant", "content": "Fine."}, "finish_reason": "stop"}
        return httpx2.Response(200, json=facts | {"object": "chat.completion", "choices": [choice], "usage": usage})
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": "Fi"}, {"content": "ne."}, {}]
    chunks = [
        facts | {"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": delta, "finish_reason": end}]}
        for delta, end in zip(deltas, (None, None, "stop"), strict=True)
    ]
    lines = [f"data: {json.dumps(chunk)}\n\n" for chunk in (*chunks, facts | {"choices": [], "usage": usage})]
    headers = {"content-type": "text/event-stream"}
    return httpx2.Response(200, headers=headers, text="".join([*lines, "data: [DONE]\n\n"]))


def main(stores: str, notes: Path) -> None:
    """Fork an application for each line."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for them
    for number, _ in enumerate(sys.stdin):
        if not (child := os.fork()):
            try:
                level = LEVELS[number % len(LEVELS)]
                callspan.instrument(stores=stores.split(","), content=level)  # type: ignore[arg-type]
                Application(notes, level).run()
            finally:
                os._exit(1)
        print(child, flush=True)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
