"""The programs interrupted by `interrupts.py`: calls of both SDKs, manually recorded calls, and an agent's session."""

from __future__ import annotations

import asyncio
import json
import sys
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, NamedTuple

import anthropic
import openai
from opentelemetry import context as otel_context

import callspan
from callspan.testing import ReceivedRequest, ScriptedProvider

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


class Use(ABC):
    """One way to use callspan."""

    swallows: type[BaseException] | None = None
    """What the SDK itself keeps from the caller if it is raised while a request is sent."""
    paired = True
    """Each call has a span and a record."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.begun = 0
        """How often the SDK's own `request` was entered."""
        self.loop: asyncio.AbstractEventLoop | None = None
        self.task: asyncio.Task[Came] | None = None

    def run(self, trace: Trace = None) -> Came:
        """Do it once under a trace function."""
        before = otel_context.get_current()
        raised: BaseException | None = None
        sys.settrace(trace)
        try:
            self.work()
            sys.settrace(None)
        except BaseException as error:  # noqa: BLE001
            sys.settrace(None)
            raised = error
        return Came(raised, otel_context.get_current() is not before)

    @abstractmethod
    def work(self) -> None:
        """Do it once."""

    def elsewhere(self) -> bool:
        """Whether what runs now is a task that nobody waits for."""
        return self.loop is not None and asyncio.current_task(self.loop) is not self.task

    def settle(self) -> None:  # noqa: B027 - not all have something
        """Have done what the event loop still has to do."""

    def close(self) -> None:  # noqa: B027 - not all have something
        """Let go of what it uses."""


class Async(Use):
    """One way to use callspan in a coroutine."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.loop = asyncio.new_event_loop()
        # What a separate task has raised is reported there only.
        self.loop.set_exception_handler(lambda loop, context: None)

    def work(self) -> None:
        raise NotImplementedError

    @abstractmethod
    async def awaited(self) -> None:
        """Do it once."""

    def run(self, trace: Trace = None) -> Came:
        assert self.loop is not None
        self.task = self.loop.create_task(self._run(trace))
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

    async def _run(self, trace: Trace) -> Came:
        before, raised = otel_context.get_current(), None
        sys.settrace(trace)
        try:
            await self.awaited()
            sys.settrace(None)
        except BaseException as error:  # noqa: BLE001
            sys.settrace(None)
            raised = error
        return Came(raised, otel_context.get_current() is not before)

    def settle(self) -> None:
        assert self.loop is not None
        # Generators that were left early are closed by tasks that the loop makes.
        for _ in range(3):
            self.loop.run_until_complete(asyncio.sleep(0))

    def close(self) -> None:
        assert self.loop is not None
        self.loop.run_until_complete(self.loop.shutdown_asyncgens())
        self.loop.close()


class SyncCall(Use):
    """A call of an SDK's client."""

    def __init__(self, name: str, client: Any, *, stream: bool) -> None:
        super().__init__(name)
        self.client, self.stream = watched(client, self), stream

    def work(self) -> None:
        result = request(self.client, stream=self.stream)
        if self.stream:
            for _ in result:
                pass

    def close(self) -> None:
        self.client.close()


class AsyncCall(Async):
    """A call of an SDK's asynchronous client."""

    def __init__(self, name: str, client: Any, *, stream: bool) -> None:
        super().__init__(name)
        self.client, self.stream = watched(client, self), stream

    async def awaited(self) -> None:
        result = await request(self.client, stream=self.stream)
        if self.stream:
            async for _ in result:
                pass

    def close(self) -> None:
        assert self.loop is not None
        self.loop.run_until_complete(self.client.close())
        super().close()


class Speech(SyncCall):
    """A call that is answered by a file."""

    def work(self) -> None:
        self.client.audio.speech.create(model="tts-1", voice="alloy", input="hi").read()


class Transcript(AsyncCall):
    """A call that sends a form, and streams."""

    async def awaited(self) -> None:
        sound: Any = {"model": "gpt-4o-transcribe", "file": ("a.wav", b"sound")}
        async for _ in await self.client.audio.transcriptions.create(**sound, stream=True):
            pass


class Background(SyncCall):
    """A background response that is created and then fetched until it has ended."""

    def work(self) -> None:
        response = self.client.responses.create(model="gpt-5", input="hi", background=True)
        while response.status in ("queued", "in_progress"):
            response = self.client.responses.retrieve(response.id)


class Fallback(SyncCall):
    """A call whose first model refuses, so that the SDK's middleware asks another one."""

    swallows = Exception  # a fallback that fails is logged, and the refusal returned

    def work(self) -> None:
        result = self.client.beta.messages.create(model=REFUSES, max_tokens=9, messages=MESSAGES, stream=self.stream)
        if self.stream:
            for _ in result:
                pass


class FallbackAsync(AsyncCall):
    """The same in a coroutine."""

    swallows = Exception

    async def awaited(self) -> None:
        request: Any = {"model": REFUSES, "max_tokens": 9, "messages": MESSAGES}
        result = await self.client.beta.messages.create(**request, stream=self.stream)
        if self.stream:
            async for _ in result:
                pass


