-- The calls of a batch.
ALTER TABLE calls ADD INDEX IF NOT EXISTS by_batch batch_id TYPE bloom_filter(0.001) GRANULARITY 1;
ALTER TABLE calls MATERIALIZE INDEX by_batch;
-- What a call continues at the provider. Calls of earlier layouts get it from their JSON when read.
ALTER TABLE calls MODIFY COLUMN continues DEFAULT nullIf(multiIf(
  ifNull(api, '') = 'messages', JSONExtractString(ifNull(params, '{}'), 'thread', 'previous_message_id'),
  ifNull(api, '') = 'responses', JSONExtractString(ifNull(params, '{}'), 'previous_response_id'), ''), '');
ALTER TABLE calls MODIFY COLUMN conversation_id DEFAULT nullIf(multiIf(ifNull(api, '') != 'responses', '',
  JSONHas(ifNull(params, '{}'), 'conversation', 'id'), JSONExtractString(ifNull(params, '{}'), 'conversation', 'id'),
  JSONExtractString(ifNull(params, '{}'), 'conversation')), '');
ALTER TABLE calls ADD INDEX IF NOT EXISTS by_continues continues TYPE bloom_filter(0.001) GRANULARITY 1;
ALTER TABLE calls ADD INDEX IF NOT EXISTS by_conversation conversation_id TYPE bloom_filter(0.001) GRANULARITY 1;
ALTER TABLE calls MATERIALIZE INDEX by_continues;
ALTER TABLE calls MATERIALIZE INDEX by_conversation;
-- As before, with what the call continues: its own messages are not all that the model saw.
CREATE OR REPLACE VIEW call_messages AS
SELECT m.call_id AS call_id, m.session_id AS session_id, m.position AS position, m.direction AS direction, t.role AS role,
       t.text AS text, m.continues AS continues, m.conversation_id AS conversation_id
  FROM content AS t FINAL JOIN (
    SELECT call_id, session_id, toInt64(-1) AS position, 'in' AS direction, assumeNotNull(system) AS hash, continues, conversation_id
      FROM calls FINAL WHERE system IS NOT NULL
    UNION ALL
    SELECT call_id, session_id, toInt64(number) - 1, 'in', one, continues, conversation_id
      FROM calls FINAL ARRAY JOIN history AS one, arrayEnumerate(history) AS number
    UNION ALL
    SELECT call_id, session_id, toInt64(length(history)), 'out', assumeNotNull(output), continues, conversation_id
      FROM calls FINAL WHERE output IS NOT NULL) m ON m.hash = t.hash;
