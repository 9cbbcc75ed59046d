//! What a sink's failure means. Pure: no I/O, no clock.
#![deny(clippy::wildcard_enum_match_arm)]

use std::io::ErrorKind;

use super::saying::Saying;
use crate::sink::Error;

pub(super) fn failed(error: &Error) -> Saying<'_> {
    match error {
        Error::Io { operation, path, source } => {
            let kind = source.kind();
            // `ErrorKind` grows with the standard library, so that no list of it is complete.
            if matches!(kind, ErrorKind::StorageFull | ErrorKind::QuotaExceeded) {
                Saying::SinkFull { path }
            } else if kind == ErrorKind::ReadOnlyFilesystem {
                Saying::SinkReadOnly { path }
            } else if kind == ErrorKind::PermissionDenied {
                Saying::SinkForbidden { path }
            } else if matches!(kind, ErrorKind::NotADirectory) {
                Saying::SinkNotADirectory { path }
            } else {
                Saying::SinkFailed { operation, path, text: source.to_string() }
            }
        }
        Error::NotADirectory { path } => Saying::SinkNotADirectory { path },
        Error::SurveyTooLarge { path, limit } => Saying::SinkCrowded { path, limit: *limit },
        Error::SpoolFull { quota, .. } => Saying::SpoolFull { quota: *quota },
        Error::AddressNotAllowed { host, address, port } => Saying::SinkAddressNotAllowed { host, address: *address, port: *port },
        Error::AuthenticationRefused { code } => Saying::SinkAuthenticationRefused { code: *code },
        Error::Rejected { code } => Saying::SinkRefuses { code: *code },
        Error::Unfit { what } => Saying::SinkUnfit { what },
        Error::RefusesAll { last } => {
            Saying::SinkRefusesAll { code: if let Error::Rejected { code } = **last { Some(code) } else { None } }
        }
        Error::Unavailable { step, code, text, retry_after } => Saying::SinkUnavailable { step, code: *code, text, wait: *retry_after },
        Error::Gone => Saying::SinkGone,
        Error::Timeout => Saying::SinkSlow,
    }
}
