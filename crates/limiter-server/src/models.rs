//! The models that can be run, and their prices.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use axum::http::Uri;
use limiter::stream::Api;
use limiter::{AssetId, Price, PriceTable};
use serde::Deserialize;
use serde_json::json;

use crate::config::{ConfigError, read_http_url};

/// A model as the configuration has it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Model {
    /// Its id, by which limits name it.
    pub id: AssetId,
    /// Its path, such as `openai/gpt-5/openai`, by which people name it.
    pub path: String,
    /// Its name for people; by default its path.
    #[serde(default)]
    pub name: Option<String>,
    /// The price of its runs. By default the price in the table `[prices]` for its path or id, or else free.
    #[serde(default)]
    pub price: Option<Price>,
    /// The URL that calls are forwarded to. A model without one echoes its prompt.
    #[serde(default, deserialize_with = "read_http_url")]
    pub upstream: Option<Uri>,
    /// The API of the upstream, if the end of its path does not name it.
    #[serde(default)]
    pub upstream_api: Option<Api>,
    /// The `model` that is sent to the provider. By default the `model` of a request is passed on unchanged.
    #[serde(default)]
    pub upstream_model: Option<String>,
    /// The environment variable whose value is sent there as `Authorization`. A key of Anthropic's API, without a scheme
    /// before it, is sent as `x-api-key`.
    #[serde(default)]
    pub upstream_authorization_env: Option<String>,
    /// How many tokens an answer is expected to have, where the request does not say: 1,000 by default. So many are held
    /// until the answer has ended.
    #[serde(default = "expected_output_tokens")]
    pub expected_output_tokens: u64,
    /// Whether the reserved output is sent to the provider as the maximum, so that no answer gets longer. By default
    /// the maximum of a request is passed on unchanged.
    #[serde(default)]
    pub send_maximum: bool,
}

/// The models of a server, found by id and by path.
#[derive(Clone, Debug)]
pub(crate) struct Models(HashMap<String, Arc<Model>>);

impl Model {
    /// Returns its name, or else its path.
    #[must_use]
    pub fn title(&self) -> &str {
        self.name.as_deref().unwrap_or(&self.path)
    }

    /// Returns the price of its runs.
    #[must_use]
    pub fn price(&self) -> Price {
        self.price.unwrap_or(Price::FREE)
    }

    /// Takes the price of the table, unless the model has its own.
    pub(crate) fn priced_by(mut self, prices: &PriceTable) -> Self {
        self.price = self.price.or_else(|| prices.of_any(&[&self.path, self.id.as_str()]).copied());
        self
    }
}

impl Models {
    pub(crate) fn new(models: Vec<Model>) -> Result<Self, ConfigError> {
        let mut found = HashMap::new();
        for model in models {
            let model = Arc::new(model);
            let mut names = vec![model.id.to_string(), model.path.clone()];
            names.dedup();
            for name in names {
                if found.insert(name.clone(), Arc::clone(&model)).is_some() {
                    let message =
                        format!("two models have the id or path {name:?}: each needs its own");
                    return Err(ConfigError::Setting(message));
                }
            }
        }
        Ok(Self(found))
    }

    /// Returns the models of a server without a configuration: those of the SDK's documented examples, answering locally.
    pub(crate) fn built_in() -> Vec<Model> {
        let models = BUILT_IN.iter().map(|(id, path, name)| {
            let price = json!({ "request": ECHO_PRICE });
            serde_json::from_value(json!({ "id": id, "path": path, "name": name, "price": price }))
        });
        models.collect::<Result<_, _>>().expect("the built-in models are valid")
    }

    pub(crate) fn find(&self, id_or_path: &str) -> Option<&Arc<Model>> {
        self.0.get(id_or_path)
    }

    /// Returns the models with an upstream, by path.
    pub(crate) fn with_upstream(&self) -> BTreeMap<&str, &Model> {
        let models = self.0.values().filter(|model| model.upstream.is_some());
        models.map(|model| (model.path.as_str(), &**model)).collect()
    }

    /// Returns the id under which limits of this asset are kept. The path of a model becomes the model's id; any other
    /// name stays as it is.
    pub(crate) fn resolved(&self, asset: AssetId) -> AssetId {
        self.find(asset.as_str()).map_or(asset, |model| model.id.clone())
    }
}

const fn expected_output_tokens() -> u64 {
    1_000
}

/// Credits of a run: enough for budgets to visibly run out.
const ECHO_PRICE: &str = "0.0001";

/// The ids are those by which the SDK's examples and tests know such models.
const BUILT_IN: [(&str, &str, &str); 3] = [
    ("669a63646eb56306647e1091", "openai/gpt-4o-mini/openai", "GPT-4o Mini"),
    ("6895d6d1d50c89537c1cf237", "openai/gpt-5/openai", "GPT-5"),
    ("69134e5e7c5c9d5c0e5d1a51", "openai/gpt-5.1/openai", "GPT-5.1"),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn model(toml: &str) -> Model {
        toml::from_str(&format!("id = 'local'\npath = 'meta/llama/local'\n{toml}")).unwrap()
    }

    #[test]
    fn a_model_without_a_price_has_that_of_the_table_or_none() {
        let price = |request: &str| Price::FREE.per_request(request.parse().unwrap());
        let table = |names: &[&str]| {
            let prices = names.iter().zip(["1", "2", "3"]);
            PriceTable::new(prices.map(|(name, request)| (*name, price(request)))).unwrap()
        };
        let own = "price = { request = 9 }";
        for (toml, names, expected) in [
            ("", &["meta/*", "local"][..], price("2")),
            ("", &["local", "meta/llama/local"], price("2")),
            ("", &["*", "lo*", "meta/*"], price("3")),
            ("", &["*"], price("1")),
            ("", &["openai/*"], Price::FREE),
            (own, &["meta/llama/local"], price("9")),
            ("price = {}", &["meta/llama/local"], Price::FREE),
        ] {
            let priced = model(toml).priced_by(&table(names)).price();
            assert_eq!(priced, expected, "{toml} {names:?}");
        }
    }

    #[test]
    fn a_model_is_found_by_id_and_by_path() {
        let models = Models::new(Models::built_in()).unwrap();
        for name in ["669a63646eb56306647e1091", "openai/gpt-5/openai", "openai/gpt-5.1/openai"] {
            assert!(models.find(name).is_some(), "{name}");
        }
        let resolved = |name: &str| models.resolved(name.parse().unwrap()).to_string();
        assert_eq!(resolved("openai/gpt-5/openai"), "6895d6d1d50c89537c1cf237");
        assert_eq!(resolved("somewhere/else"), "somewhere/else");
    }
}
