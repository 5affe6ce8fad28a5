"""What was created in a session of another process belongs there, wherever it is fetched: a store knows it."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest
from opentelemetry.trace import SpanKind
from tests.intercept import sdks

import callspan
from callspan.stores.urls import open_store
from callspan.testing import ScriptedProvider, capture
from callspan.wiring import WIRING


@pytest.fixture(params=["sqlite:///{}.db", "jsonl:///{}.jsonl"], ids=["sqlite", "jsonl"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(request.param).format(tmp_path / "calls")


def places(url: str) -> list[tuple[str | None, int | None, str, bool]]:
    """Session, step, content level, and whether the request is there, of each stored call."""
    with closing(open_store(url)) as reader:
        return [
            (one.place.session_id, one.place.timestep, one.content_level, bool(bytes(one.request.body)))
            for one in reader.calls()
        ]


@pytest.mark.filterwarnings("ignore:The Sora API:DeprecationWarning")
@pytest.mark.skipif(sdks.OPENAI < (3, 0), reason="needs the videos of openai 3")
@pytest.mark.parametrize("polls", [0, 1])
def test_a_job(provider: ScriptedProvider, url: str, polls: int) -> None:
    """While it is in progress too, and with its content."""
    provider.reply(polls=polls)
    with openai.OpenAI(api_key="k", base_url=provider.openai_url, max_retries=0) as client:
        with capture(stores=url):
            with callspan.session("studio", session_id="s-1"), callspan.timestep():
                job = client.videos.create(prompt="A cat.", model="sora-2")
            assert WIRING.flush(30)
        for _ in range(polls + 1):
            with capture(stores=url) as seen, callspan.session("other", session_id="s-2"):
                client.videos.retrieve(job.id)
                assert WIRING.flush(30)
    (span,) = [one for one in seen.spans if one.kind is SpanKind.CLIENT]
    assert (span.attributes or {})["session.id"] == "s-1"
    assert places(url) == [("s-1", 0, "full", True)]


def test_the_results_of_a_batch(provider: ScriptedProvider, url: str) -> None:
    provider.reply(text="Well.", polls=0)
    asked: Any = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}]}
    with anthropic.Anthropic(api_key="k", base_url=provider.anthropic_url, max_retries=0) as client:
        batches = client.messages.batches
        with capture(stores=url):
            with callspan.session("nightly", session_id="s-1"), callspan.timestep():
                batch = batches.create(requests=[{"custom_id": "a", "params": asked}])
            assert WIRING.flush(30)
        with capture(stores=url) as seen, callspan.session("other", session_id="s-2"):
            batches.retrieve(batch.id)
            assert len(list(batches.results(batch.id))) == 1
            assert WIRING.flush(30)
    (span,) = [one for one in seen.spans if one.name == "batch_results"]
    assert (span.attributes or {})["session.id"] == "s-1"
    assert places(url) == [("s-1", 0, "full", True)]
