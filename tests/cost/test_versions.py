"""A call with several versions is priced by what all of them state."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import closing
from decimal import Decimal
from itertools import permutations
from pathlib import Path
from typing import Any, Final

import openai
import pytest
from msgspec.structs import replace
from tests.support import sdks
from tests.support.commands import ask
from tests.support.left_behind import StoreSink

from callspan import open_store
from callspan.records import CallRecord, Cost, encode
from callspan.stores import find_store
from callspan.testing import ScriptedProvider, capture

pytestmark = pytest.mark.skipif(sdks.OPENAI < (1, 79), reason="openai has background responses since 1.79")
pytest.importorskip("genai_prices", reason="needs published prices: pip install 'callspan[cost]'")
WINDOW: Final = {"background_options": {"completion_window": "8h"}}
UNKNOWN: Final = "the parameters of the request are unknown"
NO_PRICE: Final = "no price for completion_window=8h"


def versions(
    provider: ScriptedProvider, client: openai.OpenAI, extra: dict[str, Any], **settings: Any
) -> list[CallRecord]:
    """Return the request and the answer of a background response, as two processes may write them."""
    provider.reply(polls=1, input_tokens=1000, output_tokens=1000)
    with capture(**settings) as seen:
        job = client.responses.create(model="gpt-4.1", input="Hi", background=True, extra_body=extra)
        client.responses.retrieve(job.id)
        client.responses.retrieve(job.id)
    written = [one for one in seen.everything if isinstance(one, CallRecord) and one.part != "started"]
    # At OpenAI's own host.
    return [replace(one, server_address="api.openai.com", server_port=443) for one in written]


def stored(url: str, batches: Sequence[Sequence[CallRecord]], prices: Path | None = None) -> Cost | None:
    """Return the cost of a call after each batch of its versions was delivered."""
    sink = StoreSink(find_store(url), prices)
    sink.open()
    for batch in batches:
        sink.deliver([encode(one) for one in batch])
    sink.close()
    with closing(open_store(url)) as reader:
        (call,) = reader.calls()
    return call.cost


def orders(two: Sequence[CallRecord]) -> list[list[list[CallRecord]]]:
    """Return the versions in any order, at once, one after the other, and with repetitions."""
    once = [list(one) for one in permutations(two)]
    return [[[*one]] for one in once] + [[[part] for part in one] for one in once] + [[[part] for part in (*two, *two)]]


@pytest.mark.parametrize("content", ["full", "off"])
@pytest.mark.parametrize(
    ("extra", "reason"),
    [({}, None), (WINDOW, NO_PRICE), ({"prompt_cache_key": "k"}, None)],
    ids=["plain", "window", "key"],
)
def test_answer_cost_uses_request_parameters(
    tmp_path: Path,
    provider: ScriptedProvider,
    client: openai.OpenAI,
    extra: dict[str, Any],
    reason: str | None,
    content: str,
) -> None:
    two = versions(provider, client, extra, content=content)
    assert [one.part for one in two] == ["requested", "answered"]
    for number, batches in enumerate(orders(two)):
        cost = stored(f"sqlite:///{tmp_path}/{number}.db", batches)
        assert cost == Cost(usd=Decimal("0.01"), source=cost.source, estimated=reason is not None, reason=reason)


def test_answer_without_request_is_an_estimate(
    tmp_path: Path, provider: ScriptedProvider, client: openai.OpenAI
) -> None:
    """Another process has sent the request, and may have asked for a discount."""
    _, answer = versions(provider, client, {})
    for url in (f"sqlite:///{tmp_path}/c.db",):
        cost = stored(url, [[answer]])
        assert (cost.usd, cost.reason) == (Decimal("0.01"), UNKNOWN)


def test_own_prices_apply_to_the_merged_call(tmp_path: Path, provider: ScriptedProvider, client: openai.OpenAI) -> None:
    """The discount is that of the file, and a cost that `reprice` computed stays."""
    own = {"input": 10, "output": 10, "tiers": {"completion_window=8h": {"input": 5, "output": 5}}}
    (tmp_path / "own.json").write_text(json.dumps({"version": "own", "models": {"gpt-4.1*": own}}))
    two = versions(provider, client, WINDOW)
    for number, batches in enumerate(orders(two)):
        cost = stored(f"sqlite:///{tmp_path}/{number}.db", batches, tmp_path / "own.json")
        assert cost == Cost(usd=Decimal("0.01"), source="own")
    url = f"sqlite:///{tmp_path}/repriced.db"
    stored(url, [two])
    ask("--store", url, "reprice", "--all", "--prices", str(tmp_path / "own.json"))
    for again in orders(two):
        assert stored(url, again) == Cost(usd=Decimal("0.01"), source="own")


def test_stated_cost_applies_to_the_merged_call(
    tmp_path: Path, provider: ScriptedProvider, client: openai.OpenAI
) -> None:
    asked, answer = versions(provider, client, WINDOW)
    stating = replace(answer, usage=replace(answer.usage, cost_usd=Decimal("0.3")))
    for number, batches in enumerate(orders([asked, stating])):
        assert stored(f"sqlite:///{tmp_path}/{number}.db", batches) == Cost(usd=Decimal("0.3"), source="provider")
