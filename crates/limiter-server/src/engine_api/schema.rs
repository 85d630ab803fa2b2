//! The engine's own JSON, as the OpenAPI document describes it. Nothing here is ever made: the engine's types serialize
//! themselves, and a test holds their answers to this description.
#![expect(dead_code, reason = "they are descriptions")]

use serde::Deserialize;
use utoipa::ToSchema;

/// What a call costs.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Charge)]
pub(crate) struct ChargeSchema {
    /// Requests: 1 if left out, 0 for a top-up of a call that already runs.
    #[schema(required = false, default = 1, maximum = 9007199254740991_u64)]
    requests: u64,
    /// Tokens of the prompt.
    #[schema(required = false, default = 0, maximum = 9007199254740991_u64)]
    input_tokens: u64,
    /// Tokens of the answer.
    #[schema(required = false, default = 0, maximum = 9007199254740991_u64)]
    output_tokens: u64,
    /// Credits: a decimal number in quotes, or a whole number.
    #[schema(required = false, default = "0", pattern = "^[0-9]+([.][0-9]{1,6})?$")]
    credits: String,
}

/// New totals of a call; what is left out stays as estimated.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Totals)]
pub(crate) struct TotalsSchema {
    /// Tokens of the prompt.
    #[schema(maximum = 9007199254740991_u64)]
    input_tokens: Option<u64>,
    /// Tokens of the answer.
    #[schema(maximum = 9007199254740991_u64)]
    output_tokens: Option<u64>,
    /// Credits: a decimal number in quotes, or a whole number.
    #[schema(pattern = "^[0-9]+([.][0-9]{1,6})?$")]
    credits: Option<String>,
}

/// Allowed and charged, or denied and not charged.
#[derive(ToSchema)]
#[schema(as = Decision)]
pub(crate) struct DecisionSchema {
    /// What was decided.
    outcome: OutcomeSchema,
    /// When, by the clock of the store.
    #[schema(format = DateTime)]
    decided_at: Option<String>,
    /// How each rule stands, after the charge if it was allowed, without it if it was denied.
    rules: Option<Vec<RuleStateSchema>>,
    /// Credits spent and the budget.
    credits: Option<CreditUsageSchema>,
    /// Whether the store could not answer and the call was allowed all the same.
    degraded: Option<bool>,
    /// Whether it had been allowed before under the same request id, and was not charged again.
    replayed: Option<bool>,
    /// True if the store could not answer and nothing at all was checked: no charge is known.
    unchecked: Option<bool>,
    /// Thresholds that this charge was the first to cross.
    crossed: Option<Vec<CrossingSchema>>,
    /// In shadow mode: the denial that there would have been.
    shadowed: Option<DeniedSchema>,
    /// Of a denial: why.
    reason: Option<ReasonSchema>,
    /// Of a denial: the key that made the call.
    key: Option<String>,
    /// Of a denial: the asset that was called.
    asset: Option<String>,
    /// Of a denial for the budget: the credits that the call asked for.
    #[schema(pattern = "^[0-9]+([.][0-9]{1,6})?$")]
    asked: Option<String>,
    /// Of a denial for limits: every rule that would have been broken.
    violated: Option<Vec<ViolationSchema>>,
    /// Of a denial for limits: the violated rule that resets last.
    binding: Option<String>,
    /// Of a denial for limits: the charge that was denied.
    charge: Option<ChargeSchema>,
    /// Of a denial for limits: the first instant at which the same charge would be allowed, if there is one.
    #[schema(format = DateTime)]
    retry_at: Option<String>,
    /// Of a denial: all of this in a sentence.
    message: Option<String>,
}

