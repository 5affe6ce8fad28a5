"""Canaries: a program that puts a text of its own into everything that a request, session or reward can carry.

`everything` runs it and returns all that has left the process, by channel.
"""

from __future__ import annotations

import json
import logging
import re
import time
from base64 import b64encode
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeAlias

import anthropic
import openai
import pytest
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from tests.support.commands import ask
from tests.support.waiting import HANG_MS

import callspan
from callspan.records import Record, encode
from callspan.testing import ScriptedProvider

FOUND = re.compile(r"canary_([a-z0-9]+)_")
KEY, CLAUDES_KEY = "sk-proj-SECRETKEYSECRETKEY0123456789", "sk-ant-api03-SECRETKEYSECRETKEY9876543210"
HEADER, USER, PASSWORD = "header-SECRETVALUE-5150", "urluser-SECRET", "urlpass-SECRET-42"
SECRETS = (KEY, CLAUDES_KEY, HEADER, USER, PASSWORD)
"""What authenticates the clients: nowhere outside the process, even where the provider repeats it."""
BODIES = {
    api: json.dumps(body).replace("{key}", KEY).replace("{header}", HEADER)
    for api, body in json.loads(Path(__file__).with_name("canaries.json").read_text()).items()
}
Kind: TypeAlias = "Callable[[Program], None]"
KINDS: list[Kind] = []


class Program:
    """The clients of a program, and the canaries that it has used."""

    def __init__(self, provider: ScriptedProvider) -> None:
        self.provider = provider
        self.used: dict[str, None] = {}
        self.host = f"{USER}:{PASSWORD}@{provider.url.removeprefix('http://')}"
        options: Any = {"max_retries": 0, "default_headers": {"x-internal": HEADER}}
        self.openai = openai.OpenAI(api_key=KEY, base_url=f"http://{self.host}/v1", **options)
        self.anthropic = anthropic.Anthropic(api_key=CLAUDES_KEY, base_url=f"http://{self.host}", **options)

    def __call__(self, label: str) -> str:
        """Return the canary of a place; `label` is lower-case letters and digits."""
        self.used[label] = None
        return f"canary_{label}_"

    def body(self, api: str, of: str) -> Any:
        """Return a request that carries a canary in each of its texts, as `canaries.json` has it."""
        text = BODIES[api].replace("{of}", of)
        self.used |= dict.fromkeys(FOUND.findall(text))
        return json.loads(text)

    def run(self, also: Sequence[Kind]) -> None:
        """Run all kinds, and others; the failures that they script are theirs."""
        for kind in (*KINDS, *also):
            kind(self)
        self.openai.close()
        self.anthropic.close()

    def tools(self, of: str) -> list[dict[str, Any]]:
        return [{"name": self(f"toolname{of}"), "arguments": {self(f"argkey{of}"): self(f"arg{of}")}}]


def kind(function: Callable[[Program], None]) -> Callable[[Program], None]:
    KINDS.append(function)
    return function


def user(content: Any) -> list[Any]:
    """Return the messages of a user who says that."""
    return [{"role": "user", "content": content}]


@kind
def chats(c: Program) -> None:
    c.provider.reply(text=c("answerchat"), reasoning=c("thoughtchat"), tool_calls=c.tools("chat"))
    c.openai.chat.completions.create(**c.body("chat", "chat"))
    c.provider.reply(text=c("answerstream"), tool_calls=c.tools("stream"))
    list(c.openai.chat.completions.create(**c.body("chat", "stream"), stream=True))
    c.provider.reply(refusal=c("refusal"))
    c.openai.chat.completions.create(model="gpt-x", messages=user(c("refused")))


@kind
def failed_chats(c: Program) -> None:
    echo = f"{c('errormessage')}: no {KEY}. Authorization: Bearer {KEY}; http://{c.host}/v1"
    c.provider.reply(status=400, message=echo, error_type="invalid_request_error")
    with suppress(openai.APIError):
        c.openai.chat.completions.create(**c.body("chat", "failed"), extra_headers={"x-api-key": HEADER})
    c.provider.reply(status=500, message=echo, retry_after_s=0.001)
    c.openai.with_options(max_retries=1).chat.completions.create(model="gpt-x", messages=user(c("retried")))
    c.provider.reply(text=c("answercut"), cut_after=2)
    with suppress(Exception):
        list(c.openai.chat.completions.create(model="gpt-x", messages=user(c("cut")), stream=True))


@kind
def responses(c: Program) -> None:
    c.provider.reply(text=c("ranswer"), reasoning=c("rthought"), tool_calls=c.tools("response"))
    c.openai.responses.create(**c.body("responses", "r"))
    c.provider.reply(text=c("rsanswer"))
    list(c.openai.responses.create(**c.body("responses", "rs"), stream=True))


