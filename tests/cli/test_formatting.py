"""Formatting of numbers, money and times, exact amounts, and the name of the service."""

from __future__ import annotations

import decimal
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import openai
import pytest

import callspan
from callspan import formatting
from callspan.amounts import as_number
from callspan.formatting import UNKNOWN, exact, money
from callspan.providers.openai.usage import usage_of
from callspan.service import main_name, service_of_command
from callspan.stores.aggregates import exact_sum
from callspan.stores.filters import whole_pico
from callspan.stores.payloads import picodollars
from callspan.testing import ScriptedProvider

MILLISECONDS = {
    0: "0 ms", 0.04: "0.0 ms", 9.96: "10 ms", 999.6: "1.00 s", 59_996: "1 min", 61_000: "1 min 01 s",
    93_784_000: "26 h 03 min",
}  # fmt: skip
COUNTS = {None: UNKNOWN, 0: "0", 999: "999", 1_234: "1.23k", 0.5: "0.5", 999_950: "1M", -999_950: "-1M"}
TOKENS = {(0, None): f"0→{UNKNOWN}", (0, 0): "0→0", (12345, 6): "12,345→6", (99_999, 100_000): "99,999→100k"}
TIMES_NS = {None: None, 999: "1970-01-01T00:00:00.000000Z", 1_795_161_700_498_858_123: "2026-11-20T08:01:40.498858Z"}
MONEY = {
    "0.000": "$0.00", "0.0500": "$0.05", "0.5": "$0.50", "0.1234": "$0.123", "0.000000123456": "$0.000000123",
    "0.0099996": "$0.01", "1E+2": "$100.00", "12345678.9": "$12,345,678.90", "-0.0500": "-$0.05",
}  # fmt: skip
SHOWN: list[tuple[Callable[..., object], tuple[object, ...], str | None]] = [
    # A unit that suits the size.
    *((formatting.milliseconds, (ms,), shown) for ms, shown in MILLISECONDS.items()),
    *((formatting.duration, (ms * 1e6,), shown) for ms, shown in MILLISECONDS.items()),
    *((formatting.short_count, (count,), shown) for count, shown in COUNTS.items()),
    # Zero is told from unknown.
    *((formatting.tokens, counts, shown) for counts, shown in TOKENS.items()),
    # Never rounded up.
    *((formatting.iso, (ns,), shown) for ns, shown in TIMES_NS.items()),
    # Cents, or three significant digits.
    *((formatting.money, (Decimal(usd),), shown) for usd, shown in MONEY.items()),
]


@pytest.mark.parametrize(("function", "values", "shown"), SHOWN)
def test_a_value_is_shown_with_its_unit(
    function: Callable[..., object], values: tuple[object, ...], shown: str | None
) -> None:
    assert function(*values) == shown


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


COMMANDS = {
    "./deep/app.py --its-own x.py": "app", "gunicorn app:application": "gunicorn", "pkg/__main__.py": "pkg",
    "/usr/bin/python3.11 -X dev -u app.py": "app", "python3 -m pkg.mod x": "pkg.mod", "python -c print()": None,
}  # fmt: skip


@pytest.mark.parametrize(("command", "name"), COMMANDS.items())
def test_the_service_name_from_the_command_line(command: str, name: str | None) -> None:
    assert service_of_command(command.split()) == name


@pytest.mark.parametrize(("arguments", "name"), [(["/x/app.py"], "app"), (["-c"], None), ([""], None), ([], None)])
def test_the_service_name_inside_a_process(
    arguments: list[str], name: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main_name(arguments) == name
    monkeypatch.setenv("CALLSPAN_RUN_SERVICE", "shop")
    assert main_name(arguments) == "shop"
