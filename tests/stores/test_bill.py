"""The bill beside the records: every loss has its cause and number, and nothing else has one.

The bill here is what a provider would state: it counts each request that its model served, by the hour of its end.
"""

from __future__ import annotations

import json
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest
from tests.support.commands import Answer, ask
from tests.support.scale import scaled

from callspan.records import Attempt, CallRecord, Cost, Record, Request, Response, Stream, Timing, Usage

from .conftest import SECOND, Deliver, Records

_HOUR: Final = 3600 * SECOND
_START: Final = 1_761_955_200 * SECOND
"""2025-11-01T00:00:00Z; New York leaves summer time on the next day."""
_MODELS: Final = ("gpt-5", "gpt-5-mini", "gpt-4.1")
_PRICE: Final = Decimal("0.000001")


class _Served(NamedTuple):
    """What the provider bills for one request."""

    at_ns: int
    model: str
    tokens: int
    is_batch: bool = False


class _Provider:
    """Serves requests, and states them in its reports."""

    def __init__(self, seed: int = 0) -> None:
        self.random = random.Random(seed)
        self.served: list[_Served] = []

    def serve(self, at_ns: int, model: str, *, is_batch: bool = False) -> int:
        """Serve a request; return its number of tokens, of input as of output."""
        tokens = self.random.randrange(50, 500)
        self.served.append(_Served(at_ns, model, tokens, is_batch))
        return tokens

    def usage(self, *, length_s: int = 3600, offset_s: int = 0) -> dict[str, Any]:
        """OpenAI's usage report. Its bounds are `offset_s` off the hour."""
        sums: dict[int, Counter[tuple[str, bool, str]]] = defaultdict(Counter)
        for one in self.served:
            bucket = (one.at_ns // SECOND - offset_s) // length_s * length_s + offset_s
            for name, amount in (
                ("num_model_requests", 1),
                ("input_tokens", one.tokens),
                ("output_tokens", one.tokens),
            ):
                sums[bucket][f"{one.model}-2025-08-07", one.is_batch, name] += amount
        return {"data": [
            {"start_time": start, "end_time": start + length_s, "results": [
                {"model": model, "batch": is_batch, **{name: counts[model, is_batch, name] for name in _NAMES}}
                for model, is_batch in sorted({key[:2] for key in counts})
            ]}
            for start, counts in sorted(sums.items())
        ]}  # fmt: skip

    def costs(self) -> dict[str, Any]:
        """OpenAI's costs by the day."""
        days: dict[int, Decimal] = defaultdict(Decimal)
        for one in self.served:
            days[one.at_ns // SECOND // 86_400 * 86_400] += one.tokens * _PRICE
        return {"data": [
            {"start_time": start, "end_time": start + 86_400, "results": [
                {"amount": {"value": float(usd), "currency": "usd"}},
            ]}
            for start, usd in sorted(days.items())
        ]}  # fmt: skip


_NAMES: Final = ("num_model_requests", "input_tokens", "output_tokens")


def _usage(tokens: int) -> dict[str, Any]:
    return {"usage": Usage(input_tokens=tokens, output_tokens=tokens), "cost": Cost(usd=tokens * _PRICE, source="t")}


def _answer(model: str) -> Response:
    return Response(model=f"{model}-2025-08-07", finish_reasons=["stop"])


_LOST: Final = Attempt(number=1, start_ns=0, error_type="ReadTimeout", may_be_billed=True)
_REFUSED: Final = Attempt(number=1, start_ns=0, status=429)
_UNSENT: Final = Attempt(number=1, start_ns=0, error_type="ConnectError")
_LAST: Final = Attempt(number=2, start_ns=1, status=200)
_CUT: Final = Attempt(number=1, start_ns=0, status=200, may_be_billed=True)


def _ending(kind: str, provider: _Provider, model: str, end_ns: int) -> dict[str, Any]:
    """The fields of a call with such an ending; the provider has served what it bills of it."""
    served = 0 if kind in ("refused", "cached", "connect") else provider.serve(end_ns, model)
    nothing: dict[str, Any] = {"usage": None, "cost": None, "response": None}
    answered: dict[str, Any] = {"response": _answer(model), "attempts": [_LAST], "outcome": "success"}
    if kind == "retried":
        return answered | _usage(provider.serve(end_ns, model)) | {"attempts": [_LOST, _LAST]}
    endings: Mapping[str, dict[str, Any]] = {
        "answered": answered | _usage(served),
        "refused": nothing | {"outcome": "error", "attempts": [_REFUSED]},
        "connect": nothing | {"outcome": "error", "attempts": [_UNSENT]},
        "cached": nothing | answered | {"response": Response(model=model, cached="http")},
        "timed_out": nothing | {"outcome": "timeout", "attempts": [_LOST]},
        "unanswered": nothing | {"outcome": "error", "attempts": [_LOST]},
        "cut_off": nothing | answered | {"attempts": [_CUT], "outcome": "cancelled", "stream": Stream(end="closed")},
        "stream_without_usage": nothing | answered | {
            "request": Request(model=model, stream=True), "stream": Stream(end="complete")
        },
        "without_usage": nothing | answered,
        "unfetched": nothing | answered | {"part": "requested", "outcome": "in_progress"},
    }  # fmt: skip
    return endings[kind]


_NOT_LOST: Final = ("answered", "refused", "cached", "connect")
_KINDS: Final = (
    *("timed_out", "unanswered", "cut_off", "stream_without_usage", "without_usage", "unfetched", "retried"),
    *_NOT_LOST, *(["answered"] * 20),
)  # fmt: skip


def _call(records: Records, kind: str, provider: _Provider, model: str, end_ns: int, **fields: Any) -> CallRecord:
    given: dict[str, Any] = {
        "request": Request(model=model),
        "timing": Timing(start_ns=end_ns - SECOND, duration_ns=SECOND),
        **_ending(kind, provider, model, end_ns),
    }
    return records.call(**(given | fields))


def _saved(path: Path, report: object) -> str:
    path.write_text(json.dumps(report))
    return str(path)


@pytest.fixture
def reconcile(url: str, deliver: Deliver, tmp_path: Path) -> Callable[..., Answer]:
    """Deliver records to the store, and compare them with reports."""

    def compared(records: Iterable[Record], *reports: object, options: Iterable[str] = ()) -> Answer:
        deliver(url).write(*records)
        files = [_saved(tmp_path / f"report-{number}.json", report) for number, report in enumerate(reports)]
        return ask("--store", url, "reconcile", "--json", *options, *files)

    return compared


def _amounts(lines: Iterable[Mapping[str, Any]]) -> dict[tuple[str, str], Counter[str]]:
    """Causes and requests left, by hour and model."""
    return {
        (line["start"], line["model"]): +(
            Counter(line["causes"]) + Counter({"foreign": int(line["left"].get("requests", 0))})
        )
        for line in lines
    }  # fmt: skip


@pytest.mark.parametrize("seed", range(3))
def test_every_loss_is_named_with_its_number(seed: int, reconcile: Callable[..., Answer]) -> None:
    """Of calls with every ending each loss is named once in its hour, strangers are left, and nothing else is named."""
    provider, records, made = _Provider(seed), Records(), list[Record]()
    injected: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for _ in range(scaled(2_000, 20_000)):
        hour, model = provider.random.randrange(48), provider.random.choice(_MODELS)
        end_ns = _START + hour * _HOUR + provider.random.randrange(2, 3600) * SECOND
        key = f"2025-11-{1 + hour // 24:02}T{hour % 24:02}:00:00.000000Z", f"{model}-2025-08-07"
        if provider.random.random() < 0.01:
            provider.serve(end_ns, model)
            injected[key]["foreign"] += 1
            continue
        kind = provider.random.choice(_KINDS)
        made.append(_call(records, kind, provider, model, end_ns))
        injected[key].update([kind] if kind not in _NOT_LOST else [])
    answer = reconcile(made, provider.usage())
    named = {key: causes for key, causes in _amounts(answer.json["lines"]).items() if causes}
    assert named == {key: causes for key, causes in injected.items() if causes}
    assert answer.code == 1, answer.err


@pytest.mark.parametrize(("length_s", "offset_s"), [(3600, 0), (86_400, 0), (86_400, 4 * 3600), (3600, 1800)])
def test_equal_sums_have_no_cause(length_s: int, offset_s: int, reconcile: Callable[..., Answer]) -> None:
    """31 days over a change of zone, in buckets of any bounds and by UTC days: nothing is left, and nothing named."""
    provider, records = _Provider(), Records()
    times = [_START + day * 24 * _HOUR + hour * _HOUR + 5 * SECOND for day in range(31) for hour in (0, 3, 4, 5, 23)]
    made = [_call(records, "answered", provider, "gpt-5", end_ns) for end_ns in times]
    usage = provider.usage(length_s=length_s, offset_s=offset_s)
    for options in ((), ("--by", "day")):
        answer = reconcile(made, usage, provider.costs(), options=options)
        assert answer.code == 0, answer.out
        assert all(not line["causes"] and not line["notes"] and not line["left"] for line in answer.json["lines"])


def test_what_was_not_billed_is_no_cause(reconcile: Callable[..., Answer]) -> None:
    """Requests that may have been billed, and were not: where nothing lacks they explain nothing."""
    provider, records = _Provider(), Records()
    tokens = provider.serve(_START + 5 * SECOND, "gpt-5")
    fields = _ending("retried", _Provider(), "gpt-5", 0) | _usage(tokens)
    made = [
        _call(records, "answered", provider, "gpt-5", _START + 9 * SECOND),
        records.call(model="gpt-5", timing=Timing(start_ns=_START + 4 * SECOND, duration_ns=SECOND), **fields),
        _call(records, "timed_out", _Provider(), "gpt-5", _START + 7 * SECOND),
    ]
    answer = reconcile(made, provider.usage(), provider.costs())
    assert [(line["causes"], line["left"]) for line in answer.json["lines"]] == [({}, {}), ({}, {})]
    assert answer.code == 0


def test_a_report_given_twice_counts_once_and_a_revised_one_replaces(reconcile: Callable[..., Answer]) -> None:
    """Of two files with the same row the last one counts."""
    provider, records = _Provider(), Records()
    made = [_call(records, "answered", provider, "gpt-5", _START + 5 * SECOND) for _ in range(4)]
    usage = provider.usage()
    early = json.loads(json.dumps(usage))
    early["data"][0]["results"][0]["num_model_requests"] = 2
    assert reconcile(made, usage, usage).code == 0
    assert reconcile(made, early, usage).json["left"]["requests"] == "0"
    late = reconcile(made, early).json["lines"]
    assert [line["notes"] for line in late] == [["more_recorded"]]


def test_a_call_across_the_border_is_named_in_both_hours(reconcile: Callable[..., Answer]) -> None:
    """A provider that counts a request where it began has it an hour earlier than the record."""
    provider, records = _Provider(), Records()
    border = _START + _HOUR
    tokens = provider.serve(border - SECOND, "gpt-5")
    timing = Timing(start_ns=border - SECOND, duration_ns=2 * SECOND)
    crossing = records.call(model="gpt-5", timing=timing, response=_answer("gpt-5"), **_usage(tokens))
    made = [crossing, *(_call(records, "answered", provider, "gpt-5", border + at * SECOND) for at in (-9, 9))]
    answer = reconcile(made, provider.usage())
    assert [line["causes"] for line in answer.json["lines"]] == [{"across_border": 1}, {"across_border": 1}]
    assert answer.code == 0


def test_more_recorded_is_not_set_off(reconcile: Callable[..., Answer]) -> None:
    """An hour with less billed than recorded leaves a stranger's request of another hour as it is."""
    provider, records = _Provider(), Records()
    made = [_call(records, "answered", provider, "gpt-5", _START + at * _HOUR + 5 * SECOND) for at in range(3)]
    usage = provider.usage()
    usage["data"][0]["results"][0]["num_model_requests"] = 2
    usage["data"][1]["results"][0]["num_model_requests"] = 0
    answer = reconcile(made, usage)
    assert [line["notes"] for line in answer.json["lines"]] == [[], ["more_recorded"], []]
    assert (answer.json["left"]["requests"], answer.code) == ("1", 1)
    assert reconcile([], usage, options=("--tolerance", "50%")).code == 0


def test_batches_prices_and_models_that_no_report_has(reconcile: Callable[..., Answer]) -> None:
    """Results of batches that nobody read have their number; equal tokens at another price are said, as is a model."""
    provider, records = _Provider(), Records()
    made = [_call(records, "answered", provider, "gpt-5", _START + 5 * SECOND)]
    tokens = provider.served[0].tokens
    activity = {"date": "2025-11-01", "model": "openai/gpt-5", "model_permaslug": "openai/gpt-5-2025-08-07"}
    amounts = {"requests": 1, "prompt_tokens": tokens, "completion_tokens": tokens, "usage": 1}
    for _ in range(3):
        provider.serve(_START + 6 * SECOND, "gpt-5", is_batch=True)
    made += [
        _call(records, "answered", _Provider(), "gpt-4.1", _START + 7 * SECOND),
        records.call(
            provider="openrouter", request=Request(model="openai/gpt-5"), response=Response(model="openai/gpt-5"),
            timing=Timing(start_ns=_START, duration_ns=SECOND), **_usage(tokens),
        ),
    ]  # fmt: skip
    lines = reconcile(made, provider.usage(), {"data": [activity | amounts]}).json["lines"]
    told = {(line["provider"], line["model"]): (line["causes"], line["notes"]) for line in lines}
    assert told == {
        ("openai", "gpt-5-2025-08-07"): ({"unread_batch": 3}, []),
        ("openai", "gpt-4.1-2025-08-07"): ({}, ["not_reported"]),
        ("openrouter", "openai/gpt-5"): ({}, ["other_prices"]),
    }


def test_two_stores_of_a_fleet_are_one_side(sqlite_url: str, tmp_path: Path, deliver: Deliver) -> None:
    """The calls of several stores were billed together."""
    provider, records = _Provider(), Records()
    other = f"sqlite:///{tmp_path}/other.db"
    for url in (sqlite_url, other):
        deliver(url).write(_call(records, "answered", provider, "gpt-5", _START + 5 * SECOND))
    file = _saved(tmp_path / "usage.json", provider.usage())
    assert ask("--store", sqlite_url, "reconcile", file).code == 1
    both = ask("--store", sqlite_url, "reconcile", "--also", other, file)
    assert (both.code, both.out.splitlines()[-1]) == (0, "Everything that was billed is recorded or has a cause.")


def test_the_terminal_says_what_lacks(sqlite_url: str, tmp_path: Path, deliver: Deliver) -> None:
    """A line has both sums, and below it the causes and what is left."""
    provider, records = _Provider(), Records()
    deliver(sqlite_url).write(
        *(_call(records, kind, provider, "gpt-5", _START + 5 * SECOND) for kind in ("answered", "retried"))
    )
    provider.serve(_START + 9 * SECOND, "gpt-5")
    out = ask("--store", sqlite_url, "reconcile", _saved(tmp_path / "usage.json", provider.usage())).out
    assert out.startswith("11-01 00:00  openai  gpt-5-2025-08-07   requests 2 of 4   input ")
    assert "1 \N{MULTIPLICATION SIGN} no answer came before a retry" in out
    assert "1 request, input " in out
    assert "that no record has" in out


@pytest.mark.parametrize("content", ["", "<html>", '{"data": []}', '{"data": [{"sta'])
def test_what_is_no_report_is_wrong_usage(content: str, sqlite_url: str, tmp_path: Path, deliver: Deliver) -> None:
    """One sentence, and exit code 2."""
    deliver(sqlite_url).write(Records().call())
    file = tmp_path / "usage.json"
    file.write_text(content)
    answer = ask("--store", sqlite_url, "reconcile", str(file))
    assert (answer.code, answer.err.splitlines()[-1].startswith("Error: usage.json ")) == (2, True)
