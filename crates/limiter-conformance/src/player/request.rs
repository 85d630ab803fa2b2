//! Operations of the replay format, in the words of the engine.

use std::collections::BTreeMap;

use limiter_core::{
    AssetId, Charge, Credits, InvalidValue, KeyConfig, Limits, LimitsBuilder, Other, Thresholds,
    Timestamp, Totals, Unit, Window,
};

use crate::replay;

/// The configuration of a new key.
pub(super) fn config(create: &replay::Create, name: &str) -> Result<KeyConfig, InvalidValue> {
    let mut config = KeyConfig::named(name)?;
    let global = builder(&create.global.with_budget(create.budget));
    config.global = global.parallel(create.parallel).build()?;
    config.assets = assets(&create.assets)?;
    config.other = other(create.other.as_ref())?;
    config.expires_at = create.expires_at.map(instant);
    config.time_zone = create.time_zone.clone();
    config.thresholds = create.thresholds.as_deref().map(thresholds).transpose()?;
    config.shadow = create.shadow;
    config.check().map(|()| config)
}

/// Changes a configuration as an update asks for. The budget and the parallel limit are fields of their own, and stay when the
/// other limits change.
pub(super) fn apply(update: &replay::Update, config: &mut KeyConfig) -> Result<(), InvalidValue> {
    let mut budget = config.budget().map(Credits::millionths);
    let mut parallel = config.global.parallel();
    let mut global = config.global.to_builder();
    if let Some(changed) = update.global.clone().changed() {
        global = builder(&changed.unwrap_or_default());
    }
    if let Some(changed) = update.budget.changed() {
        budget = changed;
    }
    if let Some(changed) = update.parallel.changed() {
        parallel = changed;
    }
    let global = global.limit(Window::Ever, Unit::Credits, budget);
    config.global = global.parallel(parallel).build()?;
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

fn limits(written: &replay::Limits) -> Result<Limits, InvalidValue> {
    builder(written).build()
}

fn builder(written: &replay::Limits) -> LimitsBuilder {
    let mut limits = Limits::builder().parallel(written.parallel);
    for (&(window, unit), &amount) in &written.amounts {
        limits = limits.limit(window, unit, amount);
    }
    limits
}
