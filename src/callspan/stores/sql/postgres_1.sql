-- callspan's Postgres layout, version 1: the tables and columns of SQLite's. Contents and chain nodes go by hash.
CREATE TABLE callspan_layout (version integer NOT NULL);
INSERT INTO callspan_layout VALUES (1);
CREATE TABLE calls (
  call_id text COLLATE "C" PRIMARY KEY, rec_version bigint NOT NULL, schema_v bigint NOT NULL,
  session_id text COLLATE "C", session_name text COLLATE "C", timestep bigint, timestep_id text COLLATE "C",
  parent_call_id text COLLATE "C",
  trace_id text COLLATE "C", span_id text COLLATE "C", parent_span_id text COLLATE "C", sampled boolean, service text
  COLLATE "C", host text COLLATE "C", pid bigint,
  provider text COLLATE "C", api text COLLATE "C", operation text COLLATE "C", sdk text COLLATE "C", server_address
  text COLLATE "C", server_port bigint,
  model_req text COLLATE "C", model_resp text COLLATE "C", response_id text COLLATE "C", service_tier text COLLATE
  "C", stream boolean, stream_end text COLLATE "C",
  outcome text COLLATE "C", finish_reason text COLLATE "C", error_type text COLLATE "C", error_kind text COLLATE "C",
  error_message text COLLATE "C", http_status bigint,
  retries bigint, rate_limited boolean,
  start_ns bigint NOT NULL, ttft_ns bigint, duration_ns bigint, end_ns bigint,
  in_tok bigint, out_tok bigint, total_tok bigint,
  cache_read_tok bigint, cache_write_tok bigint, reasoning_tok bigint,
  cost_usd numeric, cost_picousd bigint, price_v text COLLATE "C",
  params json, usage_raw json, attempts json, metadata json, extra json,
  request bytea, ctx bytea, system bytea, tools bytea, output bytea
);
-- Holds all that sums need, so that none of them reads the table.
CREATE INDEX calls_session ON calls (session_id, model_req, model_resp, start_ns) INCLUDE (
  end_ns, provider, outcome, retries, in_tok, out_tok, cache_read_tok, reasoning_tok, cost_usd, cost_picousd
);
CREATE INDEX calls_start ON calls (start_ns);
CREATE INDEX calls_span ON calls (span_id) WHERE span_id IS NOT NULL;

-- Several versions of a session or timestep are one row; `stamps`: which version a value is of, where not the last.
CREATE TABLE sessions (
  session_id text COLLATE "C" PRIMARY KEY, rec_version bigint NOT NULL, schema_v bigint NOT NULL,
  name text COLLATE "C", group_id text COLLATE "C", task_id text COLLATE "C", experiment text COLLATE "C", user_id
  text COLLATE "C", parent_session_id text COLLATE "C",
  trace_id text COLLATE "C", span_id text COLLATE "C", service text COLLATE "C", host text COLLATE "C", pid bigint,
  start_ns bigint, end_ns bigint,
  outcome text COLLATE "C", success boolean, error json, metadata json, totals json, redactions json, stamps json, extra json
);
CREATE TABLE timesteps (
  timestep_id text COLLATE "C" PRIMARY KEY, session_id text COLLATE "C", rec_version bigint NOT NULL, schema_v bigint
  NOT NULL,
  timestep bigint, name text COLLATE "C", turn bigint, parent_timestep_id text COLLATE "C", trace_id text COLLATE "C",
  span_id text COLLATE "C",
  start_ns bigint, end_ns bigint, outcome text COLLATE "C", terminated boolean, truncated boolean,
  error json, metadata json, totals json, redactions json, stamps json, extra json
);
CREATE INDEX timesteps_session ON timesteps (session_id, start_ns);
CREATE TABLE events (
  event_id text COLLATE "C" PRIMARY KEY, session_id text COLLATE "C", schema_v bigint NOT NULL, timestep_id text
  COLLATE "C", timestep bigint,
  call_id text COLLATE "C", event_type text COLLATE "C", name text COLLATE "C", time_ns bigint, duration_ns bigint,
  sequence bigint,
  system text COLLATE "C", tool_call_id text COLLATE "C", reward double precision, terminated boolean, truncated
  boolean,
  data json, error json, flags json, metadata json, extra json
);
CREATE INDEX events_session ON events (session_id, time_ns);
CREATE TABLE messages (
  message_id text COLLATE "C" PRIMARY KEY, session_id text COLLATE "C", schema_v bigint NOT NULL, timestep_id text
  COLLATE "C", timestep bigint,
  call_id text COLLATE "C", message_type text COLLATE "C", sender text COLLATE "C", receiver text COLLATE "C", time_ns
  bigint, sequence bigint,
  content json, causal_influence json, flags json, metadata json, extra json
);
CREATE INDEX messages_session ON messages (session_id, time_ns);
CREATE TABLE rewards (
  reward_id text COLLATE "C" PRIMARY KEY, session_id text COLLATE "C", schema_v bigint NOT NULL, timestep_id text
  COLLATE "C", timestep bigint,
  event_id text COLLATE "C", call_id text COLLATE "C", objective text COLLATE "C", value double precision, label text
  COLLATE "C", scope text COLLATE "C", source text COLLATE "C", annotation text COLLATE "C",
  time_ns bigint, metadata json, extra json
);
CREATE INDEX rewards_session ON rewards (session_id, time_ns);

-- Every value once. enc: 0 plain JSON, +2 its long texts stand in `text` only.
CREATE TABLE content (
  hash bytea PRIMARY KEY, role text, text text, enc integer NOT NULL, size bigint NOT NULL, data bytea NOT NULL
);
CREATE VIEW said AS SELECT hash AS id, hash, role, text, NULL::bytea AS rest, enc, data FROM content;
-- A history is a chain: id = SHA-256 of the parent's id (empty for none) and the content's hash.
CREATE TABLE ctx (id bytea PRIMARY KEY, parent bytea NOT NULL, content bytea NOT NULL, depth integer NOT NULL);
CREATE INDEX ctx_parent ON ctx (parent);
CREATE INDEX ctx_content ON ctx (content);
CREATE TABLE dead_letter (key text PRIMARY KEY, reason text NOT NULL, frame bytea NOT NULL, time_ns bigint NOT NULL);
CREATE TABLE cursors (segment text COLLATE "C" PRIMARY KEY, off bigint NOT NULL);
ALTER TABLE content ALTER text SET COMPRESSION lz4, ALTER data SET COMPRESSION lz4;
ALTER TABLE calls ALTER extra SET COMPRESSION lz4, ALTER usage_raw SET COMPRESSION lz4;

CREATE VIEW call_messages AS
SELECT c.call_id, c.session_id, -1 AS position, 'in' AS direction, s.role, s.text
  FROM calls c JOIN content s ON s.hash = c.system
UNION ALL
SELECT c.call_id, c.session_id, m.depth, 'in', m.role, m.text
  FROM calls c CROSS JOIN LATERAL (
         WITH RECURSIVE up (parent, content, depth) AS (
           SELECT parent, content, depth FROM ctx WHERE id = c.ctx
           UNION ALL
           SELECT x.parent, x.content, x.depth FROM up JOIN ctx x ON x.id = up.parent)
         SELECT up.depth, t.role, t.text FROM up JOIN content t ON t.hash = up.content) m
UNION ALL
SELECT c.call_id, c.session_id, coalesce((SELECT depth + 1 FROM ctx WHERE id = c.ctx), 0), 'out', o.role, o.text
  FROM calls c JOIN content o ON o.hash = c.output;
