"""The programs that `interrupts.py` interrupts: requests of both SDKs, a call recorded by hand, an agent's session."""

from __future__ import annotations

import asyncio
import json
import sys
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any, NamedTuple, TypeAlias
from unittest import mock

import openai
from opentelemetry import context as otel_context

import callspan
from callspan.testing import ReceivedRequest, ScriptedProvider
from tests.intercept.mode import Mode

MESSAGES: Any = [{"role": "user", "content": "hi"}]
REFUSES = "claude-fable-5"
BODY = {"model": "gpt-5", "messages": MESSAGES}
ANSWER = {
    "id": "c1", "object": "chat.completion", "model": "gpt-5",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "I am well."}}],
}  # fmt: skip

Trace = Callable[..., Any] | None


class Came(NamedTuple):
    """What has come of one run."""

    raised: BaseException | None
    attached: bool
    """An OpenTelemetry context stayed attached."""
    value: Any = None
    """What the program returned."""


class Use(ABC):
    """One way to use callspan: something to be interrupted, and what is done afterwards."""

    swallows: tuple[type[BaseException], ...] = ()
    """What the SDK itself keeps from the caller if it is raised while a request is sent."""
    paired = True
    """Each call has a span and a record."""
    replays = False
    """Doing it again reads the same: what is recorded of both together equals what undisturbed ones record."""
    creates = False
    """It creates something, so that each has a span of its own."""
    loses_content = False
    """What was read of a stream is not sent again."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.begun = 0
        """How often the SDK's own `request` was entered."""
        self.loop: asyncio.AbstractEventLoop | None = None
        self.task: asyncio.Task[Came] | None = None

    def prepare(self) -> Any:
        """Do what comes before, undisturbed; return what the runs need."""
        return None

    @abstractmethod
    def run(self, given: Any = None, trace: Trace = None) -> Came:
        """Do what is to be interrupted once, under a trace function."""

    def repeat(self, given: Any) -> Came:
        """Do it again, undisturbed."""
        return self.run(given)

    def elsewhere(self) -> bool:
        """Whether what runs now is a task that nobody waits for."""
        return self.loop is not None and asyncio.current_task(self.loop) is not self.task

    def settle(self) -> None:  # noqa: B027 - not all have something
        """Have done what the event loop still has to do."""

    def close(self) -> None:  # noqa: B027 - not all have something
        """Let go of what it uses."""


class Sync(Use):
    """One way to use callspan without an event loop."""

    def run(self, given: Any = None, trace: Trace = None) -> Came:
        return traced(self.work, trace)

    @abstractmethod
    def work(self) -> object:
        """Do it once."""


def traced(work: Callable[[], object], trace: Trace) -> Came:
    before = otel_context.get_current()
    raised: BaseException | None = None
    value: object = None
    sys.settrace(trace)
    try:
        value = work()
        sys.settrace(None)
    except BaseException as error:  # noqa: BLE001
        sys.settrace(None)
        raised = error
    return Came(raised, otel_context.get_current() is not before, value)


