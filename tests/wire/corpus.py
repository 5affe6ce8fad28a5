"""The recorded exchanges, one typed value for each, and the events of their streams.

They are the sample beside this file. At full scale they are the whole corpus where it lies beside the project, of
which it is no part.
"""

from __future__ import annotations

import functools
import gzip
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from openai._streaming import ServerSentEvent, SSEDecoder
from tests.support.scale import FULL

SAMPLE = Path(__file__).with_name("sample.jsonl.gz")
WHOLE = Path(__file__).resolve().parents[3] / "shared" / "wire" / "exchanges.jsonl.gz"
MORE = WHOLE.with_name("more.jsonl.gz")
"""Exchanges of other wires, and some more of these."""
OTHERS = SAMPLE.with_name("others.jsonl.gz")
"""A sample of those."""
IS_WHOLE = FULL and WHOLE.is_file()
STREAMED = ("chat_completions", "messages", "responses")
WHOLES = ("completions", "embeddings")


@dataclass(frozen=True, slots=True, eq=False)
class Exchange:
    """One HTTP exchange with a real provider, as recorded; equal only to itself."""

    id: str
    source: str
    method: str
    host: str
    path: str
    endpoint: str
    """chat_completions, responses, messages, completions, embeddings or count_tokens."""
    model: str | None
    stream: bool
    request: dict[str, object] | None
    """The JSON body that was sent; None for a GET."""
    status: int | None
    """None: the recording holds a request that was never answered."""
    headers: dict[str, str]
    body: str
    """The text of the answer: JSON, or a whole event stream."""

    @property
    def mime(self) -> str:
        """The media type of the answer; of a recording without headers, what its body looks like."""
        stated = self.headers.get("content-type")
        if stated is not None:
            return stated
        return "text/event-stream" if self.body.startswith(("data:", "event:", ":")) else "application/json"

    @property
    def last(self) -> str:
        """The last segment of the path, which names the operation."""
        return self.path.rstrip("/").rsplit("/", 1)[-1]

    @property
    def inference(self) -> bool:
        """Whether this is a call of a model: not the counting of tokens, not the retrieval of an old answer."""
        return self.method == "POST" and self.last not in {"count_tokens", "input_tokens"}


@functools.cache
def load() -> tuple[Exchange, ...]:
    """Return all exchanges, read once per process."""
    with gzip.open(WHOLE if IS_WHOLE else SAMPLE, "rt", encoding="utf-8") as lines:
        return tuple(Exchange(**json.loads(line)) for line in lines)


def streams() -> Iterator[Exchange]:
    """Yield the streams of chat completions, messages and responses, at full scale those beside the corpus too."""
    yield from (each for each in (*load(), *beside()) if each.stream and each.endpoint in STREAMED)


@functools.cache
def beside() -> tuple[Exchange, ...]:
    """Return the exchanges beside the corpus of wires that the SDKs have; none in a sample."""
    if not (IS_WHOLE and MORE.is_file()):
        return ()
    with gzip.open(MORE, "rt", encoding="utf-8") as lines:
        return tuple(Exchange(**each) for each in map(json.loads, lines) if each["endpoint"] in (*STREAMED, *WHOLES))


def select(wanted: Callable[[Exchange], bool]) -> list[Exchange]:
    """Return the exchanges that `wanted` accepts, in the order of the corpus."""
    return [exchange for exchange in load() if wanted(exchange)]


def events(text: str) -> Iterator[ServerSentEvent]:
    """Yield the events of a stream, as the SDK reads them."""
    return SSEDecoder().iter_bytes(iter([text.encode()]))


def chunks(text: str) -> Iterator[dict[str, object]]:
    """Yield the JSON objects a provider sent, up to its `[DONE]`; pings carry nothing and are left out."""
    for event in events(text):
        if event.data.startswith("[DONE]"):
            return
        value = event.json()
        if isinstance(value, dict) and value.get("type") != "ping":
            yield value
