"""Settings: argument beats environment beats default, and every wrong value is named."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from callspan.config import SettingError, Settings, forgiving, load, state_directory, variables


def test_without_anything_the_defaults_are_in_force() -> None:
    assert load(None, {}) == Settings()
    assert load(None, {}).content == "full"
    assert load(None, {}).vocabularies == ("llm", "gen_ai")
    assert load(None, {}).stores == ()


def test_the_environment_beats_the_default() -> None:
    environment = {
        "CALLSPAN_STORES": " sqlite:///a.db , jsonl:///b.jsonl ",
        "CALLSPAN_CONTENT": "Metadata",
        "CALLSPAN_VOCABULARIES": "gen_ai, openinference",
        "CALLSPAN_MAX_ATTRIBUTE_BYTES": "4k",
        "CALLSPAN_SPOOL_MAX_BYTES": "2G",
        "CALLSPAN_SPOOL_DIR": "spool",
        "CALLSPAN_PROPAGATE": "on",
        "CALLSPAN_FSYNC": "always",
        "OTEL_SERVICE_NAME": "shop",
    }
    settings = load(None, environment)
    assert settings.stores == ("sqlite:///a.db", "jsonl:///b.jsonl")
    assert settings.content == "metadata"
    assert settings.vocabularies == ("gen_ai", "openinference")
    assert settings.max_attribute_bytes == 4096
    assert settings.spool_max_bytes == 2 * 1024**3
    assert settings.spool_dir == Path("spool")
    assert settings.propagate is True
    assert settings.fsync == "always"
    assert settings.service == "shop"


def test_an_argument_beats_the_environment_and_none_is_no_argument() -> None:
    environment = {"CALLSPAN_CONTENT": "off", "CALLSPAN_STORES": "sqlite:///a.db"}
    settings = load({"content": "full", "stores": None}, environment)
    assert settings.content == "full"
    assert settings.stores == ("sqlite:///a.db",)


@pytest.mark.parametrize("stores", ["sqlite:///a.db,unix:///b.sock", ["sqlite:///a.db", "unix:///b.sock"]])
def test_stores_may_be_given_as_a_comma_list_or_a_list(stores: object) -> None:
    assert load({"stores": stores}, {}).stores == ("sqlite:///a.db", "unix:///b.sock")


def test_an_empty_list_of_stores_switches_the_environments_off() -> None:
    assert load({"stores": []}, {"CALLSPAN_STORES": "sqlite:///a.db"}).stores == ()


@pytest.mark.parametrize(
    ("arguments", "environment", "named"),
    [
        ({}, {"CALLSPAN_CONTENT": "some"}, "CALLSPAN_CONTENT='some': use one of full, metadata, off"),
        ({"content": "some"}, {}, "content='some'"),
        ({"vocabularies": ["llm", "latin"]}, {}, "vocabularies='latin'"),
        ({}, {"CALLSPAN_PROPAGATE": "perhaps"}, "CALLSPAN_PROPAGATE"),
        ({}, {"CALLSPAN_MAX_RECORD_BYTES": "-3"}, "CALLSPAN_MAX_RECORD_BYTES"),
        ({}, {"CALLSPAN_MAX_RECORD_BYTES": "0"}, "positive number of bytes"),
        ({"max_record_bytes": 1.5}, {}, "max_record_bytes=1.5: expected int"),
        ({}, {"OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT": "loud"}, "NO_CONTENT".lower()),
    ],
)
def test_a_value_that_means_nothing_is_an_error_that_names_it(
    arguments: dict[str, object], environment: dict[str, str], named: str
) -> None:
    with pytest.raises(SettingError, match=re.escape(named)):
        load(arguments, environment)


def test_an_unknown_argument_is_named() -> None:
    with pytest.raises(TypeError, match="no setting contents"):
        load({"contents": "full"}, {})


@pytest.mark.parametrize(
    ("text", "content", "on_spans"),
    [
        ("NO_CONTENT", "off", True),
        ("span_only", "full", True),
        ("EVENT_ONLY", "full", False),
        ("SPAN_AND_EVENT", "full", True),
        ("true", "full", True),
        ("false", "off", True),
    ],
)
def test_the_conventions_variable_is_understood(text: str, content: str, on_spans: bool) -> None:
    settings = load(None, {"OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT": text})
    assert (settings.content, settings.content_on_spans) == (content, on_spans)


def test_our_own_variable_beats_the_conventions() -> None:
    environment = {"CALLSPAN_CONTENT": "full", "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT": "NO_CONTENT"}
    assert load(None, environment).content == "full"


def test_the_sdks_off_switch_is_ours_too() -> None:
    assert load(None, {"OTEL_SDK_DISABLED": "true"}).enabled is False
    assert load({"enabled": True}, {"OTEL_SDK_DISABLED": "true"}).enabled is True


def test_auto_instrumentation_says_what_is_wrong_and_goes_on_with_the_defaults() -> None:
    settings, trouble = forgiving({"CALLSPAN_CONTENT": "some"})
    assert settings == Settings()
    assert trouble is not None
    assert "CALLSPAN_CONTENT" in trouble
    assert forgiving({}) == (Settings(), None)


def test_state_goes_where_the_user_keeps_state(tmp_path: Path) -> None:
    assert state_directory({"XDG_STATE_HOME": str(tmp_path)}) == tmp_path / "callspan"
    assert state_directory({}).parts[-3:] == (".local", "state", "callspan")


def test_every_setting_with_a_variable_is_a_setting() -> None:
    assert set(variables()) <= set(Settings.__struct_fields__)
    assert len(set(variables().values())) == len(variables())
