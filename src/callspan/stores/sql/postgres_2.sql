-- Lookups by the ids that applications and providers know. An index without the calls that have no such id.
UPDATE calls SET
  request_id = (SELECT a.value ->> 'request_id' FROM json_array_elements(calls.attempts) WITH ORDINALITY a (value, number)
                 WHERE a.value ->> 'request_id' IS NOT NULL ORDER BY a.number DESC LIMIT 1),
  user_id = coalesce(metadata ->> 'user_id', CASE api WHEN 'messages' THEN params -> 'metadata' ->> 'user_id' ELSE params ->> 'user' END),
  organization_id = coalesce(metadata ->> 'organization_id', metadata -> 'extra' ->> 'organization_id'),
  project_id = coalesce(metadata ->> 'project_id', metadata -> 'extra' ->> 'project_id'),
  run_id = coalesce(metadata ->> 'run_id', metadata -> 'extra' ->> 'run_id'),
  agent_id = metadata -> 'extra' ->> 'agent_id',
  tags = CASE json_typeof(metadata -> 'extra' -> 'tags') WHEN 'array' THEN (metadata -> 'extra' -> 'tags')::jsonb
         WHEN 'string' THEN jsonb_build_array(metadata -> 'extra' ->> 'tags') END;
CREATE INDEX calls_trace ON calls (trace_id) WHERE trace_id IS NOT NULL;
CREATE INDEX calls_response ON calls (response_id) WHERE response_id IS NOT NULL;
CREATE INDEX calls_request ON calls (request_id) WHERE request_id IS NOT NULL;
CREATE INDEX calls_user ON calls (user_id, start_ns) WHERE user_id IS NOT NULL;
CREATE INDEX calls_run ON calls (run_id, start_ns) WHERE run_id IS NOT NULL;
CREATE INDEX calls_tags ON calls USING gin (tags) WHERE tags IS NOT NULL;
CREATE INDEX sessions_user ON sessions (user_id) WHERE user_id IS NOT NULL;
CREATE INDEX sessions_name ON sessions (name) WHERE name IS NOT NULL;
CREATE INDEX sessions_group ON sessions (group_id) WHERE group_id IS NOT NULL;
CREATE INDEX sessions_task ON sessions (task_id) WHERE task_id IS NOT NULL;
CREATE INDEX sessions_experiment ON sessions (experiment) WHERE experiment IS NOT NULL;
CREATE INDEX timesteps_user_step ON timesteps (user_step_id) WHERE user_step_id IS NOT NULL;
