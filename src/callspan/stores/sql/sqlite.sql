-- callspan's tables in SQLite. Column names are a public interface: docs/stores.md.
-- JSON that calls have in common is packed in `call_rows`, see callspan.stores.packing; `calls` shows it whole.
CREATE TABLE call_rows (
  id INTEGER PRIMARY KEY,
@columns(calls)
);
CREATE VIEW calls AS
SELECT r.*, @unpacking(usage_raw) AS usage_raw, @unpacking(attempts) AS attempts, @unpacking(extra) AS extra
  FROM call_rows r;
CREATE INDEX calls_session ON call_rows (session_id, start_ns);
-- With what a call refers to: a search of texts reads no calls but those it finds.
CREATE INDEX calls_start ON call_rows (start_ns, output, ctx, system);
CREATE INDEX calls_failed ON call_rows (start_ns) WHERE outcome IN ('error', 'timeout');
-- Lookups by the ids that applications and providers know. An index without the calls that have no such id.
CREATE INDEX calls_span ON call_rows (span_id) WHERE span_id IS NOT NULL;
CREATE INDEX calls_trace ON call_rows (trace_id) WHERE trace_id IS NOT NULL;
CREATE INDEX calls_response ON call_rows (response_id) WHERE response_id IS NOT NULL;
CREATE INDEX calls_request ON call_rows (request_id) WHERE request_id IS NOT NULL;
CREATE INDEX calls_user ON call_rows (user_id, start_ns) WHERE user_id IS NOT NULL;
CREATE INDEX calls_run ON call_rows (run_id, start_ns) WHERE run_id IS NOT NULL;
CREATE INDEX calls_batch ON call_rows (batch_id) WHERE batch_id IS NOT NULL;
CREATE INDEX calls_continues ON call_rows (continues, start_ns) WHERE continues IS NOT NULL;
CREATE INDEX calls_conversation ON call_rows (conversation_id, start_ns) WHERE conversation_id IS NOT NULL;

-- Sums over calls, by session and hour: ask `call_sums`. In `summed` a row without `calls` says that the hour is not
-- summed yet: triggers put it there when a call comes, changes or goes, writers sum it now and then.
-- The times of calls that succeeded are kept beside the sums, so that percentiles need not read the calls.
CREATE TABLE summed (
  session_id TEXT, hour, model, provider, calls, errors, cancelled, in_tok, out_tok, cache_read_tok, reasoning_tok,
  retries, cost_picousd, exact_costs, costs, first_ns, last_ns, durations TEXT, first_tokens TEXT
);
CREATE INDEX summed_key ON summed (session_id, hour);
CREATE VIEW fresh_sums (
  session_id, hour, model, provider, calls, errors, cancelled, in_tok, out_tok, cache_read_tok, reasoning_tok,
  retries, cost_picousd, exact_costs, costs, first_ns, last_ns, durations, first_tokens
) AS
SELECT c.session_id, u.hour, coalesce(c.model_req, c.model_resp), c.provider, count(*),
  sum(ifnull(c.outcome IN ('error', 'timeout'), 0)), sum(c.outcome IS 'cancelled'), sum(c.in_tok), sum(c.out_tok),
  sum(c.cache_read_tok), sum(c.reasoning_tok), sum(c.retries), sum(c.cost_picousd), count(c.cost_picousd),
  count(c.cost_usd), min(c.start_ns), max(ifnull(c.end_ns, c.start_ns)),
  group_concat(CASE c.outcome WHEN 'success' THEN c.duration_ns END),
  group_concat(CASE c.outcome WHEN 'success' THEN c.ttft_ns END)
  FROM summed u CROSS JOIN call_rows c
    ON c.session_id IS u.session_id AND c.start_ns BETWEEN u.hour * 3600000000000 - (u.hour <= 0) * 3599999999999
       AND u.hour * 3600000000000 + (u.hour >= 0) * 3599999999999
 WHERE u.calls IS NULL GROUP BY u.rowid, 3, 4;
CREATE VIEW call_sums AS
SELECT session_id, hour, model, provider, calls, errors, cancelled, in_tok, out_tok, cache_read_tok, reasoning_tok,
  retries, cost_picousd, exact_costs, costs, first_ns, last_ns FROM summed WHERE calls
UNION ALL
SELECT session_id, hour, model, provider, calls, errors, cancelled, in_tok, out_tok, cache_read_tok, reasoning_tok,
  retries, cost_picousd, exact_costs, costs, first_ns, last_ns FROM fresh_sums;
CREATE VIEW touched AS SELECT session_id, hour FROM summed;
CREATE TRIGGER touch INSTEAD OF INSERT ON touched
WHEN NOT EXISTS (SELECT 1 FROM summed WHERE session_id IS NEW.session_id AND hour = NEW.hour AND calls IS NULL) BEGIN
  DELETE FROM summed WHERE session_id IS NEW.session_id AND hour = NEW.hour;
  INSERT INTO summed (session_id, hour) VALUES (NEW.session_id, NEW.hour);