class Async(Use):
    """One way to use callspan in a coroutine."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.loop = asyncio.new_event_loop()
        # What a separate task has raised is reported there only.
        self.loop.set_exception_handler(lambda loop, context: None)

    @abstractmethod
    async def awaited(self) -> object:
        """Do it once."""

    def run(self, given: Any = None, trace: Trace = None) -> Came:
        return self.in_loop(self.awaited, trace)

    def in_loop(self, work: Callable[[], Awaitable[object]], trace: Trace) -> Came:
        assert self.loop is not None
        self.task = self.loop.create_task(_traced(work, trace))
        try:
            return self.loop.run_until_complete(self.task)
        except BaseException as error:  # noqa: BLE001 - raised in the event loop itself, or in another task
            sys.settrace(None)
            self.task.cancel()
            try:
                came = self.loop.run_until_complete(self.task)
            except BaseException:  # noqa: BLE001
                return Came(error, attached=False)
            return Came(error, came.attached)
        finally:
            self.task = None  # it holds what was raised, and that the call

    def settle(self) -> None:
        assert self.loop is not None
        # Generators that were left early are closed by tasks that the loop makes.
        for _ in range(3):
            self.loop.run_until_complete(asyncio.sleep(0))

    def close(self) -> None:
        assert self.loop is not None
        self.loop.run_until_complete(self.loop.shutdown_asyncgens())
        self.loop.close()


async def _traced(work: Callable[[], Awaitable[object]], trace: Trace) -> Came:
    before, raised = otel_context.get_current(), None
    value: object = None
    sys.settrace(trace)
    try:
        value = await work()
        sys.settrace(None)
    except BaseException as error:  # noqa: BLE001
        sys.settrace(None)
        raised = error
    return Came(raised, otel_context.get_current() is not before, value)


class Requests(NamedTuple):
    """Requests of an SDK's client, for clients of either colour."""

    run: Callable[[Mode, Any, Any], Awaitable[object]]
    """Takes the client and what `prepare` returned."""
    prepare: Callable[[Mode, Any], Awaitable[object]] | None = None
    again: Callable[[Mode, Any, Any], Awaitable[object]] | None = None
    """Reads what `run` has read, where that can't be done twice."""
    replays: bool = False
    creates: bool = False
    loses_content: bool = False
    paired: bool = False
    swallows: tuple[type[BaseException], ...] = ()


SHARED = ("replays", "creates", "loses_content", "paired", "swallows")


class SyncRequests(Sync):
    """Requests of a client."""

    def __init__(self, name: str, mode: Mode, client: Any, requests: Requests) -> None:
        super().__init__(name)
        self.mode, self.client, self.requests = mode, watched(client, self), requests
        vars(self).update({name: getattr(requests, name) for name in SHARED})

    def work(self) -> None:
        raise NotImplementedError

    def prepare(self) -> Any:
        return None if self.requests.prepare is None else finished(self.requests.prepare(self.mode, self.client))

    def run(self, given: Any = None, trace: Trace = None) -> Came:
        return traced(lambda: finished(self.requests.run(self.mode, self.client, given)), trace)

    def repeat(self, given: Any) -> Came:
        again = self.requests.again or self.requests.run
        return traced(lambda: finished(again(self.mode, self.client, given)), None)

    def close(self) -> None:
        finished(self.mode.close())


def finished(work: Awaitable[object]) -> Any:
    """The result of a coroutine that waits for nothing."""
    steps = work.__await__()
    try:
        next(steps)
    except StopIteration as done:
        return done.value
    raise AssertionError


class AsyncRequests(Async):
    """Requests of an asynchronous client."""

    def __init__(self, name: str, mode: Mode, client: Any, requests: Requests) -> None:
        super().__init__(name)
        self.mode, self.client, self.requests = mode, watched(client, self), requests
        vars(self).update({name: getattr(requests, name) for name in SHARED})

    async def awaited(self) -> None:
        raise NotImplementedError

    def prepare(self) -> Any:
        prepare = self.requests.prepare
        if prepare is None:
            return None
        came = self.in_loop(lambda: prepare(self.mode, self.client), None)
        if came.raised is not None:
            raise came.raised
        return came.value

    def run(self, given: Any = None, trace: Trace = None) -> Came:
        return self.in_loop(lambda: self.requests.run(self.mode, self.client, given), trace)

    def repeat(self, given: Any) -> Came:
        again = self.requests.again or self.requests.run
        return self.in_loop(lambda: again(self.mode, self.client, given), None)

    def close(self) -> None:
        assert self.loop is not None
        self.loop.run_until_complete(self.mode.close())
        super().close()


async def everything(mode: Mode, items: Any) -> None:
    """Read to the end, by the loop that an application would write."""
    if mode.is_async:
        async for _ in items:
            pass
    else:
        for _ in items:
            pass


async def plain(mode: Mode, client: Any, _: Any) -> None:
    await request(mode, client, stream=False)


