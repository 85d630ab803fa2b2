//! The suite that every store passes.
//!
//! A store is put under test by a [`StoreUnderTest`], and [`conformance_tests!`](crate::conformance_tests) makes one
//! `#[test]` of each function in here:
//!
//! ```
//! use limiter_conformance::suite::StoreUnderTest;
//! use limiter_core::{LedgerBounds, ManualClock};
//! use limiter_memory::MemoryStore;
//!
//! struct Memory;
//!
//! impl StoreUnderTest for Memory {
//!     type Store = MemoryStore;
//!
//!     async fn with_bounds(&self, clock: ManualClock, bounds: LedgerBounds) -> MemoryStore {
//!         MemoryStore::builder().clock(clock).ledger_bounds(bounds).build()
//!     }
//! }
//!
//! limiter_conformance::conformance_tests!(Memory);
//! # fn main() {}
//! ```
//!
//! Where all of them must share what is slow to set up, such as a cluster, [`conformance_parts!`](crate::conformance_parts)
//! lists them for [`run_all`], in one `#[test]`.
//!
//! Two variables of the environment say how much is tried: `LIMITER_TEST_CASES`, how many random histories (2,000 if
//! it is not set; some tests take a share of it), and `LIMITER_TEST_DEPTH`, how long the enumerated ones are (4). With
//! `cargo test --release`, fifty times as many and a depth of 5 take two minutes for a store in memory.

pub mod access_keys;
pub mod admins;
pub mod bounds;
pub mod changing_thresholds;
pub mod clock_steps;
pub mod creating_many;
pub mod deletion;
pub mod extending;
pub mod extremes;
pub mod histories;
pub mod identities;
pub mod key_races;
pub mod many_keys;
pub mod names;
pub mod peeking;
mod property;
pub mod races;
pub mod recording;
pub mod repeating;
pub mod reservation_races;
mod reserved_calls;
pub mod reserved_histories;
pub mod retrying;
pub mod rights;
pub mod schedule;
pub mod searching;
pub mod secrecy;
pub mod settling;
pub mod shadow;
pub mod small_world;
pub mod telling_once;
pub mod thresholds;
mod together;
mod told;
pub mod versions;
pub mod workspaces;
mod world;

use limiter_core::{LedgerBounds, ManualClock, Store};

pub use self::together::{Part, run_all};

/// Where the stores come from that a test needs.
pub trait StoreUnderTest: Send + Sync + 'static {
    /// The store.
    type Store: Store;

    /// How much slower than a store in memory it is: so many times fewer random histories are tried. The enumerated
    /// ones are shorter by one operation if it is slower at all, and by two from 100 on, where tests of many keys make
    /// do with fewer.
    const SLOWNESS: u32 = 1;

    /// An empty store that shares nothing with any other, takes its time from the clock, and has these ledger bounds.
    fn with_bounds(
        &self,
        clock: ManualClock,
        bounds: LedgerBounds,
    ) -> impl Future<Output = Self::Store> + Send;

    /// The same with the default bounds.
    fn fresh(&self, clock: ManualClock) -> impl Future<Output = Self::Store> + Send {
        self.with_bounds(clock, LedgerBounds::default())
    }
}

/// Runs one test on several threads. [`conformance_tests!`](crate::conformance_tests) calls it.
///
/// # Panics
/// If the test fails, or if the system gives no threads.
pub fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(THREADS)
        .enable_all()
        .build()
        .expect("the system gives threads");
    runtime.block_on(test);
}

/// More than the cores of a small machine, so that what races is interrupted anywhere.
const THREADS: usize = 4;

