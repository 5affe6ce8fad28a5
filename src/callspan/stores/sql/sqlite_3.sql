-- Lookups by SQL. `call_messages` is one SELECT: into a union SQLite takes no condition that holds a query or joins a
-- table, and reads all calls. A negative id marks the answer. What follows a text that was cut is in `rest`.
DROP VIEW call_messages;
CREATE VIEW call_messages AS
SELECT c.call_id AS call_id, c.session_id AS session_id, m.key - (c.system IS NOT NULL) AS position,
       CASE WHEN m.value < 0 THEN 'out' ELSE 'in' END AS direction, t.role AS role, coalesce(t.text, o.text) AS text,
       coalesce(t.rest, o.rest) AS rest
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
CREATE INDEX calls_failed ON call_rows (start_ns) WHERE outcome IN ('error', 'timeout');
-- With what a call refers to: a search of texts reads no calls but those it finds.
DROP INDEX calls_start;
CREATE INDEX calls_start ON call_rows (start_ns, output, ctx, system);
CREATE INDEX sessions_name ON sessions (name) WHERE name IS NOT NULL;
CREATE INDEX sessions_group ON sessions (group_id) WHERE group_id IS NOT NULL;
CREATE INDEX sessions_task ON sessions (task_id) WHERE task_id IS NOT NULL;
CREATE INDEX sessions_experiment ON sessions (experiment) WHERE experiment IS NOT NULL;

-- The times of calls that succeeded are kept beside the sums, so that percentiles need not read the calls.
DROP VIEW call_sums;
DROP VIEW fresh_sums;
ALTER TABLE summed ADD COLUMN durations TEXT;
ALTER TABLE summed ADD COLUMN first_tokens TEXT;
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
DELETE FROM summed;
INSERT INTO summed (session_id, hour) SELECT DISTINCT session_id, start_ns / 3600000000000 FROM call_rows;
INSERT INTO summed SELECT * FROM fresh_sums;
DELETE FROM summed WHERE calls IS NULL;
