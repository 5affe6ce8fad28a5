CREATE INDEX calls_failed ON calls (start_ns) WHERE outcome IN ('error', 'timeout');
-- Lookups by ids that applications and providers know. Partial indexes, because most calls lack such an id.
CREATE INDEX calls_span ON calls (span_id) WHERE span_id IS NOT NULL;
CREATE INDEX calls_trace ON calls (trace_id) WHERE trace_id IS NOT NULL;
CREATE INDEX calls_response ON calls (response_id) WHERE response_id IS NOT NULL;
CREATE INDEX calls_request ON calls (request_id) WHERE request_id IS NOT NULL;
CREATE INDEX calls_user ON calls (user_id, start_ns) WHERE user_id IS NOT NULL;
CREATE INDEX calls_run ON calls (run_id, start_ns) WHERE run_id IS NOT NULL;
CREATE INDEX calls_step ON calls (timestep_id) WHERE timestep_id IS NOT NULL;
CREATE INDEX calls_workflow ON calls (workflow_id) WHERE workflow_id IS NOT NULL;
CREATE INDEX calls_organization ON calls (organization_id) WHERE organization_id IS NOT NULL;
CREATE INDEX calls_batch ON calls (batch_id) WHERE batch_id IS NOT NULL;
CREATE INDEX calls_conversation ON calls (conversation_id, start_ns) WHERE conversation_id IS NOT NULL;

CREATE INDEX calls_stored ON calls (stored_ns);
CREATE INDEX calls_owner ON calls (owner) WHERE owner IS NOT NULL;
CREATE INDEX calls_offer ON calls (offer) WHERE offer IS NOT NULL;

-- The versions of a session or timestep are merged into one row.
CREATE TABLE sessions (
@columns(sessions)
);
CREATE INDEX sessions_stored ON sessions (stored_ns);
CREATE INDEX sessions_start ON sessions (start_ns);
CREATE TABLE timesteps (
@columns(timesteps)
);
CREATE INDEX timesteps_stored ON timesteps (stored_ns);
CREATE INDEX timesteps_session ON timesteps (session_id, start_ns);
CREATE INDEX timesteps_user_step ON timesteps (user_step_id) WHERE user_step_id IS NOT NULL;
CREATE TABLE events (
@columns(events)
);
CREATE INDEX events_stored ON events (stored_ns);
CREATE INDEX events_session ON events (session_id, time_ns);
-- Events, messages and rewards of a call are deleted with it.
CREATE INDEX events_call ON events (call_id) WHERE call_id IS NOT NULL;
CREATE TABLE messages (
@columns(messages)
);
CREATE INDEX messages_session ON messages (session_id, time_ns);
CREATE INDEX messages_call ON messages (call_id) WHERE call_id IS NOT NULL;
CREATE TABLE rewards (
@columns(rewards)
);
CREATE INDEX rewards_stored ON rewards (stored_ns);
CREATE INDEX rewards_session ON rewards (session_id, time_ns);
CREATE INDEX rewards_call ON rewards (call_id) WHERE call_id IS NOT NULL;
CREATE INDEX rewards_given ON rewards (given_call_id) WHERE given_call_id IS NOT NULL;
CREATE INDEX rewards_step ON rewards (timestep_id) WHERE timestep_id IS NOT NULL;
CREATE INDEX rewards_event ON rewards (event_id) WHERE event_id IS NOT NULL;
-- Cover all columns that scores need, so that they are summed in index order.
CREATE INDEX events_reward ON events (session_id, reward) WHERE reward IS NOT NULL;
CREATE INDEX rewards_reward ON rewards (scope, session_id, event_id, value) WHERE objective = 'reward' AND value IS NOT NULL;
CREATE INDEX rewards_score ON rewards (objective, session_id, value) WHERE objective <> 'reward' AND value IS NOT NULL;
CREATE INDEX rewards_own ON rewards (call_id, objective, value, scope) WHERE scope = 'call' AND value IS NOT NULL AND call_id IS NOT NULL;
CREATE INDEX rewards_label ON rewards (label) WHERE label IS NOT NULL;

