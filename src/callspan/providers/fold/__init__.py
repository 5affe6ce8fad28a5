"""Fold: joins the events of a stream into the body that the endpoint returns without streaming.

A fold is total: values of a wrong type count as absent. It takes constant time per chunk and keeps only its strings.

The wire describes one way to join a stream, and servers that imitate it find others. vLLM counts `content_index` up
with each delta and gives the last event another id; Ollama's blocks all have index 0; gateways drop, repeat or restart
a stream; a terminal event restates the answer, or is empty. Each was once recorded as text that came twice, or lost a
tool call. A rule for each server would have no end, since a server changes its ways and does not say which one it is.
Three rules hold for all:

- `entries`: an entry is what its id says, else what its start says. An index is a hint.
- `accounts`: an event that states the answer as a whole stands. What was streamed before adds only what that lacks as
  content, never by key.
- `usage_merge`: counters are deltas, or the last of each, or the last whole object: a property of the wire.

Nothing is taken for a repetition by its look: `ha` and `ha` are `haha`. Only fields that a table names are cumulative.

`tests/wire` compares each fold with an oracle that is written apart from it, on recorded and generated streams.
"""
