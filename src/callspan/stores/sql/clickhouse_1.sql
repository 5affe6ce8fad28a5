-- callspan's ClickHouse layout, version 1: the columns of SQLite's. Any number of writers may repeat any batch.
-- Rows that say the same are one after a merge; ask with FINAL, or `SET final = 1`, to have them so at once.
CREATE TABLE IF NOT EXISTS callspan_layout (version UInt32) ENGINE = ReplacingMergeTree ORDER BY version;
-- The key is the id alone, which begins with the time: a version may differ in all else. Bodies are in `content`;
-- `history` names the messages of the request in order, since columns compress what repeats.
CREATE TABLE IF NOT EXISTS calls (
  call_id String, rec_version Int64, schema_v Int64, session_id Nullable(String),
  session_name LowCardinality(Nullable(String)), timestep Nullable(Int64), timestep_id Nullable(String),
  parent_call_id Nullable(String), trace_id Nullable(String), span_id Nullable(String),
  parent_span_id Nullable(String), sampled Nullable(Bool), service LowCardinality(Nullable(String)),
  host LowCardinality(Nullable(String)), pid Nullable(Int64), provider LowCardinality(Nullable(String)),
  api LowCardinality(Nullable(String)), operation LowCardinality(Nullable(String)),
  sdk LowCardinality(Nullable(String)), server_address LowCardinality(Nullable(String)), server_port Nullable(Int64),
  model_req LowCardinality(Nullable(String)), model_resp LowCardinality(Nullable(String)),
  response_id Nullable(String), service_tier LowCardinality(Nullable(String)), stream Nullable(Bool),
  stream_end LowCardinality(Nullable(String)), outcome LowCardinality(Nullable(String)),
  error_type LowCardinality(Nullable(String)), error_kind LowCardinality(Nullable(String)),
  error_message Nullable(String), retries Nullable(Int64), rate_limited Nullable(Bool),
  start_ns Int64 CODEC(Delta, ZSTD), ttft_ns Nullable(Int64), duration_ns Nullable(Int64), in_tok Nullable(Int64),
  out_tok Nullable(Int64), total_tok Nullable(Int64), cache_read_tok Nullable(Int64),
  cache_write_tok Nullable(Int64), reasoning_tok Nullable(Int64), cost_usd Nullable(Decimal(76, 38)),
  price_v LowCardinality(Nullable(String)), params Nullable(String) CODEC(ZSTD(3)),
  usage_raw Nullable(String) CODEC(ZSTD(3)), attempts Nullable(String) CODEC(ZSTD(3)),
  metadata Nullable(String) CODEC(ZSTD(3)), finish_reason LowCardinality(Nullable(String)),
  http_status Nullable(Int64), end_ns Nullable(Int64), cost_picousd Nullable(Int64),
  extra Nullable(String) CODEC(ZSTD(3)), request Nullable(String), history Array(String) CODEC(ZSTD(3)),
  system Nullable(String), tools Nullable(String), output Nullable(String),
  INDEX by_session session_id TYPE bloom_filter(0.001) GRANULARITY 1,
  INDEX by_trace trace_id TYPE bloom_filter(0.001) GRANULARITY 1,
  INDEX by_span span_id TYPE bloom_filter(0.001) GRANULARITY 1, INDEX by_start start_ns TYPE minmax GRANULARITY 1
) ENGINE = ReplacingMergeTree(rec_version) PARTITION BY toYYYYMM(fromUnixTimestamp64Nano(start_ns, 'UTC')) ORDER BY call_id
SETTINGS non_replicated_deduplication_window = 1000;
CREATE TABLE IF NOT EXISTS session_versions (
  session_id String, rec_version Int64, schema_v Int64, name LowCardinality(Nullable(String)),
  group_id Nullable(String), task_id Nullable(String), experiment LowCardinality(Nullable(String)),
  user_id LowCardinality(Nullable(String)), parent_session_id Nullable(String), trace_id Nullable(String),
  span_id Nullable(String), service LowCardinality(Nullable(String)), host LowCardinality(Nullable(String)),
  pid Nullable(Int64), start_ns Nullable(Int64), end_ns Nullable(Int64), outcome LowCardinality(Nullable(String)),
  success Nullable(Bool), error Nullable(String) CODEC(ZSTD(3)), metadata Nullable(String) CODEC(ZSTD(3)),
  totals Nullable(String) CODEC(ZSTD(3)), redactions Nullable(String) CODEC(ZSTD(3)),
  extra Nullable(String) CODEC(ZSTD(3))
) ENGINE = ReplacingMergeTree ORDER BY (session_id, rec_version)
SETTINGS non_replicated_deduplication_window = 1000;
-- All versions of a session together: of each field, and of each key of its metadata, the newest that knows it.
CREATE VIEW IF NOT EXISTS sessions AS
WITH arrayFold((sum, x) -> mapUpdate(sum, x), arrayMap(pair -> CAST(JSONExtractKeysAndValuesRaw(pair.2), 'Map(String, String)'),
  arraySort(groupArrayIf((v.rec_version, assumeNotNull(v.metadata)), v.metadata IS NOT NULL))), CAST(map(), 'Map(String, String)')) AS keyed