async def stream(mode: Mode, client: Any, _: Any) -> None:
    await everything(mode, await request(mode, client, stream=True))


async def request(mode: Mode, client: Any, *, stream: bool) -> Any:
    if isinstance(client, openai.OpenAI | openai.AsyncOpenAI):
        return await mode.wait(client.chat.completions.create(model="gpt-5", messages=MESSAGES, stream=stream))
    return await mode.wait(client.messages.create(model="claude", max_tokens=9, messages=MESSAGES, stream=stream))


async def over_websocket(mode: Mode, client: Any, _: Any) -> None:
    """A response over a websocket; what is sent over the socket counts, as the SDK's `request` does."""
    import websockets.asyncio.client
    import websockets.sync.client

    kind: Any = (websockets.asyncio.client if mode.is_async else websockets.sync.client).ClientConnection
    send, use = kind.send, client.use

    def counted(self: Any, message: Any) -> Any:
        use.begun += 1
        return send(self, message)

    vars(client).pop("_prepare_options", None)  # a connection calls it too
    with mock.patch.object(kind, "send", counted):
        async with mode.entered(client.responses.connect()) as connection:
            await mode.wait(connection.send({"type": "response.create", "model": "gpt-5", "input": "hi"}))
            while (await mode.wait(connection.recv())).type != "response.completed":
                pass


async def speech(mode: Mode, client: Any, _: Any) -> None:
    """A call that is answered by a file."""
    (await mode.wait(client.audio.speech.create(model="tts-1", voice="alloy", input="hi"))).read()


async def transcript(mode: Mode, client: Any, _: Any) -> None:
    """A call that sends a form, and streams."""
    sound: Any = {"model": "gpt-4o-transcribe", "file": ("a.wav", b"sound")}
    await everything(mode, await mode.wait(client.audio.transcriptions.create(**sound, stream=True)))


async def create_background(mode: Mode, client: Any, _: Any = None) -> str:
    return str((await mode.wait(client.responses.create(model="gpt-5", input="hi", background=True))).id)


async def retrieve_background(mode: Mode, client: Any, response_id: Any) -> None:
    status = "queued"
    while status in ("queued", "in_progress"):
        status = (await mode.wait(client.responses.retrieve(response_id))).status


async def fall_back(mode: Mode, client: Any, _: Any) -> None:
    """A call whose first model refuses, so that the SDK's middleware asks another one."""
    await mode.wait(client.beta.messages.create(model=REFUSES, max_tokens=9, messages=MESSAGES))


async def fall_back_streaming(mode: Mode, client: Any, _: Any) -> None:
    create = client.beta.messages.create(model=REFUSES, max_tokens=9, messages=MESSAGES, stream=True)
    await everything(mode, await mode.wait(create))


CHAT = "/v1/chat/completions"
LINES = "\n".join(
    json.dumps({"custom_id": name, "method": "POST", "url": CHAT, "body": BODY}) for name in "ab"
).encode()


async def upload(mode: Mode, client: Any, _: Any = None) -> str:
    return str((await mode.wait(client.files.create(file=("in.jsonl", LINES), purpose="batch"))).id)


async def upload_and_create(mode: Mode, client: Any, _: Any) -> None:
    await create_file_batch(mode, client, await upload(mode, client))


async def create_file_batch(mode: Mode, client: Any, file_id: Any) -> str:
    create = client.batches.create(input_file_id=file_id, endpoint=CHAT, completion_window="24h")
    return str((await mode.wait(create)).id)


async def ended_file_batch(mode: Mode, client: Any) -> str:
    batch_id = await create_file_batch(mode, client, await upload(mode, client))
    while (batch := await mode.wait(client.batches.retrieve(batch_id))).status != "completed":
        pass
    return str(batch.output_file_id)


async def read_file_results(mode: Mode, client: Any, file_id: Any) -> None:
    content = await mode.wait(client.files.content(file_id))
    await everything(mode, await mode.wait(content.aiter_lines() if mode.is_async else content.iter_lines()))


