"""`callspan run claude`: records the calls of an agent program from the telemetry that it sends to this process.

A Python application replaces this process; an agent program cannot, because something must receive its telemetry. This
process therefore stays as the program's parent, and nobody should notice. The program is in the same process group, at
the same terminal, with the same standard streams. All signals are blocked here and read one by one. The terminal sends
the keyboard's signals to the program too. Signals from other processes are passed on, and so is SIGHUP: when a terminal
is gone, only the leader of its session learns it. This process stops when the program stops, and ends as it ends.
"""

from __future__ import annotations

import os
import resource
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final, NamedTuple, NoReturn

import callspan
from callspan.cli.terminal.safe_text import clean
from callspan.formatting import counted, plural
from callspan.intercept.programs import AgentProgram
from callspan.runtime.fail_open import fail_open
from callspan.runtime.forks import exit_left_s
from callspan.runtime.nothing import nothing
from callspan.settings_loader import variable_of
from callspan.stores import split_urls

if TYPE_CHECKING:
    from callspan.receive.agents import AgentReceiver, StartedAgent

_PASSED_ON: Final = (
    signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGTSTP,
    signal.SIGCONT, signal.SIGWINCH,
)  # fmt: skip
_OF_KEYBOARD: Final = (signal.SIGINT, signal.SIGQUIT, signal.SIGTSTP, signal.SIGWINCH)
"""Signals that a terminal sends to the whole process group."""
_RECORD_S: Final = 8.0
"""Time for what has arrived. What is not written by then lies on disk."""
_DELIVER_S: Final = 5.0
_CONCLUDE: Final = fail_open("record the calls of an agent")


class _Receiving(NamedTuple):
    handle: callspan.Handle
    receiver: AgentReceiver
    agent: StartedAgent


def run_agent(program: Sequence[str], environment: dict[str, str], agent: AgentProgram, stores: str) -> None:
    """Run an agent program, record its calls, and end as it does. Return if its calls cannot be received.

    Raises OSError or ValueError if the program cannot be started.
    """
    with _blocked_signals() as mask:
        receiving = _start_receiving(program, environment, agent, stores)
        if receiving is None:
            return
        try:
            pid = _start(program, environment, receiving.agent, mask)
        except (OSError, ValueError):
            receiving.receiver.unrecorded = nothing
            raise
        status = _wait(pid)
        with _CONCLUDE:
            _conclude(receiving, agent.name)
        _end_as(status)


def _start(program: Sequence[str], environment: Mapping[str, str], agent: StartedAgent, mask: set[int]) -> int:
    """Return the id of the started program. Raises OSError, ValueError."""
    if agent.lock is not None:
        os.set_inheritable(agent.lock, True)
    command = [program[0], *agent.arguments, *program[1:]]
    # Python ignores these two, and a program keeps ignoring what its parent did.
    by_default = (signal.SIGPIPE, signal.SIGXFSZ)
    return os.posix_spawn(
        command[0], command, {**environment, **agent.variables}, setsigmask=mask, setsigdef=by_default
    )


def _start_receiving(
    program: Sequence[str], environment: dict[str, str], agent: AgentProgram, stores: str
) -> _Receiving | None:
    with fail_open("start the receiving from an agent"):
        from callspan.receive.senders import Sender
        from callspan.wiring import WIRING

        receive = None if os.environ.get(variable_of("receive")) else True
        handle = callspan.instrument(stores=tuple(split_urls(stores)), sdks=(), receive=receive)
        if WIRING.hook_context.agents is not None:
            receiver = WIRING.hook_context.agents()
            sender = Sender(level=handle.settings.content)
            started = receiver.start_agent(environment, sender, agent, program[1:])
            if started is not None:
                return _Receiving(handle, receiver, started)
        handle.uninstrument()
    return None


@contextmanager
def _blocked_signals() -> Iterator[set[int]]:
    """Context manager that keeps signals for `_wait`; returns the former mask. Ignored ones stay ignored."""
    for number in (*_PASSED_ON, signal.SIGCHLD):
        if signal.getsignal(number) is signal.SIG_DFL:
            # Never called. Without a handler, a signal that is ignored by default would be lost.
            signal.signal(number, lambda _number, _frame: None)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, (*_PASSED_ON, signal.SIGCHLD))
    try:
        yield mask
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _wait(pid: int) -> int:
    """Pass signals on until the program ends; return its status."""
    while True:
        number, is_passed_on = _next_signal(pid)
        if number == signal.SIGCHLD:
            while (ended := os.waitpid(pid, os.WNOHANG | os.WUNTRACED))[0]:
                if not os.WIFSTOPPED(ended[1]):
                    return ended[1]
                os.kill(os.getpid(), signal.SIGSTOP)
        elif is_passed_on:
            os.kill(pid, number)


def _next_signal(pid: int) -> tuple[int, bool]:
    """Wait for a signal; return it, and whether the program has not got it."""
    if sys.platform == "darwin":  # does not say who sent it
        number = signal.sigwait((*_PASSED_ON, signal.SIGCHLD))
        return number, number not in _OF_KEYBOARD
    info = signal.sigwaitinfo((*_PASSED_ON, signal.SIGCHLD))
    number, is_of_kernel = info.si_signo, info.si_code > 0
    # A program in raw mode stops its process group itself.
    return number, info.si_pid != pid and not (is_of_kernel and number in _OF_KEYBOARD)


def _conclude(receiving: _Receiving, name: str) -> None:
    """Record what has arrived, and say how many calls that were."""
    handle, receiver, agent = receiving
    # A program that calls no model is no loss: it is said here, and not counted.
    receiver.unrecorded = nothing
    receiver.close(exit_left_s(_RECORD_S))
    delivered = handle.force_flush(int(exit_left_s(_DELIVER_S) * 1000))
    handle.uninstrument()
    parts = [plural(receiver.calls, "call") + " recorded" if receiver.calls else "no call recorded"]
    if agent.token is None:
        parts.append(f"the telemetry of {name} is set up elsewhere, and nothing comes here")
    elif receiver.silences and not receiver.calls:
        parts.append(f"{name} reported nothing: it called no model, or its own settings send its telemetry elsewhere")
    if receiver.refused:
        refused = ", ".join(f"{count:,} {reason}" for reason, count in receiver.refused.items())
        parts.append(f"refused requests: {refused}")
    if receiver.unread:
        parts.append(f"could not be read: {counted(receiver.unread)}")
    if not delivered:
        parts.append("records wait on disk; to deliver them: callspan ship")
    with suppress(OSError):
        print(f"callspan: {clean('; '.join(parts))}", file=sys.stderr, flush=True)


def _end_as(status: int) -> NoReturn:
    """End as the program did: with its exit code, or by the same signal."""
    if not os.WIFSIGNALED(status):
        sys.exit(os.waitstatus_to_exitcode(status))
    number = os.WTERMSIG(status)
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    with suppress(OSError):  # SIGKILL
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (number,))
    os.kill(os.getpid(), number)
    sys.exit(128 + number)  # of process 1, which no such signal ends
