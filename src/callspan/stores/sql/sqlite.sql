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
-- Each value once for its owner, `s:SESSION` or `c:CALL` outside of sessions, which numbers them. `text`: the whole text of a message.
-- `data`: deflated, the JSON without the long texts, which stand in `text` only; NULL for a message that is nothing but
-- its role and text.
CREATE TABLE contents (owner TEXT NOT NULL, n INTEGER NOT NULL, hash BLOB NOT NULL, role TEXT, data BLOB, text TEXT);
CREATE UNIQUE INDEX contents_owner ON contents (owner, n, hash);
-- What receivers of `callspan send` have: hashes of receiver and span, and how the span ended.
CREATE TABLE sent (id INTEGER PRIMARY KEY, version INTEGER NOT NULL);
-- A hash of the id of each session and call that was erased, and when: what is delivered late does not bring it back.
CREATE TABLE erased (id BLOB PRIMARY KEY, time_ns INTEGER NOT NULL) WITHOUT ROWID;

-- One SELECT: into a union SQLite takes no condition that holds a query or joins a table, and reads all calls.
-- `calls.contents` has [position, first n, last n] of messages that follow each other; -1 is the system prompt. Where a
-- call continues another one, its own messages are not all that the model saw.
CREATE VIEW call_messages AS
SELECT c.call_id AS call_id, c.session_id AS session_id,
       json_extract(r.value, '$[0]') + t.n - json_extract(r.value, '$[1]') AS position,
       CASE WHEN t.n = c.output THEN 'out' ELSE 'in' END AS direction, t.role AS role, t.text AS text,
       c.continues AS continues, c.conversation_id AS conversation_id
  FROM calls c CROSS JOIN json_each(c.contents) r CROSS JOIN contents t
 WHERE t.owner = coalesce('s:' || c.session_id, 'c:' || c.call_id)
   AND t.n BETWEEN json_extract(r.value, '$[1]') AND json_extract(r.value, '$[2]')
   AND json_extract(r.value, '$[0]') >= -1;
