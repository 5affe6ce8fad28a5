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
CREATE INDEX calls_tags ON calls USING gin (tags) WHERE tags IS NOT NULL;
CREATE INDEX calls_organization ON calls (organization_id) WHERE organization_id IS NOT NULL;
CREATE INDEX calls_model ON calls (model_req) WHERE model_req IS NOT NULL;
-- Of these values only the ends, to be small: WHERE right(timestep_id, 4) = right('ID', 4) AND timestep_id = 'ID'.
CREATE INDEX calls_step ON calls (right(timestep_id, 4)) WHERE timestep_id IS NOT NULL;
CREATE INDEX calls_workflow ON calls (right(workflow_id, 4)) WHERE workflow_id IS NOT NULL;
@shared()
-- Every value once, by the SHA-256 of its exact JSON. `text`: the whole text of a message. `data`: the JSON without the
-- long texts, which stand in `text` only; NULL for a message that is nothing but its role and text.
CREATE TABLE content (hash bytea PRIMARY KEY, role text, size bigint NOT NULL, data bytea, text text);
-- A history is a chain: id = SHA-256 of the parent's id (empty for none) and the content's hash.
CREATE TABLE ctx (id bytea PRIMARY KEY, parent bytea NOT NULL, content bytea NOT NULL, depth integer NOT NULL);
CREATE INDEX ctx_parent ON ctx (parent);
CREATE INDEX ctx_content ON ctx (content);
-- What receivers of `callspan send` have: hashes of receiver and span, and how the span ended.
CREATE TABLE sent (id bigint PRIMARY KEY, version bigint NOT NULL);
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
