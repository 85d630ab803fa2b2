//! The APIs of providers, as the OpenAPI document names them: their own references describe requests and answers.

use utoipa::Modify;
use utoipa::openapi::path::{HttpMethod, OperationBuilder, PathItem};
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::schema::{AdditionalProperties, ObjectBuilder};
use utoipa::openapi::{ContentBuilder, OpenApi, Required, ResponseBuilder, Schema, Type};

use crate::gateway;

/// Adds a path for each API, and the list of models.
pub(super) struct ProviderApis;

impl Modify for ProviderApis {
    fn modify(&self, document: &mut OpenApi) {
        for path in gateway::PATHS {
            let body = RequestBodyBuilder::new()
                .content(JSON, ContentBuilder::new().schema(Some(request())).build())
                .required(Some(Required::True))
                .build();
            let operation = operation(&REFUSED)
                .summary(Some("Call a model in the words of the provider's API"))
                .description(Some(DESCRIPTION))
                .request_body(Some(body));
            let item = PathItem::new(HttpMethod::Post, operation.build());
            document.paths.paths.insert(path.to_owned(), item);
        }
        let list = operation(&LIST_REFUSED)
            .summary(Some("List the models that can be called so, as OpenAI lists its own"));
        let item = PathItem::new(HttpMethod::Get, list.build());
        document.paths.paths.insert(gateway::MODELS.to_owned(), item);
    }
}

fn operation(refused: &[(&str, &str)]) -> OperationBuilder {
    let mut operation = OperationBuilder::new().tag("models").response(
        "200",
        ResponseBuilder::new()
            .description("The answer, as the API has it")
            .content(JSON, any_object())
            .content("text/event-stream", ContentBuilder::new().build()),
    );
    for (status, description) in refused {
        let response =
            ResponseBuilder::new().description(*description).content(JSON, any_object()).build();
        operation = operation.response(*status, response);
    }
    operation
}

fn any_object() -> utoipa::openapi::Content {
    let object = ObjectBuilder::new().schema_type(Type::Object).build();
    ContentBuilder::new().schema(Some(Schema::Object(object))).build()
}

fn request() -> Schema {
    let model = ObjectBuilder::new()
        .schema_type(Type::String)
        .description(Some("A model of this server, by its id or path"))
        .min_length(Some(1))
        .max_length(Some(256));
    let request = ObjectBuilder::new()
        .schema_type(Type::Object)
        .property("model", model)
        .required("model")
        .additional_properties(Some(AdditionalProperties::FreeForm(true)));
    Schema::Object(request.build())
}

const JSON: &str = "application/json";
const DESCRIPTION: &str = "The request goes to the provider of the model, and its answer comes back as it is. The provider's \
                           reference describes both. Refusals are errors of the API.";
const LIST_REFUSED: [(&str, &str); 3] = [
    ("400", "The request cannot be read"),
    ("401", "The access key is missing, not known or expired"),
    ("503", "The store gave no answer, or the server is overloaded"),
];
const REFUSED: [(&str, &str); 11] = [
    ("400", "The request cannot be read, or a value is out of bounds"),
    ("401", "The access key is missing, not known or expired"),
    ("402", "The budget is exhausted; 429 in OpenAI's words"),
    ("403", "An admin key makes no calls"),
    ("404", "No such model, or its provider does not offer this API"),
    ("408", "The body did not come in time"),
    ("413", "The body is too long"),
    ("429", "A limit is reached"),
    ("502", "The provider cannot be reached, or failed"),
    ("503", "The store gave no answer, or the server is overloaded"),
    ("504", "The provider did not answer in time"),
];
