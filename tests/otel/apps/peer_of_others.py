"""Calls of the clients of other wires with another instrumentation and callspan; prints what came of each as JSON.

peer_of_others.py NAMED ORDER URL
"""

import importlib
import json
import logging
import sys
from collections.abc import Callable
from typing import Any

from opentelemetry import trace
from tests.support.telemetry import kept_spans
from tests.support.waiting import until

ASKED: list[Any] = [{"role": "user", "content": "Hi"}]
TO_BEDROCK: list[Any] = [{"role": "user", "content": [{"text": "Hi"}]}]
NOVA = json.dumps({"messages": TO_BEDROCK})
URL = sys.argv[3]


def google() -> dict[str, Callable[[], Any]]:
    from google import genai

    client = genai.Client(api_key="key", http_options={"base_url": URL})
    return {
        "plain": lambda: client.models.generate_content(model="m", contents="Hi"),
        "stream": lambda: list(client.models.generate_content_stream(model="m", contents="Hi")),
    }


def bedrock() -> dict[str, Callable[[], Any]]:
    import boto3

    client = boto3.Session("key", "secret", region_name="us-east-1").client("bedrock-runtime", endpoint_url=URL)
    model = {"modelId": "amazon.nova-micro-v1:0"}
    return {
        "converse": lambda: client.converse(**model, messages=TO_BEDROCK),
        "converse stream": lambda: list(client.converse_stream(**model, messages=TO_BEDROCK)["stream"]),
        "invoke": lambda: client.invoke_model(**model, body=NOVA)["body"].read(),  # noqa: PLW0108
        "invoke stream": lambda: list(client.invoke_model_with_response_stream(**model, body=NOVA)["body"]),
    }


def mistralai() -> dict[str, Callable[[], Any]]:
    try:
        from mistralai.client import Mistral
    except ImportError:  # before version 2
        from mistralai import Mistral  # type: ignore[no-redef]

    chat = Mistral(api_key="key", server_url=URL).chat
    return {
        "plain": lambda: chat.complete(model="m", messages=ASKED),
        "stream": lambda: list(chat.stream(model="m", messages=ASKED)),
    }


def cohere() -> dict[str, Callable[[], Any]]:
    from cohere import Client, ClientV2

    first, second = Client("key", base_url=URL), ClientV2("key", base_url=URL)
    return {
        "plain": lambda: second.chat(model="m", messages=ASKED),
        "stream": lambda: list(second.chat_stream(model="m", messages=ASKED)),
        "version 1": lambda: first.chat(model="m", message="Hi"),
        "version 1 stream": lambda: list(first.chat_stream(model="m", message="Hi")),
        "ranking": lambda: second.rerank(model="m", query="q", documents=["a"]),
    }


def ollama() -> dict[str, Callable[[], Any]]:
    from ollama import Client

    client = Client(URL)
    return {
        "plain": lambda: client.chat("m", ASKED),
        "stream": lambda: list(client.chat("m", ASKED, stream=True)),
        "generate": lambda: client.generate("m", "Hi"),
    }


CLIENTS = {
    "google": google, "ddtrace": bedrock, "botocore": bedrock, "bedrock": bedrock, "mistral": mistralai,
    "cohere": cohere, "ollama": ollama,
}  # fmt: skip


def scene(named: str, order: str) -> dict[str, Any]:
    heard, records, (provider, exporter) = list[str](), list[Any](), kept_spans()
    listener = logging.Handler(logging.WARNING)
    listener.emit = lambda record: heard.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger().addHandler(listener)
    trace.set_tracer_provider(provider)

    def theirs() -> None:
        module, _, name = named.partition(":")
        theirs = getattr(importlib.import_module(module), name)
        if module == "ddtrace":
            theirs(botocore=True, openai=True, anthropic=True)
        else:
            theirs().instrument()

    def ours() -> None:
        import callspan

        callspan.add_callback("after_record", records.append, kinds=["call"])
        callspan.instrument()

    for step in (theirs, ours) if order == "theirs-first" else (ours, theirs):
        step()
    client = next(make for part, make in CLIENTS.items() if part in named)
    found = {}
    for name, call in client().items():
        exporter.clear()
        records.clear()
        with trace.get_tracer("app").start_as_current_span("app"):
            call()
        until(lambda: any(record.outcome != "in_progress" for record in records))  # a body may have to be collected
        ended = [record for record in records if record.outcome != "in_progress"]
        spans = [span for span in exporter.get_finished_spans() if span.name != "app"]
        found[name] = {
            "calls": [[record.outcome, record.span_id] for record in ended],
            "content": [(record.text, bool(record.usage), record.stream and record.stream.end) for record in ended],
            "spans": [
                {
                    "name": span.name,
                    "is_ours": span.instrumentation_scope is not None and span.instrumentation_scope.name == "callspan",
                    "is_call": "callspan.outcome" in (span.attributes or {}),
                    "span_id": f"{span.context.span_id:016x}",
                }
                for span in spans
            ],
        }
    return {"scenes": found, "heard": heard}


if __name__ == "__main__":
    print(json.dumps(scene(*sys.argv[1:3])))
