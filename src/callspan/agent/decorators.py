"""Decorators: a session, timestep or tool around a function, coroutine, generator or async generator."""

from __future__ import annotations

import functools
import inspect
import sys
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Callable, Generator, Mapping
from types import TracebackType
from typing import Any, ClassVar, Final, Generic, NamedTuple, ParamSpec, Protocol, TypeVar, cast, overload

from callspan.agent.runtime import installed
from callspan.agent.scope import Scope
from callspan.fail_open import fail_open

_P = ParamSpec("_P")
_R = TypeVar("_R")
_Yield = TypeVar("_Yield")
_Send = TypeVar("_Send")
_Return = TypeVar("_Return")


class Wrappers(NamedTuple):
    """One wrapper for each kind of function; it takes the function and what opens a scope for a call."""

    plain: Callable[..., Callable[..., Any]]
    coroutine: Callable[..., Callable[..., Any]]
    generator: Callable[..., Callable[..., Any]]
    async_generator: Callable[..., Callable[..., Any]]

    def wrapped(self, function: Callable[_P, _R], opener: Callable[..., object]) -> Callable[_P, _R]:
        """Return a function of the same kind and signature, wrapped."""
        if inspect.isasyncgenfunction(function):
            wrap = self.async_generator
        elif inspect.isgeneratorfunction(function):
            wrap = self.generator
        else:
            wrap = self.coroutine if inspect.iscoroutinefunction(function) else self.plain
        return cast("Callable[_P, _R]", functools.wraps(function)(wrap(function, opener)))


class Decorating(ABC):
    """Mixin that makes a scope usable as a decorator: each call of the function gets its own scope."""

    __slots__ = ()

    _reads_arguments: ClassVar[bool] = False
    """Whether `fresh` uses the arguments; binding them to their names takes time."""

    @abstractmethod
    def _fresh(self, name: str, arguments: Mapping[str, object]) -> Scope:
        """Return a new scope for one call of the function `name`; `arguments` are the call's arguments by name."""

    def __call__(self, function: Callable[_P, _R]) -> Callable[_P, _R]:
        """Return the function with a scope around each call; for a generator the scope covers its iteration."""
        return WRAPPERS.wrapped(function, _opener(self, function))


_Decorating_co = TypeVar("_Decorating_co", bound=Decorating, covariant=True)
_Given = ParamSpec("_Given")


class Opener(Protocol[_Given, _Decorating_co]):
    """Returns a scope for its arguments; given a function alone, that function with a scope around each call."""

    @overload
    def __call__(self, function: Callable[_P, _R], /) -> Callable[_P, _R]: ...  # type: ignore[overload-overlap]

    @overload
    def __call__(self, *args: _Given.args, **kwargs: _Given.kwargs) -> _Decorating_co: ...


