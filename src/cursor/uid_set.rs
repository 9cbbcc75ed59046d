//! A set of IMAP UIDs, kept as sorted ranges and written as RFC 9051's sequence-set. Pure: no I/O, no clock.
//! It knows nothing of folders or of what membership means.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Longest text that [`UidSet::from_str`] reads, in bytes: law 9's bound on a whole cursor.
pub const MAX_TEXT: usize = 256 * 1024;

/// Sorted, disjoint, non-adjacent inclusive ranges of UIDs (1..=u32::MAX). Memory and time follow the number of ranges, not of members.
///
/// Written as a sequence-set (`1:5,7`, RFC 9051 section 9) without `*`; the empty set is the empty text, which no IMAP command accepts.
#[derive(Clone, Default, PartialEq, Eq, Hash, Debug)]
pub struct UidSet {
    ranges: Vec<(u32, u32)>,
}

impl UidSet {
    /// The empty set.
    pub fn new() -> Self {
        Self::default()
    }

    /// The UIDs from `low` to `high`, both included; empty where `low` is above `high`. UID 0 does not exist and is left out.
    pub fn from_range(low: u32, high: u32) -> Self {
        let mut set = Self::new();
        set.insert_range(low, high);
        set
    }

    /// Adds one UID; 0 is ignored.
    pub fn insert(&mut self, uid: u32) {
        self.insert_range(uid, uid);
    }

    /// Adds `low..=high`; nothing where `low` is above `high`.
    pub fn insert_range(&mut self, low: u32, high: u32) {
        let low = low.max(1);
        if low > high {
            return;
        }
        let start = self.ranges.partition_point(|range| range.1.saturating_add(1) < low);
        let end = self.ranges.partition_point(|range| range.0 <= high.saturating_add(1));
        let touched = self.ranges.get(start..end).unwrap_or_default();
        let low = touched.first().map_or(low, |range| range.0.min(low));
        let high = touched.last().map_or(high, |range| range.1.max(high));
        self.ranges.splice(start..end, [(low, high)]);
    }

    /// Takes one UID out.
    pub fn remove(&mut self, uid: u32) {
        self.remove_range(uid, uid);
    }

    /// Takes `low..=high` out; nothing where `low` is above `high`.
    pub fn remove_range(&mut self, low: u32, high: u32) {
        let low = low.max(1);
        if low > high {
            return;
        }
        let start = self.ranges.partition_point(|range| range.1 < low);
        let end = self.ranges.partition_point(|range| range.0 <= high);
        let touched = self.ranges.get(start..end).unwrap_or_default();
        let left = touched.first().filter(|range| range.0 < low).map(|range| (range.0, low - 1));
        let right = touched.last().filter(|range| range.1 > high).map(|range| (high + 1, range.1));
        self.ranges.splice(start..end, left.into_iter().chain(right));
    }

    /// Whether `uid` is a member.
    pub fn contains(&self, uid: u32) -> bool {
        let at = self.ranges.partition_point(|range| range.1 < uid);
        self.ranges.get(at).is_some_and(|range| range.0 <= uid)
    }

    /// The number of members.
    pub fn len(&self) -> u64 {
        self.ranges.iter().map(width).sum()
    }

    /// Whether there is no member.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// The ranges, ascending, both ends included.
    pub fn ranges(&self) -> &[(u32, u32)] {
        &self.ranges
    }

    /// The number of ranges.
    pub fn range_count(&self) -> usize {
        self.ranges.len()
    }

    /// The lowest member.
    pub fn first(&self) -> Option<u32> {
        self.ranges.first().map(|range| range.0)
    }

    /// The highest member.
    pub fn last(&self) -> Option<u32> {
        self.ranges.last().map(|range| range.1)
    }

