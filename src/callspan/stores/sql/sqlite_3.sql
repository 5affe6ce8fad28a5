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
CREATE INDEX sessions_name ON sessions (name) WHERE name IS NOT NULL;
CREATE INDEX sessions_group ON sessions (group_id) WHERE group_id IS NOT NULL;
CREATE INDEX sessions_task ON sessions (task_id) WHERE task_id IS NOT NULL;
CREATE INDEX sessions_experiment ON sessions (experiment) WHERE experiment IS NOT NULL;
