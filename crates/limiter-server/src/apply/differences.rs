//! The differences between two configurations, field by field, and when each takes effect.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use limiter::Effective;
use serde::Serialize;
use serde_json::Value;

/// A field that has another value.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Difference {
    /// As in `global.requests_per_minute`.
    pub(super) field: String,
    pub(super) from: Option<String>,
    pub(super) to: Option<String>,
    effect: Effect,
}

/// When a changed field takes effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Effect {
    AtOnce,
    /// The next minute, hour, day, week or month.
    WithTheNext(&'static str),
    WithEachNextWindow,
    /// Each limit with the next of its windows.
    AsTheLimits,
}

/// Returns the differences, in the order of the fields' names.
pub(super) fn between<T: Serialize>(
    before: &T,
    after: &T,
    effective: Effective,
) -> serde_json::Result<Vec<Difference>> {
    let (mut from, mut to) = (BTreeMap::new(), BTreeMap::new());
    flatten(&mut Vec::new(), &serde_json::to_value(before)?, &mut from);
    flatten(&mut Vec::new(), &serde_json::to_value(after)?, &mut to);
    let fields: BTreeSet<&String> = from.keys().chain(to.keys()).collect();
    let differences = fields.into_iter().filter(|field| from.get(*field) != to.get(*field));
    Ok(differences
        .map(|field| Difference {
            field: field.clone(),
            from: from.get(field).cloned(),
            to: to.get(field).cloned(),
            effect: effect(field, effective),
        })
        .collect())
}

/// Lists the fields of an object, those of its parts by their paths. What is empty or null is not there.
fn flatten<'a>(path: &mut Vec<&'a str>, value: &'a Value, fields: &mut BTreeMap<String, String>) {
    match value {
        Value::Object(object) => {
            // An asset without limits is listed all the same.
            if matches!(path[..], ["assets", _]) {
                fields.insert(shown(path), "listed".to_owned());
            }
            for (name, value) in object {
                path.push(name);
                flatten(path, value, fields);
                path.pop();
            }
        }
        Value::Null | Value::Bool(false) => {}
        Value::String(text) => drop(fields.insert(shown(path), text.clone())),
        other => drop(fields.insert(shown(path), other.to_string())),
    }
}

/// Formats a path with points between its parts, as TOML does: a name with other characters is quoted.
fn shown(path: &[&str]) -> String {
    let is_plain = |name: &str| {
        !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
    };
    let parts = path.iter().map(|name| match is_plain(name) {
        true => (*name).to_owned(),
        false => format!("{name:?}"),
    });
    parts.collect::<Vec<_>>().join(".")
}

fn effect(field: &str, effective: Effective) -> Effect {
    let window = field.rsplit_once("_per_").map(|(_, window)| window);
    let window = window.and_then(|name| WINDOWS.into_iter().find(|window| *window == name));
    match (field, window) {
        // The end of a window is where another zone begins, even if limits change at once.
        ("time_zone", _) => Effect::WithEachNextWindow,
        _ if effective == Effective::Now => Effect::AtOnce,
        ("plan", _) => Effect::AsTheLimits,
        (_, Some(window)) => Effect::WithTheNext(window),
        (_, None) => Effect::AtOnce,
    }
}

/// Formats as in `global.requests_per_minute: 60 → 100, from the next minute on`.
impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |value: &Option<String>| value.clone().unwrap_or_else(|| "none".to_owned());
        write!(f, "{}: {} → {}, ", self.field, shown(&self.from), shown(&self.to))?;
        match self.effect {
            Effect::AtOnce => f.write_str("at once"),
            Effect::WithTheNext(window) => write!(f, "from the next {window} on"),
            Effect::WithEachNextWindow => f.write_str("from the end of each window on"),
            Effect::AsTheLimits => {
                f.write_str("limits per minute to month from the next window on, all else at once")
            }
        }
    }
}

const WINDOWS: [&str; 5] = ["minute", "hour", "day", "week", "month"];

#[cfg(test)]
mod tests {
    use limiter::KeyConfig;

    use super::*;

    fn config(toml: &str) -> KeyConfig {
        toml::from_str(toml).unwrap()
    }

    fn shown(before: &str, after: &str, effective: Effective) -> Vec<String> {
        let differences = between(&config(before), &config(after), effective).unwrap();
        differences.iter().map(Difference::to_string).collect()
    }

    #[test]
    fn each_field_is_named_with_its_values_and_when_it_takes_effect() {
        let before = "
            name = 'ci'
            budget = 5
            global = { requests_per_minute = 60, parallel = 4 }
            thresholds = [80]
            [labels]
            team = 'search'
        ";
        let after = "
            name = 'ci'
            budget = '7.50'
            plan = 'free'
            time_zone = 'Europe/Berlin'
            shadow = true
            global = { requests_per_minute = 100, tokens_per_day = 10_000, parallel = 2 }
            assets = { 'gpt-4.1' = {}, o3 = { credits_per_month = '2' } }
            [labels]
            team = 'chat'
        ";
        assert_eq!(
            shown(before, after, Effective::Next),
            [
                "assets.\"gpt-4.1\": none → listed, at once",
                "assets.o3: none → listed, at once",
                "assets.o3.credits_per_month: none → 2.00, from the next month on",
                "budget: 5.00 → 7.50, at once",
                "global.parallel: 4 → 2, at once",
                "global.requests_per_minute: 60 → 100, from the next minute on",
                "global.tokens_per_day: none → 10000, from the next day on",
                "labels.team: search → chat, at once",
                "plan: none → free, limits per minute to month from the next window on, all else at once",
                "shadow: none → true, at once",
                "thresholds: [80] → none, at once",
                "time_zone: UTC → Europe/Berlin, from the end of each window on",
            ]
        );
    }

    #[test]
    fn limits_can_change_at_once() {
        let (before, after) = ("name = 'ci'", "name = 'ci'\nglobal = { requests_per_hour = 1 }");
        let expected = ["global.requests_per_hour: none → 1, at once"];
        assert_eq!(shown(before, after, Effective::Now), expected);
        assert!(shown(after, after, Effective::Now).is_empty());
    }
}
