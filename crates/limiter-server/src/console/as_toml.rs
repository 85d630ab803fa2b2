//! Configurations as the TOML of a form: the same words as in the file of `limiter-server apply`.

use serde::Serialize;
use serde::de::DeserializeOwned;
use toml::{Table, Value};

/// Returns a configuration as TOML, without the fields that the form has inputs of their own for, and those that say nothing.
pub(super) fn written(config: &impl Serialize, elsewhere: &[&str]) -> String {
    let Ok(serde_json::Value::Object(fields)) = serde_json::to_value(config) else {
        return String::new();
    };
    let fields = fields.into_iter().filter(|(name, value)| {
        !elsewhere.contains(&&**name) && !value.is_null() && !is_empty(value)
    });
    let fields: serde_json::Map<_, _> = fields.collect();
    let mut table = Table::try_from(without_nulls(fields.into())).unwrap_or_default();
    // Written as `assets.gpt-5 = { … }`: a line for each scope.
    let mut lines = String::new();
    let assets = table.remove("assets");
    for (name, value) in &table {
        lines.push_str(&format!("{} = {}\n", key(name), inline(value)));
    }
    for (asset, limits) in assets.iter().filter_map(Value::as_table).flatten() {
        lines.push_str(&format!("assets.{} = {}\n", key(asset), inline(limits)));
    }
    lines
}

/// Reads TOML with these fields of the form put in. The error is a sentence.
pub(super) fn read<T: DeserializeOwned>(
    text: &str,
    fields: impl IntoIterator<Item = (&'static str, Option<Value>)>,
) -> Result<T, String> {
    let mut table: Table = toml::from_str(text).map_err(|error| {
        let before = error.span().and_then(|span| text.get(..span.start));
        let line = before.map_or(1, |before| before.lines().count().max(1));
        format!("around line {line}: {}", error.message())
    })?;
    for (name, value) in fields {
        if table.contains_key(name) {
            return Err(format!("{name} has an input of its own: remove it from the text"));
        }
        if let Some(value) = value {
            table.insert(name.to_owned(), value);
        }
    }
    table.try_into().map_err(|error: toml::de::Error| error.message().to_owned())
}

/// Returns a text that was filled in.
pub(super) fn filled(text: &str) -> Option<Value> {
    let text = text.trim();
    (!text.is_empty()).then(|| Value::String(text.to_owned()))
}

fn inline(value: &Value) -> String {
    match value {
        Value::Table(table) => {
            let fields =
                table.iter().map(|(name, value)| format!("{} = {}", key(name), inline(value)));
            format!("{{ {} }}", fields.collect::<Vec<_>>().join(", "))
        }
        value => value.to_string(),
    }
}

fn key(name: &str) -> String {
    let is_bare = !name.is_empty()
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    if is_bare { name.to_owned() } else { Value::String(name.to_owned()).to_string() }
}

fn is_empty(value: &serde_json::Value) -> bool {
    value.as_object().is_some_and(serde_json::Map::is_empty)
}

/// TOML has no null.
fn without_nulls(value: serde_json::Value) -> serde_json::Value {
    match value {
        serde_json::Value::Object(fields) => {
            let fields = fields.into_iter().filter(|(_, value)| !value.is_null());
            fields
                .map(|(name, value)| (name, without_nulls(value)))
                .collect::<serde_json::Map<_, _>>()
                .into()
        }
        value => value,
    }
}

#[cfg(test)]
mod tests {
    use limiter::{KeyConfig, Labels, Limits, Other, Plan, Thresholds};

    use super::*;

    const ELSEWHERE: [&str; 5] = ["name", "plan", "expires_at", "time_zone", "shadow"];

    #[test]
    fn a_configuration_is_read_as_it_was_written() {
        let limits =
            |requests| Limits::builder().requests_per_minute(requests).parallel(4).build().unwrap();
        let unlimited = Limits::builder()
            .unlimited(limiter::Window::Day, limiter::Unit::Tokens)
            .credits_per_month("12.50".parse::<limiter::Credits>().unwrap())
            .build();
        let config = KeyConfig::named("ci \"<b>\"")
            .unwrap()
            .with_global(unlimited.unwrap())
            .with_asset("gpt-5".parse().unwrap(), limits(60))
            .with_asset("openai/gpt-5.1 \"x\"".parse().unwrap(), Limits::NONE)
            .with_other(Other::Denied)
            .with_budget("25".parse().unwrap())
            .with_thresholds(Thresholds::new([50, 90]).unwrap())
            .with_labels(Labels::new([("owner", "search@acme.example")]).unwrap());
        let text = written(&config, &ELSEWHERE);
        let name = Some(Value::String("ci \"<b>\"".to_owned()));
        let read: KeyConfig =
            read(&text, [("name", name)]).unwrap_or_else(|error| panic!("{error}: {text}"));
        assert_eq!(read, config, "{text}");
        assert!(
            text.contains("\nassets.gpt-5 = { parallel = 4, requests_per_minute = 60 }\n"),
            "{text}"
        );
    }

    #[test]
    fn nothing_is_written_of_an_empty_plan() {
        assert_eq!(written(&Plan::default(), &[]), "");
        assert_eq!(read::<Plan>("", []), Ok(Plan::default()));
    }

    #[test]
    fn a_mistake_names_its_line_or_its_field() {
        let error = |text| read::<Plan>(text, [("time_zone", None)]).unwrap_err();
        assert!(
            error("global = {}\nassets = [").starts_with("around line 2: "),
            "{}",
            error("global = {}\nassets = [")
        );
        assert!(error("globl = {}").contains("globl"));
        assert!(error("time_zone = 'UTC'").contains("input of its own"));
    }
}
