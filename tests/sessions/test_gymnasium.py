"""The wrapper that records Gymnasium environments, tested with real environments."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
from tests.sessions.conftest import Seen, failed, parent_of

from callspan import current_session, current_timestep, metadata, session
from callspan.records import EventRecord, MessageRecord, SessionRecord, TimestepRecord
from callspan.testing import capture

gymnasium = pytest.importorskip("gymnasium", reason="needs gymnasium")
np = pytest.importorskip("numpy", reason="needs numpy")

WAY = [1, 1, 2, 1, 2, 2]
"""From the start of the frozen lake to its goal."""


class Corridor(gymnasium.Env[Any, Any]):
    """Ends after `length` steps, with a reward of 1 each; observations say where one is, and how often reset."""

    def __init__(self, length: int = 3) -> None:
        self.observation_space = gymnasium.spaces.Box(0, 100, (2,), np.float64)
        self.action_space = gymnasium.spaces.Discrete(9)
        self.length, self.resets, self.place = length, 0, 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.resets += 1
        self.place = 0
        return np.array([self.resets, 0.0]), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        if action == 8:
            raise ValueError("no way")
        self.place += 1
        return np.array([self.resets, self.place]), 1.0, self.place == self.length, False, {}


def traced(env: Any, **settings: Any) -> Any:
    from callspan.environments.gymnasium import Traced

    return Traced(env, **settings)


@pytest.fixture
def lake() -> Iterator[Any]:
    env = traced(gymnasium.make("FrozenLake-v1", is_slippery=False), metadata={"agent": "test"}, user_id="u1")
    yield env
    env.close()


def test_episode_is_a_session_with_a_step_per_turn(seen: Seen, lake: Any) -> None:
    lake.reset(seed=7)
    for action in WAY:
        lake.step(action)
    (ended,) = seen.ended(SessionRecord)
    assert (ended.name, ended.outcome, ended.user_id) == ("FrozenLake-v1", "success", "u1")
    assert ended.metadata == {"agent": "test", "seed": 7}
    assert (ended.totals.timesteps, ended.totals.reward) == (6, 1.0)
    steps = seen.ended(TimestepRecord)
    assert [step.index for step in steps] == list(range(6))
    assert [step.terminated for step in steps] == [False] * 5 + [True]
    assert [step.totals.reward for step in steps] == [0.0] * 5 + [1.0]
    (first,) = seen.of(MessageRecord)
    assert (first.message_type, first.content, first.timestep_id) == ("observation", 0, None)
    actions = [event for event in seen.of(EventRecord) if event.event_type == "action"]
    assert [event.data for event in actions] == WAY
    worlds = [event for event in seen.of(EventRecord) if event.event_type == "environment"]
    assert [event.data["after"] for event in worlds] == [4, 8, 9, 13, 14, 15]
    assert [event.timestep_id for event in worlds] == [step.timestep_id for step in steps]
    assert all(event.duration_ns > 0 for event in worlds)
    assert worlds[0].data["info"] == {"prob": 1.0}


def test_identifying_fields_accept_any_type(seen: Seen) -> None:
    given: dict[str, Any] = dict.fromkeys(("name", "user_id", "group_id", "task_id", "experiment"), 7)
    env = traced(Corridor(), **given, metadata=["a"])
    env.reset()
    env.close()
    first = seen.of(SessionRecord)[0]
    assert {name: getattr(first, name) for name in given} == dict.fromkeys(given, "7")
    assert first.metadata == {"metadata": ["a"]}


def test_episode_reset_before_its_end_is_abandoned(seen: Seen) -> None:
    env = traced(Corridor())
    env.reset(seed=1)
    env.step(0)
    env.reset(seed=2, options={"map": "b"})
    env.step(0)
    env.close()
    assert current_session() is None
    first, second = seen.ended(SessionRecord)
    assert (first.outcome, second.outcome) == ("abandoned", "abandoned")
    assert second.metadata == {"seed": 2, "options": {"map": "b"}}
    assert first.name == "Corridor"
    assert [step.outcome for step in seen.ended(TimestepRecord)] == ["success", "abandoned"] * 2


def test_raising_environment_leaves_its_turn_open(seen: Seen) -> None:
    env = traced(Corridor())
    env.reset()
    with pytest.raises(ValueError, match="no way"):
        env.step(8)
    env.step(0)
    env.close()
    (failed,) = [event for event in seen.of(EventRecord) if event.error is not None]
    assert (failed.event_type, failed.error.type, failed.timestep) == ("environment", "ValueError", 0)
    assert [step.index for step in seen.ended(TimestepRecord)] == [0, 1]


def test_episodes_of_several_environments_are_independent(seen: Seen) -> None:
    """In the scope around them, with the metadata of the code that resets; after one the other is current again."""
    first, second, third = (traced(Corridor(2), name=name) for name in "abc")
    with session("training") as training, training.timestep() as epoch:
        first.reset()
        with metadata(worker=2):
            second.reset()
        for _ in range(3):
            first.step(0)
            second.step(0)
            if first.timestep is None:
                first.reset()
        second.close()
        third.reset()
        third.close()
        assert current_session() is first.session
        first.close()
        assert current_timestep() is epoch
    episodes = [one for one in seen.ended(SessionRecord) if one.name != "training"]
    assert {one.name: one.metadata for one in episodes} == {"a": {}, "b": {"extra": {"worker": 2}}, "c": {}}
    assert {one.parent_session_id for one in episodes} == {training.id}
    (around,) = [int(one.span_id, 16) for one in seen.ended(TimestepRecord) if one.timestep_id == epoch.id]
    assert {parent_of(span) for name in "abc" for span in seen.named(f"invoke_workflow {name}")} == {around}


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda env: pickle.loads(pickle.dumps(env))])
def test_copied_environment_records_from_its_next_reset(seen: Seen, lake: Any, copied: Callable[[Any], Any]) -> None:
    """As a tree search copies it, or a worker gets it."""
    lake.reset(seed=7)
    lake.step(1)
    branch = copied(lake)
    assert branch.step(1)[0] == 8
    assert [event.event_type for event in seen.of(EventRecord)] == ["action", "environment"]
    branch.reset()
    branch.close()
    lake.close()
    assert [one.outcome for one in seen.ended(SessionRecord)] == ["abandoned"] * 2


class Hall(Corridor):
    """A corridor whose rewards are its places, and whose last info says how long it is."""

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        observation, _, terminated, truncated, _ = super().step(action)
        return observation, self.place / 4, terminated, truncated, {"length": self.length} if terminated else {}


def vector(kind: str, slots: int, **settings: Any) -> Any:
    from callspan.environments.gymnasium import TracedVector

    makers = [partial(Hall, index % 3 + 1) for index in range(slots)]
    environments = {"sync": gymnasium.vector.SyncVectorEnv, "async": gymnasium.vector.AsyncVectorEnv}
    return TracedVector(environments[kind](makers, **settings))


def test_slot_of_a_vector_environment_that_resets_in_the_next_step(seen: Seen) -> None:
    check_slots(seen, vector("sync", 64), steps_between=1)


needs_modes = pytest.mark.skipif(not hasattr(gymnasium.vector, "AutoresetMode"), reason="needs gymnasium 1.1")


@needs_modes
@pytest.mark.parametrize(("kind", "slots"), [("sync", 64), ("async", 3)])
@pytest.mark.parametrize(("mode", "steps_between"), [("NextStep", 1), ("SameStep", 0)])
def test_slots_of_vector_environments(seen: Seen, kind: str, slots: int, mode: str, steps_between: int) -> None:
    check_slots(seen, vector(kind, slots, autoreset_mode=gymnasium.vector.AutoresetMode(mode)), steps_between)


def check_slots(seen: Seen, envs: Any, steps_between: int) -> None:
    """Every episode of slot i has i % 3 + 1 turns, and `steps_between` steps are between two of them."""
    steps = 12
    with session("training") as training:
        envs.reset(seed=7)
        for _ in range(steps):
            envs.step(np.zeros(envs.num_envs, int))
            assert current_session() is training
        envs.close()
    for slot in range(envs.num_envs):
        length = slot % 3 + 1
        whole, rest = divmod(steps + steps_between, length + steps_between)
        episodes = [one for one in seen.ended(SessionRecord) if one.metadata.get("slot") == slot]
        assert [one.outcome for one in episodes] == ["success"] * whole + ["abandoned"] * (
            rest > 0 or steps_between == 0
        )
        assert [one.totals.timesteps for one in episodes[:whole]] == [length] * whole
        assert [one.totals.reward for one in episodes[:whole]] == [sum(range(length + 1)) / 4] * whole
        assert [one.metadata.get("seed") for one in episodes] == [7 + slot] + [None] * (len(episodes) - 1)
        assert {one.parent_session_id for one in episodes} == {training.id}
        ids = [one.session_id for one in episodes]
        first = [message.content for message in seen.of(MessageRecord) if message.session_id in ids]
        assert first == [[number + 1, 0.0] for number in range(len(episodes))]
        worlds = [
            event for event in seen.of(EventRecord) if event.session_id in ids and event.event_type == "environment"
        ]
        last = [event.data for event in worlds if event.terminated]
        assert last == [{"after": [number + 1, length], "info": {"length": length}} for number in range(whole)]


@needs_modes
def test_slots_reset_by_mask(seen: Seen) -> None:
    envs = vector("sync", 3, autoreset_mode=gymnasium.vector.AutoresetMode.DISABLED)
    envs.reset()
    envs.step(np.zeros(3, int))
    assert [slot.timestep is None for slot in envs.slots] == [True, False, False]
    envs.reset(options={"reset_mask": np.array([True, True, False]), "map": "b"})
    envs.step(np.zeros(3, int))
    envs.close()
    outcomes = [(one.metadata["slot"], one.outcome, one.metadata.get("options")) for one in seen.ended(SessionRecord)]
    again = {"map": "b"}
    assert outcomes == [(0, "success", None), (1, "abandoned", None), (0, "success", again), (1, "abandoned", again),
                        (2, "abandoned", None)]  # fmt: skip


def test_training_loop_over_a_vector_environment(seen: Seen) -> None:
    """Sixty-four slots, as CleanRL's PPO plays them, against Gymnasium's own statistics of episodes."""
    from callspan.environments.gymnasium import TracedVector

    def make() -> Any:
        return gymnasium.wrappers.RecordEpisodeStatistics(gymnasium.make("CartPole-v1"))

    envs = TracedVector(gymnasium.vector.SyncVectorEnv([make] * 64))
    envs.reset(seed=1)
    envs.action_space.seed(1)
    played = []
    for _ in range(35):
        *_, infos = envs.step(envs.action_space.sample())
        for slot in np.flatnonzero(infos.get("_episode", [])):
            played.append((slot, infos["episode"]["r"][slot], infos["episode"]["l"][slot]))
    ended = [
        (one.metadata["slot"], one.totals.reward, one.totals.timesteps) for one in seen.ended(SessionRecord)
    ]  # fmt: skip
    assert len(played) > 32
    assert ended == played
    envs.close()


def test_calls_of_an_agent_belong_to_the_slot_in_use(seen: Seen) -> None:
    envs = vector("sync", 2)
    envs.reset()
    for slot in envs.slots:
        with slot.using():
            assert (current_session(), current_timestep()) == (slot.session, slot.timestep)
    envs.step(np.zeros(2, int))
    with envs.slots[0].using():  # whose episode is over
        assert current_session() is None
    envs.close()


@pytest.mark.parametrize("enabled", [True, False])
def test_failing_recorder_never_affects_a_vector_environment(enabled: bool) -> None:
    def fail(record: object) -> Any:
        raise OSError("disk full")

    with capture(redact=fail, enabled=enabled):
        envs = vector("sync", 2)
        envs.reset()
        assert [envs.step(np.zeros(2, int))[1].tolist() for _ in range(3)] == [[0.25, 0.25], [0.0, 0.5], [0.25, 0.0]]
        envs.close()
    assert (failed() != {}) is enabled


class Tensor(np.ndarray[Any, Any]):
    """An array whose size is a method, as that of PyTorch (`NumpyToTorch`) is."""

    def size(self) -> tuple[int, ...]:  # type: ignore[override]
        return self.shape


@pytest.mark.parametrize("kind", [np.ndarray, Tensor])
def test_large_observations_are_described(seen: Seen, kind: type) -> None:
    class Screen(Corridor):
        def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
            image = np.full((100, 100, 3), 7, np.uint8).view(kind)
            return {"image": image, "text": "x" * 99_999}, 0.0, False, False, {}

    env = traced(Screen(), max_elements=10)
    env.reset()
    env.step(np.int64(3))
    env.close()
    action, world = (event for event in seen.of(EventRecord))
    assert action.data == 3
    described = {"shape": [100, 100, 3], "dtype": "uint8", "min": 7, "max": 7}
    assert world.data["after"]["image"] == {"callspan_array": described}
    assert world.data["after"]["text"] == "x" * 99_999


@pytest.mark.parametrize("enabled", [True, False])
def test_failing_recorder_never_affects_the_environment(enabled: bool) -> None:
    def fail(record: object) -> Any:
        raise OSError("disk full")

    failed()  # of other tests
    with capture(redact=fail, enabled=enabled):
        env = traced(Corridor())
        env.reset()
        assert [env.step(0)[2] for _ in range(3)] == [False, False, True]
        assert env.unwrapped.place == 3
        env.close()
    assert (failed() != {}) is enabled
