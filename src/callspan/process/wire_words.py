"""Wire words: the keys that the providers' APIs and JSON Schema define, and their values that are words.

A redactor of texts keeps these; any other key or value may be the application's. Written by `tools/wire_words.py`.
Sources: openai 3.57.0, anthropic 2.14.0, groq 1.7.0, cerebras_cloud_sdk 1.91.0, together 3.1.1, google-genai 3.6.1,
cohere 7.3.1, mistralai 3.7.0, ollama 0.6.3, huggingface_hub 2.4.0, ibm-watsonx-ai 1.8.1, botocore 1.44.8; the rows
and adapters of callspan.
"""

from __future__ import annotations

from typing import Final

WIRE_WORDS: Final = frozenset(
    """
    $defs $id $ref $schema AUDIO CF-RAY Count Exception IMAGE INTERRUPTED INTERVENED MAX_TOKENS Message OTHER
    OUTCOME_OK Params RECITATION SAFETY SILENT STOP TEXT TOOL_CALL TURN_COMPLETE_REASON_UNSPECIFIED X-Amz-Cf-Id
    X-delay-time accept accepted_prediction_tokens access_programs access_token acknowledged_safety_checks
    acknowledgement_delay_ms action actionReason actions active active_seconds activityEnd activityStart
    activity_end activity_start adaptationPhrases adaptation_phrases adapter_id addWatermark add_watermark added
    additionalModelRequestFields additionalModelResponseFieldPaths additionalModelResponseFields
    additionalProperties additional_model_request_fields additional_model_response_field_paths
    additional_properties after after_id agent agent_config agent_id aiohttpClient aiohttp_client allOf
    allowedFunctionNames allowed_callers allowed_client_events allowed_domains allowed_function_names
    allowed_server_events allowed_tools allowlist alpha always anchor angle annotation annotation_index annotations
    answering_model answers anthropic_version any anyOf any_of apiVersion api_auth api_key api_key_config
    api_key_secret api_key_secret_version api_key_string api_spec api_version appliedGuardrailDetails applied_edits
    approval_request_id approve approximate archived_at args arguments arguments_delta array artifacts aspectRatio
    aspect_ratio assessments assistant async asyncClientArgs asyncInvokeSummaries async_ async_client_args attempts
    attributes audio audioBitrateBps audioMetadata audioOffset audioStreamEnd audioTimestamp audioTrackExtraction
    audioTranscription audioTranscriptionConfig audio_bitrate_bps audio_data audio_duration audio_duration_seconds
    audio_end_ms audio_metadata audio_offset audio_sample audio_seconds audio_start_ms audio_stream_end
    audio_timestamp audio_tokens audio_track_extraction audio_transcript audio_transcription
    audio_transcription_config audio_url auth_config auth_token auth_type authorAttribution author_attribution
    authorization authorization_token auto autoMode autoTruncate auto_mode auto_truncate automatedReasoningPolicies
    automatedReasoningPolicy automatedReasoningPolicyUnits automaticContinuation automaticFunctionCalling
    automaticFunctionCallingHistory automatic_continuation automatic_function_calling
    automatic_function_calling_history avatarConfig avatarName avatar_config avatar_name avgLogprobs avg_logprob
    avg_logprobs b64 b64_json background backgroundRemovalParams background_options base64 baseUrl
    baseUrlResourceScope base_url base_url_resource_scope batchContents batch_contents before_id begin beginOffset
    behavior best_of best_of_sequences betas bidi_generate_content bill_to billableCharacterCount
    billable_character_count billed_units billing_policy binary bitRate bit_depth bit_rate blockReason
    blockReasonMessage block_binding block_on_error block_reason block_reason_message blocked blocked_domains
    blocking_confidence body bool boolValue bool_value boolean browser_results bucketOwner budget_tokens button
    bytes bytesBase64Encoded bytes_ cacheDetails cachePoint cacheReadInputToken cacheReadInputTokenCount
    cacheReadInputTokens cacheTokensDetails cacheWriteInputToken cacheWriteInputTokenCount cacheWriteInputTokens
    cache_control cache_creation cache_creation_input_tokens cache_creation_token_details cache_creation_tokens
    cache_hit cache_miss_reason cache_missed_input_tokens cache_missed_tokens cache_n cache_read
    cache_read_audio_tokens cache_read_image_tokens cache_read_input_tokens cache_read_text_tokens
    cache_read_tokens cache_tokens_details cache_write_12h_tokens cache_write_1h_tokens cache_write_5m_tokens
    cache_write_tokens cache_write_tokens_details cachedContent cachedContentTokenCount cachedInputTokens
    cached_content cached_content_token_count cached_image_tokens cached_input_tokens cached_prompt_text_tokens
    cached_prompt_tokens cached_text_tokens cached_tokens cached_tokens_by_modality cached_tokens_details caching
    call call_id caller caller_id calling callspan_media callspan_omitted callspan_truncated cancel_initiated_at
    canceled cancelled cancelled_at cancelling_at candidateCount candidate_count candidates candidatesTokenCount
    candidatesTokensDetails candidates_token_count candidates_tokens_details categories category
    category_applied_input_types category_scores cf_ray channels chart charts chat chat_completions chat_history
    chat_template_kwargs chatbot checks choice choices chosenCandidates chosen_candidates chunk chunkId chunk_id
    chunking_strategy citation citationMetadata citationSources citation_metadata citation_options citations
    citationsContent citations_delta cited_text city claims claimsFalseScenario claimsTrueScenario classifications
    clear_at clear_at_least clear_thinking clear_tool_inputs cleared_input_tokens cleared_thinking_turns
    cleared_tool_uses client clientArgs clientContent clientRequestToken client_args client_content client_event_id
    client_secret client_tool_results close_tab closed code codeExecutionResult code_execution
    code_execution_result code_interpreter_call code_interpreter_call_code code_results collaborative_planning
    colorGuidedGenerationParams command command_index commands compact_threshold compaction compaction_delta
    comparison_response_id comparison_reusable_tokens complete completed completed_at completion completionReason
    completionTokens completion_logprobs completion_time completion_token_details completion_token_ids
    completion_tokens completion_tokens_details completion_window completions complexity compliance compound_custom
    compressionQuality compression_quality compression_ratio computer_use confidence confidenceScore
    confidenceScores confidence_scores config configs connector connector_id consent consentAudio consent_audio
    const container container_id container_upload content contentBlockDelta contentBlockIndex contentBlockStart
    contentBlockStop contentFilter contentIndex contentLayers contentPolicy contentPolicyImageUnits
    contentPolicyUnits contentType content_block content_block_delta content_block_start content_block_stop
    content_index content_layers content_part content_parts content_type contents context contextUpdate
    contextWindowCompression context_compression context_length_exceeded_behavior context_management context_update
    context_window context_window_compression contextualGroundingPolicy contextualGroundingPolicyUnits
    continuationToken continuation_id continuation_ids continuation_token continue_on_failure contradictingRules
    conversation conversation_already_has_active_response conversation_id converse cost_estimated cost_usd count
    country createTime create_response create_time created created_at created_by credential credential_secret
    criminal csv cursor_position custom customMetadata customVocabulary customWords custom_category_thresholds
    custom_config custom_configs custom_id custom_metadata custom_tool custom_tool_call custom_tool_call_input
    custom_vocabulary customizedAvatar customized_avatar cyber dangerous dangerous_and_criminal_content data
    data_channel data_store data_store_specs datastore datastores day debug decay_factor decision decisions
    decoder_input_details decoding_method default default_config defer_loading definition definitions defs delay
    delegation delegation_id deleted delivery delta deltas dependentSchemas deprecated description detail
    detailed_explanation details detected diagnostics diarization diarization_mode diarize dict diff
    differenceScenarios dimensions disable disable_attribution disable_parallel_tool_use disable_reasoning
    disable_safety_checker disable_tool_validation disabled_safety_policies display displayName display_height
    display_height_px display_name display_number display_width display_width_px distanceMeters distance_meters
    do_sample document documentChar documentChunk documentIndex documentMetadata documentName documentOcr
    documentPage document_citation document_id document_ids document_index document_metadata document_name
    document_ocr document_title document_uri document_url documents domain domain_secrets done done_reason
    double_click downloadUri download_id download_uri dram_cached_tokens duration dynamic_retrieval_config
    dynamic_threshold eager_input_streaming eagerness echo echoTargetLanguage echo_target_language edits effort
    elapsed_ms elastic_search_params elements else embed embedding embeddingApiType embeddingConfig embeddingTypes
    embedding_api_type embedding_only embedding_types embedding_weight embeddings embeddingsByType
    enableAffectiveDialog enableEnhancedCivicAnswers enable_affective_dialog enable_bigquery_tool
    enable_data_retention enable_enhanced_civic_answers enable_prompt_injection_detection enable_widget
    enable_zero_data_retention enable_zoom enabled enabled_tools encodedPolyline encoded_polyline encoding
    encoding_format encrypted_content encrypted_index encrypted_stdout end endIndex endOffset endPage endTime
    end_block_index end_char_index end_index end_ms end_offset end_page end_page_number end_time ended_at ended_by
    ended_ns endpoint engine enhancePrompt enhance_prompt enhancedPrompt enhanced_prompt enterprise_web_search
    entities enum env environment environment_id ephemeral_1h_input_tokens ephemeral_5m_input_tokens error
    error_code error_file_id error_message error_type errored errors estimated_tokens eval_count eval_duration
    event event_id event_type events exa_ai_search exa_ai_search_config example examples exclude exclude_domains
    exclude_tools excluded_predefined_functions exclusiveMaximum exclusiveMinimum executableCode executable_code
    executed_tools execution exit_code expBase exp_base expirationTime expiration_time expire_time expired
    expired_at expires_after expires_at explanation explicitVadSignal explicit_vad_signal external_api
    external_web_access extraBody extra_body extra_content extra_fields extra_params f16_kv fail failed failed_at
    failureMessage fallback fallback_credit fallback_credit_token fallback_has_prefill_claim fallback_message
    fallbacks family favicon featureSelectionPreference feature_selection_preference fetch_response fields file
    fileData fileId fileName fileSearchStore fileUri file_data file_id file_ids file_name file_search
    file_search_store file_search_store_names file_type file_upload file_uri file_url filename filter
    filterStrength filter_ filters finalizing_at financial find find_request finding_id findings fingerprint
    finishMessage finishReason finish_message finish_reason finished firstPage first_id first_page first_quartile
    fix_request flagContentUri flag_content_uri flagged float float_ form_input format fps frame_count
    frame_duration_ms frequencyPenalty frequency_penalty from from_ function functionCall functionCallingConfig
    functionCalls functionDeclarations functionResponse functionResponses function_call function_call_arguments
    function_calling_config function_calls function_citation function_declarations function_names function_response
    function_responses function_result functions gcsUri gcs_uri gemini generate generate_content generate_summary
    generatedImages generated_images generated_text generated_token_count generated_tokens generating generation
    generationComplete generationConfig generationOutputConfig generation_complete generation_config generation_id
    generation_output_config generation_token_count generations get_page_text goAway go_away google googleMapsUri
    googleMapsWidgetContextToken googleSearchDynamicRetrievalScore google_maps google_maps_uri
    google_maps_widget_context_token google_search google_search_dynamic_retrieval_score google_search_retrieval
    google_service_account_config graceful_close grammar grammar_root groundingChunkIndices groundingChunks
    groundingMetadata groundingSupports grounding_chunk_indices grounding_chunks grounding_metadata
    grounding_supports grounding_tool_count grounding_types group group_id grow guardContent guarded guardrail
    guardrailArn guardrailConfig guardrailCoverage guardrailId guardrailIdentifier guardrailOrigin
    guardrailOwnership guardrailProcessingLatency guardrailVersion guardrail_config guardrails guidanceScale
    guidance_scale guided_choice guided_grammar guided_json guided_regex handle harassment harassment/threatening
    harassment_threatening has_more hate hate/threatening hate_and_discrimination hate_threatening headers health
    height historyConfig history_config hold_key hosted hosted_tools hover html httpOptions httpStatusCodes
    http_basic_auth_config http_element_location http_options http_status_codes httpxAsyncClient httpxClient
    httpx_async_client httpx_client hybrid_search id id_token identifier idle_timeout_ms idle_timeout_s ids if
    ignoreCallHistory ignore_call_history ignore_other_categories illicit illicit/violent illicit_violent image
    imageBytes imageConfig imageData imageGenerationConfig imageMimeType imageOutputOptions imageSearchQueries
    imageSize imageUri imageVariationParams image_bytes image_config image_data image_edit image_gen
    image_generation image_generation_call image_loras image_mime_type image_output_options image_search
    image_search_queries image_size image_tokens image_uri image_url images impossible inPaintingParams in_progress
    in_progress_at include includeRaiReason includeSafetyAttributes includeServerSideToolInvocations
    includeThoughts include_domains include_images include_obfuscation include_rai_reason include_reasoning
    include_safety_attributes include_server_side_tool_invocations include_stop_sequence include_thoughts
    include_usage incomplete incomplete_details index inferenceConfig inference_geo initialDelay
    initialHistoryInClientContent initial_delay initial_history_in_client_content initial_input_tokens inlineData
    inline_data inlinedRequests inlined_requests input inputAssessment inputAudioTranscription inputImage
    inputPrompt inputSchema inputText inputTextTokenCount inputTokenCount inputTokens inputTranscription inputType
    input_audio input_audio_format input_audio_noise_reduction input_audio_seconds input_audio_tokens
    input_audio_transcription input_dataset_id input_examples input_fidelity input_file input_file_id input_image
    input_image_mask input_image_tokens input_json_delta input_length input_schema input_text input_text_tokens
    input_token_count input_token_details input_token_ids input_tokens input_tokens_by_modality
    input_tokens_details input_transcription input_transformations input_type inputs instances instructions int
    int8 integer interaction interactionStatus interaction_id interaction_status interactions
    interimInputTranscription interim_input_transcription internalServerException interpreting interrupt_response
    interrupted invalid invocationArn invocationMetrics invokeModel invoke_embeddings invoke_model invokedModelId
    is_deprecated is_done is_draft is_error is_experimental is_file_update is_new is_open is_said
    is_search_required is_started is_unknown item item_id items iterations jailbreaking javascript_exec jitter
    job_id jpg json jsonPath jsonSchema json_path json_schema k keep keep_alive key keys keywords kmsKeyId
    known_speaker_names known_speaker_references label labels language languageAuto languageCode languageCodes
    languageHints language_auto language_code language_codes language_hints languages last
    lastConsumedClientMessageIndex lastModifiedTime lastPage last_consumed_client_message_index last_id last_page
    latLng lat_lng latency latencyMs latitude law left_click left_click_drag left_mouse_down left_mouse_up length
    length_penalty level levels library_ids license limit line lines list list_tabs live live_view_url llm_ranker
    load_duration location logProbability logProbabilitySum log_probability log_probability_sum logic logicWarning
    logit_bias logits_all logprob logprobs logprobsResult logprobs_result logs longitude low_vram main_gpu
    managedWordLists manualMode manual_mode maps markup mask match max maxDelay maxItems maxLength maxOutputTokens
    maxProperties maxResults maxTokenCount maxTokens max_characters max_completion_tokens max_content_tokens
    max_delay max_gen_len max_items max_length max_new_tokens max_num_results max_output_length max_output_tokens
    max_properties max_response_output_tokens max_results max_rounds max_spans max_speakers max_tokens
    max_tokens_to_sample max_tool_calls max_total_tokens max_uses maximum maximumRemoteCalls maximum_remote_calls
    mcp mcp_approval_request mcp_call mcp_call_arguments mcp_list_tools mcp_server_name mcp_servers md mediaChunks
    mediaId mediaProcessing mediaResolution mediaSource media_chunks media_id media_processing media_resolution
    media_type median memory_limit message messageIndex messageStart messageStop message_delta message_start
    message_stop messages meta metadata metadata_filter method metrics middle_click mimeType mime_type min minItems
    minLength minProperties min_completion_tokens min_items min_length min_new_tokens min_p min_properties
    min_speakers min_tokens minimum mirostat mirostat_eta mirostat_tau misalignment modalities modality mode model
    modelArmorConfig modelArn modelId modelInput modelName modelOutput modelRoutingPreference modelSelectionConfig
    modelStage modelStatus modelStreamErrorException modelTimeoutException modelTurn modelVersion
    model_armor_config model_id model_name model_output model_parameters model_routing_preference
    model_selection_config model_stage model_status model_turn model_version models moderation moderation_details
    moderation_llm_v1 moderation_llm_v2 moderation_stage month mouse_move mp3 multiSpeakerVoiceConfig
    multi_speaker_voice_config multipleOf n name namespace native_finish_reason naturalLanguage navigate
    negativePrompt negative_prompt network network_policy never newHandle new_handle new_lines new_start new_tab
    nextToken noTranslations no_speech_prob noise_reduction none normalize not not_finished null nullValue
    null_value nullable numTokens num_batch num_cached_tokens num_ctx num_eval_hard_negatives num_eval_queries
    num_eval_relevant_passages num_eval_turns num_gpu num_hits num_keep num_lines num_predict num_requests
    num_search_queries num_thread num_tokens num_train_hard_negatives num_train_queries num_train_relevant_passages
    num_train_turns numa number numberOfImages numberValue number_of_images number_value numericValue numeric_value
    nvext oauth_config obfuscation object offset_ms oidc_config old_lines old_start oneOf operation options order
    originalMessage originalStatusCode original_input_tokens outPaintingParams outcome outliers output
    outputAssessments outputAudioTranscription outputCompressionQuality outputConfig outputDataConfig
    outputDimensionality outputGcsUri outputMimeType outputScope outputText outputTokenCount outputTokens
    outputTranscription outputUriPrefix output_audio output_audio_format output_audio_tokens
    output_audio_transcript output_audio_transcription output_compression output_compression_quality output_config
    output_dataset_id output_dimension output_dimensionality output_dtype output_expires_after output_file_id
    output_format output_gcs_uri output_ids output_image output_image_tokens output_index output_mime_type
    output_modalities output_schema output_text output_text_tokens output_token_details output_token_ids
    output_tokens output_tokens_by_modality output_tokens_details output_transcription output_uri_prefix
    output_video outputs oversized_image overwrittenThreshold overwritten_threshold p pageNumber pageSpan page_age
    page_number page_options page_span pages parallel_ai_search parallel_ai_search_config parallel_tool_calls param
    parameter_definitions parameters parametersJsonSchema parameters_json_schema params parsed parsed_arguments
    part partIndex partMetadata part_index part_metadata partialArgs partial_args partial_arguments
    partial_image_b64 partial_image_index partial_images partial_json parts path pattern patternProperties
    pause_after_compaction paused_seconds pdf penalize_newline pending_safety_checks performanceConfig
    performanceConfigLatency performance_config personGeneration person_generation personality phase photoUri
    photo_uri pii piiEntities placeAnswerSources placeId place_answer_sources place_id places png points policy
    policyVersionArn positivePromptSafetyAttributes positive_prompt_safety_attributes post_instructions preamble
    prebuiltVoiceConfig prebuilt_voice_config predicted_n prediction predictions prefill prefix prefixItems
    prefix_mismatch_behavior prefix_padding_ms premises presencePenalty presence_penalty previous_interaction_id
    previous_item_id previous_message_id previous_response_id prewarm proactiveAudio proactiveVideo proactive_audio
    proactive_video proactivity probabilities probability probabilityScore probability_score processing
    processing_status program projectIdentifier project_id prominentPeople prominent_people prompt promptAttack
    promptFeedback promptRouter promptTemplateName promptTokenCount promptTokenDetails promptTokens
    promptTokensDetails promptVariables prompt_audio_seconds prompt_cache_breakpoint prompt_cache_diagnostics
    prompt_cache_hit_tokens prompt_cache_key prompt_cache_options prompt_cache_retention prompt_eval_count
    prompt_eval_duration prompt_feedback prompt_logprobs prompt_mode prompt_n prompt_template_name prompt_time
    prompt_token_count prompt_token_details prompt_tokens prompt_tokens_details prompt_variables pronunciation_dict
    properties propertyNames propertyOrdering property_ordering provider_specific_fields publicationDate
    publication_date qualifiers quality queries query questions queue_time queued radius ragChunk rag_chunk
    rag_corpora rag_corpus rag_file_ids rag_resources rag_retrieval_config rag_store_config raiFilteredReason
    rai_filtered_reason random_seed rank_fields rank_service ranker ranking ranking_config ranking_options rate
    rate_limits raw readOnly read_console read_network read_only read_page realtime realtimeInput realtime_input
    realtime_translations reason reasoning reasoningContent reasoningText reasoningTokens reasoning_content
    reasoning_details reasoning_effort reasoning_format reasoning_logprobs reasoning_model reasoning_output_tokens
    reasoning_signature reasoning_summary_part reasoning_summary_text reasoning_text reasoning_tokens received_at
    recommended_model recording redactedContent redacted_thinking ref reference reference_ids reference_images
    refusal regex regexes region rejected_prediction_tokens relativePublishTimeDescription
    relative_publish_time_description relevance_score relevant_spans remaining remove_to_redeem renderedContent
    renderedParts rendered_content rendered_parts repeat_last_n repeat_penalty repeats_name repetition_penalty
    replace replicatedVoiceConfig replicated_voice_config requestMetadata request_counts request_id
    request_metadata requests require_approval required required_input requires_action requires_confirmation
    requires_continuation rerank reset_seconds resolution resourceName response responseFormat responseId
    responseJsonSchema responseLogprobs responseMimeType responseModalities responseSchema responseTemplateName
    responseTokenCount responseTokensDetails response_encoding response_event response_format response_id
    response_inclusion response_json_schema response_logprobs response_mime_type response_modalities
    response_schema response_template_name response_token_count response_tokens_details response_type responses
    result results results_url resumable retention_ratio retirementTime retirement_time retrieval retrievalConfig
    retrievalMetadata retrievalQueries retrieval_config retrieval_metadata retrieval_queries retrieval_type
    retrieval_types retrievedContext retrievedUrl retrieved_at retrieved_context retrieved_url retryOptions
    retry_options return_code return_documents return_full_text return_options return_raw_tokens review reviewId
    reviewSnippet reviewSnippets review_id review_snippet review_snippets review_target revised_prompt right_click
    role route routing routingConfig routing_config s s3Location s3OutputDataConfig s3Uri safe_prompt
    safetyAttributes safetyFilterLevel safetyRatings safetySettings safety_attributes safety_filter_level
    safety_identifier safety_model safety_ratings safety_settings sampleRate sample_rate satisfiable scale
    scheduling schema schemaVersion schema_ schema_definition score score_threshold scores screenshot script_hint
    scroll scroll_to scroll_x scroll_y sdkBlob sdkHttpResponse sdk_blob sdk_http_response sdp searchEntryPoint
    searchResult searchResultIndex searchResultLocation search_content_types search_context_size search_entry_point
    search_queries search_query search_result_index search_results search_settings search_suggestions
    search_template search_type search_types search_units searching seconds seed seek segment segment_id
    segmentedEmbeddingParams segments self-harm self-harm/instructions self-harm/intent self_harm
    self_harm_instructions self_harm_intent selfharm sensitiveInformation sensitiveInformationPolicy
    sensitiveInformationPolicyFreeUnits sensitiveInformationPolicyUnits sequence_number server serverContent
    serverName server_content server_description server_label server_name server_tool_results server_tool_use
    server_tool_use_details server_url serviceTier serviceUnavailableException service_account service_tier session
    sessionId sessionResumption sessionResumptionUpdate session_config session_id session_resumption
    session_resumption_update settled setup setupComplete setup_complete severity severityScore severity_score
    sexual sexual/minors sexual_minors sglext sha256Hash sha256_hash sheetIndex sheet_index shell_call
    shell_call_command short_description shouldReturnHttpResponse should_return_http_response signature
    signature_delta silence_duration_ms similarity_top_k simple_search_params singleEmbeddingParams size sizeBytes
    size_bytes skill_id skills slidingWindow sliding_window sortBy sortOrder sound source sourceContent
    sourceFlaggingUris sourceId sourceText sourceUri source_event_id source_event_type source_files
    source_flagging_uris source_id source_text source_uri sources space_id speaker speakerLabel speakerVoiceConfigs
    speaker_id speaker_label speaker_segments speaker_voice_configs speakers special speechConfig speechMetadata
    speech_config speech_metadata speed spreadsheetMetadata spreadsheet_metadata spreadsheet_options
    sram_cached_tokens sse_read_timeout start startIndex startOffset startPage start_block_index start_char_index
    start_index start_line start_ms start_offset start_page start_page_number start_time starting_after state
    state_changes stated statements statistics status statusEquals status_code status_details stderr stdout steer
    step step_usage steps stop stopReason stopSequences stop_details stop_reason stop_sequence stop_sequences store
    store_context str stream streamFunctionCallArguments streamProcessingMode stream_format
    stream_function_call_arguments stream_id stream_options streamable_http_transport strength strict string
    stringListValue stringValue string_list_value string_value structure style submitTime submitTimeAfter
    submitTimeBefore succeeded success suffix summary summary_index summary_text supportingRules surrogatepass svg
    svg_usage switch_tab syntax system systemInstruction systemTool system_fingerprint system_instruction tab_id
    tabs tags target targetLanguageCode targetTokens target_attributes target_language_code target_tokens
    target_uri task taskType task_budget task_type temperature template terminate_on_close text textCharacters
    textFormat textGenerationConfig textToImageParams textUnits text_annotation_delta text_completion text_delta
    text_offset text_prompts text_tokens text_weight texts tfs_z then think thinking thinkingBudget thinkingConfig
    thinkingLevel thinking_blocks thinking_budget thinking_config thinking_delta thinking_level thinking_summaries
    thinking_tokens third_quartile thought thoughtSignature thought_signature thought_summary thoughtsTokenCount
    thoughts_token_count thread threshold throttlingException timeLeft time_info time_left time_limit
    time_range_filter timeout timeout_ms timestamp_granularities timezone timings title to token tokenCount tokenId
    token_count token_id token_ids token_limits token_logprobs token_ranks tokens tokensDetails tokens_details
    tokens_evaluated tokens_predicted tooComplex tool toolAddition toolCall toolCallCancellation toolChoice
    toolConfig toolRemoval toolResponse toolResult toolSpec toolType toolUse toolUseId toolUsePromptTokenCount
    toolUsePromptTokensDetails tool_call tool_call_cancellation tool_call_delta tool_call_id tool_calls
    tool_changes tool_choice tool_config tool_configuration tool_id tool_name tool_names tool_output tool_plan
    tool_prompt tool_reference tool_references tool_response tool_result tool_results tool_type tool_usage tool_use
    tool_use_id tool_use_prompt_token_count tool_use_prompt_tokens_details tool_use_tokens_by_modality tools
    toolset_name topCandidates topK topP top_candidates top_k top_logprobs top_n top_n_tokens top_p
    top_prompt_logprobs top_tokens topicPolicy topicPolicyUnits topics total totalOutputTextTokenCount
    totalTokenCount totalTokens total_cached_tokens total_duration total_input_tokens total_lines
    total_output_tokens total_reasoning_tokens total_thought_tokens total_time total_token_count total_tokens
    total_tool_use_tokens total_usage trace tracing trafficType traffic_type transcript transcription
    transcription_config transcriptions transform transformations translation translationAmbiguous
    translationConfig translation_config translations transparent transport trigger triggerTokens trigger_id
    trigger_tokens triggers triple_click truncate truncate_input_tokens truncated truncation ttl ttl_12h_tokens
    ttl_30m_tokens tunnel_id turnComplete turnCompleteReason turn_complete turn_complete_reason turn_detection
    turns txt type typical_p ubinary uint8 uniqueItems unknown untranslatedClaims untranslatedPremises updateTime
    update_time updated uri uris url urlContextMetadata urlMetadata urlRetrievalStatus url_citation url_context
    url_context_metadata url_metadata url_retrieval_status url_sources urls usage usageMessages usageMetadata
    usage_breakdown usage_metadata usage_ratio use_cache use_mlock use_mmap user user_access_token user_id
    user_input user_location user_metadata user_profile_id vadSignalType vad_signal_type vad_threshold valid
    validationException value values variables vector_distance_threshold vector_similarity_threshold
    vector_store_ids verbosity version vertex_ai_search vertex_ai_search_config vertex_rag_store video
    videoBitrateBps videoMetadata video_bitrate_bps video_config video_metadata video_url violence violence/graphic
    violence_and_threats violence_graphic visibleCells visible_cells visualization vocab_only voice voiceActivity
    voiceActivityDetectionSignal voiceActivityType voiceConfig voiceConsentSignature voiceName voiceSampleAudio
    voice_activity voice_activity_detection_signal voice_activity_type voice_config voice_consent_signature
    voice_name voice_sample_audio voices wait waitingForInput waiting_for_input wake_policy warnings watermark web
    webSearchQueries web_fetch_requests web_search web_search_options web_search_queries web_search_requests
    web_search_results webhook_config whole widget_context_token width willContinue will_continue wolfram_settings
    word wordPolicy wordPolicyUnits wordTimestamp word_timestamp words workflow_name working_directory workspace_id
    writeOnly x x_amz_cf_id x_delay_time x_groq x_label x_scale x_tick_labels x_ticks x_unit y y_label y_scale
    y_tick_labels y_ticks y_unit year zoom
    """.split()  # noqa: SIM905 - shorter than a list
)
"""Names of members."""

