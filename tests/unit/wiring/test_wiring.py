"""instrument(), uninstrument() and handles: replacement, and the state afterwards."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from opentelemetry.sdk.trace import TracerProvider

import callspan
from callspan.sdk_profiles import Sdk
from callspan.wiring import WIRING

NONE: tuple[Sdk, ...] = ()


class Raising(TracerProvider):
    """A provider of the application that is broken."""

    def get_tracer(self, *args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("broken")


def test_a_provider_that_raises_costs_the_spans_and_no_record(tmp_path: Path) -> None:
    stores = f"sqlite:///{tmp_path / 'calls.db'}"
    handle = callspan.instrument(sdks=NONE, tracer_provider=Raising(), stores=stores)
    with callspan.session("chat"), callspan.record_call(provider="mine") as call:
        call.response({"choices": []})
    assert handle.force_flush()
    assert [one.outcome for one in callspan.open_store(stores).calls()] == ["success"]


def test_another_provider_or_redactor_replaces_too() -> None:
    provider = TracerProvider(shutdown_on_exit=False)
    seen = []
    for given in ({}, {"tracer_provider": provider}, {"redact": lambda record: record}, {"redact": False}):
        callspan.instrument(sdks=NONE, **given)
        seen.append(WIRING.pipeline)
    assert len({id(pipeline) for pipeline in seen}) == 4
    callspan.instrument(sdks=NONE, tracer_provider=provider)
    assert WIRING.pipeline is seen[-1]


def test_uninstrument_of_a_replaced_handle_does_nothing() -> None:
    old = callspan.instrument(sdks=NONE, content="off")
    new = callspan.instrument(sdks=NONE, content="metadata")
    old.uninstrument()
    assert WIRING.pipeline is not None
    assert (old.settings.content, new.settings.content) == ("off", "metadata")
    assert old.force_flush(100)
    assert old.counters() == {}
    new.uninstrument()
    assert WIRING.pipeline is None


def test_a_pipeline_can_be_put_back() -> None:
    callspan.instrument(sdks=NONE, content="off")
    before = WIRING.pipeline
    callspan.instrument(sdks=NONE, content="full")
    WIRING.restore(before)
    assert WIRING.pipeline is before
    assert WIRING.hook_context.content == "off"
    WIRING.restore(before)
    assert WIRING.pipeline is before
    WIRING.restore(None)
    assert WIRING.pipeline is None
