"""The names of the peers' tests, by file, and why some of them have no counterpart here."""

from typing import NamedTuple


class Peer(NamedTuple):
    """
    A library whose tests were gone through.

    *theirs*: the names of its tests, by file. *excepted*: those without a counterpart, with the
    reason. *modules*: where the counterparts are. *unlisted*: files that were left out as a whole.
    """

    name: str
    theirs: dict[str, str]
    excepted: dict[str, str]
    modules: tuple[str, ...]
    unlisted: dict[str, str] = {}  # noqa: RUF012  (nobody changes it)

    @property
    def names(self) -> list[str]:
        """The names of all listed tests."""
        return [name for names in self.theirs.values() for name in names.split()]


_COOKIE = "The data is in Redis, and the cookie has only the id."
_MEMORY = "There is no store in memory: asgi_redis_session.testing starts a Redis."
_ENCRYPTION = "Values are not encrypted."
_INTERNAL = "An object of their implementation, which an app has no use for here."

_STAR_THEIRS = {
    "backends/test_cookie.py": """
        test_cookie_read_write test_cookie_read_data_of_session_only_cookie test_cookie_remove
        test_returns_empty_string_for_bad_signature test_cookie_max_size_enforced
        test_cookie_max_size_not_exceeded""",
    "backends/test_memory.py": """
        test_in_memory_read_write test_in_memory_expires test_in_memory_ttl_unit_is_seconds
        test_in_memory_remove""",
    "backends/test_redis.py": """
        test_redis_prefix test_redis_read_write test_redis_write_with_session_only_setup
        test_redis_remove test_redis_empty_session test_redis_requires_url_or_connection
        test_redis_uses_url""",
    "test_autoloading.py": """
        test_always_loads_session test_loads_for_string_paths test_loads_for_regex_paths""",
    "test_encryptors.py": """
        test_noop_round_trip test_fernet_round_trip test_fernet_produces_unique_ciphertexts
        test_aesgcm_round_trip test_aesgcm_nonce_is_random
        test_aesgcm_empty_decrypt_returns_empty test_aesgcm_wrong_key_raises""",
    "test_expiring_session.py": "test_expiring_session_must_not_extend_duration",
    "test_metadata.py": """
        test_requires_loaded_session test_load_should_create_new_metadata
        test_load_should_not_overwrite_created_timestamp
        test_should_update_last_access_time_on_load""",
    "test_middleware.py": """
        test_loads_empty_session test_handles_not_existing_session test_loads_existing_session
        test_send_cookie_if_session_created test_send_cookie_if_session_updated
        test_send_cookie_if_session_destroyed
        test_send_cookie_with_domain_if_session_destroyed_and_domain_set
        test_will_clear_storage_if_session_destroyed
        test_will_not_send_cookie_if_initially_empty_session_destroyed
        test_max_age_argument_set_in_cookie test_same_site_argument_set_in_cookie
        test_path_argument_set_in_cookie test_domain_argument_set_in_cookie test_set_secure_cookie
        test_session_only_cookies test_session_timedelta_lifetime
        test_no_cookie_clear_outside_cookie_path test_invalid_cookie_name_raises
        test_unsafe_session_id_is_ignored test_store_error_propagates
        test_tampered_ciphertext_yields_empty_session test_encryptor_round_trip_via_middleware""",
    "test_rolling_session.py": "test_rolling_session_must_extend_duration",
    "test_serializers.py": "test_json_serializer",
    "test_session.py": """
        test_generate_session_id test_regenerate_session_id test_get_session_id
        test_get_session_handler test_load_session test_regenerate_id_removes_old_session_on_save
        test_destroy_without_session_id""",
}

_STAR_EXCEPTED = {
    "test_cookie_read_write": _COOKIE,
    "test_cookie_read_data_of_session_only_cookie": _COOKIE,
    "test_cookie_remove": _COOKIE,
    "test_returns_empty_string_for_bad_signature": _COOKIE,
    "test_cookie_max_size_enforced": _COOKIE,
    "test_cookie_max_size_not_exceeded": _COOKIE,
    "test_in_memory_read_write": _MEMORY,
    "test_in_memory_expires": _MEMORY,
    "test_in_memory_ttl_unit_is_seconds": _MEMORY,
    "test_in_memory_remove": _MEMORY,
    "test_noop_round_trip": _ENCRYPTION,
    "test_fernet_round_trip": _ENCRYPTION,
    "test_fernet_produces_unique_ciphertexts": _ENCRYPTION,
    "test_aesgcm_round_trip": _ENCRYPTION,
    "test_aesgcm_nonce_is_random": _ENCRYPTION,
    "test_aesgcm_empty_decrypt_returns_empty": _ENCRYPTION,
    "test_aesgcm_wrong_key_raises": _ENCRYPTION,
    "test_tampered_ciphertext_yields_empty_session": _ENCRYPTION,
    "test_encryptor_round_trip_via_middleware": _ENCRYPTION,
    "test_json_serializer": "Serializers can't be chosen: each field is stored as JSON.",
    "test_get_session_id": "An app never sees the id, only the handle, which is safe to show.",
    "test_get_session_handler": _INTERNAL,
    "test_no_cookie_clear_outside_cookie_path": (
        "The deletion is sent. A browser sends the cookie only under its path, so no such request "
        "comes from one."
    ),
    "test_session_only_cookies": (
        "lifetime=0 is said in another way: see test_redis_write_with_session_only_setup."
    ),
}


