-- callspan's tables in ClickHouse. Any number of writers may repeat any batch. Writers insert into tables that end in
-- `_versions`; the views that are named like SQLite's tables, with its columns, have one row per record.
CREATE TABLE IF NOT EXISTS callspan_layout (version UInt32) ENGINE = ReplacingMergeTree ORDER BY version;
-- The key is only the id, which starts with the time: versions may differ in any other column, also in the session.
-- `version` orders them: of two versions with different content levels the stricter one stays, whichever comes first,
-- then as `callspan.record.merging.order_key` says. Granules are small, because a session's calls lie apart.
CREATE TABLE IF NOT EXISTS call_versions (
@columns(calls),
  version UInt128,
  INDEX by_session session_id TYPE bloom_filter(0.00001) GRANULARITY 1,
  INDEX by_trace trace_id TYPE bloom_filter(0.001) GRANULARITY 4,
  INDEX by_span span_id TYPE bloom_filter(0.001) GRANULARITY 4, INDEX by_start start_ns TYPE minmax GRANULARITY 1,
  INDEX by_response response_id TYPE bloom_filter(0.001) GRANULARITY 4,
  INDEX by_request request_id TYPE bloom_filter(0.001) GRANULARITY 4,
  INDEX by_conversation conversation_id TYPE bloom_filter(0.001) GRANULARITY 4,
  INDEX by_user user_id TYPE bloom_filter(0.001) GRANULARITY 4, INDEX by_stored stored_ns TYPE minmax GRANULARITY 1
) ENGINE = ReplacingMergeTree(version) PARTITION BY toYYYYMM(fromUnixTimestamp64Nano(start_ns, 'UTC')) ORDER BY call_id
SETTINGS index_granularity = 1024, ttl_only_drop_parts = 1;
-- What each version of a call refers to in `contents`: [position, n, n] of each message, -1 is the system prompt.
CREATE TABLE IF NOT EXISTS call_contents (
  owner String, call_id String, version UInt128, start_ns Int64, request Nullable(Int64), output Nullable(Int64),
  contents Array(Tuple(Int64, Int64, Int64)) CODEC(ZSTD(3)), INDEX by_version version TYPE minmax GRANULARITY 1
) ENGINE = ReplacingMergeTree PARTITION BY toYYYYMM(fromUnixTimestamp64Nano(start_ns, 'UTC'))
ORDER BY (owner, call_id, version) SETTINGS ttl_only_drop_parts = 1;
-- Each content once per owner, `s:SESSION` or, outside of sessions, `c:CALL`; `n` is made of its hash, so that a writer
-- need not know what is there. `text` is what a message says, `reasoning` what the model thought. `data` is the JSON
-- without the long texts, which are only in these; NULL for a message with only a role and text.
CREATE TABLE IF NOT EXISTS content_versions (
  owner String, n Int64, start_ns Int64, hash String CODEC(ZSTD(1)), role LowCardinality(Nullable(String)),
  data Nullable(String) CODEC(ZSTD(3)), text Nullable(String) CODEC(ZSTD(3)), reasoning Nullable(String) CODEC(ZSTD(3))
) ENGINE = ReplacingMergeTree PARTITION BY toYYYYMM(fromUnixTimestamp64Nano(start_ns, 'UTC')) ORDER BY (owner, n)
SETTINGS ttl_only_drop_parts = 1;
-- One row per version of a session or timestep, with what its process knew.
CREATE TABLE IF NOT EXISTS session_versions (
@columns(sessions),
  INDEX by_start start_ns TYPE minmax GRANULARITY 1, INDEX by_stored stored_ns TYPE minmax GRANULARITY 1
) ENGINE = ReplacingMergeTree PARTITION BY toYYYYMM(fromUnixTimestamp64Nano(seen_ns, 'UTC'))
ORDER BY (session_id, seen_ns) SETTINGS ttl_only_drop_parts = 1;
CREATE TABLE IF NOT EXISTS timestep_versions (
@columns(timesteps),
  INDEX by_id timestep_id TYPE bloom_filter(0.001) GRANULARITY 1, INDEX by_stored stored_ns TYPE minmax GRANULARITY 1
) ENGINE = ReplacingMergeTree PARTITION BY toYYYYMM(fromUnixTimestamp64Nano(seen_ns, 'UTC'))
ORDER BY (ifNull(session_id, ''), timestep_id, seen_ns) SETTINGS ttl_only_drop_parts = 1;
CREATE TABLE IF NOT EXISTS event_versions (
@columns(events),
  INDEX by_id event_id TYPE bloom_filter(0.001) GRANULARITY 1, INDEX by_call call_id TYPE bloom_filter(0.001) GRANULARITY 1,
  INDEX by_stored stored_ns TYPE minmax GRANULARITY 1
) ENGINE = ReplacingMergeTree PARTITION BY toYYYYMM(fromUnixTimestamp64Nano(ifNull(time_ns, 0), 'UTC'))
ORDER BY (ifNull(session_id, ''), event_id) SETTINGS ttl_only_drop_parts = 1;
CREATE TABLE IF NOT EXISTS message_versions (
@columns(messages)
) ENGINE = ReplacingMergeTree PARTITION BY toYYYYMM(fromUnixTimestamp64Nano(ifNull(time_ns, 0), 'UTC'))
ORDER BY (ifNull(session_id, ''), message_id) SETTINGS ttl_only_drop_parts = 1;
CREATE TABLE IF NOT EXISTS reward_versions (
@columns(rewards),
  INDEX by_call call_id TYPE bloom_filter(0.001) GRANULARITY 1, INDEX by_stored stored_ns TYPE minmax GRANULARITY 1,
  INDEX by_kind concat(scope, ' ', objective) TYPE bloom_filter(0.001) GRANULARITY 8
) ENGINE = ReplacingMergeTree PARTITION BY toYYYYMM(fromUnixTimestamp64Nano(ifNull(time_ns, 0), 'UTC'))
ORDER BY (ifNull(session_id, ''), reward_id) SETTINGS ttl_only_drop_parts = 1;
-- The number of deletions of contents: a writer that sees a larger one no longer relies on what it has inserted before.
-- Each is a row until the server merges their parts into one. A replica would take a row without `id` for a repetition.
CREATE TABLE IF NOT EXISTS content_deletions (one UInt8, number UInt64, id UUID) ENGINE = SummingMergeTree(number)
ORDER BY one;
-- Hashes of the ids of erased sessions and calls, with the time.
CREATE TABLE IF NOT EXISTS erased_ids (id String, time_ns Int64) ENGINE = ReplacingMergeTree(time_ns) ORDER BY id;
CREATE VIEW IF NOT EXISTS erased AS SELECT id, time_ns FROM erased_ids FINAL;
-- Spans that receivers of `callspan send` have: a hash of receiver and span, and how the span ended. Of two rows of an id
-- the one that was inserted last counts, since a version may be smaller than the one before.
CREATE TABLE IF NOT EXISTS sent_spans (id Int64, version Int64) ENGINE = ReplacingMergeTree ORDER BY id;
CREATE VIEW IF NOT EXISTS sent AS SELECT id, version FROM sent_spans FINAL;
-- The processes that send: a hash of the receiver, the id of the sender, and when it began and last gave a sign of life.
CREATE TABLE IF NOT EXISTS sender_leases (
  receiver Int64, sender String,
  began_ns SimpleAggregateFunction(min, Int64) DEFAULT toUnixTimestamp64Nano(now64(9)),
  renewed_ns SimpleAggregateFunction(max, Int64) DEFAULT toUnixTimestamp64Nano(now64(9))
) ENGINE = AggregatingMergeTree ORDER BY (receiver, sender)
TTL toDateTime(intDiv(renewed_ns, 1000000000)) + INTERVAL 1 DAY;
-- Nothing is joined to runs here: the columns and the table that readers ask for are empty.
CREATE VIEW IF NOT EXISTS calls AS
SELECT @names(calls), CAST(NULL, 'Nullable(String)') AS owner, version FROM call_versions FINAL;
CREATE VIEW IF NOT EXISTS run_ids AS SELECT '' AS id, '' AS session_id WHERE 1 = 0;
-- Without what a version refers to that a stricter one has replaced, until its writer has deleted that: a strict version
-- has the level from bit 72 on.
CREATE VIEW IF NOT EXISTS contents AS SELECT owner, n, unhex(hash) AS hash, role, data, text, reasoning
  FROM content_versions FINAL
 WHERE (owner, n) NOT IN (
   SELECT owner, arrayJoin(arrayConcat([ifNull(request, 0), ifNull(output, 0)], contents.2)) FROM call_contents
    WHERE version < bitShiftLeft(toUInt128(1), 72)
      AND call_id IN (SELECT call_id FROM call_contents WHERE version >= bitShiftLeft(toUInt128(1), 72)));
CREATE VIEW IF NOT EXISTS events AS SELECT @names(events) FROM event_versions FINAL;
CREATE VIEW IF NOT EXISTS messages AS SELECT @names(messages) FROM message_versions FINAL;
CREATE VIEW IF NOT EXISTS call_messages AS
SELECT c.call_id AS call_id, c.session_id AS session_id, r.1 AS position,
       if(t.n = k.output, 'out', 'in') AS direction, t.role AS role, t.text AS text, t.reasoning AS reasoning,
       c.continues AS continues, c.conversation_id AS conversation_id
  FROM calls c JOIN call_contents k ON k.call_id = c.call_id AND k.version = c.version
   AND k.owner = ifNull(concat('s:', c.session_id), concat('c:', c.call_id))
  ARRAY JOIN k.contents AS r
  JOIN contents t ON t.owner = k.owner AND t.n = r.2
 WHERE r.1 >= -1;
INSERT INTO callspan_layout VALUES (@format());
