"""Prints facts for a person: of one exchange side by side, or the table over all of them.

Run `python -m tests.wire.show ID...`, or without ids for the whole table.
"""

from __future__ import annotations

import sys

from tests.wire import corpus, facts, oracle, reading


def side_by_side(exchange: corpus.Exchange) -> str:
    """Return every fact of one exchange that either side states: wire, adapter, verdict."""
    wire, read = oracle.truth(exchange), reading.read_by_adapter(exchange)
    lines = [
        f"{exchange.id} {exchange.method} {exchange.host}{exchange.path} stream={exchange.stream} {exchange.status}"
    ]
    for name in facts.NAMES:
        expected, got = getattr(wire, name), getattr(read, name)
        verdict = facts.judge(expected, facts.spelled_like(expected, got))
        if verdict is not None:
            lines.append(f"{name:<28}{verdict:<10}{facts.shortened(expected)}")
            lines += [] if verdict == "right" else [f"{'':<38}{facts.shortened(got)}"]
    return "\n".join(lines)


def whole_table() -> str:
    """Return the verdicts of every fact over all exchanges of models, as the adapters alone read them."""
    score = facts.Score()
    for each in corpus.select(lambda exchange: exchange.inference):
        score.add(each.id, oracle.truth(each), reading.read_by_adapter(each))
    return score.report()


if __name__ == "__main__":
    wanted = set(sys.argv[1:])
    chosen = corpus.select(lambda exchange: exchange.id in wanted)
    print("\n\n".join(map(side_by_side, chosen)) if wanted else whole_table())
