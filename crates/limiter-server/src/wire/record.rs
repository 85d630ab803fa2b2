//! A key as the wire has it, and the configuration that it asks for.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::iter;

use limiter::__private::Object;
use limiter::{
    AccessKey, AssetId, Credits, KeyConfig, KeyKind, KeyName, KeyRecord, Limit, Limits, Other,
    ScopeId, Unit, Window,
};
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::tokens::{TokenType, WINDOWS};
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

/// Limits of all calls, or of one asset: as sent, or as answered.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct WireLimits<N, A> {
    tpm: N,
    tpd: N,
    rpm: N,
    rpd: N,
    token_type: Option<TokenType>,
    #[serde(skip_serializing_if = "Option::is_none")]
    asset_id: Option<A>,
}

type LimitsRequest = WireLimits<Option<Value>, String>;
type LimitsAnswer = WireLimits<u64, AssetId>;

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

impl KeyRequest {
    pub(crate) fn kind(&self) -> KeyKind {
        if self.is_admin == Some(true) { KeyKind::Admin } else { KeyKind::Member }
    }

    /// Returns the configuration of a new key.
    pub(crate) fn config(&self, models: &Models) -> Result<KeyConfig, Refusal> {
        let new = KeyConfig::new(self.name.clone());
        self.over(&new, &new, models)
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
        self.over(&record.config, &shown(record), models)
    }

    /// Returns the configuration of a key after this update, from its own and the one that it shows: with a plan they differ.
    fn over(
        &self,
        current: &KeyConfig,
        shown: &KeyConfig,
        models: &Models,
    ) -> Result<KeyConfig, Refusal> {
        let (has_plan, mut assets) = (current.plan.is_some(), BTreeMap::new());
        for Object(entry) in self.assets_limits.iter().flatten() {
            let id = entry.asset(shown, models)?;
            let of = |config: &KeyConfig| config.assets.get(&id).cloned().unwrap_or_default();
            let limits = entry.over("assetsLimits", &of(current), &of(shown), has_plan)?;
            if assets.insert(id.clone(), limits).is_some() {
                return Err(Refusal::malformed(format!("assetsLimits names {id:?} twice")));
            }
        }
        // An asset that the plan alone lists stays the plan's.
        let is_own =
            |id: &AssetId| current.assets.contains_key(id) || !shown.assets.contains_key(id);
        assets.retain(|id, limits| *limits != Limits::NONE || is_own(id));
        for (id, limits) in &current.assets {
            let kept = LimitsRequest::NONE.over("assetsLimits", limits, limits, has_plan)?;
            if kept != Limits::NONE {
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
            limits => {
                let limits = limits.as_ref().map_or(&LimitsRequest::NONE, |Object(limits)| limits);
                limits.over("globalLimits", &current.global, &shown.global, has_plan)?
            }
        };
        let budget = self.budget.as_ref().filter(|budget| !budget.is_null());
        let budget = budget.map(|budget| amount::credits("budget", budget)).transpose()?;
        // A budget that is sent back as shown stays, even if it was shown rounded.
        let is_as_shown = budget.map(amount::number) == shown.budget().map(amount::number);
        let global = match is_as_shown {
            true => global,
            false => global.to_builder().credits_ever(budget).build()?,
        };
        Ok(KeyConfig {
            name: self.name.clone(),
            global,
            assets,
            expires_at: match self.expires_at.as_deref() {
                None | Some("") => None,
                Some(text) => Some(expiry::read(text)?),
            },
            ..current.clone()
        })
    }
}

impl LimitsRequest {
    /// Says nothing.
    const NONE: Self =
        Self { tpm: None, tpd: None, rpm: None, rpd: None, token_type: None, asset_id: None };

