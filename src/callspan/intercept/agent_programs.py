"""Agent programs: has the programs that the SDKs of agents start send their telemetry to `callspan.receive`.

The calls of such a program never pass this process. It gets this process's environment, overridden by the variables of
the application's options. While the SDK starts the program, its client has a copy of these options; neither they nor
`os.environ` change.
"""

from __future__ import annotations

import copy
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from weakref import WeakKeyDictionary

from opentelemetry.trace import get_current_span

from callspan import private_names as names
from callspan.agent.adopted import AGENT_SPANS
from callspan.agent.context import content_of, current_context
from callspan.agent.tree import ambient
from callspan.intercept.hooks import HOOK_CONTEXT, Function, HookSteps
from callspan.intercept.imports import WATCHED_IMPORTS
from callspan.intercept.programs import CLAUDE, CODEX, AgentProgram
from callspan.record.call import Place
from callspan.runtime.fail_open import fail_open
from callspan.runtime.forks import late_attribute
from callspan.settings import strictest

if TYPE_CHECKING:
    from callspan.receive.agents import StartedAgent
    from callspan.receive.senders import Sender

NOT_RECEIVED: Final = "agent %s: callspan does not receive its telemetry; see instrument(receive=True)"
_STEP: Final = fail_open("start the receiving from an agent")
_PATCH: Final = fail_open("patch the SDK of an agent")
_tokens: Final[WeakKeyDictionary[Any, str]] = WeakKeyDictionary()
"""The token of the program that a client has started."""
_originals: Final[dict[tuple[str, str], tuple[type, Function, Function]]] = {}
"""The clients by module and method, as last imported, each with the method and its replacement."""
_watched: Final[set[str]] = set()
"""The modules that are patched when they are imported."""


class _Sdk(NamedTuple):
    """An SDK that starts a program."""

    module: str
    client: str
    """The class in it that starts one program."""
    program: AgentProgram
    start: str
    """The method that starts it; `close` ends it."""
    options: str
    """The attribute with the application's options."""
    environment: Callable[[Any], Mapping[str, str]]
    """Returns the variables of options."""
    arguments: Callable[[Any], Sequence[str]]
    """Returns the arguments of options that may set up its telemetry."""
    changed: Callable[[Any, StartedAgent], Any]
    """Returns a copy of options that make the program send here."""
    is_async: bool
    passes_options_on: Callable[[Any], bool] = lambda _: True
    """Whether the program gets what is in options: none does by a command of the application's own."""


def _claude_options(options: Any, agent: StartedAgent) -> Any:
    copied = copy.copy(options)
    copied.env = {**options.env, **agent.variables}
    return copied


def _codex_options(options: Any, agent: StartedAgent) -> Any:
    copied = copy.copy(options)
    copied.env = {**(options.env or {}), **agent.variables}
    # The SDK has the names of these options itself. Of two, the later one counts: the application's.
    copied.config_overrides = (*agent.arguments[1::2], *options.config_overrides)
    return copied


_SDKS: Final = (
    _Sdk(
        module="claude_agent_sdk._internal.transport.subprocess_cli",
        client="SubprocessCLITransport",
        program=CLAUDE,
        start="connect",
        options=names.AGENT_OPTIONS.name,
        environment=lambda options: options.env,
        arguments=lambda _: (),
        changed=_claude_options,
        is_async=True,
    ),
    _Sdk(
        module="openai_codex.client",
        client="CodexClient",
        program=CODEX,
        start="start",
        options="config",
        environment=lambda options: options.env or {},
        arguments=lambda options: options.config_overrides,
        changed=_codex_options,
        is_async=False,
        passes_options_on=lambda options: getattr(options, "launch_args_override", None) is None,
    ),
)


class _Start(NamedTuple):
    """A program that is being started."""

    sdk: _Sdk
    client: Any
    options: Any
    """The application's options."""
    token: str | None
    """None if it sends its telemetry elsewhere."""


def _before_start(sdk: _Sdk, client: Any) -> _Start | None:
    if HOOK_CONTEXT.factory() is None or client in _tokens:
        return None
    options = getattr(client, sdk.options)
    if (receiver_of := HOOK_CONTEXT.agents) is None or not sdk.passes_options_on(options):
        HOOK_CONTEXT.unrecorded(NOT_RECEIVED % sdk.program.name)
        return None
    environment = {**os.environ, **sdk.environment(options)}
    agent = receiver_of().start_agent(environment, _sender(), sdk.program, sdk.arguments(options))
    if agent is None:
        return None
    AGENT_SPANS.leave_tools_to_receiver()
    setattr(client, sdk.options, sdk.changed(options, agent))
    return _Start(sdk, client, options, agent.token)


def _sender() -> Sender:
    """Return the session and content level of the running code."""
    context = current_context()
    place, _, metadata = ambient()
    span = get_current_span(context).get_span_context()
    sender: type[Sender] = late_attribute("callspan.receive.senders:Sender")
    return sender(
        place=place or Place(),
        trace_id=f"{span.trace_id:032x}" if span.is_valid else None,
        span_id=f"{span.span_id:016x}" if span.is_valid else None,
        level=strictest(HOOK_CONTEXT.content, content_of(context)),
        metadata=metadata,
    )


def _started(start: _Start, _result: object) -> None:
    setattr(start.client, start.sdk.options, start.options)
    if start.token is not None:
        _tokens[start.client] = start.token


def _not_started(start: _Start, _error: BaseException) -> None:
    _started(start, None)
    _ended(start.client, None)


def _before_end(_args: object, client: Any, _kwargs: object) -> Any:
    return client if client in _tokens else None


def _ended(client: Any, _result: object) -> None:
    token = _tokens.pop(client, None)
    if token is not None and (receiver_of := HOOK_CONTEXT.agents) is not None:
        receiver_of().end_agent(token)


_END: Final = HookSteps(step=_STEP, before=_before_end, on_return=_ended, on_error=_ended)


def _steps(sdk: _Sdk) -> dict[str, HookSteps]:
    def before_start(_args: object, client: Any, _kwargs: object) -> _Start | None:
        return _before_start(sdk, client)

    start = HookSteps(step=_STEP, before=before_start, on_return=_started, on_error=_not_started)
    return {sdk.start: start, "close": _END}


def apply() -> None:
    """Hook the clients of the SDKs, now and whenever they are imported."""
    for sdk in _SDKS:
        if sdk.module not in _watched:
            _watched.add(sdk.module)
            WATCHED_IMPORTS.watch(sdk.module, partial(_patch, sdk))
        elif (module := sys.modules.get(sdk.module)) is not None:
            _patch(sdk, module)


def undo() -> None:
    """Restore the methods of the clients, unless other code has wrapped them: then they pass everything through."""
    for sdk in _SDKS:
        for name in (sdk.start, "close"):
            client, original, hooked = _originals.get((sdk.module, name), (None, None, None))
            if client is not None and vars(client).get(name) is hooked:
                setattr(client, name, original)
                del _originals[sdk.module, name]


def _patch(sdk: _Sdk, module: ModuleType) -> None:
    with _PATCH:
        client = getattr(module, sdk.client)
        for name, steps in _steps(sdk).items():
            if _originals.get((sdk.module, name), (None,))[0] is not client:
                original = getattr(client, name)
                hooked = steps.around(original, is_async=sdk.is_async)
                _originals[sdk.module, name] = client, original, hooked
                setattr(client, name, hooked)
