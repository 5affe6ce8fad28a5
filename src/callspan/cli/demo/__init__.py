"""`callspan demo`: an agent in a grid world on the real SDKs, its trace and its records."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Final, NamedTuple

import click
from rich.text import Text

from callspan.cli.command_context import Command, CommandContext
from callspan.cli.demo.agent import (
    ACTOR,
    POLICY,
    play_rollout,
    play_with_anthropic,
    play_with_openai,
)
from callspan.cli.demo.script import script_demo, trial_worlds, worlds
from callspan.cli.terminal.safe_text import clean
from callspan.formatting import iso
from callspan.otlp.providers import otlp_is_named
from callspan.runtime.safe_urls import safe_name
from callspan.service import service_name

if TYPE_CHECKING:
    from anthropic import AsyncAnthropic
    from openai import AsyncOpenAI, OpenAI

    from callspan import Handle
    from callspan.testing import ScriptedProvider

_EPILOG: Final = """\
callspan demo
callspan demo --store sqlite:///another.db"""
_NEXT_COMMANDS: Final = (
    ("calls --failed", "the rejected call"),
    ("compare meta:prompt_version=1 =2", "the two prompts"),
    ("view --open", "in the browser"),
)
_STORE: Final = "sqlite:///demo.db"
"""The demo's default store: its records do not mix with an application's."""
_SEND_COMMAND: Final = "send --otlp http://localhost:4318"
_NO_PROXY: Final[Mapping[str, None]] = {"all://127.0.0.1": None}
"""Prevents the use of the environment's proxy for loopback addresses."""
_FLUSH_S: Final = 10
_VOICE_PACKAGES: Final = {"openai": (2, 30), "websockets": (15, 0)}
"""The packages required for a realtime session without TLS and proxy, with minimum versions."""
_OFFLINE: Final = "Agents play in a small grid world, offline, with a scripted provider. This takes some ten seconds."
_LIVE: Final = "Agents play in a small grid world, with real providers. This takes a minute."
_MISSING_PACKAGE: Final = 'The demo needs {name}: pip install "callspan[openai,anthropic]"'


class Clients(NamedTuple):
    """The SDK clients of the demo's agents."""

    openai: OpenAI
    anthropic: AsyncAnthropic
    policy: AsyncOpenAI
    """A server of a self-hosted model; OpenAI with `--live`."""
    policy_model: str
    speak: bool
    """Whether the openai client can have a realtime session."""


@click.command(
    "demo",
    cls=Command,
    page="The page",
    default_store=_STORE,
    short_help="Run an agent in a grid world, offline; show its trace.",
    epilog=_EPILOG,
)
@click.option("--live", is_flag=True, help="Call the real providers, with your API keys: real money (cents).")
def demo_command(context: CommandContext, live: bool) -> None:
    """Run an agent in a small grid world and show its trace and its records.

    Offline, unless --live: the real openai and anthropic SDKs talk to a scripted provider on loopback. One call is
    retried after a 429, one is rejected with a 400, one stream is stopped early; two versions of a prompt are tried in
    six worlds each; if websockets is installed, the last agent is asked by voice. Records are added to the store,
    demo.db unless one is named; nothing is deleted. Spans are sent to OTEL_EXPORTER_OTLP_ENDPOINT, if set.
    """
    started_ns = time.time_ns()
    context.why_empty()  # an unusable store ends the command before anything runs
    click.echo(_LIVE if live else _OFFLINE, err=True)
    delivered = _play(context, live=live)
    if context.json:
        context.emit({"store": safe_name(context.store), "since": iso(started_ns)})
    else:
        _show_last(context)
        _print_next_steps(context)
    if not delivered:
        raise click.exceptions.Exit(1)


def _play(context: CommandContext, *, live: bool) -> bool:
    """Play the episodes; return whether their records and spans were delivered."""
    from opentelemetry.sdk.trace import TracerProvider

    import callspan
    from callspan.settings_loader import load

    service = service_name(load().service, "callspan-demo")
    provider = None if otlp_is_named() else TracerProvider()
    with _clients(context, live=live) as clients:
        otlp = provider is None
        handle = callspan.instrument(stores=context.store, service=service, otlp=otlp, tracer_provider=provider)
        try:
            play_episodes(clients)
            return _flush(handle)
        finally:
            handle.uninstrument()


