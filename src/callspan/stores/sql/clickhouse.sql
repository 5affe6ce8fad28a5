-- callspan's tables in ClickHouse. Any number of writers may repeat any batch.
-- Rows that say the same are one after a merge; ask with FINAL, or `SET final = 1`, to have them so at once.
CREATE TABLE IF NOT EXISTS callspan_layout (version UInt32) ENGINE = ReplacingMergeTree ORDER BY version;
-- The key is the id alone, which begins with the time: a version may differ in all else. Bodies are in `content`;
-- `history` names the messages of the request in order, since columns compress what repeats.
CREATE TABLE IF NOT EXISTS calls (
@columns(calls),
  INDEX by_session session_id TYPE bloom_filter(0.001) GRANULARITY 1,
  INDEX by_trace trace_id TYPE bloom_filter(0.001) GRANULARITY 1,
  INDEX by_span span_id TYPE bloom_filter(0.001) GRANULARITY 1, INDEX by_start start_ns TYPE minmax GRANULARITY 1
) ENGINE = ReplacingMergeTree(rec_version) PARTITION BY toYYYYMM(fromUnixTimestamp64Nano(start_ns, 'UTC')) ORDER BY call_id
SETTINGS non_replicated_deduplication_window = 1000;
CREATE TABLE IF NOT EXISTS session_versions (
@columns(sessions)
) ENGINE = ReplacingMergeTree ORDER BY (session_id, rec_version)
SETTINGS non_replicated_deduplication_window = 1000;
-- All versions of a session together: of each field, and of each key of its metadata, the newest that knows it.
CREATE VIEW IF NOT EXISTS sessions AS
WITH arrayFold((sum, x) -> mapUpdate(sum, x), arrayMap(pair -> CAST(JSONExtractKeysAndValuesRaw(pair.2), 'Map(String, String)'),
  arraySort(groupArrayIf((v.rec_version, assumeNotNull(v.metadata)), v.metadata IS NOT NULL))), CAST(map(), 'Map(String, String)')) AS keyed
SELECT
  v.session_id AS session_id,
@merged(sessions)
FROM session_versions v GROUP BY v.session_id;
CREATE TABLE IF NOT EXISTS timestep_versions (
@columns(timesteps)
) ENGINE = ReplacingMergeTree ORDER BY (session_id, timestep_id, rec_version)
SETTINGS non_replicated_deduplication_window = 1000;
-- All versions of a timestep together: of each field, and of each key of its metadata, the newest that knows it.
CREATE VIEW IF NOT EXISTS timesteps AS
WITH arrayFold((sum, x) -> mapUpdate(sum, x), arrayMap(pair -> CAST(JSONExtractKeysAndValuesRaw(pair.2), 'Map(String, String)'),
  arraySort(groupArrayIf((v.rec_version, assumeNotNull(v.metadata)), v.metadata IS NOT NULL))), CAST(map(), 'Map(String, String)')) AS keyed
SELECT
  v.session_id AS session_id, v.timestep_id AS timestep_id,
@merged(timesteps)
FROM timestep_versions v GROUP BY v.session_id, v.timestep_id;
CREATE TABLE IF NOT EXISTS events (
@columns(events)
) ENGINE = ReplacingMergeTree ORDER BY (session_id, event_id) SETTINGS allow_nullable_key = 1, non_replicated_deduplication_window = 1000;
CREATE TABLE IF NOT EXISTS messages (
@columns(messages)
) ENGINE = ReplacingMergeTree ORDER BY (session_id, message_id) SETTINGS allow_nullable_key = 1, non_replicated_deduplication_window = 1000;
CREATE TABLE IF NOT EXISTS rewards (
@columns(rewards)
) ENGINE = ReplacingMergeTree ORDER BY (session_id, reward_id) SETTINGS allow_nullable_key = 1, non_replicated_deduplication_window = 1000;
-- Every value once, by the SHA-256 of its exact JSON. enc 2: its long texts stand in `text` only.
-- Writers write again what they last wrote an hour ago: what was not seen for longer than all calls is garbage.
CREATE TABLE IF NOT EXISTS content (
  hash String, role LowCardinality(Nullable(String)), text Nullable(String) CODEC(ZSTD(3)), enc UInt8, size UInt64,
  data String CODEC(ZSTD(3)), seen_ns Int64
) ENGINE = ReplacingMergeTree(seen_ns) ORDER BY hash SETTINGS non_replicated_deduplication_window = 1000;
CREATE VIEW IF NOT EXISTS content_text AS
SELECT hash AS id, hash, role, text, CAST(NULL, 'Nullable(String)') AS rest, enc, data FROM content;
CREATE TABLE IF NOT EXISTS dead_letter (key String, reason String, frame String, time_ns Int64)
ENGINE = ReplacingMergeTree ORDER BY key SETTINGS non_replicated_deduplication_window = 1000;
CREATE VIEW IF NOT EXISTS call_messages AS
SELECT m.call_id AS call_id, m.session_id AS session_id, m.position AS position, m.direction AS direction, t.role AS role,
       t.text AS text
  FROM (
    SELECT call_id, session_id, toInt64(-1) AS position, 'in' AS direction, assumeNotNull(system) AS hash
      FROM calls FINAL WHERE system IS NOT NULL
    UNION ALL
    SELECT call_id, session_id, toInt64(number) - 1, 'in', one
      FROM calls FINAL ARRAY JOIN history AS one, arrayEnumerate(history) AS number
    UNION ALL
    SELECT call_id, session_id, toInt64(length(history)), 'out', assumeNotNull(output)
      FROM calls FINAL WHERE output IS NOT NULL) m
  JOIN (SELECT hash, any(role) AS role, any(text) AS text FROM content GROUP BY hash) t ON t.hash = m.hash;
