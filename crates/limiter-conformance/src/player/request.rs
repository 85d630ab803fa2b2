//! Operations of the replay format, in the words of the engine.

use std::collections::BTreeMap;

use limiter_core::{AssetId, Charge, Credits, InvalidValue, KeyConfig, Limits, Timestamp, Totals};

use crate::replay;

/// The configuration of a new key.
pub(super) fn config(create: &replay::Create, name: &str) -> Result<KeyConfig, InvalidValue> {
    let mut config = KeyConfig::named(name)?;
    config.global = limits(create.global.unwrap_or_default())?;
    config.assets = assets(create.assets.clone())?;
    config.budget = create.budget.map(Credits::from_millionths).transpose()?;
    config.expires_at = create.expires_at.map(instant);
    Ok(config)
}

/// Changes a configuration as an update asks for.
pub(super) fn apply(update: &replay::Update, config: &mut KeyConfig) -> Result<(), InvalidValue> {
    if let Some(global) = update.global.changed() {
        config.global = limits(global.unwrap_or_default())?;
    }
    if let Some(changed) = update.assets.clone().changed() {
        config.assets = assets(changed.unwrap_or_default())?;
    }
    if let Some(budget) = update.budget.changed() {
        config.budget = budget.map(Credits::from_millionths).transpose()?;
    }
    if let Some(expires_at) = update.expires_at.changed() {
        config.expires_at = expires_at.map(instant);
    }
    Ok(())
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

/// An asset whose limits have no number does not count towards the most that a key may have.
fn assets(written: replay::Assets) -> Result<BTreeMap<AssetId, Limits>, InvalidValue> {
    let mut assets = BTreeMap::new();
    for (id, written) in written {
        let limits = limits(written.unwrap_or_default())?;
        if !limits.is_none() {
            assets.insert(AssetId::new(id)?, limits);
        }
    }
    match assets.len() {
        count if count > KeyConfig::MAX_ASSETS => {
            Err(InvalidValue::TooManyAssets { count, max: KeyConfig::MAX_ASSETS })
        }
        _ => Ok(assets),
    }
}

fn limits(written: replay::Limits) -> Result<Limits, InvalidValue> {
    Limits::builder()
        .requests_per_minute(written.requests_per_minute)
        .requests_per_day(written.requests_per_day)
        .tokens_per_minute(written.tokens_per_minute)
        .tokens_per_day(written.tokens_per_day)
        .token_type(written.token_type)
        .build()
}
