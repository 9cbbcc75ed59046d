//! `MailboxCollector`: one mailbox, where its mail goes, how often. Pure: no I/O, no clock. Parsing and defaults live in `controller/validate`.

#![expect(clippy::duplicated_attributes, reason = "printer columns share the attribute names of #[kube]")]
#![expect(unreachable_pub, reason = "KubeSchema copies each type into a function, visibility included")]

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::common::{Conditions, LocalReference, NEVER_OBSERVED, TokenStatus, conditions_schema};

/// One mailbox, where its mail goes, and how often it is looked at.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "mailbox-collector.io",
    version = "v1alpha1",
    kind = "MailboxCollector",
    plural = "mailboxcollectors",
    singular = "mailboxcollector",
    shortname = "mbc",
    namespaced,
    status = "MailboxCollectorStatus",
    derive = "PartialEq",
    doc = "Collects the mail of one Exchange Online mailbox into document systems.",
    selectable = ".spec.mailbox",
    selectable = ".spec.suspend",
    selectable = ".spec.credentials.secretRef.name",
    selectable = ".spec.credentials.appRegistrationRef.name",
    printcolumn(name = "Mailbox", type_ = "string", json_path = ".spec.mailbox"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].reason"),
    printcolumn(name = "Last Fetch", type_ = "date", json_path = ".status.lastFetchTime"),
    printcolumn(name = "Messages", type_ = "integer", json_path = ".status.messages.collected"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Protocol", type_ = "string", json_path = ".spec.protocol", priority = 1),
    printcolumn(name = "Token Expiry", type_ = "string", json_path = ".status.token.expirationTime", priority = 1),
    printcolumn(name = "Pending", type_ = "integer", json_path = ".status.messages.pending", priority = 1),
    printcolumn(name = "Quarantined", type_ = "integer", json_path = ".status.messages.quarantined", priority = 1)
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new(
        "(has(self.protocol) ? self.protocol : 'IMAP') == (has(oldSelf.protocol) ? oldSelf.protocol : 'IMAP')"
    ).message("protocol cannot change (absent means IMAP), since what was collected is remembered by protocol: create a new MailboxCollector with the other protocol and delete this one"),
    validation = Rule::new("!(has(self.interval) && has(self.schedule))")
        .message("write either interval (the longest time between two looks, for example 5m) or schedule (a cron line), not both"),
    validation = Rule::new("!has(self.timeZone) || has(self.schedule)")
        .message("timeZone belongs to schedule: add schedule, or remove timeZone"),
    validation = Rule::new("!has(self.folders) || !has(self.protocol) || self.protocol != 'POP3'")
        .message("POP3 knows only the inbox: remove folders, or write protocol: IMAP in a new MailboxCollector"),
    validation = Rule::new("!has(self.push) || !self.push || !has(self.protocol) || self.protocol != 'POP3'")
        .message("POP3 has no push: remove push, or write protocol: IMAP in a new MailboxCollector"),
    validation = Rule::new("!has(self.afterDelivery) || !has(self.afterDelivery.action) || !(self.afterDelivery.action in ['MarkSeen', 'Move']) || !has(self.protocol) || self.protocol != 'POP3'")
        .message("POP3 can neither mark nor move a message: write afterDelivery: {action: Keep} or {action: Delete}"),
    validation = Rule::new("!has(self.afterDelivery) || !has(self.afterDelivery.folder) || (has(self.folders) ? !self.folders.exists(f, f.name == self.afterDelivery.folder) : self.afterDelivery.folder != 'INBOX')")
        .message("afterDelivery.folder is itself collected, so a moved message would be collected again: name a folder that is not in folders (default INBOX)")
)]
pub struct MailboxCollectorSpec {
    /// Address of the mailbox, for example invoices@contoso.com. Cannot change.
    #[schemars(length(min = 3, max = 320))]
    #[x_kube(validation = Rule::new(r"self.matches(r'^[^@\s]+@[^@\s]+$')")
        .message("write the mailbox's address, for example invoices@contoso.com"))]
    #[x_kube(validation = Rule::new("self == oldSelf")
        .message("mailbox cannot change, since what was collected is remembered for it: create a new MailboxCollector and delete this one"))]
    pub mailbox: String,

    /// IMAP or POP3. Default: IMAP. Cannot change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 8), extend("enum" = ["IMAP", "POP3"]))]
    pub protocol: Option<String>,

    /// The Azure app that may read the mailbox.
    pub credentials: Credentials,

    /// Folders to collect; new mail in the first is pushed. IMAP only. Default: INBOX.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub folders: Option<Vec<FolderSelection>>,

    /// Longest time between two looks, 1m to 24h, whatever push tells. Default: 5m. Instead of schedule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 32))]
    #[x_kube(validation = Rule::new(r"self.matches(r'^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$') && duration(self) >= duration('1m') && duration(self) <= duration('24h')")
        .message("write a duration from 1m to 24h, for example 5m"))]
    pub interval: Option<String>,

    /// Looks at these times, as a cron line of five fields, and once when the operator starts or this object changes. Instead of interval.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 9, max = 128), regex(pattern = r"^\S+( +\S+){4}$"))]
    pub schedule: Option<String>,

    /// Time zone of schedule, for example Europe/Paris. Default: UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), regex(pattern = r"^[A-Za-z0-9_+/-]+$"))]
    pub time_zone: Option<String>,

    /// Keep a connection open on which the server tells of new mail (IMAP IDLE). Default: true for IMAP without schedule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub push: Option<bool>,

    /// Beginning: all mail that is there. Now: only mail that the server received after this object was created. Default: Beginning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16), extend("enum" = ["Beginning", "Now"]))]
    pub start_from: Option<String>,

    /// Which messages to take. The others are passed over for good: not settled, not looked at again. Default: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub select: Option<MessageSelection>,

    /// Bounds on what is taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<Limits>,

    /// What happens to a message in the mailbox once every sink has it. Default: it stays as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after_delivery: Option<AfterDelivery>,

    /// Where mail goes. A message is done only when every sink has accepted it.
    #[schemars(length(min = 1, max = 4), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub sinks: Vec<Sink>,

    /// Pause: nothing is collected, nothing is forgotten. Default: false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspend: Option<bool>,
}

