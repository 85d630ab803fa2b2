//! A key as the wire has it, and the configuration that it asks for.

use std::collections::BTreeMap;
use std::iter;

use limiter::__private::Object;
use limiter::{
    AccessKey, AssetId, Credits, KeyConfig, KeyKind, KeyName, KeyRecord, Limits, TokenType,
};
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{amount, expiry};
use crate::models::Models;
use crate::refusal::{Refusal, shortened};

/// The record that a client sends. A missing field clears the setting. An unknown field is refused, since a misspelled
/// limit would have no effect.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[expect(dead_code, reason = "some fields are accepted and not used")]
pub(crate) struct KeyRequest {
    name: KeyName,
    budget: Option<Value>,
    expires_at: Option<String>,
    global_limits: Option<Object<LimitsRequest>>,
    assets_limits: Option<Vec<Object<LimitsRequest>>>,
    is_admin: Option<bool>,
    /// Ignored: the path of an update names the key. The SDK sends it; its first version sends `""` on create.
    id: Option<IgnoredAny>,
    /// Ignored: clients send it back with a record that they have read.
    access_key: Option<IgnoredAny>,
    /// Ignored for the same reason.
    not_shown: Option<IgnoredAny>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
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
    /// Sentences on settings that this wire cannot express. The SDK ignores them; people read them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    not_shown: Vec<String>,
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

    /// Returns the configuration of a new key.
    pub(crate) fn config(&self, models: &Models) -> Result<KeyConfig, Refusal> {
        self.over(&KeyConfig::new(self.name.clone()), models)
    }

    /// Returns the configuration of a key after this update. Settings that this wire can express are replaced, others
    /// kept.
    pub(crate) fn replacing(
        &self,
        record: &KeyRecord,
        models: &Models,
    ) -> Result<KeyConfig, Refusal> {
        let is_admin = record.kind == KeyKind::Admin;
        if self.is_admin.is_some_and(|said| said != is_admin) {
            let message = format!(
                "isAdmin is {is_admin} for this key and cannot be changed: create another key instead"
            );
            return Err(Refusal::malformed(message));
        }
        self.over(&record.config(), models)
    }

    fn over(&self, current: &KeyConfig, models: &Models) -> Result<KeyConfig, Refusal> {
        let mut assets = BTreeMap::new();
        for Object(entry) in self.assets_limits.iter().flatten() {
            let id = entry.asset(current, models)?;
            let limits = entry.over("assetsLimits", current.assets.get(&id))?;
            if assets.insert(id.clone(), limits).is_some() {
                return Err(Refusal::malformed(format!("assetsLimits names {id:?} twice")));
            }
        }
        for (id, limits) in &current.assets {
            let kept = zeros(limits)?;
            if !kept.is_none() {
                assets.entry(id.clone()).or_insert(kept);
            }
        }
        let global = match &self.global_limits {
            Some(Object(LimitsRequest { asset_id: Some(asset), .. })) => {
                return Err(Refusal::malformed(format!(
                    "globalLimits has the assetId {:?}, but limits all calls: move it to assetsLimits",
                    shortened(asset)
                )));
            }
            Some(Object(limits)) => limits.over("globalLimits", Some(&current.global))?,
            None => zeros(&current.global)?,
        };
        let budget = self.budget.as_ref().filter(|budget| !budget.is_null());
        let budget = budget.map(|budget| amount::credits("budget", budget)).transpose()?;
        Ok(KeyConfig {
            name: self.name.clone(),
            global,
            assets,
            // A budget that is sent back as shown stays, even if it was shown rounded.
            budget: match (budget, current.budget) {
                (Some(said), Some(kept)) if amount::number(said) == amount::number(kept) => {
                    Some(kept)
                }
                (said, _) => said,
            },
            expires_at: match self.expires_at.as_deref() {
                None | Some("") => None,
                Some(text) => Some(expiry::read(text)?),
            },
            ..current.clone()
        })
    }
}

impl LimitsRequest {
    /// Returns the limits after an update of the current ones. A limit of 0 stays until another limit replaces it: a 0
    /// on this wire means no limit, and must not lift it by mistake.
    fn over(&self, of: &str, current: Option<&Limits>) -> Result<Limits, Refusal> {
        let zeros = current.map_or(Ok(Limits::NONE), zeros)?;
        let limit = |name: &str, value: &Option<Value>, zero: Option<u64>| {
            let said = amount::limit(&format!("{name} of {of}"), value.as_ref())?;
            Ok::<_, Refusal>(said.or(zero))
        };
        let tokens_per_minute = limit("tpm", &self.tpm, zeros.tokens_per_minute())?;
        let tokens_per_day = limit("tpd", &self.tpd, zeros.tokens_per_day())?;
        let says_tokens = tokens_per_minute.max(tokens_per_day) > Some(0);
        let token_type = self
            .token_type
            .unwrap_or_else(|| if says_tokens { TokenType::Total } else { zeros.token_type() });
        let limits = Limits::builder()
            .tokens_per_minute(tokens_per_minute)
            .tokens_per_day(tokens_per_day)
            .requests_per_minute(limit("rpm", &self.rpm, zeros.requests_per_minute())?)
            .requests_per_day(limit("rpd", &self.rpd, zeros.requests_per_day())?)
            .token_type(token_type);
        Ok(limits.build()?)
    }