class MessageBatch(SyncCall):
    """A batch of two messages, whose results are read."""

    paired = False

    def work(self) -> None:
        batches = self.client.messages.batches
        params = {"model": "claude", "max_tokens": 9, "messages": MESSAGES}
        batch = batches.create(requests=[{"custom_id": name, "params": params} for name in "ab"])
        while batches.retrieve(batch.id).processing_status != "ended":
            pass
        for _ in batches.results(batch.id):
            pass


class FileBatch(SyncCall):
    """A batch of two lines of a file, whose output is read."""

    paired = False

    def work(self) -> None:
        url, client = "/v1/chat/completions", self.client
        lines = [{"custom_id": name, "method": "POST", "url": url, "body": BODY} for name in "ab"]
        file = client.files.create(file=("in.jsonl", "\n".join(map(json.dumps, lines)).encode()), purpose="batch")
        batch = client.batches.create(input_file_id=file.id, endpoint=url, completion_window="24h")
        while batch.status != "completed":
            batch = client.batches.retrieve(batch.id)
        for _ in client.files.content(batch.output_file_id).iter_lines():
            pass


class HostedSession(SyncCall):
    """A session of a hosted agent, whose events are streamed and then listed."""

    paired = False

    def work(self) -> None:
        agent: Any = {"type": "agent", "id": "agent_1", "model": "claude", "name": "Finder"}
        sessions = self.client.beta.sessions
        session_id = sessions.create(agent=agent, environment_id="env_1").id
        message: Any = {"type": "user.message", "content": [{"type": "text", "text": "hi"}]}
        sessions.events.send(session_id, events=[message])
        with sessions.events.stream(session_id) as stream:
            for event in stream:
                if event.type == "session.status_idle":
                    break
        for _ in sessions.events.list(session_id):
            pass


def request(client: Any, *, stream: bool) -> Any:
    if isinstance(client, openai.OpenAI | openai.AsyncOpenAI):
        return client.chat.completions.create(model="gpt-5", messages=MESSAGES, stream=stream)
    return client.messages.create(model="claude", max_tokens=9, messages=MESSAGES, stream=stream)


def watched(client: Any, use: Use) -> Any:
    """The client, which counts how often its `request` was entered, by a method that calls first."""
    original = client._prepare_options

    def prepare(options: Any) -> Any:
        use.begun += 1
        return original(options)

    client._prepare_options = prepare
    return client


class ByHand(Use):
    """A call recorded by hand."""

    def work(self) -> None:
        with callspan.record_call(provider="mine", api="chat_completions", model="gpt-5") as call:
            call.request(BODY)
            call.attempt_started()
            call.response_headers(200, {"x-request-id": "r1"})
            call.response(ANSWER)


class AgentBlocks(Use):
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


class AgentDecorators(Use):
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
SDKS = [
    f"{sdk} {manner} {how}"
    for sdk in ("openai", "anthropic")
    for manner in ("sync", "async")
    for how in ("plain", "stream")
]
OTHER_ENDPOINTS: dict[str, Callable[..., SyncCall | AsyncCall]] = {
    "openai sync speech": Speech,
    "openai async transcript": Transcript,
    "openai sync background": Background,
    "openai sync batch": FileBatch,
    "anthropic sync batch": MessageBatch,
    "anthropic sync hosted": HostedSession,
    "anthropic sync fallback": Fallback,
    "anthropic sync fallback-stream": Fallback,
    "anthropic async fallback-stream": FallbackAsync,
}
USES = [*SDKS, *OTHER_ENDPOINTS, *AGENT]


def use_named(name: str, provider: ScriptedProvider) -> Use:
    """Make what is to be interrupted."""
    if name in AGENT:
        return AGENT[name](name)
    sdk, manner, how = name.split()
    kinds: Any = {
        ("openai", "sync"): openai.OpenAI,
        ("openai", "async"): openai.AsyncOpenAI,
        ("anthropic", "sync"): anthropic.Anthropic,
        ("anthropic", "async"): anthropic.AsyncAnthropic,
    }
    url = provider.openai_url if sdk == "openai" else provider.anthropic_url
    more: dict[str, Any] = {}
    if how.startswith("fallback"):
        from anthropic.lib.middleware import BetaRefusalFallbackMiddleware

        provider.reply(on=refuses, repeat=True, model=REFUSES, finish_reason="refusal")
        more["middleware"] = [BetaRefusalFallbackMiddleware([{"model": "claude-opus-4-8"}])]
    client = kinds[sdk, manner](api_key="k", base_url=url, max_retries=0, timeout=10, **more)
    call = OTHER_ENDPOINTS.get(name) or (SyncCall if manner == "sync" else AsyncCall)
    return call(name, client, stream=how.endswith("stream"))


def refuses(request: ReceivedRequest) -> bool:
    return bool(request.body.get("model") == REFUSES)
