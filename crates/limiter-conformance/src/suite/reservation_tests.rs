//! The list of what a store with reservations is held to besides.

/// Makes a `#[test]` of each function of the [`suite`](crate::suite) that needs reservations, as
/// [`conformance_tests!`](crate::conformance_tests) does of all others.
///
/// Its argument is an expression of a [`StoreUnderTest`](crate::suite::StoreUnderTest) whose store is a
/// [`ReservationStore`](limiter_core::ReservationStore).
#[macro_export]
macro_rules! reservation_tests {
    ($store:expr) => {
        $crate::conformance_tests! { @modules $store;
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
            repeating {
                a_repeated_settlement_changes_nothing_more
                a_settlement_is_final
                a_cancel_is_final
                a_repeated_reservation_is_replayed
                a_replay_tells_the_state_of_now
                a_known_id_with_another_call_is_refused
                an_id_is_free_after_its_ttl
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
            reserved_histories {
                random_reservations_agree_with_the_model
                random_reservations_beside_handles_agree_with_the_model
                every_short_reservation_agrees_with_the_model
                committed_reservations_agree_with_the_model
                committed_reservations_are_answered_as_committed
            }
        }
    };
}
