"""Decorators: open a block, such as a session, around each call of a function, coroutine or generator."""

from __future__ import annotations

import functools
import inspect
import sys
import weakref
from collections.abc import AsyncGenerator, Callable, Generator, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from operator import methodcaller
from types import AsyncGeneratorType, CoroutineType, GeneratorType, TracebackType
from typing import Any, ClassVar, Final, ParamSpec, Protocol, TypeGuard, TypeVar, cast, overload

from opentelemetry.context import attach, get_current

from callspan.agent.runtime import current_runtime
from callspan.runtime.fail_open import fail_open

_P = ParamSpec("_P")
_R = TypeVar("_R")
_RECEIVERS: Final = ("self", "cls")
"""First parameters that are no arguments."""


class Block(Protocol):
    """A context manager for one call of a decorated function, or for each advance of a decorated generator."""

    def __enter__(self) -> Any: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> Any: ...

    def start_quietly(self) -> None:
        """Start a generator's block, without making it current, unless it was entered before."""

    def resume(self) -> Any:
        """Return the context manager of one advance of a generator."""

    def generator_ended(self, error: BaseException | None) -> None:
        """End a generator's block; `error` is its exception, `GeneratorExit` if it was closed before its end."""

    def collected(self) -> None:
        """End soon, unless it has ended: what its function returned was collected. Safe in a finalizer."""

    def function_returned(self, result: object) -> None:
        """Receive the function's result."""


class AdvanceBlock:
    """A block that is entered again for each advance of a generator, and has no start and end of its own."""

    __slots__ = ()

    def start_quietly(self) -> None:
        """Do nothing."""

    def resume(self) -> Any:
        """Return the block itself."""
        return self

    def generator_ended(self, error: BaseException | None) -> None:
        """Do nothing."""

    def collected(self) -> None:
        """Do nothing."""

    def function_returned(self, result: object) -> None:
        """Do nothing."""


class BlockDecorator(Protocol):
    """A block that is also a decorator: each call of the function gets a new block."""

    reads_arguments: ClassVar[bool]
    """Whether `new_block` needs the arguments by name; binding them takes time."""

    def new_block(self, name: str, arguments: Mapping[str, object]) -> Block:
        """Return a new block for one call of the function `name` with these arguments."""

    def __call__(self, function: Callable[_P, _R]) -> Callable[_P, _R]:
        """Return the function with a block around each call; it lasts until a returned coroutine or generator ends."""


_BlockDecorator_co = TypeVar("_BlockDecorator_co", bound=BlockDecorator, covariant=True)
_Given = ParamSpec("_Given")


class Opener(Protocol[_Given, _BlockDecorator_co]):
    """Returns a block for its arguments; called with only a function, returns it decorated."""

    @overload
    def __call__(self, function: Callable[_P, _R], /) -> Callable[_P, _R]: ...  # type: ignore[overload-overlap]

    @overload
    def __call__(self, *args: _Given.args, **kwargs: _Given.kwargs) -> _BlockDecorator_co: ...


def or_decorator(opens: Callable[_Given, _BlockDecorator_co]) -> Opener[_Given, _BlockDecorator_co]:
    """Return `opens` as a function that is also usable as a decorator without arguments."""

    @functools.wraps(opens)
    def opener(*args: Any, **kwargs: Any) -> Any:
        return opens()(args[0]) if args and is_function(args[0]) else opens(*args, **kwargs)  # type: ignore[call-arg]

    return cast("Opener[_Given, _BlockDecorator_co]", opener)


def is_function(value: object) -> TypeGuard[Callable[..., Any]]:
    """Return whether a decorator is applied to a value: to a function, or to a method as a class body has it."""
    return callable(value) or isinstance(value, classmethod)


def decorated(function: Callable[_P, _R], opener_of: Callable[..., Callable[..., Any]]) -> Callable[_P, _R]:
    """Return a function of the same kind and signature, with a block around each call.

    `opener_of` returns for a function what makes the blocks of its calls.
    """
    if isinstance(function, classmethod | staticmethod):
        return cast("Callable[_P, _R]", type(function)(decorated(function.__func__, opener_of)))
    opener = opener_of(function)
    if inspect.isasyncgenfunction(function):
        wrap = around_async_generator
    elif inspect.isgeneratorfunction(function):
        wrap = around_generator
    else:
        wrap = _coroutine if inspect.iscoroutinefunction(function) else _plain
    return cast("Callable[_P, _R]", functools.wraps(function)(wrap(function, opener)))


def block_opener(prototype: BlockDecorator, function: Callable[..., Any]) -> Callable[..., Block]:
    """Return what makes, from the arguments of each call of a function, a new block like `prototype`."""
    target = function.func if isinstance(function, partial) else function
    name = getattr(target, "__name__", type(target).__name__)
    signature = None
    if prototype.reads_arguments:
        with fail_open("read the signature of a decorated function"):
            signature = inspect.signature(function)

    def opener(*args: Any, **kwargs: Any) -> Block:
        arguments: Mapping[str, object] = {}
        if signature is not None and current_runtime() is not None:
            arguments = _named(signature, args, kwargs)
        return prototype.new_block(name, arguments)

    return opener


