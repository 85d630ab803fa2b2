//! Open groups: keys beneath them that nobody registered may make calls, each with the limits of a plan.
//!
//! The state of such a key begins with its first call, and is worth nothing when its windows have ended: a store keeps it at
//! least until then, and no caller can tell whether it still has it.

use crate::clock::Timestamp;
use crate::config::{KeyConfig, KeyKind, Other};
use crate::error::InvalidValue;
use crate::limits::Limits;
use crate::names::PlanName;
use crate::plan::{Plan, StoredPlan};
use crate::record::Record;
use crate::rule::Unit;
use crate::state::KeyState;
use crate::window::Window;

impl KeyState {
    /// Returns whether nothing is left of what an unregistered key has used at `now`: every window has ended in which a limit has
    /// counted anything. It is as if it had never made a call, unless one is remembered by its id.
    #[must_use]
    #[inline]
    pub fn is_over(&self, now: Timestamp) -> bool {
        // Nearly every call comes in the windows of the one before it.
        !self.global().record().limits_go_on(now) && self.lasts_until() <= now
    }

    /// Returns whether the key takes another version of its plan as one that has never made a call: nobody registered it, and it is
    /// over.
    #[must_use]
    pub fn begins_anew(&self, now: Timestamp) -> bool {
        !self.is_registered() && self.is_over(now)
    }

    /// Returns the state of the same key without anything used, but with the slots that its reservations hold.
    #[must_use]
    pub fn begun_anew(&self, plan: &StoredPlan, now: Timestamp) -> Self {
        // The windows that have admitted reservations are not found again.
        Self::unregistered(plan, now).numbered_after(self.generations()).with_slots_of(self)
    }

    /// Returns the state of an unregistered key that has begun anew by `now`, with all limits in force that it has taken from its
    /// plan; `None` if a limit over all its calls still counts, so that it has not. Otherwise it depends on limits of assets, and a
    /// store need not have read all of them.
    pub(crate) fn perhaps_begun_anew_by(&self, now: Timestamp) -> Option<Self> {
        if self.is_registered() || counts_until(self.global().record()) > now {
            return None;
        }
        let (global, assets, other) = self.configured();
        let time_zone = self.time_zone().clone();
        let config = KeyConfig { global, assets, other, time_zone, ..KeyConfig::of_unregistered() };
        Some(Self::new(self.kind(), &config, self.thresholds(), now))
    }

    /// Returns whether it makes a difference that an unregistered key which is over begins anew: its windows are others at `now`.
    /// Those of a single scope are moved with the next call all the same, unless they are later ones.
    #[must_use]
    pub fn begins_differently(&self, now: Timestamp) -> bool {
        let is_single = self.assets.is_empty() && self.other.is_none();
        self.every_scope().any(|(_, scope)| {
            let record = scope.record();
            let limits = record.limits();
            limits.windows().filter(|window| window.ends()).any(|window| {
                let (end, end_now) = (record.span(window).end, window.end(now, self.time_zone()));
                end > end_now || end != end_now && !is_single
            })
        })
    }

    /// Returns the instant from which on an unregistered key [is over](Self::is_over), if it makes no call until then: the last
    /// end of a window in which a limit has counted anything.
    #[must_use]
    pub fn lasts_until(&self) -> Timestamp {
        let ends = self.every_scope().map(|(_, scope)| counts_until(scope.record()));
        ends.max().unwrap_or(Timestamp::MIN)
    }

    /// Returns until when an unregistered key may last if a call comes at `now`.
    #[must_use]
    pub fn may_last_until(&self, now: Timestamp) -> Timestamp {
        let ends = self.every_scope().flat_map(|(_, scope)| {
            let limited = scope.record().limits();
            let pending = scope.all_pending().iter().flat_map(|(_, limits)| limits.windows());
            let windows: Vec<Window> = limited.windows().chain(pending).collect();
            let windows = windows.into_iter().filter(|window| window.ends());
            windows.map(|window| window.end(now, self.time_zone()))
        });
        ends.max().unwrap_or(now).max(self.lasts_until())
    }

    /// Checks that a key of this kind, which is in this state when it has this configuration, may be open with this plan. It
    /// concerns open groups alone.
    ///
    /// # Errors
    /// [`InvalidValue::OpenKey`], [`InvalidValue::OpenInShadow`], [`InvalidValue::OpenUnlimited`] or
    /// [`InvalidValue::OpenPlan`].
    pub fn check_open(
        &self,
        config: &KeyConfig,
        plan: Option<&StoredPlan>,
        now: Timestamp,
    ) -> Result<(), InvalidValue> {
        if config.open.is_none() {
            return Ok(());
        }
        if self.kind() != KeyKind::Group {
            return Err(InvalidValue::OpenKey);
        }
        if config.shadow {
            return Err(InvalidValue::OpenInShadow);
        }
        // A limit that is lifted in favour of one of a longer window would leave a gap between the two.
        let in_force = self.global().at(now, self.time_zone()).record().limits();
        let of_requests = |limits: &Limits, window| limits.get(window, Unit::Requests).is_some();
        let bounds = |window| of_requests(&config.global, window) && of_requests(&in_force, window);
        if ![Window::Minute, Window::Hour, Window::Day].into_iter().any(bounds) {
            return Err(InvalidValue::OpenUnlimited);
        }
        plan.map_or(Ok(()), |plan| plan.plan.check_for_open_groups(&plan.name))
    }
}

