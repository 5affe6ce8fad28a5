"""What only `make nightly` runs: whole files, and most cases of tests whose cases take long together.

These are the only lists of slow tests; `conftest.py` marks what they name as `nightly`. `make test` has six minutes
of CPU: a test that takes more than a second there belongs in one of the lists, or asks `tests.support.scale`.
"""

from __future__ import annotations

from typing import Final

FILES: Final[dict[str, int]] = {
    "tests/calls/test_budgets.py": 0,
    "tests/calls/test_drift.py": 2,
    "tests/calls/test_leaks.py": 2,
    "tests/calls/test_runtimes.py": 2,
    "tests/calls/test_websocket_processes.py": 2,
    "tests/datasets/test_trl.py": 0,
    "tests/docs/test_guides.py": 2,
    "tests/otel/test_backends.py": 0,
    "tests/otel/test_fresh_environment.py": 0,
    "tests/otel/test_other_packages.py": 2,
    "tests/otel/test_records_through_collector.py": 0,
    "tests/otel/test_servers.py": 0,
    "tests/receive/test_codex_program.py": 0,
    "tests/receive/test_exits.py": 0,
    "tests/receive/test_load.py": 0,
    "tests/receive/test_program.py": 0,
    "tests/receive/test_run_program.py": 0,
    "tests/stores/test_alike.py": 2,
    "tests/stores/test_beside_sqlite.py": 2,
    "tests/stores/test_faults.py": 0,
    "tests/stores/test_large_clickhouse.py": 0,
    "tests/stores/test_large_stores.py": 0,
    "tests/stores/test_outages.py": 0,
    "tests/view/test_browser.py": 0,
}
"""The number of processes that share the tests of a file. Files with 0 measure time, memory or the behaviour of a whole
machine, and run alone."""

