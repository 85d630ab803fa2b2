//! The whole of a key: its three hashes, as `read.lua` answers them.

use std::collections::BTreeMap;

use limiter_core::{AssetId, KeyId, KeyName, MaskedKey, StoredKey, StoredSecret, WorkspaceId};
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
}

/// Reads the stored data of a key other than its state, from the fields of its record.
pub(crate) fn stored_key(fields: &HashFields<'_>) -> Result<StoredKey, Misread> {
    match fields.required("format")? {
        b"1" => {}
        _ => return Err(Misread::Newer),
    }
    let secret = match fields.required("digest")? {
        b"" => None,
        digest => Some(StoredSecret {
            digest: plain(digest)?.to_owned().try_into().map_err(|_| NO_DIGEST)?,
            masked: text::<String>(fields.required("masked")?)
                .and_then(|masked| MaskedKey::try_from(masked).map_err(|_| NO_DIGEST))?,
        }),
    };
    Ok(StoredKey {
        id: text::<KeyId>(fields.required("id")?)?,
        workspace: text::<WorkspaceId>(fields.required("workspace")?)?,
        name: text::<KeyName>(fields.required("name")?)?,
        secret,
        version: text(fields.required("version")?)?,
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
