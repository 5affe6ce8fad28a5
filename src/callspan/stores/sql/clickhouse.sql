-- callspan's tables in ClickHouse: flat rows that include the bodies. Any number of writers may repeat any batch.
-- Rows with the same key become one in a merge; query with FINAL, or `SET final = 1`, to get merged rows.
CREATE TABLE IF NOT EXISTS callspan_layout (version UInt32) ENGINE = ReplacingMergeTree ORDER BY version;
-- The key is only the id, which starts with the time: versions may differ in any other column. `version` orders them as
-- `callspan.record.merging.order_key` does. Bodies are JSON as sent; columns compress repetitions.
CREATE TABLE IF NOT EXISTS calls (
@columns(calls),
  version UInt128 MATERIALIZED
    bitShiftLeft(toUInt128(indexOf(@parts(), part)), 72) + toUInt128(ifNull(seen_ns, 0)),
  INDEX by_session session_id TYPE bloom_filter(0.001) GRANULARITY 1,
  INDEX by_trace trace_id TYPE bloom_filter(0.001) GRANULARITY 1,
  INDEX by_span span_id TYPE bloom_filter(0.001) GRANULARITY 1, INDEX by_start start_ns TYPE minmax GRANULARITY 1,
  INDEX by_response response_id TYPE bloom_filter(0.001) GRANULARITY 1,
  INDEX by_request request_id TYPE bloom_filter(0.001) GRANULARITY 1,
  INDEX by_user user_id TYPE bloom_filter(0.001) GRANULARITY 1
) ENGINE = ReplacingMergeTree(version) PARTITION BY toYYYYMM(fromUnixTimestamp64Nano(start_ns, 'UTC')) ORDER BY call_id;
-- One row per version of a session or timestep, with what its process knew.
CREATE TABLE IF NOT EXISTS sessions (
@columns(sessions)
) ENGINE = ReplacingMergeTree ORDER BY (session_id, seen_ns);
CREATE TABLE IF NOT EXISTS timesteps (
@columns(timesteps)
) ENGINE = ReplacingMergeTree ORDER BY (timestep_id, seen_ns);
CREATE TABLE IF NOT EXISTS events (
@columns(events),
  INDEX by_session session_id TYPE bloom_filter(0.001) GRANULARITY 1
) ENGINE = ReplacingMergeTree ORDER BY event_id;
CREATE TABLE IF NOT EXISTS messages (
@columns(messages),
  INDEX by_session session_id TYPE bloom_filter(0.001) GRANULARITY 1
) ENGINE = ReplacingMergeTree ORDER BY message_id;
CREATE TABLE IF NOT EXISTS rewards (
@columns(rewards),
  INDEX by_session session_id TYPE bloom_filter(0.001) GRANULARITY 1,
  INDEX by_call call_id TYPE bloom_filter(0.001) GRANULARITY 1
) ENGINE = ReplacingMergeTree ORDER BY reward_id;
INSERT INTO callspan_layout VALUES (@format());
