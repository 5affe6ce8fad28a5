-- The messages of few calls are on the right side of the join, of which ClickHouse makes a table: not all contents.
CREATE OR REPLACE VIEW call_messages AS
SELECT m.call_id AS call_id, m.session_id AS session_id, m.position AS position, m.direction AS direction, t.role AS role,
       t.text AS text
  FROM content AS t FINAL JOIN (
    SELECT call_id, session_id, toInt64(-1) AS position, 'in' AS direction, assumeNotNull(system) AS hash
      FROM calls FINAL WHERE system IS NOT NULL
    UNION ALL
    SELECT call_id, session_id, toInt64(number) - 1, 'in', one
      FROM calls FINAL ARRAY JOIN history AS one, arrayEnumerate(history) AS number
    UNION ALL
    SELECT call_id, session_id, toInt64(length(history)), 'out', assumeNotNull(output)
      FROM calls FINAL WHERE output IS NOT NULL) m ON m.hash = t.hash;
