"""Settings: argument beats environment beats default, every wrong value is named; those of usage in calls."""

from __future__ import annotations

import base64
import inspect
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest
from msgspec.structs import astuple, replace
from tests.calls.conftest import variables
from tests.conftest import Instrument
from tests.support.calls import Wire, ask, the_call, usage_of
from tests.support.mode import Mode

import callspan
from callspan import SettingError, Settings
from callspan.testing import capture

STANDARD = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
OPT_IN = "OTEL_SEMCONV_STABILITY_OPT_IN"
LOADED: list[tuple[dict[str, object] | None, dict[str, str], dict[str, object]]] = [
    (
        None,
        {
            "CALLSPAN_STORES": " sqlite:///a.db , jsonl:///b.jsonl ", "CALLSPAN_CONTENT": "Metadata",
            "CALLSPAN_VOCABULARIES": "gen_ai, openinference", "CALLSPAN_MAX_ATTRIBUTE_BYTES": "4k",
            "CALLSPAN_SPOOL_MAX_BYTES": "2G", "CALLSPAN_SPOOL_DIR": "spool", "CALLSPAN_PROPAGATE": "on",
            "CALLSPAN_FSYNC": "always", "OTEL_SERVICE_NAME": "shop", "CALLSPAN_CHUNK_LOG": " 8",
        },
        {
            "stores": ("sqlite:///a.db", "jsonl:///b.jsonl"), "content": "metadata",
            "vocabularies": ("gen_ai", "openinference"), "max_attribute_bytes": 4096, "spool_max_bytes": 2 * 1024**3,
            "spool_dir": Path("spool"), "propagate": True, "fsync": "always", "service": "shop", "chunk_log": 8,
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
    (None, {STANDARD: "SPAN_ONLY", "CALLSPAN_CONTENT_ON_SPANS": "false"}, {"content_on_spans": False}),
    (None, {STANDARD: "EVENT_ONLY", "CALLSPAN_CONTENT_ON_SPANS": "on"}, {"log_events": True}),
]  # fmt: skip


Load = Callable[..., Settings]


@pytest.fixture
def load(no_settings: None, unwarned: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Load:
    """Instrument with arguments and variables, and return the settings that were in force."""
    monkeypatch.chdir(tmp_path)

    def loaded(arguments: dict[str, Any] | None = None, environment: dict[str, str] | None = None) -> Settings:
        with monkeypatch.context() as patched:
            for name, value in (environment or {}).items():
                patched.setenv(name, value)
            handle = callspan.instrument(**(arguments or {}))
        handle.uninstrument()
        return handle.settings

    return loaded


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
    "receive": (*NEVER, 2, "2", "perhaps", "lines"),
    "spool_dir": (object(), b"x", 1.5, [], "", " ", "\0", True, "~nobody-of-this-name/x", "http://h/x"),
    "prices": (object(), b"x", 1.5, [], "", "\0", True, "https://u:p@h/x.json"),
    "service": (object(), b"x", 1.5, [], True),
}
TABLE = [(name, value) for name, values in INVALID.items() for value in values]


def test_invalid_values_cover_every_setting() -> None:
    assert set(INVALID) == set(Settings.__struct_fields__)


@pytest.mark.parametrize(("name", "value"), TABLE, ids=[f"{name}-{number}" for number, (name, _) in enumerate(TABLE)])
def test_invalid_argument_error_names_the_argument(name: str, value: Any) -> None:
    with pytest.raises(SettingError, match=f"^{name}="):
        callspan.instrument(**{name: value})


@pytest.mark.parametrize("name", ["prices", "spool_dir"])
def test_password_in_a_path_is_not_shown(name: str) -> None:
    """The path stands in messages and in `doctor`, and would be a directory."""
    with pytest.raises(SettingError) as raised:
        callspan.instrument(**{name: "https://user:secret-word@host/x.json"})  # type: ignore[arg-type]
    assert "secret-word" not in str(raised.value)


CLEAR: dict[str, list[tuple[object, object]]] = {
    "content": [(False, "off"), (" OFF ", "off"), *((word, "off") for word in ("none", "No", "false", "0"))],
    "stores": [
        (False, ()), ("none", ()), ("", ()), (Path("a.db"), ("a.db",)), (("a.db", "a.db"), ("a.db",)),
        ([Path("a.db"), "b.jsonl,console://"], ("a.db", "b.jsonl", "console://")), (iter(["a.db"]), ("a.db",)),
    ],
    "vocabularies": [("gen_ai", ("gen_ai",)), (["LLM", "llm"], ("llm",)), ([], ())],
    "propagate": [(1, True), ("off", False)],
    "spool_dir": [("~/x", Path.home() / "x"), (False, None)],
    "prices": [(False, None)],
    "retain_days": [("30", 30.0), (0.5, 0.5), ("off", None)],
    "retain_content_days": [(" 7 ", 7.0), ("off", None)],
    "service": [(False, None)],
}  # fmt: skip


CLEARED = [({name: value}, {}, {name: taken}) for name, pairs in CLEAR.items() for value, taken in pairs]


@pytest.mark.parametrize(("arguments", "environment", "fields"), [*LOADED, *CLEARED])
def test_arguments_precede_variables_and_defaults(
    arguments: dict[str, object] | None, environment: dict[str, str], fields: dict[str, object], load: Load
) -> None:
    """A value whose meaning is clear is taken."""
    assert load(arguments, environment) == replace(Settings(), **fields)


TEXTS = [(name, value) for name, value in TABLE if isinstance(value, str) and value.strip(" \0")]
CLOSED = {"content": "off", "content_on_spans": False}
"""What an invalid variable means, where the default would show prompts."""


@pytest.mark.parametrize(("name", "value"), TEXTS)
def test_invalid_variables_are_ignored(name: str, value: str, load: Load, caplog: pytest.LogCaptureFixture) -> None:
    variable = "OTEL_SERVICE_NAME" if name == "service" else f"CALLSPAN_{name.upper()}"
    environment = {"CALLSPAN_SPOOL_MAX_BYTES": "5k", "CALLSPAN_LOG_EVENTS": "on", "CALLSPAN_MEDIA": "inline"}
    valid = {"spool_max_bytes": 5120, "log_events": True, "media": "inline"}
    settings = [load(None, {**environment, variable: value}) for _ in range(2)][-1]
    assert settings == replace(Settings(), **{**valid, name: CLOSED.get(name, getattr(Settings(), name))})
    (message,) = caplog.messages  # once in a process
    assert message.startswith(f"{variable}=")


def test_invalid_content_setting_means_off(load: Load, caplog: pytest.LogCaptureFixture) -> None:
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
def test_possible_secrets_are_not_printed(value: Any, load: Load, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("CALLSPAN_CONTENT", "CALLSPAN_FSYNC", "CALLSPAN_MAX_RECORD_BYTES", "CALLSPAN_VOCABULARIES"):
        load(None, {name: value})
        assert name in caplog.text
    with pytest.raises(SettingError) as refused:
        callspan.instrument(media=value)
    assert value not in caplog.text + str(refused.value)


def test_unknown_variables_warn_once(load: Load, caplog: pytest.LogCaptureFixture) -> None:
    environment = {"CALLSPAN_CONTENTS": "off", "CALLSPAN_TEAPOT": "sk-secret", "callspan_stores": "x", "CALLSPANS": "1"}
    for _ in range(2):
        assert load(None, environment) == Settings()
    assert sorted(caplog.messages) == [
        "unknown variable CALLSPAN_CONTENTS; did you mean CALLSPAN_CONTENT?",
        "unknown variable CALLSPAN_TEAPOT",
        "unknown variable callspan_stores; did you mean CALLSPAN_STORES?",
    ]


@pytest.mark.parametrize(
    ("variable", "nearest"),
    [
        ("CALLSPAN_CONTNET", "CALLSPAN_CONTENT"), ("CALSPAN_STORES", "CALLSPAN_STORES"),
        ("CALLSPAN__MEDIA", "CALLSPAN_MEDIA"), ("CALL_SPAN_SPOOL_DIR", "CALLSPAN_SPOOL_DIR"),
        ("Callspn_Retain_Days", "CALLSPAN_RETAIN_DAYS"), ("CALLSPANHTTP", "CALLSPAN_HTTP"),
    ],
)  # fmt: skip
def test_misspelt_variable_gets_the_nearest(
    variable: str, nearest: str, load: Load, caplog: pytest.LogCaptureFixture
) -> None:
    assert load(None, {variable: "off"}) == Settings()
    assert caplog.messages == [f"unknown variable {variable}; did you mean {nearest}?"]


@pytest.mark.parametrize(
    "variable", ["OTEL_SERVICE", "CALLBACK_STORES", "APP_SERVICE", "STORES", "XCALLSPAN", "CELERY_ENABLED", "SPAN_HTTP"]
)
def test_variables_of_others_are_not_taken_for_misspelt(
    variable: str, load: Load, caplog: pytest.LogCaptureFixture
) -> None:
    assert load(None, {variable: "off"}) == Settings()
    assert caplog.messages == []


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ("contents", "no setting contents; did you mean content?"),
        ("store", "no setting store; did you mean stores?"),
        ("CONTENT", "no setting CONTENT; did you mean content?"),
        ("trace_provider", "no setting trace_provider; did you mean tracer_provider?"),
        ("redactor", "no setting redactor; did you mean redact?"),
        ("teapot", "no setting teapot"),
    ],
)
def test_unknown_argument_error_names_the_nearest(argument: str, said: str) -> None:
    with pytest.raises(TypeError) as refused:
        callspan.instrument(**{argument: "full"})  # type: ignore[arg-type]
    assert str(refused.value) == f"there is {said}"


def test_every_argument_is_suggested() -> None:
    for argument in inspect.signature(callspan.instrument).parameters:
        if argument != "settings":
            with pytest.raises(TypeError, match=rf"did you mean {argument}\?"):
                callspan.instrument(**{f"{argument}_": "full"})  # type: ignore[arg-type]


REQUESTED = {"include_usage": True}
STREAMS: dict[str, tuple[dict[str, Any], dict[str, Any] | None, bool, bool]] = {
    # what the caller gives, stream_options as sent, whether usage is known, whether the caller sees its chunk
    "nothing": ({}, REQUESTED, True, False),
    "requested": ({"stream_options": REQUESTED}, REQUESTED, True, True),
    "disabled": ({"stream_options": {"include_usage": False}}, {"include_usage": False}, False, False),
    "others": (
        {"stream_options": {"include_obfuscation": False}}, {"include_obfuscation": False, **REQUESTED}, True, False,
    ),
    "extra body": ({"extra_body": {"stream_options": {"x": 1}}}, {"x": 1}, False, False),
}  # fmt: skip


@pytest.mark.parametrize("name", STREAMS)
async def test_requested_usage_chunk_is_hidden(name: str, mode: Mode) -> None:
    given, sent, known, visible = STREAMS[name]
    wire = Wire("chat_completions", mode, "stream")
    for _ in range(2):
        mode.provider.reply(text="I am well.", input_tokens=11, output_tokens=4)
    bare = [chunk.choices for chunk in await wire.call(**given)]
    wire.received = []
    with capture(stream_usage=True) as seen:
        chunks = await wire.call(**given)
        record = the_call(seen)
    assert mode.provider.requests[-1].body["stream_options"] == sent
    assert (record.usage and (record.usage.input_tokens, record.usage.output_tokens)) == ((11, 4) if known else None)
    assert [chunk.choices for chunk in chunks] == bare, "the same chunks as without it"
    assert (chunks[-1].choices == [] and chunks[-1].usage is not None) == visible
    assert wire.received_text() == "I am well."


@pytest.mark.parametrize("more", [{}, {"moderation": {"input": None}}])
async def test_chunk_with_more_than_usage_is_not_hidden(more: dict[str, Any], mode: Mode) -> None:
    chunk: dict[str, Any] = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    said = {"index": 0, "delta": {"content": "Hi"}, "finish_reason": "stop"}
    usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
    mode.provider.reply(raw=[chunk | {"choices": [said]}, chunk | {"choices": [], "usage": usage, **more}])
    with capture(stream_usage=True):
        assert len(await mode.all(await mode.wait(ask(mode.openai(), stream=True)))) == (2 if more else 1)


@pytest.mark.parametrize("how", ["plain", "raw", "completions", "unset"])
async def test_stream_usage_changes_nothing_else(how: str, mode: Mode) -> None:
    wire = Wire("chat_completions", mode, shape="stream" if how == "unset" else how)
    with capture(stream_usage=how != "unset") as seen:
        if how == "completions":
            await mode.whole(mode.openai().completions.create(model="m", prompt="hi", stream=True))
        elif how == "raw":
            await mode.all(await wire.call(stream=True))
        else:
            await wire.call()
        the_call(seen)
    assert "stream_options" not in mode.provider.requests[0].body


@pytest.mark.parametrize(
    ("shape", "question"), [("plain", "How are you?"), ("stream", "How are you?"), ("plain", "How are you? \ud800")]
)
async def test_missing_usage_is_estimated_and_marked(shape: str, question: str, mode: Mode) -> None:
    """The SDK sends a lone surrogate as an escape, which strict readers of JSON refuse."""
    mode.provider.reply(text="I am quite well, thank you.", usage={})
    messages = [{"role": "user", "content": question}]
    with capture(estimate_usage=True) as seen:
        try:
            await Wire("chat_completions", mode, shape).call(messages=messages)
        except UnicodeEncodeError:
            pytest.skip("this version refuses to send it")
        record = the_call(seen)
    assert usage_of(record).estimated
    assert 4 <= (usage_of(record).input_tokens or 0) <= 14
    assert 5 <= (usage_of(record).output_tokens or 0) <= 14
    assert (seen.spans[0].attributes or {})["callspan.usage.estimated"] is True


PICTURE = "data:image/png;base64," + base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 200).decode()
IN_CHAT = [{"type": "image_url", "image_url": {"url": PICTURE}}, {"type": "text", "text": "a screenshot"}]


