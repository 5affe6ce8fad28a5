"""A program that puts a text of its own, a canary, into everything that a request, session or reward can carry."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import anthropic
import openai

import callspan
from callspan.testing import ScriptedProvider

FOUND = re.compile(r"canary_([a-z0-9]+)_")
KEY, CLAUDES_KEY = "sk-proj-SECRETKEYSECRETKEY0123456789", "sk-ant-api03-SECRETKEYSECRETKEY9876543210"
HEADER, USER, PASSWORD = "header-SECRETVALUE-5150", "urluser-SECRET", "urlpass-SECRET-42"
SECRETS = (KEY, CLAUDES_KEY, HEADER, USER, PASSWORD)
"""What authenticates the clients: nowhere outside the process, even where the provider repeats it."""
KINDS: list[Callable[[Program], None]] = []


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

    def run(self) -> None:
        """Run all kinds; the failures that they script are theirs."""
        for kind in KINDS:
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


def chat_body(c: Program, of: str) -> dict[str, Any]:
    parameter = {"type": "string", "description": c(f"paramdesc{of}")}
    tool = {
        "name": c(f"definedtool{of}"),
        "description": c(f"tooldesc{of}"),
        "parameters": {"type": "object", "properties": {c(f"toolparam{of}"): parameter}},
    }
    called = {"name": "f", "arguments": json.dumps({"a": c(f"sentarg{of}")})}
    said = [
        {"type": "text", "text": c(f"user{of}")},
        {"type": "image_url", "image_url": {"url": f"https://h.example/{c(f'imageurl{of}')}.png"}},
    ]
    schema = {"name": c(f"schemaname{of}"), "schema": {"description": c(f"schema{of}")}}
    return {
        "model": "gpt-x",
        "messages": [
            {"role": "system", "content": c(f"system{of}")},
            {"role": "user", "name": c(f"username{of}"), "content": said},
            {
                "role": "assistant",
                "content": c(f"assistant{of}"),
                "tool_calls": [{"id": "call_1", "type": "function", "function": called}],
            },
            {"role": "tool", "tool_call_id": "call_1", "content": c(f"toolresult{of}")},
        ],
        "tools": [{"type": "function", "function": tool}],
        "stop": [c(f"stop{of}")],
        "user": c(f"enduser{of}"),
        "metadata": {name: c(f"meta{name}{of}") for name in ("type", "summary", "mode", "free")},
        "prediction": {"type": "content", "content": c(f"prediction{of}")},
        "response_format": {"type": "json_schema", "json_schema": schema},
        "prompt_cache_key": c(f"cachekey{of}"),
        "safety_identifier": c(f"safety{of}"),
        "service_tier": c(f"tier{of}"),
        "reasoning_effort": c(f"effort{of}"),
        "verbosity": c(f"verbosity{of}"),
        "tool_choice": {"type": "function", "function": {"name": c(f"choice{of}")}},
        "extra_body": {
            "style": c(f"style{of}"),
            "size": {"mode": c(f"size{of}")},
            "voice": c(f"voice{of}"),
            "truncation": [c(f"truncation{of}")],
            "moderation": {"type": c(f"moderation{of}")},
            "quality": c(f"quality{of}"),
            "mine": {"type": c(f"extratype{of}"), "mode": c(f"extramode{of}"), "effort": [c(f"extraeffort{of}")]},
        },
    }


@kind
def chat(c: Program) -> None:
    c.provider.reply(text=c("answerchat"), reasoning=c("thoughtchat"), tool_calls=c.tools("chat"))
    c.openai.chat.completions.create(**chat_body(c, "chat"))


@kind
def chat_stream(c: Program) -> None:
    c.provider.reply(text=c("answerstream"), tool_calls=c.tools("stream"))
    list(c.openai.chat.completions.create(**chat_body(c, "stream"), stream=True))


@kind
def chat_error(c: Program) -> None:
    echo = f"{c('errormessage')}: no {KEY}. Authorization: Bearer {KEY}; http://{c.host}/v1"
    c.provider.reply(status=400, message=echo, error_type="invalid_request_error")
    with suppress(openai.APIError):
        c.openai.chat.completions.create(**chat_body(c, "failed"), extra_headers={"x-api-key": HEADER})
    c.provider.reply(status=500, message=echo, retry_after_s=0.001)
    client = c.openai.with_options(max_retries=1)
    client.chat.completions.create(model="gpt-x", messages=user(c("retried")))


@kind
def chat_refusal(c: Program) -> None:
    c.provider.reply(refusal=c("refusal"))
    c.openai.chat.completions.create(model="gpt-x", messages=user(c("refused")))


@kind
def chat_cut_off(c: Program) -> None:
    c.provider.reply(text=c("answercut"), cut_after=2)
    with suppress(Exception):
        list(c.openai.chat.completions.create(model="gpt-x", messages=user(c("cut")), stream=True))


def response_body(c: Program, of: str) -> dict[str, Any]:
    function = {"type": "function", "name": c(f"rtool{of}"), "description": c(f"rtooldesc{of}"), "parameters": {}}
    secret = {"authorization": KEY, "headers": {"x": HEADER}}
    server = {"server_label": c(f"mcplabel{of}"), "server_url": f"https://{c(f'mcpurl{of}')}.example", **secret}
    return {
        "model": "gpt-x",
        "instructions": c(f"instructions{of}"),
        "input": [
            *user([{"type": "input_text", "text": c(f"input{of}")}]),
            {"type": "function_call_output", "call_id": "call_1", "output": c(f"output{of}")},
        ],
        "tools": [{**function, "strict": False}, {"type": "mcp", **server}],
        "metadata": {"type": c(f"rmeta{of}")},
        "user": c(f"ruser{of}"),
        "reasoning": {"effort": "low", "summary": c(f"rsummary{of}")},
        "text": {
            "verbosity": c(f"rverbosity{of}"),
            "format": {"type": "json_schema", "name": c(f"rformat{of}"), "schema": {}},
        },
        "prompt": {"id": c(f"promptid{of}"), "variables": {"v": c(f"promptvar{of}")}},
        "truncation": c(f"rtruncation{of}"),
        "extra_body": {"own": {"summary": c(f"rextra{of}")}, "include": [c(f"include{of}")]},
    }


@kind
def response(c: Program) -> None:
    c.provider.reply(text=c("ranswer"), reasoning=c("rthought"), tool_calls=c.tools("response"))
    c.openai.responses.create(**response_body(c, "r"))


@kind
def response_stream(c: Program) -> None:
    c.provider.reply(text=c("rsanswer"))
    list(c.openai.responses.create(**response_body(c, "rs"), stream=True))


@kind
def background(c: Program) -> None:
    c.provider.reply(text=c("bganswer"), polls=1)
    with callspan.session(c("bgsession")):
        job = c.openai.responses.create(**response_body(c, "bg"), background=True)
    for _ in range(4):
        job = c.openai.responses.retrieve(job.id)


@kind
def background_failed(c: Program) -> None:
    c.provider.reply(status=500, message=c("bgerror"))
    with suppress(Exception):
        job = c.openai.responses.create(model="gpt-x", input=c("bgfailed"), background=True)
        for _ in range(4):
            c.openai.responses.retrieve(job.id)


@kind
def completion(c: Program) -> None:
    c.provider.reply(text=c("oldanswer"))
    c.openai.completions.create(model="old", prompt=c("oldprompt"), suffix=c("suffix"), user=c("olduser"))


@kind
def embedding(c: Program) -> None:
    c.openai.embeddings.create(model="e", input=[c("embedded")], user=c("embuser"))


@kind
def moderation(c: Program) -> None:
    c.openai.moderations.create(model="m", input=[c("moderated")])


@kind
def images(c: Program) -> None:
    settings: Any = {name: c(f"img{name}") for name in ("style", "size", "quality", "user", "moderation")}
    c.openai.images.generate(model="i", prompt=c("imageprompt"), **settings)
    c.openai.images.edit(model="i", image=(f"{c('imagename')}.png", b"png"), prompt=c("editprompt"), user=c("edituser"))


@kind
def sounds(c: Program) -> None:
    c.provider.reply(text=c("transcript"))
    sound: Any = {"model": "w", "file": (f"{c('soundname')}.wav", b"RIFF")}
    c.openai.audio.transcriptions.create(**sound, prompt=c("soundprompt"), language=c("language"))
    c.provider.reply(text=c("translation"))
    c.openai.audio.translations.create(**sound, prompt=c("translprompt"))
    c.openai.audio.speech.create(model="s", input=c("spoken"), voice=c("speechvoice"), instructions=c("speechhow"))


def lines_of(*lines: dict[str, Any]) -> bytes:
    """Return the results of a batch."""
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


def message_body(c: Program, of: str) -> dict[str, Any]:
    source = {"type": "text", "media_type": "text/plain", "data": c(f"document{of}")}
    document = {"type": "document", "title": c(f"title{of}"), "context": c(f"context{of}"), "source": source}
    used = {"type": "tool_use", "id": "t1", "name": "f", "input": {"a": c(f"atoolinput{of}")}}
    server = {"type": "url", "name": c(f"mcpname{of}"), "url": "https://m.example"}
    return {
        "model": "claude-x",
        "max_tokens": 50,
        "system": [{"type": "text", "text": c(f"asystem{of}")}],
        "messages": [
            *user([{"type": "text", "text": c(f"auser{of}")}, document]),
            {"role": "assistant", "content": [used]},
            *user([{"type": "tool_result", "tool_use_id": "t1", "content": c(f"atoolresult{of}")}]),
        ],
        "tools": [{"name": c(f"atool{of}"), "description": c(f"atooldesc{of}"), "input_schema": {"type": "object"}}],
        "stop_sequences": [c(f"astop{of}")],
        "metadata": {"user_id": c(f"auserid{of}")},
        "extra_body": {
            "style": c(f"astyle{of}"),
            "mcp_servers": [{**server, "authorization_token": c(f"mcptoken{of}")}],
            "mine": {"mode": c(f"amine{of}")},
        },
    }


@kind
def message(c: Program) -> None:
    c.provider.reply(text=c("aanswer"), reasoning=c("athought"), tool_calls=c.tools("message"))
    c.anthropic.messages.create(**message_body(c, "m"))


@kind
def message_stream(c: Program) -> None:
    c.provider.reply(text=c("asanswer"), tool_calls=c.tools("messagestream"))
    list(c.anthropic.messages.create(**message_body(c, "ms"), stream=True))


@kind
def message_error(c: Program) -> None:
    c.provider.reply(status=529, message=f"{c('aerror')}, x-api-key: {CLAUDES_KEY}")
    with suppress(anthropic.APIError):
        c.anthropic.messages.create(**message_body(c, "me"))


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
