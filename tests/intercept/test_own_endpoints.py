"""Endpoints of the application: `record_call` reads bodies of any API with the user's adapter."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import callspan
from callspan import endpoints
from callspan.endpoints import Conversation, Message, Request, Response, ResponseInfo, Text, Usage
from callspan.fail_open import forget_failures
from callspan.providers import registry
from callspan.testing import Captured
from tests.intercept.test_endings import the_call

SENT = {"prompt": ["How are you?"], "heat": 0.5}
CAME = {"says": "Well.", "counted": {"in": 4, "out": 2}}
MODULE = """
from callspan.endpoints import Conversation, Message, Request, Response, ResponseInfo, Text, Usage


class Folded:
    complete = False

    def __init__(self):
        self.whole = {}

    def add(self, chunk):
        self.whole = {**self.whole, **chunk, "says": self.whole.get("says", "") + chunk.get("says", "")}
        self.complete = self.complete or "counted" in chunk
        return "says" in chunk

    def body(self):
        return self.whole


class Parrot:
    api = "parrot"
    operation = "chat"
    path = "/parrot"
    message_key = "prompt"

    def request(self, body):
        return Request(params={"heat": body["heat"]}, message_count=len(body["prompt"]))

    def accumulator(self):
        return Folded()

    def response_info(self, body):
        counted = body["counted"]
        usage = Usage(input_tokens=counted["in"], output_tokens=counted["out"])
        return ResponseInfo(response=Response(id="p1", finish_reasons=["said"]), usage=usage)

    def conversation(self, request, response):
        sent = [Message(role="user", parts=[Text(text=text)]) for text in (request or {}).get("prompt", ())]
        came = [] if response is None else [Message(role="assistant", parts=[Text(text=response["says"])])]
        return Conversation(input=sent, output=came)
"""


@pytest.fixture(autouse=True)
def _anew() -> Iterator[None]:
    forget_failures()
    yield
    registry._registered.clear()
    registry._installed.cache_clear()


@pytest.fixture
def parrot() -> Any:
    found: dict[str, Any] = {}
    exec(MODULE, found)
    return found["Parrot"]


def tell(api: Any, stream: bool = False) -> None:
    with callspan.record_call(provider="zoo", api=api, model="polly") as call:
        call.request(SENT)
        if stream:
            call.chunk({"says": "We"})
            call.chunk({"says": "ll.", "counted": CAME["counted"]})
        else:
            call.response(CAME)


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
def test_an_endpoint_reads_what_it_knows(stream: bool, parrot: Any, seen: Captured) -> None:
    tell(parrot(), stream)
    record = the_call(seen)
    assert (record.api, record.operation, record.request.params) == ("parrot", "chat", {"heat": 0.5})
    assert record.usage == Usage(input_tokens=4, output_tokens=2)
    assert record.response is not None
    assert (record.response.id, record.response.finish_reasons, record.response.unrecognized) == ("p1", ["said"], False)
    assert record.conversation is not None
    assert record.conversation.input == [Message(role="user", parts=[Text(text="How are you?")])]
    assert record.text == "Well."
    assert (record.stream is not None and record.stream.complete) is stream
    (span,) = seen.spans
    attributes = dict(span.attributes or {})
    assert attributes["gen_ai.usage.input_tokens"] == 4
    assert "How are you?" in str(attributes["gen_ai.input.messages"])
    assert "Well." in str(attributes["gen_ai.output.messages"])


def test_content_that_is_off_is_off_for_it_too(parrot: Any, seen: Captured) -> None:
    with callspan.content("off"):
        tell(parrot())
    record = the_call(seen)
    assert (record.text, record.conversation, record.usage) == (None, None, Usage(input_tokens=4, output_tokens=2))
    assert "Well." not in str([dict(span.attributes or {}) for span in seen.spans])


class Broken:
    """Each method fails in another way; as class attributes, `complete` among them."""

    api, operation, path, message_key = "broken", "chat", "/broken", "messages"

    def request(self, body: object) -> Any:
        raise ValueError(body)

    def accumulator(self) -> Any:
        raise RuntimeError

    def response_info(self, body: object) -> Any:
        return {"usage": body}

    def conversation(self, request: object, response: object) -> Any:
        raise RecursionError


class BrokenLater(Broken):
    """Its accumulator is one, but fails with every use, the private short way among them."""

    def accumulator(self) -> Any:
        class Accumulator:
            def __getattr__(self, name: str) -> Any:
                raise RuntimeError(name)

        return Accumulator()


@pytest.mark.parametrize("kind", [Broken, BrokenLater])
@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
def test_an_endpoint_that_fails_costs_what_it_reads_never_the_call(
    stream: bool, kind: type[Broken], seen: Captured, caplog: pytest.LogCaptureFixture
) -> None:
    tell(kind(), stream)
    record = the_call(seen)
    assert (record.outcome, record.usage) == ("success", None)
    assert bytes(record.request.body)
    assert record.response is not None
    assert record.response.unrecognized
    assert any("endpoint of the application" in one.getMessage() for one in caplog.records)
    assert caplog.records[0].levelno == logging.WARNING


def test_an_invalid_endpoint_is_refused_naming_the_missing_members() -> None:
    class Half:
        api = "half"
        operation = "chat"
        path = "/half"

        def request(self, body: object) -> Request:
            return Request()

    with pytest.raises(TypeError, match=r"lacks message_key, accumulator\(\), response_info\(\), conversation\(\)"):
        callspan.record_call(provider="x", api=Half())  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="reads the API 'messages' itself"):
        endpoints.register(type("Mine", (Broken,), {"api": "messages"})())
    with pytest.raises(ValueError, match="or an endpoint of your own"):
        callspan.record_call(provider="x", api="parrot")  # type: ignore[arg-type]


def test_once_registered_a_name_will_do(parrot: Any, seen: Captured) -> None:
    endpoints.register(parrot())
    tell("parrot")
    assert the_call(seen).text == "Well."


def test_another_process_reads_its_messages_where_a_package_names_it(parrot: Any, tmp_path: Path) -> None:
    store = f"sqlite:///{tmp_path}/calls.db"
    handle = callspan.instrument(stores=store)
    try:
        tell(parrot())
    finally:
        handle.uninstrument()
    with closing(callspan.open_store(store)) as reader:
        assert [call.text for call in reader.calls()] == ["Well."]
    program = f"import callspan; print([call.text for call in callspan.open_store({store!r}).calls()])"
    package = tmp_path / "site"
    (package / "zoo-1.dist-info").mkdir(parents=True)
    (package / "zoo.py").write_text(MODULE)
    (package / "zoo-1.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: zoo\nVersion: 1\n")
    (package / "zoo-1.dist-info" / "entry_points.txt").write_text("[callspan.endpoints]\nparrot = zoo:Parrot\n")
    for path, expected in (("", "[None]"), (str(package), "['Well.']")):
        code = f"import sys; sys.path[:0] = [{path!r}] * bool({path!r}); {program}"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == expected


def test_the_module_has_every_type_that_an_endpoint_returns() -> None:
    assert {Conversation, Message, Request, Response, ResponseInfo, Text, Usage} <= {
        getattr(endpoints, name) for name in endpoints.__all__
    }
