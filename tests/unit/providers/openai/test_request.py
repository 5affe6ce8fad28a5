"""Requests: model, stream, parameters, counts, tools."""

from __future__ import annotations

from typing import Any

import pytest

from callspan.providers.openai.chat import ChatCompletions
from callspan.providers.openai.completions import Completions
from callspan.providers.openai.responses import Responses
from callspan.providers.openai.single_body import Embeddings
from callspan.records import Request


def request_of(**body: Any) -> Request:
    return ChatCompletions().request(body)


def test_only_what_was_sent_is_there() -> None:
    assert request_of(model="gpt-5", messages=[]) == Request(model="gpt-5", stream=False, message_count=0)


def test_sampling_parameters_are_kept_as_sent() -> None:
    sent = {"temperature": 0.2, "top_p": 1, "max_tokens": 5, "seed": 7, "n": 2, "user": "u1", "stop": ["x", "y"]}
    assert request_of(**sent).params == sent


def test_settings_that_are_objects_are_kept_and_detached() -> None:
    choice = {"type": "function", "function": {"name": "f"}}
    request = request_of(
        tool_choice=choice, response_format={"type": "json_object"}, stream_options={"include_usage": True}
    )
    assert request.params["tool_choice"] == choice
    assert request.params["tool_choice"] is not choice
    assert request.params["response_format"] == {"type": "json_object"}
    assert request.params["stream_options"] == {"include_usage": True}


def test_unknown_parameters_are_kept() -> None:
    assert request_of(min_p=0.1, provider={"order": ["a"]}).params == {"min_p": 0.1, "provider": {"order": ["a"]}}


@pytest.mark.parametrize(
    "key", ["messages", "tools", "functions", "input", "prompt", "instructions", "model", "stream"]
)
def test_content_is_not_a_parameter(key: str) -> None:
    assert key not in request_of(**{key: ["x"]}).params


def test_null_is_not_sent() -> None:
    assert request_of(temperature=None).params == {}


@pytest.mark.parametrize("value", ["x" * 5000, ["x" * 5000], {"a": "x" * 5000}])
def test_large_values_are_not_parameters(value: object) -> None:
    assert request_of(schema=value).params == {}


@pytest.mark.parametrize(
    ("stream", "expected"), [(True, True), (False, False), (None, False), ("yes", False), (1, False)]
)
def test_stream_is_true_only_when_true(stream: object, expected: bool) -> None:
    assert request_of(stream=stream).stream is expected


@pytest.mark.parametrize(
    ("tools", "names"),
    [
        ([{"type": "function", "function": {"name": "f"}}], ["f"]),
        ([{"type": "custom", "custom": {"name": "c"}}], ["c"]),
        ([{"type": "function", "name": "g"}], ["g"]),
        ([{"type": "web_search"}], ["web_search"]),
        ([{"type": "mcp", "server_label": "wiki"}], ["wiki"]),
        ([], []),
        ([None, 3, {}], []),
        (None, None),
        ("f", None),
    ],
)
def test_tool_names(tools: object, names: list[str] | None) -> None:
    assert request_of(tools=tools).tool_names == names


def test_functions_of_the_old_kind_are_tools() -> None:
    assert request_of(functions=[{"name": "f"}]).tool_names == ["f"]


def test_no_tools_is_unknown_and_not_empty() -> None:
    assert request_of(model="m").tool_names is None


@pytest.mark.parametrize(
    ("endpoint", "body", "count"),
    [
        (ChatCompletions(), {"messages": [{}, {}]}, 2),
        (ChatCompletions(), {"messages": "hi"}, 1),
        (ChatCompletions(), {"messages": None}, None),
        (ChatCompletions(), {}, None),
        (Responses(), {"input": "hi"}, 1),
        (Responses(), {"input": [{}, {}, {}]}, 3),
        (Completions(), {"prompt": "hi"}, 1),
        (Completions(), {"prompt": ["a", "b"]}, 2),
        (Completions(), {"prompt": [1, 2, 3]}, 1),
        (Embeddings(), {"input": ["a", "b"]}, 2),
        (Embeddings(), {"input": [[1, 2], [3]]}, 2),
        (Embeddings(), {"input": []}, 0),
    ],
)
def test_messages_are_counted(endpoint: Any, body: dict[str, Any], count: int | None) -> None:
    assert endpoint.request(body).message_count == count


@pytest.mark.parametrize("body", [None, [], 3, "x", True])
def test_a_request_that_is_not_an_object_has_no_parameters(body: object) -> None:
    assert ChatCompletions().request(body) == Request()


@pytest.mark.parametrize("model", [None, "", 3, ["m"]])
def test_a_model_is_a_name(model: object) -> None:
    assert request_of(model=model).model is None
