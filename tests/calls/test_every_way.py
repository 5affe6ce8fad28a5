"""Every endpoint in every way, by three processes that are killed: each call is one record with its tokens and cost."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import openai
import pytest

from callspan import open_store
from callspan.records import CallRecord
from callspan.stores import CallFilter
from callspan.testing import ScriptedProvider
from tests.support import sdks

from .every_way import ENDPOINTS, FALLBACK, every_way

pytestmark = [
    pytest.mark.usefixtures("no_settings"),
    pytest.mark.skipif(not hasattr(openai.OpenAI, "responses"), reason="needs the Responses API"),
]
ROOT = Path(__file__).parents[2]
WAYS = list(every_way())
INPUT_USD, OUTPUT_USD = Decimal("0.000002"), Decimal("0.000008")


def tokens(way: str) -> tuple[int, int]:
    """What the answer to a call states; no two calls the same."""
    number = WAYS.index(way)
    return 1000 + number, 10 + number


def script(provider: ScriptedProvider, way: str) -> None:
    """Script the answers to one call."""
    name, form, _ = way.split()
    given, made = tokens(way)
    if form == "retried":
        provider.reply(status=429, retry_after_s=0.001)
    if form == "failed":
        provider.reply(status=400)
    elif ENDPOINTS[name].hops:
        # What a refused hop used is not of the call: its record has the usage of the answer that the caller got.
        provider.reply(finish_reason="refusal", text="No", model=way, input_tokens=7_000, output_tokens=700)
        provider.reply(text="Well.", model=FALLBACK, input_tokens=given, output_tokens=made)
    else:
        provider.reply(text="Well.", input_tokens=given, output_tokens=made, polls=4)


def expected_tokens(way: str) -> tuple[int | None, int | None]:
    name, form, _ = way.split()
    endpoint = ENDPOINTS[name]
    if form == "failed" or not endpoint.tokens:
        return None, None
    given, made = tokens(way)
    return given, made if "out" in endpoint.tokens else None


def test_each_way_is_one_record_with_its_tokens_and_cost(
    provider: ScriptedProvider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sdks.needs("anthropic", "0.125", "middleware")
    url, prices = f"sqlite:///{tmp_path}/calls.db", tmp_path / "prices.json"
    models = {key: {"input": "2", "output": "8"} for key in [*WAYS, FALLBACK]}
    prices.write_text(json.dumps({"version": "t", "models": models}))
    for number in range(3):
        ways = WAYS[number::3]
        for way in ways:
            script(provider, way)
        given = {
            "store": url, "prices": str(prices), "spool": str(tmp_path / str(number)), "jobs": str(tmp_path / "jobs"),
            "openai_url": provider.openai_url, "anthropic_url": provider.anthropic_url, "ways": ways,
            "last": number == 2,
        }  # fmt: skip
        command = [sys.executable, "-m", "tests.calls.every_way", json.dumps(given)]
        assert subprocess.run(command, cwd=ROOT, check=False).returncode == -signal.SIGKILL
        assert provider.pending == 0
    # In the opposite order, and the first process's records twice.
    shutil.copytree(tmp_path / "0", tmp_path / "again")
    monkeypatch.setenv("CALLSPAN_PRICES", str(prices))
    for name in ("2", "1", "0", "again"):
        monkeypatch.setenv("CALLSPAN_SPOOL_DIR", str(tmp_path / name))
        open_store(url, deliver=True).close()
    reader = open_store(url)
    calls = list(reader.calls(CallFilter(newest_first=False)))
    found: dict[str, CallRecord] = {str(call.request.model): call for call in calls}
    assert sorted(found) == sorted(WAYS)
    assert len(calls) == len(WAYS)
    assert {way: recorded(found[way]) for way in WAYS} == {way: expected(way) for way in WAYS}
    (sums,) = reader.summary("provider", CallFilter(provider="openai"))
    known = [call for call in calls if call.provider == "openai"]
    assert sums.cost_usd == sum((call.cost.usd for call in known if call.cost), Decimal(0))
    assert sums.input_tokens == sum(call.usage.input_tokens or 0 for call in known if call.usage)
    reader.close()


def recorded(call: CallRecord) -> dict[str, Any]:
    usage = call.usage
    return {
        "outcome": call.outcome,
        "tokens": (usage.input_tokens, usage.output_tokens) if usage else (None, None),
        "cost": call.cost.usd if call.cost else None,
        "retries": call.retries,
        "attempts": len(call.attempts),
    }


def expected(way: str) -> dict[str, Any]:
    name, form, _ = way.split()
    given, made = expected_tokens(way)
    cost = None if given is None else given * INPUT_USD + (made or 0) * OUTPUT_USD
    retries = int(form == "retried")
    # In a stream the middleware asks the next model while the application reads, outside of the call.
    hops = ENDPOINTS[name].hops and form not in ("failed", "stream")
    return {
        "outcome": "error" if form == "failed" else "success",
        "tokens": (given, made),
        "cost": cost,
        "retries": retries,
        "attempts": 1 + retries + hops,
    }
