"""Random programs over the session API: the same seed gives the same program with any version of callspan.

A program opens scopes in every way, records in them, and is interrupted anywhere. After each statement it notes what is
current, so that two versions can be compared statement by statement.
"""

from __future__ import annotations

import asyncio
import contextvars
import gc
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from datetime import datetime, timezone
from functools import partial
from random import Random
from typing import Any, Final

from opentelemetry.instrumentation.utils import suppress_instrumentation
from opentelemetry.trace import format_span_id, get_current_span

import callspan
from callspan import UsageError

START_NS: Final = 1_700_000_000_000_000_000
"""The time at which a program with its own clock starts."""
_MAX_DEPTH: Final = 7
_SESSION_IDS: Final = ("episode-1", "episode-2", "episode-3")


class BoomError(Exception):
    """Raised by a program."""


_RAISED: Final[tuple[Callable[[], BaseException], ...]] = (
    lambda: BoomError("no"), lambda: ValueError("bad"), lambda: TimeoutError("late"), KeyboardInterrupt, SystemExit,
    asyncio.CancelledError, GeneratorExit, lambda: UsageError("of the application"),
)  # fmt: skip


class RaisingNumber:
    """A number of the application that is interrupted while it is read."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __float__(self) -> float:
        raise self.error

    def __bool__(self) -> bool:
        raise self.error


def driven(coroutine: Any) -> Any:
    """Return the result of a coroutine that awaits nothing, without an event loop."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value
    raise AssertionError("it waits")


