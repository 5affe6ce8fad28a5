"""The demo's agents and their environment: a robot on a small grid that fetches a key and leaves by the exit.

`#` is a wall, `k` the key, `E` the exit, `~` a pit, `R` the start. The agents are ordinary code on the real SDKs, with
`callspan.session` around an episode: the same code runs against the scripted provider and, with `--live`, against
the real ones, except for voice.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias, cast

import callspan

if TYPE_CHECKING:
    from callspan.testing import ReceivedRequest, Reply, ScriptedProvider

Position: TypeAlias = tuple[int, int]

DIRECTIONS: Final[Mapping[str, Position]] = {"north": (0, -1), "south": (0, 1), "east": (1, 0), "west": (-1, 0)}
_CELL_NAMES: Final = {"#": "wall", "k": "key", "E": "exit", "~": "pit"}
_STEP_REWARD: Final = -0.05
_KEY_REWARD: Final = 0.5
_EXIT_REWARD: Final = 1.0
_PIT_REWARD: Final = -1.0
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
_TRIAL: Final[Mapping[int, tuple[tuple[str, ...], str, str]]] = {
    21: (("~Rk", "..E"), "west", "east south"),
    22: (("Rk", "~E"), "south", "east south"),
    23: (("RkE",), "east east", "east east"),
    24: (("kRE",), "east west west east east", "west east east"),
    25: (("~R", "kE"), "west", "south west east"),
    26: (("R~", "kE"), "east", "south east"),
}
"""The worlds of the trial by seed: the rows, and the agent's path under each prompt."""
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


_VOICE_USAGE: Final[Mapping[str, object]] = {
    "input_tokens": 44, "input_token_details": {"text_tokens": 34, "audio_tokens": 10},
    "output_tokens": 38, "output_token_details": {"text_tokens": 8, "audio_tokens": 30},
    "total_tokens": 82,
}  # fmt: skip


class MoveResult(NamedTuple):
    """The result of an action, as Gymnasium's `step` returns it."""

    observation: str
    reward: float
    terminated: bool
    truncated: bool


class GridWorld:
    """One episode. Bumping into a wall uses a step without moving; the episode is truncated after `max_steps`."""

    def __init__(self, rows: Sequence[str], seed: int, max_steps: int = 12) -> None:
        self.seed = seed
        self.rows = tuple(rows)
        self.max_steps = max_steps
        self.has_key = False
        self.over = False
        self.success = False
        self.total = 0.0
        self.path: list[str] = []
        self._position = next((row.index("R"), y) for y, row in enumerate(rows) if "R" in row)

    @property
    def task(self) -> str:
        """The id of the task that all episodes in this world share."""
        return f"grid-{self.seed}"

    def observe(self) -> str:
        """Return a description of the robot's position and neighbouring cells."""
        around = ", ".join(f"{name} {self.look(name)}" for name in DIRECTIONS)
        return f"at {self._position[0]},{self._position[1]}{' with the key' if self.has_key else ''}; {around}"

    def look(self, direction: str) -> str:
        """Return the kind of the neighbouring cell in that direction: wall, key, exit, pit or floor."""
        return _CELL_NAMES.get(self._cell_at(self._neighbour(direction)), "floor")

    def step(self, direction: str) -> MoveResult:
        """Move the robot one cell. An unknown direction does not move it."""
        self.path.append(direction)
        target = self._neighbour(direction)
        cell = self._cell_at(target)
        if cell != "#":
            self._position = target
        reward = _STEP_REWARD + self._enter(cell)
        self.total = round(self.total + reward, 4)
        truncated = not self.over and len(self.path) >= self.max_steps
        terminated = self.over
        self.over = self.over or truncated
        return MoveResult(self.observe(), round(reward, 4), terminated, truncated)

    def _enter(self, cell: str) -> float:
        if cell == "k":
            self.has_key = True
            return _KEY_REWARD
        if cell == "E" and self.has_key:
            self.over = self.success = True
            return _EXIT_REWARD
        if cell == "~":
            self.over = True
            return _PIT_REWARD
        return 0.0

    def _neighbour(self, direction: str) -> Position:
        dx, dy = DIRECTIONS.get(direction, (0, 0))
        return self._position[0] + dx, self._position[1] + dy

    def _cell_at(self, position: Position) -> str:
        x, y = position
        inside = 0 <= y < len(self.rows) and 0 <= x < len(self.rows[y])
        cell = self.rows[y][x] if inside else "#"
        return "." if cell == "k" and self.has_key else cell


def worlds() -> tuple[GridWorld, ...]:
    """Return the demo's worlds: one for the sync agent, one per async agent, and a copy of another per rollout."""
    return (
        GridWorld(("R.k", ".#.", "..E"), seed=7),
        GridWorld(("k.E", "R#."), seed=11),
        GridWorld(("~R.", ".#k", "..E"), seed=12),
        GridWorld(("~Rk", "..E"), seed=13),
        GridWorld(("~Rk", "..E"), seed=13),
    )