    /// Finds the asset of an entry: a model of this server, by its id or path, or an asset that the key already lists.
    fn asset(&self, current: &KeyConfig, models: &Models) -> Result<AssetId, Refusal> {
        let named = self.asset_id.as_deref().filter(|id| !id.is_empty()).ok_or_else(|| {
            Refusal::malformed(
                "an entry of assetsLimits has no assetId: name the model that it limits",
            )
        })?;
        if let Some(model) = models.find(named) {
            return Ok(model.id.clone());
        }
        match current.assets.get_key_value(named) {
            Some((id, _)) => Ok(id.clone()),
            None => Err(Refusal::malformed(format!(
                "unknown model {:?} in assetsLimits: name a model of this server by its id or path",
                shortened(named)
            ))),
        }
    }
}

/// Returns only the limits of 0. They allow nothing, which this wire cannot express.
fn zeros(limits: &Limits) -> Result<Limits, Refusal> {
    let zero = |limit: Option<u64>| limit.filter(|limit| *limit == 0);
    let zeros = Limits::builder()
        .tokens_per_minute(zero(limits.tokens_per_minute()))
        .tokens_per_day(zero(limits.tokens_per_day()))
        .requests_per_minute(zero(limits.requests_per_minute()))
        .requests_per_day(zero(limits.requests_per_day()))
        .token_type(limits.token_type());
    Ok(zeros.build()?)
}

impl KeyAnswer {
    /// A key that was read: its access key is masked.
    pub(crate) fn of(record: &KeyRecord) -> Self {
        let config = record.config();
        let assets = config.assets.iter();
        Self {
            id: record.id.to_string(),
            name: record.name.to_string(),
            access_key: record.access_key.map(|masked| masked.to_string()),
            is_admin: record.kind == KeyKind::Admin,
            budget: record.budget.map(amount::number),
            expires_at: record.expires_at.map(expiry::write),
            not_shown: not_shown(&config),
            global_limits: (!config.global.is_none())
                .then(|| LimitsAnswer::of(&config.global, None)),
            assets_limits: assets.map(|(id, limits)| LimitsAnswer::of(limits, Some(id))).collect(),
        }
    }

    /// The same with the whole access key, as it is shown once.
    pub(crate) fn with_access_key(self, access_key: Option<&AccessKey>) -> Self {
        let whole = access_key.map(|access_key| access_key.expose().to_owned());
        Self { access_key: whole.or(self.access_key), ..self }
    }
}

impl LimitsAnswer {
    /// Renders limits, with 0 for no limit. A limit of 0 is rendered as 0 too, and `notShown` explains it.
    fn of(limits: &Limits, asset: Option<&AssetId>) -> Self {
        Self {
            tpm: limits.tokens_per_minute().unwrap_or(0),
            tpd: limits.tokens_per_day().unwrap_or(0),
            rpm: limits.requests_per_minute().unwrap_or(0),
            rpd: limits.requests_per_day().unwrap_or(0),
            // Null means the total.
            token_type: Some(limits.token_type()).filter(|kind| *kind != TokenType::Total),
            asset_id: asset.cloned(),
        }
    }
}

/// Describes each setting that the record shows inexactly, in one sentence each.
fn not_shown(config: &KeyConfig) -> Vec<String> {
    let mut sentences = Vec::new();
    let all = iter::once((None, &config.global));
    for (asset, limits) in all.chain(config.assets.iter().map(|(id, limits)| (Some(id), limits))) {
        let scope =
            asset.map_or_else(|| "globalLimits".to_owned(), |id| format!("the limits of {id:?}"));
        for (name, limit) in [
            ("tpm", limits.tokens_per_minute()),
            ("tpd", limits.tokens_per_day()),
            ("rpm", limits.requests_per_minute()),
            ("rpd", limits.requests_per_day()),
        ] {
            if limit == Some(0) {
                sentences.push(format!(
                    "{name} of {scope} is a limit of 0: it allows nothing, and stays until it is set to 1 or more. Every \
                     other 0 here means no limit"
                ));
            }
        }
    }
    if let Some(at) = config.expires_at.filter(|at| at.check("expiresAt").is_err()) {
        sentences
            .push(format!("expiresAt is {at}, and shown as the nearest date from 1970 to 9999"));
    }
    let rounded =
        |budget: Credits| amount::credits("budget", &amount::number(budget)).ok() != Some(budget);
    if let Some(budget) = config.budget.filter(|budget| rounded(*budget)) {
        sentences
            .push(format!("budget is {budget} credits, and shown rounded to the nearest float"));
    }
    sentences
}

