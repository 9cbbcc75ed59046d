//! What a sink's failure means. Pure: no I/O, no clock.
#![deny(clippy::wildcard_enum_match_arm)]

use std::io::ErrorKind;

use super::{BACK_OFF, Meaning, Reason, Retry, SLOWLY, Saying};
use crate::sink::Error;

pub(super) fn failed(error: &Error) -> Meaning<'_> {
    let passing = |saying| Meaning { reason: Reason::SinkUnavailable, saying, retry: BACK_OFF };
    // Waiting does not help; a person must.
    let lasting = |saying| Meaning { reason: Reason::SinkRejects, saying, retry: SLOWLY };
    match error {
        Error::Io { operation, path, source } => {
            let kind = source.kind();
            // `ErrorKind` grows with the standard library, so that no list of it is complete.
            if matches!(kind, ErrorKind::StorageFull | ErrorKind::QuotaExceeded) {
                passing(Saying::SinkFull { path })
            } else if kind == ErrorKind::ReadOnlyFilesystem {
                passing(Saying::SinkReadOnly { path })
            } else if kind == ErrorKind::PermissionDenied {
                lasting(Saying::SinkForbidden { path })
            } else if matches!(kind, ErrorKind::NotADirectory) {
                lasting(Saying::SinkNotADirectory { path })
            } else {
                passing(Saying::SinkFailed { operation, path, text: source.to_string() })
            }
        }
        Error::NotADirectory { path } => lasting(Saying::SinkNotADirectory { path }),
        Error::SurveyTooLarge { path, limit } => lasting(Saying::SinkCrowded { path, limit: *limit }),
        Error::SpoolFull { quota, .. } => passing(Saying::SpoolFull { quota: *quota }),
        Error::AddressNotAllowed { host, address, port } => Meaning {
            reason: Reason::SinkAddressNotAllowed,
            saying: Saying::SinkAddressNotAllowed { host, address: *address, port: *port },
            retry: SLOWLY,
        },
        Error::AuthenticationRefused { code } => {
            Meaning { reason: Reason::SinkAuthenticationFailed, saying: Saying::SinkAuthenticationRefused { code: *code }, retry: SLOWLY }
        }
        Error::Rejected { code } => lasting(Saying::SinkRefuses { code: *code }),
        Error::Unfit { what } => lasting(Saying::SinkUnfit { what }),
        Error::RefusesAll { last } => {
            let code = if let Error::Rejected { code } = **last { Some(code) } else { None };
            lasting(Saying::SinkRefusesAll { code })
        }
        Error::Unavailable { step, code, text, retry_after } => Meaning {
            reason: Reason::SinkUnavailable,
            saying: Saying::SinkUnavailable { step, code: *code, text },
            retry: Retry::BackOff { at_least: *retry_after },
        },
        Error::Gone => passing(Saying::SinkGone),
        Error::Timeout => passing(Saying::SinkSlow),
    }
}
