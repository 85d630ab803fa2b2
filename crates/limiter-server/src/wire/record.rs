//! A key as the wire has it, and the configuration that it asks for.

use std::collections::BTreeMap;

use limiter::{AccessKey, AssetId, KeyConfig, KeyKind, KeyName, KeyRecord, Limits, TokenType};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{amount, expiry};
use crate::models::Models;
use crate::refusal::Refusal;

/// What a client says of a key. What it leaves out is cleared; what it says beyond this, its id for one, is not looked at.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct KeyRequest {
    name: KeyName,
    budget: Option<Value>,
    expires_at: Option<String>,
    global_limits: Option<LimitsRequest>,
    assets_limits: Option<Vec<LimitsRequest>>,
    is_admin: Option<bool>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct LimitsRequest {
    tpm: Option<Value>,
    tpd: Option<Value>,
    rpm: Option<Value>,
    rpd: Option<Value>,
    token_type: Option<TokenType>,
    asset_id: Option<String>,
}

/// A key as clients see it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct KeyAnswer {
    id: String,
    name: String,
    access_key: Option<String>,
    pub(crate) is_admin: bool,
    budget: Option<Value>,
    expires_at: Option<String>,
    global_limits: Option<LimitsAnswer>,
    assets_limits: Vec<LimitsAnswer>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct LimitsAnswer {
    tpm: u64,
    tpd: u64,
    rpm: u64,
    rpd: u64,
    token_type: Option<TokenType>,
    #[serde(skip_serializing_if = "Option::is_none")]
    asset_id: Option<AssetId>,
}

impl KeyRequest {
    pub(crate) fn kind(&self) -> KeyKind {
        if self.is_admin == Some(true) { KeyKind::Admin } else { KeyKind::Member }
    }

    /// The whole configuration of the key.
    pub(crate) fn config(self, models: &Models) -> Result<KeyConfig, Refusal> {
        let mut assets = BTreeMap::new();
        for asset in self.assets_limits.unwrap_or_default() {
            let limits = asset.limits("assetsLimits")?;
            let id = asset.asset_id.filter(|id| !id.is_empty()).ok_or_else(|| {
                Refusal::malformed(
                    "an entry of assetsLimits has no assetId: name the model that it limits",
                )
            })?;
            let id = models.asset(&id)?;
            if assets.insert(id.clone(), limits).is_some() {
                return Err(Refusal::malformed(format!("assetsLimits names {id:?} twice")));
            }
        }
        let global = self.global_limits.map(|limits| limits.limits("globalLimits")).transpose()?;
        let budget = self.budget.filter(|budget| !budget.is_null());
        Ok(KeyConfig {
            global: global.unwrap_or_default(),
            assets,
            budget: budget.map(|budget| amount::credits("budget", &budget)).transpose()?,
            expires_at: match self.expires_at.as_deref() {
                None | Some("") => None,
                Some(text) => Some(expiry::read(text)?),
            },
            ..KeyConfig::new(self.name)
        })
    }
}

impl LimitsRequest {
    fn limits(&self, of: &str) -> Result<Limits, Refusal> {
        let limit = |name: &str, value: &Option<Value>| {
            amount::limit(&format!("{name} of {of}"), value.as_ref())
        };
        let limits = Limits::builder()
            .tokens_per_minute(limit("tpm", &self.tpm)?)
            .tokens_per_day(limit("tpd", &self.tpd)?)
            .requests_per_minute(limit("rpm", &self.rpm)?)
            .requests_per_day(limit("rpd", &self.rpd)?)
            .token_type(self.token_type.unwrap_or_default());
        Ok(limits.build()?)
    }
}

