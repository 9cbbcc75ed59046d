//! `MailboxCursor`: what is decided, owed, unsettled and quarantined in a mailbox, as the API server stores it. Pure: no I/O, no clock.
//! The same shape as the JSON of `cursor::Cursor` (a test there fails where they differ: a field unknown to this schema would be pruned,
//! that is, forgotten). It gives the fields bounds and no meaning.

#![expect(clippy::duplicated_attributes, reason = "printer columns share the attribute names of #[kube]")]

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The record itself, as in a Lease: there is no status.
#[derive(CustomResource, JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "mailbox-collector.io",
    version = "v1alpha1",
    kind = "MailboxCursor",
    plural = "mailboxcursors",
    singular = "mailboxcursor",
    shortname = "mbcur",
    namespaced,
    derive = "PartialEq",
    doc = "What the operator remembers of one mailbox. Written by the operator alone; deleted with its MailboxCollector.",
    printcolumn(name = "Holder", type_ = "string", json_path = ".spec.holder.pod"),
    printcolumn(name = "Epoch", type_ = "integer", json_path = ".spec.holder.epoch"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Folders", type_ = "string", json_path = ".spec.folders[*].name", priority = 1)
)]
#[serde(rename_all = "camelCase", default)]
pub struct MailboxCursorSpec {
    /// Who collects this mailbox, or did last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub holder: Option<CursorHolder>,
    /// Client id of the app with which the mailbox was last read: trouble after success means something else than trouble before.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub worked_with: Option<String>,
    /// The value of the annotation mailbox-collector.io/requestedAt whose replay, discard or resync was carried out last.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub handled_request: Option<String>,
    /// Messages are being fetched; still set after the process ended without saying so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub draining: Option<bool>,
    /// Names of the sinks that `has` of a message speaks of.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), inner(length(max = 63)), extend("x-kubernetes-list-type" = "atomic"))]
    pub sinks: Vec<String>,
    /// By folder.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub folders: Vec<CursorFolder>,
}

/// Who collects this mailbox.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct CursorHolder {
    /// The installation.
    #[schemars(length(max = 253))]
    pub install: String,
    /// The pod or host.
    #[schemars(length(max = 253))]
    pub pod: String,
    /// Counts ownerships.
    #[schemars(range(min = 0))]
    pub epoch: i64,
}

/// What is remembered of one folder.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CursorFolder {
    /// Name of the folder when it was last opened.
    #[schemars(length(min = 1, max = 512))]
    pub name: String,
    /// The name under which placements are computed: the folder's first name, whatever it is called since.
    #[serde(default)]
    #[schemars(length(max = 512))]
    pub key: String,
    /// UIDVALIDITY (RFC 9051 section 2.3.1.1): which numbering the UIDs here belong to.
    #[serde(default)]
    #[schemars(range(min = 0, max = 4_294_967_295_i64))]
    pub uid_validity: i64,
    /// UIDs that need no more work, as an IMAP sequence-set; owed ones are exceptions to it.
    #[serde(default)]
    #[schemars(length(max = 65_536), regex(pattern = "^([0-9]+(:[0-9]+)?(,[0-9]+(:[0-9]+)?)*)?$"))]
    pub decided: String,
    /// Listed and not received or not accepted; tried again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 4_000), extend("x-kubernetes-list-type" = "atomic"))]
    pub owed: Vec<OwedMessage>,
    /// Delivered, and still to be moved, marked or deleted, as an IMAP sequence-set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 65_536), regex(pattern = "^([0-9]+(:[0-9]+)?(,[0-9]+(:[0-9]+)?)*)?$"))]
    pub unsettled: Option<String>,
    /// The fetch under way while one that ended the process is looked for, as an IMAP sequence-set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 65_536), regex(pattern = "^([0-9]+(:[0-9]+)?(,[0-9]+(:[0-9]+)?)*)?$"))]
    pub trying: Option<String>,
    /// Given up for now; untouched in the mailbox.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 2_000), extend("x-kubernetes-list-type" = "atomic"))]
    pub quarantined: Vec<QuarantinedMessage>,
    /// Some of the last messages, by which a renumbered folder is recognised.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), extend("x-kubernetes-list-type" = "atomic"))]
    pub anchors: Vec<Anchor>,
    /// Where this numbering was first met.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub baseline: Option<Baseline>,
    /// Files of an earlier numbering that stand for a message of this one, as base64 of 8 bytes each.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 131_072))]
    pub claimed: Option<String>,
}

/// A message that is tried again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct OwedMessage {
    /// Its UID.
    #[schemars(range(min = 1, max = 4_294_967_295_i64))]
    pub uid: i64,
    /// Why, the last time.
    #[schemars(length(max = 64))]
    pub reason: String,
    /// Tries so far.
    #[schemars(range(min = 0))]
    pub attempts: i64,
    /// The first failure.
    #[schemars(length(max = 64))]
    pub since: String,
    /// Not before.
    #[schemars(length(max = 64))]
    pub next: String,
    /// An attempt was counted and is under way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trying: Option<bool>,
    /// Which of the cursor's sinks have it already: bit n for the n-th.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 255))]
    pub has: Option<i64>,
}

/// A message given up until a person replays or discards it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct QuarantinedMessage {
    /// Its UID.
    #[schemars(range(min = 1, max = 4_294_967_295_i64))]
    pub uid: i64,
    /// Why, the last time.
    #[schemars(length(max = 64))]
    pub reason: String,
    /// Tries before it was given up.
    #[schemars(range(min = 0))]
    pub attempts: i64,
    /// When it was given up.
    #[schemars(length(max = 64))]
    pub time: String,
    /// Which of the cursor's sinks have it already: bit n for the n-th.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 255))]
    pub has: Option<i64>,
}

/// One of the last messages.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Anchor {
    /// Its UID.
    #[schemars(range(min = 1, max = 4_294_967_295_i64))]
    pub uid: i64,
    /// The first 8 bytes of its fingerprint, as hexadecimal digits.
    #[schemars(length(max = 64))]
    pub fingerprint: String,
}

/// Where a numbering was first met.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Baseline {
    /// UIDNEXT then; absent where the server did not say.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 4_294_967_296_i64))]
    pub uid_next: Option<i64>,
    /// When.
    #[schemars(length(max = 64))]
    pub time: String,
}