def or_decorator(opens: Callable[_Given, _Decorating_co]) -> Opener[_Given, _Decorating_co]:
    """Return `opens`, which may also be used as a decorator without arguments."""

    @functools.wraps(opens)
    def opener(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - as `Opener` says
        return opens()(args[0]) if args and callable(args[0]) else opens(*args, **kwargs)  # type: ignore[call-arg]

    return cast("Opener[_Given, _Decorating_co]", opener)


def _opener(prototype: Decorating, function: Callable[..., Any]) -> Callable[..., Scope]:
    name = getattr(function, "__name__", type(function).__name__)
    signature = None
    if prototype._reads_arguments:
        with fail_open("read the signature of a decorated function"):
            signature = inspect.signature(function)

    def opener(*args: Any, **kwargs: Any) -> Scope:  # noqa: ANN401 - those of the application
        arguments: Mapping[str, object] = {}
        if signature is not None and installed() is not None:
            with fail_open("read the arguments of a decorated function"):
                arguments = _named(signature, args, kwargs)
        return prototype._fresh(name, arguments)

    return opener


def _named(signature: inspect.Signature, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Mapping[str, object]:
    try:
        arguments = signature.bind(*args, **kwargs).arguments
    except TypeError:
        return {}  # wrong arguments: the function itself will raise
    arguments.pop("self", None)
    return arguments


def _plain(function: Callable[..., Any], opener: Callable[..., Scope]) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        scope = opener(*args, **kwargs)
        with scope:
            result = function(*args, **kwargs)
            scope._returned(result)
            return result

    return call


def _coroutine(function: Callable[..., Any], opener: Callable[..., Scope]) -> Callable[..., Any]:
    async def call(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        scope = opener(*args, **kwargs)
        with scope:
            result = await function(*args, **kwargs)
            scope._returned(result)
            return result

    return call


def _generator(function: Callable[..., Any], opener: Callable[..., Scope]) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:  # noqa: ANN401
        # Each advance of a generator may run in another task: its scope is current only during an advance.
        scope = opener(*args, **kwargs)
        step = _Step(scope)
        scope.start(current=False)
        with step:
            inner = function(*args, **kwargs)
        return (yield from _Steps(step, inner))

    return call


def _async_generator(function: Callable[..., Any], opener: Callable[..., Scope]) -> Callable[..., Any]:
    async def call(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:  # noqa: ANN401
        scope = opener(*args, **kwargs)
        step = _Step(scope)
        scope.start(current=False)
        with step:
            inner = function(*args, **kwargs)
            advance = _unattended(inner)
        relay = _Relay()
        while not relay.closing:
            try:
                with step:
                    item = await advance
            except StopAsyncIteration:
                return
            with relay:
                relay.sent = yield item
            advance = relay.into(inner)
        step.is_last = True
        with step:
            await advance

    return call


class _Step:
    """One advance of a generator: its scope is current only inside it; an error or the generator's end ends the scope.

    Nothing stays attached while the consumer has control: it may be another task, or never resume the generator.
    """

    __slots__ = ("_scope", "_using", "is_last")

    def __init__(self, scope: Scope) -> None:
        self._scope = scope
        self._using = scope.using()
        self.is_last = False
        """True if no other advance can follow."""

    def __enter__(self) -> None:
        self._using.__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._using.__exit__(kind, error, trace)
        if isinstance(error, StopIteration | StopAsyncIteration):
            if isinstance(error, StopIteration) and error.value is not None:
                self._scope._returned(error.value)
            self._scope.end()
        elif self.is_last:
            self._scope._closed(error)
        elif error is not None:
            self._scope.end(error)


class _Steps(Generator[_Yield, _Send, _Return], Generic[_Yield, _Send, _Return]):
    """A generator that advances the wrapped generator inside a scope; the target of `yield from`."""

    __slots__ = ("_inner", "_step")

    def __init__(self, step: _Step, inner: Generator[_Yield, _Send, _Return]) -> None:
        self._step = step
        self._inner = inner

    def __next__(self) -> _Yield:
        with self._step:
            return next(self._inner)

    def send(self, value: _Send) -> _Yield:
        with self._step:
            return self._inner.send(value)

    def throw(self, *thrown: Any) -> _Yield:  # noqa: ANN401 - one argument or three, as Python calls it
        with self._step:
            return self._inner.throw(*thrown)

    def close(self) -> None:
        self._step.is_last = True
        with self._step:
            self._inner.close()


class _Relay:
    """Receives what the consumer sends or throws at a `yield`, to pass it to the wrapped generator."""

    __slots__ = ("closing", "sent", "thrown")

    def __init__(self) -> None:
        self.closing = False
        self.sent: Any = None
        self.thrown: BaseException | None = None

    def __enter__(self) -> None:
        self.sent = self.thrown = None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        self.thrown = error
        self.closing = isinstance(error, GeneratorExit)
        return error is not None

    def into(self, inner: AsyncGenerator[Any, Any]) -> Any:  # noqa: ANN401 - an awaitable of what is yielded next
        if self.closing:
            return inner.aclose()
        return inner.asend(self.sent) if self.thrown is None else inner.athrow(self.thrown)


def _unattended(inner: AsyncGenerator[Any, Any]) -> Any:  # noqa: ANN401 - an awaitable of the first item
    # At shutdown the event loop must close only the outer generator, which closes the wrapped one.
    hooks = sys.get_asyncgen_hooks()
    sys.set_asyncgen_hooks(None, None)
    try:
        return inner.__anext__()
    finally:
        sys.set_asyncgen_hooks(*hooks)


WRAPPERS: Final = Wrappers(_plain, _coroutine, _generator, _async_generator)
