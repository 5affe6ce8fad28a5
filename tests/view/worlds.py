"""Worlds that reports are written of: two sessions and a call, judged ones, and texts that would be markup."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from callspan.records import Cost, ErrorInfo, Place, TimestepRecord, Timing, Totals, Usage
from tests.support.records import SECOND, START_NS
from tests.support.world import World

QUESTION = [{"role": "user", "content": "?"}]
HOSTILE = [
    "<script>document.title='owned'</script>",
    "</script><script>document.title='owned'</script>",
    "<img src=x onerror=\"document.title='owned'\">",
    '" onmouseover="document.title=\'owned\'" x="',
    "<!--<script>",
    "]]><svg onload=document.title='owned'>",
    "[click](javascript:document.title='owned') **bold** `code`",
    "\x1b[31mred\x1b[0m \x1b]8;;http://evil.example\x07link\x1b]8;;\x07",
    "left\u202eright\u202c \u200bhidden \u2028 line",
    "${alert(1)} {{7*7}} %s",
    "data:text/html,<script>document.title='owned'</script>",
    "<svg onload=\"document.title='owned'\"><style>*{}</style></svg>",
    "</title></style></template>\u2029\u0085",
]


def play(world: World) -> None:
    """Two sessions, one of which fails, and a call outside."""
    world.session("s1", reward=1.0, success=True, name="maze", metadata={"seed": 7})
    start = START_NS + 100 * SECOND
    step = TimestepRecord(
        timestep_id="t1",
        session_id="s1",
        seen_ns=1,
        index=0,
        start_ns=start,
        end_ns=start + SECOND,
        totals=Totals(reward=0.5),
        terminated=True,
    )
    world.records.append(step)
    place = Place(session_id="s1", timestep_id="t1", timestep=0)
    timing = Timing(start_ns=start, duration_ns=SECOND, first_token_ns=SECOND // 4)
    world.chat(QUESTION, "Left.", "s1", place=place, timing=timing, retries=1)
    world.event("s1", timestep_id="t1", event_type="environment", reward=0.5, data={"after": "a wall"})
    world.event("s1", timestep_id="t1", event_type="tool", name="look", data={"arguments": {"a": 1}, "result": "wall"})
    world.session("s2", reward=-1.0, success=False, outcome="failure")
    error = ErrorInfo(kind="rate_limit", type="rate_limit_error", status=429, message="Slow down.")
    world.chat(QUESTION, "?", "s2", outcome="error", error=error, usage=None, cost=None, model="gpt-6")
    dear = Cost(usd=Decimal("0.0000000001"), source="t")
    world.chat(QUESTION, "Loose.", usage=Usage(input_tokens=0), cost=dear)


def judged(world: World) -> None:
    """Sessions of two users with two versions of a prompt, on two days; a judge scored two of them."""
    day = 24 * 3600 * SECOND
    for number, (user, version, reward) in enumerate((("ann", 3, 1.0), ("ann", 4, 0.0), ("bob", 4, 1.0))):
        metadata = {"prompt_version": version}
        start = START_NS + number * day // 2
        world.session(f"s{number}", reward, user_id=user, start_ns=start, success=reward > 0, metadata=metadata)
        world.chat([{"role": "user", "content": f"Who is {user}?"}], f"First of {user}.", f"s{number}")
        world.chat(QUESTION, f"Last of {user}.", f"s{number}", choice={"finish_reason": "length"})
        world.chat(QUESTION, "", f"s{number}")
    world.reward("s0", 0.8, objective="judge")
    world.reward("s2", 0.4, objective="judge")
    world.chat(QUESTION, "Loose.")


def fill(world: World, text: str) -> None:
    """Put a text everywhere a page could show it."""
    world.session("s1", reward=1.0, name=text, metadata={text: text}, outcome=text)
    error = ErrorInfo(kind=text, type=text, message=text, status=400)
    message: list[dict[str, Any]] = [{"role": "user", "content": text}]
    world.chat(message, text, "s1", model=text)
    world.chat(message, text, "s1", model=text, outcome="error", error=error)
    world.event("s1", event_type=text, name=text, data={text: text})
    world.event("s1", event_type="tool", name=text, data={"arguments": {"a": text}, "result": text})
    world.session("s2", reward=0.5, name=text)
    world.reward("s2", 1.0, scope="call", label=text, objective=text)