@kind
def background_responses(c: Program) -> None:
    c.provider.reply(text=c("bganswer"), polls=1)
    with callspan.session(c("bgsession")):
        job = c.openai.responses.create(**c.body("responses", "bg"), background=True)
    for _ in range(4):
        job = c.openai.responses.retrieve(job.id)
    c.provider.reply(status=500, message=c("bgerror"))
    with suppress(Exception):
        job = c.openai.responses.create(model="gpt-x", input=c("bgfailed"), background=True)
        for _ in range(4):
            c.openai.responses.retrieve(job.id)


@kind
def other_endpoints(c: Program) -> None:
    c.provider.reply(text=c("oldanswer"))
    c.openai.completions.create(model="old", prompt=c("oldprompt"), suffix=c("suffix"), user=c("olduser"))
    c.openai.embeddings.create(model="e", input=[c("embedded")], user=c("embuser"))
    c.openai.moderations.create(model="m", input=[c("moderated")])
    settings: Any = {name: c(f"img{name}") for name in ("style", "size", "quality", "user", "moderation")}
    c.openai.images.generate(model="i", prompt=c("imageprompt"), **settings)
    c.openai.images.edit(model="i", image=(f"{c('imagename')}.png", b"png"), prompt=c("editprompt"), user=c("edituser"))
    c.provider.reply(text=c("transcript"))
    sound: Any = {"model": "w", "file": (f"{c('soundname')}.wav", b"RIFF")}
    c.openai.audio.transcriptions.create(**sound, prompt=c("soundprompt"), language=c("language"))
    c.provider.reply(text=c("translation"))
    c.openai.audio.translations.create(**sound, prompt=c("translprompt"))
    c.openai.audio.speech.create(model="s", input=c("spoken"), voice=c("speechvoice"), instructions=c("speechhow"))


def lines_of(*lines: dict[str, Any]) -> bytes:
    return "".join(f"{json.dumps(line)}\n" for line in lines).encode()


@kind
def file_batch(c: Program) -> None:
    requests = []
    for number in range(2):
        body = {"messages": user(c(f"batched{number}")), "metadata": {"mode": c(f"batchmode{number}")}}
        requests.append({"custom_id": c(f"customid{number}"), "body": body})
    message = {"role": "assistant", "content": c("batchanswer")}
    bodies: Any = [(200, {"object": "chat.completion", "model": "gpt-x", "choices": [{"message": message}]})]
    bodies.append((429, {"error": {"message": c("batcherror")}}))
    results = [
        {"custom_id": request["custom_id"], "response": {"status_code": status, "body": body}, "error": None}
        for request, (status, body) in zip(requests, bodies, strict=True)
    ]
    c.provider.reply(raw={"id": "file-1", "object": "file"}, on="/files")
    c.provider.reply(raw={"id": "batch_1", "object": "batch"}, on="/batches")
    c.provider.reply(raw=lines_of(*results), on="/content")
    c.openai.files.create(file=("in.jsonl", lines_of(*requests)), purpose="batch")
    metadata = {"type": c("batchmeta")}
    made: Any = {"input_file_id": "file-1", "endpoint": "/v1/chat/completions", "completion_window": "24h"}
    with callspan.metadata(api_key=c("batchkey"), owner=c("batchowner")), callspan.session(c("batchsession")):
        c.openai.batches.create(**made, metadata=metadata)
        c.openai.files.content("file-out").read()


@kind
def messages(c: Program) -> None:
    c.provider.reply(text=c("aanswer"), reasoning=c("athought"), tool_calls=c.tools("message"))
    c.anthropic.messages.create(**c.body("messages", "m"))
    c.provider.reply(text=c("asanswer"), tool_calls=c.tools("messagestream"))
    list(c.anthropic.messages.create(**c.body("messages", "ms"), stream=True))
    c.provider.reply(status=529, message=f"{c('aerror')}, x-api-key: {CLAUDES_KEY}")
    with suppress(anthropic.APIError):
        c.anthropic.messages.create(**c.body("messages", "me"))


