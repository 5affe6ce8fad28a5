-- callspan's tables in ClickHouse: flat rows, bodies included. Any number of writers may repeat any batch.
-- Rows of one key are one after a merge; ask with FINAL, or `SET final = 1`, to have them so at once.
CREATE TABLE IF NOT EXISTS callspan_layout (version UInt32) ENGINE = ReplacingMergeTree ORDER BY version;
-- The key is the id alone, which begins with the time: a version may differ in all else. `version` orders the versions,
<<<<<<< HEAD
-- by their part and when they were seen. The bodies are JSON as sent; columns compress what repeats.
=======
-- by their part and when they were seen. Bodies are in `content`;
-- `history` names the messages of the request in order, since columns compress what repeats.
>>>>>>> 0207a2eb (record: take out stages, which told late writes apart)
CREATE TABLE IF NOT EXISTS calls (
@columns(calls),
  version UInt128 MATERIALIZED @version(calls),
  INDEX by_session session_id TYPE bloom_filter(0.001) GRANULARITY 1,
  INDEX by_trace trace_id TYPE bloom_filter(0.001) GRANULARITY 1,
  INDEX by_span span_id TYPE bloom_filter(0.001) GRANULARITY 1, INDEX by_start start_ns TYPE minmax GRANULARITY 1,
  INDEX by_response response_id TYPE bloom_filter(0.001) GRANULARITY 1,
  INDEX by_request request_id TYPE bloom_filter(0.001) GRANULARITY 1,
  INDEX by_user user_id TYPE bloom_filter(0.001) GRANULARITY 1
) ENGINE = ReplacingMergeTree(version) PARTITION BY toYYYYMM(fromUnixTimestamp64Nano(start_ns, 'UTC')) ORDER BY call_id;
-- Each version of a session or timestep is a row, with what its process knew.
CREATE TABLE IF NOT EXISTS sessions (
@columns(sessions)
) ENGINE = ReplacingMergeTree ORDER BY (session_id, seen_ns);
CREATE TABLE IF NOT EXISTS timesteps (
@columns(timesteps)
) ENGINE = ReplacingMergeTree ORDER BY (timestep_id, seen_ns);
CREATE TABLE IF NOT EXISTS events (
@columns(events),
<<<<<<< HEAD
  INDEX by_session session_id TYPE bloom_filter(0.001) GRANULARITY 1
) ENGINE = ReplacingMergeTree ORDER BY event_id;
=======
  INDEX by_event_type event_type TYPE bloom_filter(0.001) GRANULARITY 1
) ENGINE = ReplacingMergeTree ORDER BY (session_id, event_id) SETTINGS allow_nullable_key = 1;
>>>>>>> 0207a2eb (record: take out stages, which told late writes apart)
CREATE TABLE IF NOT EXISTS messages (
@columns(messages),
  INDEX by_session session_id TYPE bloom_filter(0.001) GRANULARITY 1
) ENGINE = ReplacingMergeTree ORDER BY message_id;
CREATE TABLE IF NOT EXISTS rewards (
@columns(rewards),
<<<<<<< HEAD
  INDEX by_session session_id TYPE bloom_filter(0.001) GRANULARITY 1,
  INDEX by_call call_id TYPE bloom_filter(0.001) GRANULARITY 1
) ENGINE = ReplacingMergeTree ORDER BY reward_id;
=======
  INDEX by_call call_id TYPE bloom_filter(0.001) GRANULARITY 1
) ENGINE = ReplacingMergeTree ORDER BY (session_id, reward_id) SETTINGS allow_nullable_key = 1;
-- Every value once, by the SHA-256 of its exact JSON. `text`: the whole text of a message. `data`: the JSON without the
-- long texts, which stand in `text` only; NULL for a message that is nothing but its role and text.
-- Writers write again what they last wrote an hour ago: what was not seen for longer than all calls is garbage.
CREATE TABLE IF NOT EXISTS content (
  hash String, role LowCardinality(Nullable(String)), size UInt64, data Nullable(String) CODEC(ZSTD(3)),
  text Nullable(String) CODEC(ZSTD(3)), seen_ns Int64
) ENGINE = ReplacingMergeTree(seen_ns) ORDER BY hash;
-- A hash of the id of each session and call that was erased, and when: what is delivered late does not bring it back.
CREATE TABLE IF NOT EXISTS erased (id String, time_ns Int64) ENGINE = ReplacingMergeTree(time_ns) ORDER BY id;
>>>>>>> 0207a2eb (record: take out stages, which told late writes apart)
CREATE TABLE IF NOT EXISTS dead_letter (key String, reason String, frame String, time_ns Int64)
ENGINE = ReplacingMergeTree ORDER BY key;
INSERT INTO callspan_layout VALUES (@format());
