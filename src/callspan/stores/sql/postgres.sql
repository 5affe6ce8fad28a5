-- callspan's tables in Postgres.
CREATE TABLE callspan_layout (version integer NOT NULL);
INSERT INTO callspan_layout VALUES (@format());
CREATE TABLE calls (
@columns(calls)
);
-- Covers all columns that sums need, so that they do not read the table.
CREATE INDEX calls_session ON calls (session_id, model, start_ns) INCLUDE (
  end_ns, response_model, provider, outcome, stream_end, finish_reason, retries, input_tokens, output_tokens,
  cache_read_tokens, reasoning_tokens, cost_usd, cost_picousd, cached
);
CREATE INDEX calls_start ON calls (start_ns);
CREATE INDEX calls_tags ON calls USING gin (tags) WHERE tags IS NOT NULL;
@shared()
-- Each content once per owner, `s:SESSION`, or `c:CALL` outside of sessions; `calls.owner` names another one in a run,
-- `r:HASH` once the call that it is named by was deleted.
-- `n` numbers the contents of an owner.
-- `text` is what a message says, `reasoning` what the model thought. `data` is the JSON without the long texts, which
-- are only in these; NULL for a message with only a role and text.
CREATE TABLE contents (
  owner text COLLATE "C" NOT NULL, n bigint NOT NULL, hash bytea NOT NULL, role text, data bytea, text text,
  reasoning text,
  PRIMARY KEY (owner, n), UNIQUE (owner, hash)
);
-- Spans that receivers of `callspan send` have: a hash of receiver and span, and how the span ended.
CREATE TABLE sent (id bigint PRIMARY KEY, version bigint NOT NULL);
-- Hashes of the ids of erased sessions and calls, with the time: records that are delivered later are rejected.
CREATE TABLE erased (id bytea PRIMARY KEY, time_ns bigint NOT NULL);
-- Hashes of ids and histories by which calls outside of sessions are joined to runs. A key of what a call seeks, in case
-- that an earlier call comes late, is negative: -1 - key.
CREATE TABLE joints (
  key bigint NOT NULL, call_id text COLLATE "C" NOT NULL, proof bigint NOT NULL, PRIMARY KEY (key, call_id)
);
CREATE INDEX joints_call ON joints (call_id);
-- How many calls a run has, and whose its calls state to be: hashes of user, tenant and service.
CREATE TABLE runs (session_id text COLLATE "C" PRIMARY KEY, calls bigint NOT NULL, stated text NOT NULL);
CREATE INDEX calls_previous ON calls (previous_call_id, call_id) WHERE previous_call_id IS NOT NULL;
-- Former ids of runs that were joined with another one.
CREATE TABLE run_ids (id text COLLATE "C" PRIMARY KEY, session_id text COLLATE "C" NOT NULL);
CREATE INDEX run_ids_session ON run_ids (session_id);
ALTER TABLE contents ALTER text SET COMPRESSION lz4, ALTER reasoning SET COMPRESSION lz4, ALTER data SET COMPRESSION lz4;
ALTER TABLE calls ALTER extra SET COMPRESSION lz4, ALTER usage_raw SET COMPRESSION lz4;

-- `calls.contents` has [position, first n, last n] for each run of consecutive messages; -1 is the system prompt. A call
-- that continues another one has only its own messages, not all that the model saw.
CREATE VIEW call_messages AS
SELECT c.call_id, c.session_id, (r ->> 0)::bigint + t.n - (r ->> 1)::bigint AS position,
       CASE WHEN t.n = c.output THEN 'out' ELSE 'in' END AS direction, t.role, t.text, t.reasoning,
       c.continues, c.conversation_id
  FROM calls c CROSS JOIN LATERAL jsonb_array_elements(c.contents) r
  JOIN contents t ON t.owner = coalesce(c.owner, 's:' || c.session_id, 'c:' || c.call_id)
   AND t.n BETWEEN (r ->> 1)::bigint AND (r ->> 2)::bigint
 WHERE (r ->> 0)::bigint >= -1;
-- Returns the value of a metadata key as `callspan.record.labels` does: its own, else that in `extra`, else, for the key
-- `a.b`, that of `b` in the object `a`. A number in a key selects no list item.
CREATE FUNCTION callspan_at(metadata json, path text[]) RETURNS json LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
  WITH RECURSIVE at (value, depth) AS (
    SELECT metadata, 0 UNION ALL SELECT value -> path[depth + 1], depth + 1 FROM at WHERE depth < cardinality(path))
  SELECT value FROM at WHERE depth = cardinality(path)
$$;
CREATE FUNCTION callspan_value(metadata json, key text) RETURNS json LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
  SELECT coalesce(nullif((metadata -> key)::text, 'null'), nullif((metadata -> 'extra' -> key)::text, 'null'),
    CASE WHEN position('.' in key) = 0 THEN NULL
      WHEN key ~ '\.[0-9]' THEN coalesce(nullif(callspan_at(metadata, string_to_array(key, '.'))::text, 'null'),
        nullif(callspan_at(metadata -> 'extra', string_to_array(key, '.'))::text, 'null'))
      ELSE coalesce(nullif((metadata #> string_to_array(key, '.'))::text, 'null'),
        nullif((metadata -> 'extra' #> string_to_array(key, '.'))::text, 'null')) END)::json
$$;
-- Returns the text by which a key is grouped; NULL if it has none.
CREATE FUNCTION callspan_label(metadata json, key text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
  SELECT CASE json_typeof(callspan_value(metadata, key)) WHEN 'object' THEN NULL
    ELSE callspan_value(metadata, key) #>> '{}' END
$$;
-- Rounds a number to the twelfth digit of its size.
CREATE FUNCTION callspan_rounded(number numeric, size numeric) RETURNS double precision
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
  SELECT CASE WHEN abs(number) > 1.7976931348623157e308 THEN CAST('Infinity' AS double precision) * sign(number)
    WHEN abs(number) < 1e-300 THEN 0
    -- `to_char` writes 0.9999 as 10.00e-01, where it is 1.00e+00.
    ELSE round(number, greatest(0, 17 - position('e' in to_char(size, '9.99EEEE'))
      - CAST(split_part(to_char(size, '9.99EEEE'), 'e', 2) AS integer)))::double precision END
$$;
