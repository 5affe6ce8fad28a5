"""The setting `prices`: a wrong file is an error at `instrument()`, a right one prices every call."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path

import openai
import pytest

import callspan
from callspan import SettingError
from callspan.testing import ScriptedProvider


@pytest.mark.parametrize("content", ["{", '{"models": {"m": {"input": "-1"}}}'])
def test_a_price_file_that_is_wrong_is_an_error_at_once(tmp_path: Path, content: str) -> None:
    path = tmp_path / "prices.json"
    path.write_text(content)
    with pytest.raises(SettingError, match=r"prices\.json"):
        callspan.instrument(prices=path)


def test_calls_in_the_store_are_priced_by_the_file_of_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "prices.json"
    path.write_text(json.dumps({"version": "mine", "models": {"house-model": {"input": 1, "output": "2.5"}}}))
    monkeypatch.setenv("CALLSPAN_PRICES", str(path))
    url = f"sqlite:///{tmp_path}/calls.db"
    handle = callspan.instrument(stores=url, spool_dir=tmp_path / "spool")
    with ScriptedProvider() as provider:
        provider.reply(input_tokens=3, output_tokens=1)
        with openai.OpenAI(base_url=provider.openai_url, api_key="any") as client:
            client.responses.create(model="house-model", input="?")
    assert handle.force_flush(20_000)
    handle.uninstrument()
    store = callspan.open_store(url)
    (call,) = store.calls()
    store.close()
    assert call.cost is not None
    assert (call.cost.usd, call.cost.source) == (Decimal("0.0000055"), "mine")
