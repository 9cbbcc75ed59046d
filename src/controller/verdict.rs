//! What is said of an object before anything is tried: whether it is accepted, and why not. Pure: no I/O, no clock.

use jiff::{SignedDuration, Timestamp};
use kube::core::DynamicObject;
use kube::core::error_boundary::InvalidObject;

use super::status::{Acceptance, Refusal, bounded};
use super::validate;
use crate::api;
use crate::collect::{Progress, Stage};
use crate::diagnosis::Status;
use crate::entra;

/// How soon is soon: one step of the warning more than there are.
const SOON: SignedDuration = SignedDuration::from_hours(24 * 61);

pub(crate) fn warns_soon(credential: &entra::Credential, now: Timestamp) -> bool {
    credential.secret_expiration.is_some_and(|end| end.duration_since(now) <= SOON)
}

pub(crate) fn acceptance(metadata: &kube::api::ObjectMeta, outcome: Result<(), Refusal>) -> Acceptance {
    let requested_at = metadata.annotations.as_ref().and_then(|all| all.get(api::REQUESTED_AT));
    Acceptance {
        object: (metadata.namespace.clone().unwrap_or_default(), metadata.name.clone().unwrap_or_default()),
        generation: metadata.generation.unwrap_or_default(),
        outcome,
        suspended: false,
        requested_at: requested_at.map(|token| bounded(token, validate::LONGEST_REQUEST)),
        secret_expiration: None,
        warns: None,
    }
}

pub(crate) fn refusal(error: &validate::Error) -> Refusal {
    Refusal { reason: error.reason(), message: error.to_string() }
}

/// Of an object that an older schema let in. The watch's parser doesn't say which field it met, so the object is looked at once more.
pub(crate) fn unreadable(invalid: &InvalidObject, raw: Option<&DynamicObject>) -> Refusal {
    let error = raw.and_then(|raw| validate::unreadable_field(&raw.data)).unwrap_or_else(|| validate::Error::Field {
        field: "spec".to_owned(),
        problem: bounded(&invalid.error, 300),
        way_out: validate::APPLY_AGAIN,
    });
    refusal(&error)
}

pub(crate) fn credential_refused(progress: &Progress) -> bool {
    matches!(&progress.token, Stage::Bad(diagnosis) if diagnosis.reason.status() == Status::False)
}
