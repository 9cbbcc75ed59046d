//! What is said of errors in logs and statuses: bounded, in one piece, without what `kube` would print besides. Pure: no I/O, no clock.

use super::status::bounded;

/// What the API server answered, in its words: `kube::Error` would repeat them and print the whole `Status` besides.
pub(crate) fn answer(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => bounded(&format!("the API server answered {}: {}", status.code, status.message), 300),
        other => bounded(&other.to_string(), 300),
    }
}

/// An error with its sources, for a log line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    bounded(&text, 500)
}
