//! When next: the pause after a failure, and the time of the next look (by interval, or by a [`Calendar`]). Pure: no I/O, no clock, no randomness; jitter comes from the resource's uid.

mod calendar;

use std::time::Duration;

use jiff::Timestamp;

use crate::diagnosis::Retry;

pub use calendar::{Calendar, CalendarProblem};

/// First pause after a passing trouble.
const SHORTEST: Duration = Duration::from_secs(5);
/// Longest pause of the back-off without a server's hint.
const LONGEST: Duration = Duration::from_secs(300);
/// A server's hint beyond this is cut: Microsoft's own client libraries cap Retry-After there.
const LONGEST_HINT: Duration = Duration::from_secs(3600);

/// A number that stays the same for a resource and differs between resources (FNV-1a 64 over the uid).
pub fn phase(uid: &str) -> u64 {
    uid.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

/// The pause before the next attempt after `failures` (≥ 1) failures in a row.
///
/// Back-off doubles from 5 s to 5 min and takes between half and all of that; a server's hint is a floor, with up to a tenth on top, so that
/// thousands of mailboxes throttled together do not come back together. Where a person must act the pause is fixed, ± a tenth.
pub fn next_attempt(retry: &Retry, failures: u32, phase: u64) -> Duration {
    let spread = fraction(phase, failures);
    match retry {
        Retry::AtOnce if failures <= 1 => Duration::ZERO,
        Retry::AtOnce => back_off(failures, spread),
        Retry::BackOff { at_least: None } => back_off(failures, spread),
        Retry::BackOff { at_least: Some(hint) } => {
            let hint = (*hint).min(LONGEST_HINT);
            back_off(failures, spread).max(hint + hint.mul_f64(spread / 10.0))
        }
        Retry::Slow { every } => every.mul_f64(0.9 + spread / 5.0),
    }
}

fn back_off(failures: u32, spread: f64) -> Duration {
    let doubled = SHORTEST.saturating_mul(1u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX).max(1)).min(LONGEST);
    doubled.mul_f64(0.5 + spread / 2.0)
}

/// How long until the next look of a resource that is looked at within every `interval`: half of it at least, never more than all of it. Each
/// resource has its own point in the interval, so that thousands of them are spread over it, also after a restart.
pub fn next_look(interval: Duration, phase: u64, now: Timestamp) -> Duration {
    let period = u64::try_from(interval.as_millis()).unwrap_or(u64::MAX).max(1);
    let now = u64::try_from(now.as_millisecond()).unwrap_or(0);
    let into = now.wrapping_add(phase % period) % period;
    let wait = period - into;
    Duration::from_millis(if wait < period / 2 { wait + period / 2 } else { wait })
}

/// Between 0 and 1, from the resource and the count.
fn fraction(phase: u64, count: u32) -> f64 {
    let mixed = (phase ^ u64::from(count).wrapping_mul(0x9e37_79b9_7f4a_7c15)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    f64::from(u32::try_from(mixed >> 32).unwrap_or(u32::MAX)) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSING: Retry = Retry::BackOff { at_least: None };

    #[test]
    fn the_back_off_doubles_up_to_five_minutes_whatever_the_count() {
        for phase in [0, 1, u64::MAX, phase("a")] {
            let rows = [(1, 5), (2, 10), (3, 20), (6, 160), (7, 300), (40, 300), (u32::MAX, 300)];
            for (failures, seconds) in rows {
                let pause = next_attempt(&PASSING, failures, phase);
                assert!(pause <= Duration::from_secs(seconds) && pause >= Duration::from_secs(seconds) / 2, "{failures}: {pause:?}");
            }
        }
    }

    #[test]
    fn a_servers_hint_is_a_floor_and_bounded() {
        let hinted = |seconds| next_attempt(&Retry::BackOff { at_least: Some(Duration::from_secs(seconds)) }, 1, phase("b"));
        assert!(hinted(92) >= Duration::from_secs(92) && hinted(92) <= Duration::from_secs(102));
        assert!(hinted(1_000_000) <= Duration::from_secs(3960));
    }

    #[test]
    fn a_person_gets_a_steady_pause() {
        for failures in [1, 9] {
            let pause = next_attempt(&Retry::Slow { every: Duration::from_secs(600) }, failures, phase("c"));
            assert!(pause >= Duration::from_secs(540) && pause <= Duration::from_secs(660), "{pause:?}");
        }
    }

    #[test]
    fn at_once_means_once() {
        assert_eq!(next_attempt(&Retry::AtOnce, 1, 7), Duration::ZERO);
        assert!(next_attempt(&Retry::AtOnce, 2, 7) >= Duration::from_secs(5));
    }

    #[test]
    fn looks_are_between_half_an_interval_and_an_interval_apart_and_spread_over_it() {
        let interval = Duration::from_secs(300);
        let mut first = Vec::new();
        for resource in 0..1000 {
            let wait = next_look(interval, phase(&format!("uid-{resource}")), Timestamp::UNIX_EPOCH);
            assert!(wait >= interval / 2 && wait <= interval, "{wait:?}");
            first.push(wait.as_secs());
        }
        first.sort_unstable();
        first.dedup();
        assert!(first.len() > 140, "only {} different times", first.len());
    }
}
