-- callspan's tables in SQLite. Column names are a public interface: docs/stores.md.
CREATE TABLE calls (
  id INTEGER PRIMARY KEY,
@columns(calls)
);
CREATE INDEX calls_session ON calls (session_id, start_ns);
-- With what a call refers to: a search of texts reads no calls but those it finds.
CREATE INDEX calls_start ON calls (start_ns, output, ctx, system);
-- Of these values only the ends, to be small: WHERE substr(timestep_id, -4) = substr('ID', -4) AND +timestep_id = 'ID'.
-- Without the plus SQLite puts the value into the first condition, and scans.
CREATE INDEX calls_step ON calls (substr(timestep_id, -4)) WHERE timestep_id IS NOT NULL;
CREATE INDEX calls_organization ON calls (substr(organization_id, -4)) WHERE organization_id IS NOT NULL;
CREATE INDEX calls_workflow ON calls (substr(workflow_id, -4)) WHERE workflow_id IS NOT NULL;
CREATE INDEX calls_model ON calls (substr(model_req, -4)) WHERE model_req IS NOT NULL;

CREATE VIEW call_sums AS
SELECT session_id, start_ns / 3600000000000 AS hour, coalesce(model_req, model_resp) AS model, provider,
  count(*) AS calls, sum(ifnull(outcome IN ('error', 'timeout'), 0)) AS errors, sum(outcome IS 'cancelled') AS cancelled,
  sum(in_tok) AS in_tok, sum(out_tok) AS out_tok, sum(cache_read_tok) AS cache_read_tok,
  sum(reasoning_tok) AS reasoning_tok, sum(retries) AS retries, sum(cost_picousd) AS cost_picousd,
  count(cost_picousd) AS exact_costs, count(cost_usd) AS costs, min(start_ns) AS first_ns,
  max(ifnull(end_ns, start_ns)) AS last_ns
  FROM calls GROUP BY 1, 2, 3, 4;
@shared()
-- Every value once, by the SHA-256 of its exact JSON. `text`: the whole text of a message. `data`: deflated, the JSON
-- without the long texts, which stand in `text` only; NULL for a message that is nothing but its role and text.
CREATE TABLE content (
  id INTEGER PRIMARY KEY, hash BLOB NOT NULL UNIQUE, role TEXT, size INTEGER NOT NULL, data BLOB, text TEXT
);
-- A history is a chain: each node adds one message to its parent (0: none), so equal beginnings are shared.
CREATE TABLE ctx (
  id INTEGER PRIMARY KEY, parent INTEGER NOT NULL, content INTEGER NOT NULL, depth INTEGER NOT NULL,
  UNIQUE (parent, content)
);
-- What receivers of `callspan send` have: hashes of receiver and span, and how the span ended.
CREATE TABLE sent (id INTEGER PRIMARY KEY, version INTEGER NOT NULL);
-- A hash of the id of each session and call that was erased, and when: what is delivered late does not bring it back.
CREATE TABLE erased (id BLOB PRIMARY KEY, time_ns INTEGER NOT NULL) WITHOUT ROWID;

-- One SELECT: into a union SQLite takes no condition that holds a query or joins a table, and reads all calls. A negative
-- id marks the answer. Where a call continues another one, its own messages are not all that the model saw.
CREATE VIEW call_messages AS
SELECT c.call_id AS call_id, c.session_id AS session_id, m.key - (c.system IS NOT NULL) AS position,
       CASE WHEN m.value < 0 THEN 'out' ELSE 'in' END AS direction, t.role AS role, t.text AS text,
       c.continues AS continues, c.conversation_id AS conversation_id
  FROM calls c CROSS JOIN json_each((
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
       CROSS JOIN content t ON t.id = abs(m.value);