impl KeyAnswer {
    /// A key that was read: its access key is masked.
    pub(crate) fn of(record: &KeyRecord) -> Result<Self, Refusal> {
        let config = record.config();
        let named = |what: &str| format!("the key {:?} has {what}", record.name.as_str());
        let global = LimitsAnswer::of(&config.global, None)
            .map_err(|limit| unshowable(&named(&format!("a limit of 0 {limit} over all calls"))))?;
        let mut assets = Vec::new();
        for (id, limits) in &config.assets {
            assets.push(LimitsAnswer::of(limits, Some(id)).map_err(|limit| {
                unshowable(&named(&format!("a limit of 0 {limit} for the asset {:?}", id.as_str())))
            })?);
        }
        let expires_at = record.expires_at.map(|at| {
            expiry::write(at).ok_or_else(|| unshowable(&named(&format!("the expiry {at}"))))
        });
        Ok(Self {
            id: record.id.to_string(),
            name: record.name.to_string(),
            access_key: record.access_key.map(|masked| masked.to_string()),
            is_admin: record.kind == KeyKind::Admin,
            budget: record.budget.map(amount::number),
            expires_at: expires_at.transpose()?,
            global_limits: (!config.global.is_none()).then_some(global),
            assets_limits: assets,
        })
    }

    /// The same with the whole access key, as it is shown once.
    pub(crate) fn with_access_key(self, access_key: Option<&AccessKey>) -> Self {
        let whole = access_key.map(|access_key| access_key.expose().to_owned());
        Self { access_key: whole.or(self.access_key), ..self }
    }
}

impl LimitsAnswer {
    /// The limits with 0 for none, or the name of one that is 0 and so allows nothing.
    fn of(limits: &Limits, asset: Option<&AssetId>) -> Result<Self, &'static str> {
        let shown = |what, limit: Option<u64>| match limit {
            Some(0) => Err(what),
            limit => Ok(limit.unwrap_or(0)),
        };
        let counts_tokens =
            limits.tokens_per_minute().or_else(|| limits.tokens_per_day()).is_some();
        Ok(Self {
            tpm: shown("tokens per minute", limits.tokens_per_minute())?,
            tpd: shown("tokens per day", limits.tokens_per_day())?,
            rpm: shown("requests per minute", limits.requests_per_minute())?,
            rpd: shown("requests per day", limits.requests_per_day())?,
            token_type: counts_tokens.then(|| limits.token_type()),
            asset_id: asset.cloned(),
        })
    }
}

/// On this wire 0 means no limit, so that one of 0 would look like its opposite.
pub(crate) fn unshowable(what: &str) -> Refusal {
    Refusal::conflict(format!("{what}, which cannot be shown here: change it with another client"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn config(request: Value) -> Result<KeyConfig, Refusal> {
        let request: KeyRequest = serde_json::from_value(request).unwrap();
        request.config(&Models::new(Models::built_in().unwrap()).unwrap())
    }

    #[test]
    fn what_is_left_out_is_cleared() {
        let config = config(json!({"name": "ci"})).unwrap();
        assert_eq!(config, KeyConfig::named("ci").unwrap());
    }

    #[test]
    fn zero_means_no_limit() {
        let limits = json!({"tpm": 0, "tpd": 0, "rpm": 2, "rpd": 0, "tokenType": null});
        let config = config(json!({"name": "ci", "globalLimits": limits})).unwrap();
        assert_eq!(config.global, Limits::builder().requests_per_minute(2).build().unwrap());
    }

    #[test]
    fn a_path_of_a_model_limits_the_model() {
        let limits = json!({"rpm": 1, "assetId": "openai/gpt-5/openai"});
        let config = config(json!({"name": "ci", "assetsLimits": [limits]})).unwrap();
        assert!(config.assets.keys().all(|id| id.as_str() == "6895d6d1d50c89537c1cf237"));
    }

    #[test]
    fn a_model_is_limited_once() {
        let limits = json!({"rpm": 1, "assetId": "gpt"});
        assert!(config(json!({"name": "ci", "assetsLimits": [limits, limits]})).is_err());
        assert!(config(json!({"name": "ci", "assetsLimits": [{"rpm": 1}]})).is_err());
    }
}
