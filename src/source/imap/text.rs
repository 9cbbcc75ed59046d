//! How a folder's name is written on the wire, and how a date is read from it. Pure: no I/O, no clock.

use base64::Engine as _;
use base64::alphabet::IMAP_MUTF7;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, NO_PAD};

pub(super) use crate::source::text::{clean, split_code};

const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// A folder's name as a quoted string in modified UTF-7 (RFC 3501 section 5.1.3).
pub(super) fn quoted_folder(name: &str) -> String {
    const UTF7: GeneralPurpose = GeneralPurpose::new(&IMAP_MUTF7, NO_PAD);
    let mut quoted = String::from("\"");
    let mut wide: Vec<u8> = Vec::new();
    let flush = |wide: &mut Vec<u8>, quoted: &mut String| {
        if !wide.is_empty() {
            quoted.push('&');
            UTF7.encode_string(&wide, quoted);
            quoted.push('-');
            wide.clear();
        }
    };
    for c in name.chars() {
        if matches!(c, ' '..='~') {
            flush(&mut wide, &mut quoted);
            match c {
                '&' => quoted.push_str("&-"),
                '"' | '\\' => quoted.extend(['\\', c]),
                plain => quoted.push(plain),
            }
        } else {
            wide.extend(c.encode_utf16(&mut [0; 2]).iter().flat_map(|unit| unit.to_be_bytes()));
        }
    }
    flush(&mut wide, &mut quoted);
    quoted.push('"');
    quoted
}

/// A folder's name as a server writes it between quotes or as an atom, in UTF-8 and with `/` between levels; `None` where it is not modified
/// UTF-7, or a level holds a `/` and so cannot be written.
pub(super) fn folder_name(written: &str, delimiter: Option<char>) -> Option<String> {
    const UTF7: GeneralPurpose = GeneralPurpose::new(
        &IMAP_MUTF7,
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::RequireNone).with_decode_allow_trailing_bits(true),
    );
    let mut name = String::new();
    let mut push = |c: char| {
        name.push(match delimiter {
            Some('/') => c,
            _ if c == '/' => return None,
            Some(delimiter) if c == delimiter => '/',
            _ => c,
        });
        Some(())
    };
    let mut characters = written.chars();
    while let Some(c) = characters.next() {
        match c {
            // The parser leaves escapes in.
            '\\' => push(characters.next()?)?,
            '&' => {
                let rest = characters.as_str();
                let (run, after) = rest.split_once('-')?;
                characters = after.chars();
                if run.is_empty() {
                    push('&')?;
                    continue;
                }
                let bytes = UTF7.decode(run).ok()?;
                let (units, odd) = bytes.as_chunks::<2>();
                if !odd.is_empty() {
                    return None;
                }
                let units: Vec<u16> = units.iter().map(|unit| u16::from_be_bytes(*unit)).collect();
                String::from_utf16(&units).ok()?.chars().try_for_each(&mut push)?;
            }
            plain => push(plain)?,
        }
    }
    Some(name)
}

/// INTERNALDATE's `dd-Mon-yyyy hh:mm:ss +zzzz` (RFC 9051 section 9, date-time); `None` where it is not one.
pub(super) fn internal_date(text: &str) -> Option<jiff::Timestamp> {
    let mut words = text.split_ascii_whitespace();
    let (date, time, zone) = (words.next()?, words.next()?, words.next()?);
    if words.next().is_some() {
        return None;
    }
    let mut date = date.splitn(3, '-');
    let day = number(date.next()?)?;
    let month = date.next()?;
    let month = MONTHS.iter().position(|name| month.eq_ignore_ascii_case(name))?;
    let year = number(date.next()?)?;
    let mut time = time.splitn(3, ':');
    let (hour, minute, second) = (number(time.next()?)?, number(time.next()?)?, number(time.next()?)?);
    let (sign, zone) = zone.strip_prefix('-').map_or_else(|| zone.strip_prefix('+').map(|zone| (1, zone)), |zone| Some((-1, zone)))?;
    if zone.len() != 4 {
        return None;
    }
    let zone = number(zone)?;
    let offset = jiff::tz::Offset::from_seconds(sign * i32::from(zone / 100 * 60 + zone % 100) * 60).ok()?;
    let small = |n: i16| i8::try_from(n).ok();
    let month = i8::try_from(month + 1).ok()?;
    // A leap second is told as the last one before it: jiff has none, and the day must not be lost for it.
    let second = second.min(59);
    let civil = jiff::civil::DateTime::new(year, month, small(day)?, small(hour)?, small(minute)?, small(second)?, 0).ok()?;
    offset.to_timestamp(civil).ok()
}

