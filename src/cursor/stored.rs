//! How fingerprints and placements are written in a cursor: short, and readable by a person where there are few. Pure: no I/O, no clock.

use std::collections::BTreeSet;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Placements of an older numbering that stand for messages of this one; stored as base64 of 8 bytes each, sorted.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Claims(pub(super) BTreeSet<[u8; 8]>);

impl Claims {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Serialize for Claims {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let bytes: Vec<u8> = self.0.iter().flatten().copied().collect();
        serializer.serialize_str(&STANDARD.encode(bytes))
    }
}

impl<'de> Deserialize<'de> for Claims {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = STANDARD.decode(String::deserialize(deserializer)?).map_err(serde::de::Error::custom)?;
        let (placements, rest) = bytes.as_chunks::<8>();
        if !rest.is_empty() {
            return Err(serde::de::Error::custom("claimed placements are 8 bytes each"));
        }
        Ok(Self(placements.iter().copied().collect()))
    }
}

/// Eight bytes as sixteen lower-case hexadecimal digits.
pub(super) mod hex8 {
    use serde::{Deserialize, Deserializer, Serializer};

    fn parse(text: &str) -> Option<[u8; 8]> {
        let plain = text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        u64::from_str_radix(text, 16).ok().filter(|_| plain).map(u64::to_be_bytes)
    }

    pub(crate) fn serialize<S: Serializer>(bytes: &[u8; 8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{:016x}", u64::from_be_bytes(*bytes)))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<[u8; 8], D::Error> {
        parse(&String::deserialize(deserializer)?).ok_or_else(|| serde::de::Error::custom("not sixteen hexadecimal digits"))
    }
}