/// A denial, as it would have been.
#[derive(ToSchema)]
#[schema(as = Denied)]
pub(crate) struct DeniedSchema {
    /// When, by the clock of the store.
    #[schema(format = DateTime)]
    decided_at: Option<String>,
    /// Why.
    reason: ReasonSchema,
    /// The key that made the call.
    key: Option<String>,
    /// The asset that was called.
    asset: Option<String>,
    /// Whether the store could not answer.
    degraded: Option<bool>,
    /// For the budget: credits spent and the budget.
    credits: Option<CreditUsageSchema>,
    /// For the budget: the credits that the call asked for.
    #[schema(pattern = "^[0-9]+([.][0-9]{1,6})?$")]
    asked: Option<String>,
    /// For limits: how each rule stands.
    rules: Option<Vec<RuleStateSchema>>,
    /// For limits: every rule that would have been broken.
    violated: Option<Vec<ViolationSchema>>,
    /// For limits: the violated rule that resets last.
    binding: Option<String>,
    /// For limits: the charge that was denied.
    charge: Option<ChargeSchema>,
    /// For limits: the first instant at which the same charge would be allowed, if there is one.
    #[schema(format = DateTime)]
    retry_at: Option<String>,
}

/// A decision, and the id to settle by.
#[derive(ToSchema)]
#[schema(as = Reserved)]
pub(crate) struct ReservedSchema {
    /// The id of the reservation; null if it was denied, or let through in shadow mode: then there is nothing to settle.
    #[schema(required = true)]
    reservation: Option<String>,
    /// The decision.
    decision: DecisionSchema,
}

/// The final charge of a reserved call, for billing.
#[derive(ToSchema)]
#[schema(as = Settled)]
pub(crate) struct SettledSchema {
    /// The asset of the call. Null also if the reservation is not available.
    #[schema(required = true)]
    asset: Option<String>,
    /// The whole charge, not the difference from the estimate. Null only if the outcome is `postponed`.
    #[schema(required = true)]
    charge: Option<ChargeSchema>,
    /// Whether this call ended the reservation.
    outcome: SettledAsSchema,
    /// When, by the clock of the store.
    #[schema(required = true, format = DateTime)]
    at: Option<String>,
    /// Thresholds that this was the first to reach.
    crossed: Vec<CrossingSchema>,
}

/// The effect of a settlement or a cancellation.
#[derive(ToSchema)]
#[schema(as = SettledAs, rename_all = "snake_case")]
pub(crate) enum SettledAsSchema {
    /// It ended the reservation: bill this one.
    First,
    /// The reservation had ended in the same way before.
    Repeated,
    /// Nothing was charged.
    Uncharged,
    /// The store cannot answer; the operation is sent to it later.
    Postponed,
}

/// What was decided.
#[derive(ToSchema)]
#[schema(as = Outcome, rename_all = "snake_case")]
pub(crate) enum OutcomeSchema {
    /// The call may go on; it is charged.
    Allowed,
    /// The call may not go on; nothing is charged.
    Denied,
}

/// Why a call is denied, where that is no error.
#[derive(ToSchema)]
#[schema(as = Reason, rename_all = "snake_case")]
pub(crate) enum ReasonSchema {
    /// The charge does not fit into what is left of the budget.
    BudgetExhausted,
    /// At least one rule would have been broken.
    RateLimited,
}

/// How a rule stands.
#[derive(ToSchema)]
#[schema(as = RuleState)]
pub(crate) struct RuleStateSchema {
    /// Scope, window and unit, as in `asset/day/tokens`.
    rule: String,
    /// What is allowed in the window.
    limit: u64,
    /// What is used of it.
    used: u64,
    /// What is left, at least 0.
    remaining: u64,
    /// When the window ends.
    #[schema(format = DateTime)]
    resets_at: String,
    /// Which tokens are counted.
    token_type: TokenTypeSchema,
}

/// A rule that would have been broken.
#[derive(ToSchema)]
#[schema(as = Violation)]
pub(crate) struct ViolationSchema {
    /// Scope, window and unit, as in `asset/day/tokens`.
    rule: String,
    /// What is allowed in the window.
    limit: u64,
    /// What is used of it.
    used: u64,
    /// What the call asked for.
    asked: u64,
    /// When the window ends; null if the call exceeds the limit itself.
    #[schema(required = true, format = DateTime)]
    resets_at: Option<String>,
    /// Which tokens are counted.
    token_type: TokenTypeSchema,
}

/// A threshold that was crossed.
#[derive(ToSchema)]
#[schema(as = Crossing)]
pub(crate) struct CrossingSchema {
    /// The rule, or null for the budget.
    rule: Option<String>,
    /// The asset, if the rule is one of an asset.
    asset: Option<String>,
    /// The threshold, in percent of the limit.
    percent: u8,
    /// The limit; of a budget, in millionths of a credit.
    limit: u64,
    /// What was used after the charge.
    used: u64,
    /// When the window ends; null for the budget.
    #[schema(format = DateTime)]
    resets_at: Option<String>,
}