    /// The members of either set.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        let mut ranges = Vec::with_capacity(self.ranges.len() + other.ranges.len());
        ranges.extend_from_slice(&self.ranges);
        ranges.extend_from_slice(&other.ranges);
        Self::from_unsorted(ranges)
    }

    /// The whole ranges of `self` in which `other` has a member.
    #[must_use]
    pub fn ranges_meeting(&self, other: &Self) -> Self {
        let mut others = other.ranges.iter().peekable();
        let meets = |range: &&(u32, u32)| {
            while others.next_if(|other| other.1 < range.0).is_some() {}
            others.peek().is_some_and(|other| other.0 <= range.1)
        };
        Self { ranges: self.ranges.iter().filter(meets).copied().collect() }
    }

    /// The members of `self` that are not in `other`.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Self {
        self.intersection(&other.complement())
    }

    /// The members of both sets.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        let mut ranges = Vec::new();
        let (mut left, mut right) = (self.ranges.iter().peekable(), other.ranges.iter().peekable());
        while let (Some(a), Some(b)) = (left.peek(), right.peek()) {
            let (low, high) = (a.0.max(b.0), a.1.min(b.1));
            if low <= high {
                ranges.push((low, high));
            }
            if a.1 <= b.1 {
                left.next();
            } else {
                right.next();
            }
        }
        Self { ranges }
    }

    /// The members, ascending.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = u32> + '_ {
        self.ranges.iter().flat_map(|range| range.0..=range.1)
    }

    /// The `count` lowest members, or all of them where there are fewer.
    #[must_use]
    pub fn take_lowest(&self, count: u64) -> Self {
        let mut left = count;
        let mut ranges = Vec::new();
        for range in &self.ranges {
            if left == 0 {
                break;
            }
            let taken = width(range).min(left);
            left -= taken;
            // `taken` is at most the width of a range of u32, so that it fits after one is subtracted.
            ranges.push((range.0, range.0.saturating_add(u32::try_from(taken - 1).unwrap_or(u32::MAX))));
        }
        Self { ranges }
    }

    /// The `count` highest members, or all of them where there are fewer.
    #[must_use]
    pub fn take_highest(&self, count: u64) -> Self {
        let all = self.len();
        if count >= all { self.clone() } else { self.difference(&self.take_lowest(all - count)) }
    }

    fn complement(&self) -> Self {
        let mut ranges = Vec::with_capacity(self.ranges.len() + 1);
        let mut free = Some(1);
        for range in &self.ranges {
            if let Some(low) = free.filter(|low| *low < range.0) {
                ranges.push((low, range.0 - 1));
            }
            free = range.1.checked_add(1);
        }
        if let Some(low) = free {
            ranges.push((low, u32::MAX));
        }
        Self { ranges }
    }

    fn from_unsorted(mut ranges: Vec<(u32, u32)>) -> Self {
        ranges.sort_unstable();
        let mut merged: Vec<(u32, u32)> = Vec::with_capacity(ranges.len());
        for (low, high) in ranges {
            match merged.last_mut() {
                Some(last) if low <= last.1.saturating_add(1) => last.1 = last.1.max(high),
                Some(_) | None => merged.push((low, high)),
            }
        }
        Self { ranges: merged }
    }
}

fn width(range: &(u32, u32)) -> u64 {
    u64::from(range.1 - range.0) + 1
}

impl FromIterator<u32> for UidSet {
    fn from_iter<I: IntoIterator<Item = u32>>(uids: I) -> Self {
        Self::from_unsorted(uids.into_iter().filter(|uid| *uid != 0).map(|uid| (uid, uid)).collect())
    }
}

impl fmt::Display for UidSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (low, high)) in self.ranges.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            if low == high {
                write!(f, "{comma}{low}")?;
            } else {
                write!(f, "{comma}{low}:{high}")?;
            }
        }
        Ok(())
    }
}

/// Why a text is not a UID set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// Longer than [`MAX_TEXT`].
    #[error("a UID set of {0} bytes; at most {MAX_TEXT} are read")]
    TooLong(usize),
    /// Something that is neither a UID nor a range of UIDs. `*` is refused: what it means depends on the server's moment.
    #[error("item {item} of the UID set is neither a UID nor a range of UIDs")]
    Malformed {
        /// Which item of the comma-separated list, from 1.
        item: usize,
    },
}

impl FromStr for UidSet {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        if text.len() > MAX_TEXT {
            return Err(ParseError::TooLong(text.len()));
        }
        if text.is_empty() {
            return Ok(Self::new());
        }
        let mut ranges = Vec::new();
        for (at, item) in text.split(',').enumerate() {
            let range = match item.split_once(':') {
                Some((a, b)) => uid(a).zip(uid(b)),
                None => uid(item).map(|a| (a, a)),
            };
            let (a, b) = range.ok_or(ParseError::Malformed { item: at + 1 })?;
            // RFC 9051 section 9: 4:2 and 2:4 are the same.
            ranges.push((a.min(b), a.max(b)));
        }
        Ok(Self::from_unsorted(ranges))
    }
}

fn uid(digits: &str) -> Option<u32> {
    // `u32::from_str` takes a sign, IMAP does not.
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok().filter(|uid| *uid != 0)
}

impl Serialize for UidSet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for UidSet {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Change {
        Insert(u32),
        InsertRange(u32, u32),
        Remove(u32),
        RemoveRange(u32, u32),
    }

    /// UIDs near either end of their domain, where the arithmetic could wrap.
    fn some_uid() -> impl Strategy<Value = u32> {
        prop_oneof![0..60u32, (u32::MAX - 60)..=u32::MAX]
    }

    fn same_end_range() -> impl Strategy<Value = (u32, u32)> {
        prop_oneof![(0..60u32, 0..60u32), ((u32::MAX - 60)..=u32::MAX, (u32::MAX - 60)..=u32::MAX)]
    }