    /// Returns the limits after an update of the current ones. Limits that this wire cannot express stay, and so do those that
    /// are sent back as shown. A limit of 0 stays until another limit replaces it: a 0 on this wire means no limit, and must not
    /// lift it by mistake.
    ///
    /// Of a key with a plan, `shown` has the limits of the plan too. One that is left out falls back to the plan's, and a 0 in
    /// its place lifts the plan's.
    fn over(
        &self,
        of: &str,
        current: &Limits,
        shown: &Limits,
        has_plan: bool,
    ) -> Result<Limits, Refusal> {
        let before = shown_type(shown).unit();
        let tokens = self.token_type.unwrap_or(TokenType::Total).unit();
        let [tpm, tpd, rpm, rpd] = NAMES;
        let mut limits = current.to_builder();
        for (name, value, window, before, unit) in [
            (tpm, &self.tpm, Window::Minute, before, tokens),
            (tpd, &self.tpd, Window::Day, before, tokens),
            (rpm, &self.rpm, Window::Minute, Unit::Requests, Unit::Requests),
            (rpd, &self.rpd, Window::Day, Unit::Requests, Unit::Requests),
        ] {
            let said = amount::limit(&format!("{name} of {of}"), value.as_ref())?;
            let is_left_out = value.as_ref().is_none_or(Value::is_null);
            for replaced in [before, unit] {
                let seen = shown.get(window, replaced);
                let is_zero = seen == Some(0) && said.is_none();
                let stays = is_zero || seen.is_none() || replaced == unit && seen == said;
                limits = match (stays, has_plan && !is_left_out) {
                    (true, _) => limits,
                    (false, true) => limits.unlimited(window, replaced),
                    (false, false) => limits.limit(window, replaced, None),
                };
            }
            if said.is_some() && said != shown.get(window, unit) {
                limits = limits.limit(window, unit, said);
            }
        }
        Ok(limits.build()?)
    }

    /// Finds the asset of an entry: a model of this server, by its id or path, or an asset that the key already lists.
    fn asset(&self, shown: &KeyConfig, models: &Models) -> Result<AssetId, Refusal> {
        let named = self.asset_id.as_deref().filter(|id| !id.is_empty()).ok_or_else(|| {
            Refusal::malformed(
                "an entry of assetsLimits has no assetId: name the model that it limits",
            )
        })?;
        if let Some(model) = models.find(named) {
            return Ok(model.id.clone());
        }
        match shown.assets.get_key_value(named) {
            Some((id, _)) => Ok(id.clone()),
            None => Err(Refusal::malformed(format!(
                "unknown model {:?} in assetsLimits: name a model of this server by its id or path",
                shortened(named)
            ))),
        }
    }
}

/// The names of the limits of a scope, in the order of [`amounts`].
const NAMES: [&str; 4] = ["tpm", "tpd", "rpm", "rpd"];

/// Returns the limits of a scope that a record shows.
fn amounts(of: &Limits) -> [Option<u64>; 4] {
    let [tokens, requests] = [shown_type(of).unit(), Unit::Requests]
        .map(|unit| WINDOWS.map(|window| of.get(window, unit)));
    let ([tpm, tpd], [rpm, rpd]) = (tokens, requests);
    [tpm, tpd, rpm, rpd]
}

fn shown_type(of: &Limits) -> TokenType {
    TokenType::shown(|window, unit| of.get(window, unit).is_some())
}

/// Returns the configuration that a record shows: of a key with a plan, with the limits of the plan that it has last taken, in
/// force or pending. Assets that the plan lists without limits are left out.
fn shown(record: &KeyRecord) -> Cow<'_, KeyConfig> {
    let KeyRecord { config, limits, .. } = record;
    if config.plan.is_none() {
        return Cow::Borrowed(config);
    }
    let mut shown = KeyConfig { global: Limits::NONE, ..config.clone() };
    shown.assets.values_mut().for_each(|limits| *limits = Limits::NONE);
    for of in limits {
        let comes = |limit: &Limit| of.pending.iter().any(|it| it.window == limit.window);
        let pending = of.pending.iter().flat_map(|pending| pending.limits.iter());
        let limits: Limits =
            of.in_force.iter().filter(|limit| !comes(limit)).chain(pending).collect();
        let limits = limits.with_parallel(of.in_force.parallel());
        match &of.scope.asset {
            _ if limits.is_none() => {}
            Some(asset) => drop(shown.assets.insert(asset.clone(), limits)),
            None if of.scope == ScopeId::GLOBAL => shown.global = limits,
            None if shown.other != Other::Denied => shown.other = Other::Limited(limits),
            // Denied at once, whatever is still counted.
            None => {}
        }
    }
    Cow::Owned(shown)
}

/// Returns the limits of a scope that a record does not show. The budget has a field of its own.
fn hidden(of: &Limits) -> Limits {
    let units = [shown_type(of).unit(), Unit::Requests];
    let is_shown = |limit: &Limit| {
        WINDOWS.contains(&limit.window) && units.contains(&limit.unit)
            || (limit.window, limit.unit) == (Window::Ever, Unit::Credits)
    };
    let kept: Limits = of.iter().filter(|limit| !is_shown(limit)).collect();
    kept.with_parallel(of.parallel())
}

