"""Money does not depend on the decimal context of the application, nor does an absurd amount fill the memory."""

from __future__ import annotations

import decimal
from decimal import Decimal
from pathlib import Path

import openai
import pytest

import callspan
from callspan.amounts import as_number
from callspan.formatting import exact, money
from callspan.providers.openai.usage import usage_of
from callspan.stores.aggregates import exact_sum
from callspan.stores.filters import whole_pico
from callspan.stores.payloads import picodollars
from callspan.testing import ScriptedProvider

_ABSURD = ("1E+99999999999", "1E-99999999999", "0E-99999999999", "1E+999999", "1E-999999")


def test_the_precision_of_an_application_rounds_no_cost(provider: ScriptedProvider, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/c.db"
    found = []
    for precision in (28, 5):
        handle = callspan.instrument(stores=url)
        provider.reply(text="x", input_tokens=1_234_567, output_tokens=333_333)
        with openai.OpenAI(base_url=provider.openai_url, api_key="any") as client, decimal.localcontext() as context:
            context.prec = precision
            context.traps[decimal.Inexact] = precision == 5
            client.chat.completions.create(model="gpt-5", messages=[{"role": "user", "content": "Hi"}])
            assert handle.force_flush()
            found.append(next(one.cost_usd for one in callspan.open_store(url).summary("model")))
        handle.uninstrument()
    assert found[0] is not None
    assert len(found[0].as_tuple().digits) > 5
    assert found[1] == 2 * found[0]


@pytest.mark.parametrize("usd", _ABSURD)
def test_an_absurd_amount_is_unknown(usd: str) -> None:
    usage = usage_of({"usage": {"prompt_tokens": 1, "completion_tokens": 1, "cost": usd}})
    assert usage is not None
    assert usage.cost_usd is None
    amount = Decimal(usd)
    assert (picodollars(amount), exact_sum([amount]), exact(amount), money(amount)) == (None, None, None, money(None))
    assert as_number(amount) is None
    assert whole_pico(amount) in {0, 9 * 10**18}


def test_digits_beyond_the_usual_precision_count() -> None:
    assert picodollars(Decimal("1.00000000000000000000000000000001")) is None
    assert whole_pico(Decimal("-1E+999999")) == -9 * 10**18
