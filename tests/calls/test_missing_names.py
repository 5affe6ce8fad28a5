"""Missing names of the SDKs: calls work, available data is recorded, and one warning names them."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from callspan.intercept.patching import HOOKS
from tests.support.processes import ran

pytestmark = [pytest.mark.timeout(600)]

VICTIM = Path(__file__).with_name("ladder_victim.py")
PRIVATE = [hook for hook in HOOKS if not hook.late]
EVERY = sorted({hook.attribute for hook in PRIVATE})
ROWS = sorted({f"{where.partition(':')[2]}.{hook.attribute}" for hook in PRIVATE for where in hook.where})
CHANGEABLE = sorted({hook.attribute for hook in PRIVATE if hook.reads})
CALLS = {"plain", "stream", "early", "raw", "streaming", "claude", "async plain", "async stream"}


@cache
def without(*names: str) -> dict[str, Any]:
    done = ran("-W", "error", str(VICTIM), *names, cwd=VICTIM.parent, timeout_s=280)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def test_with_all_private_names_present_everything_is_recorded() -> None:
    """The ground the other tests stand on."""
    result = without()
    assert result["states"] == {}
    assert all("of" in detail and "hooks can be set" in detail for detail in result["doctor"].values())
    assert set(result["calls"]) == CALLS
    assert result["calls"]["plain"] == {
        "text": "Well.", "outcome": "success", "end": None, "attempts": [429, 200], "retries": 1, "request": True,
    }  # fmt: skip
    assert result["calls"]["early"]["end"] == "closed"


@pytest.mark.parametrize("name", ROWS)
def test_a_missing_name_is_reported_once_and_by_doctor_and_no_call_fails(name: str) -> None:
    owner, _, attribute = name.partition(".")
    gone = f"{owner}_gone.{attribute}"
    # The same process serves the tests below, where no other row has this attribute.
    result = without(attribute if [row.endswith(f".{attribute}") for row in ROWS].count(True) == 1 else name)
    assert set(result["states"].values()) == {"missing"}
    assert all(missing.endswith(gone) for missing in result["states"])
    complaints = [warning for warning in result["warnings"] if "lacks names" in warning]
    assert 1 <= len(complaints) <= 2, "once for each SDK"
    assert all(f"{gone} " in complaint for complaint in complaints)
    assert result["warnings"] == complaints, "nothing else went wrong"
    assert result["states"].keys() <= result["doctor"].keys()
    assert all(result["doctor"][missing].startswith("missing: not recorded") for missing in result["states"])


@pytest.mark.parametrize("name", CHANGEABLE)
def test_a_function_with_changed_parameters_is_hooked_and_reported(name: str) -> None:
    result = without(f"~{name}")
    assert set(result["states"].values()) == {"changed"}
    assert {changed.rpartition(".")[2] for changed in result["states"]} == {name}
    assert all(result["doctor"][changed].startswith("changed: hooked; may be lost") for changed in result["states"])
    assert result["calls"] == without()["calls"]
    complaints = [warning for warning in result["warnings"] if "changed functions" in warning]
    assert result["warnings"] == complaints
    assert 1 <= len(complaints) <= 2, "once for each SDK"


@pytest.mark.parametrize("name", [name for name in EVERY if name != "request"])
def test_every_call_is_still_recorded_with_its_text_if_available(name: str) -> None:
    result = without(name)
    assert set(result["calls"]) == CALLS
    assert result["spans"] == len(CALLS)
    texts = {model: call["text"] for model, call in result["calls"].items() if call["text"] != "Well."}
    lost = {"early"}
    if name == "iter_bytes":
        lost.add("streaming")
    if name == "_process_response_data":
        lost |= {"stream", "claude", "async stream"}
    assert set(texts) <= lost, f"without {name}"


@pytest.mark.parametrize("name", ["_process_response", "__stream__"])
def test_streams_are_recorded_whole(name: str) -> None:
    calls = without(name)["calls"]
    for model in ("stream", "claude", "async stream"):
        assert (calls[model]["text"], calls[model]["outcome"]) == ("Well.", "success")
    assert calls["early"]["end"] == "closed"


def test_without_seeing_attempts_the_sdks_count_of_retries_is_kept() -> None:
    call = without("send")["calls"]["plain"]
    assert call["attempts"] == []
    assert call["retries"] == 1


def test_without_the_built_request_the_sent_one_shows_the_body() -> None:
    assert all(call["request"] for call in without("_build_request")["calls"].values())


def test_without_the_request_method_nothing_is_recorded_and_that_is_reported() -> None:
    result = without("request")
    assert result["calls"] == {}
    assert any("all sync calls" in warning for warning in result["warnings"])


def test_without_any_name_calls_still_work() -> None:
    assert without(*EVERY)["calls"] == {}