/// Makes a `#[test]` of each function of the [`suite`](crate::suite), in a module for each of its modules.
///
/// Its argument is an expression of a [`StoreUnderTest`](crate::suite::StoreUnderTest), evaluated by each test.
#[macro_export]
macro_rules! conformance_tests {
    ($store:expr) => {
        $crate::conformance_tests! { @each modules $store }
    };
    (@each $then:ident $store:expr) => {
        $crate::conformance_tests! { @$then $store;
            access_keys {
                a_generated_access_key_resolves_to_its_key
                generated_ids_and_access_keys_are_distinct
                an_access_key_resolves_only_as_a_whole
                a_brought_access_key_is_taken_as_it_is
                a_key_may_have_no_access_key
                a_brought_access_key_with_the_ends_of_another_is_refused
                another_workspace_may_use_the_same_ends
                another_workspace_cannot_bring_the_same_access_key
                the_ends_of_a_deleted_key_are_free_again
                an_expired_key_is_still_resolved
                a_generated_key_that_collides_is_made_again
                a_random_source_that_repeats_itself_is_given_up
                without_random_bytes_there_is_no_key
            }
            admins {
                a_workspace_is_bootstrapped_only_once
                a_bootstrap_needs_an_admin_that_never_expires
                the_last_admin_cannot_be_deleted
                the_last_admin_cannot_be_given_an_expiry
                the_last_admin_may_be_renamed
                of_two_admins_only_one_may_expire
                an_admin_with_an_expiry_may_be_deleted
                an_admin_that_no_longer_expires_lets_the_other_go
                the_admin_of_another_workspace_does_not_count
            }
            bounds {
                an_ended_reservation_is_remembered_for_two_minutes_from_its_end
                a_reservation_at_the_bound_of_open_ones_is_refused_until_the_first_ttl_has_passed
                an_ended_reservation_leaves_its_place_to_an_open_one
                a_reservation_at_the_bound_of_ended_ones_is_refused_until_one_is_forgotten
                settlements_never_fail_for_a_bound
                a_check_at_its_bound_is_refused_until_the_first_id_is_forgotten
                a_record_at_its_bound_is_refused_until_the_first_id_is_forgotten
                each_kind_has_a_bound_of_its_own
                a_call_that_would_be_denied_is_denied_at_the_bound_too
            }
            changing_thresholds {
                the_thresholds_of_a_key_replace_those_of_the_limiter
                each_of_four_thresholds_is_told
                a_key_without_thresholds_tells_nothing
                a_key_shows_the_thresholds_that_it_has
                other_thresholds_hold_at_once
                a_threshold_that_was_passed_before_it_was_set_is_not_told
                a_threshold_below_one_that_was_told_is_not_told
                a_threshold_that_comes_back_is_another_one
                a_key_that_is_saved_again_tells_nothing_again
                another_budget_is_told_of_anew
                what_is_spent_already_tells_nothing_of_another_budget
                another_limit_is_told_of_from_its_window_on
                a_change_of_limits_tells_nothing_by_itself
            }
            clock_steps {
                a_clock_that_steps_back_by_one_window_and_forth_again_refills_nothing
                a_clock_that_steps_back_by_two_windows_and_forth_again_counts_its_window_twice
            }
            creating_many {
                many_keys_are_created_in_order
                one_that_is_refused_does_not_stop_the_others
                what_a_batch_takes_is_taken_within_it
                only_an_admin_creates_many_keys
                a_call_creates_a_bounded_number_of_keys
                a_batch_bootstraps_no_second_time
                batches_that_race_give_each_name_once
                generated_keys_that_collide_within_a_batch_are_made_again
            }
            deletion {
                a_deleted_key_makes_no_calls
                a_handle_sees_the_deletion_of_its_key
                a_deleted_key_has_no_handle
                a_deleted_key_is_not_authenticated
                nothing_is_left_to_read_of_a_deleted_key
                a_deleted_key_stays_deleted
                a_handle_does_not_pass_to_the_next_key_of_the_name
                a_deletion_leaves_other_keys_alone
            }
            extending {
                an_extension_charges_what_is_missing
                a_repeated_extension_charges_nothing
                an_extension_that_does_not_fit_changes_nothing
                an_extension_never_shrinks
                an_extension_needs_no_request
                what_an_extension_charged_to_a_later_window_stays_there
                an_overrun_is_what_exceeds_the_extension
                an_extension_asks_for_credits_too
                an_expired_key_extends_nothing
                what_has_ended_is_not_extended
            }
            extremes {
                a_limit_of_zero_allows_nothing
                a_limit_of_one_allows_one
                the_largest_limit_is_reached_exactly
                the_largest_budget_is_spent_exactly
                a_count_stays_at_the_largest_number
                just_above_the_largest_number_is_refused
                empty_and_overlong_texts_are_refused
                odd_names_are_names
                odd_assets_are_assets
                an_expiry_may_lie_in_the_past
                a_key_expires_to_the_millisecond
                an_expiry_that_cannot_be_shown_is_refused
                limits_hold_on_the_first_and_the_last_day
                a_key_has_limits_for_a_bounded_number_of_assets
                all_assets_of_a_key_may_be_exchanged_again_and_again
                a_flood_of_made_up_assets_leaves_no_trace
            }
            histories {
                random_histories_agree_with_the_model
                random_histories_through_handles_agree_with_the_model
                committed_histories_agree_with_the_model
                committed_histories_through_handles_agree_with_the_model
                committed_histories_are_answered_as_committed
            }
            identities {
                a_caller_may_choose_the_id
                a_chosen_id_is_not_given_twice
                a_chosen_id_is_taken_for_every_workspace
                of_several_reasons_the_id_comes_first
                odd_ids_are_ids
            }
            key_races {
                a_workspace_is_bootstrapped_once
                a_name_is_given_once
                an_id_is_given_once
                an_access_key_is_taken_once
                admins_who_delete_each_other_leave_one
                no_update_is_lost
                deletion_ends_calls_in_full_run
            }
            many_keys {
                each_key_counts_for_itself
                deleted_keys_take_nothing_with_them
                handles_of_deleted_keys_never_find_new_ones
            }
            names {
                a_name_is_not_given_twice
                a_key_is_not_renamed_to_a_taken_name
                names_that_look_alike_are_different
                a_name_is_free_again_after_deletion
                a_name_is_free_again_after_renaming
                an_expired_key_keeps_its_name
                another_workspace_may_use_the_same_name
                an_admin_and_a_member_cannot_share_a_name
            }
            peeking {
                a_peek_tells_what_the_check_then_answers
                a_peek_changes_nothing
                a_denied_call_consumes_nothing
                watching_changes_nothing
                a_peek_answers_as_if_charged
            }
            races {
                exactly_the_limit_of_requests_is_admitted
                exactly_the_limit_of_tokens_is_admitted
                a_rest_that_is_too_small_stays
                mixed_assets_share_one_global_limit
                what_an_asset_denies_costs_the_global_limit_nothing
                a_budget_is_spent_exactly
                handles_and_keys_share_the_limit
            }
            recording {
                what_was_allowed_elsewhere_counts_past_the_limit
                what_is_recorded_again_counts_once
                what_a_later_record_confirms_is_forgotten_after_the_dedupe_time
                what_was_allowed_elsewhere_counts_in_each_scope
                what_was_allowed_elsewhere_counts_on_an_expired_key_without_budget
                what_was_allowed_elsewhere_of_an_unknown_key_is_refused
            }
            repeating {
                a_repeated_settlement_changes_nothing_more
                the_final_charge_is_answered_and_once_as_the_first
                a_settlement_is_final
                a_cancel_is_final
                a_repeated_reservation_is_replayed
                a_replay_tells_the_state_of_now
                a_known_id_with_another_call_is_refused
                an_id_is_free_after_its_ttl
                an_id_is_free_after_the_dedupe_time
                a_denied_reservation_is_not_made
                a_check_with_a_known_id_is_charged_once
                the_id_of_a_check_alone_decides
                a_denied_check_is_decided_anew
                a_check_is_remembered_for_two_minutes
                a_repeated_check_is_allowed_on_an_expired_key
                ids_of_checks_and_reservations_are_separate
                a_deleted_key_is_unknown_to_all
            }
            reservation_races {
                a_reservation_is_charged_once
                a_settlement_counts_once
                a_settlement_and_a_cancel_do_not_both_count
                an_extension_is_charged_once
                a_check_with_an_id_is_charged_once
                totals_are_exact_however_answers_are_repeated
                totals_do_not_depend_on_the_order
            }
            reserved_histories {
                random_reservations_agree_with_the_model
                random_reservations_at_small_bounds_agree_with_the_model
                random_reservations_beside_handles_agree_with_the_model
                every_short_reservation_agrees_with_the_model
                every_short_reservation_at_small_bounds_agrees_with_the_model
                committed_reservations_agree_with_the_model
                committed_reservations_are_answered_as_committed
            }
            retrying {
                a_charge_is_allowed_at_retry_at_and_not_a_millisecond_earlier
                a_charge_that_never_fits_is_denied_at_every_window_end
                a_retry_waits_for_the_day_if_the_day_is_full
                a_retry_counts_on_a_pending_limit
                no_retry_outlives_the_key
                an_exhausted_budget_has_no_retry
            }
            rights {
                an_admin_creates_keys_of_both_kinds
                an_admin_lists_the_keys_of_its_workspace
                an_admin_reads_a_key_of_its_workspace
                an_admin_updates_a_key_of_its_workspace
                an_admin_deletes_a_key_of_its_workspace
                an_admin_reads_the_usage_of_any_key
                an_admin_makes_no_calls
                a_member_may_not_create_keys
                a_member_may_not_list_keys
                a_member_may_not_read_keys
                a_member_may_not_update_keys
                a_member_may_not_delete_keys
                a_member_reads_its_own_usage
                a_member_may_not_read_the_usage_of_others
                an_access_key_has_the_rights_of_its_key
                a_caller_that_never_existed_is_unknown
                a_deleted_caller_is_unknown
                an_admin_may_delete_itself_if_another_remains
                an_expired_caller_has_no_rights
                an_expired_member_reads_nothing
            }
            schedule {
                a_new_keys_limits_are_in_force_at_once
                a_change_is_pending_until_the_next_window_of_each_kind
                a_change_comes_into_force_when_it_was_said_to
                calls_meet_what_is_in_force
                the_last_of_several_changes_counts
                a_change_back_drops_what_was_pending
                a_first_limit_of_a_living_key_waits
                a_removed_asset_is_limited_to_the_end_of_its_window
                the_configuration_reads_as_it_was_saved
                budget_and_expiry_do_not_wait
                a_token_type_changes_with_the_next_window
                a_rule_tells_when_it_resets
            }
            searching {
                pages_hold_every_key_once_and_in_order
                a_search_ignores_case
                a_search_knows_no_wildcards
                a_page_holds_matches_only
                pages_are_stable_under_deletion
                pages_show_keys_created_meanwhile
                a_search_sees_the_present
                a_page_shows_whole_records
            }
            secrecy {
                a_created_key_prints_masked
                a_new_key_prints_masked
                a_record_holds_no_access_key
                a_view_of_the_keys_prints_masked
                engine_and_store_print_no_access_key
                errors_name_an_access_key_by_its_ends
            }
            settling {
                a_settled_call_counts_what_it_cost
                what_is_left_out_is_as_estimated
                an_overrun_is_a_debt_until_the_window_ends
                a_refund_never_lands_in_another_window
                an_overrun_counts_in_the_minute_open_then
                input_and_output_overrun_each_for_itself
                a_cancelled_call_gives_back_everything
                a_call_cancelled_late_gives_back_to_the_day
                credits_are_settled_without_windows
                a_scope_that_did_not_count_the_call_counts_the_overrun
                a_scope_that_is_counted_anew_does_not_find_its_windows_again
                a_scope_whose_limits_are_gone_is_skipped
                after_a_mending_every_earlier_window_is_closed
                a_small_step_back_leaves_the_window_as_it_is
                other_limits_do_not_change_what_is_given_back
                an_expired_key_is_settled
                what_is_never_settled_stands_as_estimated
                a_ttl_runs_from_the_reservation
                requests_are_settled_as_estimated
                a_sum_above_the_largest_number_is_refused
                an_id_belongs_to_its_key
            }
            shadow {
                a_key_in_shadow_is_decided_and_counted_like_any_other
                what_is_let_through_shows_the_rules_as_they_stand
                peeks_and_handles_let_through_as_checks_do
                the_id_of_a_call_that_is_let_through_is_not_remembered
                a_reservation_that_is_let_through_is_not_made
                an_extension_that_is_let_through_charges_nothing
                thresholds_are_told_in_shadow_as_always
                who_may_not_call_may_not_in_shadow
                shadow_mode_begins_and_ends_at_once
            }
            small_world {
                every_short_history_agrees_with_the_model
                every_short_history_through_handles_agrees_with_the_model
            }
            telling_once {
                what_is_given_back_and_used_again_is_not_told_again
                a_count_that_swings_about_its_limit_tells_once
                a_repetition_tells_nothing
                a_repeated_correction_tells_nothing
                a_new_window_tells_again
                a_mended_clock_tells_nothing_again
                a_clock_mended_by_a_denial_tells_nothing_again
                a_small_step_back_tells_nothing_again
                a_scope_that_is_counted_anew_tells_anew
                of_many_callers_one_is_told
                a_window_that_ends_amid_calls_is_told_of_once
            }
            thresholds {
                the_call_that_reaches_a_share_of_a_limit_tells
                a_call_that_reaches_both_shares_tells_both
                a_share_that_is_no_whole_number_is_reached_with_the_unit_that_passes_it
                each_rule_tells_for_itself
                an_asset_and_its_key_each_tell_of_their_own
                each_asset_tells_for_itself
                what_is_spent_tells_of_the_budget
                tokens_tell_as_they_are_counted
                a_count_without_a_limit_tells_nothing
                a_limit_of_zero_tells_nothing
                a_limit_of_one_tells_both_with_its_one
                the_largest_limit_tells_to_the_unit
                a_denied_call_reaches_nothing
                a_peek_tells_what_the_call_would
                a_call_through_a_handle_tells
                a_reserved_call_tells_at_each_of_its_steps
                an_overrun_tells_of_the_minute_open_then
                what_was_allowed_elsewhere_tells
            }
            versions {
                each_change_counts_a_version
                a_stale_update_is_a_conflict_that_writes_nothing
                a_version_of_the_future_is_a_conflict
                a_conflict_is_told_before_anything_else
                an_update_of_no_key_is_not_found
                saving_what_is_configured_changes_nothing
                calls_count_no_version
            }
            workspaces {
                a_foreign_key_is_not_there_to_read
                a_foreign_key_is_not_there_to_update
                a_foreign_key_is_not_there_to_delete
                a_foreign_key_has_no_usage_to_read
                a_foreign_access_key_is_not_there_to_look_up
                a_deleted_key_is_told_of_like_one_that_never_existed
                a_search_finds_no_foreign_keys
                the_admin_of_another_workspace_is_foreign
                workspaces_share_no_counts
                workspaces_whose_ids_begin_alike_are_apart
            }
        }
    };
    (@parts $store:expr; $($module:ident { $($test:ident)* })*) => {
        ::std::vec![
            $($(
                $crate::suite::Part::new(
                    concat!(stringify!($module), "::", stringify!($test)),
                    || $crate::suite::run($crate::suite::$module::$test($store)),
                ),
            )*)*
        ]
    };
    (@modules $store:expr; $($module:ident { $($test:ident)* })*) => {
        $(
            mod $module {
                #[allow(unused_imports)]
                use super::*;

                $crate::conformance_tests! { @tests $module $store; $($test)* }
            }
        )*
    };
    (@tests $module:ident $store:expr; $($test:ident)*) => {
        $(
            #[test]
            fn $test() {
                $crate::suite::run($crate::suite::$module::$test($store));
            }
        )*
    };
}

/// A list of all functions of the [`suite`](crate::suite), to be run in one test by
/// [`suite::run_all`](crate::suite::run_all).
///
/// Its argument is an expression of a [`StoreUnderTest`](crate::suite::StoreUnderTest), evaluated for each of them.
#[macro_export]
macro_rules! conformance_parts {
    ($store:expr) => {
        $crate::conformance_tests! { @each parts $store }
    };
}
