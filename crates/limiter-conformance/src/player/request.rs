//! From the words of the replay format to those of the engine.

use std::collections::BTreeMap;

use limiter_core::{
    AssetId, Charge, Credits, InvalidValue, KeyConfig, KeysError, Limits, Timestamp, TokenType,
};

use crate::replay;

/// What an update asks for, in the engine's words.
pub(super) struct Change {
    global: replay::Change<Limits>,
    assets: replay::Change<BTreeMap<AssetId, Limits>>,
    budget: replay::Change<Credits>,
    expires_at: replay::Change<Timestamp>,
}

impl Change {
    pub(super) fn of(update: &replay::Update) -> Result<Self, KeysError> {
        Ok(Self {
            global: update.global.try_map(|written| limits(&written))?,
            assets: update.assets.clone().try_map(|written| assets(&written))?,
            budget: update.budget.try_map(Credits::from_millionths)?,
            expires_at: update.expires_at.try_map(|unix_ms| Ok(instant(unix_ms)))?,
        })
    }

    pub(super) fn applied_to(self, config: KeyConfig) -> KeyConfig {
        KeyConfig {
            global: self.global.applied_to(Some(config.global)).unwrap_or_default(),
            assets: self.assets.applied_to(Some(config.assets.clone())).unwrap_or_default(),
            budget: self.budget.applied_to(config.budget),
            expires_at: self.expires_at.applied_to(config.expires_at),
            ..config
        }
    }
}

impl<T> replay::Change<T> {
    fn try_map<U>(
        self,
        translate: impl FnOnce(T) -> Result<U, InvalidValue>,
    ) -> Result<replay::Change<U>, InvalidValue> {
        Ok(match self {
            Self::Keep => replay::Change::Keep,
            Self::Clear => replay::Change::Clear,
            Self::Set(value) => replay::Change::Set(translate(value)?),
        })
    }

    fn applied_to(self, current: Option<T>) -> Option<T> {
        match self {
            Self::Keep => current,
            Self::Clear => None,
            Self::Set(value) => Some(value),
        }
    }
}

/// The configuration of a new key.
pub(super) fn config(create: &replay::Create, name: &str) -> Result<KeyConfig, KeysError> {
    let mut config = KeyConfig::named(name)?;
    config.global = limits(&create.global.unwrap_or_default())?;
    config.assets = assets(&create.assets)?;
    config.budget = create.budget.map(Credits::from_millionths).transpose()?;
    config.expires_at = create.expires_at.map(instant);
    Ok(config)
}

/// The asset of a call.
pub(crate) fn asset(call: &replay::Call) -> Result<Option<AssetId>, KeysError> {
    Ok(call.asset.as_deref().map(AssetId::new).transpose()?)
}

/// What a call costs.
pub(crate) fn charge(call: &replay::Call) -> Result<Charge, KeysError> {
    let charge = Charge::request()
        .with_requests(call.requests)?
        .with_tokens(call.input, call.output)?
        .with_credits(Credits::from_millionths(call.credits)?);
    Ok(charge)
}

/// An instant of the replay format, which is never before 1970.
pub(crate) fn instant(unix_ms: u64) -> Timestamp {
    Timestamp::from_unix_ms(i64::try_from(unix_ms).unwrap_or(i64::MAX))
}

/// Limits that say nothing are none: such an asset does not count towards the most that a key may have.
fn assets(written: &replay::Assets) -> Result<BTreeMap<AssetId, Limits>, InvalidValue> {
    let mut assets = BTreeMap::new();
    for (id, written) in written {
        let limits = limits(&written.unwrap_or_default())?;
        if !limits.is_none() {
            assets.insert(AssetId::new(id)?, limits);
        }
    }
    match assets.len() {
        // Before anything else is looked at, as every bound is.
        count if count > KeyConfig::MAX_ASSETS => {
            Err(InvalidValue::TooManyAssets { count, max: KeyConfig::MAX_ASSETS })
        }
        _ => Ok(assets),
    }
}

fn limits(written: &replay::Limits) -> Result<Limits, InvalidValue> {
    Limits::builder()
        .requests_per_minute(written.requests_per_minute)
        .requests_per_day(written.requests_per_day)
        .tokens_per_minute(written.tokens_per_minute)
        .tokens_per_day(written.tokens_per_day)
        .token_type(match written.token_type {
            replay::TokenType::Total => TokenType::Total,
            replay::TokenType::Output => TokenType::Output,
            replay::TokenType::Input => TokenType::Input,
        })
        .build()
}