@kind
def message_batch(c: Program) -> None:
    requests: Any = []
    for number in range(2):
        params = {"model": "claude-x", "max_tokens": 5, "messages": user(c(f"abatched{number}"))}
        requests.append({"custom_id": c(f"acustomid{number}"), "params": params})
    message = {"type": "message", "model": "claude-x", "content": [{"type": "text", "text": c("abatchanswer")}]}
    failure = {"type": "error", "error": {"type": "invalid_request_error", "message": c("abatcherror")}}
    answers = {"type": "succeeded", "message": message}, {"type": "errored", "error": failure}
    named = zip(requests, answers, strict=True)
    results = [{"custom_id": request["custom_id"], "result": answer} for request, answer in named]
    path = "/v1/messages/batches/msgbatch_1"
    batch = {"id": "msgbatch_1", "type": "message_batch", "results_url": f"{c.provider.url}{path}/results"}
    c.provider.reply(raw=batch, on="/batches")
    c.provider.reply(raw=batch, on=path)
    c.provider.reply(raw=lines_of(*results), on="/results")
    with callspan.metadata(token=c("abatchtoken"), owner=c("abatchowner")), callspan.session(c("abatchsession")):
        c.anthropic.messages.batches.create(requests=requests)
        list(c.anthropic.messages.batches.results("msgbatch_1"))


@kind
def recorded_by_hand(c: Program) -> None:
    with callspan.record_call(provider="vllm", api="chat_completions", model="m") as call:
        call.request({"model": "m", "messages": user(c("handuser")), "mine": c("handparam")})
        call.response({"choices": [{"message": {"role": "assistant", "content": c("handanswer")}}]})
    with suppress(ValueError), callspan.record_call(provider="vllm", model="m") as call:
        call.request({"model": "m", "messages": user(c("handfailed"))})
        raise ValueError(c("handerror"))


@kind
def session(c: Program) -> None:
    with (
        callspan.metadata(owner=c("metadata"), password=c("metasecret"), nested={c("metakey"): [c("metanested")]}),
        callspan.session(
            c("sessionname"), user_id=c("userid"), group_id=c("groupid"), task_id=c("taskid"),
            experiment=c("experiment"), metadata={"k": c("sessionmeta")},
        ) as own,
    ):  # fmt: skip
        with own.timestep(c("stepname"), step_id=c("stepid"), metadata={"k": c("stepmeta")}) as step:
            people = {"sender": c("sender"), "receiver": c("receiver")}
            step.message(c("messagetext"), kind=c("messagekind"), **people, metadata={"k": c("messagemeta")})
            step.observation({"seen": c("observation")})
            step.action({"move": c("action")}, system=c("actionsystem"))
            info = {c("infokey"): c("info")}
            step.environment({"state": c("state")}, before=c("before"), info=info, system=c("envsystem"))
            with step.environment_step(c("stepbefore")) as slow:
                slow.set_result(c("slowstate"), info=c("slowinfo"))
            about = {"name": c("eventname"), "error": c("eventerror"), "metadata": {"k": c("eventmeta")}}
            step.event(c("eventtype"), {"data": c("eventdata")}, **about)
            with callspan.tool(c("toolrun"), call="call_1", arguments={"a": c("toolarg")}) as tool:
                tool.result = [c("toolout")]
            with suppress(ValueError), callspan.tool("failing", arguments=c("failarg")):
                raise ValueError(c("toolerror"))
            with callspan.invoke_agent(c("agentname"), input=c("agentin"), description=c("agentdesc")) as agent:
                agent.output = c("agentout")
            with callspan.guardrail(c("guardname"), input=c("guardin")) as guard:
                guard.output = c("guardout")
            callspan.handoff(c("handoffto"), c("handofffrom"), reason=c("reason"))
            step.reward(1.0, c("objective"), source=c("source"), annotation=c("annotation"), label=c("label"))
            step.update(status=c("stepstatus"), metadata={"k": c("stepupdate")})
            c.provider.reply(text=c("sessionanswer"))
            assert c.openai.chat.completions.create(model="gpt-x", messages=user(c("sessioncall"))).choices
        own.outcome(reward=1.0, status=c("status"))
        session_id = own.id
    with suppress(KeyError), callspan.session(c("failedsession")):
        raise KeyError(c("sessionerror"))
    callspan.reward(0.5, session_id=session_id, annotation=c("lateannotation"), label=c("latelabel"))
    callspan.feedback("call-1", 1.0, annotation=c("feedback"), source=c("feedbacksource"))
    time.sleep(0.01)


# What is kept, and where.

_NAMES = re.compile(
    "sessionname|failedsession|b[ga]t?c?h?session|abatchsession|stepname|stepid|userid|groupid|taskid|experiment|toolrun|agentname|"
    "guardname|handoffto|handofffrom|actionsystem|envsystem|sender|receiver|messagekind|eventtype|eventname|a?customid[0-9]|"
    "objective|label|latelabel|source|feedbacksource|status|stepstatus"
)
"""Names, ids, words and labels that the application gives to its sessions, steps, tools, agents, events and rewards."""
_METADATA = re.compile(
    "metadata|metakey|metanested|sessionmeta|stepmeta|stepupdate|messagemeta|eventmeta|batchowner|abatchowner|agentdesc"
)
"""What it sets by `callspan.metadata`, or as the metadata of its sessions, steps, messages and events."""
_FACTS = re.compile("toolname.*|definedtool.*|rtool[a-z]*|atool[a-z]*|mcplabel.*")
"""Names of tools and of MCP servers, at the level `metadata`."""
_FIELDS = re.compile("toolparam.*|argkey.*|infokey|metakey|objective")
"""Keys of objects, which are no texts: also of the totals of rewards, by their objectives."""
NOT_RECORDED = {"batchmeta", "batched0", "batched1", "abatched0", "abatched1", "batchmode0", "batchmode1"}
"""What no record has: the requests of a batch."""