@pytest.mark.parametrize("content", [IN_CHAT, [{"deeper": IN_CHAT}], PICTURE])
async def test_picture_in_the_result_of_a_tool_is_not_counted_as_text(content: object, mode: Mode) -> None:
    mode.provider.reply(text="I see.", usage={})
    call = {"id": "c", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    messages = [
        {"role": "user", "content": "Look."},
        {"role": "assistant", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c", "content": content},
    ]
    with capture(estimate_usage=True) as seen:
        await Wire("chat_completions", mode).call(messages=messages)
    assert 10 < (usage_of(the_call(seen)).input_tokens or 0) < 200


async def test_reported_usage_is_not_estimated(mode: Mode) -> None:
    mode.provider.reply(text="I am well.", input_tokens=1000, output_tokens=0)
    with capture(estimate_usage=True) as seen:
        await Wire("chat_completions", mode).ask()
        await mode.wait(mode.openai().moderations.create(model="m", input="How are you?"))
        record, moderated = seen.records
        for given in ({"prompt_tokens": 1000}, {"completion_tokens": 1000}):
            mode.provider.reply(text="I am well.", usage=given)
            await Wire("chat_completions", mode).ask()
        halves = [usage_of(one) for one in seen.records[2:]]
    assert (usage_of(record).input_tokens, usage_of(record).output_tokens) == (1000, 0)
    assert not usage_of(record).estimated
    assert moderated.usage is None
    assert [(one.input_tokens == 1000, one.output_tokens == 1000) for one in halves] == [(True, False), (False, True)]
    assert all(one.estimated for one in halves)


PATHS: Final = (
    "pipe", "root", "loop", "dir", "dir/", "deep.json", "binary.json", "large.json", "missing", "/", "//", ".", "..",
    "root/..", "/dev/zero", "/dev/full", "/proc/self/mem", "~", "~nobody-of-this-name/x", "a" * 5000, "\udcff", "a\nb",
)  # fmt: skip
SCHEMES: Final = ("sqlite", "SQLite+x", "jsonl", "unix", "console", "postgresql", "clickhouse", "otlp+http", "file", "")
PLACES: Final = (
    "", "/", "//", "///", "/.", "/..", "/pipe", "/root", "/loop", "[", "[::1]:99999", "h:-1/x", "h:abc/d", "u@", "@",
    "u:p@h:1/d?x=%zz", "/x?max_bytes=-1", "\udcff", "/a,b", "*",
)  # fmt: skip
ODD: Final = (
    *PATHS, *(f"{scheme}://{place}" for scheme in SCHEMES for place in PLACES), "0", "-1", "1e5", "9" * 400, "inf",
    "nan", ",", "٣", "½", "0k", "k", "true" * 1000, "😀" * 100, "1_000", "{}", "null",
)  # fmt: skip
NAMING: Final = ("stores", "prices", "spool_dir", "service")
"""Settings whose values are no words or numbers, which a pipeline uses."""


@pytest.fixture
def odd_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe")
    Path("root").symlink_to("/")
    Path("loop").symlink_to("loop")
    Path("dir").mkdir()
    Path("deep.json").write_text('{"models":' * 100_000)
    Path("binary.json").write_bytes(b"\xff\xfe\0")
    with Path("large.json").open("wb") as file:
        file.truncate(1 << 40)


@pytest.mark.usefixtures("odd_files", "no_settings")
@pytest.mark.parametrize("name", Settings.__struct_fields__)
def test_no_variable_raises_or_hangs(
    name: str, monkeypatch: pytest.MonkeyPatch, instrumented: Instrument, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever it names: pipes, devices, the root, files without an end."""
    for value in ODD if name in NAMING else ODD[::5]:
        monkeypatch.setenv(variables()[name], value)
        handle = instrumented(sdks=[])
        assert repr(handle.settings)
        handle.uninstrument()
    assert "\n".join(caplog.messages).encode() is not None, "a log in UTF-8 takes each message"


@pytest.mark.usefixtures("odd_files")
@pytest.mark.parametrize("prices", ["pipe", "dir", "/dev/zero", "large.json", "deep.json", "binary.json"])
def test_prices_are_a_regular_file_of_a_sensible_size(prices: str) -> None:
    with pytest.raises(SettingError, match=f"^prices: prices .*{prices}: "):
        callspan.instrument(prices=prices)


@pytest.mark.parametrize("url", ["sqlite:////", "jsonl:///.", "sqlite:///..", "/"])
def test_a_store_in_a_file_names_one(url: str) -> None:
    with pytest.raises(SettingError, match=r"is a directory; name a file|unknown kind of store"):
        callspan.instrument(stores=url)


@pytest.mark.parametrize("name", ["tracer_provider", "meter_provider", "logger_provider"])
def test_refused_argument_is_not_proposed(name: str) -> None:
    arguments: dict[str, Any] = {name: 1, "contnet": 1}
    with pytest.raises(TypeError) as raised, callspan.testing.capture(**arguments):
        pass
    assert f"did you mean {name}" not in str(raised.value)
    assert "did you mean content?" in str(raised.value)