class Program:
    """One random program. `run` never raises; `log` says what it saw."""

    def __init__(self, seed: int, *, forget: Callable[[], AbstractContextManager[None]], tick: Callable[[], object]):
        """`forget` is the context of another process; `tick` is called before each statement."""
        self.random = Random(seed)
        self.log: list[str] = []
        self._forget, self._tick = forget, tick
        self._left = self.random.randint(8, 120)
        self._number = 0
        self.scopes: list[Any] = []
        """Everything that was opened, in any state."""
        self._ids: list[Any] = [*_SESSION_IDS, "unknown"]
        self._carriers: list[Any] = [{}, {"callspan-session": "episode-9"}, None]
        self._generators: list[Any] = []
        self._contexts: list[contextvars.Context] = []
        self._functions: list[Callable[[], object]] = []
        self._environments: list[Any] = []

    def run(self) -> None:
        """Run the statements; close what is left."""
        while self._left > 0:
            with self._noting("program"):
                self._block(0)
        with self._noting("rest"):
            for generator in self._generators:
                self._finish_generator(generator)
            self._generators.clear()
            gc.collect()
            for scope in reversed(self.scopes):
                if self.chance(0.8):
                    scope.end()

    # What a program chooses.

    def chance(self, probability: float) -> bool:
        return self.random.random() < probability

    def pick(self, items: Any) -> Any:
        return self.random.choice(items)

    def maybe(self, value: Any, probability: float = 0.3) -> Any:
        return value if self.chance(probability) else None

    def next_name(self) -> str:
        self._number += 1
        return f"n{self._number}"

    def time(self) -> Any:
        """A time as an argument; most often none."""
        if self.chance(0.85):
            return None
        ns = START_NS + self.random.randint(-10_000, 10_000) * 1_000_000
        moment = datetime.fromtimestamp(ns / 1e9, timezone.utc)
        return self.pick([ns, ns, ns, ns / 1e9, moment, moment.replace(tzinfo=None), 12, "soon", float("nan")])

    def number(self) -> Any:
        """A reward; sometimes none, an invalid one, or one that raises."""
        if self.chance(0.04):
            return RaisingNumber(self.error())
        return self.pick([0.5, 1, -2.25, 0.1, 3, True, None, float("nan"), "high"])

    def flag(self) -> Any:
        if self.chance(0.03):
            return RaisingNumber(self.error())
        return self.pick([None, None, True, False, 1])

    def text(self) -> Any:
        return self.pick(["a", "b", "look", 7, None, "", "\ud800x", object])

    def value(self) -> Any:
        return self.pick(
            ["text", 1, None, {"to": "east"}, {"to": "west"}, ["x", 2], {"a": {"b": [1]}}, object(), '{"k": 1}']
        )

    def metadata(self) -> Any:
        return self.pick(
            [None, None, None, {"k": 1, "none": None}, {"user_id": "u9", "extra": {"x": 1}}, "word", {3: 4}]
        )

    def error(self) -> BaseException:
        return self.pick(_RAISED)()

    def scope(self) -> Any:
        """Any scope that was opened; None if there is none."""
        recent = self.scopes[-4:] if self.chance(0.7) else self.scopes
        return self.pick(recent) if recent else None

    def recorder(self) -> Any:
        """A session or timestep, of the current ones or any."""
        if self.chance(0.6):
            current = self.pick([callspan.current_session, callspan.current_timestep])()
            if current is not None:
                return current
        recorders = [scope for scope in self.scopes if isinstance(scope, callspan.Session | callspan.Timestep)]
        return self.pick(recorders) if recorders else None

    def target(self) -> Any:
        """What may name a record: an id, a scope, anything."""
        return self.pick([*self._ids[-8:], *self.scopes[-3:], 3.5])

    # Scopes.

    def new_scope(self) -> Any:
        make = self.pick([self._session, self._session, self._timestep, self._timestep, self._timestep, self._operation,
                          self._operation, self._operation, self._environment_step])  # fmt: skip
        scope = make()
        self.scopes.append(scope)
        return scope

    def _session(self) -> Any:
        recorder, random = self.recorder(), self.random
        return callspan.session(
            self.maybe(self.next_name(), 0.8), session_id=self.maybe(self.pick(_SESSION_IDS), 0.25),
            user_id=self.maybe("u1"), group_id=self.maybe("g"), task_id=self.maybe("t"), experiment=self.maybe("e"),
            metadata=self.metadata(), carrier=self.maybe(self.pick(self._carriers), 0.2),
            parent=self.maybe(random.choice([recorder, "episode-1", 3.5]), 0.15), at=self.time(),
        )  # fmt: skip

    def _timestep(self) -> Any:
        make, recorder = callspan.timestep, self.recorder()
        if isinstance(recorder, callspan.Session) and self.chance(0.6):
            make = recorder.timestep
        return make(self.maybe(self.next_name(), 0.6), self.maybe(self.random.randint(0, 5)), self.metadata(),
                    step_id=self.maybe(self.pick(["s1", "s2", ""])), at=self.time())  # fmt: skip

    def _operation(self) -> Any:
        owner = self.recorder() if self.chance(0.4) else None
        owner = callspan if owner is None else owner
        kind = self.pick(["tool", "tool", "invoke_agent", "guardrail"])
        common = {
            "system": self.maybe("sys"),
            "metadata": self.metadata(),
            "sequence": self.maybe(self.random.randint(0, 9)),
        }
        name = self.maybe(self.next_name(), 0.8)
        if kind == "tool":
            arguments = self.pick([{"to": "east"}, {"to": "west"}, {}, None, '{"to": "east"}', 3])
            call = self.maybe(
                self.pick(["call_1", "call_2", self.target(), {"id": "call_3", "name": "move", "input": {}}]), 0.25
            )
            return owner.tool(self.pick([name, "move"]), call, arguments, **common)
        more = {"description": self.maybe("about")} if kind == "invoke_agent" else {}
        return getattr(owner, kind)(name, input=self.value(), **more, **common)

    def _environment_step(self) -> Any:
        recorder = self.recorder()
        if recorder is None:
            return self._operation()
        return recorder.environment_step(self.value(), system=self.maybe("world"), metadata=self.metadata(),
                                         sequence=self.maybe(3))  # fmt: skip

    def set_result(self, scope: Any) -> None:
        """Set a result or an error on an operation."""
        if hasattr(scope, "set_result") and self.chance(0.7):
            scope.set_result(self.value(), self.number(), self.flag(), self.flag(), self.value())
        if hasattr(scope, "output") and self.chance(0.6):
            scope.output = self.value()
        if hasattr(scope, "triggered") and self.chance(0.6):
            scope.triggered = self.flag()
        if hasattr(scope, "error") and self.chance(0.15):
            scope.error = self.pick(["gave up", BoomError("inside"), None])

    # Statements.

    def _block(self, depth: int) -> None:
        for _ in range(self.random.randint(1, 4)):
            if self._left > 0:
                self._statement(depth + 1)

    def _statement(self, depth: int) -> None:
        self._left -= 1
        self._tick()
        leaf = depth >= _MAX_DEPTH or self.chance(0.35)
        name = self.pick(_LEAVES if leaf else _BLOCKS)
        try:
            getattr(self, name)(depth)
        except UsageError as error:
            self._note(f"{name} is misuse: {error}")
        except BaseException as error:
            self._note(f"{name} raised {error!r}")
            raise
        else:
            self._note(name)

    def _note(self, what: str) -> None:
        span = get_current_span().get_span_context().span_id
        self.log.append(
            f"{what} | {callspan.current_session()!r} {callspan.current_timestep()!r} {format_span_id(span)}"
            f" {callspan.last_call_id()}"
        )

    @contextmanager
    def _noting(self, what: str) -> Iterator[None]:
        try:
            yield
        except BaseException as error:  # noqa: BLE001 - what a program raises
            self.log.append(f"{what} ended with {error!r}")

    def open_with(self, depth: int) -> None:
        with self.new_scope() as scope:
            self._note(f"in {scope!r}")
            self._block(depth)
            self.set_result(scope)
        self.log.append(f"left {scope!r}")

    def open_async(self, depth: int) -> None:
        async def work() -> None:
            async with self.new_scope() as scope:
                self._block(depth)
                self.set_result(scope)

        driven(work())

    def open_started(self, depth: int) -> None:
        scope = self.new_scope()
        scope.start(current=self.chance(0.7), at=self.time())
        if self.chance(0.5):
            self._block(depth)
            self.set_result(scope)
            scope.end(self.maybe(self.error(), 0.2), at=self.time())

    def open_twice(self, depth: int) -> None:
        scope = self.scope() or self.new_scope()
        with scope, scope:
            self._block(depth)

    def use(self, depth: int) -> None:
        if (scope := self.scope()) is not None:
            with scope.using():
                self._note("using")
                self._block(depth)

    def end(self, depth: int) -> None:
        if (scope := self.scope()) is not None:
            self.set_result(scope)
            end = partial(scope.end, self.maybe(self.error(), 0.3), at=self.time())
            self.pick([lambda run: run(), lambda run: run(), contextvars.copy_context().run, in_thread])(end)

    def attempt(self, depth: int) -> None:
        try:
            self._block(depth)
        except BaseException as error:  # noqa: BLE001 - whatever the block raises
            self.log.append(f"caught {error!r}")

    def fail(self, depth: int) -> None:
        raise self.error()

    def with_metadata(self, depth: int) -> None:
        fields = self.pick([{"user_id": "u2"}, {"run_id": "r", "own": 1}, {"tags": ["a", 2]}, {"extra": {"y": 2}}])
        with callspan.metadata(**fields):
            self._block(depth)

    def with_content(self, depth: int) -> None:
        with callspan.content(self.pick(["full", "metadata", "off"])):
            self._block(depth)

    def with_required_session(self, depth: int) -> None:
        with callspan.session(require=True):
            self._block(depth)

    def with_suppression(self, depth: int) -> None:
        with suppress_instrumentation():
            self._block(depth)

    def with_block_left_elsewhere(self, depth: int) -> None:
        block = self.pick([lambda: callspan.metadata(run_id="left"), lambda: callspan.content("metadata"),
                           lambda: callspan.session(require=True)])()  # fmt: skip
        inside, outside = self.pick([(True, False), (False, True), (False, False)])
        (block.__enter__ if inside else partial(contextvars.copy_context().run, block.__enter__))()
        try:
            self._block(depth)
        finally:
            (partial(block.__exit__, None, None, None) if outside
             else partial(contextvars.copy_context().run, block.__exit__, None, None, None))()  # fmt: skip

    def in_copy(self, depth: int) -> None:
        context = contextvars.copy_context()
        self._contexts.append(context.copy())
        context.run(self._block, depth)

    def in_saved_context(self, depth: int) -> None:
        if self._contexts:
            self.pick(self._contexts).copy().run(self._block, depth)

    def in_plain_thread(self, depth: int) -> None:
        in_thread(partial(self._block, depth))

    def in_copied_thread(self, depth: int) -> None:
        in_thread(callspan.copy_context(partial(self._block, depth)))

    def copied_function(self, depth: int) -> None:
        self._functions.append(callspan.copy_context(lambda: self._note("copied function")))

    def run_function(self, depth: int) -> None:
        if self._functions:
            self.pick(self._functions)()

    def in_other_process(self, depth: int) -> None:
        with self._forget():
            contextvars.Context().run(self._block, depth)

    def in_tasks(self, depth: int) -> None:
        """Two tasks of an event loop that runs in a thread, in a copy of this context."""

        async def task(number: int) -> None:
            self._statement(depth + 2)
            await asyncio.sleep(0)
            async with self.new_scope():
                await asyncio.sleep(0)
                self._statement(depth + 2)
            self.log.append(f"task {number} done")

        async def tasks() -> None:
            running = [asyncio.ensure_future(task(number)) for number in range(2)]
            await asyncio.sleep(0)
            if self.chance(0.3):
                running[0].cancel()
            results = await asyncio.gather(*running, return_exceptions=True)
            self.log.append(f"tasks: {results!r}")

        in_thread(partial(contextvars.copy_context().run, asyncio.run, tasks()))

    # Decorators.

    def decorator(self) -> Any:
        return self.pick([
            callspan.session, callspan.timestep, callspan.tool, callspan.invoke_agent, callspan.guardrail,
            callspan.session("d"), callspan.timestep("d", 1), callspan.tool("d", arguments={"to": "east"}),
            callspan.invoke_agent("d", input="i"), callspan.guardrail("d"), callspan.session(require=True),
            callspan.session(session_id="episode-1"), callspan.copy_context,
        ])  # fmt: skip

    def call_decorated(self, depth: int) -> None:
        @self.decorator()
        def work(first: object, *, second: object = 2, **others: object) -> object:
            self._block(depth)
            return self.pick([first, True, None])

        work(self.value(), second=1) if self.chance(0.7) else work("x", third=3)

    def call_coroutine(self, depth: int) -> None:
        async def work(self_: object, second: object = 2) -> object:
            self._block(depth)
            return second

        returned = self.chance(0.4)
        function = self.decorator()(passing_on(work) if returned else work)
        coroutine = function(self.value())
        if self.chance(0.15):
            coroutine.close()
            del coroutine
            gc.collect()
        else:
            context = self.pick([lambda run: run(), contextvars.copy_context().run, in_thread])
            context(partial(driven, coroutine))

    def new_generator(self, depth: int) -> None:
        def items(value: object) -> Iterator[object]:
            with ExitStack() as stack:
                if self.chance(0.5):
                    stack.enter_context(self.new_scope())
                if self.chance(0.2):
                    stack.enter_context(callspan.metadata(run_id="of a generator"))
                self._block(depth)
                sent = yield value
                self._note(f"sent {sent!r}")
                self._block(depth)
                try:
                    yield 2
                except BoomError:
                    self._note("thrown")
                    yield 3
            return

        returned = self.chance(0.3)
        function = passing_on(items) if returned else items
        if self.chance(0.8):
            function = self.decorator()(function)
        self._generators.append(function("first"))
        self.advance(depth)

    def new_async_generator(self, depth: int) -> None:
        async def items(value: object) -> AsyncIterator[object]:
            async with self.new_scope():
                self._block(depth)
                yield value
                self._block(depth)
                try:
                    yield 2
                except BoomError:
                    self._note("thrown")
                    yield 3

        returned = self.chance(0.3)
        function = passing_on(items) if returned else items
        if self.chance(0.8):
            function = self.decorator()(function)
        self._generators.append(function("first"))
        self.advance(depth)

    def advance(self, depth: int) -> None:
        """Advance a generator, perhaps elsewhere."""
        if not self._generators:
            return
        generator = self.pick(self._generators)
        act = self.pick(["next", "next", "send", "throw"])
        where = self.pick([lambda run: run(), lambda run: run(), contextvars.copy_context().run, in_thread])
        with suppress(StopIteration, StopAsyncIteration):
            item = where(partial(_advanced, generator, act))
            self._note(f"item {item!r}")

    def finish(self, depth: int) -> None:
        if self._generators:
            self._finish_generator(self._generators.pop(self.random.randrange(len(self._generators))))

    def _finish_generator(self, generator: Any) -> None:
        way = self.pick(["exhaust", "close", "drop"])
        where = self.pick([lambda run: run(), contextvars.copy_context().run, in_thread])
        if way == "exhaust":
            with suppress(StopIteration, StopAsyncIteration):
                for _ in range(5):
                    where(partial(_advanced, generator, "next"))
        elif way == "close" or not hasattr(generator, "send"):
            _require_rest(generator)
            where(generator.close if hasattr(generator, "close") else lambda: driven(generator.aclose()))
        else:
            del generator
            gc.collect()

    # Records.

    def message(self, depth: int) -> None:
        if (recorder := self.recorder()) is not None:
            self._ids.append(recorder.message(
                self.value(), self.pick(["observation", "note", ""]), call=self.maybe(self.target(), 0.1),
                causal_influence=self.pick([(), (), self._ids[-2:], self.target()]), metadata=self.metadata(),
                sequence=self.maybe(4), at=self.time(),
            ))  # fmt: skip

    def observation(self, depth: int) -> None:
        if (recorder := self.recorder()) is not None:
            self._ids.append(recorder.observation(self.value(), at=self.time()))

    def action(self, depth: int) -> None:
        if (recorder := self.recorder()) is not None:
            self._ids.append(recorder.action(self.value(), system=self.maybe(self.text()), metadata=self.metadata()))

    def event(self, depth: int) -> None:
        if (recorder := self.recorder()) is not None:
            self._ids.append(recorder.event(
                self.pick(["own", "reset", "own", None]), self.value(), self.text(),
                call=self.maybe(self.target(), 0.1),
                error=self.pick([None, None, "failed", BoomError("x")]), metadata=self.metadata(), at=self.time(),
            ))  # fmt: skip

    def environment(self, depth: int) -> None:
        if (recorder := self.recorder()) is not None:
            self._ids.append(recorder.environment(
                self.value(), self.number(), self.flag(), self.flag(), self.value(), self.maybe(self.value()),
                metadata=self.metadata(), at=self.time(),
            ))  # fmt: skip

    def reward(self, depth: int) -> None:
        if (recorder := self.recorder()) is not None:
            self._ids.append(recorder.reward(
                self.number(), self.pick(["reward", "reward", "style", None]), self.text(), self.text(),
                label=self.maybe(self.pick(["thumbs_up", "False", "fine"])), event=self.maybe(self.target()),
                at=self.time(),
            ))  # fmt: skip

    def outcome(self, depth: int) -> None:
        if isinstance(recorder := self.recorder(), callspan.Session):
            recorder.outcome(self.maybe(self.number()), self.flag(), self.maybe(self.text()), at=self.time())

    def update(self, depth: int) -> None:
        if (recorder := self.recorder()) is None:
            return
        more = (
            {"task_id": self.maybe("t2"), "user_id": self.maybe("u3")} if isinstance(recorder, callspan.Session) else {}
        )
        recorder.update(self.maybe(self.text()), self.metadata(), **more)

    def handoff(self, depth: int) -> None:
        owner = self.pick([callspan, self.recorder() or callspan])
        self._ids.append(owner.handoff(
            self.next_name(), self.maybe("from"), call=self.maybe("call_1"), reason=self.value(), at=self.time()
        ))  # fmt: skip

    def late_reward(self, depth: int) -> None:
        names = ["session_id", "timestep_id", "event_id", "call_id"]
        targets = {name: self.target() for name in names if self.chance(0.3)}
        carrier = self.maybe(self.pick(self._carriers), 0.1)
        self._ids.append(callspan.reward(self.number(), **targets, objective=self.pick(["reward", "style"]),
                                         source=self.maybe("judge"), carrier=carrier, at=self.time()))  # fmt: skip

    def feedback(self, depth: int) -> None:
        call = self.pick([callspan.last_call_id(), self.target()])
        self._ids.append(callspan.feedback(call, self.number(), label=self.pick([None, True, "thumbs_down"]),
                                           carrier=self.maybe(self.pick(self._carriers), 0.1)))  # fmt: skip

    def carrier(self, depth: int) -> None:
        if isinstance(recorder := self.recorder(), callspan.Session):
            self._carriers.append(recorder.carrier())

    def target_ids(self, depth: int) -> None:
        if (scope := self.scope()) is not None:
            self._ids.append(scope.id)

    def model_call(self, depth: int) -> None:
        """A call whose answer asks for up to two tools."""
        requests = [
            ("call_1", "move", '{"to": "east"}'),
            ("call_2", "move", '{"to": "west"}'),
            ("call_3", "look", "{}"),
        ]
        tool_calls = [
            {"id": identity, "type": "function", "function": {"name": name, "arguments": arguments}}
            for identity, name, arguments in self.random.sample(requests, self.random.randint(0, 2))
        ]
        message = {"role": "assistant", "content": "East.", **({"tool_calls": tool_calls} if tool_calls else {})}
        usage = {"prompt_tokens": 12, "completion_tokens": 7, "total_tokens": 19}
        with callspan.record_call(provider="mine", model="m", at=self.time()) as call:
            call.request({"model": "m", "messages": [{"role": "user", "content": "Where?"}]})
            if self.chance(0.2):
                self._block(depth + 3)
            if self.chance(0.85):
                call.response({"id": f"r-{self.next_name()}", "model": "m", "choices": [{"index": 0, "message": message,
                               "finish_reason": "stop"}], "usage": usage})  # fmt: skip
        self._ids.append(call.call_id)

    def new_environment(self, depth: int) -> None:
        self._environments.append(traced(self.next_name(), self.random.randint(1, 4), user_id=self.maybe("u5")))
        self._environments[-1].reset(seed=self.maybe(7))

    def step_environment(self, depth: int) -> None:
        if self._environments:
            self._note(repr(self.pick(self._environments).step(self.random.randint(0, 4))))

    def leave_environment(self, depth: int) -> None:
        if self._environments:
            environment = self.pick(self._environments)
            (environment.reset if self.chance(0.5) else environment.close)()
            self.scopes += [environment.session, environment.timestep] if environment.timestep is not None else []

    def look(self, depth: int) -> None:
        scope = self.scope()
        self.log.append(repr([scope, getattr(scope, "session", None), getattr(scope, "index", None),
                              getattr(scope, "tool_call_id", None), getattr(scope, "state", None)]))  # fmt: skip