def _named(signature: inspect.Signature, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Mapping[str, object]:
    try:
        arguments = signature.bind(*args, **kwargs).arguments
    except TypeError:
        return {}  # wrong arguments: the function itself will raise
    first = next(iter(signature.parameters), None)
    if first in _RECEIVERS:
        arguments.pop(first, None)
    of_others = next(
        (parameter.name for parameter in signature.parameters.values() if parameter.kind is parameter.VAR_KEYWORD), None
    )
    if of_others is not None:
        arguments |= arguments.pop(of_others, {})
    return arguments


def _plain(function: Callable[..., Any], opener: Callable[..., Any]) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        block, outer = opener(*args, **kwargs), get_current()
        block.__enter__()
        try:
            result = function(*args, **kwargs)
            continued = _CONTINUED.get(type(result))
            if continued is None:
                block.function_returned(result)
        except BaseException as error:
            block.__exit__(type(error), error, error.__traceback__)
            raise
        if continued is None:
            block.__exit__(None, None, None)
            return result
        attach(outer)
        return _continuation(function, block, [result])

    return call


def _continuation(function: Callable[..., Any], block: Block, results: list[Any]) -> Any:
    """Return a coroutine or generator that continues the block in the one that the function has returned."""

    def begin() -> Block:
        abandoned.detach()
        return block

    def close(inner: Generator[Any, Any, Any]) -> None:
        if reference() is not None:  # one that is collected lets go of the other, which someone else may have too
            inner.close()

    continued = _CONTINUED[type(results[0])]
    continued = partial(continued, close=close) if continued is around_generator else continued
    continuation = functools.wraps(function)(continued(results.pop, begin))()
    reference = weakref.ref(continuation)
    # If it is never started, no code in it runs, not even at its end.
    abandoned = weakref.finalize(continuation, block.collected)
    abandoned.atexit = False
    return continuation


def _continued_coroutine(function: Callable[..., Any], opener: Callable[..., Any]) -> Callable[..., Any]:
    async def call() -> Any:
        block = opener()
        with ExitStack() as ending:
            ending.push(block)
            with block.resume():
                result = await function()
            block.function_returned(result)
            return result

    return call


def _coroutine(function: Callable[..., Any], opener: Callable[..., Any]) -> Callable[..., Any]:
    async def call(*args: Any, **kwargs: Any) -> Any:
        block = opener(*args, **kwargs)
        with block:
            result = await function(*args, **kwargs)
            block.function_returned(result)
            return result

    return call


# Each advance of a generator may run in another task, and it may never be resumed: no context is attached at a yield.


def around_generator(
    function: Callable[..., Any], opener: Callable[..., Any], close: Callable[[Any], object] = methodcaller("close")
) -> Callable[..., Any]:
    """Return a function that returns the generator of `function` with a block around it.

    `close` is called with the wrapped generator when the other is closed or collected before its end.
    """

    def call(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        block = opener(*args, **kwargs)
        block.start_quietly()
        with _ending(block):
            inner = function(*args, **kwargs)
            advance = partial(next, inner)
            while True:
                try:
                    with block.resume():
                        item = advance()
                except StopIteration as stop:
                    if stop.value is not None:
                        block.function_returned(stop.value)
                    return stop.value
                try:
                    advance = partial(inner.send, (yield item))
                except GeneratorExit:
                    with block.resume():
                        close(inner)
                        del inner, advance
                    raise
                except BaseException as error:  # the wrapped generator gets it
                    advance = partial(inner.throw, error)

    return call


def around_async_generator(function: Callable[..., Any], opener: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that returns the async generator of `function` with a block around it."""

    async def call(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        block = opener(*args, **kwargs)
        block.start_quietly()
        with _ending(block):
            inner = function(*args, **kwargs)
            advance = _unattended(inner)
            while True:
                try:
                    with block.resume():
                        item = await advance
                except StopAsyncIteration:
                    return
                try:
                    advance = inner.asend((yield item))
                except GeneratorExit:
                    with block.resume():
                        await inner.aclose()
                    raise
                except BaseException as error:  # the wrapped generator gets it
                    advance = inner.athrow(error)

    return call


_CONTINUED: Final[dict[type, Callable[..., Callable[..., Any]]]] = {
    CoroutineType: _continued_coroutine, GeneratorType: around_generator, AsyncGeneratorType: around_async_generator,
}  # fmt: skip
"""Continues the block of a plain function in the coroutine or generator that it has returned."""


@contextmanager
def _ending(block: Block) -> Iterator[None]:
    """End the block at the end of the context, with its exception if there is one."""
    try:
        yield
    except BaseException as error:
        block.generator_ended(error)
        raise
    block.generator_ended(None)


def _unattended(inner: AsyncGenerator[Any, Any]) -> Any:
    # The event loop must finalize only the outer generator, which closes this one itself. Without a hook of ours it
    # would finalize this one too, in a reference cycle before the outer one.
    hooks = sys.get_asyncgen_hooks()
    sys.set_asyncgen_hooks(None, _left_to_outer)
    try:
        return inner.__anext__()
    finally:
        sys.set_asyncgen_hooks(*hooks)


def _left_to_outer(inner: AsyncGenerator[Any, Any]) -> None:
    """Finalize a wrapped generator: without a finalizer, Python would close it at once, outside of its loop."""