SELECT
  v.session_id AS session_id, max(v.rec_version) AS rec_version, max(v.schema_v) AS schema_v,
  argMax(v.name, v.rec_version) AS name, argMax(v.group_id, v.rec_version) AS group_id,
  argMax(v.task_id, v.rec_version) AS task_id, argMax(v.experiment, v.rec_version) AS experiment,
  argMax(v.user_id, v.rec_version) AS user_id, argMax(v.parent_session_id, v.rec_version) AS parent_session_id,
  argMax(v.trace_id, v.rec_version) AS trace_id, argMax(v.span_id, v.rec_version) AS span_id,
  argMax(v.service, v.rec_version) AS service, argMax(v.host, v.rec_version) AS host,
  argMax(v.pid, v.rec_version) AS pid, min(v.start_ns) AS start_ns, argMax(v.end_ns, v.rec_version) AS end_ns,
  argMax(v.outcome, v.rec_version) AS outcome, argMax(v.success, v.rec_version) AS success,
  argMax(v.error, v.rec_version) AS error,
  if(count(v.metadata) = 0, NULL, concat('{', arrayStringConcat(arrayMap((k, x) -> concat(toJSONString(k), ':', x),
    mapKeys(keyed), mapValues(keyed)), ','), '}')) AS metadata,
  argMax(v.totals, v.rec_version) AS totals, argMax(v.redactions, v.rec_version) AS redactions,
  argMax(v.extra, v.rec_version) AS extra
FROM session_versions v GROUP BY v.session_id;
CREATE TABLE IF NOT EXISTS timestep_versions (
  timestep_id String, session_id String, rec_version Int64, schema_v Int64, timestep Nullable(Int64),
  name LowCardinality(Nullable(String)), turn Nullable(Int64), parent_timestep_id Nullable(String),
  trace_id Nullable(String), span_id Nullable(String), start_ns Nullable(Int64), end_ns Nullable(Int64),
  outcome LowCardinality(Nullable(String)), terminated Nullable(Bool), truncated Nullable(Bool),
  error Nullable(String) CODEC(ZSTD(3)), metadata Nullable(String) CODEC(ZSTD(3)),
  totals Nullable(String) CODEC(ZSTD(3)), redactions Nullable(String) CODEC(ZSTD(3)),
  extra Nullable(String) CODEC(ZSTD(3))
) ENGINE = ReplacingMergeTree ORDER BY (session_id, timestep_id, rec_version)
SETTINGS non_replicated_deduplication_window = 1000;
-- All versions of a timestep together: of each field, and of each key of its metadata, the newest that knows it.
CREATE VIEW IF NOT EXISTS timesteps AS
WITH arrayFold((sum, x) -> mapUpdate(sum, x), arrayMap(pair -> CAST(JSONExtractKeysAndValuesRaw(pair.2), 'Map(String, String)'),
  arraySort(groupArrayIf((v.rec_version, assumeNotNull(v.metadata)), v.metadata IS NOT NULL))), CAST(map(), 'Map(String, String)')) AS keyed