def traced(name: str, length: int, **arguments: Any) -> Any:
    """A recorded environment that ends after `length` steps, and raises for the action 0."""
    import gymnasium

    from callspan.environments.gymnasium import Traced

    class Corridor(gymnasium.Env[Any, Any]):
        at = 0

        def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
            self.at = 0
            return {"at": 0}, {}

        def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
            if action == 0:
                raise BoomError("no way")
            self.at += 1
            return {"at": self.at}, 0.5, self.at >= length, action == 4, {"action": action}

    return Traced(Corridor(), name, **arguments)


def passing_on(function: Callable[..., Any]) -> Callable[..., Any]:
    """A plain function that returns what another makes."""

    def called(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return called


def _require_rest(generator: Any) -> None:
    """Raise ValueError if a generator is running, as CPython does.

    Before 3.12 it first looks for what such a generator awaits, in a frame that is executing, and may crash.
    """
    if getattr(generator, "gi_running", False):
        raise ValueError("generator already executing")


def _advanced(generator: Any, act: str) -> Any:
    _require_rest(generator)
    if hasattr(generator, "asend"):
        step = {
            "next": generator.__anext__,
            "send": partial(generator.asend, None),
            "throw": partial(generator.athrow, BoomError("t")),
        }
        return driven(step[act]())
    step = {
        "next": partial(next, generator),
        "send": partial(generator.send, None),
        "throw": partial(generator.throw, BoomError("t")),
    }
    return step[act]()


def in_thread(work: Callable[[], Any]) -> Any:
    """Run in a new thread, and return or raise what it does."""
    results: list[Any] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(work())
        except BaseException as error:  # noqa: BLE001 - raised again
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if errors:
        raise errors.pop()
    return results.pop()


_LEAVES: Final = (
    "end", "fail", "message", "observation", "action", "event", "environment", "reward", "reward", "outcome", "update",
    "handoff", "late_reward", "late_reward", "feedback", "carrier", "target_ids", "model_call", "model_call", "look",
    "new_environment", "step_environment", "step_environment", "leave_environment", "copied_function", "run_function",
    "advance", "finish", "environment", "event",
)  # fmt: skip
_BLOCKS: Final = (
    *["open_with"] * 12, *["open_async"] * 2, *["open_started"] * 3, "open_twice", "use", *["attempt"] * 4,
    "with_metadata", "with_content", "with_required_session", "with_suppression", "with_block_left_elsewhere",
    "in_copy", "in_saved_context", "in_plain_thread", "in_copied_thread", "in_other_process", "in_tasks",
    "call_decorated", "call_decorated", "call_coroutine", "call_coroutine", "new_generator", "new_generator",
    "new_async_generator", "new_async_generator",
)  # fmt: skip
