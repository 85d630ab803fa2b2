//! Structs that deserialize from objects only: serde's derive also accepts sequences, so that `[5, 1, 1, 1]` would be a
//! charge.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};
use serde::forward_to_deserialize_any;

/// A `T` that deserializes from an object only: a JSON or TOML array in its place is an error.
///
/// Every struct from outside is read through it: requests, configuration files, the serde forms of the library. Formats
/// that are not human-readable keep their sequences, since most of them write structs that way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Object<T>(pub T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            T::deserialize(FromObject(deserializer)).map(Self)
        } else {
            T::deserialize(deserializer).map(Self)
        }
    }
}

/// Deserializes a type through a struct that mirrors it (`#[serde(remote)]`), from an object only, and checks the value.
/// The struct also gives the type its OpenAPI schema.
macro_rules! checked_object {
    ($type:ident, $form:ident, $check:expr) => {
        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let check: fn(Self) -> Result<Self, crate::error::InvalidValue> = $check;
                let read = if deserializer.is_human_readable() {
                    $form::deserialize(crate::object::FromObject(deserializer))
                } else {
                    $form::deserialize(deserializer)
                };
                check(read?).map_err(serde::de::Error::custom)
            }
        }

        #[cfg(feature = "utoipa")]
        crate::openapi::schema_of!($type, $form);
    };
}
pub(crate) use checked_object;

/// A deserializer that passes on maps only.
pub(crate) struct FromObject<D>(pub(crate) D);

impl<'de, D: Deserializer<'de>> Deserializer<'de> for FromObject<D> {
    type Error = D::Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.0.deserialize_any(MapOnly(visitor))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.0.deserialize_struct(name, fields, MapOnly(visitor))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

/// A visitor of maps only: the defaults of [`Visitor`] make every other kind of value an error.
struct MapOnly<V>(V);

impl<'de, V: Visitor<'de>> Visitor<'de> for MapOnly<V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<V::Value, A::Error> {
        self.0.visit_map(map)
    }
}

/// Reads a map and refuses duplicate keys, of which serde would silently keep the last.
pub(crate) fn distinct_keys<'de, D, K, V>(deserializer: D) -> Result<BTreeMap<K, V>, D::Error>
where
    D: Deserializer<'de>,
    K: Deserialize<'de> + Ord + fmt::Debug,
    V: Deserialize<'de>,
{
    struct Distinct<K, V>(PhantomData<(K, V)>);

    impl<'de, K: Deserialize<'de> + Ord + fmt::Debug, V: Deserialize<'de>> Visitor<'de>
        for Distinct<K, V>
    {
        type Value = BTreeMap<K, V>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut read = Self::Value::new();
            while let Some(key) = map.next_key::<K>()? {
                if read.contains_key(&key) {
                    return Err(A::Error::custom(format!("duplicate field {key:?}")));
                }
                read.insert(key, map.next_value()?);
            }
            Ok(read)
        }
    }

    deserializer.deserialize_map(Distinct(PhantomData))
}

#[cfg(test)]
mod tests {
    use serde::de::DeserializeOwned;
    use serde_json::json;

    use crate::{Charge, KeyConfig, Limits, Totals};

    fn error<T: DeserializeOwned + std::fmt::Debug>(json: serde_json::Value) -> String {
        let by_value = serde_json::from_value::<T>(json.clone()).unwrap_err().to_string();
        let by_text = serde_json::from_str::<T>(&json.to_string()).unwrap_err().to_string();
        assert!(by_text.starts_with(&by_value), "{by_text} {by_value}");
        by_text
    }

    #[test]
    fn an_array_is_no_object() {
        for message in [
            error::<Charge>(json!([5, 1, 1, 1])),
            error::<Totals>(json!([5, 1, 1])),
            error::<Limits>(json!([1, 2, 3, 4, "total"])),
            error::<KeyConfig>(json!(["ci"])),
            error::<KeyConfig>(json!({"name": "ci", "global": [1, 2, 3, 4, "total"]})),
            error::<KeyConfig>(json!({"name": "ci", "assets": {"a": [1, 2, 3, 4, "total"]}})),
        ] {
            assert!(message.contains("invalid type: sequence, expected an object"), "{message}");
        }
        assert!(error::<Charge>(json!("5")).contains("expected an object"));
        assert!(error::<Charge>(json!(null)).contains("expected an object"));
    }

    #[test]
    fn a_field_is_given_once() {
        for json in [
            r#"{"requests":1,"requests":2}"#,
            r#"{"name":"ci","name":"ci"}"#,
            r#"{"name":"ci","assets":{"a":{},"a":{"requests_per_day":1}}}"#,
        ] {
            let errors = [
                serde_json::from_str::<Charge>(json).unwrap_err().to_string(),
                serde_json::from_str::<KeyConfig>(json).unwrap_err().to_string(),
            ];
            assert!(errors.iter().any(|error| error.contains("duplicate field")), "{errors:?}");
        }
    }

    #[test]
    fn what_was_written_is_read_again() {
        let config = json!({"name": "ci", "assets": {"a": {"requests_per_day": 1}}, "budget": 5});
        let config: KeyConfig = serde_json::from_value(config).unwrap();
        let again = serde_json::from_value(serde_json::to_value(&config).unwrap());
        assert_eq!(again.ok(), Some(config));
    }
}