_CACHE = "Of their response cache; there is none here."
_FIELDS = "Of commands on the TTL of a field (HSETEX, HEXPIRE), which are not used here."
_RETURNED_ID = "A new id is shown to nobody but the browser: renew() returns nothing."
_PRIVATE = "Replaces or inspects a private method of their store."
_CLUSTER = "redis-py's client of a Cluster is not used; tests/cluster has the like."
_TELEMETRY = "There is no OpenTelemetry here; events carry no id (tests/cookie/test_secrecy.py)."
_STATUS_4XX = "A 4xx saves, as in Starlette; who logged in has a new id then, as always."

#: Files of theirs that are not listed, because they call parts of their implementation.
_SDK_UNLISTED = {
    "unit/test_otel_sessions.py": _TELEMETRY,
    "unit/test_session.py": "Of the class of their dict.",
    "unit/test_session_backend.py": "Of the commands of their store.",
    "unit/test_session_events.py": "Of expiry events, which need Redis 8.8; there are none here.",
    "unit/test_session_index.py": "Of the commands of their index.",
    "unit/test_session_outcome.py": "Of a private function.",
    "unit/test_session_setup.py": "Of how their middleware is configured.",
    "unit/test_valid_session.py": "What an app sees is in test_valid_session_integration.py.",
}

