//! Operations of the replay format, in the words of the engine.

use std::collections::BTreeMap;

use limiter_core::{
    AssetId, Charge, Credits, InvalidValue, KeyConfig, Limits, LimitsBuilder, Other, Plan,
    PlanName, Thresholds, Timestamp, Totals, Unit, Window,
};

use crate::replay::{self, Amount, Change};

/// The configuration of a new key of this plan; or of a group that is open with the other one.
pub(super) fn config(
    create: &replay::Create,
    name: &str,
    [plan, open]: [Option<PlanName>; 2],
) -> Result<KeyConfig, InvalidValue> {
    let mut config = KeyConfig::named(name)?;
    (config.plan, config.open) = (plan, open);
    let global = create.global.with_budget(create.budget);
    config.global = limits(&replay::Limits { parallel: create.parallel, ..global })?;
    config.assets = assets(&create.assets)?;
    config.other = other(create.other.as_ref())?;
    config.expires_at = create.expires_at.map(instant);
    config.time_zone = create.time_zone.clone();
    config.thresholds = create.thresholds.as_deref().map(thresholds).transpose()?;
    config.shadow = create.shadow;
    config.check().map(|()| config)
}

/// Changes a configuration as an update asks for, with the names of the plans that it gives the key, and opens the group with.
pub(super) fn apply(
    update: &replay::Update,
    [plan, open]: [Option<PlanName>; 2],
    config: &mut KeyConfig,
) -> Result<(), InvalidValue> {
    if !update.plan.is_keep() {
        config.plan = plan;
    }
    if !update.open.is_keep() {
        config.open = open;
    }
    config.global = global(&config.global, &update.global, update.budget, update.parallel)?;
    if let Some(changed) = update.assets.clone().changed() {
        config.assets = assets(&changed.unwrap_or_default())?;
    }
    if let Some(changed) = update.other.clone().changed() {
        config.other = other(changed.as_ref())?;
    }
    if let Some(changed) = update.expires_at.changed() {
        config.expires_at = changed.map(instant);
    }
    if let Some(changed) = update.time_zone.clone().changed() {
        config.time_zone = changed.unwrap_or_default();
    }
    if let Some(changed) = update.thresholds.clone().changed() {
        config.thresholds = changed.as_deref().map(thresholds).transpose()?;
    }
    config.shadow = update.shadow.unwrap_or(config.shadow);
    config.check()
}

/// Changes a plan as its operation asks for.
pub(super) fn change_plan(change: &replay::Plan, plan: &mut Plan) -> Result<(), InvalidValue> {
    plan.global = global(&plan.global, &change.global, change.budget, change.parallel)?;
    if let Some(changed) = change.assets.clone().changed() {
        plan.assets = assets(&changed.unwrap_or_default())?;
    }
    if let Some(changed) = change.other.clone().changed() {
        plan.other = other(changed.as_ref())?;
    }
    if let Some(changed) = change.time_zone.clone().changed() {
        plan.time_zone = changed;
    }
    if let Some(changed) = change.thresholds.clone().changed() {
        plan.thresholds = changed.as_deref().map(thresholds).transpose()?;
    }
    plan.check()
}

/// The asset of a call.
pub(super) fn asset(call: &replay::Call) -> Result<Option<AssetId>, InvalidValue> {
    call.asset.as_deref().map(AssetId::new).transpose()
}

/// The charge of a call.
pub(super) fn charge(call: &replay::Call) -> Result<Charge, InvalidValue> {
    let charge = Charge::request().with_requests(call.requests)?;
    let charge = charge.with_tokens(call.input, call.output)?;
    Ok(charge.with_credits(Credits::from_millionths(call.credits)?))
}

/// The new totals of a reservation.
pub(super) fn totals(written: &replay::Totals) -> Result<Totals, InvalidValue> {
    let mut totals = Totals::unchanged();
    if let Some(requests) = written.requests {
        totals = totals.with_requests(requests)?;
    }
    if let Some(tokens) = written.input {
        totals = totals.with_input_tokens(tokens)?;
    }
    if let Some(tokens) = written.output {
        totals = totals.with_output_tokens(tokens)?;
    }
    if let Some(millionths) = written.credits {
        totals = totals.with_credits(Credits::from_millionths(millionths)?);
    }
    Ok(totals)
}

/// An instant of the replay format, which is never before 1970.
pub(crate) fn instant(unix_ms: u64) -> Timestamp {
    Timestamp::from_unix_ms(i64::try_from(unix_ms).unwrap_or(i64::MAX))
}

/// An asset that is written as null is not listed.
fn assets(written: &replay::Assets) -> Result<BTreeMap<AssetId, Limits>, InvalidValue> {
    let listed = written.iter().filter_map(|(id, limits)| Some((id, limits.as_ref()?)));
    listed.map(|(id, written)| Ok((AssetId::new(id)?, limits(written)?))).collect()
}

fn other(written: Option<&replay::Other>) -> Result<Other, InvalidValue> {
    Ok(match written {
        None => Other::default(),
        Some(replay::Other::Denied) => Other::Denied,
        Some(replay::Other::Limited(written)) => Other::Limited(limits(written)?),
    })
}

fn thresholds(percents: &[u64]) -> Result<Thresholds, InvalidValue> {
    Thresholds::new(percents.iter().map(|percent| u8::try_from(*percent).unwrap_or(u8::MAX)))
}

/// Changes the limits of all calls. The budget and the parallel limit are fields of their own, and stay when the other limits
/// change.
fn global(
    before: &Limits,
    changed: &Change<replay::Limits>,
    budget: Change<Amount>,
    parallel: Change<Amount>,
) -> Result<Limits, InvalidValue> {
    let was_lifted = before.lifted().any(|it| it == BUDGET).then_some(Amount::Unlimited);
    let old_budget = before.get(BUDGET.0, BUDGET.1).map(Amount::Limited).or(was_lifted);
    let was_lifted = before.lifts_parallel().then_some(Amount::Unlimited);
    let old_parallel = before.parallel().map(Amount::Limited).or(was_lifted);
    let limits = match changed.clone().changed() {
        Some(changed) => builder(&changed.unwrap_or_default()),
        None => before.to_builder(),
    };
    let limits = with(limits, BUDGET, budget.changed().unwrap_or(old_budget));
    with_parallel(limits, parallel.changed().unwrap_or(old_parallel)).build()
}

fn limits(written: &replay::Limits) -> Result<Limits, InvalidValue> {
    builder(written).build()
}

fn builder(written: &replay::Limits) -> LimitsBuilder {
    let limits = with_parallel(Limits::builder(), written.parallel);
    written.amounts.iter().fold(limits, |limits, (of, amount)| with(limits, *of, Some(*amount)))
}

fn with(
    limits: LimitsBuilder,
    (window, unit): (Window, Unit),
    amount: Option<Amount>,
) -> LimitsBuilder {
    match amount {
        Some(Amount::Unlimited) => limits.unlimited(window, unit),
        amount => limits.limit(window, unit, amount.and_then(Amount::limit)),
    }
}

fn with_parallel(limits: LimitsBuilder, amount: Option<Amount>) -> LimitsBuilder {
    match amount {
        Some(Amount::Unlimited) => limits.unlimited_parallel(),
        amount => limits.parallel(amount.and_then(Amount::limit)),
    }
}

/// The window and the unit of the budget.
const BUDGET: (Window, Unit) = (Window::Ever, Unit::Credits);