def trial_worlds() -> list[tuple[int, GridWorld]]:
    """Return `(prompt version, world)` for each combination of the trial."""
    return [(version, GridWorld(rows, seed)) for version in PROMPTS for seed, (rows, *_) in _TRIAL.items()]


def script_demo(provider: ScriptedProvider) -> None:
    """Script the episodes: a retried 429, a refused request, a tool loop, fully and partly read streams, rollouts."""
    _sync_episode(provider)
    provider.reply(status=400, message="max_tokens: must be greater than or equal to 1", on=_without_system)
    for reply in (
        _tool_reply("move", "north", "The key is right above me.", tokens=(421, 58), to_cache=380),
        _tool_reply("move", "east", "With the key, east along the top row.", tokens=(520, 61), cached=380),
        _tool_reply("move", "east", "The exit is next to me.", tokens=(619, 57), cached=380),
    ):
        provider.reply(reply, on=_in_episode(11))
    thoughts = (
        "I could go west, or maybe east: east leads towards the key, and the exit is below it, while west is a pit."
    )
    provider.reply(text=thoughts, first_token_delay_s=0.04, chunk_delay_s=0.01, input_tokens=139, on=_in_episode(12))
    # Two rollouts of one task: the first falls into the pit, the second finds the key and then the exit.
    for rollout, path in enumerate(("west", "east south")):
        _script_rollout(provider, 13, rollout, path)
    for seed, (_, *paths) in _TRIAL.items():
        for version, path in zip(PROMPTS, paths, strict=True):
            _script_rollout(provider, seed, version, path, prompt=version)


def _sync_episode(provider: ScriptedProvider) -> None:
    from callspan.testing import Reply

    plan = "East twice to the key, then south twice to the exit."
    provider.reply(
        text=plan, reasoning="The wall in the middle leaves two ways; the upper one passes the key.", input_tokens=96,
        output_tokens=75, reasoning_tokens=64, first_token_delay_s=0.06, chunk_delay_s=0.004, on="/responses",
    )  # fmt: skip
    limited = Reply(status=429, retry_after_s=0.25, message="Rate limit reached for requests")
    provider.reply(
        heard="Did you get out?", heard_usage={"type": "duration", "seconds": 1.0}, text="Yes, and with the key.",
        audio=1.5, usage=_VOICE_USAGE, delay_s=0.03, on="/realtime",
    )  # fmt: skip
    for reply in (
        _tool_reply("look", "east", tokens=(214, 15)),
        _tool_reply("move", "east", tokens=(246, 15)),
        limited,
        _tool_reply("move", "east", tokens=(331, 15)),
        _tool_reply("move", "south", tokens=(417, 15), cached=256),
        _tool_reply("move", "south", tokens=(503, 15), cached=384),
    ):
        provider.reply(reply, on=_with_tools)


def _script_rollout(provider: ScriptedProvider, seed: int, number: int, path: str, *, prompt: int = 1) -> None:
    """Script a rollout in the world of this seed, one direction per turn."""
    for turn, direction in enumerate(path.split()):
        tokens = 39 + 16 * (prompt - 1) + 18 * turn
        provider.reply(text=direction, input_tokens=tokens, output_tokens=1, delay_s=0.02, on=_in_rollout(seed, number))


def _tool_reply(
    name: str, direction: str, text: str | None = None, *, tokens: tuple[int, int], cached: int = 0, to_cache: int = 0
) -> Reply:
    from callspan.testing import Reply

    return Reply(
        text=text,
        tool_calls=({"name": name, "arguments": {"direction": direction}},),
        input_tokens=tokens[0],
        output_tokens=tokens[1],
        cache_read_tokens=cached,
        cache_write_tokens=to_cache,
        delay_s=0.03,
    )


def _in_episode(seed: int) -> Callable[[ReceivedRequest], bool]:
    """Return a matcher for the requests of one of several concurrent episodes."""
    return lambda request: request.path.endswith("/messages") and f"Seed {seed}." in str(request.body.get("system"))


def _with_tools(request: ReceivedRequest) -> bool:
    return request.path.endswith("/chat/completions") and "tools" in request.body


def _in_rollout(seed: int, number: int) -> Callable[[ReceivedRequest], bool]:
    """Return a matcher for the requests of one rollout in the world of this seed."""
    return lambda request: request.body.get("seed") == number and f"Seed {seed}." in str(request.body.get("messages"))


def _without_system(request: ReceivedRequest) -> bool:
    return request.path.endswith("/messages") and "system" not in request.body


if TYPE_CHECKING:
    from anthropic import AsyncAnthropic
    from anthropic.types import MessageParam, ToolParam
    from openai import AsyncOpenAI, OpenAI
    from openai.types.chat import ChatCompletionMessageParam, ChatCompletionToolUnionParam

    from callspan.agent.sessions import Session
    from callspan.agent.timesteps import Timestep


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
                if step.index == 0:
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
