"""Agent programs: has the child processes of the claude-agent-sdk send their telemetry to `callspan.receive`.

The calls of such a program never pass this process. Its environment is that of this process, with the `env` of the
application's options over it. While the SDK starts the program, its transport has a copy of these options; neither
they nor `os.environ` change.
"""

from __future__ import annotations

import copy
import os
import sys
from types import ModuleType
from typing import Any, Final, NamedTuple
from weakref import WeakKeyDictionary

import wrapt
from opentelemetry.trace import get_current_span

from callspan import private_names as names
from callspan.agent.context import content_of, current_context
from callspan.agent.tree import ambient
from callspan.fail_open import fail_open
from callspan.intercept.hooks import HOOK_CONTEXT, Function, HookSteps
from callspan.receive.claude_records import Sender
from callspan.record.call import Place
from callspan.settings import strictest

MODULE: Final = "claude_agent_sdk._internal.transport.subprocess_cli"
TRANSPORT: Final = "SubprocessCLITransport"
NOT_RECEIVED: Final = "agent claude: callspan does not receive its telemetry; see instrument(receive=True)"
_STEP: Final = fail_open("start the receiving from an agent")
_PATCH: Final = fail_open("patch claude_agent_sdk")
_tokens: Final[WeakKeyDictionary[Any, str]] = WeakKeyDictionary()
"""The token of the program that a transport has started."""
_originals: Final[dict[str, tuple[Function, Function]]] = {}
"""The methods of the transport, each with its replacement."""
_watched: Final[list[bool]] = []


class _Start(NamedTuple):
    """A program that is being started."""

    transport: Any
    options: Any
    """Those of the application."""
    token: str | None
    """None if it sends its telemetry elsewhere."""


def _before_start(_args: object, transport: Any, _kwargs: object) -> _Start | None:
    if HOOK_CONTEXT.factory() is None:
        return None
    if (receiver := HOOK_CONTEXT.agents) is None:
        HOOK_CONTEXT.unrecorded(NOT_RECEIVED)
        return None
    options = getattr(transport, names.AGENT_OPTIONS.name)
    environment = {**os.environ, **options.env}
    agent = receiver.start_agent(environment, _sender())
    if agent is None:
        return None
    copied = copy.copy(options)
    copied.env = {**options.env, **agent.variables}
    setattr(transport, names.AGENT_OPTIONS.name, copied)
    return _Start(transport, options, agent.token)


def _sender() -> Sender:
    """Return the session and content level of the running code."""
    context = current_context()
    place, _, metadata = ambient()
    span = get_current_span(context).get_span_context()
    return Sender(
        place=place or Place(),
        trace_id=f"{span.trace_id:032x}" if span.is_valid else None,
        span_id=f"{span.span_id:016x}" if span.is_valid else None,
        level=strictest(HOOK_CONTEXT.content, content_of(context)),
        metadata=metadata,
    )


def _started(start: _Start, _result: object) -> None:
    setattr(start.transport, names.AGENT_OPTIONS.name, start.options)
    if start.token is not None:
        _tokens[start.transport] = start.token


def _not_started(start: _Start, _error: BaseException) -> None:
    _started(start, None)
    _ended(start.transport, None)


def _before_end(_args: object, transport: Any, _kwargs: object) -> Any:
    return transport if transport in _tokens else None


def _ended(transport: Any, _result: object) -> None:
    token = _tokens.pop(transport, None)
    if token is not None and (receiver := HOOK_CONTEXT.agents) is not None:
        receiver.end_agent(token)


_STEPS: Final = {
    "connect": HookSteps(step=_STEP, before=_before_start, on_return=_started, on_error=_not_started),
    "close": HookSteps(step=_STEP, before=_before_end, on_return=_ended, on_error=_ended),
}


def apply() -> None:
    """Hook the transport of the SDK, now or once it is imported."""
    if (module := sys.modules.get(MODULE)) is not None:
        _patch(module)
    elif not _watched:
        _watched.append(True)
        wrapt.register_post_import_hook(_patch, MODULE)


def undo() -> None:
    """Restore the methods of the transport, unless other code has wrapped them: then they pass everything through."""
    transport = getattr(sys.modules.get(MODULE), TRANSPORT, None)
    for name, (original, hooked) in list(_originals.items()):
        if vars(transport).get(name) is hooked:
            setattr(transport, name, original)
            del _originals[name]


def _patch(module: ModuleType) -> None:
    with _PATCH:
        transport = getattr(module, TRANSPORT)
        for name, steps in _STEPS.items():
            if name not in _originals:
                original = getattr(transport, name)
                _originals[name] = original, steps.around(original, is_async=True)
                setattr(transport, name, _originals[name][1])
