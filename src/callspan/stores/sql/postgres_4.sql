-- The calls of a batch.
CREATE INDEX calls_batch ON calls (batch_id) WHERE batch_id IS NOT NULL;
-- What a call continues at the provider.
UPDATE calls SET
  continues = CASE api WHEN 'messages' THEN params -> 'thread' ->> 'previous_message_id' ELSE params ->> 'previous_response_id' END,
  conversation_id = CASE json_typeof(params -> 'conversation') WHEN 'string' THEN params ->> 'conversation'
                    ELSE params -> 'conversation' ->> 'id' END
  WHERE api IN ('messages', 'responses') AND (params::text LIKE '%"previous\_%' OR params::text LIKE '%"conversation"%');
CREATE INDEX calls_continues ON calls (continues, start_ns) WHERE continues IS NOT NULL;
CREATE INDEX calls_conversation ON calls (conversation_id, start_ns) WHERE conversation_id IS NOT NULL;
-- As before, with what the call continues: its own messages are not all that the model saw.
CREATE OR REPLACE VIEW call_messages AS
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
