"""A pytest plugin: a test with the fixture `llm` runs on the answers of models that were recorded once.

Named in `conftest.py`: `pytest_plugins = ["callspan.testing.pytest_plugin"]`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Final

import pytest

from callspan.cost import pricer_for
from callspan.records import CallRecord, decode, encode
from callspan.testing.capturing import Capture, capture
from callspan.testing.replaying import CallQueue, ReplayProvider

_OPTION: Final = "--callspan"
_ADDRESSES: Final = {
    "OPENAI_BASE_URL": "openai_url",
    "ANTHROPIC_BASE_URL": "anthropic_url",
    "GOOGLE_GEMINI_BASE_URL": "google_url",
    "AWS_ENDPOINT_URL_BEDROCK_RUNTIME": "bedrock_url",
    "OLLAMA_HOST": "ollama_url",
}
"""Variables of the SDKs, with the addresses of the provider that replays."""
_KEYS: Final = (
    *(f"{provider}_API_KEY" for provider in ("OPENAI", "ANTHROPIC", "GEMINI", "GOOGLE")),
    *("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"),
)
_LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "::1"})


class RecordedModel:
    """The calls of one test: the value of the fixture `llm`."""

    def __init__(self, seen: Capture) -> None:
        self._seen = seen

    @property
    def calls(self) -> list[CallRecord]:
        """The records of the finished calls so far, with their conversations."""
        return self._seen.records

    @property
    def cost_usd(self) -> Decimal | None:
        """The cost of these calls at the published prices, in US dollars; None if that of a call is unknown."""
        costs = [call.cost for call in map(pricer_for(None).priced, self.calls)]
        amounts = [cost.usd for cost in costs if cost is not None]
        return sum(amounts, Decimal(0)) if len(amounts) == len(costs) else None


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option `--callspan`."""
    parser.addoption(
        _OPTION,
        choices=("replay", "record", "live"),
        default="replay",
        help="with the fixture llm: answer from the cassette (default), record it anew, or only call the provider",
    )


@pytest.fixture
def llm(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[RecordedModel]:
    """The recorded calls of the test; by default they are answered by its cassette, and nothing is sent.

    The cassette lies beside the test: `cassettes/MODULE.TEST.jsonl`, a record a line.
    """
    mode, cassette = request.config.getoption(_OPTION), _cassette_of(request.node)
    if mode == "replay":
        yield from _replayed(cassette, monkeypatch)
        return
    if mode == "record" and os.environ.get("CI"):
        pytest.fail(f"{_OPTION}=record is not for CI: record the cassette on your machine and commit it")
    with capture(content="full", media="inline") as seen:
        yield RecordedModel(seen)
        calls = seen.records
    if mode == "record":
        cassette.parent.mkdir(exist_ok=True)
        cassette.write_bytes(b"".join(encode(call) + b"\n" for call in calls))


def _cassette_of(test: pytest.Item) -> Path:
    name = re.sub(r"[^\w.-]+", "_", test.nodeid.partition("::")[2].removesuffix("]"))
    return test.path.parent / "cassettes" / f"{test.path.stem}.{name}.jsonl"


def _replayed(cassette: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RecordedModel]:
    if not cassette.exists():
        pytest.fail(f"there is no {cassette}: run the test once with {_OPTION}=record")
    recorded = [call for call in map(decode, cassette.read_bytes().splitlines()) if isinstance(call, CallRecord)]
    with ReplayProvider(CallQueue(recorded, match="body")) as provider, capture(content="full", media="inline") as seen:
        for variable, address in _ADDRESSES.items():
            monkeypatch.setenv(variable, getattr(provider, address))
        for variable in _KEYS:
            monkeypatch.setenv(variable, "replayed")
        yield RecordedModel(seen)
        calls, unused = seen.records, provider.unused
    for call in calls:
        if call.server_address not in _LOOPBACK:
            pytest.fail(f"a call went to {call.server_address}: leave the address of the client to its environment")
    if unused:
        pytest.fail(f"{len(unused)} recorded calls were not made: record {cassette.name} anew")