/// Where the app's credential is; exactly one member.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.secretRef) != has(self.appRegistrationRef)")
    .message("write exactly one of secretRef and appRegistrationRef, for example credentials: {secretRef: {name: azure-app}}"))]
pub struct Credentials {
    /// A Secret with the keys tenantId, clientId and clientSecret (or tls.crt and tls.key); optional: cloud, secretExpirationTime.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<LocalReference>,
    /// An AppRegistration, which many collectors can share.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app_registration_ref: Option<LocalReference>,
}

/// A folder to collect.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FolderSelection {
    /// Name as people write it, in plain UTF-8; levels are separated by /.
    #[schemars(length(min = 1, max = 512), regex(pattern = r"^[^/]+(/[^/]+)*$"))]
    pub name: String,
}

/// Which messages to take; every given condition must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MessageSelection {
    /// Sender addresses, as globs (for example *@supplier.com); one must match.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 320)), extend("x-kubernetes-list-type" = "atomic"))]
    pub from: Option<Vec<String>>,
    /// Recipient addresses, as globs; one must match.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 320)), extend("x-kubernetes-list-type" = "atomic"))]
    pub to: Option<Vec<String>>,
    /// Subjects, as globs; one must match.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 512)), extend("x-kubernetes-list-type" = "atomic"))]
    pub subject: Option<Vec<String>>,
    /// Only messages that the server received after this time (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), extend("format" = "date-time"))]
    pub received_after: Option<String>,
    /// Only messages received within this time before the look, for example 720h.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 32), regex(pattern = r"^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$"))]
    pub max_age: Option<String>,
}

/// Bounds on what is taken.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Limits {
    /// Largest message taken, in bytes; a larger one is quarantined. Default: 157286400 (150 MiB).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_073_741_824))]
    pub max_message_bytes: Option<i64>,
}

/// What happens to a message in the mailbox once every sink has it and that is recorded.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.folder) == (has(self.action) && self.action == 'Move')")
    .message("folder belongs to Move alone: write afterDelivery: {action: Move, folder: Archive}, or remove folder"))]
pub struct AfterDelivery {
    /// Keep, MarkSeen, Move or Delete. Default: Keep.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16), extend("enum" = ["Keep", "MarkSeen", "Move", "Delete"]))]
    pub action: Option<String>,
    /// Where Move puts the message; not a collected folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub folder: Option<String>,
}

/// A place where mail goes; exactly one member besides name.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new(
    "[has(self.file), has(self.objectStore), has(self.webhook), has(self.smtp), has(self.lmtp), has(self.imapAppend)].filter(given, given).size() == 1"
).message("write exactly one of file, objectStore, webhook, smtp, lmtp and imapAppend besides name, for example {name: drop, file: {path: invoices}}; for a second place add a second sink"))]
pub struct Sink {
    /// Name of the sink, unique within this collector.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// Files below the operator's file-sink root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<FileSink>,
    /// Objects in S3, Azure Blob Storage or Google Cloud Storage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object_store: Option<ObjectStoreSink>,
    /// HTTP POST of each message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook: Option<WebhookSink>,
    /// Delivery to a mail relay by SMTP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub smtp: Option<SmtpSink>,
    /// Delivery to a mail store by LMTP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lmtp: Option<SmtpSink>,
    /// A copy into another mailbox by IMAP APPEND.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub imap_append: Option<ImapAppendSink>,
}