/// Which tokens a limit counts.
#[derive(Deserialize, ToSchema)]
#[schema(as = TokenType, rename_all = "lowercase")]
#[serde(rename_all = "lowercase")]
pub(crate) enum TokenTypeSchema {
    /// Input and output together.
    Total,
    /// Output alone.
    Output,
    /// Input alone.
    Input,
}

/// Credits, as decimal numbers.
#[derive(ToSchema)]
#[schema(as = CreditUsage)]
pub(crate) struct CreditUsageSchema {
    /// What was spent.
    #[schema(pattern = "^[0-9]+([.][0-9]{1,6})?$")]
    spent: String,
    /// What may be spent, if that is limited.
    #[schema(pattern = "^[0-9]+([.][0-9]{1,6})?$")]
    budget: Option<String>,
}

/// What a key has used.
#[derive(ToSchema)]
#[schema(as = Usage)]
pub(crate) struct UsageSchema {
    /// All calls; null where they have no limits.
    global: Option<ScopeUsageSchema>,
    /// Each asset that has limits.
    assets: Vec<AssetUsageSchema>,
    /// Credits spent, and the budget.
    credits: CreditUsageSchema,
}

/// What was used of one asset.
#[derive(ToSchema)]
#[schema(as = AssetUsage)]
pub(crate) struct AssetUsageSchema {
    /// The asset.
    asset: String,
    /// In this minute.
    minute: WindowUsageSchema,
    /// On this day.
    day: WindowUsageSchema,
}

/// What was used in the windows of a scope.
#[derive(ToSchema)]
#[schema(as = ScopeUsage)]
pub(crate) struct ScopeUsageSchema {
    /// In this minute.
    minute: WindowUsageSchema,
    /// On this day.
    day: WindowUsageSchema,
}

/// What was used in one window.
#[derive(ToSchema)]
#[schema(as = WindowUsage)]
pub(crate) struct WindowUsageSchema {
    /// Requests.
    requests: UnitUsageSchema,
    /// Tokens.
    tokens: UnitUsageSchema,
    /// Which tokens are counted.
    token_type: TokenTypeSchema,
    /// When counting starts again from zero.
    #[schema(format = DateTime)]
    resets_at: String,
}

/// What was used of one unit.
#[derive(ToSchema)]
#[schema(as = UnitUsage)]
pub(crate) struct UnitUsageSchema {
    /// How much is used.
    used: u64,
    /// How much may be used, if that is limited.
    limit: Option<u64>,
    /// How much is left, if there is a limit.
    remaining: Option<u64>,
}

/// Some of the keys of a workspace.
#[derive(ToSchema)]
#[schema(as = Page)]
pub(crate) struct PageSchema {
    /// The keys, by the bytes of their names.
    keys: Vec<KeyRecordSchema>,
    /// Where the next page starts; null on the last one.
    #[schema(required = true)]
    next: Option<String>,
    /// Keys whose stored data cannot be read, if there are any on this page.
    #[schema(required = false)]
    damaged: Vec<DamagedKeySchema>,
}

/// A key whose stored data cannot be read.
#[derive(ToSchema)]
#[schema(as = DamagedKey)]
pub(crate) struct DamagedKeySchema {
    /// Its id.
    id: String,
    /// Its name.
    name: String,
}

/// A key.
#[derive(ToSchema)]
#[schema(as = Key)]
pub(crate) struct KeyRecordSchema {
    /// Its id.
    id: String,
    /// The workspace that it belongs to.
    workspace: String,
    /// Member or admin.
    kind: KeyKindSchema,
    /// Its name.
    name: String,
    /// The first and last four characters of its access key, if it has one.
    #[schema(required = true)]
    access_key: Option<String>,
    /// Limits over all calls.
    global: ScopeLimitsSchema,
    /// Limits of each asset that has some.
    assets: std::collections::BTreeMap<String, ScopeLimitsSchema>,
    /// The credits that it may ever spend.
    #[schema(required = true, pattern = "^[0-9]+([.][0-9]{1,6})?$")]
    budget: Option<String>,
    /// From when on it is expired.
    #[schema(required = true, format = DateTime)]
    expires_at: Option<String>,
    /// The shares of its limits and of its budget whose crossing is an event, in percent.
    thresholds: Vec<u64>,
    /// Whether it is in shadow mode.
    shadow: bool,
    /// Grows with each change.
    version: u64,
    /// When this was read.
    #[schema(format = DateTime)]
    read_at: String,
}

