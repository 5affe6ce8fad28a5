-- A SQLite store as callspan wrote it with the third layout of its tables.
PRAGMA page_size=512;
PRAGMA application_id=1129533489;
PRAGMA user_version=3;
BEGIN TRANSACTION;
CREATE TABLE "call_rows" (
  id INTEGER PRIMARY KEY,
  call_id TEXT NOT NULL UNIQUE, rec_version INTEGER NOT NULL, schema_v INTEGER NOT NULL, session_id TEXT, session_name
  TEXT, timestep INTEGER, timestep_id TEXT, parent_call_id TEXT, trace_id TEXT, span_id TEXT, parent_span_id TEXT,
  sampled INTEGER, service TEXT, host TEXT, pid INTEGER, provider TEXT, api TEXT, operation TEXT, sdk TEXT,
  server_address TEXT, server_port INTEGER, model_req TEXT, model_resp TEXT, response_id TEXT, service_tier TEXT,
  stream INTEGER, stream_end TEXT, outcome TEXT, finish_reason TEXT, error_type TEXT, error_kind TEXT, error_message
  TEXT, http_status INTEGER, retries INTEGER, rate_limited INTEGER, start_ns INTEGER NOT NULL, ttft_ns INTEGER,
  duration_ns INTEGER, end_ns INTEGER, in_tok INTEGER, out_tok INTEGER, total_tok INTEGER, cache_read_tok INTEGER,
  cache_write_tok INTEGER, reasoning_tok INTEGER, cost_usd TEXT, cost_picousd INTEGER, price_v TEXT, params TEXT,
  usage_raw_packed TEXT, attempts_packed TEXT, metadata TEXT, extra_packed TEXT, request INTEGER, ctx INTEGER, system INTEGER, tools
  INTEGER, output INTEGER
, request_id TEXT, user_id TEXT, organization_id TEXT, project_id TEXT, run_id TEXT, agent_id TEXT, tags TEXT, server_ns INTEGER, unrecognized INTEGER, request_bytes INTEGER, response_bytes INTEGER);
INSERT INTO "call_rows" VALUES(1,'01990000-0000-7000-8000-000000000001',2,1,'s1',NULL,NULL,NULL,NULL,'0af7651916cd43dd8448eb211c80319c','0000000000000002',NULL,NULL,NULL,NULL,NULL,'openai','chat_completions','chat',NULL,NULL,NULL,'gpt-5','gpt-5-2025-08-07','chatcmpl-1',NULL,NULL,'closed','cancelled','stop','CancelledError','cancelled',NULL,200,0,NULL,1760000000000000000,250000000,1000000000,1760000001000000000,10,5,15,NULL,NULL,NULL,'0.0000123',12300000,'table-1','{"temperature":0.5}','10}','51"}]','{"run":"r1"}','{540.25}},"redactions":[{"what":"request.body","why":"media"}],"request":{"message_count":1},"response":{"finish_reasons":["stop"]},"stream":{"chunks":3},"error":{"body":{"a":1}}}',1,1,NULL,NULL,3,'req_1',NULL,NULL,NULL,NULL,NULL,NULL,NULL,0,NULL,NULL);
INSERT INTO "call_rows" VALUES(2,'first',2,1,'s2',NULL,NULL,NULL,NULL,'0af7651916cd43dd8448eb211c80319c','0000000000000003',NULL,NULL,NULL,NULL,NULL,'openai','chat_completions','chat',NULL,NULL,NULL,'gpt-5','gpt-5-2025-08-07','chatcmpl-1',NULL,NULL,NULL,'success','stop',NULL,NULL,NULL,200,0,NULL,1760000001000000000,250000000,1000000000,1760000002000000000,10,5,15,NULL,NULL,NULL,'0.0000123',12300000,'table-1','{"temperature":0.5}','10}','51"}]',NULL,'{"request":{"message_count":1},"response":{"finish_reasons":["stop"]}}',1,3,NULL,NULL,5,'req_1',NULL,NULL,NULL,NULL,NULL,NULL,NULL,0,NULL,NULL);
INSERT INTO "call_rows" VALUES(3,'second',2,1,'s2',NULL,NULL,NULL,NULL,'0af7651916cd43dd8448eb211c80319c','0000000000000004',NULL,NULL,NULL,NULL,NULL,'openai','chat_completions','chat',NULL,NULL,NULL,'gpt-5','gpt-5-2025-08-07','chatcmpl-1',NULL,NULL,NULL,'success','stop',NULL,NULL,NULL,200,0,NULL,1760000002000000000,250000000,1000000000,1760000003000000000,10,5,15,NULL,NULL,NULL,'0.0000123',12300000,'table-1','{"temperature":0.5}','10}','51"}]',NULL,'{"request":{"message_count":1},"response":{"finish_reasons":["stop"]}}',1,5,NULL,NULL,8,'req_1',NULL,NULL,NULL,NULL,NULL,NULL,NULL,0,NULL,NULL);
INSERT INTO "call_rows" VALUES(4,'failed',2,1,NULL,NULL,NULL,NULL,NULL,'0af7651916cd43dd8448eb211c80319c','0000000000000005',NULL,NULL,NULL,NULL,NULL,'openai','chat_completions','chat',NULL,NULL,NULL,'gpt-5',NULL,NULL,NULL,NULL,NULL,'error',NULL,'E','server',NULL,200,0,NULL,1760000003000000000,250000000,1000000000,1760000004000000000,10,5,15,NULL,NULL,NULL,'0.0000123',12300000,'table-1','{"temperature":0.5}','10}','51"}]',NULL,'{"request":{"message_count":1}}',1,3,NULL,NULL,NULL,'req_1',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "call_rows" VALUES(5,'claude',2,1,NULL,NULL,NULL,NULL,NULL,'0af7651916cd43dd8448eb211c80319c','0000000000000006',NULL,NULL,NULL,NULL,NULL,'anthropic','messages','chat',NULL,NULL,NULL,'c','gpt-5-2025-08-07','chatcmpl-1',NULL,NULL,NULL,'success','stop',NULL,NULL,NULL,200,0,NULL,1760000004000000000,250000000,1000000000,1760000005000000000,10,5,15,NULL,NULL,NULL,'0.0000123',12300000,'table-1',NULL,'10}','51"}]',NULL,'{"response":{"finish_reasons":["stop"]}}',10,6,9,NULL,3,'req_1',NULL,NULL,NULL,NULL,NULL,NULL,NULL,0,NULL,NULL);
CREATE TABLE content (
  id INTEGER PRIMARY KEY, hash BLOB NOT NULL UNIQUE, role TEXT, text TEXT, rest BLOB, text_of INTEGER, enc INTEGER NOT NULL,
  size INTEGER NOT NULL, data NOT NULL
);
INSERT INTO "content" VALUES(1,X'FC615EA4A58F9D9E85A90E97B3BA730932E02FD1',NULL,NULL,NULL,NULL,0,83,'[["model","value","gpt-5"],["messages","history",null],["temperature","value",0.5]]');
INSERT INTO "content" VALUES(2,X'BA2DAED9B288B73B8F34636722EC0CD63A708E26','user','Hi',NULL,NULL,4,30,'user');
INSERT INTO "content" VALUES(3,X'1EBB43F2DBE17FC0977ADE688E9777B3F6046504','assistant','Hello there.',NULL,NULL,1,245,X'434FDB86F81337727A36D535323032D535B0D03530A7346D2B79A4E6E4E42B9464A416A5EA81EA569C291767241B608D65538C5836ADAD0500');
INSERT INTO "content" VALUES(4,X'8645C0759B850262F1204F06957EA2AC7D328B21','system','Long words. Long words. Long words. Long words. Long words. Long words. Long words. Long words. Long words. Long words. Long words. Long words. Long words. Long words. Long words. Long words. Long words. Long words. Long words. Long words. Long words. Long words. Long words. Long words. Long words. Long words. Long words. Long words. Long words. Lo…',X'1B658FB247D9D4640300',NULL,4,1230,'system');
INSERT INTO "content" VALUES(5,X'7FB2B37767678D88002866F3E33654BBDF2380F4','assistant','an answer that is long enough to be lent to the next request, and then some more words',NULL,NULL,3,319,X'434FDB86F81337727A36D535323032D535B0D03530A7346D4B19E8589859D7E249B13823D7006BEC9A62C4AE696D2D00');
INSERT INTO "content" VALUES(6,X'4E5E03F7EE1AFD6F01C044D7DC1AB753E1AD615F','assistant',NULL,NULL,5,4,119,'assistant');
INSERT INTO "content" VALUES(7,X'A855A32FF4412F9869762C007E5C6078FD5DB0F3','user','Go on',NULL,NULL,4,33,'user');
INSERT INTO "content" VALUES(8,X'3AED5545F6C4AA0A12A016368D4BBA8FC0EB18BD','assistant','Done.',NULL,NULL,1,238,X'434FDB86F81337727A36D535323032D535B0D03530A7346D2BB9E4E7A5EA812A559C491667EC1A608D5E538CE835ADAD0500');
INSERT INTO "content" VALUES(9,X'1230323FC857637942100122262C3E6EA9090781','system','Be brief. Be brief. Be brief. Be brief. Be brief. Be brief. Be brief. Be brief. Be brief. Be brief. Be brief. Be brief. Be brief. Be brief. Be brief. Be brief. Be brief. Be brief. Be brief. Be brief. Be brief. Be brief. Be brief. Be brief. Be brief. Be brief. Be brief. Be brief. Be brief. Be brief. Be brief. Be brief. Be brief. Be brief. Be brief. …',X'1B658DB24659D4640100',NULL,2,1202,'0,1200;');
INSERT INTO "content" VALUES(10,X'DA616AA7E2BC384B227CCC00ABB4D12D967B8EB5',NULL,NULL,NULL,NULL,0,162,'[["model","value","c"],["system","piece","1230323fc857637942100122262c3e6ea9090781a9cd289668653a3d6e538489"],["messages","history",null],["max_tokens","value",5]]');
INSERT INTO "content" VALUES(11,X'FDF652E24CCF221F904EE6B856D119F0A5C2A8A7','user','Hello',NULL,NULL,4,33,'user');
CREATE TABLE ctx (
  id INTEGER PRIMARY KEY, parent INTEGER NOT NULL, content INTEGER NOT NULL, depth INTEGER NOT NULL,
  UNIQUE (parent, content)
);
INSERT INTO "ctx" VALUES(1,0,2,0);
INSERT INTO "ctx" VALUES(2,0,4,0);
INSERT INTO "ctx" VALUES(3,2,2,1);
INSERT INTO "ctx" VALUES(4,3,6,2);
INSERT INTO "ctx" VALUES(5,4,7,3);
INSERT INTO "ctx" VALUES(6,0,11,0);
CREATE TABLE cursors (segment TEXT PRIMARY KEY, off INTEGER NOT NULL) WITHOUT ROWID;
INSERT INTO "cursors" VALUES('1-a.seg',11663);
CREATE TABLE dead_letter (
  key TEXT PRIMARY KEY, reason TEXT NOT NULL, frame BLOB NOT NULL, time_ns INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE events (
  event_id TEXT PRIMARY KEY, session_id TEXT, schema_v INTEGER NOT NULL, timestep_id TEXT, timestep INTEGER, call_id
  TEXT, event_type TEXT, name TEXT, time_ns INTEGER, duration_ns INTEGER, sequence INTEGER, system TEXT, tool_call_id
  TEXT, reward REAL, terminated INTEGER, truncated INTEGER, data TEXT, error TEXT, flags TEXT, metadata TEXT, extra
  TEXT
, external_sequence INTEGER) WITHOUT ROWID;
INSERT INTO "events" VALUES('e1','s1',1,'t1',0,NULL,'environment',NULL,1760000000000000001,NULL,1,NULL,NULL,0.5,0,NULL,'{"after":[1,2,{"x":null}]}',NULL,'["after_end"]',NULL,NULL,NULL);
CREATE TABLE messages (
  message_id TEXT PRIMARY KEY, session_id TEXT, schema_v INTEGER NOT NULL, timestep_id TEXT, timestep INTEGER, call_id
  TEXT, message_type TEXT, sender TEXT, receiver TEXT, time_ns INTEGER, sequence INTEGER, content TEXT,
  causal_influence TEXT, flags TEXT, metadata TEXT, extra TEXT
, external_sequence INTEGER) WITHOUT ROWID;
INSERT INTO "messages" VALUES('m1','s1',1,NULL,NULL,NULL,'observation','env','agent',1760000000000000002,NULL,'{"grid":[[0,1]]}','["e1"]',NULL,NULL,NULL,NULL);
CREATE TABLE rewards (
  reward_id TEXT PRIMARY KEY, session_id TEXT, schema_v INTEGER NOT NULL, timestep_id TEXT, timestep INTEGER, event_id
  TEXT, call_id TEXT, objective TEXT, value REAL, label TEXT, scope TEXT, source TEXT, annotation TEXT, time_ns
  INTEGER, metadata TEXT, extra TEXT
) WITHOUT ROWID;
INSERT INTO "rewards" VALUES('r1','s1',1,NULL,NULL,'e1',NULL,'reward',0.5,NULL,'event','environment',NULL,1760000000000000003,NULL,NULL);
CREATE TABLE sessions (
  session_id TEXT PRIMARY KEY, rec_version INTEGER NOT NULL, schema_v INTEGER NOT NULL, name TEXT, group_id TEXT,
  task_id TEXT, experiment TEXT, user_id TEXT, parent_session_id TEXT, trace_id TEXT, span_id TEXT, service TEXT, host
  TEXT, pid INTEGER, start_ns INTEGER, end_ns INTEGER, outcome TEXT, success INTEGER, error TEXT, metadata TEXT,
  totals TEXT, redactions TEXT, stamps TEXT, extra TEXT
) WITHOUT ROWID;
INSERT INTO "sessions" VALUES('s1',1,1,'gridworld',NULL,NULL,NULL,'u1',NULL,NULL,NULL,NULL,NULL,NULL,1760000000000000000,NULL,NULL,NULL,NULL,'{"seed":7,"deep":{"a":[1,null]}}',NULL,NULL,NULL,NULL);
INSERT INTO "sessions" VALUES('s2',1,1,'n','g','t','x','u2',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
CREATE TABLE summed (
  session_id TEXT, hour, model, provider, calls, errors, cancelled, in_tok, out_tok, cache_read_tok, reasoning_tok,
  retries, cost_picousd, exact_costs, costs, first_ns, last_ns
, durations TEXT, first_tokens TEXT);
INSERT INTO "summed" VALUES(NULL,488888,'c','anthropic',1,0,0,10,5,NULL,NULL,0,12300000,1,1,1760000004000000000,1760000005000000000,'1000000000','250000000');
INSERT INTO "summed" VALUES(NULL,488888,'gpt-5','openai',1,1,0,10,5,NULL,NULL,0,12300000,1,1,1760000003000000000,1760000004000000000,NULL,NULL);
INSERT INTO "summed" VALUES('s1',488888,'gpt-5','openai',1,0,1,10,5,NULL,NULL,0,12300000,1,1,1760000000000000000,1760000001000000000,NULL,NULL);
INSERT INTO "summed" VALUES('s2',488888,'gpt-5','openai',2,0,0,20,10,NULL,NULL,0,24600000,2,2,1760000001000000000,1760000003000000000,'1000000000,1000000000','250000000,250000000');
CREATE TABLE timesteps (
  timestep_id TEXT PRIMARY KEY, session_id TEXT, rec_version INTEGER NOT NULL, schema_v INTEGER NOT NULL, timestep
  INTEGER, name TEXT, turn INTEGER, parent_timestep_id TEXT, trace_id TEXT, span_id TEXT, start_ns INTEGER, end_ns
  INTEGER, outcome TEXT, terminated INTEGER, truncated INTEGER, error TEXT, metadata TEXT, totals TEXT, redactions
  TEXT, stamps TEXT, extra TEXT
, user_step_id TEXT) WITHOUT ROWID;
INSERT INTO "timesteps" VALUES('t1','s1',1,1,0,NULL,NULL,NULL,NULL,NULL,1760000000000000000,NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
CREATE INDEX calls_session ON "call_rows" (session_id, start_ns);
CREATE INDEX calls_span ON "call_rows" (span_id) WHERE span_id IS NOT NULL;
CREATE INDEX summed_key ON summed (session_id, hour);
CREATE VIEW touched AS SELECT session_id, hour FROM summed;
CREATE TRIGGER touch INSTEAD OF INSERT ON touched
WHEN NOT EXISTS (SELECT 1 FROM summed WHERE session_id IS NEW.session_id AND hour = NEW.hour AND calls IS NULL) BEGIN
  DELETE FROM summed WHERE session_id IS NEW.session_id AND hour = NEW.hour;
  INSERT INTO summed (session_id, hour) VALUES (NEW.session_id, NEW.hour);
END;
CREATE TRIGGER calls_in AFTER INSERT ON "call_rows" BEGIN
  INSERT INTO touched VALUES (NEW.session_id, NEW.start_ns / 3600000000000);
END;
CREATE TRIGGER calls_out AFTER DELETE ON "call_rows" BEGIN
  INSERT INTO touched VALUES (OLD.session_id, OLD.start_ns / 3600000000000);
END;
CREATE INDEX timesteps_session ON timesteps (session_id, start_ns);
CREATE INDEX events_session ON events (session_id, time_ns);
CREATE INDEX messages_session ON messages (session_id, time_ns);
CREATE INDEX rewards_session ON rewards (session_id, time_ns);
CREATE VIEW content_text AS
SELECT c.id AS id, c.hash AS hash, c.role AS role, coalesce(c.text, o.text) AS text,
       coalesce(c.rest, o.rest) AS rest, c.enc AS enc, c.data AS data
  FROM content c LEFT JOIN content o ON o.id = c.text_of;
CREATE TRIGGER calls_new AFTER UPDATE ON "call_rows" BEGIN
  INSERT INTO touched VALUES (OLD.session_id, OLD.start_ns / 3600000000000), (NEW.session_id, NEW.start_ns / 3600000000000);
END;
CREATE INDEX calls_trace ON "call_rows" (trace_id) WHERE trace_id IS NOT NULL;
CREATE INDEX calls_response ON "call_rows" (response_id) WHERE response_id IS NOT NULL;
CREATE INDEX calls_request ON "call_rows" (request_id) WHERE request_id IS NOT NULL;
CREATE INDEX calls_user ON "call_rows" (user_id, start_ns) WHERE user_id IS NOT NULL;
CREATE INDEX calls_run ON "call_rows" (run_id, start_ns) WHERE run_id IS NOT NULL;
CREATE INDEX sessions_user ON sessions (user_id) WHERE user_id IS NOT NULL;
CREATE INDEX timesteps_user_step ON timesteps (user_step_id) WHERE user_step_id IS NOT NULL;
CREATE VIEW calls AS
SELECT r.*, replace(replace(replace(replace(replace(replace(replace(replace(replace(replace(replace(replace(replace(replace(replace(replace(replace(replace(usage_raw_packed, char(1), '},"completion_tokens_details":{"reasoning_tokens":'), char(2), ',"prompt_tokens_details":{"cached_tokens":'), char(3), ',"accepted_prediction_tokens":'), char(4), ',"rejected_prediction_tokens":'), char(5), '{"prompt_tokens":'), char(6), ',"completion_tokens":'), char(7), ',"audio_tokens":'), char(8), ',"output_tokens_details":{"reasoning_tokens":'), char(11), ',"input_tokens_details":{"cached_tokens":'), char(12), ',"cache_creation":{"ephemeral_5m_input_tokens":'), char(14), ',"ephemeral_1h_input_tokens":'), char(15), ',"cache_creation_input_tokens":'), char(16), ',"cache_read_input_tokens":'), char(17), '{"input_tokens":'), char(18), '"output_tokens":'), char(19), ',"service_tier":"standard"'), char(20), ',"server_tool_use":'), char(21), ',"total_tokens":') AS usage_raw, replace(replace(replace(replace(replace(replace(replace(replace(replace(replace(replace(replace(replace(replace(replace(replace(replace(replace(replace(attempts_packed, char(1), ',"rate_limits":{"requests":{"limit":'), char(2), '},"tokens":{"limit":'), char(3), ',"remaining":'), char(4), ',"reset_s":'), char(5), '}},"end_ns":'), char(6), '},"input_tokens":{"limit":'), char(7), '},"output_tokens":{"limit":'), char(8), '[{"number":1,"start_ns":'), char(11), ',"headers_ns":'), char(12), ',"status":200'), char(14), ',"request_id":"req_'), char(15), ',"end_ns":'), char(16), '},{"number":'), char(17), ',"start_ns":'), char(18), ',"status":'), char(19), ',"planned_wait_s":'), char(20), ',"wait_s":'), char(21), ',"error_kind":"'), char(22), ',"error_type":"') AS attempts, replace(replace(replace(replace(replace(replace(replace(replace(replace(replace(replace(replace(replace(replace(replace(replace(replace(replace(replace(replace(extra_packed, char(1), '"rate_limits":{"requests":{"limit":'), char(2), '},"tokens":{"limit":'), char(3), ',"remaining":'), char(4), ',"reset_s":'), char(5), '}},"request":{"message_count":'), char(6), '},"input_tokens":{"limit":'), char(7), '},"output_tokens":{"limit":'), char(8), ',"body_bytes":'), char(11), '},"response":{"created":'), char(12), ',"finish_reasons":["stop"]'), char(14), ',"system_fingerprint":"'), char(15), '},"timing":{"answer_ns":'), char(16), ',"headers_ns":'), char(17), ',"first_chunk_ns":'), char(18), ',"last_chunk_ns":'), char(19), ',"largest_gap_ns":'), char(20), '},"usage":{"input_audio_tokens":'), char(21), ',"output_audio_tokens":'), char(22), ',"accepted_prediction_tokens":'), char(23), ',"rejected_prediction_tokens":') AS extra
  FROM call_rows r;
CREATE VIEW call_messages AS
SELECT c.call_id AS call_id, c.session_id AS session_id, m.key - (c.system IS NOT NULL) AS position,
       CASE WHEN m.value < 0 THEN 'out' ELSE 'in' END AS direction, t.role AS role, coalesce(t.text, o.text) AS text,
       coalesce(t.rest, o.rest) AS rest
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
CREATE INDEX calls_failed ON call_rows (start_ns) WHERE outcome IN ('error', 'timeout');
CREATE INDEX calls_start ON call_rows (start_ns, output, ctx, system);
CREATE INDEX sessions_name ON sessions (name) WHERE name IS NOT NULL;
CREATE INDEX sessions_group ON sessions (group_id) WHERE group_id IS NOT NULL;
CREATE INDEX sessions_task ON sessions (task_id) WHERE task_id IS NOT NULL;
CREATE INDEX sessions_experiment ON sessions (experiment) WHERE experiment IS NOT NULL;
CREATE VIEW fresh_sums (
  session_id, hour, model, provider, calls, errors, cancelled, in_tok, out_tok, cache_read_tok, reasoning_tok,
  retries, cost_picousd, exact_costs, costs, first_ns, last_ns, durations, first_tokens
) AS
SELECT c.session_id, u.hour, coalesce(c.model_req, c.model_resp), c.provider, count(*),
  sum(ifnull(c.outcome IN ('error', 'timeout'), 0)), sum(c.outcome IS 'cancelled'), sum(c.in_tok), sum(c.out_tok),
  sum(c.cache_read_tok), sum(c.reasoning_tok), sum(c.retries), sum(c.cost_picousd), count(c.cost_picousd),
  count(c.cost_usd), min(c.start_ns), max(ifnull(c.end_ns, c.start_ns)),
  group_concat(CASE c.outcome WHEN 'success' THEN c.duration_ns END),
  group_concat(CASE c.outcome WHEN 'success' THEN c.ttft_ns END)
  FROM summed u CROSS JOIN call_rows c
    ON c.session_id IS u.session_id AND c.start_ns BETWEEN u.hour * 3600000000000 - (u.hour <= 0) * 3599999999999
       AND u.hour * 3600000000000 + (u.hour >= 0) * 3599999999999
 WHERE u.calls IS NULL GROUP BY u.rowid, 3, 4;
CREATE VIEW call_sums AS
SELECT session_id, hour, model, provider, calls, errors, cancelled, in_tok, out_tok, cache_read_tok, reasoning_tok,
  retries, cost_picousd, exact_costs, costs, first_ns, last_ns FROM summed WHERE calls
UNION ALL
SELECT session_id, hour, model, provider, calls, errors, cancelled, in_tok, out_tok, cache_read_tok, reasoning_tok,
  retries, cost_picousd, exact_costs, costs, first_ns, last_ns FROM fresh_sums;
COMMIT;
