//! The whole of a key: its three hashes, as `read.lua` answers them.

use std::collections::BTreeMap;

use limiter_core::{
    AssetId, KeyId, KeyName, Labels, MaskedKey, ReplacedSecret, StoredKey, StoredPlan,
    StoredSecret, Timestamp, WorkspaceId,
};
use redis::Value;

use super::{GLOBAL, Known, Misread, NOT_AN_ANSWER, OTHER, bytes, read_state};

/// The fields of a hash.
#[derive(Debug)]
pub(crate) struct HashFields<'a>(BTreeMap<&'a [u8], &'a [u8]>);

impl<'a> HashFields<'a> {
    /// Reads what `HGETALL` answers a script.
    pub(crate) fn read(value: &'a Value) -> Result<Self, Misread> {
        let Value::Array(texts) = value else { return Err(Misread::WrongType) };
        let pairs = texts.chunks_exact(2).map(|pair| match pair {
            [field, value] => bytes(field).zip(bytes(value)).ok_or(NOT_AN_ANSWER),
            _ => Err(NOT_AN_ANSWER),
        });
        pairs.collect::<Result<_, _>>().map(Self)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn required(&self, field: &str) -> Result<&'a [u8], Misread> {
        self.0.get(field.as_bytes()).copied().ok_or(Misread::Corrupt("a field is missing"))
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = &'a [u8]> {
        self.0.values().copied()
    }

    /// The text of a field, empty if it is not there.
    fn optional(&self, field: &str) -> Result<&'a str, Misread> {
        self.0.get(field.as_bytes()).map_or(Ok(""), |text| plain(text))
    }
}

/// Reads the stored data of a key other than its state, from the fields of its record.
pub(crate) fn stored_key(fields: &HashFields<'_>) -> Result<StoredKey, Misread> {
    match fields.required("format")? {
        b"1" => {}
        _ => return Err(Misread::Newer),
    }
    let secret = match fields.required("digest")? {
        b"" => None,
        digest => {
            let drawn = fields.optional("drawn")?;
            Some(secret_of(plain(digest)?, plain(fields.required("masked")?)?, drawn)?)
        }
    };
    let time = |field| Ok(Timestamp::from_unix_ms(text(fields.required(field)?)?));
    Ok(StoredKey {
        id: text::<KeyId>(fields.required("id")?)?,
        workspace: text::<WorkspaceId>(fields.required("workspace")?)?,
        name: text::<KeyName>(fields.required("name")?)?,
        labels: read_labels(fields.optional("labels")?)?,
        own: match fields.optional("own")? {
            "" => None,
            own => Some(serde_json::from_str(own).map_err(|_| NO_CONFIGURATION)?),
        },
        secret,
        replaced: read_replaced(fields.optional("replaced")?)?,
        created_at: time("created")?,
        changed_at: time("changed")?,
        version: text(fields.required("version")?)?,
    })
}

