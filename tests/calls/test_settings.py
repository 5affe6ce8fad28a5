"""Settings: argument beats environment beats default, and every wrong value is named."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import astuple, replace

from callspan import SettingError, Settings
from callspan.settings_loader import forget_warnings, load, variables

STANDARD = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
LOADED: list[tuple[dict[str, object] | None, dict[str, str], dict[str, object]]] = [
    (
        None,
        {
            "CALLSPAN_STORES": " sqlite:///a.db , jsonl:///b.jsonl ", "CALLSPAN_CONTENT": "Metadata",
            "CALLSPAN_VOCABULARIES": "gen_ai, openinference", "CALLSPAN_MAX_ATTRIBUTE_BYTES": "4k",
            "CALLSPAN_SPOOL_MAX_BYTES": "2G", "CALLSPAN_SPOOL_DIR": "spool", "CALLSPAN_PROPAGATE": "on",
            "CALLSPAN_FSYNC": "always", "OTEL_SERVICE_NAME": "shop",
        },
        {
            "stores": ("sqlite:///a.db", "jsonl:///b.jsonl"), "content": "metadata",
            "vocabularies": ("gen_ai", "openinference"), "max_attribute_bytes": 4096, "spool_max_bytes": 2 * 1024**3,
            "spool_dir": Path("spool"), "propagate": True, "fsync": "always", "service": "shop",
        },
    ),
    # None is an argument that was not given.
    (
        {"content": "full", "stores": None},
        {"CALLSPAN_CONTENT": "off", "CALLSPAN_STORES": "sqlite:///a.db"},
        {"content": "full", "stores": ("sqlite:///a.db",)},
    ),
    (None, {"OTEL_SDK_DISABLED": "true"}, {"enabled": False}),
    ({"enabled": True}, {"OTEL_SDK_DISABLED": "true"}, {"enabled": True}),
    *(
        (None, {STANDARD: text}, fields)
        for text, fields in (
            ("NO_CONTENT", {"content": "off"}), ("false", {"content": "off"}), ("true", {"content": "full"}),
            ("span_only", {"content": "full"}), ("SPAN_AND_EVENT", {"content": "full", "log_events": True}),
            ("EVENT_ONLY", {"content": "full", "content_on_spans": False, "log_events": True}),
        )
    ),
    (None, {STANDARD: "NO_CONTENT", "CALLSPAN_CONTENT": "full"}, {"content": "full"}),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "environment", "fields"), LOADED)
def test_an_argument_comes_before_callspans_variable_the_conventions_and_the_default(
    arguments: dict[str, object] | None, environment: dict[str, str], fields: dict[str, object]
) -> None:
    assert load(arguments, environment) == replace(Settings(), **fields)


Odd = tuple[object, ...]
NEVER: Odd = (object(), b"x", 1.5, {"a": 1}, [None], "banana", "\0")
"""What no setting but a text takes."""
NUMBERS: Odd = (0, -1, -(10**30), 10**30, float("nan"), "0", "-3", "1e9", "9" * 5000, "²", "1.5k", "k", "99999999999g")
INVALID: dict[str, Odd] = {
    **dict.fromkeys(
        [
            name
            for name, value in zip(Settings.__struct_fields__, astuple(Settings()), strict=True)
            if isinstance(value, bool)
        ],
        (*NEVER, 2, "2", "perhaps", ()),
    ),
    **dict.fromkeys([name for name in Settings.__struct_fields__ if name.endswith("bytes")], (*NEVER, *NUMBERS, True)),
    **dict.fromkeys(
        ("retain_days", "retain_content_days"),
        (*NEVER[:2], *NEVER[3:], *NUMBERS, True, 10**400, "1_0", "30d", "-inf", "inf"),
    ),
    "chunk_log": (*NEVER, -1, True, "-1", "many", 10**30),
    "stores": (object(), b"x", 1.5, {"a": 1}, [None], [b"x"], True, Path("a,b.db")),
    "content": (*NEVER, True, 0, 0.0, 1, None.__class__, [], "ful", "everything"),
    "vocabularies": (object(), b"x", 1.5, {"a": 1}, [None], "latin", ["llm", "latin"], True),
    "media": (*NEVER, False, "inlin"),
    "fsync": (*NEVER, False),
    "trace_per": (*NEVER, True),
    "spool_dir": (object(), b"x", 1.5, [], "", " ", "\0", True, "~nobody-of-this-name/x"),
    "prices": (object(), b"x", 1.5, [], "", "\0", True),
    "service": (object(), b"x", 1.5, [], True),
}
TABLE = [(name, value) for name, values in INVALID.items() for value in values]


def test_the_table_of_invalid_values_has_every_setting() -> None:
    assert set(INVALID) == set(Settings.__struct_fields__)


@pytest.mark.parametrize(("name", "value"), TABLE, ids=[f"{name}-{number}" for number, (name, _) in enumerate(TABLE)])
def test_an_invalid_argument_is_an_error_that_names_it(name: str, value: object) -> None:
    with pytest.raises(SettingError, match=f"^{name}="):
        load({name: value}, {})


CLEAR: dict[str, list[tuple[object, object]]] = {
    "content": [(False, "off"), (" OFF ", "off"), *((word, "off") for word in ("none", "No", "false", "0"))],
    "stores": [
        (False, ()), ("none", ()), ("", ()), (Path("a.db"), ("a.db",)), (("a.db", "a.db"), ("a.db",)),
        ([Path("a.db"), "b.jsonl,console://"], ("a.db", "b.jsonl", "console://")), (iter(["a.db"]), ("a.db",)),
    ],
    "vocabularies": [("gen_ai", ("gen_ai",)), (["LLM", "llm"], ("llm",)), ([], ())],
    "propagate": [(1, True), ("off", False)],
    "max_span_bytes": [("1K", 1024), (7, 7)],
    "spool_dir": [("~/x", Path.home() / "x"), (False, None)],
    "prices": [(False, None)],
    "retain_days": [("30", 30.0), (0.5, 0.5), ("off", None)],
    "retain_content_days": [(" 7 ", 7.0), ("off", None)],
    "service": [(False, None)],
}  # fmt: skip


@pytest.mark.parametrize("name", CLEAR)
def test_a_value_whose_meaning_is_clear_is_taken(name: str) -> None:
    for value, taken in CLEAR[name]:
        assert getattr(load({name: value}, {}), name) == taken, value


@pytest.fixture
def warnings(caplog: pytest.LogCaptureFixture) -> Iterator[list[str]]:
    """What has been warned of, once each."""
    forget_warnings()
    with caplog.at_level(logging.WARNING):
        yield caplog.messages
    forget_warnings()


TEXTS = [
    (name, value) for name, value in TABLE if isinstance(value, str) and value.strip(" \0") and name in variables()
]


@pytest.mark.parametrize(("name", "value"), TEXTS)
def test_an_invalid_variable_is_ignored_alone(
    name: str, value: str, caplog: pytest.LogCaptureFixture, warnings: None
) -> None:
    caplog.clear()
    forget_warnings()
    variable = variables()[name]
    environment = {"CALLSPAN_SPOOL_MAX_BYTES": "5k", "CALLSPAN_LOG_EVENTS": "on", "CALLSPAN_MEDIA": "inline"}
    expected = load(None, {key: text for key, text in environment.items() if key != variable})
    settings = [load(None, {**environment, variable: value}) for _ in range(3)][-1]
    default = "off" if name == "content" else getattr(Settings(), name)
    assert settings == replace(expected, **{name: default})
    assert len(caplog.messages) == 1, "once in a process"
    assert caplog.messages[0].startswith(f"{variable}=")


def test_an_invalid_content_setting_means_off(caplog: pytest.LogCaptureFixture, warnings: None) -> None:
    assert load(None, {"CALLSPAN_CONTENT": "some", "CALLSPAN_FSYNC": "banana"}).content == "off"
    assert load(None, {"CALLSPAN_CONTENT": "some", STANDARD: "SPAN_ONLY"}).content == "off"
    assert load(None, {STANDARD: "loud"}).content == "off"
    assert load(None, {STANDARD: "none"}).content == "off"
    assert len(caplog.messages) == 3
    assert load({"content": "full"}, {"CALLSPAN_CONTENT": "some more"}).content == "full"
    assert load({"content": "full"}, {STANDARD: "EVENT_ONLY"}).content_on_spans is False
    assert len(caplog.messages) == 3, "what an argument replaces does not matter"


@pytest.mark.parametrize(
    "value", ["hunter2-secret", "sk-proj-" + "x" * 40, "postgresql://u:secret@h/db", "a\nb=secret1"]
)
def test_no_value_that_could_be_a_secret_is_printed(
    value: str, caplog: pytest.LogCaptureFixture, warnings: None
) -> None:
    for name in ("CALLSPAN_CONTENT", "CALLSPAN_FSYNC", "CALLSPAN_MAX_SPAN_BYTES", "CALLSPAN_VOCABULARIES"):
        load(None, {name: value})
        assert name in caplog.text
    with pytest.raises(SettingError) as refused:
        load({"media": value}, {})
    assert value not in caplog.text + str(refused.value)


def test_unknown_variables_are_warned_of_once(caplog: pytest.LogCaptureFixture, warnings: None) -> None:
    environment = {"CALLSPAN_CONTENTS": "off", "CALLSPAN_TEAPOT": "sk-secret", "callspan_stores": "x", "CALLSPANS": "1"}
    for _ in range(2):
        assert load(None, environment) == Settings()
    assert sorted(caplog.messages) == [
        "unknown variable CALLSPAN_CONTENTS; did you mean CALLSPAN_CONTENT?",
        "unknown variable CALLSPAN_TEAPOT",
        "unknown variable callspan_stores; did you mean CALLSPAN_STORES?",
    ]


def test_invalid_stores_of_the_environment_are_left_out(caplog: pytest.LogCaptureFixture, warnings: None) -> None:
    def check(value: object) -> None:
        if "bad" in str(value):
            raise SettingError("CALLSPAN_STORES: there is no such thing")

    checks = {"stores": check, "prices": check}
    environment = {"CALLSPAN_STORES": "a.db,bad.db,c.db", "CALLSPAN_PRICES": "bad.json"}
    settings = load(None, environment, checks=checks)
    assert (settings.stores, settings.prices) == (("a.db", "c.db"), None)
    assert [text.partition(":")[0] for text in caplog.messages] == ["CALLSPAN_STORES", "CALLSPAN_PRICES"]
    for name, value in (("stores", ["a.db", "bad.db"]), ("prices", "bad.json")):
        with pytest.raises(SettingError, match=f"^{name}: .*there is no such thing"):
            load({name: value}, {}, checks=checks)


def test_an_unknown_argument_is_named() -> None:
    with pytest.raises(TypeError, match="no setting contents"):
        load({"contents": "full"}, {})
