//! The body of a refusal: problem details by RFC 9457.

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Response, StatusCode};
use limiter::decision::{LimitExceeded, Violation};
use limiter::{
    AssetId, Credits, DenialReason, Denied, KeyId, Rule, Scope, Timestamp, Unit, Window,
};
use serde::{Serialize, Serializer};

use crate::dialect::policy_name;
use crate::kind::Kind;
use crate::refusal::Refusal;

/// Problem details (RFC 9457), to be sent as `application/problem+json`.
///
/// A call denied by limits or a budget has the type `quota-exceeded` of draft-ietf-httpapi-ratelimit-headers-11, with its member
/// `violated-policies`; the others have none (`about:blank`). The members that all share are
///
/// | member | |
/// |---|---|
/// | `type`, `title`, `status`, `detail` | as the RFC says |
/// | `reason` | for programs: `no_access_key`, `key_unknown`, `key_expired`, `admin_key`, `asset_denied`, `budget_exhausted`, `rate_limited`, `too_many_reservations`, `too_many`, `invalid`, `too_large`, `unavailable`, `internal` |
/// | `key` | the id of the calling key, if it is known |
/// | `asset` | the asset that was called, if any |
/// | `violations` | every violated rule: `group`, `rule`, `policy`, `scope`, `window`, `unit`, `limit`, `used`, `asked`, `resets_at`; a parallel limit has no `window` and no `unit`; amounts of credits are in millionths; the last is `null` where waiting does not help; an unregistered key is not told `limit` and `used` of a group |
/// | `binding`, `binding_group` | the `rule` and the `group` of the one to wait for |
/// | `retry_at`, `retry_after` | the first instant at which the same call would pass, or at which there is room to remember it, and the seconds to wait, 1 for a parallel limit; `null` if it never fits |
/// | `spent`, `budget`, `asked` | of an exhausted budget of all calls, the outermost, in credits, as decimal strings |
/// | `expired_at` | of an expired key or group |
/// | `group` | the id of the group that has expired, denies the asset, or has the violated rule; left out if it is the key itself |
///
/// Instants are RFC 3339.
#[derive(Clone, Debug, Serialize)]
pub struct Problem {
    r#type: &'static str,
    title: &'static str,
    #[serde(serialize_with = "number")]
    status: StatusCode,
    detail: String,
    reason: &'static str,
    #[serde(skip)]
    kind: Kind,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<KeyId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    asset: Option<AssetId>,
    #[serde(flatten)]
    extension: Extension,
}

#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
enum Extension {
    None {},
    Limits {
        #[serde(rename = "violated-policies")]
        violated_policies: Vec<&'static str>,
        violations: Vec<Violated>,
        binding: Option<Rule>,
        #[serde(skip_serializing_if = "Option::is_none")]
        binding_group: Option<KeyId>,
        retry_at: Option<Timestamp>,
        retry_after: Option<u64>,
        #[serde(flatten)]
        budget: Option<Budget>,
    },
    Room {
        retry_at: Timestamp,
        retry_after: Option<u64>,
    },
    Expiry {
        expired_at: Timestamp,
        #[serde(skip_serializing_if = "Option::is_none")]
        group: Option<KeyId>,
    },
    Asset {
        #[serde(skip_serializing_if = "Option::is_none")]
        group: Option<KeyId>,
    },
}

#[derive(Clone, Debug, Serialize)]
struct Budget {
    spent: Credits,
    budget: Credits,
    asked: Credits,
}

#[derive(Clone, Debug, Serialize)]
struct Violated {
    #[serde(skip_serializing_if = "Option::is_none")]
    group: Option<KeyId>,
    rule: Rule,
    policy: &'static str,
    scope: Scope,
    #[serde(skip_serializing_if = "Option::is_none")]
    window: Option<Window>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unit: Option<Unit>,
    /// Left out for a caller of an unregistered key, who sees no figures of groups.
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    used: Option<u64>,
    asked: u64,
    resets_at: Option<Timestamp>,
}