    fn change() -> impl Strategy<Value = Change> {
        prop_oneof![
            some_uid().prop_map(Change::Insert),
            same_end_range().prop_map(|(a, b)| Change::InsertRange(a, b)),
            some_uid().prop_map(Change::Remove),
            same_end_range().prop_map(|(a, b)| Change::RemoveRange(a, b)),
        ]
    }

    fn both(changes: &[Change]) -> (UidSet, BTreeSet<u32>) {
        let (mut set, mut model) = (UidSet::new(), BTreeSet::new());
        for change in changes {
            match *change {
                Change::Insert(uid) => {
                    set.insert(uid);
                    model.extend((uid > 0).then_some(uid));
                }
                Change::InsertRange(low, high) => {
                    set.insert_range(low, high);
                    model.extend((low.max(1)..=high).take(200));
                }
                Change::Remove(uid) => {
                    set.remove(uid);
                    model.remove(&uid);
                }
                Change::RemoveRange(low, high) => {
                    set.remove_range(low, high);
                    model.retain(|uid| !(low..=high).contains(uid));
                }
            }
        }
        (set, model)
    }

    fn members(set: &UidSet) -> BTreeSet<u32> {
        set.iter().collect()
    }

    fn assert_canonical(set: &UidSet) {
        for pair in set.ranges().windows(2) {
            assert!(pair[0].1.checked_add(1).is_some_and(|next| next < pair[1].0), "{set:?} has touching ranges");
        }
        assert!(set.ranges().iter().all(|range| range.0 >= 1 && range.0 <= range.1), "{set:?}");
    }

    proptest! {
        #[test]
        fn it_behaves_as_a_set_of_numbers(a in prop::collection::vec(change(), 0..30), b in prop::collection::vec(change(), 0..30), count in 0u64..130) {
            let ((a, model_a), (b, model_b)) = (both(&a), both(&b));
            for set in [&a, &b, &a.union(&b), &a.difference(&b), &a.intersection(&b), &a.take_lowest(count), &a.take_highest(count)] {
                assert_canonical(set);
            }
            prop_assert_eq!(members(&a), model_a.clone());
            prop_assert_eq!(a.len(), model_a.len() as u64);
            prop_assert_eq!(a.is_empty(), model_a.is_empty());
            prop_assert_eq!((a.first(), a.last()), (model_a.first().copied(), model_a.last().copied()));
            prop_assert_eq!(members(&a.union(&b)), &model_a | &model_b);
            prop_assert_eq!(members(&a.difference(&b)), &model_a - &model_b);
            prop_assert_eq!(members(&a.intersection(&b)), &model_a & &model_b);
            prop_assert_eq!(members(&a.take_lowest(count)), model_a.iter().copied().take(count as usize).collect());
            prop_assert_eq!(members(&a.take_highest(count)), model_a.iter().rev().copied().take(count as usize).collect());
            for uid in (0..62).chain(u32::MAX - 62..=u32::MAX) {
                prop_assert_eq!(a.contains(uid), model_a.contains(&uid));
            }
            prop_assert_eq!(a.to_string().parse::<UidSet>().unwrap(), a.clone());
            prop_assert_eq!(model_a.into_iter().rev().collect::<UidSet>(), a);
        }

        #[test]
        fn no_text_makes_it_panic(text in "[0-9:,* +-]{0,40}") {
            if let Ok(set) = text.parse::<UidSet>() {
                assert_canonical(&set);
            }
        }
    }

    #[test]
    fn it_is_written_as_a_sequence_set() {
        for (text, ranges, written) in [
            ("", vec![], ""),
            ("7", vec![(7, 7)], "7"),
            ("1:5,7", vec![(1, 5), (7, 7)], "1:5,7"),
            ("5:1", vec![(1, 5)], "1:5"),
            ("9,1:3,4", vec![(1, 4), (9, 9)], "1:4,9"),
            ("1:4294967295", vec![(1, u32::MAX)], "1:4294967295"),
        ] {
            let set: UidSet = text.parse().unwrap();
            assert_eq!(set.ranges(), ranges, "{text}");
            assert_eq!(set.to_string(), written, "{text}");
        }
    }

    #[test]
    fn a_text_that_is_no_set_is_refused_with_its_place() {
        for (text, item) in [("0", 1), ("1,*", 2), ("1:", 1), (",", 1), ("1,,2", 2), ("+1", 1), ("4294967296", 1), ("1:2:3", 1), (" 1", 1)]
        {
            assert_eq!(text.parse::<UidSet>(), Err(ParseError::Malformed { item }), "{text}");
        }
        assert_eq!("1".repeat(MAX_TEXT + 1).parse::<UidSet>(), Err(ParseError::TooLong(MAX_TEXT + 1)));
    }
}
