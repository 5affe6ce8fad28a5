-- callspan's tables in SQLite. Column names are a public interface: docs/sql.md.
CREATE TABLE calls (
@columns(calls)
);
CREATE INDEX calls_session ON calls (session_id, start_ns);
CREATE INDEX calls_start ON calls (start_ns);

CREATE VIEW call_sums AS
SELECT session_id, (start_ns - start_ns % 3600000000000) / 3600000000000 AS hour, model, provider,
  count(*) AS calls, sum(ifnull(outcome IN ('error', 'timeout'), 0)) AS errors, sum(outcome IS 'cancelled') AS cancelled,
  sum(input_tokens) AS input_tokens, sum(output_tokens) AS output_tokens, sum(cache_read_tokens) AS cache_read_tokens,
  sum(reasoning_tokens) AS reasoning_tokens, sum(retries) AS retries, CASE WHEN count(cost_picousd) > 0 THEN total(cost_picousd) END AS cost_picousd,
  count(cost_picousd) AS exact_costs, count(cost_usd) AS costs, min(start_ns) AS first_ns,
  max(ifnull(end_ns, start_ns)) AS last_ns, count(cached) AS cached
  FROM calls GROUP BY 1, 2, 3, 4;
@shared()
-- Each content once per owner, `s:SESSION`, or `c:CALL` outside of sessions; `calls.owner` names another one in a run,
-- `r:HASH` once the call that it is named by was deleted.
-- `n` numbers the contents of an owner.
-- `text` is what a message says, `reasoning` what the model thought. `data` is the deflated JSON without the long texts,
-- which are only in these; NULL for a message with only a role and text.
CREATE TABLE contents (owner TEXT NOT NULL, n INTEGER NOT NULL, hash BLOB NOT NULL, role TEXT, data BLOB, text TEXT,
  reasoning TEXT);
CREATE UNIQUE INDEX contents_owner ON contents (owner, n, hash);
-- Spans that receivers of `callspan send` have: a hash of receiver and span, and how the span ended.
CREATE TABLE sent (id INTEGER PRIMARY KEY, version INTEGER NOT NULL);
-- Hashes of the ids of erased sessions and calls, with the time: records that are delivered later are rejected.
CREATE TABLE erased (id BLOB PRIMARY KEY, time_ns INTEGER NOT NULL) WITHOUT ROWID;
-- Hashes of ids and histories by which calls outside of sessions are joined to runs. A key of what a call seeks, in case
-- that an earlier call comes late, is negative: -1 - key.
CREATE TABLE joints (key INTEGER NOT NULL, call_id TEXT NOT NULL, proof INTEGER NOT NULL, PRIMARY KEY (key, call_id))
  WITHOUT ROWID;
CREATE INDEX joints_call ON joints (call_id);
-- How many calls a run has, and whose its calls state to be: hashes of user, tenant and service.
CREATE TABLE runs (session_id TEXT PRIMARY KEY, calls INTEGER NOT NULL, stated TEXT NOT NULL) WITHOUT ROWID;
CREATE INDEX calls_previous ON calls (previous_call_id, call_id) WHERE previous_call_id IS NOT NULL;
-- Former ids of runs that were joined with another one.
CREATE TABLE run_ids (id TEXT PRIMARY KEY, session_id TEXT NOT NULL) WITHOUT ROWID;
CREATE INDEX run_ids_session ON run_ids (session_id);

-- One SELECT: SQLite pushes no condition with a subquery or join into a union, and would read all calls.
-- `calls.contents` has [position, first n, last n] for each run of consecutive messages; -1 is the system prompt. A call
-- that continues another one has only its own messages, not all that the model saw.
CREATE VIEW call_messages AS
SELECT c.call_id AS call_id, c.session_id AS session_id,
       json_extract(r.value, '$[0]') + t.n - json_extract(r.value, '$[1]') AS position,
       CASE WHEN t.n = c.output THEN 'out' ELSE 'in' END AS direction, t.role AS role, t.text AS text,
       t.reasoning AS reasoning, c.continues AS continues, c.conversation_id AS conversation_id
  FROM calls c CROSS JOIN json_each(c.contents) r CROSS JOIN contents t
 WHERE t.owner = coalesce(c.owner, 's:' || c.session_id, 'c:' || c.call_id)
   AND t.n BETWEEN json_extract(r.value, '$[1]') AND json_extract(r.value, '$[2]')
   AND json_extract(r.value, '$[0]') >= -1;