/// Files below the operator's file-sink root, always within this namespace's directory there.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FileSink {
    /// Directory, relative to this namespace's directory; no .. and no leading /.
    #[schemars(length(min = 1, max = 512))]
    #[x_kube(validation = Rule::new(r"self.matches(r'^[^\x00-\x1f\x7f]+$') && !self.split('/').exists(part, part in ['', '.', '..'])")
        .message("write a relative path of plain names, for example invoices/2026; no leading or double /, no . or .."))]
    pub path: String,
    /// EML (one file for each message) or Maildir. Default: EML.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16), extend("enum" = ["EML", "Maildir"]))]
    pub format: Option<String>,
}

/// Objects in a bucket.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ObjectStoreSink {
    /// Bucket and prefix: s3://bucket/prefix, az://container/prefix or gs://bucket/prefix.
    #[schemars(length(min = 6, max = 1024), regex(pattern = r"^(s3|az|gs)://[^/\s]+(/\S*)?$"))]
    pub url: String,
    /// Address of the store, where it is not the provider's own, for example https://minio.example.com.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 8, max = 1024), regex(pattern = r"^https?://\S+$"))]
    pub endpoint: Option<String>,
    /// Region of the bucket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub region: Option<String>,
    /// Secret with the store's credentials; it needs the label mailbox-collector.io/sink-credentials=true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<LocalReference>,
}

/// HTTP POST of each message; any 2xx accepts it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WebhookSink {
    /// Address, https only.
    #[schemars(length(min = 9, max = 2048), regex(pattern = r"^https://\S+$"))]
    pub url: String,
    /// Secret with what the receiver asks for; it needs the label mailbox-collector.io/sink-credentials=true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<LocalReference>,
    /// How long one delivery may take, for example 30s. Default: 30s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 32), regex(pattern = r"^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$"))]
    pub timeout: Option<String>,
}

/// Delivery by SMTP or LMTP.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SmtpSink {
    /// Host name or address.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[^\s/@]+$"))]
    pub host: String,
    /// Port. Default: 587 for SMTP, 24 for LMTP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65_535))]
    pub port: Option<i32>,
    /// Who receives each message.
    #[schemars(length(min = 1, max = 32), inner(length(min = 1, max = 320)), extend("x-kubernetes-list-type" = "atomic"))]
    pub recipients: Vec<String>,
    /// Secret with user and password; it needs the label mailbox-collector.io/sink-credentials=true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<LocalReference>,
}

/// A copy into another mailbox.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ImapAppendSink {
    /// Host name or address.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[^\s/@]+$"))]
    pub host: String,
    /// Port. Default: 993.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65_535))]
    pub port: Option<i32>,
    /// Folder that receives the copies. Default: INBOX.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub folder: Option<String>,
    /// Secret with user and password; it needs the label mailbox-collector.io/sink-credentials=true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<LocalReference>,
}

/// What the operator has seen. Written by the operator alone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct MailboxCollectorStatus {
    /// The metadata.generation that this status speaks of; -1 as long as nobody has looked.
    #[schemars(range(min = -1))]
    pub observed_generation: i64,
    /// Ready, Accepted, TokenHealthy, MailboxAccessible and SinkReady always; the others only while they are True.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions_schema")]
    pub conditions: Conditions,
    /// The value of the annotation mailbox-collector.io/requestedAt that was last acted on.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub last_handled_reconcile_at: Option<String>,
    /// Last complete look: every folder listed, every sink probed. Written seldom; the live value is a metric.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), extend("format" = "date-time"))]
    pub last_fetch_time: Option<String>,
    /// When the last message was delivered.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), extend("format" = "date-time"))]
    pub last_message_time: Option<String>,
    /// How many messages.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub messages: Option<MessageCounts>,
    /// What the last access token said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<TokenStatus>,
}

impl Default for MailboxCollectorStatus {
    fn default() -> Self {
        Self {
            observed_generation: NEVER_OBSERVED,
            conditions: Vec::new(),
            last_handled_reconcile_at: None,
            last_fetch_time: None,
            last_message_time: None,
            messages: None,
            token: None,
        }
    }
}

/// How many messages.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct MessageCounts {
    /// Delivered to every sink since the collector exists.
    #[schemars(range(min = 0))]
    pub collected: i64,
    /// Listed and still to be delivered.
    #[schemars(range(min = 0))]
    pub pending: i64,
    /// Given up for now; they stay untouched in the mailbox.
    #[schemars(range(min = 0))]
    pub quarantined: i64,
}