impl KeyAnswer {
    /// A key that was read: its access key is masked.
    pub(crate) fn of(record: &KeyRecord) -> Self {
        let config = &shown(record);
        let assets = config.assets.iter();
        Self {
            id: record.id.to_string(),
            name: config.name.to_string(),
            access_key: record.access_key.map(|masked| masked.to_string()),
            is_admin: record.kind == KeyKind::Admin,
            budget: config.budget().map(amount::number),
            expires_at: config.expires_at.map(expiry::write),
            not_shown: not_shown(config),
            global_limits: amounts(&config.global)
                .iter()
                .any(Option::is_some)
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
        let [tpm, tpd, rpm, rpd] = amounts(limits).map(Option::unwrap_or_default);
        let token_type = shown_type(limits).answered();
        Self { tpm, tpd, rpm, rpd, token_type, asset_id: asset.cloned() }
    }
}

/// Describes each setting that the record shows inexactly, in one sentence each.
fn not_shown(config: &KeyConfig) -> Vec<String> {
    let mut sentences = Vec::new();
    if let Some(plan) = &config.plan {
        sentences.push(format!(
            "the key has the plan {plan:?}, which stays: limits that are sent back as shown or left out are the plan's, others \
             become the key's own, and 0 in place of a limit of the plan lifts it"
        ));
    }
    let all = iter::once((None, &config.global));
    for (asset, limits) in all.chain(config.assets.iter().map(|(id, limits)| (Some(id), limits))) {
        let scope =
            asset.map_or_else(|| "globalLimits".to_owned(), |id| format!("the limits of {id:?}"));
        for (name, limit) in NAMES.into_iter().zip(amounts(limits)) {
            if limit == Some(0) {
                sentences.push(format!(
                    "{name} of {scope} is a limit of 0: it allows nothing, and stays until it is set to 1 or more. Every \
                     other 0 here means no limit"
                ));
            }
        }
        let hidden = hidden(limits);
        if !hidden.is_none() {
            sentences.push(format!("{scope} has more, which stay: {hidden}"));
        }
    }
    match &config.other {
        Other::Denied => sentences.push("models that assetsLimits does not list are denied".into()),
        Other::Limited(limits) if !limits.is_none() => sentences
            .push(format!("models that assetsLimits does not list have, together: {limits}")),
        Other::Limited(_) => {}
    }
    if !config.time_zone.is_utc() {
        sentences.push(format!("days are those of {}", config.time_zone));
    }
    if let Some(at) = config.expires_at.filter(|at| at.check("expiresAt").is_err()) {
        sentences
            .push(format!("expiresAt is {at}, and shown as the nearest date from 1970 to 9999"));
    }
    let rounded =
        |budget: Credits| amount::credits("budget", &amount::number(budget)).ok() != Some(budget);
    if let Some(budget) = config.budget().filter(|budget| rounded(*budget)) {
        sentences
            .push(format!("budget is {budget} credits, and shown rounded to the nearest float"));
    }
    sentences
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const MINI: &str = "669a63646eb56306647e1091";
    const GPT_5: &str = "6895d6d1d50c89537c1cf237";

    fn named(name: &str) -> KeyConfig {
        KeyConfig::named(name).unwrap()
    }

    /// Returns the configuration after a PUT of a key with this name.
    fn put(current: &KeyConfig, mut json: Value) -> Result<KeyConfig, String> {
        json["name"] = current.name.to_string().into();
        let request: KeyRequest = serde_json::from_value(json).unwrap();
        let models = Models::new(Models::built_in()).unwrap();
        request.over(current, current, &models).map_err(|refusal| refusal.message)
    }

    fn scope([tpm, tpd, rpm, rpd]: [Option<u64>; 4], token_type: TokenType) -> Limits {
        let tokens = Limits::builder().limit(Window::Minute, token_type.unit(), tpm).limit(
            Window::Day,
            token_type.unit(),
            tpd,
        );
        tokens.requests_per_minute(rpm).requests_per_day(rpd).build().unwrap()
    }

    fn total(amounts: [Option<u64>; 4]) -> Limits {
        scope(amounts, TokenType::Total)
    }

    #[test]
    fn a_new_key_has_the_limits_that_are_not_zero_by_the_id_of_the_model() {
        let global = json!({"tpm": 0, "tpd": 0, "rpm": 2, "rpd": 0, "tokenType": null});
        let two = total([None, None, Some(2), None]);
        let of_asset = |asset: &str| json!({"rpm": 2, "assetId": asset});
        let gpt_5 = GPT_5.parse().unwrap();
        for (json, expected) in [
            (json!({}), named("ci")),
            (json!({"globalLimits": global}), named("ci").with_global(two.clone())),
            (
                json!({"assetsLimits": [of_asset("openai/gpt-5/openai")]}),
                named("ci").with_asset(gpt_5, two),
            ),
        ] {
            assert_eq!(put(&named("ci"), json.clone()).unwrap(), expected, "{json}");
        }
        for (assets, message) in [
            (json!([of_asset(GPT_5), of_asset("openai/gpt-5/openai")]), "twice"),
            (json!([{"rpm": 1}]), "has no assetId"),
            (json!([of_asset("gpt")]), "unknown model \"gpt\""),
        ] {
            let refused = put(&named("ci"), json!({"assetsLimits": assets})).unwrap_err();
            assert!(refused.contains(message), "{refused}");
        }
    }

    #[test]
    fn an_asset_that_is_no_model_is_accepted_if_the_key_has_it() {
        let one = total([None, None, Some(1), None]);
        let current =
            named("ci").with_asset("gpt".parse().unwrap(), total([None, None, None, Some(5)]));
        let after = put(&current, json!({"assetsLimits": [{"rpm": 1, "assetId": "gpt"}]})).unwrap();
        assert_eq!(after, named("ci").with_asset("gpt".parse().unwrap(), one));
        assert_eq!(put(&current, json!({})).unwrap(), named("ci"), "it was shown, and left out");
    }

    #[test]
    fn a_put_keeps_settings_that_this_wire_cannot_express() {
        let of_asset = scope([None, Some(0), None, None], TokenType::Output);
        let kept = named("ci")
            .with_thresholds("50".parse().unwrap())
            .with_shadow(true)
            .with_asset(MINI.parse().unwrap(), of_asset);
        let current = kept.clone().with_global(total([None, None, Some(5), Some(0)]));
        let cleared = kept.clone().with_global(total([None, None, None, Some(0)]));
        let replaced = kept.with_global(total([None, None, None, Some(3)]));
        let zeros = json!({"tpm": 0, "tpd": 0, "rpm": 5, "rpd": 0, "tokenType": null});
        let of_asset = json!({"tpm": 0, "tpd": 0, "rpm": 0, "rpd": 0, "assetId": MINI});
        let shown = json!({"globalLimits": zeros, "assetsLimits": [of_asset]});
        for (json, expected) in [
            (json!({}), &cleared),
            (shown, &current),
            (json!({"globalLimits": {"rpd": 3}}), &replaced),
        ] {
            assert_eq!(&put(&current, json.clone()).unwrap(), expected, "{json}");
        }
    }

    #[test]
    fn a_put_keeps_other_windows_other_units_and_other_assets() {
        let limits = Limits::builder()
            .requests_per_minute(5)
            .requests_per_hour(50)
            .tokens_per_day(900)
            .output_tokens_per_day(300)
            .credits_per_month("12.50".parse::<Credits>().unwrap());
        let of_model = Limits::builder().input_tokens_per_minute(7).requests_per_week(8);
        let (limits, of_model) = (limits.build().unwrap(), of_model.build().unwrap());
        let current = named("ci")
            .with_global(limits.clone())
            .with_asset(MINI.parse().unwrap(), of_model.clone())
            .with_other(Other::Denied)
            .with_time_zone("Europe/Berlin".parse().unwrap());
        assert_eq!(not_shown(&current).len(), 4, "{:?}", not_shown(&current));
        let shown = json!({
            "globalLimits": {"tpm": 0, "tpd": 900, "rpm": 5, "rpd": 0, "tokenType": null},
            "assetsLimits": [{"tpm": 7, "tpd": 0, "rpm": 0, "rpd": 0, "tokenType": "input", "assetId": MINI}],
        });
        let answer = |limits| serde_json::to_value(LimitsAnswer::of(limits, None)).unwrap();
        assert_eq!(answer(&current.global), shown["globalLimits"]);
        assert_eq!(put(&current, shown).unwrap(), current, "what was read was sent back");

        let kept = limits.to_builder().requests_per_minute(None).tokens_per_day(None);
        let of_model = of_model.to_builder().input_tokens_per_minute(None).build().unwrap();
        let cleared = KeyConfig { global: kept.build().unwrap(), ..current.clone() };
        let cleared = cleared.with_asset(MINI.parse().unwrap(), of_model);
        assert_eq!(put(&current, json!({})).unwrap(), cleared);

        let output = json!({"globalLimits": {"tpm": 4, "tokenType": "output"}});
        let after = put(&current, output).unwrap().global;
        let expected = limits
            .to_builder()
            .requests_per_minute(None)
            .tokens_per_day(None)
            .output_tokens_per_day(None)
            .output_tokens_per_minute(4);
        assert_eq!(after, expected.build().unwrap(), "the type of the tokens was changed");
    }

    #[test]
    fn a_put_keeps_the_plan_and_what_comes_back_as_shown_stays_the_plans() {
        let own = named("ci").with_plan("free".parse().unwrap());
        let own = own.with_global(total([None, None, Some(5), None]));
        let model = MINI.parse::<AssetId>().unwrap();
        let of_plan = total([Some(100), None, Some(5), Some(50)]);
        let shown = own.clone().with_global(of_plan);
        let shown = shown.with_budget("9".parse().unwrap());
        let shown = shown.with_asset(model.clone(), total([None, None, Some(7), None]));
        let put = |mut json: Value| {
            json["name"] = "ci".into();
            let request: KeyRequest = serde_json::from_value(json).unwrap();
            request.over(&own, &shown, &Models::new(Models::built_in()).unwrap()).unwrap()
        };
        let of_asset = |rpm| json!({"tpm": 0, "tpd": 0, "rpm": rpm, "rpd": 0, "assetId": MINI});
        let global = |tpm, rpm, rpd| json!({"tpm": tpm, "tpd": 0, "rpm": rpm, "rpd": rpd});
        let as_shown = json!({
            "budget": 9, "globalLimits": global(100, 5, 50), "assetsLimits": [of_asset(7)],
        });
        assert_eq!(put(as_shown.clone()), own);
        let mut cleared = own.clone();
        cleared.global = Limits::NONE;
        assert_eq!(put(json!({})), cleared, "the plan's limits hold");

        let mut lifted = as_shown.clone();
        lifted["globalLimits"] = global(0, 0, 60);
        let lifts = Limits::builder()
            .unlimited(Window::Minute, Unit::Tokens)
            .unlimited(Window::Minute, Unit::Requests)
            .requests_per_day(60);
        assert_eq!(put(lifted).global, lifts.build().unwrap());

        let mut of_model = as_shown;
        (of_model["budget"], of_model["assetsLimits"]) = (json!(8), json!([of_asset(6)]));
        let expected = own.clone().with_asset(model, total([None, None, Some(6), None]));
        assert_eq!(put(of_model), expected.with_budget("8".parse().unwrap()));
        assert!(not_shown(&own)[0].contains("the plan \"free\""), "{:?}", not_shown(&own));
    }

    #[test]
    fn a_budget_that_is_shown_rounded_is_kept_when_it_comes_back() {
        let budget = Credits::from_millionths(8_589_934_592_000_001).unwrap();
        let current = named("ci").with_budget(budget);
        let shown = amount::number(budget);
        assert_eq!(put(&current, json!({"budget": shown})).unwrap(), current);
        assert_eq!(not_shown(&current).len(), 1);
        let after = put(&current, json!({"budget": 5})).unwrap();
        assert_eq!(after.budget(), "5".parse().ok());
    }

    #[test]
    fn null_and_total_are_the_same_and_come_back_as_null() {
        for (said, shown) in [
            (json!(null), json!(null)),
            (json!("total"), json!(null)),
            (json!("input"), json!("input")),
            (json!("output"), json!("output")),
        ] {
            let json = json!({"globalLimits": {"tpd": 5, "tokenType": said}});
            let config = put(&named("ci"), json).unwrap();
            let answer = serde_json::to_value(LimitsAnswer::of(&config.global, None)).unwrap();
            assert_eq!(answer["tokenType"], shown, "{said}");
        }
    }
}
