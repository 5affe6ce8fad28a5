"""The demo's agents: ordinary code on the real SDKs, with `callspan.session` around an episode in the grid world.

The same code runs against the scripted provider and, with `--live`, against the real ones, except for voice.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final, cast

import callspan
from callspan.cli.demo.world import DIRECTIONS, GridWorld

if TYPE_CHECKING:
    from anthropic import AsyncAnthropic
    from anthropic.types import MessageParam, ToolParam
    from openai import AsyncOpenAI, OpenAI
    from openai.types.chat import ChatCompletionMessageParam, ChatCompletionToolUnionParam

    from callspan.agent.sessions import Session
    from callspan.agent.timesteps import Timestep

PLANNER: Final = "gpt-5-mini"
ACTOR: Final = "gpt-4.1-mini"
CLAUDE: Final = "claude-haiku-4-5"
POLICY: Final = "my-policy-4b"
"""The user's own model in training, without a known price; its server returns token ids."""
VOICE: Final = "gpt-realtime"
TASK: Final = "You are a robot on a grid. Fetch the key, then leave by the exit. Pits end the episode. Seed {seed}."
PROMPTS: Final[Mapping[int, str]] = {
    1: "Answer with one direction.",
    2: "Answer with one direction. Never enter a pit, and do not leave without the key.",
}
"""The instructions of rollouts by version; the trial compares the versions."""
TRIAL: Final = "trial"
"""The `group_id` of the sessions that compare the prompts."""
_MAX_CALLS_PER_TURN: Final = 3
_TOOL_PARAMETERS: Final[dict[str, object]] = {
    "type": "object",
    "properties": {"direction": {"type": "string", "enum": list(DIRECTIONS)}},
    "required": ["direction"],
    "additionalProperties": False,
}
_TOOL_DESCRIPTIONS: Final = {"look": "Look at the field next to you.", "move": "Move one field."}


def play_with_openai(client: OpenAI, world: GridWorld, *, is_spoken: bool) -> None:
    """Play an episode: a plan from a streamed Responses call, then one or more chat completions per turn."""
    metadata = {"seed": world.seed, "mode": "sync"}
    with callspan.session("gridworld", task_id=world.task, user_id="demo", metadata=metadata) as session:
        session.observation(world.observe())
        messages: list[ChatCompletionMessageParam] = [
            {"role": "system", "content": TASK.format(seed=world.seed)},
            {"role": "user", "content": world.observe()},
        ]
        while not world.over:
            with session.timestep() as step:
                if step.index == 0 and hasattr(client, "responses"):  # from openai 1.66 on
                    messages.append({"role": "user", "content": f"Your plan: {_plan(client, world)}"})
                _chat_turn(client, world, step, messages)
        if is_spoken:
            _answer_by_voice(client)
        _finish(session, world)


async def play_with_anthropic(client: AsyncAnthropic, world: GridWorld, *, hasty: bool) -> None:
    """Play an episode with streamed messages; a hasty agent stops reading at the first direction it sees."""
    metadata = {"seed": world.seed, "mode": "async", "hasty": hasty}
    async with callspan.session("gridworld", task_id=world.task, user_id="demo", metadata=metadata) as session:
        session.observation(world.observe())
        messages: list[MessageParam] = [{"role": "user", "content": world.observe()}]
        while not world.over:
            async with session.timestep() as step:
                if hasty:
                    _move(world, step, await _first_direction(client, world, messages))
                    continue
                if step.index == 0:
                    await _make_rejected_call(client, step)
                await _message_turn(client, world, step, messages)
        _finish(session, world)


async def play_rollout(
    client: AsyncOpenAI, world: GridWorld, *, model: str, number: int, is_trial: bool = False
) -> None:
    """Play one of several episodes of one task, as in reinforcement learning: one sampled word per turn.

    In the trial, `number` is the version of the prompt. Only servers of open models accept `return_token_ids`.
    """
    extra_body = {"return_token_ids": True} if model == POLICY else None
    group, label, prompt = (
        (TRIAL, "prompt_version", PROMPTS[number]) if is_trial else ("rollouts", "rollout", PROMPTS[1])
    )
    metadata = {"seed": world.seed, label: number}
    async with callspan.session("gridworld", task_id=world.task, group_id=group, metadata=metadata) as session:
        messages: list[ChatCompletionMessageParam] = [
            {"role": "system", "content": f"{TASK.format(seed=world.seed)} {prompt}"}
        ]
        while not world.over:
            async with session.timestep() as step:
                messages.append({"role": "user", "content": world.observe()})
                reply = await client.chat.completions.create(
                    model=model, messages=messages, seed=number, temperature=1.0, logprobs=True, extra_body=extra_body
                )
                reply_text = reply.choices[0].message.content or ""
                messages.append({"role": "assistant", "content": reply_text})
                _move(world, step, _direction_in(reply_text) or "north")
        _finish(session, world)


