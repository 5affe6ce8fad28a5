-- Lookups by the ids that applications and providers know. An index without the calls that have no such id.
DROP TRIGGER calls_new;
UPDATE calls SET
  request_id = (SELECT json_extract(a.value, '$.request_id') FROM json_each(calls.attempts) a
                 WHERE json_extract(a.value, '$.request_id') IS NOT NULL ORDER BY a.key DESC LIMIT 1)
  WHERE json_valid(attempts);
UPDATE calls SET
  user_id = CASE api WHEN 'messages' THEN json_extract(params, '$.metadata.user_id') ELSE json_extract(params, '$.user') END
  WHERE json_valid(params);
UPDATE calls SET
  user_id = coalesce(json_extract(metadata, '$.user_id'), user_id),
  organization_id = coalesce(json_extract(metadata, '$.organization_id'), json_extract(metadata, '$.extra.organization_id')),
  project_id = coalesce(json_extract(metadata, '$.project_id'), json_extract(metadata, '$.extra.project_id')),
  run_id = coalesce(json_extract(metadata, '$.run_id'), json_extract(metadata, '$.extra.run_id')),
  agent_id = json_extract(metadata, '$.extra.agent_id'),
  tags = CASE json_type(metadata, '$.extra.tags') WHEN 'array' THEN json_extract(metadata, '$.extra.tags')
         WHEN 'text' THEN json_array(json_extract(metadata, '$.extra.tags')) END
  WHERE json_valid(metadata);
CREATE TRIGGER calls_new AFTER UPDATE ON calls BEGIN
  INSERT INTO touched VALUES (OLD.session_id, OLD.start_ns / 3600000000000), (NEW.session_id, NEW.start_ns / 3600000000000);
END;
CREATE INDEX calls_trace ON calls (trace_id) WHERE trace_id IS NOT NULL;
CREATE INDEX calls_response ON calls (response_id) WHERE response_id IS NOT NULL;
CREATE INDEX calls_request ON calls (request_id) WHERE request_id IS NOT NULL;
CREATE INDEX calls_user ON calls (user_id, start_ns) WHERE user_id IS NOT NULL;
CREATE INDEX calls_run ON calls (run_id, start_ns) WHERE run_id IS NOT NULL;
CREATE INDEX sessions_user ON sessions (user_id) WHERE user_id IS NOT NULL;
CREATE INDEX timesteps_user_step ON timesteps (user_step_id) WHERE user_step_id IS NOT NULL;

-- `content.enc` may be 4: a message that is nothing but its text and its role, which `data` has.
-- JSON that calls have in common is packed in `call_rows`, see callspan.stores.packing; `calls` shows it whole.
-- Rows written before stay as they are.
ALTER TABLE calls RENAME TO call_rows;
ALTER TABLE call_rows RENAME COLUMN usage_raw TO usage_raw_packed;
ALTER TABLE call_rows RENAME COLUMN attempts TO attempts_packed;
ALTER TABLE call_rows RENAME COLUMN extra TO extra_packed;
CREATE VIEW calls AS
SELECT r.*, @unpacking(usage_raw) AS usage_raw, @unpacking(attempts) AS attempts, @unpacking(extra) AS extra
  FROM call_rows r;