impl Problem {
    /// The problem of this refusal, answered with this status.
    #[must_use]
    pub fn of(refusal: &Refusal, status: StatusCode) -> Self {
        let (kind, reason) = Kind::and_reason_of(refusal);
        let problem = Self { kind, ..Self::new(status, reason, refusal.to_string()) };
        let retry_after = refusal.retry_after_seconds();
        let denied = match refusal {
            Refusal::Denied(denied) => denied,
            Refusal::TooManyReservations(error) if let Some(retry_at) = error.retry_at() => {
                return Self { extension: Extension::Room { retry_at, retry_after }, ..problem };
            }
            _ => return problem,
        };
        let (r#type, title) = match denied.exceeded() {
            Some(_) => (QUOTA_EXCEEDED, "Quota Exceeded"),
            None => (problem.r#type, problem.title),
        };
        let extension = Extension::of(denied, retry_after);
        let (key, asset) = (denied.key().cloned(), denied.asset().cloned());
        Self { r#type, title, key, asset, extension, ..problem }
    }

    /// A problem of the service's own: a status, a name for programs, and a sentence for people with the error, its
    /// subject and the remedy.
    ///
    /// ```
    /// use http::StatusCode;
    /// use limiter_tower::Problem;
    ///
    /// let problem = Problem::new(StatusCode::NOT_FOUND, "model_unknown", "there is no model \"gpt-6\"");
    /// assert_eq!(problem.to_response().headers()["content-type"], "application/problem+json");
    /// ```
    #[must_use]
    pub fn new(status: StatusCode, reason: &'static str, detail: impl Into<String>) -> Self {
        Self {
            r#type: "about:blank",
            title: status.canonical_reason().unwrap_or("Call Refused"),
            status,
            detail: detail.into(),
            reason,
            kind: Kind::of_status(status),
            key: None,
            asset: None,
            extension: Extension::None {},
        }
    }

    /// Returns the HTTP status.
    #[must_use]
    pub const fn status(&self) -> StatusCode {
        self.status
    }

    /// Returns the name for programs.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        self.reason
    }

    /// Returns the sentence for people.
    #[must_use]
    pub fn detail(&self) -> &str {
        &self.detail
    }

    pub(crate) const fn kind(&self) -> Kind {
        self.kind
    }

    /// Returns the rule to wait for, if limits denied the call.
    pub(crate) const fn binding(&self) -> Option<Rule> {
        match &self.extension {
            Extension::Limits { binding, .. } => *binding,
            _ => None,
        }
    }

    /// The JSON.
    #[must_use]
    pub fn to_json(&self) -> Bytes {
        // It has no map with other keys than strings, which is all that could fail.
        serde_json::to_vec(self).map(Bytes::from).unwrap_or_default()
    }

    /// The response: its status, and the JSON as `application/problem+json`.
    #[must_use]
    pub fn to_response(&self) -> Response<Bytes> {
        let mut response = Response::new(self.to_json());
        *response.status_mut() = self.status;
        response.headers_mut().insert(CONTENT_TYPE, PROBLEM_JSON);
        response
    }
}

impl Extension {
    fn of(denied: &Denied, retry_after: Option<u64>) -> Self {
        match denied.reason() {
            DenialReason::RateLimited(exceeded) | DenialReason::BudgetExhausted(exceeded) => {
                let violations: Vec<_> = exceeded.violations().collect();
                let binding = exceeded.binding();
                Self::Limits {
                    budget: violations.iter().filter(|it| exceeded.shows(it)).find_map(Budget::of),
                    binding: binding.as_ref().map(|violation| violation.rule),
                    binding_group: binding.and_then(|violation| violation.group),
                    retry_at: exceeded.retry_at(),
                    retry_after,
                    violated_policies: violations.iter().map(policy_of).collect(),
                    violations: violations
                        .into_iter()
                        .map(|violation| Violated::of(exceeded, violation))
                        .collect(),
                }
            }
            DenialReason::KeyExpired { expired_at, group } => {
                Self::Expiry { expired_at: *expired_at, group: group.clone() }
            }
            DenialReason::AssetDenied { group } => Self::Asset { group: group.clone() },
            DenialReason::TooManyKeys { retry_at: Some(retry_at), .. } => {
                Self::Room { retry_at: *retry_at, retry_after }
            }
            _ => Self::None {},
        }
    }
}

impl Budget {
    fn of(violation: &Violation) -> Option<Self> {
        let credits = |millionths| Credits::from_millionths(millionths).ok();
        let Violation { rule: Rule::BUDGET, limit, used, asked, .. } = *violation else {
            return None;
        };
        Some(Self { spent: credits(used)?, budget: credits(limit)?, asked: credits(asked)? })
    }
}

impl Violated {
    fn of(exceeded: &LimitExceeded, violation: Violation) -> Self {
        let policy = policy_of(&violation);
        let shown = |figure| exceeded.shows(&violation).then_some(figure);
        let (limit, used) = (shown(violation.limit), shown(violation.used));
        let Violation { group, rule, asked, resets_at, .. } = violation;
        let (scope, window, unit) = (rule.scope, rule.window(), rule.unit());
        Self { group, rule, policy, scope, window, unit, limit, used, asked, resets_at }
    }
}

fn policy_of(violation: &Violation) -> &'static str {
    policy_name(violation.group.as_ref(), violation.rule)
}

fn number<S: Serializer>(status: &StatusCode, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u16(status.as_u16())
}

/// The media type of RFC 9457.
const PROBLEM_JSON: HeaderValue = HeaderValue::from_static("application/problem+json");

/// Registered by the draft.
const QUOTA_EXCEEDED: &str = "https://iana.org/assignments/http-problem-types#quota-exceeded";
