//! Folder names on the wire: modified UTF-7 (RFC 3501 section 5.1.3). Pure: no I/O, no clock.

use base64::Engine as _;
use base64::alphabet::IMAP_MUTF7;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

const ENGINE: GeneralPurpose = GeneralPurpose::new(
    &IMAP_MUTF7,
    GeneralPurposeConfig::new()
        .with_encode_padding(false)
        .with_decode_padding_mode(DecodePaddingMode::RequireNone)
        .with_decode_allow_trailing_bits(true),
);

pub(super) fn encode(name: &str) -> String {
    let mut encoded = String::with_capacity(name.len());
    let mut pending: Vec<u8> = Vec::new();
    for character in name.chars() {
        if (' '..='~').contains(&character) {
            flush(&mut encoded, &mut pending);
            encoded.push(character);
            if character == '&' {
                encoded.push('-');
            }
        } else {
            let mut units = [0_u16; 2];
            for unit in character.encode_utf16(&mut units) {
                pending.extend_from_slice(&unit.to_be_bytes());
            }
        }
    }
    flush(&mut encoded, &mut pending);
    encoded
}

fn flush(encoded: &mut String, pending: &mut Vec<u8>) {
    if !pending.is_empty() {
        encoded.push('&');
        ENGINE.encode_string(&pending, encoded);
        encoded.push('-');
        pending.clear();
    }
}

/// `None` for a name that is not modified UTF-7.
pub(super) fn decode(name: &str) -> Option<String> {
    let mut decoded = String::with_capacity(name.len());
    let mut rest = name;
    while let Some((plain, after)) = rest.split_once('&') {
        decoded.push_str(plain);
        let (run, tail) = after.split_once('-')?;
        if run.is_empty() {
            decoded.push('&');
        } else {
            let bytes = ENGINE.decode(run).ok()?;
            let (pairs, odd) = bytes.as_chunks::<2>();
            if !odd.is_empty() {
                return None;
            }
            let units: Vec<u16> = pairs.iter().copied().map(u16::from_be_bytes).collect();
            decoded.push_str(&String::from_utf16(&units).ok()?);
        }
        rest = tail;
    }
    if !name.is_ascii() {
        return None;
    }
    decoded.push_str(rest);
    Some(decoded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_there_and_back() {
        for (name, wire) in [
            ("INBOX", "INBOX"),
            ("Éléments envoyés", "&AMk-l&AOk-ments envoy&AOk-s"),
            ("Factures/À traiter", "Factures/&AMA- traiter"),
            ("R & D", "R &- D"),
            ("📥", "&2D3c5Q-"),
        ] {
            assert_eq!(encode(name), wire);
            assert_eq!(decode(wire).as_deref(), Some(name));
        }
    }

    #[test]
    fn a_broken_name_is_no_name() {
        for wire in ["&AMk", "&A-", "é", "&!!!-"] {
            assert_eq!(decode(wire), None, "{wire}");
        }
    }
}