/// The fields of a record that say what its access key is, and which ones it had before.
pub(crate) fn secret_fields(key: &StoredKey) -> [(&'static str, String); 4] {
    let (digest, masked, drawn) = key.secret.map_or_else(Default::default, written_secret);
    let replaced = key.replaced.iter().map(|old| {
        let (digest, masked, drawn) = written_secret(old.secret);
        let drawn = if drawn.is_empty() { "0" } else { "1" };
        format!("{digest} {masked} {drawn} {}", old.works_until.unix_ms())
    });
    let replaced = replaced.collect::<Vec<_>>().join(" ");
    [("digest", digest), ("masked", masked), ("drawn", drawn), ("replaced", replaced)]
}

fn written_secret(secret: StoredSecret) -> (String, String, String) {
    let drawn = if secret.is_drawn { "1" } else { "" };
    (secret.digest.into(), secret.masked.to_string(), drawn.to_owned())
}

/// Names and values, each in a line of its own: they have no control characters.
pub(crate) fn written_labels(labels: &Labels) -> String {
    labels.iter().flat_map(|(name, value)| [name, value]).collect::<Vec<_>>().join("\n")
}

/// The configuration of a key whose state does not tell it; empty for most.
pub(crate) fn written_own(key: &StoredKey) -> String {
    key.own.as_ref().map_or_else(String::new, |own| serde_json::to_string(own).unwrap_or_default())
}

pub(crate) fn written_plan(plan: &StoredPlan) -> Vec<u8> {
    serde_json::to_vec(plan).unwrap_or_default()
}

pub(crate) fn read_plan(written: &[u8]) -> Result<StoredPlan, Misread> {
    serde_json::from_slice(written).map_err(|_| Misread::Corrupt("a plan that cannot be"))
}

fn read_labels(text: &str) -> Result<Labels, Misread> {
    let lines: Vec<_> = if text.is_empty() { Vec::new() } else { text.split('\n').collect() };
    let pairs = lines.chunks(2).map(|pair| match pair {
        [name, value] => Ok((name, value)),
        _ => Err(NO_LABELS),
    });
    Labels::new(pairs.collect::<Result<Vec<_>, _>>()?).map_err(|_| NO_LABELS)
}

fn read_replaced(text: &str) -> Result<Vec<ReplacedSecret>, Misread> {
    let words: Vec<_> = text.split_ascii_whitespace().collect();
    let replaced = words.chunks(4).map(|words| match words {
        [digest, masked, drawn, works_until] => {
            let drawn = if *drawn == "1" { "1" } else { "" };
            let works_until = works_until.parse().map_err(|_| NO_DIGEST)?;
            let works_until = Timestamp::from_unix_ms(works_until);
            Ok(ReplacedSecret { secret: secret_of(digest, masked, drawn)?, works_until })
        }
        _ => Err(NO_DIGEST),
    });
    let replaced: Vec<_> = replaced.collect::<Result<_, _>>()?;
    if replaced.len() > StoredKey::MOST_REPLACED { Err(NO_DIGEST) } else { Ok(replaced) }
}

fn secret_of(digest: &str, masked: &str, drawn: &str) -> Result<StoredSecret, Misread> {
    let is_drawn = match drawn {
        "" => false,
        "1" => true,
        _ => return Err(NO_DIGEST),
    };
    Ok(StoredSecret {
        digest: digest.to_owned().try_into().map_err(|_| NO_DIGEST)?,
        masked: MaskedKey::try_from(masked.to_owned()).map_err(|_| NO_DIGEST)?,
        is_drawn,
    })
}

/// The whole of a key, from its hot and its cold hash.
pub(crate) fn whole_key(hot: &HashFields<'_>, cold: &HashFields<'_>) -> Result<Known, Misread> {
    let global = hot.0.get(GLOBAL).zip(cold.0.get(GLOBAL));
    let (global, limits) = global.ok_or(Misread::Corrupt("a field is missing"))?;
    let assets = hot.0.iter().filter_map(|(field, record)| match field.split_first() {
        Some((b'a', id)) => Some((id, field, *record)),
        _ => None,
    });
    let assets = assets.map(|(id, field, record)| {
        let limits = cold.0.get(field).copied();
        let limits = limits.ok_or(Misread::Corrupt("an asset without limits is counted"))?;
        Ok((text::<AssetId>(id)?, record, limits))
    });
    let assets: Vec<_> = assets.collect::<Result<_, _>>()?;
    let other = match (hot.0.get(OTHER), cold.0.get(OTHER)) {
        (Some(record), Some(limits)) => Some((*record, *limits)),
        (None, None) => None,
        _ => return Err(Misread::Corrupt("a field is missing")),
    };
    read_state(global, limits, assets, other)
}

fn text<T: std::str::FromStr>(bytes: &[u8]) -> Result<T, Misread> {
    plain(bytes)?.parse().map_err(|_| Misread::Corrupt("a text that cannot be"))
}

fn plain(bytes: &[u8]) -> Result<&str, Misread> {
    str::from_utf8(bytes).map_err(|_| Misread::Corrupt("a text that is no UTF-8"))
}

const NO_DIGEST: Misread = Misread::Corrupt("a digest of an access key that cannot be");
const NO_CONFIGURATION: Misread = Misread::Corrupt("a configuration that cannot be");
const NO_LABELS: Misread = Misread::Corrupt("labels that cannot be");