SELECT
  v.session_id AS session_id, v.timestep_id AS timestep_id, max(v.rec_version) AS rec_version,
  max(v.schema_v) AS schema_v, argMax(v.timestep, v.rec_version) AS timestep, argMax(v.name, v.rec_version) AS name,
  argMax(v.turn, v.rec_version) AS turn, argMax(v.parent_timestep_id, v.rec_version) AS parent_timestep_id,
  argMax(v.trace_id, v.rec_version) AS trace_id, argMax(v.span_id, v.rec_version) AS span_id,
  min(v.start_ns) AS start_ns, argMax(v.end_ns, v.rec_version) AS end_ns,
  argMax(v.outcome, v.rec_version) AS outcome, argMax(v.terminated, v.rec_version) AS terminated,
  argMax(v.truncated, v.rec_version) AS truncated, argMax(v.error, v.rec_version) AS error,
  if(count(v.metadata) = 0, NULL, concat('{', arrayStringConcat(arrayMap((k, x) -> concat(toJSONString(k), ':', x),
    mapKeys(keyed), mapValues(keyed)), ','), '}')) AS metadata,
  argMax(v.totals, v.rec_version) AS totals, argMax(v.redactions, v.rec_version) AS redactions,
  argMax(v.extra, v.rec_version) AS extra
FROM timestep_versions v GROUP BY v.session_id, v.timestep_id;
CREATE TABLE IF NOT EXISTS events (
  event_id String, session_id Nullable(String), schema_v Int64, timestep_id Nullable(String),
  timestep Nullable(Int64), call_id Nullable(String), event_type LowCardinality(Nullable(String)),
  name LowCardinality(Nullable(String)), time_ns Nullable(Int64), duration_ns Nullable(Int64),
  sequence Nullable(Int64), system LowCardinality(Nullable(String)), tool_call_id Nullable(String),
  reward Nullable(Float64), terminated Nullable(Bool), truncated Nullable(Bool),
  data Nullable(String) CODEC(ZSTD(3)), error Nullable(String) CODEC(ZSTD(3)), flags Nullable(String) CODEC(ZSTD(3)),
  metadata Nullable(String) CODEC(ZSTD(3)), extra Nullable(String) CODEC(ZSTD(3))
) ENGINE = ReplacingMergeTree ORDER BY (session_id, event_id) SETTINGS allow_nullable_key = 1, non_replicated_deduplication_window = 1000;
CREATE TABLE IF NOT EXISTS messages (
  message_id String, session_id Nullable(String), schema_v Int64, timestep_id Nullable(String),
  timestep Nullable(Int64), call_id Nullable(String), message_type LowCardinality(Nullable(String)),
  sender LowCardinality(Nullable(String)), receiver LowCardinality(Nullable(String)), time_ns Nullable(Int64),
  sequence Nullable(Int64), content Nullable(String) CODEC(ZSTD(3)),
  causal_influence Nullable(String) CODEC(ZSTD(3)), flags Nullable(String) CODEC(ZSTD(3)),
  metadata Nullable(String) CODEC(ZSTD(3)), extra Nullable(String) CODEC(ZSTD(3))
) ENGINE = ReplacingMergeTree ORDER BY (session_id, message_id) SETTINGS allow_nullable_key = 1, non_replicated_deduplication_window = 1000;
CREATE TABLE IF NOT EXISTS rewards (
  reward_id String, session_id Nullable(String), schema_v Int64, timestep_id Nullable(String),
  timestep Nullable(Int64), event_id Nullable(String), call_id Nullable(String),
  objective LowCardinality(Nullable(String)), value Nullable(Float64), label Nullable(String),
  scope LowCardinality(Nullable(String)), source LowCardinality(Nullable(String)), annotation Nullable(String),
  time_ns Nullable(Int64), metadata Nullable(String) CODEC(ZSTD(3)), extra Nullable(String) CODEC(ZSTD(3))
) ENGINE = ReplacingMergeTree ORDER BY (session_id, reward_id) SETTINGS allow_nullable_key = 1, non_replicated_deduplication_window = 1000;
-- Every value once, by the SHA-256 of its exact JSON. enc 2: its long texts stand in `text` only.
-- Writers write again what they last wrote an hour ago: what was not seen for longer than all calls is garbage.
CREATE TABLE IF NOT EXISTS content (
  hash String, role LowCardinality(Nullable(String)), text Nullable(String) CODEC(ZSTD(3)), enc UInt8, size UInt64,
  data String CODEC(ZSTD(3)), seen_ns Int64
) ENGINE = ReplacingMergeTree(seen_ns) ORDER BY hash SETTINGS non_replicated_deduplication_window = 1000;
CREATE VIEW IF NOT EXISTS said AS
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
INSERT INTO callspan_layout VALUES (1);
