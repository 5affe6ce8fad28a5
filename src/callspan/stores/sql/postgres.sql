-- callspan's tables in Postgres. Contents and chain nodes are identified by hash.
CREATE TABLE callspan_layout (version integer NOT NULL);
INSERT INTO callspan_layout VALUES (@format());
CREATE TABLE calls (
@columns(calls)
);
-- Holds all that sums need, so that none of them reads the table.
CREATE INDEX calls_session ON calls (session_id, model_req, model_resp, start_ns) INCLUDE (
  end_ns, provider, outcome, stream_end, finish_reason, retries, in_tok, out_tok, cache_read_tok, reasoning_tok, cost_usd, cost_picousd
);
CREATE INDEX calls_start ON calls (start_ns);
CREATE INDEX calls_failed ON calls (start_ns) WHERE outcome IN ('error', 'timeout');
-- Lookups by the ids that applications and providers know. An index without the calls that have no such id.
CREATE INDEX calls_span ON calls (span_id) WHERE span_id IS NOT NULL;
CREATE INDEX calls_trace ON calls (trace_id) WHERE trace_id IS NOT NULL;
CREATE INDEX calls_response ON calls (response_id) WHERE response_id IS NOT NULL;
CREATE INDEX calls_request ON calls (request_id) WHERE request_id IS NOT NULL;
CREATE INDEX calls_user ON calls (user_id, start_ns) WHERE user_id IS NOT NULL;
CREATE INDEX calls_run ON calls (run_id, start_ns) WHERE run_id IS NOT NULL;
CREATE INDEX calls_tags ON calls USING gin (tags) WHERE tags IS NOT NULL;
CREATE INDEX calls_organization ON calls (organization_id) WHERE organization_id IS NOT NULL;
CREATE INDEX calls_model ON calls (model_req) WHERE model_req IS NOT NULL;
-- Of these values only the ends, to be small: WHERE right(timestep_id, 4) = right('ID', 4) AND timestep_id = 'ID'.
CREATE INDEX calls_step ON calls (right(timestep_id, 4)) WHERE timestep_id IS NOT NULL;
CREATE INDEX calls_workflow ON calls (right(workflow_id, 4)) WHERE workflow_id IS NOT NULL;
CREATE INDEX calls_batch ON calls (batch_id) WHERE batch_id IS NOT NULL;
CREATE INDEX calls_continues ON calls (continues, start_ns) WHERE continues IS NOT NULL;
CREATE INDEX calls_conversation ON calls (conversation_id, start_ns) WHERE conversation_id IS NOT NULL;

-- Several versions of a session or timestep are one row; `stamps`: when a value was seen, where not in the last one.
CREATE TABLE sessions (
@columns(sessions)
);
CREATE INDEX sessions_user ON sessions (user_id) WHERE user_id IS NOT NULL;
CREATE INDEX sessions_name ON sessions (name) WHERE name IS NOT NULL;
CREATE INDEX sessions_group ON sessions (group_id) WHERE group_id IS NOT NULL;
CREATE INDEX sessions_task ON sessions (task_id) WHERE task_id IS NOT NULL;
-- Retention begins with what ended first.
CREATE INDEX sessions_ended ON sessions (coalesce(end_ns, start_ns));
CREATE INDEX sessions_experiment ON sessions (experiment) WHERE experiment IS NOT NULL;
CREATE TABLE timesteps (
@columns(timesteps)
);
CREATE INDEX timesteps_session ON timesteps (session_id, start_ns);
CREATE INDEX timesteps_user_step ON timesteps (user_step_id) WHERE user_step_id IS NOT NULL;
CREATE TABLE events (
@columns(events)
);
CREATE INDEX events_session ON events (session_id, time_ns);
CREATE INDEX events_type ON events (event_type) WHERE event_type IS NOT NULL;
CREATE TABLE messages (
@columns(messages)
);
CREATE INDEX messages_session ON messages (session_id, time_ns);
CREATE TABLE rewards (
@columns(rewards)
);
CREATE INDEX rewards_session ON rewards (session_id, time_ns);
CREATE INDEX rewards_call ON rewards (call_id) WHERE call_id IS NOT NULL;
-- Of those that name only a timestep or an event.
CREATE INDEX rewards_step ON rewards (timestep_id) WHERE timestep_id IS NOT NULL AND session_id IS NULL;
CREATE INDEX rewards_event ON rewards (event_id) WHERE event_id IS NOT NULL AND session_id IS NULL;

-- Every value once, by the SHA-256 of its exact JSON. `text`: the whole text of a message. `data`: the JSON without the
-- long texts, which stand in `text` only; NULL for a message that is nothing but its role and text.
CREATE TABLE content (hash bytea PRIMARY KEY, role text, size bigint NOT NULL, data bytea, text text);
-- A history is a chain: id = SHA-256 of the parent's id (empty for none) and the content's hash.
CREATE TABLE ctx (id bytea PRIMARY KEY, parent bytea NOT NULL, content bytea NOT NULL, depth integer NOT NULL);
CREATE INDEX ctx_parent ON ctx (parent);
CREATE INDEX ctx_content ON ctx (content);
CREATE TABLE dead_letter (key text PRIMARY KEY, reason text NOT NULL, frame bytea NOT NULL, time_ns bigint NOT NULL);
-- A hash of the id of each session and call that was erased, and when: what is delivered late does not bring it back.
CREATE TABLE erased (id bytea PRIMARY KEY, time_ns bigint NOT NULL);
ALTER TABLE content ALTER text SET COMPRESSION lz4, ALTER data SET COMPRESSION lz4;
ALTER TABLE calls ALTER extra SET COMPRESSION lz4, ALTER usage_raw SET COMPRESSION lz4;

-- Where a call continues another one, its own messages are not all that the model saw.
CREATE VIEW call_messages AS
SELECT c.call_id, c.session_id, -1 AS position, 'in' AS direction, s.role, s.text, c.continues, c.conversation_id
  FROM calls c JOIN content s ON s.hash = c.system
UNION ALL
SELECT c.call_id, c.session_id, m.depth, 'in', m.role, m.text, c.continues, c.conversation_id
  FROM calls c CROSS JOIN LATERAL (
         WITH RECURSIVE up (parent, content, depth) AS (
           SELECT parent, content, depth FROM ctx WHERE id = c.ctx
           UNION ALL
           SELECT x.parent, x.content, x.depth FROM up JOIN ctx x ON x.id = up.parent)
         SELECT up.depth, t.role, t.text FROM up JOIN content t ON t.hash = up.content) m
UNION ALL
SELECT c.call_id, c.session_id, coalesce((SELECT depth + 1 FROM ctx WHERE id = c.ctx), 0), 'out', o.role, o.text,
       c.continues, c.conversation_id
  FROM calls c JOIN content o ON o.hash = c.output;
