-- Lookups by the ids that applications and providers know. Calls of the first layout get theirs from their JSON when read.
ALTER TABLE calls MODIFY COLUMN request_id DEFAULT
  nullIf(arrayLast(x -> x != '', arrayMap(x -> JSONExtractString(x, 'request_id'), JSONExtractArrayRaw(ifNull(attempts, '[]')))), '');
ALTER TABLE calls MODIFY COLUMN user_id DEFAULT coalesce(nullIf(JSON_VALUE(ifNull(metadata, '{}'), '$.user_id'), ''),
  nullIf(if(ifNull(api, '') = 'messages', JSON_VALUE(ifNull(params, '{}'), '$.metadata.user_id'), JSON_VALUE(ifNull(params, '{}'), '$.user')), ''));
ALTER TABLE calls MODIFY COLUMN organization_id DEFAULT coalesce(nullIf(JSON_VALUE(ifNull(metadata, '{}'), '$.organization_id'), ''),
  nullIf(JSON_VALUE(ifNull(metadata, '{}'), '$.extra.organization_id'), ''));
ALTER TABLE calls MODIFY COLUMN project_id DEFAULT coalesce(nullIf(JSON_VALUE(ifNull(metadata, '{}'), '$.project_id'), ''),
  nullIf(JSON_VALUE(ifNull(metadata, '{}'), '$.extra.project_id'), ''));
ALTER TABLE calls MODIFY COLUMN run_id DEFAULT coalesce(nullIf(JSON_VALUE(ifNull(metadata, '{}'), '$.run_id'), ''),
  nullIf(JSON_VALUE(ifNull(metadata, '{}'), '$.extra.run_id'), ''));
ALTER TABLE calls MODIFY COLUMN agent_id DEFAULT nullIf(JSON_VALUE(ifNull(metadata, '{}'), '$.extra.agent_id'), '');
ALTER TABLE calls MODIFY COLUMN tags DEFAULT nullIf(JSONExtractRaw(ifNull(metadata, '{}'), 'extra', 'tags'), '');
ALTER TABLE calls ADD INDEX IF NOT EXISTS by_response response_id TYPE bloom_filter(0.001) GRANULARITY 1;
ALTER TABLE calls ADD INDEX IF NOT EXISTS by_request request_id TYPE bloom_filter(0.001) GRANULARITY 1;
ALTER TABLE calls ADD INDEX IF NOT EXISTS by_user user_id TYPE bloom_filter(0.001) GRANULARITY 1;
ALTER TABLE calls ADD INDEX IF NOT EXISTS by_run run_id TYPE bloom_filter(0.001) GRANULARITY 1;
ALTER TABLE calls MATERIALIZE INDEX by_response;
ALTER TABLE calls MATERIALIZE INDEX by_request;
ALTER TABLE calls MATERIALIZE INDEX by_user;
ALTER TABLE calls MATERIALIZE INDEX by_run;
ALTER TABLE session_versions ADD INDEX IF NOT EXISTS by_user user_id TYPE bloom_filter(0.001) GRANULARITY 1;
ALTER TABLE session_versions MATERIALIZE INDEX by_user;