_SDK_THEIRS = {
    "integration/test_session_middleware_integration.py": """
        test_with_no_cookie_nothing_is_written test_after_idle_expiry_nothing_is_written
        test_the_new_id_is_not_indexed_under_the_old_subject""",
    "integration/test_session_integration.py": """
        test_capability_probe_answers_definitively test_the_probe_matches_the_server
        test_both_command_tiers_write_the_same_fields test_both_index_tiers_expire_the_entry
        test_round_trip test_redis_enforces_the_idle_clock
        test_redis_enforces_the_absolute_clock_despite_activity
        test_the_index_prunes_itself_with_no_help_from_us
        test_rotation_deletes_the_old_key_before_writing_the_new_one
        test_writing_the_payload_leaves_the_deadline_alone test_revoke_all_ends_every_session
        test_a_field_expiry_reaches_a_handler""",
    "integration/test_session_cookie_expiry.py": """
        test_a_reading_user_stays_signed_in test_control_a_writing_user_stays_signed_in
        test_an_idle_user_is_signed_out_although_the_cookie_lives
        test_overrides_of_zero_give_a_browser_session_cookie
        test_overrides_give_a_max_age_when_the_settings_disable_both_clocks""",
    "integration/test_session_cache_invariants.py": """
        test_each_user_gets_their_own_body test_each_user_still_gets_a_cache_hit
        test_n18_the_directive_is_no_more_permissive_than_our_key
        test_n18_holds_on_the_hit_path_too test_f10_vary_is_emitted
        test_one_shared_entry_serves_everyone
        test_n18_public_is_exactly_as_permissive_as_our_own_entry test_f10_vary_is_suppressed
        test_n10_revised_this_row_is_deliberately_out_of_scope
        test_one_shared_entry_serves_every_valid_session test_the_miss_and_the_hit_are_private
        test_a_caller_without_a_session_never_reaches_the_entry test_shared_and_public_as_before
        test_no_vary_and_no_private test_declaring_nothing_is_the_same_declaration_as_row_four
        test_no_cross_user_leak test_nothing_is_stored test_the_entry_never_reaches_redis
        test_n18_the_directive_matches_our_refusal_to_store test_f10_vary_is_kept
        test_it_warns_once_naming_the_route
        test_a_parametrized_route_warns_once_under_its_template
        test_the_middleware_emits_private_itself test_only_one_cache_control_header_is_emitted
        test_vary_is_merged_not_duplicated""",
    "integration/test_valid_session_integration.py": """
        test_a_live_session_passes test_no_cookie_is_missing
        test_the_server_s_idle_expiry_reads_as_expired
        test_the_server_s_countdown_makes_a_session_stale
        test_the_right_order_keeps_one_shared_entry_behind_private
        test_the_wrong_order_never_reaches_redis""",
    "unit/test_session_middleware.py": """
        test_no_cookie_and_no_access_writes_nothing test_reading_an_empty_session_sets_no_cookie
        test_vary_is_emitted_when_the_session_was_accessed test_vary_is_absent_when_it_was_not
        test_a_write_sets_a_cookie_and_survives_the_next_request
        test_the_cookie_carries_no_session_data test_cookie_attributes_follow_the_settings
        test_signing_in_rotates_with_no_call_from_the_handler
        test_the_old_key_is_gone_after_a_rotation test_a_privilege_change_rotates_too
        test_an_ordinary_write_does_not_rotate test_a_failed_sign_in_persists_nothing
        test_a_malformed_cookie_yields_a_new_session
        test_an_injection_attempt_never_reaches_a_header
        test_a_skipped_request_costs_no_redis_call test_logout_emits_a_clearing_cookie
        test_the_clearing_cookie_repeats_the_scoping_attributes
        test_the_session_is_gone_afterwards test_revoking_an_untouched_session_is_safe
        test_no_max_age_is_emitted test_secure_and_domain_are_emitted_when_configured
        test_the_returned_id_is_the_one_in_the_cookie test_the_returned_id_names_a_live_session
        test_the_session_survives_an_explicit_rotation test_an_anonymous_read_writes_nothing
        test_a_crawler_hitting_it_a_hundred_times_leaves_no_keys
        test_a_real_sign_in_still_writes test_a_nested_mutation_still_persists""",
    "unit/test_session_regressions.py": """
        test_a_save_after_the_deadline_lapsed_does_not_restore_it
        test_such_a_session_is_dead_on_the_next_load
        test_save_has_no_argument_that_could_write_the_deadline
        test_unknown_liveness_reports_everything_and_prunes_nothing
        test_the_sessions_stay_revocable test_clearing_the_session_signs_the_user_out
        test_clearing_removes_the_key_and_the_index_entry test_revoke_removes_the_index_entry
        test_the_clearing_cookie_goes_through_the_builder test_login_then_rotate_rotates_once
        test_the_returned_id_is_the_live_one test_created_is_not_restamped
        test_lifetime_records_the_deadline_actually_in_force test_the_seam_populates_a_listing
        test_it_never_reaches_the_payload test_it_counts_keys_removed_not_index_entries
        test_it_is_two_round_trips_whatever_the_count test_an_uncountable_index_raises
        test_an_unreadable_index_at_the_limit_raises test_an_unverifiable_count_at_the_limit_raises
        test_the_boundary_covers_the_cluster_hierarchy test_a_slot_error_fails_the_read_open
        test_a_slot_error_on_a_write_raises_session_store_error test_the_store_satisfies_it
        test_it_is_exported test_a_dangerous_cookie_name_is_refused
        test_a_dangerous_cookie_path_is_refused test_a_dangerous_cookie_domain_is_refused
        test_ordinary_values_are_accepted test_a_supplied_encryptor_wraps_the_payload
        test_a_record_that_will_not_decrypt_is_unreadable_not_empty
        test_max_age_takes_the_nearer_deadline
        test_an_unchanged_principal_still_writes_on_a_4xx
        test_a_changed_principal_writes_nothing_on_a_4xx test_a_privilege_change_rotates
        test_a_de_escalation_rotates_too test_an_unchanged_role_does_not_rotate
        test_the_middleware_advances_the_idle_clock
        test_an_untouched_request_does_not_advance_it
        test_no_session_id_or_subject_reaches_a_metric_label
        test_the_store_never_passes_an_id_to_a_span""",
    "unit/test_session_failures.py": """
        test_a_failed_load_yields_no_session test_a_failed_load_logs_a_warning
        test_a_failed_listing_returns_empty test_a_failed_count_raises_rather_than_answering_zero
        test_a_failed_load_raises test_the_setting_is_read_per_call_not_per_store test_save_raises
        test_touch_raises test_delete_raises test_indexing_raises test_revoke_all_raises
        test_revoke_id_raises_rather_than_reporting_success
        test_a_write_still_raises_under_fail_open test_a_failed_cleanup_delete_is_swallowed
        test_a_failed_liveness_check_answers_unknown_not_empty
        test_a_field_with_no_expiry_is_treated_as_absent
        test_a_corrupt_record_raises_rather_than_signing_the_user_out
        test_an_oserror_is_handled_like_a_redis_error test_revoke_surfaces_the_failure
        test_rotate_surfaces_the_failure""",
}

