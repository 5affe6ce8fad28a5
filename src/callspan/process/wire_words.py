"""Wire words: the names of members that the providers' APIs and JSON Schema define, as the SDKs' types list them.

A redactor of texts keeps these names; any other key of a mapping may be the application's.
"""

from __future__ import annotations

from typing import Final

WIRE_WORDS: Final = frozenset(
    """
    $defs $id $ref $schema abort accepted_prediction_tokens access access_programs access_type account_status
    acknowledged_safety_checks acknowledgement_delay_ms action actions active active_seconds actor adaptive
    additionalProperties additional_instructions additional_messages advisor after after_id agent agent_id
    agent_name agent_version agents allOf allow_mcp_servers allow_package_managers allowed_callers
    allowed_client_events allowed_domains allowed_fallback_models allowed_hosts allowed_server_events allowed_tools
    always amount anchor angle annotation annotation_index annotations answering_model answers anyOf api_key_id
    applied_edits approval_request_id approve approximate apt archived_at args arguments assistant_id async async_
    attachments attempt attributes audio audio_end_ms audio_sample audio_start_ms audio_tokens author authorization
    authorization_token automatic_thread_titling avg_logprob b64_json background background_options batch before
    before_id best_of betas between_tools bill_to billing_policy block block_binding blocked_domains browser_results
    bucket_label_value bucket_name buckets budget budget_tokens button bytes ca_certificate_pem cache_control
    cache_creation cache_creation_input_tokens cache_miss_reason cache_missed_input_tokens cache_missed_tokens
    cache_read_input_tokens cache_write_tokens cache_write_tokens_details cached_image_tokens cached_text_tokens
    cached_tokens cached_tokens_details caching call_id caller caller_id callspan_media callspan_omitted
    callspan_truncated cancel_initiated_at canceled cancelled cancelled_at cancelling_at capabilities
    capability_directories cargo carry case_id case_ids categories category category_applied_input_types
    category_scores channels chart charts chatkit_configuration check checkout choice choices chunk_overlap_tokens
    chunking_strategy citation citation_options citations cited_text city clear_at clear_at_least
    clear_thinking_20251015 clear_tool_inputs clear_tool_uses_20250919 cleared_input_tokens cleared_thinking_turns
    cleared_tool_uses client client_event_id client_secret client_tool_results close_code close_tab closed_at cmek
    code code_execution code_interpreter code_results command command_index commands compact_20260112
    compact_threshold compaction comparison_response_id comparison_reusable_tokens completed completed_at
    completion_time completion_tokens completion_tokens_details completion_window complexity compound_custom
    compression compression_ratio confidence config configs connection_origin connector_id consent const container
    container_id container_size content content_block content_expires_at content_index content_parts
    content_unavailable_reason context context_compression context_management context_size context_window
    continuation_id conversation conversation_id coordinate country create_response created created_at created_at_gt
    created_at_gte created_at_lt created_at_lte created_by credential_id credential_origin currency cursor_position
    custom custom_id cwd cyber data data_channel data_retention days debug decision decisions default default_config
    default_version defer_loading definition definitions delay delegation delegation_id deleted delta deployment_id
    deprecated_at depth description desktop detail detailed_explanation details determination diagnostics diff
    dimensions disable_parallel_tool_use disable_tool_validation disabled display display_height display_height_px
    display_name display_number display_width display_width_px document document_citation document_id document_ids
    document_index document_title documents domain domain_secrets double_click download_id downloadable
    dram_cached_tokens duration duration_ms duration_seconds eager_input_streaming eagerness echo edits
    effective_bucket effective_external_key_id effort efs elapsed_ms elements else email_address email_hash
    embedding embedding_weight enable_zoom enabled enabled_tools encoding_format encrypted_content encrypted_index
    encrypted_stdout end end_block_index end_char_index end_index end_ms end_page_number ended_at endpoint
    enforcement_action enforcement_action_id enforcement_actions enforcement_status entity_identifier entity_type
    enum env env_vars environment environment_id environment_template_id ephemeral_1h_input_tokens
    ephemeral_5m_input_tokens error error_code error_file_id error_message error_type errored errors
    estimated_tokens event event_id event_type examples exclude_domains exclude_tools exclusiveMaximum
    exclusiveMinimum executed_tools execution execution_identity exit_code experimental expired expired_at
    expires_after expires_at expires_in_seconds explanation expression extensions external_id external_key_id
    external_key_ids external_user_details external_user_onboarded_at external_web_access extra_headers extra_query
    failed failed_at failed_checks failed_generation fallback_credit fallback_credit_token
    fallback_has_prefill_claim fallbacks features fetched field field_id field_ids fields file file_citation
    file_counts file_data file_id file_ids file_name file_path file_search file_text file_type file_upload file_url
    filename files filter filters finalizing_at find fingerprint finish_reason first_id first_quartile flagged
    form_input format frame_count frame_duration_ms frequency_penalty from from_ full function function_call
    function_citation functions gem generate generate_summary generated_at get_page_text go graceful_close grammar
    group group_id handoff harassment harassment/threatening harassment_threatening has_error has_more hate
    hate/threatening hate_threatening headers heading high history hold_key hover human_review hybrid_search id
    idle_timeout_ms idle_timeout_s ids if illicit illicit/violent illicit_violent image image_file image_gen
    image_input image_tokens image_url images in_progress in_progress_at include include_archived include_domains
    include_images include_obfuscation include_reasoning include_screenshots include_usage incomplete_at
    incomplete_details index inference_geo inference_options initial_events inline_agents input input_audio
    input_audio_format input_audio_noise_reduction input_audio_transcription input_examples input_fidelity
    input_file_id input_image_mask input_reference input_schema input_token_details input_token_ids input_tokens
    input_tokens_details input_transformations inputs insert_line insert_text instructions interrupt_response
    is_error is_file_update issuer item item_id items iteration iterations javascript_exec json_schema keep key keys
    keywords kind kms_key_name known_speaker_names known_speaker_references label language languages last_active_at
    last_checked_at last_error last_id last_messages last_run_at latest_version latest_version_id left_click
    left_click_drag left_mouse_down left_mouse_up levels lifecycle limit line lines list_cost list_tabs
    live_view_url location logit_bias logprob logprobs logs low markup mask max maxItems maxLength max_attempts
    max_characters max_chunk_size_tokens max_completion_tokens max_concurrent_subagents max_content_tokens
    max_file_size max_files max_input_tokens max_iterations max_list_cost max_num_results max_output_length
    max_output_tokens max_prompt_tokens max_queue max_requests_per_1_minute max_response_output_tokens
    max_side_length_pixels max_size max_tokens max_tool_calls max_uses maximum mcp_list_tools mcp_server_name
    mcp_servers md5 media_type median medium memory_limit memory_store_id message message_creation message_id
    messages metadata middle_click mime mime_type min minItems minLength minimum minutes misalignment modalities
    mode model models moderation moderation_details moderation_stage modifiers mount_path mouse_move multi_agent
    multiagent multipleOf n name name_hash namespace navigate network network_policy networking never new_lines
    new_path new_start new_str new_string new_tab no_speech_prob noise_reduction not notice npm nullable num_lines
    num_requests obfuscation object observation offset_ms old_lines old_path old_start old_str old_string
    onboarded_at oneOf openai-beta opened_at operation options order order_by organization_id origin
    original_input_tokens outcome outcome_evaluations outcome_id outliers output output_audio_format output_behavior
    output_compression output_config output_expires_after output_file_id output_format output_index
    output_modalities output_schema output_token_details output_token_ids output_tokens output_tokens_details
    outputs oversized_image owned_by packages page page_age parallel_tool_calls param parameters params
    parent_agent_id parsed parsed_arguments parsed_output part part_ids partial_image_b64 partial_image_index
    partial_images partial_json path paths pattern pause_after_compaction paused_reason paused_seconds pdf_input
    pending_safety_checks permission_policy personality phase pip plugins png points policy policy_categories
    policy_category post_instructions predefined_agents prediction prefixItems prefix_mismatch_behavior
    prefix_padding_ms presence_penalty preview_url previous_item_id previous_message_id previous_response_id prewarm
    probabilities probability processed_at processing processing_status programs progress project_id project_number
    prompt prompt_cache_breakpoint prompt_cache_diagnostics prompt_cache_key prompt_cache_options
    prompt_cache_retention prompt_time prompt_tokens prompt_tokens_details properties purpose python quality queries
    query questions queue_time quote radius ranker ranking_options rate rate_limits read_console read_network
    read_only read_page read_reason reason reasoning reasoning_effort reasoning_format reasoning_model
    reasoning_tokens received_at recent_threads recipient recipient_agent_id recipient_agent_ids recommended_model
    recording ref reference_id refusal region rejected_prediction_tokens remaining remixed_from_video_id remote_url
    remove_to_redeem repeat replace_all request request_counts request_id request_metadata request_paused requests
    require_approval required required_action required_actions required_input requirements reset_count reset_seconds
    resources respond_by response response_event response_format response_id response_inclusion responses restart
    result results results_url retention_ratio retired_buckets retired_keys retires_at retrieved_at return_code
    review review_target revised_prompt rewrite_query right_click role role_arn rubric run_id safety_identifier
    sample_rate schedule scheduled_at schema schema_ schema_code schema_kind schema_path schema_path_segments scope
    scope_id score score_threshold screenshot script_hint scroll scroll_amount scroll_direction scroll_to scroll_x
    scroll_y sdp search_content_types search_context_size search_result_index search_results search_settings seconds
    seed seek segment_id segments selected_option self-harm self-harm/instructions self-harm/intent self_harm
    self_harm_instructions self_harm_intent sender_agent_id sequence_number server_description server_label
    server_name server_tool_results server_tool_use server_tools server_url service_account_id service_tier session
    session_id session_ids session_thread_id setup_commands sexual sexual/minors sexual_minors sha sha256
    shutdown_date signature silence_duration_ms size size_bytes skill_id skills source source_event_id
    source_event_type sources speaker speed sram_cached_tokens start start_block_index start_char_index
    start_coordinate start_index start_line start_ms start_page_number started_at starting_after state_changes
    state_variables static stats status status_code status_details statuses stderr stdout steer step_details stop
    stop_details stop_reason stop_sequence stop_sequences storage store stream stream_format stream_id
    stream_options strength strict structured_outputs style subagent subagents submit_tool_outputs subprotocols
    succeeded success suffix summarize summary summary_index supported svg svg_usage switch_tab syntax system
    system_fingerprint tab_id tabs target target_uri task task_budget task_type tasks temperature text text_offset
    text_tokens text_weight then thinking thinking_tokens third_quartile thread thread_id threshold tiers
    time_awareness timeout_ms timestamp_granularities timezone title to token token_limits token_logprobs tokens
    tool tool_call_id tool_calls tool_changes tool_choice tool_configuration tool_id tool_name tool_names
    tool_outputs tool_references tool_resources tool_usage tool_use_id tools toolset_name top_logprobs top_p total
    total_lines total_time total_tokens tracing transcript transcription transcripts transformations transport
    trigger trigger_context trigger_id trigger_type triggers triple_click truncation truncation_strategy
    trust_grants ttl ttl_12h_tokens ttl_30m_tokens tunnel_id tunnel_token turn turn_detection turn_id type types
    uniqueItems unsupported upcoming_runs_at updated_at updated_at_gt updated_at_gte updated_at_lt updated_at_lte
    url url_citation url_sources usage usage_breakdown usage_bytes usage_ratio use_cache user user_id user_input
    user_location user_profile_id vad_threshold validated_at validation_state value variables variant vault_id
    vault_ids vector_store_id vector_store_ids vector_stores verbosity verdicts version video view_range violence
    violence/graphic violence_graphic voice wait wake_policy web_fetch_requests web_search web_search_options
    web_search_requests widget wolfram_settings word words workflow workflow_name workflows working_directory
    workspace_directory workspace_id write_limit x x_groq x_label x_scale x_tick_labels x_ticks x_unit xhigh y
    y_label y_scale y_tick_labels y_ticks y_unit zoom
    """.split()  # noqa: SIM905 - shorter than a list
)
