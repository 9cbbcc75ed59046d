//! Figures for Prometheus, in OpenMetrics text. Never a mailbox, address or name of a collector as a label: ten thousand mailboxes must not be
//! ten thousand series, and a metric is read by more people than a mailbox.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64};

use jiff::Timestamp;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use crate::diagnosis::Reason;

/// The media type of [`Metrics::text`] (OpenMetrics 1.0).
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// All figures of the process. Cloning shares them.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Arc<Registry>,
    messages: Counter<u64, AtomicU64>,
    bytes: Counter<u64, AtomicU64>,
    settled: Counter<u64, AtomicU64>,
    unsettled: Counter<u64, AtomicU64>,
    looks: Family<ResultLabel, Counter>,
    failures: Family<ReasonLabel, Counter>,
    writes: Family<KindLabel, Counter>,
    credentials: Family<CredentialLabel, Gauge<i64, AtomicI64>>,
    tokens: Family<ResultLabel, Counter>,
    sessions: Gauge<i64, AtomicI64>,
    collectors: Gauge<i64, AtomicI64>,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ResultLabel {
    result: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
}

/// Credentials are few and named by whoever made them; a mailbox stands in none of these.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct CredentialLabel {
    kind: &'static str,
    namespace: String,
    name: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct KindLabel {
    kind: &'static str,
}

/// A session that counts as long as it lives.
#[derive(Debug)]
pub struct SessionGauge(Gauge<i64, AtomicI64>);

impl Drop for SessionGauge {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Registers all figures.
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("mailcollector");
        let messages = Counter::default();
        registry.register("messages_collected", "Messages that every sink durably accepted", messages.clone());
        let bytes = Counter::default();
        registry.register_with_unit("collected", "Bytes of those messages", Unit::Bytes, bytes.clone());
        let settled = Counter::default();
        registry.register("messages_settled", "Delivered messages seen to be moved, marked or deleted as wanted", settled.clone());
        let unsettled = Counter::default();
        registry.register(
            "messages_left_unsettled",
            "Delivered messages found as they were although the server said OK",
            unsettled.clone(),
        );
        let looks = Family::default();
        registry.register("looks", "Attempts to look at a mailbox, by how they ended", looks.clone());
        let failures = Family::default();
        registry.register("failures", "Failures by the reason shown in status", failures.clone());
        let writes = Family::default();
        registry.register("kube_writes", "Writes to the API server by kind of object", writes.clone());
        let credentials = Family::default();
        registry.register_with_unit(
            "credential_expiration_timestamp",
            "When a client secret or certificate ends, as far as that is known (seconds since 1970)",
            Unit::Seconds,
            credentials.clone(),
        );
        let tokens = Family::default();
        registry.register("token_requests", "Requests for an access token, by how Entra answered", tokens.clone());
        let sessions = Gauge::default();
        registry.register("sessions", "Mail sessions open now", sessions.clone());
        let collectors = Gauge::default();
        registry.register("collectors", "Collecting tasks of this process", collectors.clone());
        Self {
            registry: Arc::new(registry),
            messages,
            bytes,
            settled,
            unsettled,
            looks,
            failures,
            writes,
            credentials,
            tokens,
            sessions,
            collectors,
        }
    }

    /// Messages and their bytes, accepted by every sink.
    pub fn collected(&self, messages: u64, bytes: u64) {
        self.messages.inc_by(messages);
        self.bytes.inc_by(bytes);
    }

    /// Messages settled, and messages that the server left as they were although it said OK.
    pub fn settled(&self, settled: u64, left: u64) {
        self.settled.inc_by(settled);
        self.unsettled.inc_by(left);
    }

    /// A look ended.
    pub fn looked(&self, complete: bool) {
        self.looks.get_or_create(&ResultLabel { result: if complete { "complete" } else { "failed" } }).inc();
    }

    /// A failure was diagnosed.
    pub fn failed(&self, reason: Reason) {
        self.failures.get_or_create(&ReasonLabel { reason: reason.as_str() }).inc();
    }

    /// An object of this kind was written to the API server.
    pub fn wrote(&self, kind: &'static str) {
        self.writes.get_or_create(&KindLabel { kind }).inc();
    }

    /// When the credential in this Secret or AppRegistration ends; `None`: never, not known, or it is gone.
    pub fn credential_ends(&self, kind: &'static str, namespace: &str, name: &str, end: Option<Timestamp>) {
        let label = CredentialLabel { kind, namespace: namespace.to_owned(), name: name.to_owned() };
        match end {
            Some(end) => {
                self.credentials.get_or_create(&label).set(end.as_second());
            }
            None => {
                self.credentials.remove(&label);
            }
        }
    }

    /// Entra was asked for a token.
    pub fn token_requested(&self, result: &'static str) {
        self.tokens.get_or_create(&ResultLabel { result }).inc();
    }

    /// A session was opened; it counts until the value is dropped.
    pub fn session(&self) -> SessionGauge {
        self.sessions.inc();
        SessionGauge(self.sessions.clone())
    }

    /// How many tasks there are now.
    pub fn collectors(&self, tasks: usize) {
        self.collectors.set(i64::try_from(tasks).unwrap_or(i64::MAX));
    }

    /// All figures as OpenMetrics text.
    ///
    /// # Errors
    /// Only if formatting into memory fails.
    pub fn text(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_named_as_prometheus_wants_and_end_as_openmetrics_must() {
        let metrics = Metrics::new();
        metrics.collected(3, 4096);
        metrics.looked(true);
        metrics.wrote("MailboxCursor");
        let gauge = metrics.session();
        let text = metrics.text().unwrap();
        for line in [
            "mailcollector_messages_collected_total 3",
            "mailcollector_collected_bytes_total 4096",
            "mailcollector_looks_total{result=\"complete\"} 1",
            "mailcollector_kube_writes_total{kind=\"MailboxCursor\"} 1",
            "mailcollector_sessions 1",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
        assert!(text.ends_with("# EOF\n"));
        drop(gauge);
        assert!(metrics.text().unwrap().contains("mailcollector_sessions 0"));
    }
}