_SDK_EXCEPTED = {
    "test_capability_probe_answers_definitively": _FIELDS,
    "test_the_probe_matches_the_server": _FIELDS,
    "test_both_command_tiers_write_the_same_fields": _FIELDS,
    "test_both_index_tiers_expire_the_entry": _FIELDS,
    "test_a_field_expiry_reaches_a_handler": "There are no events of an expiry.",
    "test_each_user_gets_their_own_body": _CACHE,
    "test_each_user_still_gets_a_cache_hit": _CACHE,
    "test_n18_the_directive_is_no_more_permissive_than_our_key": _CACHE,
    "test_n18_holds_on_the_hit_path_too": _CACHE,
    "test_f10_vary_is_emitted": _CACHE,
    "test_one_shared_entry_serves_everyone": _CACHE,
    "test_n18_public_is_exactly_as_permissive_as_our_own_entry": _CACHE,
    "test_f10_vary_is_suppressed": _CACHE,
    "test_n10_revised_this_row_is_deliberately_out_of_scope": _CACHE,
    "test_one_shared_entry_serves_every_valid_session": _CACHE,
    "test_the_miss_and_the_hit_are_private": _CACHE,
    "test_a_caller_without_a_session_never_reaches_the_entry": _CACHE,
    "test_shared_and_public_as_before": _CACHE,
    "test_declaring_nothing_is_the_same_declaration_as_row_four": _CACHE,
    "test_no_cross_user_leak": _CACHE,
    "test_nothing_is_stored": _CACHE,
    "test_the_entry_never_reaches_redis": _CACHE,
    "test_n18_the_directive_matches_our_refusal_to_store": _CACHE,
    "test_f10_vary_is_kept": _CACHE,
    "test_it_warns_once_naming_the_route": _CACHE,
    "test_a_parametrized_route_warns_once_under_its_template": _CACHE,
    "test_the_middleware_emits_private_itself": (
        "Vary is sent, and Cache-Control is the app's, but for a response that sets the cookie."
    ),
    "test_the_right_order_keeps_one_shared_entry_behind_private": _CACHE,
    "test_the_wrong_order_never_reaches_redis": _CACHE,
    "test_a_failed_sign_in_persists_nothing": _STATUS_4XX,
    "test_the_returned_id_is_the_one_in_the_cookie": _RETURNED_ID,
    "test_the_returned_id_names_a_live_session": _RETURNED_ID,
    "test_save_has_no_argument_that_could_write_the_deadline": _PRIVATE,
    "test_unknown_liveness_reports_everything_and_prunes_nothing": _PRIVATE,
    "test_the_sessions_stay_revocable": _PRIVATE,
    "test_the_returned_id_is_the_live_one": _RETURNED_ID,
    "test_lifetime_records_the_deadline_actually_in_force": _PRIVATE,
    "test_it_is_two_round_trips_whatever_the_count": _PRIVATE,
    "test_an_unreadable_index_at_the_limit_raises": _PRIVATE,
    "test_an_unverifiable_count_at_the_limit_raises": _PRIVATE,
    "test_the_boundary_covers_the_cluster_hierarchy": _CLUSTER,
    "test_a_slot_error_fails_the_read_open": _CLUSTER,
    "test_a_slot_error_on_a_write_raises_session_store_error": _CLUSTER,
    "test_the_store_satisfies_it": "There is one kind of store, and no protocol of stores.",
    "test_it_is_exported": "There is one kind of store, and no protocol of stores.",
    "test_a_supplied_encryptor_wraps_the_payload": _ENCRYPTION,
    "test_a_record_that_will_not_decrypt_is_unreadable_not_empty": _ENCRYPTION,
    "test_max_age_takes_the_nearer_deadline": (
        "Max-Age is the time to the deadline, as their test_session_cookie_expiry.py asks."
    ),
    "test_a_changed_principal_writes_nothing_on_a_4xx": _STATUS_4XX,
    "test_no_session_id_or_subject_reaches_a_metric_label": _TELEMETRY,
    "test_the_store_never_passes_an_id_to_a_span": _TELEMETRY,
    "test_a_failed_listing_returns_empty": "It raises: an empty list would say that there is none.",
    "test_the_setting_is_read_per_call_not_per_store": "unavailable= is an argument.",
    "test_a_failed_cleanup_delete_is_swallowed": _PRIVATE,
    "test_a_failed_liveness_check_answers_unknown_not_empty": _PRIVATE,
    "test_a_field_with_no_expiry_is_treated_as_absent": _FIELDS,
    "test_a_corrupt_record_raises_rather_than_signing_the_user_out": (
        "The request is anonymous, and what Redis holds is left as it is, and reported."
    ),
}


PEERS = [
    Peer("starsessions 2.3", _STAR_THEIRS, _STAR_EXCEPTED, ("test_starsessions",)),
    Peer(
        "fastapi-redis-sdk 0.9",
        _SDK_THEIRS,
        _SDK_EXCEPTED,
        ("test_sdk_integration", "test_sdk_middleware", "test_sdk_failures"),
        _SDK_UNLISTED,
    ),
]
