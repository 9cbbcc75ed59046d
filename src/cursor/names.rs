//! The numbers that stand for POP3's unique-ids in a cursor. Pure: no I/O, no clock.
//!
//! Exchange's unique-ids are small decimal numbers and are their own numbers here, so that thousands of them are one range. Any other name gets
//! the next number from [`FIRST_GIVEN`] on, kept beside the first 8 bytes of the name's SHA-256. What goes into placements is that hash and
//! never a given number, which may be another one after a crash.

use std::collections::{BTreeMap, HashMap};

use aws_lc_rs::digest;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::UidSet;

/// Numbers below are unique-ids themselves, those from here on were given.
pub const FIRST_GIVEN: u32 = 1 << 31;
/// Most names with a given number in one cursor: in the stored form 11 bytes each, within [`super::MAX_BYTES`] with room for what is owed.
pub const MAX_NAMES: usize = 22_000;
/// Most unique-ids that several messages of one listing may bear; beyond, the listing is of no use.
pub const MAX_SHARED: usize = 100;

/// A unique-id (RFC 1939 section 7), as far as it is remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Name {
    /// A decimal number without leading zeros, 1 to 2³¹ − 1.
    Number(u32),
    /// The first 8 bytes of the SHA-256 of any other one.
    Hash([u8; 8]),
}

impl Name {
    /// The name that a server wrote.
    pub fn new(written: &[u8]) -> Self {
        let decimal = written.len() <= 10 && written.first().is_some_and(|digit| *digit != b'0') && written.iter().all(u8::is_ascii_digit);
        let number = decimal.then(|| std::str::from_utf8(written).ok()?.parse().ok()).flatten();
        match number.filter(|number| *number < FIRST_GIVEN) {
            Some(number) => Self::Number(number),
            None => Self::Hash(first_eight(written)),
        }
    }

    /// What stands for it in placements.
    pub fn hash(self) -> [u8; 8] {
        match self {
            Self::Number(number) => first_eight(number.to_string().as_bytes()),
            Self::Hash(hash) => hash,
        }
    }

    /// The one entry that stands for all messages that share this name.
    fn shared(self) -> [u8; 8] {
        first_eight(&[b"shared ".as_slice(), &self.hash()].concat())
    }
}

fn first_eight(input: &[u8]) -> [u8; 8] {
    let mut first = [0; 8];
    first.iter_mut().zip(digest::digest(&digest::SHA256, input).as_ref()).for_each(|(to, from)| *to = *from);
    first
}

/// What is kept of the names in a folder.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Names {
    given: BTreeMap<u32, [u8; 8]>,
    /// Known, and lacking in the listings since `since`.
    pub(super) absent: UidSet,
    pub(super) since: Option<Timestamp>,
}

/// The numbers of one listing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Numbered {
    /// One for each name, in the listing's order; 0 where the message is not to be touched.
    pub numbers: Vec<u32>,
    /// Names for which [`MAX_NAMES`] left no number.
    pub left_out: u64,
    /// Given to names that several messages share: one number for each such name, which is no message's.
    pub(super) shared: UidSet,
    /// What such names meant before: nothing known of them holds any longer.
    pub(super) ambiguous: UidSet,
    /// What is known of shared names has changed.
    pub(super) changed: bool,
}

/// More than [`MAX_SHARED`] names are shared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("more than {MAX_SHARED} unique-ids are borne by several messages each")]
pub struct TooManyShared;

impl Names {
    /// Numbers a complete listing. Names not met before get new numbers, in the listing's order.
    pub(super) fn number(&mut self, listing: &[Name]) -> Result<Numbered, TooManyShared> {
        let mut known: HashMap<[u8; 8], u32> = self.given.iter().map(|(number, hash)| (*hash, *number)).collect();
        let mut borne: HashMap<Name, u32> = HashMap::with_capacity(listing.len());
        listing.iter().for_each(|name| *borne.entry(*name).or_default() += 1);
        let mut shared: Vec<Name> = borne.iter().filter(|(_, times)| **times > 1).map(|(name, _)| *name).collect();
        if shared.len() > MAX_SHARED {
            return Err(TooManyShared);
        }
        shared.sort_unstable();
        let mut numbered = Numbered { numbers: Vec::with_capacity(listing.len()), ..Numbered::default() };
        for name in &shared {
            let before = match name {
                Name::Number(number) => Some(*number),
                Name::Hash(hash) => known.get(hash).copied(),
            };
            before.into_iter().for_each(|number| numbered.ambiguous.insert(number));
            match self.give(name.shared(), &mut known) {
                Some(number) => numbered.shared.insert(number),
                None => numbered.left_out += 1,
            }
        }
        for name in listing {
            let number = match name {
                name if borne.get(name).is_some_and(|times| *times > 1) => Some(0),
                Name::Number(number) => Some(*number),
                Name::Hash(hash) => self.give(*hash, &mut known),
            };
            numbered.left_out += u64::from(number.is_none());
            numbered.numbers.push(number.unwrap_or_default());
        }
        Ok(numbered)
    }

    fn give(&mut self, hash: [u8; 8], known: &mut HashMap<[u8; 8], u32>) -> Option<u32> {
        if let Some(number) = known.get(&hash) {
            return Some(*number);
        }
        let number = self.given.last_key_value().map_or(Some(FIRST_GIVEN), |(last, _)| last.checked_add(1))?;
        if self.given.len() >= MAX_NAMES {
            return None;
        }
        self.given.insert(number, hash);
        known.insert(hash, number);
        Some(number)
    }

    pub(super) fn forget(&mut self, numbers: &UidSet) {
        self.given.retain(|number, _| !numbers.contains(*number));
        self.absent = self.absent.difference(numbers);
    }

