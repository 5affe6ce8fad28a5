-- The calls of a batch.
CREATE INDEX calls_batch ON call_rows (batch_id) WHERE batch_id IS NOT NULL;
-- What a call continues at the provider. Sums are made of none of it.
DROP TRIGGER calls_new;
UPDATE call_rows SET
  continues = CASE api WHEN 'messages' THEN json_extract(params, '$.thread.previous_message_id')
              ELSE json_extract(params, '$.previous_response_id') END,
  conversation_id = CASE json_type(params, '$.conversation') WHEN 'text' THEN json_extract(params, '$.conversation')
                    ELSE json_extract(params, '$.conversation.id') END
  WHERE api IN ('messages', 'responses') AND (params LIKE '%"previous_%' OR params LIKE '%"conversation"%') AND json_valid(params);
CREATE TRIGGER calls_new AFTER UPDATE ON call_rows BEGIN
  INSERT INTO touched VALUES (OLD.session_id, OLD.start_ns / 3600000000000), (NEW.session_id, NEW.start_ns / 3600000000000);
END;
CREATE INDEX calls_continues ON call_rows (continues, start_ns) WHERE continues IS NOT NULL;
CREATE INDEX calls_conversation ON call_rows (conversation_id, start_ns) WHERE conversation_id IS NOT NULL;
-- As in layout 3, with what the call continues: its own messages are not all that the model saw.
DROP VIEW call_messages;
CREATE VIEW call_messages AS
SELECT c.call_id AS call_id, c.session_id AS session_id, m.key - (c.system IS NOT NULL) AS position,
       CASE WHEN m.value < 0 THEN 'out' ELSE 'in' END AS direction, t.role AS role, coalesce(t.text, o.text) AS text,
       coalesce(t.rest, o.rest) AS rest, c.continues AS continues, c.conversation_id AS conversation_id
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