def _failing(record: Record) -> Record:
    raise ValueError(repr(record))


def _none(record: Record) -> Any:
    return None


def _wrong_type(record: Record) -> Any:
    return {"content": repr(record)}


def _masking(text: str) -> str:
    return FOUND.sub("[mine]", text)


SETTINGS: dict[str, tuple[dict[str, Any], tuple[re.Pattern[str], ...]]] = {
    "off": ({"content": "off"}, (_NAMES, _METADATA)),
    "metadata": ({"content": "metadata"}, (_NAMES, _METADATA, _FACTS)),
    "a redactor of texts": ({"redact": callspan.redact_texts(_masking)}, (_FIELDS,)),
    "a redactor that raises": ({"redact": _failing}, ()),
    "a redactor that returns nothing": ({"redact": _none}, ()),
    "a redactor that returns another type": ({"redact": _wrong_type}, ()),
}


def everything(
    place: Path, provider: ScriptedProvider, log: pytest.LogCaptureFixture, also: Sequence[Kind] = (), **settings: Any
) -> tuple[Program, dict[str, str]]:
    """Run the program, and other kinds; return it, and the text of each channel."""
    log.set_level(logging.DEBUG, logger="callspan")
    spans, metrics = InMemorySpanExporter(), InMemoryMetricReader()
    events, traces, logs = InMemoryLogRecordExporter(), TracerProvider(), LoggerProvider()
    traces.add_span_processor(SimpleSpanProcessor(spans))
    logs.add_log_record_processor(SimpleLogRecordProcessor(events))
    stores = [f"sqlite:///{place / 'a.db'}", f"jsonl:///{place / 'b.jsonl'}"]
    handle = callspan.instrument(
        stores=stores,
        tracer_provider=traces,
        meter_provider=MeterProvider([metrics]),
        logger_provider=logs,
        log_events=True,
        vocabularies=("llm", "gen_ai", "openinference"),
        chunk_log=5,
        attempt_spans=True,
        **settings,
    )
    program = Program(provider)
    try:
        program.run(also)
        assert handle.force_flush(HANG_MS)
        channels = {"spool": "".join(_text(path) for path in place.glob("*.spool/**/*") if path.is_file())}
    finally:
        handle.uninstrument()
    channels |= {str(path): _text(path) for path in place.rglob("*") if path.is_file()}
    channels |= {f"span {span.name}": span.to_json() for span in spans.get_finished_spans()}
    channels |= {
        f"log event {number}": _shown(event.log_record) for number, event in enumerate(events.get_finished_logs())
    }
    data = metrics.get_metrics_data()
    channels["metrics"] = "" if data is None else data.to_json()
    channels["logs"] = log.text
    reader = callspan.open_store(stores[0])
    channels["store"] = "".join(encode(call).decode() for call in reader.calls())
    reader.close()
    channels["doctor"] = ask("--store", stores[0], "doctor").out
    return program, channels


def _shown(record: Any) -> str:
    """Return what exporters send of a log event: not its context, which is an object of this process."""
    return repr({name: value for name, value in vars(record).items() if name != "context"})


def _text(path: Path) -> str:
    return path.read_bytes().decode("utf-8", "replace")


def left_of(program: Program, channels: dict[str, str], kept: tuple[re.Pattern[str], ...]) -> dict[str, set[str]]:
    """Return the canaries of the program that a setting should have removed, each with the channels that have it."""
    return {
        label: places
        for label, places in seen_in(channels).items()
        if label in program.used and not any(one.fullmatch(label) for one in kept)
    }


def leaked(channels: dict[str, str], also: Sequence[str] = ()) -> list[tuple[str, str]]:
    forms = [(secret, form) for secret in (*SECRETS, *also) for form in (secret, b64encode(secret.encode()).decode())]
    return [(secret, channel) for secret, form in forms for channel, text in channels.items() if form in text]


def seen_in(channels: dict[str, str]) -> dict[str, set[str]]:
    seen: dict[str, set[str]] = {}
    for channel, text in channels.items():
        for label in FOUND.findall(text):
            seen.setdefault(label, set()).add(channel.rpartition("/")[2])
    return seen