async def create_message_batch(mode: Mode, client: Any, _: Any = None) -> str:
    params = {"model": "claude", "max_tokens": 9, "messages": MESSAGES}
    requests = [{"custom_id": name, "params": params} for name in "ab"]
    return str((await mode.wait(client.messages.batches.create(requests=requests))).id)


async def ended_message_batch(mode: Mode, client: Any) -> str:
    batch_id = await create_message_batch(mode, client)
    while (await mode.wait(client.messages.batches.retrieve(batch_id))).processing_status != "ended":
        pass
    return batch_id


async def read_message_results(mode: Mode, client: Any, batch_id: Any) -> None:
    await everything(mode, await mode.wait(client.messages.batches.results(batch_id)))


async def begin_session(mode: Mode, client: Any) -> str:
    agent: Any = {"type": "agent", "id": "agent_1", "model": "claude", "name": "Finder"}
    session_id = str((await mode.wait(client.beta.sessions.create(agent=agent, environment_id="env_1"))).id)
    message: Any = {"type": "user.message", "content": [{"type": "text", "text": "hi"}]}
    await mode.wait(client.beta.sessions.events.send(session_id, events=[message]))
    return session_id


async def stream_events(mode: Mode, client: Any, session_id: Any) -> None:
    await until(mode, await mode.wait(client.beta.sessions.events.stream(session_id)), "session.status_idle")


async def list_events(mode: Mode, client: Any, session_id: Any) -> None:
    await everything(mode, client.beta.sessions.events.list(session_id))


async def begin_agent(mode: Mode, client: Any) -> str:
    agent = {"model": "gpt-5", "name": "Finder", "instructions": "You find files."}
    create = client.beta.agents.sessions.create(agent=agent, environment={"type": "none"}, input="hi")
    return str((await mode.wait(create)).id)


async def stream_turns(mode: Mode, client: Any, session_id: Any) -> None:
    await until(mode, await mode.wait(client.beta.agents.sessions.events.stream(session_id)), "agent.session.idle")


async def list_turns(mode: Mode, client: Any, session_id: Any) -> None:
    await everything(mode, client.beta.agents.sessions.turns.list(session_id))


async def until(mode: Mode, events: Any, last: str) -> None:
    try:
        async for event in mode.items(events):
            if event.type == last:
                break
    finally:
        await mode.wait(events.close())


def watched(client: Any, use: Use) -> Any:
    """The client, which counts how often its `request` was entered, by a method that calls first."""
    original = client._prepare_options

    def prepare(options: Any) -> Any:
        use.begun += 1
        return original(options)

    client._prepare_options = prepare
    client.use = use
    return client


class ByHand(Sync):
    """A call recorded by hand."""

    def work(self) -> None:
        with callspan.record_call(provider="mine", api="chat_completions", model="gpt-5") as call:
            call.request(BODY)
            call.attempt_started()
            call.response_headers(200, {"x-request-id": "r1"})
            call.response(ANSWER)


class AgentBlocks(Sync):
    """A session with a step and a tool, as blocks."""

    def work(self) -> None:
        with (
            callspan.metadata(user_id="u1"),
            callspan.content("full"),
            callspan.session("gridworld", metadata={"seed": 7}) as session,
        ):
            session.observation({"at": 0})
            with session.timestep() as step:
                with step.tool("move", arguments={"to": 3}) as tool:
                    tool.result = "moved"
                with callspan.invoke_agent("planner") as agent:
                    agent.output = "go"
                step.action([3])
                with step.environment_step() as environment:
                    environment.set_result({"at": 3}, reward=1.0, terminated=True)
            session.outcome(reward=1.0, success=True)


class AgentBlocksAsync(Async):
    """A step alone with a tool, as blocks of a coroutine."""

    async def awaited(self) -> None:
        async with (
            callspan.session("gridworld"),
            callspan.timestep() as step,
            step.tool("move", arguments={"to": 3}) as tool,
        ):
            tool.result = "moved"
        async with callspan.timestep() as alone:
            alone.action([3])


