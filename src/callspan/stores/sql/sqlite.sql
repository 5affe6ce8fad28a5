-- callspan's tables in SQLite. Column names are a public interface: docs/stores.md.
CREATE TABLE calls (
  id INTEGER PRIMARY KEY,
@columns(calls)
);
CREATE INDEX calls_session ON calls (session_id, start_ns);
CREATE INDEX calls_start ON calls (start_ns);
CREATE INDEX calls_span ON calls (span_id) WHERE span_id IS NOT NULL;

-- Sums over calls, by session and hour: ask `call_sums`. In `summed` a row without `calls` says that the hour is not
-- summed yet: triggers put it there when a call comes, changes or goes, writers sum it now and then.
CREATE TABLE summed (
  session_id TEXT, hour, model, provider, calls, errors, cancelled, in_tok, out_tok, cache_read_tok, reasoning_tok,
  retries, cost_picousd, exact_costs, costs, first_ns, last_ns
);
CREATE INDEX summed_key ON summed (session_id, hour);
CREATE VIEW fresh_sums AS
SELECT c.session_id, u.hour, coalesce(c.model_req, c.model_resp), c.provider, count(*),
  sum(ifnull(c.outcome IN ('error', 'timeout'), 0)), sum(c.outcome IS 'cancelled'), sum(c.in_tok), sum(c.out_tok),
  sum(c.cache_read_tok), sum(c.reasoning_tok), sum(c.retries), sum(c.cost_picousd), count(c.cost_picousd),
  count(c.cost_usd), min(c.start_ns), max(ifnull(c.end_ns, c.start_ns))
  FROM summed u CROSS JOIN calls c
    ON c.session_id IS u.session_id AND c.start_ns BETWEEN u.hour * 3600000000000 - (u.hour <= 0) * 3599999999999
       AND u.hour * 3600000000000 + (u.hour >= 0) * 3599999999999
 WHERE u.calls IS NULL GROUP BY u.rowid, 3, 4;
CREATE VIEW call_sums AS SELECT * FROM summed WHERE calls UNION ALL SELECT * FROM fresh_sums;
CREATE VIEW touched AS SELECT session_id, hour FROM summed;
CREATE TRIGGER touch INSTEAD OF INSERT ON touched
WHEN NOT EXISTS (SELECT 1 FROM summed WHERE session_id IS NEW.session_id AND hour = NEW.hour AND calls IS NULL) BEGIN
  DELETE FROM summed WHERE session_id IS NEW.session_id AND hour = NEW.hour;
  INSERT INTO summed (session_id, hour) VALUES (NEW.session_id, NEW.hour);
END;
CREATE TRIGGER calls_in AFTER INSERT ON calls BEGIN
  INSERT INTO touched VALUES (NEW.session_id, NEW.start_ns / 3600000000000);
END;
CREATE TRIGGER calls_out AFTER DELETE ON calls BEGIN
  INSERT INTO touched VALUES (OLD.session_id, OLD.start_ns / 3600000000000);
END;
CREATE TRIGGER calls_new AFTER UPDATE ON calls BEGIN
  INSERT INTO touched VALUES (OLD.session_id, OLD.start_ns / 3600000000000), (NEW.session_id, NEW.start_ns / 3600000000000);
END;

-- Several versions of a session or timestep are one row; `stamps`: which version a value is of, where not the last.
CREATE TABLE sessions (
@columns(sessions)
) WITHOUT ROWID;
CREATE TABLE timesteps (
@columns(timesteps)
) WITHOUT ROWID;
CREATE INDEX timesteps_session ON timesteps (session_id, start_ns);
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

-- Every value once. enc: 0 plain JSON, +1 deflated with our dictionary, +2 its long texts stand in `text` only.
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

CREATE VIEW call_messages AS
SELECT c.call_id AS call_id, c.session_id AS session_id, -1 AS position, 'in' AS direction, s.role AS role,
       s.text AS text
  FROM calls c JOIN content_text s ON s.id = c.system
UNION ALL
SELECT c.call_id, c.session_id, m.key, 'in', t.role, t.text
  FROM calls c, json_each((
         WITH RECURSIVE up (parent, content, depth) AS (
           SELECT parent, content, depth FROM ctx WHERE id = c.ctx
           UNION ALL
           SELECT x.parent, x.content, x.depth FROM up JOIN ctx x ON x.id = up.parent)
         SELECT json_group_array(content) FROM (SELECT content FROM up ORDER BY depth))) m
       JOIN content_text t ON t.id = m.value
UNION ALL
SELECT c.call_id, c.session_id, coalesce((SELECT depth + 1 FROM ctx WHERE id = c.ctx), 0), 'out', o.role, o.text
  FROM calls c JOIN content_text o ON o.id = c.output;