/// The kind of a key.
#[derive(Deserialize, ToSchema)]
#[schema(as = KeyKind, rename_all = "lowercase")]
#[serde(rename_all = "lowercase")]
pub(crate) enum KeyKindSchema {
    /// Makes calls and reads its own usage.
    Member,
    /// Manages the keys of its workspace and makes no calls.
    Admin,
}

/// Name, limits, budget and expiry of a key.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = KeyConfig)]
pub(crate) struct KeyConfigSchema {
    /// Its name, 1 to 256 bytes without control characters, unique in the workspace.
    #[schema(min_length = 1, max_length = 256)]
    name: String,
    /// Limits over all calls; none if left out.
    #[schema(required = false)]
    global: LimitsSchema,
    /// Limits of single assets, 1,024 at most.
    #[schema(required = false)]
    assets: std::collections::BTreeMap<String, LimitsSchema>,
    /// The credits that it may ever spend.
    #[schema(pattern = "^[0-9]+([.][0-9]{1,6})?$")]
    budget: Option<String>,
    /// From when on it is expired.
    #[schema(format = DateTime)]
    expires_at: Option<String>,
    /// The shares of its limits and of its budget whose crossing is an event, in percent, rising; those of the server if
    /// left out.
    #[schema(max_items = 4)]
    thresholds: Option<Vec<u64>>,
    /// Whether calls beyond a limit are let through, and flagged.
    #[schema(required = false)]
    shadow: bool,
}

/// Limits of a scope; null is no limit.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Limits)]
pub(crate) struct LimitsSchema {
    /// Requests in a minute.
    #[schema(maximum = 9007199254740991_u64)]
    requests_per_minute: Option<u64>,
    /// Requests on a day.
    #[schema(maximum = 9007199254740991_u64)]
    requests_per_day: Option<u64>,
    /// Tokens in a minute.
    #[schema(maximum = 9007199254740991_u64)]
    tokens_per_minute: Option<u64>,
    /// Tokens on a day.
    #[schema(maximum = 9007199254740991_u64)]
    tokens_per_day: Option<u64>,
    /// Which tokens are counted: total if left out.
    #[schema(required = false)]
    token_type: TokenTypeSchema,
}

/// The limits of a scope: as configured, and as they stand in each window.
#[derive(ToSchema)]
#[schema(as = ScopeLimits)]
pub(crate) struct ScopeLimitsSchema {
    /// As an admin last set them.
    configured: LimitsSchema,
    /// Those of this minute.
    minute: InForceSchema,
    /// Those of this day.
    day: InForceSchema,
}

/// The limits that are in force, and what replaces them.
#[derive(ToSchema)]
#[schema(as = InForce)]
pub(crate) struct InForceSchema {
    /// The limits in force now.
    limits: WindowLimitsSchema,
    /// The limits that replace them when the window ends, if a change is pending.
    #[schema(required = true)]
    pending: Option<PendingLimitsSchema>,
}

/// Limits that are not in force yet.
#[derive(ToSchema)]
#[schema(as = PendingLimits)]
pub(crate) struct PendingLimitsSchema {
    /// The limits that will be in force.
    limits: WindowLimitsSchema,
    /// From when on.
    #[schema(format = DateTime)]
    effective_at: String,
}

/// The limits of one window; null is no limit.
#[derive(ToSchema)]
#[schema(as = WindowLimits)]
pub(crate) struct WindowLimitsSchema {
    /// Requests.
    #[schema(required = true)]
    requests: Option<u64>,
    /// Tokens.
    #[schema(required = true)]
    tokens: Option<u64>,
    /// Which tokens are counted.
    token_type: TokenTypeSchema,
}