/// Returns the last end of a window in which a limit of the scope has counted anything.
fn counts_until(record: &Record) -> Timestamp {
    let counted = record.windows().filter(|window| record.has_counted_in(*window));
    counted.map(|window| record.span(window).end).max().unwrap_or(Timestamp::MIN)
}

impl Plan {
    /// Checks that a group may be open with this plan: it has no limits per week, per month or for ever.
    ///
    /// # Errors
    /// [`InvalidValue::OpenPlan`].
    pub fn check_for_open_groups(&self, name: &PlanName) -> Result<(), InvalidValue> {
        let of_other = match &self.other {
            Other::Limited(limits) => Some(limits),
            Other::Denied => None,
        };
        let limits = [&self.global].into_iter().chain(self.assets.values()).chain(of_other);
        let mut windows = limits.flat_map(Limits::windows);
        match windows.find(|window| *window > Window::Day) {
            Some(window) => Err(InvalidValue::OpenPlan { plan: name.clone(), window }),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::charge::Charge;
    use crate::config::Effective;
    use crate::evaluate;
    use crate::plan::PlanUpdate;
    use crate::thresholds::Thresholds;

    const NOON: Timestamp = Timestamp::from_unix_ms(1_760_011_200_000);

    fn plan(limits: crate::LimitsBuilder) -> StoredPlan {
        let plan = Plan::default().with_global(limits.build().unwrap());
        let update = PlanUpdate::new("free".parse().unwrap(), plan);
        StoredPlan::updated(None, &"w".parse().unwrap(), &update, NOON)
    }

    fn call(state: &mut KeyState, now: Timestamp) -> bool {
        let key = "ip/a".parse().unwrap();
        let located = state.locate(None);
        evaluate::charge(state, &key, located, &Charge::request(), now).is_allowed()
    }

    #[test]
    fn a_state_lasts_as_long_as_a_window_in_which_a_limit_has_counted() {
        let minute = Limits::builder().requests_per_minute(2);
        for (limits, ms) in [
            (Limits::builder(), None),
            (minute.clone(), Some(60_000)),
            (minute.clone().requests_per_hour(5), Some(3_600_000)),
            (minute.clone().tokens_per_hour(5), Some(60_000)),
        ] {
            let mut state = KeyState::unregistered(&plan(limits), NOON);
            assert_eq!(state.lasts_until(), Timestamp::MIN, "nothing is used yet");
            assert!(call(&mut state, NOON));
            let until = ms.map_or(Timestamp::MIN, |ms| NOON.after(Duration::from_millis(ms)));
            assert_eq!(state.lasts_until(), until);
        }
    }

    /// The service itself sees it.
    #[test]
    fn a_caller_sees_no_threshold_of_its_group() {
        let group = KeyConfig::named("ip").unwrap();
        let group = group.with_global(Limits::builder().requests_per_minute(2).build().unwrap());
        let mut group = KeyState::new(KeyKind::Group, &group, Thresholds::new([50]).unwrap(), NOON);
        let mut own = KeyState::unregistered(&plan(Limits::builder().requests_per_minute(9)), NOON);
        let (key, request) = ("ip/a".parse().unwrap(), Charge::request());
        let decision =
            evaluate::charge_in_groups(&key, None, &mut [&mut group], &mut own, &request, NOON);
        let crossed = decision.allowed().unwrap().crossed();
        assert_eq!(crossed.iter().map(|it| it.group.clone()).collect::<Vec<_>>(), [key.group()]);
        let json = serde_json::to_value(&decision).unwrap();
        assert_eq!(json["crossed"], serde_json::json!([]));
    }

    /// The pending limit would wait an hour; but the key is forgotten after a minute, and starts with the changed plan.
    #[test]
    fn a_caller_is_not_told_to_retry_when_the_changed_plan_would_deny_it() {
        let minute = Limits::builder().requests_per_minute(1);
        for (hourly, retry_ms) in [(1, Some(60_000)), (0, None)] {
            let mut state = KeyState::unregistered(&plan(minute.clone()), NOON);
            assert!(call(&mut state, NOON));
            let limits = Limits::builder().requests_per_hour(hourly);
            let update = PlanUpdate::new(
                "free".parse().unwrap(),
                Plan::default().with_global(limits.build().unwrap()),
            );
            let changed = StoredPlan::updated(
                Some(&plan(minute.clone())),
                &"w".parse().unwrap(),
                &update,
                NOON,
            );
            let mut state = state.take(&KeyConfig::of_unregistered(), &changed, NOON).after;
            let key = "ip/a".parse().unwrap();
            let located = state.locate(None);
            let decision = evaluate::charge(&mut state, &key, located, &Charge::request(), NOON);
            let retry_at = decision.denied().unwrap().retry_at();
            assert_eq!(retry_at, retry_ms.map(|ms| NOON.after(Duration::from_millis(ms))));
        }
    }

    /// A store need not read the scopes of other assets to answer a call. One whose window goes on keeps the key from beginning
    /// anew; so the retry has to pass in both cases.
    #[test]
    fn when_to_retry_does_not_depend_on_scopes_that_the_call_does_not_meet() {
        let gpt5: crate::AssetId = "gpt-5".parse().unwrap();
        let limits = |limits: crate::LimitsBuilder| limits.build().unwrap();
        let minute = limits(Limits::builder().requests_per_minute(1));
        let hour = limits(Limits::builder().tokens_per_hour(9));
        let none = limits(Limits::builder().requests_per_hour(0));
        let of = |before: Option<&StoredPlan>, plan| {
            let update = PlanUpdate::new("free".parse().unwrap(), plan);
            StoredPlan::updated(before, &"w".parse().unwrap(), &update, NOON)
        };
        let free = of(None, Plan::default().with_global(minute).with_asset(gpt5.clone(), hour));
        let (key, call) = ("ip/a".parse().unwrap(), Charge::request().with_tokens(1, 0).unwrap());
        let mut whole = KeyState::unregistered(&free, NOON);
        let located = whole.locate(Some(&gpt5));
        assert!(evaluate::charge(&mut whole, &key, located, &call, NOON).is_allowed());
        let changed = of(Some(&free), Plan::default().with_global(none));
        let whole = whole.take(&KeyConfig::of_unregistered(), &changed, NOON).after;
        let read = whole.relevant_to(whole.locate(None));
        assert!(!whole.is_over(NOON.after(Duration::from_secs(60))));
        for mut state in [whole, read] {
            let located = state.locate(None);
            let decision = evaluate::charge(&mut state, &key, located, &Charge::request(), NOON);
            assert_eq!(decision.denied().unwrap().retry_at(), None);
        }
    }

    #[test]
    fn a_state_has_no_history_and_none_is_kept() {
        let state = KeyState::unregistered(&plan(Limits::builder().requests_per_minute(2)), NOON);
        let mut state = state.keeping_history(35);
        assert!(call(&mut state, NOON));
        assert!(state.history(35, NOON).is_empty());
        assert!(!state.is_registered());
    }

    #[test]
    fn a_group_is_open_only_while_a_limit_of_its_own_bounds_its_requests() {
        let config = |limits: crate::LimitsBuilder| {
            let config = KeyConfig::named("ip").unwrap().with_open("free".parse().unwrap());
            config.with_global(limits.build().unwrap())
        };
        let free = plan(Limits::builder().requests_per_minute(2));
        let hourly = config(Limits::builder().requests_per_hour(5));
        let group = KeyState::new(KeyKind::Group, &hourly, Thresholds::DEFAULT, NOON);
        assert_eq!(group.check_open(&hourly, Some(&free), NOON), Ok(()));
        for unlimited in [Limits::builder(), Limits::builder().requests_per_week(5)] {
            let config = config(unlimited);
            let group = KeyState::new(KeyKind::Group, &config, Thresholds::DEFAULT, NOON);
            let refused = group.check_open(&config, Some(&free), NOON);
            assert_eq!(refused, Err(InvalidValue::OpenUnlimited));
        }
        let daily = config(Limits::builder().requests_per_day(5));
        for (effective, expected) in
            [(Effective::Next, Err(InvalidValue::OpenUnlimited)), (Effective::Now, Ok(()))]
        {
            let after = group.change(&daily, Thresholds::DEFAULT, effective, NOON).unwrap().after;
            assert_eq!(after.check_open(&daily, Some(&free), NOON), expected, "{effective:?}");
        }
        let shadow = hourly.clone().with_shadow(true);
        assert_eq!(group.check_open(&shadow, Some(&free), NOON), Err(InvalidValue::OpenInShadow));
        let key = KeyState::new(KeyKind::Member, &hourly, Thresholds::DEFAULT, NOON);
        assert_eq!(key.check_open(&hourly, Some(&free), NOON), Err(InvalidValue::OpenKey));
        let monthly = plan(Limits::builder().requests_per_month(5));
        let refused = group.check_open(&hourly, Some(&monthly), NOON);
        let window = Window::Month;
        assert_eq!(refused, Err(InvalidValue::OpenPlan { plan: "free".parse().unwrap(), window }));
    }
}