#[cfg(test)]
mod tests {
    use limiter::config::LimitsBuilder;
    use serde_json::json;

    use super::*;

    fn models() -> Models {
        Models::new(Models::built_in().unwrap()).unwrap()
    }

    fn request(request: Value) -> KeyRequest {
        serde_json::from_value(request).unwrap()
    }

    fn config(json: Value) -> Result<KeyConfig, Refusal> {
        request(json).config(&models())
    }

    /// Returns the configuration after a PUT.
    fn put(current: &KeyConfig, json: Value) -> KeyConfig {
        request(json).over(current, &models()).unwrap()
    }

    fn limits(build: impl FnOnce(LimitsBuilder) -> LimitsBuilder) -> Limits {
        build(Limits::builder()).build().unwrap()
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
        let by_id = json!({"rpm": 1, "assetId": "6895d6d1d50c89537c1cf237"});
        let by_path = json!({"rpm": 1, "assetId": "openai/gpt-5/openai"});
        let twice = config(json!({"name": "ci", "assetsLimits": [by_id, by_path]})).unwrap_err();
        assert!(twice.message.contains("twice"), "{}", twice.message);
        assert!(config(json!({"name": "ci", "assetsLimits": [{"rpm": 1}]})).is_err());
    }

    #[test]
    fn what_is_no_model_is_refused_unless_the_key_has_it() {
        let limited = json!({"rpm": 1, "assetId": "gpt"});
        let request = json!({"name": "ci", "assetsLimits": [limited]});
        let refused = config(request.clone()).unwrap_err();
        assert!(refused.message.contains("unknown model \"gpt\""), "{}", refused.message);
        let current = KeyConfig::named("ci").unwrap();
        let current = current.with_asset("gpt".parse().unwrap(), limits(|l| l.requests_per_day(5)));
        let after = put(&current, request);
        assert_eq!(after.assets.values().next(), Some(&limits(|l| l.requests_per_minute(1))));
        assert_eq!(
            put(&current, json!({"name": "ci"})).assets.len(),
            0,
            "it was shown, and left out"
        );
    }

    #[test]
    fn a_put_keeps_what_this_wire_cannot_say() {
        let mini = "669a63646eb56306647e1091";
        let current = KeyConfig::named("ci")
            .unwrap()
            .with_thresholds("50".parse().unwrap())
            .with_shadow(true)
            .with_global(limits(|l| l.requests_per_day(0).requests_per_minute(5)))
            .with_asset(
                mini.parse().unwrap(),
                limits(|l| l.tokens_per_day(0).token_type(TokenType::Output)),
            );
        let after = put(&current, json!({"name": "ci"}));
        assert_eq!((after.thresholds, after.shadow), (current.thresholds, true));
        assert_eq!(after.global, limits(|l| l.requests_per_day(0)), "the 5 was cleared");
        assert_eq!(after.assets, current.assets);

        let zeros = json!({"tpm": 0, "tpd": 0, "rpm": 5, "rpd": 0, "tokenType": null});
        let mut of_asset = zeros.clone();
        of_asset["assetId"] = json!(mini);
        of_asset["rpm"] = json!(0);
        let shown = json!({"name": "ci", "globalLimits": zeros, "assetsLimits": [of_asset]});
        assert_eq!(put(&current, shown), current, "the record sent back as it was shown");

        let said = json!({"name": "ci", "globalLimits": {"rpd": 3}});
        assert_eq!(put(&current, said).global, limits(|l| l.requests_per_day(3)));
    }

    #[test]
    fn a_budget_that_is_shown_rounded_is_kept_when_it_comes_back() {
        let budget = Credits::from_millionths(8_589_934_592_000_001).unwrap();
        let current = KeyConfig::named("ci").unwrap().with_budget(budget);
        let shown = amount::number(budget);
        assert_eq!(put(&current, json!({"name": "ci", "budget": shown})), current);
        assert_eq!(not_shown(&current).len(), 1);
        assert_eq!(put(&current, json!({"name": "ci", "budget": 5})).budget, "5".parse().ok());
    }

    #[test]
    fn null_and_total_are_the_same_and_come_back_as_null() {
        for (said, shown) in [
            ("null", "null"),
            ("\"total\"", "null"),
            ("\"input\"", "\"input\""),
            ("\"output\"", "\"output\""),
        ] {
            let json = format!(r#"{{"name":"ci","globalLimits":{{"tpd":5,"tokenType":{said}}}}}"#);
            let config = config(serde_json::from_str(&json).unwrap()).unwrap();
            let answer = serde_json::to_value(LimitsAnswer::of(&config.global, None)).unwrap();
            assert_eq!(answer["tokenType"].to_string(), shown, "{said}");
        }
    }
}