MOST_CASES: Final = 3
"""Of each test `make test` runs at most so many cases, but for those below; of a 0 none."""
WHOLE: Final = ("tests/tables/", "tests/cost/", "tests/datasets/", "tests/docs/", "tests/spans/", "tests/support/")
"""Folders of tests that run all their cases, which are values of a table and take no time."""
SAMPLES: Final[dict[str, dict[str, int | tuple[str, ...]]]] = {
    "tests/calls/test_attempts.py": {
        "test_attempt_span_is_a_child_of_the_call_and_never_current": 5,
        "test_attempts_of_concurrent_calls_on_one_client": 2,
        "test_failed_call_records_reason_without_exception": 7,
        "test_retried_attempt_cost_counts_in_the_call": 5,
        "test_timeout_is_an_attempt": 5,
    },
    "tests/calls/test_bedrock.py": {
        "test_body_is_read_by_the_application_alone": 5,
        "test_errors_by_their_code": 12,
        "test_invoked_models": 6,
        "test_retries_are_attempts_of_one_call": 4,
        "test_stream_endings": 10,
    },
    "tests/calls/test_bodies_of_bedrock.py": {
        "test_a_body_that_was_read_to_its_last_byte_is_whole": 6,
        "test_a_response_that_was_read_to_its_last_byte_is_whole": 6,
        "test_reads_of_the_stream_inside": 14,
    },
    "tests/calls/test_caches.py": {
        "test_answer_of_client_cache_is_charged_once": 5,
        "test_cost_is_zero_if_gateway_reports_a_hit": 6,
        "test_different_answer_with_same_id_is_charged": 5,
        "test_prompt_cache_miss_of_messages": 6,
        "test_prompt_cache_miss_of_responses": 6,
    },
    "tests/calls/test_calls.py": {
        "test_call_uses_span_of_another_instrumentation": 9,
        "test_every_entry_point_records_one_complete_call": 10,
        "test_late_import_is_patched_once": 1,
    },
    "tests/calls/test_clients.py": {
        "test_any_http_client_records_attempts": 9,
        "test_platform_calls_use_platform_framing": 9,
        "test_sdk_calls_record_one_span_and_one_record": 9,
    },
    "tests/calls/test_endings.py": {
        "test_deadline_is_distinguished_from_cancellation": 8,
        "test_ending_records_what_was_received_once": 9,
        "test_stream_without_last_event_is_cut_off": 5,
    },
    "tests/calls/test_every_way.py": {
        "test_every_way_records_one_call": 0,
    },
    "tests/calls/test_foreign_objects.py": {
        "test_object_dies_as_early_as_without_callspan": 36,
    },
    "tests/calls/test_fork_locks.py": {
        "test_fork_waits_for_no_lock": 2,
    },
    "tests/calls/test_forks.py": {
        "test_container_init_process_continues_its_streams": 1,
        "test_half_read_stream_is_cancelled_at_exit": 1,
        "test_killed_process_leaves_interrupted_call": 1,
        "test_open_stream_is_cancelled_and_has_its_span": 1,
        "test_stream_that_is_read_to_its_end_at_exit_succeeds": 0,
    },
    "tests/calls/test_google.py": {
        "test_import_after_instrumenting_has_every_hook": 0,
        "test_object_of_something_else_names_no_call": 22,
    },
    "tests/calls/test_google_interactions.py": {
        "test_error_in_a_stream_is_that_of_the_call": 2,
        "test_fetch_completes_an_interaction_in_the_background": 3,
        "test_interaction_is_one_call": 4,
        "test_interaction_that_is_left_early": 2,
    },
    "tests/calls/test_hooks_raise.py": {
        "test_failing_opentelemetry_never_breaks_a_call": 6,
        "test_failing_part_never_breaks_a_call": 8,
        "test_missing_hooked_name_leaves_calls_unchanged": 2,
        "test_missing_hooked_name_of_a_library_costs_telemetry_only": 3,
        "test_raising_function_never_breaks_a_call": ("http_stream", "google_stream", "converse_stream"),
    },
    "tests/calls/test_http.py": {
        "test_a_choice_is_never_widened": 6,
        "test_raw_bytes_that_were_read_to_the_last_are_whole": 12,
        "test_request_is_one_span_and_one_record": 14,
        "test_stream_endings": 10,
        "test_stream_is_one_span_and_one_record": 24,
        "test_stream_read_before_it_is_returned": 8,
    },
    "tests/calls/test_imports.py": {
        "test_package_that_is_imported_anew_is_recorded": ("requests",),
    },
    "tests/calls/test_instrumenting.py": {
        "test_invalid_opentelemetry_variable_is_ignored": 1,
    },
    "tests/calls/test_interrupts.py": {
        "test_interrupt_inside_callspan_keeps_the_call": ("http_stream", "google_async", "converse_left"),
        "test_interrupted_redactor_loses_only_content": 5,
    },
    "tests/calls/test_invalid_wires.py": {
        "test_damaged_encoding_is_recorded_as_received": 8,
        "test_invalid_body_records_one_call": 16,
        "test_invalid_stream_is_recorded_as_received": 14,
        "test_json_instead_of_a_stream_is_recorded_as_received": 10,
    },
    "tests/calls/test_later_answers.py": {
        "test_batch_line_is_one_call_however_read": 7,
        "test_ended_response_records_outcome_in_any_process": 6,
    },
    "tests/calls/test_metrics.py": {
        "test_retries_limits_and_errors_have_bounded_attributes": 4,
    },
    "tests/calls/test_other_code.py": {
        "test_covered_hook_records_once": 6,
        "test_stream_requested_in_extra_body_is_unchanged": 7,
        "test_transport_errors_reach_the_caller": 14,
        "test_wrapped_request_records_one_call": 10,
    },
    "tests/calls/test_other_endpoints.py": {
        "test_known_input_is_not_flagged": 8,
        "test_null_and_bare_detail_are_errors": 8,
        "test_partial_stream_has_the_body_of_a_plain_call": 6,
        "test_transcript_of_any_format_is_text": 7,
        "test_unknown_input_warns_once": 8,
    },
    "tests/calls/test_other_requests.py": {
        "test_doctor_sums_counts_of_several_processes": 0,
    },
    "tests/calls/test_possible_calls.py": {
        "test_answer_without_json_is_said_alike_by_every_reader": 0,
        "test_process_that_ends_while_the_answer_is_awaited": 1,
    },
    "tests/calls/test_realtime.py": {
        "test_end_is_recorded_once": 8,
    },
    "tests/calls/test_requests_and_aiohttp.py": {
        "test_body_without_a_length_is_read_to_its_end": 8,
    },
    "tests/calls/test_settings.py": {
        "test_arguments_precede_variables_and_defaults": 20,
        "test_invalid_variables_are_ignored": 18,
    },
    "tests/calls/test_socket_scripts.py": {
        "test_voice_script_records_each_generation_once": 5,
        "test_websocket_script_records_each_response_once": 6,
    },
    "tests/calls/test_streams.py": {
        "test_error_outside_event_data_fails_the_call": 7,
        "test_stream_helper_records_its_end": 11,
        "test_unparsable_answer_fails_the_call": 10,
    },
    "tests/calls/test_tools.py": {
        "test_event_alone_ends_a_hosted_tool": 6,
        "test_failed_loop_records_error_and_tool_runs": 5,
        "test_hosted_tool_without_result_did_not_run": 7,
        "test_paused_tool_runs_in_the_request_that_resumes_the_thread": 6,
        "test_provider_tools_have_spans_and_rows": 6,
        "test_tool_has_arguments_and_result": 6,
        "test_unfinished_server_tool_did_not_run": 8,
        "test_unlisted_server_tools_are_marked": 8,
    },
    "tests/cli/test_doctor.py": {
        "test_doctor_keeps_file_mode_and_reports_other_readers": 3,
    },
    "tests/cli/test_lists.py": {
        "test_lists_and_sums_explain_missing_cost": 4,
    },
    "tests/cli/test_run.py": {
        "test_demo_asks_the_last_agent_by_voice_if_possible": 1,
        "test_run_ends_with_agents_that_report_elsewhere": 0,
        "test_run_ends_with_what_was_imported_and_not_seen": 0,
        "test_run_finds_commands_on_the_path_or_in_the_directory": 0,
        "test_run_first_prints_the_store": 1,
        "test_run_honours_disabled_instrumentations": 0,
        "test_run_names_installed_packages_whose_calls_are_not_seen": 0,
        "test_run_names_the_store_that_the_application_chose": 1,
        "test_run_passes_arguments_output_and_exit_code": 1,
        "test_run_reports_the_number_of_recorded_calls": 0,
        "test_run_resolves_modules_as_python_does": 0,
        "test_run_says_nothing_of_the_store_that_it_has_chosen_too": 0,
    },
    "tests/cli/test_run_agent.py": {
        "test_a_store_in_the_repository_is_named_with_a_line_for_gitignore": 0,
        "test_it_ends_by_the_same_signal": 1,
    },
    "tests/cli/test_usage.py": {
        "test_closed_output_pipe_ends_the_command_silently": ("calls --limit 3000",),
        "test_closed_standard_stream_is_none": 2,
        "test_cut_and_cancelled_calls_are_marked": 1,
        "test_lines_fit_the_terminal": 1,
        "test_progress_shows_a_bar": 1,
    },
    "tests/cost/test_decimal_context.py": {
        "test_costs_and_comparisons_are_the_same_in_any_decimal_context": 0,
    },
    "tests/datasets/test_fine_tuning.py": {
        "test_recorded_call_is_a_row_or_has_a_reason": 0,
    },
    "tests/docs/test_examples.py": {
        "test_agent_reaches_its_goal": 0,
        "test_application_is_instrumented_by_its_environment_file": 0,
        "test_conversation_of_three_requests_is_one_session": 0,
        "test_example_alone": 1,
        "test_example_of_a_framework": 0,
        "test_example_of_the_claude_agent_sdk": 0,
        "test_examples_of_a_page_in_order": 3,
        "test_jaeger_example_sends_the_described_trace": 0,
        "test_nightly_step_that_skips_everything_fails": 1,
        "test_other_sdk_is_recorded": 1,
        "test_own_exporter_gets_what_the_redactor_leaves": 0,
        "test_rollouts_have_rewards_and_token_ids": 0,
    },
    "tests/docs/test_public.py": {
        "test_public_name_has_a_working_example": 8,
        "test_public_names_are_those_of_the_file": 0,
    },
    "tests/otel/test_agent_spans.py": {
        "test_child_forgets_the_agents_of_its_parent": 1,
        "test_killed_agent_is_interrupted": 0,
        "test_killed_turn_of_a_conversation_is_interrupted": 1,
        "test_provider_may_be_set_later": 0,
        "test_without_a_provider_calls_are_recorded": 1,
    },
    "tests/otel/test_alerts.py": {
        "test_dashboard_has_the_shape_that_grafana_states": 0,
        "test_rules_fire_and_are_silent": 0,
    },
    "tests/otel/test_auto_instrumentation.py": {
        "test_disabling_switches_are_honoured": 0,
        "test_exporter_that_nobody_makes_is_said_once": 0,
        "test_forked_workers_send_their_spans_and_keep_their_records": 0,
        "test_id_generator_of_auto_instrumentation_leaves_random_numbers": 0,
        "test_no_record_is_lost_on_any_process_end": 1,
        "test_plain_script_sends_one_span_and_one_record_per_call": 1,
        "test_workers_that_import_callspan_send_their_spans": 1,
    },
    "tests/otel/test_configuration_file.py": {
        "test_file_sends_spans_and_writes_records": 1,
    },
    "tests/otel/test_conventions.py": {
        "test_calls_by_every_entry_point_follow_the_conventions": 0,
        "test_calls_of_other_clients_follow_the_conventions": 0,
        "test_signals_of_the_demo_follow_the_conventions": 0,
    },
    "tests/otel/test_left_as_found.py": {
        "test_global_provider_set_later_tells_of_its_first_agent": 1,
    },
    "tests/otel/test_record_exporter.py": {
        "test_only_sql_of_the_application_has_spans": 0,
    },
    "tests/otel/test_signals.py": {
        "test_batches_fit_the_receiver": 1,
        "test_child_processes_share_only_the_service_name": 0,
        "test_instance_id_is_per_process": 0,
        "test_missing_exporter_names_the_extra_once": 1,
        "test_otlp_sends_all_three_signals": 1,
        "test_seeded_application_draws_the_same_numbers": 0,
    },
    "tests/privacy/test_canaries.py": {
        "test_canaries_respect_content_levels": 1,
    },
    "tests/privacy/test_hostile_text.py": {
        "test_control_characters_never_reach_the_terminal": 4,
    },
    "tests/privacy/test_keys_in_exceptions.py": {
        "test_key_in_an_exception_is_nowhere": 3,
    },
    "tests/privacy/test_processors.py": {
        "test_exiting_redactor_drops_content_and_only_interrupts_propagate": 2,
        "test_media_become_references": 4,
    },
    "tests/privacy/test_secrets.py": {
        "test_secret_across_a_cut_is_removed_completely": 10,
        "test_secret_search_time_is_linear": 7,
    },
    "tests/receive/test_bounds.py": {
        "test_absurd_body_in_a_file_costs_itself": 1,
        "test_command_ends_at_once_beside_open_requests": 1,
        "test_json_of_too_many_values_is_not_decoded": 1,
    },
    "tests/receive/test_restarts.py": {
        "test_what_waits_is_remembered_however_much_comes_after_it": 0,
    },
    "tests/receive/test_run_foreign_data.py": {
        "test_value_without_meaning_costs_itself": 1,
    },
    "tests/receive/test_waiting.py": {
        "test_killed_receiver_loses_nothing_that_it_acknowledged": 1,
        "test_the_next_receiver_goes_on_with_the_call": 1,
    },
    "tests/sessions/test_content_levels.py": {
        "test_later_records_keep_the_level": 16,
    },
    "tests/sessions/test_contexts.py": {
        "test_abandoned_async_generator_is_closed_once": 1,
        "test_killed_turn_of_a_session_is_interrupted_until_a_later_one_ends": 1,
        "test_left_block_is_freed_without_garbage_collection": 1,
        "test_session_ends_with_its_last_end": 1,
        "test_two_processes_add_steps": 0,
        "test_unfinished_iterator_ends_its_block": 1,
        "test_unstarted_iterator_ends_its_block_when_collected": 2,
    },
    "tests/sessions/test_large_values.py": {
        "test_large_value_is_cheap_and_notes_omissions": 3,
    },
    "tests/sessions/test_misuse.py": {
        "test_any_value_is_recorded_without_harm": 16,
        "test_misuse_is_logged_once_and_does_nothing": 14,
        "test_misuse_raises_if_requested": 12,
    },
    "tests/sessions/test_references.py": {
        "test_call_references_are_accepted_everywhere": 6,
        "test_invalid_name_becomes_none": 17,
    },
    "tests/sessions/test_tree.py": {
        "test_time_is_linear": 0,
    },
    "tests/spans/test_spans_of_records.py": {
        "test_session_spans_are_rebuilt_from_stored_records": 1,
    },
    "tests/spool/test_any_sequence.py": {
        "test_attack_loses_nothing_else": 7,
    },
    "tests/spool/test_delivery.py": {
        "test_leftovers_beside_a_foreign_segment_are_delivered": 2,
        "test_outage_is_logged_once_without_passwords": 1,
        "test_short_processes_lose_nothing": 0,
        "test_tail_prints_calls_until_interrupted": 1,
    },
    "tests/spool/test_places.py": {
        "test_records_in_a_temporary_directory_are_found": 1,
    },
    "tests/spool/test_processes.py": {
        "test_healthy_store_receives_everything": 2,
    },
    "tests/spool/test_spool.py": {
        "test_forked_child_holds_no_lock": 1,
        "test_losses_of_a_hanging_store_are_reported": 2,
    },
    "tests/stores/test_merging.py": {
        "test_strictest_content_level_applies_to_all_versions": 3,
    },
    "tests/stores/test_prompt_cache.py": {
        "test_causes_places_and_lost_tokens_of_generated_histories": 6,
    },
    "tests/stores/test_published_sql.py": {
        "test_tables_of_scores_equal_their_definition": 1,
    },
    "tests/stores/test_removal.py": {
        "test_id_finds_and_erases_its_records": 4,
        "test_rejected_records_are_erased": 4,
    },
    "tests/stores/test_sending.py": {
        "test_environment_settings_control_span_content": 3,
    },
    "tests/stores/test_sums.py": {
        "test_groups_and_differences_match_an_independent_computation": 1,
        "test_mean_intervals_equal_scipy": 0,
    },
    "tests/tables/test_socket_kinds.py": {
        "test_any_event_is_accepted": 1,
    },
    "tests/view/test_layout.py": {
        "test_commands_of_an_empty_page_fit_on_a_phone": 0,
        "test_heads_have_known_facts_only": 0,
        "test_key_line_has_whole_words": 1,
        "test_names_of_parameters_break_between_words": 0,
        "test_numbers_of_an_axis_are_within_its_strip": 0,
        "test_unknown_values_of_a_row_take_no_room_on_a_phone": 0,
    },
    "tests/view/test_long.py": {
        "test_key_jumps_to_a_notable_step": 1,
        "test_short_session_is_unfolded": 0,
    },
    "tests/view/test_own_words.py": {
        "test_code_and_tables_of_markdown_are_drawn": 0,
        "test_comparisons_are_accessible": 1,
        "test_differences_say_what_is_known_of_them": 0,
        "test_image_or_its_setting_is_displayed": 1,
        "test_large_rewards_have_all_their_digits": 1,
        "test_tokens_have_their_probabilities_where_recorded": 0,
        "test_tool_result_appears_once": 0,
        "test_user_is_one_fact_of_a_call": 0,
    },
    "tests/view/test_received.py": {
        "test_reminders_are_folded": 0,
        "test_tools_and_cost_are_of_the_session": 0,
    },
    "tests/view/test_report.py": {
        "test_report_escapes_markup_and_control_characters": 5,
    },
    "tests/view/test_selection.py": {
        "test_box_of_a_row_hides_no_time": 1,
        "test_export_command_selects_what_the_line_does": 9,
    },
    "tests/view/test_start.py": {
        "test_conversation_marks_an_interrupted_call": 0,
        "test_last_hour_without_failures_counts_none": 0,
        "test_lists_of_a_store_with_very_many_sessions_begin_with_its_last_week": 0,
        "test_missing_answer_is_a_mark": 3,
        "test_vectors_are_an_answer": 0,
    },
    "tests/wire/test_addresses.py": {
        "test_answer_of_another_program_withdraws_the_call": 26,
    },
    "tests/wire/test_every_wire_shown.py": {
        "test_command_and_page_show_all_words": 6,
        "test_datasets_have_all_that_a_chat_can": 8,
        "test_messages_have_the_same_parts": 12,
        "test_recorded_answer_is_served_again": 6,
        "test_two_answers_are_a_pair": 3,
    },
    "tests/wire/test_look_alikes.py": {
        "test_application_is_no_call": 20,
        "test_compatible_server_is_a_call": 14,
    },
    "tests/wire/test_replay.py": {
        "test_every_sdk_entry_point_records_alike": 1,
        "test_plain_calls_match_the_wire_data": 1,
        "test_split_streams_match_the_wire_data": 2,
        "test_stream_helpers_record_alike": 1,
    },
    "tests/wire/test_scripted_clients.py": {
        "test_request_is_sent_again_by_the_command": 4,
        "test_request_to_bedrock_is_sent_again_by_the_command": 2,
    },
    "tests/wire/test_scripted_provider.py": {
        "test_replay_sends_the_same_request_and_prints_both_answers": 3,
        "test_replayed_stream_contains_the_recorded_answer": 2,
    },
    "tests/wire/test_streams_differential.py": {
        "test_generated_streams_match_the_sdk_where_indexes_are_unique": 2,
    },
}
"""What of a test `make test` runs, by file and test: so many of its cases, always the same ones, chosen evenly by their
ids; or the named cases, where others take longer. 0: the whole test is for the night."""