def _plan(client: OpenAI, world: GridWorld) -> str:
    """Ask for a plan; the stream is read to its end."""
    pieces: list[str] = []
    question = f"{TASK.format(seed=world.seed)} Around you: {world.observe()} Plan in one sentence."
    with client.responses.create(model=PLANNER, input=question, stream=True) as stream:
        pieces.extend(event.delta for event in stream if event.type == "response.output_text.delta")
    return "".join(pieces)


def _chat_turn(client: OpenAI, world: GridWorld, step: Timestep, messages: list[ChatCompletionMessageParam]) -> None:
    """Call the model until it moves, at most three times; each tool that it calls has its own span."""
    tools: list[ChatCompletionToolUnionParam] = [
        {"type": "function", "function": {"name": name, "description": text, "parameters": _TOOL_PARAMETERS}}
        for name, text in _TOOL_DESCRIPTIONS.items()
    ]
    for _ in range(_MAX_CALLS_PER_TURN):
        reply = client.chat.completions.create(
            model=ACTOR, messages=messages, tools=tools, tool_choice="required", parallel_tool_calls=False
        )
        message = reply.choices[0].message
        calls = [call for call in message.tool_calls or () if call.type == "function"]
        messages.append(cast("ChatCompletionMessageParam", message.to_dict()))
        for call in calls:
            result = _run_tool(world, step, call.function.name, call)
            messages.append({"role": "tool", "tool_call_id": call.id, "content": f"{result}. {world.observe()}"})
        if any(call.function.name == "move" for call in calls):
            return


def _answer_by_voice(client: OpenAI) -> None:
    """Send a second of the user's speech; read events until the answer is done."""
    no_proxy: Any = {"proxy": None}
    with client.realtime.connect(model=VOICE, websocket_connection_options=no_proxy) as connection:
        connection.session.update(
            session={"type": "realtime", "audio": {"input": {"transcription": {"model": "whisper-1"}}}}
        )
        connection.input_audio_buffer.append(audio=base64.b64encode(bytes(48_000)).decode())
        for event in connection:
            if event.type == "response.done":
                return


async def _message_turn(client: AsyncAnthropic, world: GridWorld, step: Timestep, messages: list[MessageParam]) -> None:
    tools: list[ToolParam] = [
        {"name": name, "description": text, "input_schema": _TOOL_PARAMETERS}
        for name, text in _TOOL_DESCRIPTIONS.items()
    ]
    async with client.messages.stream(
        model=CLAUDE, max_tokens=256, system=TASK.format(seed=world.seed), messages=messages, tools=tools
    ) as stream:
        reply = await stream.get_final_message()
    messages.append({"role": "assistant", "content": reply.content})
    for block in reply.content:
        if block.type == "tool_use":
            result = _run_tool(world, step, block.name, block)
            answer = f"{result}. {world.observe()}"
            messages.append(
                {"role": "user", "content": [{"type": "tool_result", "tool_use_id": block.id, "content": answer}]}
            )


async def _make_rejected_call(client: AsyncAnthropic, step: Timestep) -> None:
    """Make a call that the provider rejects (400, no output tokens allowed). The agent records it and continues."""
    from anthropic import BadRequestError

    try:
        await client.messages.create(
            model=CLAUDE, max_tokens=0, messages=[{"role": "user", "content": "Which way is best? Do not answer."}]
        )
    except BadRequestError as error:
        step.event("note", {"gave_up_on": "advice"}, name="no advice", error=error)


async def _first_direction(client: AsyncAnthropic, world: GridWorld, messages: list[MessageParam]) -> str:
    """Ask for a direction with a stream that is closed as soon as it names one."""
    reply_text = ""
    stream = await client.messages.create(
        model=CLAUDE, max_tokens=256, system=TASK.format(seed=world.seed), messages=messages, stream=True
    )
    async with stream:
        async for event in stream:
            if event.type == "content_block_delta" and event.delta.type == "text_delta":
                reply_text += event.delta.text
            direction = _direction_in(reply_text)
            if direction is not None:
                return direction
    return "north"


def _direction_in(text: str) -> str | None:
    return next((word for word in _words(text) if word in DIRECTIONS), None)


def _words(text: str) -> Iterable[str]:
    return (word.strip(".,:;!*").lower() for word in text.split())


def _run_tool(world: GridWorld, step: Timestep, name: str, call: object) -> str:
    with step.tool(name, call=call) as tool:
        arguments = tool.arguments
        decoded = json.loads(arguments) if isinstance(arguments, str) else arguments
        direction = str(decoded.get("direction")) if isinstance(decoded, dict) else ""
        result = world.look(direction) if name == "look" else _move(world, step, direction)
        tool.result = result
    return result


def _move(world: GridWorld, step: Timestep, direction: str) -> str:
    """Take one action and record the environment's result."""
    step.action({"move": direction})
    cell = world.look(direction)
    result = world.step(direction)
    step.environment(result.observation, reward=result.reward, terminated=result.terminated, truncated=result.truncated)
    return f"bumped into a {cell}" if cell == "wall" else f"moved onto the {cell}"


def _finish(session: Session, world: GridWorld) -> None:
    session.outcome(reward=world.total, success=world.success)
