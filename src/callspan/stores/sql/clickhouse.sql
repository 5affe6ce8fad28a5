-- callspan's tables in ClickHouse. Any number of writers may repeat any batch.
-- Rows that say the same are one after a merge; ask with FINAL, or `SET final = 1`, to have them so at once.
CREATE TABLE IF NOT EXISTS callspan_layout (version UInt32) ENGINE = ReplacingMergeTree ORDER BY version;
-- The key is the id alone, which begins with the time: a version may differ in all else. `version` orders the versions,
-- by their part, when they were seen, and their stage. Bodies are in `content`;
-- `history` names the messages of the request in order, since columns compress what repeats.
CREATE TABLE IF NOT EXISTS calls (
@columns(calls),
  version UInt128 MATERIALIZED @version(calls),
  INDEX by_session session_id TYPE bloom_filter(0.001) GRANULARITY 1,
  INDEX by_trace trace_id TYPE bloom_filter(0.001) GRANULARITY 1,
  INDEX by_span span_id TYPE bloom_filter(0.001) GRANULARITY 1, INDEX by_start start_ns TYPE minmax GRANULARITY 1,
  INDEX by_response response_id TYPE bloom_filter(0.001) GRANULARITY 1,
  INDEX by_request request_id TYPE bloom_filter(0.001) GRANULARITY 1,
  INDEX by_user user_id TYPE bloom_filter(0.001) GRANULARITY 1, INDEX by_run run_id TYPE bloom_filter(0.001) GRANULARITY 1,
  INDEX by_timestep timestep_id TYPE bloom_filter(0.001) GRANULARITY 1,
  INDEX by_organization organization_id TYPE bloom_filter(0.001) GRANULARITY 1,
  INDEX by_workflow workflow_id TYPE bloom_filter(0.001) GRANULARITY 1,
  INDEX by_model_req model_req TYPE bloom_filter(0.001) GRANULARITY 1,
  INDEX by_batch batch_id TYPE bloom_filter(0.001) GRANULARITY 1,
  INDEX by_continues continues TYPE bloom_filter(0.001) GRANULARITY 1,
  INDEX by_conversation conversation_id TYPE bloom_filter(0.001) GRANULARITY 1
) ENGINE = ReplacingMergeTree(version) PARTITION BY toYYYYMM(fromUnixTimestamp64Nano(start_ns, 'UTC')) ORDER BY call_id;
CREATE TABLE IF NOT EXISTS session_versions (
@columns(sessions),
  INDEX by_user user_id TYPE bloom_filter(0.001) GRANULARITY 1
) ENGINE = ReplacingMergeTree ORDER BY (session_id, seen_ns);
-- All versions of a session together: of each field, and of each key of its metadata, the newest that knows it.
CREATE VIEW IF NOT EXISTS sessions AS
WITH arrayFold((sum, x) -> mapUpdate(sum, x), arrayMap(pair -> CAST(JSONExtractKeysAndValuesRaw(pair.2), 'Map(String, String)'),
  arraySort(groupArrayIf((v.seen_ns, assumeNotNull(v.metadata)), v.metadata IS NOT NULL))), CAST(map(), 'Map(String, String)')) AS keyed
SELECT
  v.session_id AS session_id,
@merged(sessions)
FROM session_versions v GROUP BY v.session_id;
CREATE TABLE IF NOT EXISTS timestep_versions (
@columns(timesteps)
) ENGINE = ReplacingMergeTree ORDER BY (session_id, timestep_id, seen_ns);
-- All versions of a timestep together: of each field, and of each key of its metadata, the newest that knows it.
CREATE VIEW IF NOT EXISTS timesteps AS
WITH arrayFold((sum, x) -> mapUpdate(sum, x), arrayMap(pair -> CAST(JSONExtractKeysAndValuesRaw(pair.2), 'Map(String, String)'),
  arraySort(groupArrayIf((v.seen_ns, assumeNotNull(v.metadata)), v.metadata IS NOT NULL))), CAST(map(), 'Map(String, String)')) AS keyed
SELECT
  v.session_id AS session_id, v.timestep_id AS timestep_id,
@merged(timesteps)
FROM timestep_versions v GROUP BY v.session_id, v.timestep_id;
CREATE TABLE IF NOT EXISTS events (
@columns(events),
  version UInt128 MATERIALIZED @version(events),
  INDEX by_event_type event_type TYPE bloom_filter(0.001) GRANULARITY 1
) ENGINE = ReplacingMergeTree(version) ORDER BY (session_id, event_id) SETTINGS allow_nullable_key = 1;
CREATE TABLE IF NOT EXISTS messages (
@columns(messages)
) ENGINE = ReplacingMergeTree ORDER BY (session_id, message_id) SETTINGS allow_nullable_key = 1;
CREATE TABLE IF NOT EXISTS rewards (
@columns(rewards),
  version UInt128 MATERIALIZED @version(rewards),
  INDEX by_call call_id TYPE bloom_filter(0.001) GRANULARITY 1
) ENGINE = ReplacingMergeTree(version) ORDER BY (session_id, reward_id) SETTINGS allow_nullable_key = 1;
-- Every value once, by the SHA-256 of its exact JSON. `text`: the whole text of a message. `data`: the JSON without the
-- long texts, which stand in `text` only; NULL for a message that is nothing but its role and text.
-- Writers write again what they last wrote an hour ago: what was not seen for longer than all calls is garbage.
CREATE TABLE IF NOT EXISTS content (
  hash String, role LowCardinality(Nullable(String)), size UInt64, data Nullable(String) CODEC(ZSTD(3)),
  text Nullable(String) CODEC(ZSTD(3)), seen_ns Int64
) ENGINE = ReplacingMergeTree(seen_ns) ORDER BY hash;
-- A hash of the id of each session and call that was erased, and when: what is delivered late does not bring it back.
CREATE TABLE IF NOT EXISTS erased (id String, time_ns Int64) ENGINE = ReplacingMergeTree(time_ns) ORDER BY id;
CREATE TABLE IF NOT EXISTS dead_letter (key String, reason String, frame String, time_ns Int64)
ENGINE = ReplacingMergeTree ORDER BY key;
-- The messages of few calls are on the right side of the join, of which ClickHouse makes a table: not all contents. Where
-- a call continues another one, its own messages are not all that the model saw.
CREATE VIEW IF NOT EXISTS call_messages AS
SELECT m.call_id AS call_id, m.session_id AS session_id, m.position AS position, m.direction AS direction, t.role AS role,
       t.text AS text, m.continues AS continues, m.conversation_id AS conversation_id
  FROM content AS t FINAL JOIN (
    SELECT call_id, session_id, toInt64(-1) AS position, 'in' AS direction, assumeNotNull(system) AS hash, continues, conversation_id
      FROM calls FINAL WHERE system IS NOT NULL
    UNION ALL
    SELECT call_id, session_id, toInt64(number) - 1, 'in', one, continues, conversation_id
      FROM calls FINAL ARRAY JOIN history AS one, arrayEnumerate(history) AS number
    UNION ALL
    SELECT call_id, session_id, toInt64(length(history)), 'out', assumeNotNull(output), continues, conversation_id
      FROM calls FINAL WHERE output IS NOT NULL) m ON m.hash = t.hash;
INSERT INTO callspan_layout VALUES (@format());