    /// The numbers that were given, with what stands for their names in placements.
    pub fn given(&self) -> &BTreeMap<u32, [u8; 8]> {
        &self.given
    }

    /// As a set.
    pub(super) fn given_numbers(&self) -> UidSet {
        self.given.keys().copied().collect()
    }

    /// No name more can get a number.
    pub fn is_full(&self) -> bool {
        self.given.len() >= MAX_NAMES
    }
}

/// The stored form.
#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Stored {
    #[serde(skip_serializing_if = "UidSet::is_empty")]
    numbers: UidSet,
    #[serde(skip_serializing_if = "String::is_empty")]
    hashes: String,
    #[serde(skip_serializing_if = "UidSet::is_empty")]
    absent: UidSet,
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<Timestamp>,
}

impl Serialize for Names {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let hashes: Vec<u8> = self.given.values().flatten().copied().collect();
        let (absent, since) = (self.absent.clone(), self.since);
        Stored { numbers: self.given_numbers(), hashes: STANDARD.encode(hashes), absent, since }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Names {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Stored { numbers, hashes, absent, since } = Stored::deserialize(deserializer)?;
        let hashes = STANDARD.decode(hashes).map_err(serde::de::Error::custom)?;
        let (hashes, rest) = hashes.as_chunks::<8>();
        // A list that lost its end would give messages the names of others.
        if !rest.is_empty() || hashes.len() as u64 != numbers.len() {
            return Err(serde::de::Error::custom("names and their numbers do not match"));
        }
        Ok(Self { given: numbers.iter().zip(hashes.iter().copied()).collect(), absent, since })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(written: &[&str]) -> Vec<Name> {
        written.iter().map(|name| Name::new(name.as_bytes())).collect()
    }

    #[test]
    fn a_plain_decimal_number_is_its_own_number_and_nothing_else_is() {
        for (written, number) in [("1", 1), ("6499", 6_499), ("2147483647", FIRST_GIVEN - 1)] {
            assert_eq!(Name::new(written.as_bytes()), Name::Number(number));
        }
        for written in ["", "0", "01", "+1", "2147483648", "99999999999", "1 ", "0000000112345678", "abc"] {
            assert!(matches!(Name::new(written.as_bytes()), Name::Hash(_)), "{written}");
        }
    }

    #[test]
    fn a_name_keeps_its_number_and_a_new_one_gets_the_next() {
        let mut table = Names::default();
        let first = table.number(&names(&["b", "7", "a"])).unwrap();
        assert_eq!(first.numbers, [FIRST_GIVEN, 7, FIRST_GIVEN + 1]);
        let second = table.number(&names(&["a", "c", "b", "9"])).unwrap();
        assert_eq!(second.numbers, [FIRST_GIVEN + 1, FIRST_GIVEN + 2, FIRST_GIVEN, 9]);
    }

    #[test]
    fn what_several_messages_are_called_is_the_name_of_none() {
        let mut table = Names::default();
        assert_eq!(table.number(&names(&["x", "5", "y"])).unwrap().numbers, [FIRST_GIVEN, 5, FIRST_GIVEN + 1]);
        let shared = table.number(&names(&["x", "5", "y", "x", "5"])).unwrap();
        assert_eq!(shared.numbers, [0, 0, FIRST_GIVEN + 1, 0, 0]);
        assert_eq!(shared.ambiguous, [5, FIRST_GIVEN].into_iter().collect());
        assert_eq!(shared.shared.len(), 2);
        assert_eq!(table.number(&names(&["x", "5", "y", "x", "5"])).unwrap().shared, shared.shared, "the same entries each time");
        let many: Vec<Name> = (1..=101).flat_map(|number| [Name::Number(number); 2]).collect();
        assert_eq!(table.number(&many), Err(TooManyShared));
    }

    #[test]
    fn beyond_the_bound_names_get_no_number_and_nothing_is_dropped() {
        let listing: Vec<Name> = (0..MAX_NAMES as u64 + 3).map(|n| Name::Hash(n.to_be_bytes())).collect();
        let mut table = Names::default();
        let numbered = table.number(&listing).unwrap();
        assert_eq!((numbered.left_out, table.given().len(), table.is_full()), (3, MAX_NAMES, true));
        assert_eq!(numbered.numbers[MAX_NAMES..], [0, 0, 0]);
        assert_eq!(table.number(&listing[..10]).unwrap().numbers[9], FIRST_GIVEN + 9);
        assert!(serde_json::to_string(&table).unwrap().len() < 240_000);
    }

    #[test]
    fn the_stored_form_is_read_back_and_a_cut_one_is_not() {
        let mut table = Names::default();
        table.number(&names(&["a", "b", "c", "d"])).unwrap();
        table.forget(&UidSet::from_range(FIRST_GIVEN + 1, FIRST_GIVEN + 1));
        let text = serde_json::to_string(&table).unwrap();
        assert_eq!(
            text,
            r#"{"numbers":"2147483648,2147483650:2147483651","hashes":"ypeBEsobvcouI6CccIUW/MCMRLW0OoHd"}"#.replace(
                "ypeBEsobvcouI6CccIUW/MCMRLW0OoHd",
                &STANDARD.encode(table.given().values().flatten().copied().collect::<Vec<u8>>())
            )
        );
        assert_eq!(serde_json::from_str::<Names>(&text).unwrap(), table);
        assert!(serde_json::from_str::<Names>(&text.replace("2147483648,", "")).is_err());
        assert_eq!(serde_json::from_str::<Names>("{}").unwrap(), Names::default());
    }
}