_VALUES: Final = (
    (
        """
    action
        """,
        """
    ANONYMIZED BLOCKED GUARDRAIL_INTERVENED NONE auto block edit generate none removed
        """,
    ),
    (
        """
    allowed_callers
        """,
        """
    code_execution_20250825 code_execution_20260120 code_execution_20260521 direct programmatic
        """,
    ),
    (
        """
    allowed_client_events allowed_server_events keep
        """,
        """
    all
        """,
    ),
    (
        """
    allowlist network
        """,
        """
    disabled
        """,
    ),
    (
        """
    anchor
        """,
        """
    created_at
        """,
    ),
    (
        """
    api_spec
        """,
        """
    API_SPEC_UNSPECIFIED ELASTIC_SEARCH SIMPLE_SEARCH
        """,
    ),
    (
        """
    aspectRatio
        """,
        """
    ASPECT_RATIO_EIGHT_BY_ONE ASPECT_RATIO_FIVE_BY_FOUR ASPECT_RATIO_FOUR_BY_FIVE ASPECT_RATIO_FOUR_BY_ONE
    ASPECT_RATIO_FOUR_BY_THREE ASPECT_RATIO_NINE_BY_SIXTEEN ASPECT_RATIO_ONE_BY_EIGHT ASPECT_RATIO_ONE_BY_FOUR
    ASPECT_RATIO_ONE_BY_ONE ASPECT_RATIO_SIXTEEN_BY_NINE ASPECT_RATIO_THREE_BY_FOUR ASPECT_RATIO_THREE_BY_TWO
    ASPECT_RATIO_TWENTY_ONE_BY_NINE ASPECT_RATIO_TWO_BY_THREE ASPECT_RATIO_UNSPECIFIED
        """,
    ),
    (
        """
    aspect_ratio
        """,
        """
    16:9 1:1 1:4 1:8 21:9 2:3 3:2 3:4 4:1 4:3 4:5 5:4 8:1 9:16 ASPECT_RATIO_EIGHT_BY_ONE ASPECT_RATIO_FIVE_BY_FOUR
    ASPECT_RATIO_FOUR_BY_FIVE ASPECT_RATIO_FOUR_BY_ONE ASPECT_RATIO_FOUR_BY_THREE ASPECT_RATIO_NINE_BY_SIXTEEN
    ASPECT_RATIO_ONE_BY_EIGHT ASPECT_RATIO_ONE_BY_FOUR ASPECT_RATIO_ONE_BY_ONE ASPECT_RATIO_SIXTEEN_BY_NINE
    ASPECT_RATIO_THREE_BY_FOUR ASPECT_RATIO_THREE_BY_TWO ASPECT_RATIO_TWENTY_ONE_BY_NINE ASPECT_RATIO_TWO_BY_THREE
    ASPECT_RATIO_UNSPECIFIED
        """,
    ),
    (
        """
    auth_type
        """,
        """
    API_KEY_AUTH AUTH_TYPE_UNSPECIFIED GOOGLE_SERVICE_ACCOUNT_AUTH HTTP_BASIC_AUTH NO_AUTH OAUTH OIDC_AUTH
        """,
    ),
    (
        """
    background
        """,
        """
    auto opaque transparent
        """,
    ),
    (
        """
    baseUrlResourceScope base_url_resource_scope
        """,
        """
    COLLECTION
        """,
    ),
    (
        """
    behavior
        """,
        """
    BLOCKING NON_BLOCKING UNSPECIFIED
        """,
    ),
    (
        """
    bill_to
        """,
        """
    self user_profile
        """,
    ),
    (
        """
    blockReason block_reason
        """,
        """
    BLOCKED_REASON_UNSPECIFIED BLOCKLIST IMAGE_SAFETY JAILBREAK MODEL_ARMOR OTHER PROHIBITED_CONTENT SAFETY
        """,
    ),
    (
        """
    blocking_confidence
        """,
        """
    BLOCK_HIGHER_AND_ABOVE BLOCK_HIGH_AND_ABOVE BLOCK_LOW_AND_ABOVE BLOCK_MEDIUM_AND_ABOVE
    BLOCK_ONLY_EXTREMELY_HIGH BLOCK_VERY_HIGH_AND_ABOVE PHISH_BLOCK_THRESHOLD_UNSPECIFIED
        """,
    ),
    (
        """
    button
        """,
        """
    back forward left right wheel
        """,
    ),
    (
        """
    category
        """,
        """
    HARM_CATEGORY_CIVIC_INTEGRITY HARM_CATEGORY_DANGEROUS_CONTENT HARM_CATEGORY_HARASSMENT
    HARM_CATEGORY_HATE_SPEECH HARM_CATEGORY_IMAGE_DANGEROUS_CONTENT HARM_CATEGORY_IMAGE_HARASSMENT
    HARM_CATEGORY_IMAGE_HATE HARM_CATEGORY_IMAGE_SEXUALLY_EXPLICIT HARM_CATEGORY_JAILBREAK
    HARM_CATEGORY_SEXUALLY_EXPLICIT HARM_CATEGORY_UNSPECIFIED HATE INSULTS JAILBREAK MISCONDUCT PROMPT_INJECTION
    PROMPT_LEAKAGE SEXUAL VIOLENCE bio cyber frontier_llm general_harms reasoning_extraction
        """,
    ),
    (
        """
    chunking_strategy tracing
        """,
        """
    auto
        """,
    ),
    (
        """
    citation_options
        """,
        """
    disabled enabled
        """,
    ),
    (
        """
    clear_at
        """,
        """
    never next_user_message
        """,
    ),
    (
        """
    code
        """,
        """
    bio_policy data_residency_mismatch empty_image_file failed_to_download_image image_content_policy_violation
    image_file_not_found image_file_too_large image_parse_error image_too_large image_too_small
    invalid_base64_image invalid_image invalid_image_format invalid_image_mode invalid_image_url invalid_prompt
    misalignment_policy_violation rate_limit_exceeded server_error unsupported_image_media_type
    vector_store_timeout
        """,
    ),
    (
        """
    completion_window
        """,
        """
    24h 2h 8h soonest
        """,
    ),
    (
        """
    complexity search_context_size verbosity
        """,
        """
    high low medium
        """,
    ),
    (
        """
    compliance
        """,
        """
    hipaa
        """,
    ),
    (
        """
    confidence filterStrength
        """,
        """
    HIGH LOW MEDIUM NONE
        """,
    ),
    (
        """
    connector_id
        """,
        """
    connector_dropbox connector_gmail connector_googlecalendar connector_googledrive connector_microsoftteams
    connector_outlookcalendar connector_outlookemail connector_sharepoint
        """,
    ),
    (
        """
    contentLayers
        """,
        """
    AUDIO CONTENT_LAYER_UNSPECIFIED DATA FORMULAS FRAMES PAGE_IMAGE PAGE_TEXT TRANSCRIPT VISUAL
        """,
    ),
    (
        """
    content_layers
        """,
        """
    AUDIO CONTENT_LAYER_UNSPECIFIED DATA FORMULAS FRAMES PAGE_IMAGE PAGE_TEXT TRANSCRIPT VISUAL audio data formulas
    frames page_image page_text transcript visual
        """,
    ),
    (
        """
    context
        """,
        """
    all_turns auto current_turn
        """,
    ),
    (
        """
    context_compression
        """,
        """
    auto disabled enabled
        """,
    ),
    (
        """
    context_length_exceeded_behavior
        """,
        """
    error truncate
        """,
    ),
    (
        """
    cyber
        """,
        """
    daybreak_blue daybreak_red standard
        """,
    ),
    (
        """
    delay
        """,
        """
    high low medium minimal xhigh
        """,
    ),
    (
        """
    delivery
        """,
        """
    DELIVERY_UNSPECIFIED INLINE URI inline uri
        """,
    ),
    (
        """
    detail
        """,
        """
    auto high low original
        """,
    ),
    (
        """
    disabled_safety_policies
        """,
        """
    ACCOUNT_CREATION COMMUNICATION_TOOL DATA_MODIFICATION FINANCIAL_TRANSACTIONS LEGAL_TERMS_AND_AGREEMENTS
    SAFETY_POLICY_UNSPECIFIED SENSITIVE_DATA_MODIFICATION USER_CONSENT_MANAGEMENT account_creation
    communication_tool data_modification financial_transactions legal_terms_and_agreements
    sensitive_data_modification user_consent_management
        """,
    ),
    (
        """
    display
        """,
        """
    omitted summarized updates
        """,
    ),
    (
        """
    eagerness
        """,
        """
    auto high low medium
        """,
    ),
    (
        """
    effort
        """,
        """
    high low max medium minimal none xhigh
        """,
    ),
    (
        """
    embeddingApiType embedding_api_type
        """,
        """
    BATCH_EMBED_CONTENTS EMBED_CONTENT PREDICT
        """,
    ),
    (
        """
    encoding_format
        """,
        """
    base64 float
        """,
    ),
    (
        """
    endpoint
        """,
        """
    /v1/chat/completions /v1/completions /v1/embeddings /v1/images/edits /v1/images/generations /v1/moderations
    /v1/responses /v1/videos
        """,
    ),
    (
        """
    environment
        """,
        """
    ENVIRONMENT_BROWSER ENVIRONMENT_DESKTOP ENVIRONMENT_MOBILE ENVIRONMENT_UNSPECIFIED browser desktop linux mac
    mobile ubuntu windows
        """,
    ),
    (
        """
    error_code
        """,
        """
    content_too_large execution_time_exceeded file_not_found invalid_tool_input max_uses_exceeded model_not_found
    output_file_too_large overloaded prompt_too_long query_too_long request_too_large too_many_requests unavailable
    unsupported_content_type url_not_accessible url_not_allowed url_not_in_prior_context url_too_long
        """,
    ),
    (
        """
    event_type
        """,
        """
    UNKNOWN citation-generation debug error interaction.cancelled interaction.completed interaction.connected
    interaction.create interaction.created interaction.status_update search-queries-generation search-results
    session.input_transcript.delta session.output_transcript.delta step.delta step.start step.stop stream-end
    stream-start text-generation tool-calls-chunk tool-calls-generation
        """,
    ),
    (
        """
    execution
        """,
        """
    client server
        """,
    ),
    (
        """
    fallbacks
        """,
        """
    default
        """,
    ),
    (
        """
    featureSelectionPreference feature_selection_preference
        """,
        """
    BALANCED FEATURE_SELECTION_PREFERENCE_UNSPECIFIED PRIORITIZE_COST PRIORITIZE_QUALITY
        """,
    ),
    (
        """
    file_type
        """,
        """
    image pdf text
        """,
    ),
    (
        """
    finishReason
        """,
        """
    BLOCKLIST CONTINUATION ESCALATION FINISH_REASON_UNSPECIFIED IMAGE_OTHER IMAGE_PROHIBITED_CONTENT
    IMAGE_RECITATION IMAGE_SAFETY LANGUAGE MALFORMED_FUNCTION_CALL MALFORMED_RESPONSE MAX_TOKENS
    MISSING_THOUGHT_SIGNATURE MODEL_ARMOR NO_IMAGE OTHER PROHIBITED_CONTENT PUP_LIMITED_DISABLED RECITATION SAFETY
    SPII STOP TOO_MANY_TOOL_CALLS UNEXPECTED_TOOL_CALL
        """,
    ),
    (
        """
    finish_reason
        """,
        """
    BLOCKLIST COMPLETE CONTINUATION ERROR ERROR_LIMIT ERROR_TOXIC ESCALATION FINISH_REASON_UNSPECIFIED IMAGE_OTHER
    IMAGE_PROHIBITED_CONTENT IMAGE_RECITATION IMAGE_SAFETY LANGUAGE MALFORMED_FUNCTION_CALL MALFORMED_RESPONSE
    MAX_TOKENS MISSING_THOUGHT_SIGNATURE MODEL_ARMOR NO_IMAGE OTHER PROHIBITED_CONTENT PUP_LIMITED_DISABLED
    RECITATION SAFETY SPII STOP STOP_SEQUENCE TIMEOUT TOOL_CALL TOO_MANY_TOOL_CALLS UNEXPECTED_TOOL_CALL
    USER_CANCEL content_filter eos eos_token error function_call length model_length stop stop_sequence tool_calls
        """,
    ),
    (
        """
    format
        """,
        """
    aac csv doc docx flac flv gif html jpeg json m4a md mka mkv mov mp3 mp4 mpeg mpg mpga ogg opus pcm pcm16 pdf
    png three_gp txt wav webm webp wmv x-aac xls xlsx
        """,
    ),
    (
        """
    function_call
        """,
        """
    auto none required
        """,
    ),
    (
        """
    generate_summary
        """,
        """
    auto concise detailed
        """,
    ),
    (
        """
    guardrailOrigin
        """,
        """
    ACCOUNT_ENFORCED ORGANIZATION_ENFORCED REQUEST
        """,
    ),
    (
        """
    guardrailOwnership
        """,
        """
    CROSS_ACCOUNT SELF
        """,
    ),
    (
        """
    harassment harassment/threatening harassment_threatening hate hate/threatening hate_threatening illicit
    illicit/violent illicit_violent sexual/minors sexual_minors
        """,
        """
    text
        """,
    ),
    (
        """
    http_element_location
        """,
        """
    HTTP_IN_BODY HTTP_IN_COOKIE HTTP_IN_HEADER HTTP_IN_PATH HTTP_IN_QUERY HTTP_IN_UNSPECIFIED
        """,
    ),
    (
        """
    imageSize
        """,
        """
    IMAGE_SIZE_FIVE_TWELVE IMAGE_SIZE_FOUR_K IMAGE_SIZE_ONE_K IMAGE_SIZE_TWO_K IMAGE_SIZE_UNSPECIFIED
        """,
    ),
    (
        """
    image_size
        """,
        """
    1K 2K 4K 512 IMAGE_SIZE_FIVE_TWELVE IMAGE_SIZE_FOUR_K IMAGE_SIZE_ONE_K IMAGE_SIZE_TWO_K IMAGE_SIZE_UNSPECIFIED
        """,
    ),
    (
        """
    include
        """,
        """
    code_interpreter_call.outputs computer_call_output.output.image_url file_search_call.results
    item.input_audio_transcription.logprobs logprobs message.input_image.image_url message.output_text.logprobs
    reasoning.encrypted_content web_search_call.action.sources web_search_call.results
        """,
    ),
    (
        """
    input_audio_format output_audio_format
        """,
        """
    g711_alaw g711_ulaw pcm16
        """,
    ),
    (
        """
    input_fidelity
        """,
        """
    high low
        """,
    ),
    (
        """
    interactionStatus interaction_status
        """,
        """
    IDLE INTERACTION_STATUS_UNSPECIFIED IN_PROGRESS REQUIRES_ACTION
        """,
    ),
    (
        """
    language
        """,
        """
    LANGUAGE_UNSPECIFIED PYTHON auto bash en es hi ja ko pt python zh
        """,
    ),
    (
        """
    latency performanceConfigLatency
        """,
        """
    optimized standard
        """,
    ),
    (
        """
    level
        """,
        """
    MEDIA_RESOLUTION_HIGH MEDIA_RESOLUTION_LOW MEDIA_RESOLUTION_MEDIUM MEDIA_RESOLUTION_ULTRA_HIGH
    MEDIA_RESOLUTION_UNSPECIFIED
        """,
    ),
    (
        """
    max_output_tokens max_response_output_tokens
        """,
        """
    inf
        """,
    ),
    (
        """
    mediaProcessing media_processing
        """,
        """
    AGENTIC MEDIA_PROCESSING_UNSPECIFIED STATIC
        """,
    ),
    (
        """
    mediaResolution media_resolution
        """,
        """
    MEDIA_RESOLUTION_HIGH MEDIA_RESOLUTION_LOW MEDIA_RESOLUTION_MEDIUM MEDIA_RESOLUTION_UNSPECIFIED
        """,
    ),
    (
        """
    media_type
        """,
        """
    application/pdf application/zip image/gif image/jpeg image/png image/webp text/plain
        """,
    ),
    (
        """
    memory_limit
        """,
        """
    16g 1g 4g 64g
        """,
    ),
    (
        """
    method
        """,
        """
    HARM_BLOCK_METHOD_UNSPECIFIED PROBABILITY SEVERITY probability severity
        """,
    ),
    (
        """
    mime_type
        """,
        """
    application/json application/msword application/pdf application/vnd.ms-excel application/vnd.ms-powerpoint
    application/vnd.oasis.opendocument.presentation application/vnd.oasis.opendocument.spreadsheet
    application/vnd.oasis.opendocument.text audio/aac audio/aiff audio/alaw audio/flac audio/l16 audio/m4a
    audio/mp3 audio/mpeg audio/mulaw audio/ogg audio/ogg_opus audio/opus audio/wav audio/webm image/bmp image/gif
    image/heic image/heif image/jpeg image/png image/tiff image/webp text/csv text/plain video/3gpp video/avi
    video/jpeg2000 video/mov video/mp4 video/mpeg video/mpg video/webm video/wmv video/x-flv
        """,
    ),
    (
        """
    modalities output_modalities
        """,
        """
    audio text
        """,
    ),
    (
        """
    modality
        """,
        """
    AUDIO DOCUMENT IMAGE MODALITY_UNSPECIFIED TEXT VIDEO audio document image text video
        """,
    ),
    (
        """
    mode
        """,
        """
    ANY AUTO MODE_DYNAMIC MODE_UNSPECIFIED NONE SMART VALIDATED VERBATIM any auto best_effort block disabled
    enabled explicit implicit none on_demand required scan score self_hosted smart strict validated verbatim verify
        """,
    ),
    (
        """
    modelRoutingPreference model_routing_preference
        """,
        """
    BALANCED PRIORITIZE_COST PRIORITIZE_QUALITY UNKNOWN
        """,
    ),
    (
        """
    modelStage model_stage
        """,
        """
    DEPRECATED EXPERIMENTAL LEGACY MODEL_STAGE_UNSPECIFIED PREVIEW RETIRED STABLE UNSTABLE_EXPERIMENTAL
        """,
    ),
    (
        """
    moderation
        """,
        """
    auto low
        """,
    ),
    (
        """
    moderation_stage
        """,
        """
    input output unknown
        """,
    ),
    (
        """
    nullValue null_value
        """,
        """
    NULL_VALUE
        """,
    ),
    (
        """
    object
        """,
        """
    audio.tts.chunk audio.voice audio.voice.deleted audio.voice_consent batch chat.completion chat.completion.chunk
    chat.completion.deleted completion.chunk embedding list realtime.conversation realtime.item realtime.response
    realtime.session rerank response response.compaction response.input_tokens text.completion text_completion
        """,
    ),
    (
        """
    order
        """,
        """
    asc desc
        """,
    ),
    (
        """
    outcome
        """,
        """
    OUTCOME_DEADLINE_EXCEEDED OUTCOME_FAILED OUTCOME_OK OUTCOME_UNSPECIFIED
        """,
    ),
    (
        """
    outputScope
        """,
        """
    FULL INTERVENTIONS
        """,
    ),
    (
        """
    output_dtype
        """,
        """
    binary float int8 ubinary uint8
        """,
    ),
    (
        """
    output_format
        """,
        """
    gif jpeg png svg webp
        """,
    ),
    (
        """
    oversized_image
        """,
        """
    downsize error
        """,
    ),
    (
        """
    overwrittenThreshold overwritten_threshold
        """,
        """
    BLOCK_LOW_AND_ABOVE BLOCK_MEDIUM_AND_ABOVE BLOCK_NONE BLOCK_ONLY_HIGH HARM_BLOCK_THRESHOLD_UNSPECIFIED OFF
        """,
    ),
    (
        """
    personGeneration person_generation
        """,
        """
    ALLOW_ADULT ALLOW_ALL DONT_ALLOW
        """,
    ),
    (
        """
    phase
        """,
        """
    commentary final_answer
        """,
    ),
    (
        """
    prefix_mismatch_behavior
        """,
        """
    drop_block error
        """,
    ),
    (
        """
    probability
        """,
        """
    HARM_PROBABILITY_UNSPECIFIED HIGH LOW MEDIUM NEGLIGIBLE
        """,
    ),
    (
        """
    processing
        """,
        """
    agentic static
        """,
    ),
    (
        """
    processing_status
        """,
        """
    canceling ended in_progress
        """,
    ),
    (
        """
    prominentPeople prominent_people
        """,
        """
    ALLOW_PROMINENT_PEOPLE BLOCK_PROMINENT_PEOPLE PROMINENT_PEOPLE_UNSPECIFIED
        """,
    ),
    (
        """
    prompt_cache_retention
        """,
        """
    24h in_memory
        """,
    ),
    (
        """
    prompt_mode
        """,
        """
    reasoning
        """,
    ),
    (
        """
    qualifiers
        """,
        """
    grounding_source guard_content query
        """,
    ),
    (
        """
    quality
        """,
        """
    auto hd high low max medium standard xhigh
        """,
    ),
    (
        """
    ranker
        """,
        """
    auto default-2024-11-15
        """,
    ),
    (
        """
    ranking_config
        """,
        """
    rank_service
        """,
    ),
    (
        """
    reason
        """,
        """
    body_mismatch client_cancelled close_requested connection_lost content content_filter context_compacted
    continuation_excluded continuation_only end_user_binding_mismatch end_user_mismatch expired input_changed
    invalid_target_model max_messages max_output_tokens model_binding_mismatch model_changed model_mismatch
    not_enabled organization_binding_mismatch organization_mismatch prefix_binding_mismatch prefix_mismatch
    prompt_cache_key_changed reasoning_effort_changed remote_hangup reprice_unavailable service_tier_changed
    steered temporarily_unavailable text_format_changed tools_changed turn_boundary turn_detected
    variant_fields_present verbosity_changed wrong_organization wrong_platform wrong_workspace
        """,
    ),
    (
        """
    reasoning_effort
        """,
        """
    default high low max medium minimal none xhigh
        """,
    ),
    (
        """
    reasoning_format
        """,
        """
    hidden none parsed raw text_parsed
        """,
    ),
    (
        """
    require_approval
        """,
        """
    always never
        """,
    ),
    (
        """
    resolution
        """,
        """
    1080p 360p 4k 720p high low medium ultra_high
        """,
    ),
    (
        """
    responseModalities
        """,
        """
    AUDIO IMAGE MODALITY_UNSPECIFIED TEXT VIDEO
        """,
    ),
    (
        """
    response_encoding
        """,
        """
    pcm_alaw pcm_f32le pcm_mulaw pcm_s16le
        """,
    ),
    (
        """
    response_format
        """,
        """
    aac b64_json base64 diarized_json flac json mp3 mulaw ogg opus pcm raw srt text url verbose_json vtt wav
        """,
    ),
    (
        """
    response_inclusion
        """,
        """
    excluded full
        """,
    ),
    (
        """
    response_modalities
        """,
        """
    AUDIO IMAGE MODALITY_UNSPECIFIED TEXT VIDEO audio document image text video
        """,
    ),
    (
        """
    response_type
        """,
        """
    embeddings_by_type embeddings_floats
        """,
    ),
    (
        """
    retrieval_type retrieval_types
        """,
        """
    exa_ai_search parallel_ai_search rag_store vertex_ai_search
        """,
    ),
    (
        """
    role
        """,
        """
    ASSISTANT CHATBOT MODEL SYSTEM TOOL USER assistant chatbot critic developer discriminator function model system
    tool unknown user
        """,
    ),
    (
        """
    safetyFilterLevel safety_filter_level
        """,
        """
    BLOCK_LOW_AND_ABOVE BLOCK_MEDIUM_AND_ABOVE BLOCK_NONE BLOCK_ONLY_HIGH
        """,
    ),
    (
        """
    scheduling
        """,
        """
    INTERRUPT SCHEDULING_UNSPECIFIED SILENT WHEN_IDLE
        """,
    ),
    (
        """
    search_content_types self-harm self-harm/instructions self-harm/intent self_harm self_harm_instructions
    self_harm_intent sexual violence violence/graphic violence_graphic
        """,
        """
    image text
        """,
    ),
    (
        """
    search_type search_types
        """,
        """
    enterprise_web_search image_search web_search
        """,
    ),
    (
        """
    serviceTier
        """,
        """
    default flex priority reserved standard unspecified
        """,
    ),
    (
        """
    service_tier
        """,
        """
    auto batch default deferred fast fast_tier_temp_pilot flex on_demand performance priority scale standard
    standard_only ultrafast unspecified
        """,
    ),
    (
        """
    severity
        """,
        """
    HARM_SEVERITY_HIGH HARM_SEVERITY_LOW HARM_SEVERITY_MEDIUM HARM_SEVERITY_NEGLIGIBLE HARM_SEVERITY_UNSPECIFIED
        """,
    ),
    (
        """
    size
        """,
        """
    1024x1024 256x256 512x512
        """,
    ),
    (
        """
    sortBy
        """,
        """
    SubmissionTime
        """,
    ),
    (
        """
    sortOrder
        """,
        """
    Ascending Descending
        """,
    ),
    (
        """
    source
        """,
        """
    GENERATED INPUT OUTPUT REGISTERED SOURCE_UNSPECIFIED UPLOADED
        """,
    ),
    (
        """
    source_event_type
        """,
        """
    session.input_transcript.delta session.output_transcript.delta
        """,
    ),
    (
        """
    speed
        """,
        """
    fast standard
        """,
    ),
    (
        """
    state
        """,
        """
    ACTIVE FAILED PROCESSING STATE_UNSPECIFIED
        """,
    ),
    (
        """
    status
        """,
        """
    Completed Failed InProgress active budget_exceeded calling cancelled cancelling complete completed error
    expired failed finalizing generating idle in_progress incomplete interpreting paywall processing queued
    requires_action requires_continuation searching success unsafe validating
        """,
    ),
    (
        """
    statusEquals
        """,
        """
    Completed Failed InProgress
        """,
    ),
    (
        """
    stopReason
        """,
        """
    content_filtered end_turn guardrail_intervened malformed_model_output malformed_tool_use max_tokens
    model_context_window_exceeded stop_sequence tool_use
        """,
    ),
    (
        """
    stop_reason
        """,
        """
    compaction end_turn max_tokens model_context_window_exceeded pause_turn refusal stop_sequence tool_use
        """,
    ),
    (
        """
    streamProcessingMode
        """,
        """
    async sync
        """,
    ),
    (
        """
    stream_format
        """,
        """
    audio sse
        """,
    ),
    (
        """
    style
        """,
        """
    natural vivid
        """,
    ),
    (
        """
    syntax
        """,
        """
    lark regex
        """,
    ),
    (
        """
    target
        """,
        """
    client decisions responses
        """,
    ),
    (
        """
    task
        """,
        """
    edit extend image_to_video reference_to_video text_to_video transcribe upscale
        """,
    ),
    (
        """
    thinkingLevel
        """,
        """
    HIGH LOW MEDIUM MINIMAL THINKING_LEVEL_UNSPECIFIED XHIGH
        """,
    ),
    (
        """
    thinking_level
        """,
        """
    HIGH LOW MEDIUM MINIMAL THINKING_LEVEL_UNSPECIFIED XHIGH high low medium minimal xhigh
        """,
    ),
    (
        """
    thinking_summaries
        """,
        """
    auto none
        """,
    ),
    (
        """
    threshold
        """,
        """
    BLOCK_LOW_AND_ABOVE BLOCK_MEDIUM_AND_ABOVE BLOCK_NONE BLOCK_ONLY_HIGH HARM_BLOCK_THRESHOLD_UNSPECIFIED OFF
    block_low_and_above block_medium_and_above block_none block_only_high off
        """,
    ),
    (
        """
    timestamp_granularities
        """,
        """
    segment word
        """,
    ),
    (
        """
    toolType tool_type
        """,
        """
    FILE_SEARCH GOOGLE_MAPS GOOGLE_SEARCH_IMAGE GOOGLE_SEARCH_WEB MEDIA_PROCESSING TOOL_TYPE_UNSPECIFIED
    URL_CONTEXT
        """,
    ),
    (
        """
    tool_choice
        """,
        """
    any auto none required validated
        """,
    ),
    (
        """
    trace
        """,
        """
    DISABLED ENABLED ENABLED_FULL disabled enabled enabled_full
        """,
    ),
    (
        """
    trafficType traffic_type
        """,
        """
    ON_DEMAND ON_DEMAND_FLEX ON_DEMAND_OFFPEAK ON_DEMAND_PRIORITY PROVISIONED_THROUGHPUT TRAFFIC_TYPE_UNSPECIFIED
        """,
    ),
    (
        """
    truncate
        """,
        """
    END START
        """,
    ),
    (
        """
    truncation
        """,
        """
    auto disabled
        """,
    ),
    (
        """
    ttl
        """,
        """
    12h 1h 30m 5m
        """,
    ),
    (
        """
    turnCompleteReason turn_complete_reason
        """,
        """
    BLOCKLIST GENERATED_AUDIO_SAFETY GENERATED_CONTENT_BLOCKLIST GENERATED_CONTENT_PROHIBITED
    GENERATED_CONTENT_SAFETY GENERATED_IMAGE_CELEBRITY GENERATED_IMAGE_IDENTIFIABLE_PEOPLE GENERATED_IMAGE_MINORS
    GENERATED_IMAGE_PROHIBITED GENERATED_IMAGE_PROMINENT_PEOPLE_DETECTED_BY_REWRITER GENERATED_IMAGE_SAFETY
    GENERATED_OTHER GENERATED_VIDEO_SAFETY IMAGE_PROHIBITED_INPUT_CONTENT INPUT_IMAGE_CELEBRITY
    INPUT_IMAGE_PHOTO_REALISTIC_CHILD_PROHIBITED INPUT_IP_PROHIBITED INPUT_OTHER
    INPUT_TEXT_CONTAIN_PROMINENT_PERSON_PROHIBITED INPUT_TEXT_NCII_PROHIBITED MALFORMED_FUNCTION_CALL
    MAX_REGENERATION_REACHED NEED_MORE_INPUT OUTPUT_IMAGE_IP_PROHIBITED PROHIBITED_INPUT_CONTENT RESPONSE_REJECTED
    TURN_COMPLETE_REASON_UNSPECIFIED UNSAFE_PROMPT_FOR_IMAGE_GENERATION
        """,
    ),
    (
        """
    type
        """,
        """
    ADDRESS AGE ALWAYS_FALSE ALWAYS_TRUE ARRAY AWS_ACCESS_KEY AWS_SECRET_KEY BOOLEAN CA_HEALTH_NUMBER
    CA_SOCIAL_INSURANCE_NUMBER CREDIT_DEBIT_CARD_CVV CREDIT_DEBIT_CARD_EXPIRY CREDIT_DEBIT_CARD_NUMBER DENY
    DRIVER_ID EMAIL GROUNDING HATE INSULTS INTEGER INTERNATIONAL_BANK_ACCOUNT_NUMBER IP_ADDRESS LICENSE_PLATE
    MAC_ADDRESS MISCONDUCT NAME NULL NUMBER OBJECT PASSWORD PHONE PIN PLAN PROFANITY PROMPT_ATTACK RELEVANCE SEXUAL
    STRING SWIFT_CODE TEXT_CONTENT THINKING_CONTENT TYPE_UNSPECIFIED UK_NATIONAL_HEALTH_SERVICE_NUMBER
    UK_NATIONAL_INSURANCE_NUMBER UK_UNIQUE_TAXPAYER_REFERENCE_NUMBER UNKNOWN URL USERNAME US_BANK_ACCOUNT_NUMBER
    US_BANK_ROUTING_NUMBER US_INDIVIDUAL_TAX_IDENTIFICATION_NUMBER US_PASSPORT_NUMBER US_SOCIAL_SECURITY_NUMBER
    VEHICLE_IDENTIFICATION_NUMBER VIOLENCE adaptive additional_tools advisor_20260301 advisor_message
    advisor_redacted_result advisor_result advisor_tool_result advisor_tool_result_error all allowed_tools
    allowlist and anthropic antigravity any api-key api_error apply_patch apply_patch_call apply_patch_call_output
    approximate arguments_delta array audio audio/pcm audio/pcma audio/pcmu audio_sample audio_url
    authentication_error auto b64_json bar base64 bash_20241022 bash_20250124 bash_code_execution_output
    bash_code_execution_result bash_code_execution_tool_result bash_code_execution_tool_result_error between_tools
    billing_error billing_policy boolean box_and_whisker browser_state browser_toolset_20260801 cache_hit
    cache_miss call_error canceled cancelled char_location choice citation-end citation-start citations_delta
    civic_integrity clear_thinking_20251015 clear_tool_uses_20250919 click client code-mender code_execution
    code_execution_20250522 code_execution_20250825 code_execution_20260120 code_execution_20260521
    code_execution_call code_execution_output code_execution_result code_execution_tool_result
    code_execution_tool_result_error code_interpreter code_interpreter_call compact_20260112 compaction
    compaction_delta compaction_trigger comparison_response_not_found completed computer computer_20241022
    computer_20250124 computer_20251124 computer_call computer_call_output computer_screenshot
    computer_toolset_20260801 computer_use computer_use_preview configuration_update connector container_auto
    container_file_citation container_reference container_upload content content-delta content-end content-start
    content_block_delta content_block_location content_block_start content_block_stop continue conversation.created
    conversation.item.added conversation.item.create conversation.item.created conversation.item.delete
    conversation.item.deleted conversation.item.done conversation.item.input_audio_transcription.completed
    conversation.item.input_audio_transcription.delta conversation.item.input_audio_transcription.failed
    conversation.item.input_audio_transcription.segment conversation.item.retrieve conversation.item.retrieved
    conversation.item.truncate conversation.item.truncated create create_file custom custom_tool_call
    custom_tool_call_output dangerous_content debug decision.completed decision.create decision.event
    decision.item.create decision.item.created decision.item.delete decision.item.deleted decisions deep-research
    default delegation delete_file direct disabled document document_citation document_library document_url
    double_click download_completed download_failed download_started drag duration dynamic enabled
    encrypted_code_execution_result ephemeral eq error errored except exec exit expired failed fallback
    fallback_message far_field file file_citation file_path file_search file_search_call file_search_result
    find_in_page flex function function_call function_call_output function_citation function_result gcs google_maps
    google_maps_call google_maps_result google_search google_search_call google_search_result grammar gt gte
    harassment hate_speech http_error image image_dangerous_content image_edit.completed image_edit.partial_image
    image_generation image_generation.completed image_generation.partial_image image_generation_call
    image_harassment image_hate image_sexually_explicit image_url in incomplete info inline input_audio
    input_audio_buffer.append input_audio_buffer.clear input_audio_buffer.cleared input_audio_buffer.commit
    input_audio_buffer.committed input_audio_buffer.dtmf_event_received input_audio_buffer.speech_started
    input_audio_buffer.speech_stopped input_audio_buffer.timeout_triggered input_file input_image input_json
    input_json_delta input_text input_tokens integer invalid_request_error item_reference jailbreak json
    json_object json_schema keypress line live local local_shell local_shell_call local_shell_call_output logs lt
    lte mcp mcp_approval_request mcp_approval_response mcp_call mcp_list_tools mcp_list_tools.completed
    mcp_list_tools.failed mcp_list_tools.in_progress mcp_protocol_error mcp_server mcp_server_tool_call
    mcp_server_tool_result mcp_tool_execution_error mcp_tool_listing mcp_tool_reference mcp_tool_result
    mcp_tool_use mcp_toolset mcp_toolset_reference memory_20250818 message message-end message-start message_batch
    message_batch_deleted message_delta message_start message_stop messages_changed model_changed model_output
    moderation_result moderation_results move namespace ne near_field nin none not_applied not_found_error null
    number oauth2-token object only open_page or output_audio output_audio_buffer.clear output_audio_buffer.cleared
    output_audio_buffer.started output_audio_buffer.stopped output_text overloaded_error page_location
    permission_error pie place_citation predicate previous_message_not_found priority processing_call
    processing_result program program_output programmatic_tool_calling prompt protocol_error rate_limit_error
    rate_limits.updated realtime reasoning reasoning_text redacted_thinking redeemed reference refusal regex remote
    repository reserved resource resource_link response.audio.delta response.audio.done
    response.audio.transcript.delta response.audio.transcript.done response.audio_transcript.delta
    response.audio_transcript.done response.cancel response.code_interpreter_call.completed
    response.code_interpreter_call.in_progress response.code_interpreter_call.interpreting
    response.code_interpreter_call_code.delta response.code_interpreter_call_code.done
    response.compaction.compacting response.completed response.content_part.added response.content_part.done
    response.create response.created response.custom_tool_call_input.delta response.custom_tool_call_input.done
    response.done response.event response.failed response.file_search_call.completed
    response.file_search_call.in_progress response.file_search_call.searching
    response.function_call_arguments.delta response.function_call_arguments.done
    response.image_generation_call.completed response.image_generation_call.generating
    response.image_generation_call.in_progress response.image_generation_call.partial_image response.in_progress
    response.incomplete response.item.create response.mcp_call.completed response.mcp_call.failed
    response.mcp_call.in_progress response.mcp_call_arguments.delta response.mcp_call_arguments.done
    response.mcp_list_tools.completed response.mcp_list_tools.failed response.mcp_list_tools.in_progress
    response.output_audio.delta response.output_audio.done response.output_audio_transcript.delta
    response.output_audio_transcript.done response.output_item.added response.output_item.done
    response.output_text.annotation.added response.output_text.delta response.output_text.done response.queued
    response.reasoning_summary_part.added response.reasoning_summary_part.done
    response.reasoning_summary_text.delta response.reasoning_summary_text.done response.reasoning_text.delta
    response.reasoning_text.done response.refusal.delta response.refusal.done response.shell_call_command.added
    response.shell_call_command.delta response.shell_call_command.done response.shell_call_output_content.delta
    response.shell_call_output_content.done response.steer response.steer.accepted response.steer.failed
    response.steer.pending response.text.delta response.text.done response.web_search_call.completed
    response.web_search_call.in_progress response.web_search_call.searching responses retention_ratio retrieval
    retrieval_call retrieval_result scatter score screenshot scroll search search_result search_result_location
    semantic_vad server_tool_use server_vad session.close session.closed session.commentary.append
    session.commentary.appended session.created session.delegation.created session.input_audio.append
    session.input_audio.mute session.input_audio.muted session.input_audio.unmute session.input_audio.unmuted
    session.input_audio_buffer.append session.input_transcript.delta session.instructions.append
    session.instructions.appended session.output_audio.delta session.output_audio.fixture.play
    session.output_audio.fixture.played session.output_audio.fixture.playing session.output_transcript.delta
    session.paused session.resumed session.start session.started session.thinking.append session.thinking.appended
    session.update session.updated session.usage.updated sexually_explicit shell shell_call shell_call_output
    signature_delta skill_reference skill_registry smart speech speech_metadata static string succeeded summarize
    summary_text superchart system_changed tab_opened text text_annotation_delta text_delta text_editor_20241022
    text_editor_20250124 text_editor_20250429 text_editor_20250728 text_editor_code_execution_create_result
    text_editor_code_execution_str_replace_result text_editor_code_execution_tool_result
    text_editor_code_execution_tool_result_error text_editor_code_execution_view_result thinking thinking_delta
    thinking_dropped thinking_mismatch_allowed thinking_turns thought thought_signature thought_summary timeout
    timeout_error tokens tool tool-call-delta tool-call-end tool-call-start tool-plan-delta tool_addition
    tool_definition tool_execution_error tool_reference tool_removal tool_result tool_search tool_search_call
    tool_search_output tool_search_result tool_search_tool_bm25 tool_search_tool_bm25_20251119
    tool_search_tool_regex tool_search_tool_regex_20251119 tool_search_tool_result tool_search_tool_result_error
    tool_search_tool_search_result tool_use tool_uses tools_changed transcript.text.delta transcript.text.done
    transcript.text.segment transcription transcription_session.update transcription_session.updated translation
    transport.answered transport.dtmf.received transport.dtmf.send transport.dtmf.sent transport.failed
    transport.ringing type unavailable unknown update_file url url_citation url_context url_context_call
    url_context_result user_input verbatim video video_url wait web_fetch_20250910 web_fetch_20260209
    web_fetch_20260309 web_fetch_20260318 web_fetch_result web_fetch_tool_result web_fetch_tool_result_error
    web_search web_search_20250305 web_search_2025_08_26 web_search_20260209 web_search_20260318 web_search_call
    web_search_preview web_search_preview_2025_03_11 web_search_result web_search_result_location
    web_search_tool_result web_search_tool_result_error webrtc word_info
        """,
    ),
    (
        """
    urlRetrievalStatus url_retrieval_status
        """,
        """
    URL_RETRIEVAL_STATUS_ERROR URL_RETRIEVAL_STATUS_PAYWALL URL_RETRIEVAL_STATUS_SUCCESS
    URL_RETRIEVAL_STATUS_UNSAFE URL_RETRIEVAL_STATUS_UNSPECIFIED
        """,
    ),
    (
        """
    vadSignalType vad_signal_type
        """,
        """
    VAD_SIGNAL_TYPE_EOS VAD_SIGNAL_TYPE_SOS VAD_SIGNAL_TYPE_UNSPECIFIED
        """,
    ),
    (
        """
    visualization
        """,
        """
    auto off
        """,
    ),
    (
        """
    voiceActivityType voice_activity_type
        """,
        """
    ACTIVITY_END ACTIVITY_START TYPE_UNSPECIFIED
        """,
    ),
)
WIRE_VALUES: Final[dict[str, frozenset[str]]] = {
    name: words
    for names, words in ((names, frozenset(listed.split())) for names, listed in _VALUES)
    for name in names.split()
}
"""Words by the member whose value they are."""
