"""instrument(), uninstrument() and handles: replacement, and the state afterwards."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider

import callspan
from callspan import Settings
from callspan.agent import runtime
from callspan.sdk_profiles import Sdk
from callspan.wiring import WIRING, Wiring
from callspan.wiring.pipeline import Providers

from .conftest import made, stored

NONE: tuple[Sdk, ...] = ()


def test_nothing_is_in_use_before_and_after() -> None:
    assert WIRING.pipeline is None
    handle = callspan.instrument(sdks=NONE)
    assert WIRING.pipeline is not None
    handle.uninstrument()
    assert WIRING.pipeline is None
    assert callspan.patch_status() == []


def test_undoing_twice_or_nothing_does_nothing() -> None:
    callspan.uninstrument()
    handle = callspan.instrument(sdks=NONE)
    handle.uninstrument()
    handle.uninstrument()
    callspan.uninstrument()
    assert WIRING.pipeline is None


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


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ({}, {}, True),
        ({"content": "full"}, {}, True),
        ({"content": "FULL"}, {"content": "full"}, True),
        ({}, {"content": None}, True),
        ({"vocabularies": ["llm"]}, {"vocabularies": ("llm",)}, True),
        ({"max_span_bytes": "1k"}, {"max_span_bytes": 1024}, True),
        ({"content": "off"}, {"content": "full"}, False),
        ({"vocabularies": ["gen_ai", "llm"]}, {"vocabularies": ["llm", "gen_ai"]}, False),
        ({}, {"stores": "jsonl:///never.jsonl"}, False),
        ({}, {"enabled": False}, False),
        ({}, {"service": "s"}, False),
    ],
)
def test_the_same_settings_change_nothing_and_others_replace(
    first: dict[str, Any], second: dict[str, Any], same: bool
) -> None:
    callspan.instrument(sdks=NONE, **first)
    before = WIRING.pipeline
    callspan.instrument(sdks=NONE, **second)
    assert (WIRING.pipeline is before) == same


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


def test_uninstrument_of_a_handle_with_the_same_settings_works() -> None:
    callspan.instrument(sdks=NONE)
    callspan.instrument(sdks=NONE).uninstrument()
    assert WIRING.pipeline is None


def test_disabled_callspan_installs_no_hooks_and_no_runtime(store: str) -> None:
    callspan.instrument(enabled=False, stores=store)
    assert callspan.patch_status() == []
    assert WIRING.hook_context.factory() is None
    with callspan.session("run"):
        pass
    assert not Path(store.removeprefix("sqlite:///")).exists()


def test_switched_off_by_opentelemetrys_own_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    assert callspan.instrument().settings.enabled is False
    assert WIRING.hook_context.factory() is None


def test_one_sdk_is_patched_without_the_other_and_both_together() -> None:
    import anthropic
    import openai

    def patched() -> set[str]:
        return {status.sdk for status in callspan.patch_status()}

    originals = [vars(sdk._base_client.SyncAPIClient)["request"] for sdk in (openai, anthropic)]
    callspan.instrument(sdks=("openai",))
    assert patched() == {"openai"}
    assert vars(anthropic._base_client.SyncAPIClient)["request"] is originals[1]
    callspan.instrument()
    assert patched() == {"openai"}, "without arguments nothing changes"
    callspan.instrument(sdks="anthropic")
    assert patched() == {"openai", "anthropic"}
    assert {status.state for status in callspan.patch_status()} == {"on"}
    callspan.uninstrument()
    assert [vars(sdk._base_client.SyncAPIClient)["request"] for sdk in (openai, anthropic)] == originals


def test_sdk_by_sdk_the_last_one_takes_the_pipeline_along() -> None:
    callspan.instrument(content="off", sdks="openai")
    first = WIRING.pipeline
    handle = callspan.instrument(sdks="anthropic")
    assert WIRING.pipeline is first
    assert handle.settings.content == "off"
    WIRING.remove_sdk("openai")
    assert WIRING.pipeline is first
    WIRING.remove_sdk("anthropic")
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


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, ("full", False, False)),
        ({"content": "off", "propagate": True}, ("off", True, False)),
        ({"stream_usage": True}, ("full", False, True)),
    ],
)
def test_the_hook_context_follows_the_settings(settings: dict[str, Any], expected: tuple[object, ...]) -> None:
    callspan.instrument(sdks=NONE, **settings)
    hook_context = WIRING.hook_context
    assert (hook_context.content, hook_context.propagate, hook_context.stream_usage) == expected
    assert hook_context.factory() is not None


@pytest.mark.parametrize(
    ("content", "levels"), [("full", {"full", "metadata", "off"}), ("metadata", {"metadata", "off"}), ("off", {"off"})]
)
def test_there_is_a_call_factory_for_each_stricter_content(content: Any, levels: set[str]) -> None:
    callspan.instrument(sdks=NONE, content=content)
    assert set(WIRING.hook_context.factories) == levels


def test_a_handle_counts_and_flushes_its_own_records(store: str) -> None:
    handle = callspan.instrument(sdks=NONE, stores=store)
    assert handle.counters() == {}
    WIRING.write(made("a"))
    WIRING.write(made("b"))
    assert handle.force_flush(60_000)
    assert handle.counters()["appended"] == 2
    assert stored(store) == {"a", "b"}


def test_uninstrument_delivers_written_records(store: str) -> None:
    callspan.instrument(sdks=NONE, stores=store)
    WIRING.write(made("a"))
    callspan.uninstrument()
    assert stored(store) == {"a"}


def test_replacing_delivers_what_was_written_to_the_old_store(store: str, other: str) -> None:
    callspan.instrument(sdks=NONE, stores=store)
    WIRING.write(made("a"))
    callspan.instrument(sdks=NONE, stores=other)
    assert stored(store) == {"a"}
    WIRING.write(made("b"))
    callspan.uninstrument()
    assert (stored(store), stored(other)) == ({"a"}, {"b"})


def test_stores_of_an_exporter_are_added_to_the_others(store: str, other: str) -> None:
    wiring = Wiring()
    handle = wiring.install(Settings(stores=(store,)), Providers(), NONE)
    try:
        wiring.write(made("early"))
        assert wiring.add_stores(other, "unused.db") == (other,)
        wiring.write(made("late"))
        assert handle.force_flush(60_000)
        assert (stored(store), stored(other)) == ({"early", "late"}, {"late"})
    finally:
        handle.uninstrument()


@pytest.mark.parametrize(
    ("urls", "environment", "expected"),
    [
        (None, None, ("sqlite:///default.db",)),
        (None, "jsonl:///env.jsonl", ("jsonl:///env.jsonl",)),
        (None, "  ", ("sqlite:///default.db",)),
        ("a.db, b.jsonl", "jsonl:///env.jsonl", ("a.db", "b.jsonl")),
        (["a.db", "b.jsonl"], None, ("a.db", "b.jsonl")),
        ("", None, ("sqlite:///default.db",)),
        ([], None, ("sqlite:///default.db",)),
    ],
)
def test_the_stores_of_an_exporter_have_a_default(
    urls: Any, environment: str | None, expected: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    if environment is not None:
        monkeypatch.setenv("CALLSPAN_STORES", environment)
    assert Wiring().add_stores(urls, "sqlite:///default.db") == expected


def test_an_exporter_alone_keeps_records_and_later_pipelines_get_its_stores(store: str, other: str) -> None:
    wiring = Wiring()
    wiring.add_stores(store, "unused.db")
    wiring.write(made("alone"))
    assert wiring.flush(10)
    assert stored(store) == {"alone"}
    handle = wiring.install(Settings(stores=(other,)), Providers(), NONE)
    wiring.write(made("together"))
    handle.uninstrument()
    assert (stored(store), stored(other)) == ({"alone", "together"}, {"together"})


def test_flushing_without_records_returns_true() -> None:
    assert Wiring().flush(0.0)


def test_the_runtime_of_sessions_comes_and_goes_with_the_pipeline() -> None:
    handle = callspan.instrument(sdks=NONE)
    assert WIRING.pipeline is not None
    assert runtime.installed() is WIRING.pipeline.runtime
    handle.uninstrument()
    assert runtime.installed() is None


def test_an_exporter_that_comes_after_the_first_record_gets_the_next_ones(store: str, other: str) -> None:
    wiring = Wiring()
    wiring.add_stores(store, "unused.db")
    wiring.write(made("a"))
    wiring.add_stores(other, "unused.db")
    wiring.write(made("b"))
    assert wiring.flush(10.0)
    assert (stored(store), stored(other)) == ({"a", "b"}, {"b"})
    assert wiring._of_exporter is not None
    wiring._of_exporter[0].close(5.0)