def play_episodes(clients: Clients) -> None:
    """Play every episode. The most interesting one is last, so that `callspan show last` shows it."""
    sync_world, async_world, hasty_world, *rollouts = worlds()
    trials = trial_worlds()

    async def play_async() -> None:
        async with clients.anthropic as claude, clients.policy as policy:
            await asyncio.gather(
                *(play_rollout(policy, world, model=ACTOR, number=version, is_trial=True) for version, world in trials),
            )
            await asyncio.gather(
                play_with_anthropic(claude, async_world, hasty=False),
                play_with_anthropic(claude, hasty_world, hasty=True),
                *(
                    play_rollout(policy, world, model=clients.policy_model, number=number)
                    for number, world in enumerate(rollouts)
                ),
            )

    asyncio.run(play_async())
    with clients.openai as client:
        play_with_openai(client, sync_world, is_spoken=clients.speak)


def _flush(handle: Handle) -> bool:
    delivered = handle.force_flush(_FLUSH_S * 1000)
    if not delivered:
        click.echo(f"Records or spans were not delivered within {_FLUSH_S} s; see `callspan doctor`.", err=True)
    return delivered


@contextmanager
def _clients(context: CommandContext, *, live: bool) -> Iterator[Clients]:
    """Yield clients of the real providers, or of a scripted provider that runs for the duration of the block."""
    try:
        for sdk in ("openai", "anthropic"):
            import_module(sdk)
    except ModuleNotFoundError as error:
        context.fail(_MISSING_PACKAGE.format(name=error.name))
    if live:
        yield _live_clients(context)
        return
    from callspan.testing import ScriptedProvider

    with ScriptedProvider() as provider:
        script_demo(provider)
        yield scripted_clients(provider)


def scripted_clients(provider: ScriptedProvider) -> Clients:
    """Return clients of a provider that `script_demo` has prepared."""
    import anthropic
    import openai

    url, key = provider.openai_url, "scripted"
    return Clients(
        openai.OpenAI(base_url=url, api_key=key, http_client=openai.DefaultHttpxClient(mounts=_NO_PROXY)),
        anthropic.AsyncAnthropic(
            base_url=provider.anthropic_url,
            api_key=key,
            http_client=anthropic.DefaultAsyncHttpxClient(mounts=_NO_PROXY),
        ),
        openai.AsyncOpenAI(base_url=url, api_key=key, http_client=openai.DefaultAsyncHttpxClient(mounts=_NO_PROXY)),
        POLICY,
        _can_speak(),
    )


def _can_speak() -> bool:
    """Return whether the packages for realtime sessions are installed."""
    try:
        return all(tuple(map(int, version(name).split(".")[:2])) >= least for name, least in _VOICE_PACKAGES.items())
    except PackageNotFoundError:
        return False


def _live_clients(context: CommandContext) -> Clients:
    import anthropic
    import openai

    try:
        clients = Clients(openai.OpenAI(), anthropic.AsyncAnthropic(), openai.AsyncOpenAI(), ACTOR, speak=False)
    except (openai.OpenAIError, anthropic.AnthropicError) as error:
        context.fail(f"callspan demo --live needs OPENAI_API_KEY and ANTHROPIC_API_KEY: {error}")
    if clients.anthropic.api_key is None:
        context.fail("callspan demo --live needs ANTHROPIC_API_KEY (and OPENAI_API_KEY) in the environment.")
    return clients


def _show_last(context: CommandContext) -> None:
    """Print the last session, read from the store by another process. Ends the command if that one failed."""
    context.screen.line((f"$ {context.command} show last", "bold yellow"))
    sys.stdout.flush()
    command = [sys.executable, "-m", "callspan.cli", "--store", context.store, "show", "last"]
    if code := subprocess.run(command, check=False).returncode:  # noqa: S603 - our own command
        raise click.exceptions.Exit(code)


def _print_next_steps(context: CommandContext) -> None:
    """Print where the records are, how to send them to Jaeger, and three commands to try next."""
    context.screen.line(("Records ", "bold"), safe_name(context.store))
    titles = ("Jaeger  ", "Next    ", "        ", "        ")
    for title, (command, description) in zip(
        titles, ((_SEND_COMMAND, "the same as traces"), *_NEXT_COMMANDS), strict=True
    ):
        text = Text.assemble(
            (title, "bold"), (f"{clean(context.command)} {command:<37}", "cyan"), (f"  {description}", "dim")
        )
        context.screen.console.print(text, soft_wrap=True)  # a command is never cut