@callspan.tool
def look(at: int) -> int:
    return at


@callspan.session
def play(at: int) -> int:
    return look(at)


@callspan.timestep
def steps(count: int) -> Iterator[int]:
    for number in range(count):
        yield look(number)


@callspan.session
def played(count: int) -> Iterator[int]:
    yield from steps(count)


@callspan.tool
async def look_async(at: int) -> int:
    return at


@callspan.session
async def play_async(count: int) -> AsyncIterator[int]:
    for number in range(count):
        yield await look_async(number)


class AgentDecorators(Sync):
    """Decorated functions and generators."""

    def work(self) -> None:
        play(1)
        for _ in played(2):
            pass
        callspan.copy_context(look)(1)


class AgentDecoratorsAsync(Async):
    """A decorated coroutine and a decorated asynchronous generator."""

    async def awaited(self) -> None:
        async for _ in play_async(2):
            pass
        await callspan.copy_context(look_async)(1)


AGENT: dict[str, Callable[[str], Use]] = {
    "recorded by hand": ByHand,
    "agent sync blocks": AgentBlocks,
    "agent async blocks": AgentBlocksAsync,
    "agent sync decorators": AgentDecorators,
    "agent async decorators": AgentDecoratorsAsync,
}
Table: TypeAlias = dict[str, Requests]
OPENAI: Table = {
    "plain": Requests(plain, paired=True),
    "stream": Requests(stream, paired=True),
    "create": Requests(create_background, paired=True),
    "retrieve": Requests(retrieve_background, create_background, replays=True),
    "upload": Requests(upload, again=upload_and_create),
    "batch": Requests(create_file_batch, upload, replays=True, creates=True),
    "results": Requests(read_file_results, ended_file_batch, replays=True),
    "hosted-stream": Requests(stream_turns, begin_agent, again=list_turns, replays=True, loses_content=True),
    "hosted-list": Requests(list_turns, begin_agent, replays=True),
    "websocket": Requests(over_websocket, paired=True),
    "speech": Requests(speech, paired=True),
    "transcript": Requests(transcript, paired=True),
}
ANTHROPIC: Table = {
    "plain": Requests(plain, paired=True),
    "stream": Requests(stream, paired=True),
    "batch": Requests(create_message_batch),
    "results": Requests(read_message_results, ended_message_batch, replays=True),
    "hosted-stream": Requests(stream_events, begin_session, again=list_events, replays=True),
    "hosted-list": Requests(list_events, begin_session, replays=True),
    # A fallback that fails is logged, and the refusal returned.
    "fallback": Requests(fall_back, paired=True, swallows=(Exception,)),
    "fallback-stream": Requests(fall_back_streaming, paired=True, swallows=(Exception,)),
}
TABLES = {"openai": OPENAI, "anthropic": ANTHROPIC}
USES = [f"{sdk} {colour} {what}" for sdk, table in TABLES.items() for what in table for colour in ("sync", "async")]
USES += AGENT


def use_named(name: str, provider: ScriptedProvider) -> Use:
    """Make what is to be interrupted."""
    if name in AGENT:
        return AGENT[name](name)
    sdk, colour, what = name.split()
    mode, requests, more = Mode(colour, provider), TABLES[sdk][what], {}
    if what.startswith("fallback"):
        from anthropic.lib.middleware import BetaRefusalFallbackMiddleware

        provider.reply(on=refuses, repeat=True, model=REFUSES, finish_reason="refusal")
        more["middleware"] = [BetaRefusalFallbackMiddleware([{"model": "claude-opus-4-8"}])]
    client = mode.openai(timeout=10) if sdk == "openai" else mode.anthropic(timeout=10, **more)
    return (AsyncRequests if mode.is_async else SyncRequests)(name, mode, client, requests)


def refuses(request: ReceivedRequest) -> bool:
    return bool(request.body.get("model") == REFUSES)