/// A day as SEARCH takes it: `d-Mon-yyyy` (RFC 9051 section 9, date).
pub(super) fn search_day(day: jiff::civil::Date) -> String {
    let month = usize::try_from(day.month()).ok().and_then(|month| MONTHS.get(month.saturating_sub(1))).copied().unwrap_or("Jan");
    format!("{}-{month}-{:04}", day.day(), day.year())
}

fn number(text: &str) -> Option<i16> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folder_names_are_written_in_modified_utf7() {
        for (name, expected) in [
            ("INBOX", r#""INBOX""#),
            ("Factures/À traiter", r#""Factures/&AMA- traiter""#),
            ("Éléments envoyés", r#""&AMk-l&AOk-ments envoy&AOk-s""#),
            ("R&D \"x\" \\", r#""R&-D \"x\" \\""#),
            ("台北 😀", r#""&U,BTFw- &2D3eAA-""#),
            ("a\r\nb\0", r#""a&AA0ACg-b&AAA-""#),
        ] {
            assert_eq!(quoted_folder(name), expected);
        }
    }

    #[test]
    fn folder_names_are_read_as_they_are_written() {
        for name in ["INBOX", "Factures/À traiter", "R&D \"x\" \\", "台北 😀", "a&-b"] {
            let written = quoted_folder(name);
            assert_eq!(folder_name(written.trim_matches('"'), Some('/')).as_deref(), Some(name));
        }
        for (written, delimiter, expected) in [
            ("Factures.&AMA- traiter", Some('.'), Some("Factures/À traiter")),
            ("Factures.2026", Some('/'), Some("Factures.2026")),
            ("a/b", Some('.'), None),
            ("a/b", None, None),
            ("a.b", None, Some("a.b")),
            ("&AMk", Some('/'), None),
            ("&A-", Some('/'), None),
            ("&2D0-", Some('/'), None),
            ("a\\", Some('/'), None),
        ] {
            assert_eq!(folder_name(written, delimiter).as_deref(), expected, "{written}");
        }
    }

    #[test]
    fn a_day_is_written_as_search_takes_it() {
        assert_eq!(search_day(jiff::civil::date(2026, 1, 5)), "5-Jan-2026");
        assert_eq!(search_day(jiff::civil::date(999, 12, 31)), "31-Dec-0999");
    }

    #[test]
    fn an_internal_date_is_read_or_none() {
        for (text, expected) in [
            ("17-Jul-1996 02:44:25 -0700", Some("1996-07-17T09:44:25Z")),
            (" 1-jan-2026 00:00:00 +0130", Some("2025-12-31T22:30:00Z")),
            ("31-Dec-2016 23:59:60 +0000", Some("2016-12-31T23:59:59Z")),
            ("31-Feb-2026 00:00:00 +0000", None),
            ("1-Jan-2026 00:00:00", None),
            ("1-Jan-2026 00:00:00 UTC", None),
            ("1-Jan-99999 00:00:00 +0000", None),
            ("1-Jan-2026 00:00:00 +9999", None),
            ("", None),
        ] {
            assert_eq!(internal_date(text).map(|t| t.to_string()).as_deref(), expected, "{text}");
        }
    }
}
