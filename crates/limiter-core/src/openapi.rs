//! OpenAPI schemas (feature `utoipa`) of the types that serde reads and writes as a text, a number or a list. All other
//! types derive theirs from the struct that serde reads or writes.

use utoipa::openapi::schema::{
    ArrayBuilder, KnownFormat, ObjectBuilder, OneOfBuilder, SchemaFormat,
};
use utoipa::openapi::{RefOr, Schema, Type};
use utoipa::{PartialSchema, ToSchema};

use crate::access_key::{KeyPrefix, MaskedKey};
use crate::clock::Timestamp;
use crate::config::Other;
use crate::credits::Credits;
use crate::labels::Labels;
use crate::limits::{Limits, MAX_COUNT, PARALLEL, UNLIMITED, every_name};
use crate::names::{AssetId, KeyId, KeyName, PlanName, RequestId, WorkspaceId};
use crate::rule::{Rule, Unit};
use crate::thresholds::Thresholds;
use crate::zone::TimeZone;

/// Gives a type the schema of the struct that serde reads and writes in its place.
macro_rules! schema_of {
    ($type:ty, $form:ty) => {
        impl utoipa::PartialSchema for $type {
            fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
                <$form as utoipa::PartialSchema>::schema()
            }
        }

        impl utoipa::ToSchema for $type {
            fn schemas(
                schemas: &mut Vec<(String, utoipa::openapi::RefOr<utoipa::openapi::Schema>)>,
            ) {
                <$form as utoipa::ToSchema>::schemas(schemas);
            }
        }
    };
}
pub(crate) use schema_of;

/// The same for a type that stands among the fields of others: its schema leaves room for theirs.
macro_rules! open_schema_of {
    ($type:ty, $form:ty) => {
        impl utoipa::PartialSchema for $type {
            fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
                $crate::openapi::open(<$form as utoipa::PartialSchema>::schema())
            }
        }

        impl utoipa::ToSchema for $type {
            fn schemas(
                schemas: &mut Vec<(String, utoipa::openapi::RefOr<utoipa::openapi::Schema>)>,
            ) {
                <$form as utoipa::ToSchema>::schemas(schemas);
            }
        }
    };
}
pub(crate) use open_schema_of;

pub(crate) fn open(mut schema: RefOr<Schema>) -> RefOr<Schema> {
    if let RefOr::T(Schema::Object(object)) = &mut schema {
        object.additional_properties = None;
    }
    schema
}

macro_rules! schemas {
    ($($type:ty: $schema:expr, $description:literal;)*) => {$(
        impl PartialSchema for $type {
            fn schema() -> RefOr<Schema> {
                $schema.description(Some($description)).into()
            }
        }

        impl ToSchema for $type {}
    )*};
}

schemas! {
    AssetId: text(AssetId::MAX_BYTES), "The id of an asset: a model or a tool.";
    KeyId: text(KeyId::MAX_BYTES), "The id of a key or of a group: one to four segments of 1 to 64 bytes, with slashes between.";
    KeyName: text(KeyName::MAX_BYTES), "The name of a key, without control characters, unique in its workspace.";
    PlanName: text(PlanName::MAX_BYTES), "The name of a plan, without control characters, unique in its workspace.";
    RequestId: text(RequestId::MAX_BYTES), "The id of a request or a reservation.";
    WorkspaceId: text(WorkspaceId::MAX_BYTES), "The id of a workspace.";
    MaskedKey: string(), "The prefix of an access key, if it has one, and the first and last four of its other characters.";
    KeyPrefix:
        string().pattern(Some("^[0-9A-Za-z_-]{1,16}$")).examples(["sk-acme-"]),
        "The visible start of an access key.";
    Labels: labels(), "Names and values of the service's own.";
    Rule: string().enum_values(Some(Rule::all().map(Rule::name).collect::<Vec<_>>())), "Scope, window and unit of a limit; or scope/parallel.";
    Limits: limits(), "Limits of a scope, by window and unit, and of its calls in parallel; null is no limit of its own, and unlimited lifts that of a plan.";
    Other: OneOfBuilder::new().item(limits()).item(string().enum_values(Some(["denied"]))), "Limits of all assets that are not listed, together; or that they are denied.";
    TimeZone: text(TimeZone::MAX_BYTES).examples(["Europe/Berlin"]), "A time zone, by its name in the IANA database.";
    Credits:
        string().pattern(Some("^[0-9]+([.][0-9]{1,6})?$")).examples(["1.50"]),
        "Credits, as a decimal number with at most six decimals.";
    Timestamp:
        string().format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime))).examples(["2025-10-09T12:00:00Z"]),
        "An instant, as RFC 3339.";
    Thresholds:
        ArrayBuilder::new()
            .items(integer().minimum(Some(1)).maximum(Some(100)).build())
            .max_items(Some(Thresholds::MOST)),
        "Shares of a limit, in percent, rising.";
}

/// An object of all limits that there may be, by their names.
fn limits() -> ObjectBuilder {
    let unlimited = || string().enum_values(Some([UNLIMITED]));
    let count = || integer().minimum(Some(0)).maximum(Some(MAX_COUNT as f64));
    let count = || OneOfBuilder::new().item(count()).item(unlimited());
    let credits = || OneOfBuilder::new().item(Credits::schema()).item(unlimited());
    let amounts = every_name().fold(ObjectBuilder::new(), |object, ((_, unit), name)| match unit {
        Unit::Credits => object.property(name, credits()),
        _ => object.property(name, count()),
    });
    amounts.property(PARALLEL, count())
}

fn labels() -> ObjectBuilder {
    let names = text(Labels::MAX_NAME_BYTES);
    let values = string().max_length(Some(Labels::MAX_VALUE_BYTES));
    ObjectBuilder::new()
        .property_names(Some(Schema::Object(names.build())))
        .additional_properties(Some(Schema::Object(values.build())))
        .max_properties(Some(Labels::MOST))
}

fn text(max_bytes: usize) -> ObjectBuilder {
    string().min_length(Some(1)).max_length(Some(max_bytes))
}

fn string() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String)
}

fn integer() -> ObjectBuilder {
    let int64 = SchemaFormat::KnownFormat(KnownFormat::Int64);
    ObjectBuilder::new().schema_type(Type::Integer).format(Some(int64))
}