END;
CREATE TRIGGER calls_in AFTER INSERT ON call_rows BEGIN
  INSERT INTO touched VALUES (NEW.session_id, NEW.start_ns / 3600000000000);
END;
CREATE TRIGGER calls_out AFTER DELETE ON call_rows BEGIN
  INSERT INTO touched VALUES (OLD.session_id, OLD.start_ns / 3600000000000);
END;
CREATE TRIGGER calls_new AFTER UPDATE ON call_rows BEGIN
  INSERT INTO touched VALUES (OLD.session_id, OLD.start_ns / 3600000000000), (NEW.session_id, NEW.start_ns / 3600000000000);
END;

-- Several versions of a session or timestep are one row; `stamps`: when a value was seen, where not in the last one.
CREATE TABLE sessions (
@columns(sessions)
) WITHOUT ROWID;
CREATE INDEX sessions_user ON sessions (user_id) WHERE user_id IS NOT NULL;
CREATE INDEX sessions_name ON sessions (name) WHERE name IS NOT NULL;
CREATE INDEX sessions_group ON sessions (group_id) WHERE group_id IS NOT NULL;
CREATE INDEX sessions_task ON sessions (task_id) WHERE task_id IS NOT NULL;
CREATE INDEX sessions_experiment ON sessions (experiment) WHERE experiment IS NOT NULL;
CREATE TABLE timesteps (
@columns(timesteps)
) WITHOUT ROWID;
CREATE INDEX timesteps_session ON timesteps (session_id, start_ns);
CREATE INDEX timesteps_user_step ON timesteps (user_step_id) WHERE user_step_id IS NOT NULL;
CREATE TABLE events (
@columns(events)
) WITHOUT ROWID;
CREATE INDEX events_session ON events (session_id, time_ns);
CREATE TABLE messages (
@columns(messages)
) WITHOUT ROWID;
CREATE INDEX messages_session ON messages (session_id, time_ns);
CREATE TABLE rewards (
@columns(rewards)
) WITHOUT ROWID;
CREATE INDEX rewards_session ON rewards (session_id, time_ns);

-- Every value once. enc: 0 plain JSON, +1 deflated with our dictionary, +2 its long texts stand in `text` only,
-- 4 a message that is nothing but its text and its role, which `data` has.
-- A text of 1024 characters or more: its beginning and an ellipsis in `text`, what follows deflated in `rest`.
CREATE TABLE content (
  id INTEGER PRIMARY KEY, hash BLOB NOT NULL UNIQUE, role TEXT, text TEXT, rest BLOB, text_of INTEGER, enc INTEGER NOT NULL,
  size INTEGER NOT NULL, data NOT NULL
);
-- `content_text` shows each content with its text; an answer sent again in the next request borrows it by `text_of`.
CREATE VIEW content_text AS
SELECT c.id AS id, c.hash AS hash, c.role AS role, coalesce(c.text, o.text) AS text,
       coalesce(c.rest, o.rest) AS rest, c.enc AS enc, c.data AS data
  FROM content c LEFT JOIN content o ON o.id = c.text_of;
-- A history is a chain: each node adds one message to its parent (0: none), so equal beginnings are shared.
CREATE TABLE ctx (
  id INTEGER PRIMARY KEY, parent INTEGER NOT NULL, content INTEGER NOT NULL, depth INTEGER NOT NULL,
  UNIQUE (parent, content)
);
CREATE TABLE dead_letter (
  key TEXT PRIMARY KEY, reason TEXT NOT NULL, frame BLOB NOT NULL, time_ns INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE cursors (segment TEXT PRIMARY KEY, off INTEGER NOT NULL) WITHOUT ROWID;

-- One SELECT: into a union SQLite takes no condition that holds a query or joins a table, and reads all calls. A negative
-- id marks the answer. What follows a text that was cut is in `rest`. Where a call continues another one, its own
-- messages are not all that the model saw.
CREATE VIEW call_messages AS
SELECT c.call_id AS call_id, c.session_id AS session_id, m.key - (c.system IS NOT NULL) AS position,
       CASE WHEN m.value < 0 THEN 'out' ELSE 'in' END AS direction, t.role AS role, coalesce(t.text, o.text) AS text,
       coalesce(t.rest, o.rest) AS rest, c.continues AS continues, c.conversation_id AS conversation_id
  FROM call_rows c CROSS JOIN json_each((
         WITH RECURSIVE up (parent, content, depth) AS (
           SELECT parent, content, depth FROM ctx WHERE id = c.ctx
           UNION ALL
           SELECT x.parent, x.content, x.depth FROM up JOIN ctx x ON x.id = up.parent)
         SELECT json_group_array(content) FROM (
           SELECT content FROM (
             SELECT c.system AS content, -1 AS depth WHERE c.system IS NOT NULL
             UNION ALL
             SELECT content, depth FROM up
             UNION ALL
             SELECT -c.output, 9e9 WHERE c.output IS NOT NULL)
            ORDER BY depth))) m
       CROSS JOIN content t ON t.id = abs(m.value) LEFT JOIN content o ON o.id = t.text_of;
