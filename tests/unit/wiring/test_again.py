"""A second `instrument()`: kept and changed settings, and its warning."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import callspan
from callspan import AnthropicInstrumentor, OpenAIInstrumentor, SettingError
from callspan.records import Record
from callspan.settings_loader import forget_warnings
from callspan.wiring import WIRING
from tests.records import made

from .conftest import stored

NONE: Any = ()


@pytest.fixture(autouse=True)
def _warn_again(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    forget_warnings()
    caplog.set_level(logging.WARNING)
    yield
    forget_warnings()


def redact(record: Record) -> Record:
    return record


def in_force() -> tuple[object, ...]:
    assert WIRING.pipeline is not None
    settings, parts = WIRING.pipeline.settings, WIRING.pipeline.providers
    return settings.content, settings.stores, parts.redact, parts.tracer_provider


def test_settings_of_the_code_after_automatic_instrumentation_are_no_warning(
    store: str, caplog: pytest.LogCaptureFixture
) -> None:
    """As `opentelemetry-instrument` does, before an application with `callspan.instrument(stores=...)`."""
    OpenAIInstrumentor().instrument(skip_dep_check=True)
    AnthropicInstrumentor().instrument(skip_dep_check=True)
    callspan.instrument(stores=store, stream_usage=True)
    assert caplog.messages == []
    callspan.instrument(stream_usage=False)
    assert len(caplog.messages) == 1
    OpenAIInstrumentor().uninstrument()
    AnthropicInstrumentor().uninstrument()


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"stores": "jsonl:///other.jsonl"}, ("off", ("jsonl:///other.jsonl",), redact)),
        ({"service": "s"}, ("off", None, redact)),
        ({"redact": None, "content": None, "service": "s"}, ("off", None, redact)),
        ({"content": "full"}, ("full", None, redact)),
        ({"redact": False}, ("off", None, None)),
        ({"stores": []}, ("off", (), redact)),
    ],
)
def test_settings_not_given_are_unchanged(
    given: dict[str, Any], expected: tuple[object, ...], store: str, caplog: pytest.LogCaptureFixture
) -> None:
    callspan.instrument(content="off", redact=redact, stores=store, sdks=NONE)
    callspan.instrument(**given)
    content, stores, redactor, _ = in_force()
    assert (content, stores, redactor) == (expected[0], (store,) if expected[1] is None else expected[1], expected[2])
    assert WIRING.hook_context.content == expected[0]
    assert len(caplog.messages) == 1
    callspan.instrument(**given)
    assert len(caplog.messages) == 1, "warned of once"


def test_the_warning_names_old_and_new_and_no_secret(caplog: pytest.LogCaptureFixture) -> None:
    callspan.instrument(stores="console://", content="off", sdks=NONE)
    callspan.instrument(stores="unix:///x.sock?timeout_s=3", content="metadata", redact=redact)
    assert "stores console:// -> unix:///x.sock; content off -> metadata; redact none -> redact at " in caplog.text
    assert "timeout_s" not in caplog.text


def test_the_environment_is_not_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    callspan.instrument(content="off", sdks=NONE)
    monkeypatch.setenv("CALLSPAN_CONTENT", "full")
    monkeypatch.setenv("CALLSPAN_STORES", "console://")
    callspan.instrument(service="s")
    assert in_force()[:2] == ("off", ())


def test_the_application_changes_what_an_entry_point_has_set(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CALLSPAN_CONTENT", "metadata")
    one = OpenAIInstrumentor()
    one.instrument()
    try:
        callspan.instrument(stores=store)
        assert in_force() == ("metadata", (store,), None, None)
        assert WIRING.patches.wanted == {"openai"}
        callspan.instrument(sdks=("anthropic",))
        assert WIRING.patches.wanted == {"openai", "anthropic"}
    finally:
        one.uninstrument()


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"sdks": "opanai"}, "^sdks='opanai': use some of openai, anthropic"),
        ({"sdks": ["openai", "cohere"]}, "^sdks='cohere'"),
        ({"sdks": 3}, "^sdks=3"),
        ({"sdks": [None]}, "^sdks=None"),
        ({"redact": "x"}, "^redact='x': use a function"),
        ({"redact": True}, "^redact=True"),
        ({"tracer_provider": "x"}, "^tracer_provider='x'.*get_tracer"),
        ({"meter_provider": 3}, "^meter_provider=3"),
        ({"logger_provider": object()}, "^logger_provider=a value of type object"),
        ({"stores": Path("calls")}, "^stores: unknown kind of store 'calls'"),
        ({"stores": "postgresql://u:pass/word-8@h/db"}, "^stores: .*write / as %2F"),
        ({"stores": "jsonl:///a.jsonl?max_bytes=big"}, "^stores: .*max_bytes$"),
        ({"otlp": 5}, "^otlp: "),
        ({"otlp": "http://u:pass/word-8@h"}, "^otlp: "),
        ({"prices": "none.json"}, "^prices: .*none.json"),
    ],
)
def test_a_wrong_argument_changes_nothing(given: dict[str, Any], named: str) -> None:
    callspan.instrument(content="off", sdks=NONE)
    before = WIRING.pipeline
    with pytest.raises(SettingError, match=named) as refused:
        callspan.instrument(content="full", **given)
    assert WIRING.pipeline is before
    assert WIRING.hook_context.content == "off"
    assert "word-8" not in str(refused.value)


@pytest.mark.parametrize(
    "variables",
    [
        {"CALLSPAN_STORES": "teapot://u:pass/word-8@h/db,{store},postgresql://u:pass/word-8@h/db"},
        {"CALLSPAN_STORES": "{store}?unknown=on,{store}"},
        {"CALLSPAN_STORES": "{store}", "CALLSPAN_PRICES": "/no/such/prices.json"},
        {"CALLSPAN_STORES": "{store}", "CALLSPAN_FSYNC": "banana", "CALLSPAN_MAX_RECORD_BYTES": "-5"},
    ],
)
def test_an_invalid_environment_never_raises(
    variables: dict[str, str], store: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("CALLSPAN_CONTENT", "off")
    for name, value in variables.items():
        monkeypatch.setenv(name, value.format(store=store))
    handle = callspan.instrument(sdks=NONE)
    assert (handle.settings.content, handle.settings.stores) == ("off", (store,))
    WIRING.write(made("a"))
    assert handle.force_flush(60_000)
    assert stored(store) == {"a"}
    # Threads that deliver, those of earlier tests too, may warn of their stores at any moment.
    messages = [record.getMessage() for record in caplog.records if record.thread == threading.get_ident()]
    assert messages
    assert all(text.startswith("CALLSPAN_") for text in messages)
    assert "word-8" not in caplog.text


@pytest.mark.parametrize("password", ["hunter2%zz", "hunter2%", "hunter2%00x", "hunter2%2"])
def test_a_password_with_a_bare_percent_sign_is_an_error_that_does_not_show_it(password: str) -> None:
    """Postgres' driver quotes what it cannot decode."""
    with pytest.raises(callspan.SettingError, match="% as %25") as caught:
        callspan.instrument(stores=f"postgresql://u:{password}@127.0.0.1:9/db")
    assert "hunter2" not in str(caught.value)
