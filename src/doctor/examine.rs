//! Goes through the steps of one mailbox's set-up, as far as they go: token, claims, log-in, folders; the sinks besides. One look at each, no
//! retries. Changes nothing but the notes for diagnosis.

use std::sync::PoisonError;
use std::time::Duration;

use jiff::Timestamp;
use secrecy::ExposeSecret as _;
use tokio::time::{Instant, timeout};

use super::checklist::{Checklist, State};
use super::evidence::Evidence;
use crate::collect::{Collector, Environment, NamedSink, Protocol, SinkConfig};
use crate::diagnosis::{self, Confidence, Context, Failure, Finding, ImapProbe, Known, Language, Reason, SetupStep};
use crate::entra::{self, Claims, Token};
use crate::sink::file::FileSink;
use crate::sink::{self, Sink};
use crate::source::{self, Access, Session, Source, Step};

/// A sink that takes longer to answer is out of order.
const SINK_DEADLINE: Duration = Duration::from_secs(30);

/// Where the sinks are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sinks {
    /// On this machine, as the environment says.
    Here,
    /// With an operator: not to be reached from here.
    Elsewhere,
}

/// The checklist of an object that is not accepted: `step` is where it fails, `words` what validation says, in English.
pub fn refused(namespace: &str, name: &str, mailbox: &str, step: SetupStep, reason: Reason, words: &str, language: Language) -> Checklist {
    let mut list = Checklist::new(namespace, name, mailbox, &[], &[]);
    list.mark(SetupStep::Resource, step, State::Ok, &Evidence::SpecAccepted);
    if let Some(line) = list.line(step, None) {
        line.state = State::Failed;
        line.reason = Some(reason);
        line.confidence = Some(Confidence::High);
        (line.evidence, line.remedy) = match language {
            Language::En => (None, Some(words.to_owned())),
            Language::Fr => (Some(Evidence::Refused(words.to_owned())), Some(diagnosis::reference::meaning(reason, language).to_owned())),
        };
    }
    list
}

/// Looks at each step. The remedies are in `language`. Ends within a few minutes whatever the servers do: every wait has a deadline.
pub async fn examine(order: &Collector, environment: &Environment, sinks: Sinks, language: Language) -> Checklist {
    let list = Checklist::new(&order.id.namespace, &order.id.name, &order.mailbox, &order.folders, &order.sinks);
    let mut examination =
        Examination { order, environment, language, list, claims: Claims::default(), imap_probe: None, token_bytes: None };
    examination.list.mark(SetupStep::Resource, SetupStep::Secret, State::Ok, &Evidence::SpecAccepted);
    let secret = Evidence::SecretRead(order.credential.name.clone());
    examination.list.mark(SetupStep::Secret, SetupStep::EntraReachable, State::Ok, &secret);
    if let Some(token) = examination.token().await {
        examination.mailbox(&token).await;
    }
    for sink in &order.sinks {
        examination.sink(sink, sinks).await;
    }
    examination.list
}

struct Examination<'a> {
    order: &'a Collector,
    environment: &'a Environment,
    language: Language,
    list: Checklist,
    claims: Claims,
    /// What IMAP says of a mailbox that POP3 refuses.
    imap_probe: Option<ImapProbe>,
    token_bytes: Option<usize>,
}

impl Examination<'_> {
    /// From the Secret to a token that should do; `None` where there is none.
    async fn token(&mut self) -> Option<Token> {
        let asked = Some(Instant::now());
        let token = match self.environment.tokens.token(&self.order.credential, asked).await {
            Ok(token) => token,
            Err(error) => {
                self.no_token(&error);
                return None;
            }
        };
        self.claims = token.claims.clone();
        self.list.mark(SetupStep::EntraReachable, SetupStep::Tenant, State::Ok, &Evidence::EntraAnswered);
        self.list.mark(SetupStep::Tenant, SetupStep::Permission, State::Ok, &Evidence::TokenIssued);
        if !diagnosis::check_claims(&token.claims, self.order.protocol.role()) {
            self.unfit(&token.claims);
            return None;
        }
        let (state, evidence) = match &token.claims.roles {
            Some(roles) => (State::Ok, Evidence::Roles(roles.clone())),
            None => (State::CannotBeKnown, Evidence::TokenOpaque),
        };
        self.list.mark(SetupStep::Permission, SetupStep::ExchangeReachable, state, &evidence);
        Some(Token::clone(&token))
    }

    fn no_token(&mut self, error: &entra::Error) {
        let finding = self.find(&Failure::Token(error), "INBOX");
        let step = finding.step.unwrap_or(SetupStep::EntraReachable);
        let unreachable = matches!(error, entra::Error::Unreachable { .. });
        if step > SetupStep::EntraReachable {
            self.list.mark(SetupStep::EntraReachable, SetupStep::Tenant, State::Ok, &Evidence::EntraAnswered);
            self.list.mark(SetupStep::Tenant, step, State::Ok, &Evidence::EntraWentOn);
            if matches!(finding.diagnosis.reason, Reason::EnterpriseApplicationMissing | Reason::ApplicationDisabled) {
                let state = State::CannotBeKnown;
                self.list.mark(SetupStep::Credential, SetupStep::EnterpriseApplication, state, &Evidence::OrderUnknown);
            }
        }
        let state = if step > SetupStep::EntraReachable || unreachable { State::Failed } else { State::CannotBeKnown };
        self.fail(step, None, state, finding, Evidence::Token(error.clone()));
    }

    /// A token that Exchange would refuse.
    fn unfit(&mut self, claims: &Claims) {
        let finding = self.find(&Failure::Claims(claims), "INBOX");
        let step = finding.step.unwrap_or(SetupStep::Role);
        match step {
            SetupStep::Consent => {
                let state = State::CannotBeKnown;
                self.list.mark(SetupStep::Permission, SetupStep::Consent, state, &Evidence::PermissionOrConsent);
            }
            SetupStep::Role => {
                let roles = Evidence::Roles(claims.roles.clone().unwrap_or_default());
                self.list.mark(SetupStep::Permission, SetupStep::Role, State::Ok, &roles);
            }
            _ => {}
        }
        self.fail(step, None, State::Failed, finding, Evidence::Claims(claims.clone()));
    }

    async fn mailbox(&mut self, token: &Token) {
        let order = self.order;
        let mut session = None;
        for folder in &order.folders {
            // A session that refused something is never used again.
            let mut open = match session.take() {
                Some(open) => open,
                None => match self.log_in(token).await {
                    Ok(open) => open,
                    Err(error) => {
                        self.probe_by_imap(token, &error).await;
                        self.no_session(&error);
                        return;
                    }
                },
            };
            match open.open(folder, Access::Examine).await {
                Ok(opened) => {
                    if let Some(line) = self.list.line(SetupStep::Folder, Some(folder)) {
                        line.state = State::Ok;
                        line.evidence = Some(Evidence::FolderOpened(opened.exists));
                    }
                    session = Some(open);
                }
                Err(error) => {
                    let finding = self.find(&Failure::Source(&error), folder);
                    let state = if finding.step == Some(SetupStep::Folder) { State::Failed } else { State::CannotBeKnown };
                    self.fail(SetupStep::Folder, Some(folder), state, finding, Evidence::Source(error));
                }
            }
        }
        if let Some(open) = session {
            open.close().await;
        }
    }

    async fn log_in(&mut self, token: &Token) -> Result<Session, source::Error> {
        self.environment.logins.turn().await;
        let session = self.environment.open(self.order, &token.secret).await?;
        self.environment.lately.lock().unwrap_or_else(PoisonError::into_inner).opened(self.order, Timestamp::now());
        if !token.claims.readable {
            self.list.mark(SetupStep::Permission, SetupStep::ExchangeReachable, State::Ok, &Evidence::LoggedIn);
        }
        self.list.mark(SetupStep::ExchangeReachable, SetupStep::ServicePrincipal, State::Ok, &Evidence::ExchangeAnswered);
        self.list.mark(SetupStep::ServicePrincipal, SetupStep::MailboxAddress, State::Ok, &Evidence::LoggedIn);
        self.list.mark(SetupStep::MailboxAddress, SetupStep::Folder, State::Ok, &Evidence::MailboxOpened);
        Ok(session)
    }

    /// POP3 refuses everything with the same words. Where the token is good for IMAP as well, IMAP tells the causes apart.
    async fn probe_by_imap(&mut self, token: &Token, error: &source::Error) {
        self.token_bytes = Some(token.secret.expose_secret().len());
        let refused = matches!(error, source::Error::Refused { step: Step::Authenticate, .. });
        if self.order.protocol == Protocol::Imap || !refused || !diagnosis::check_claims(&token.claims, Protocol::Imap.role()) {
            return;
        }
        self.environment.logins.turn().await;
        self.imap_probe = match self.environment.imap.open(&self.order.mailbox, &token.secret, self.order.max_message_bytes).await {
            Ok(session) => {
                session.close().await;
                Some(ImapProbe::Opens)
            }
            Err(source::Error::Refused { step: Step::Authenticate, .. }) => Some(ImapProbe::LogInRefused),
            Err(source::Error::Refused { step: Step::Probe, .. }) => Some(ImapProbe::NotConnected),
            Err(_) => None,
        };
    }

    fn no_session(&mut self, error: &source::Error) {
        let finding = self.find(&Failure::Source(error), "INBOX");
        let step = finding.step.unwrap_or(SetupStep::ExchangeReachable);
        let early = |step: &Step| matches!(step, Step::Connect | Step::Tls | Step::Greeting);
        let unreachable = match error {
            source::Error::Connection { step, .. } | source::Error::Protocol { step, .. } => early(step),
            source::Error::Timeout(step) | source::Error::Closed(step) => early(step),
            source::Error::Refused { .. }
            | source::Error::ReadOnly
            | source::Error::Unsupported(_)
            | source::Error::HalfUsed
            | source::Error::Stopped => false,
        };
        if step > SetupStep::ExchangeReachable {
            self.list.mark(SetupStep::ExchangeReachable, SetupStep::ServicePrincipal, State::Ok, &Evidence::ExchangeAnswered);
        }
        if step > SetupStep::ServicePrincipal {
            self.list.mark(SetupStep::ServicePrincipal, SetupStep::MailboxAddress, State::Ok, &Evidence::LoggedIn);
        }
        if matches!(step, SetupStep::ServicePrincipal | SetupStep::MailboxAccess) {
            let state = State::CannotBeKnown;
            self.list.mark(SetupStep::MailboxAddress, SetupStep::MailboxAccess, state, &Evidence::AddressOrAccess);
        }
        let state = if step > SetupStep::ExchangeReachable || unreachable { State::Failed } else { State::CannotBeKnown };
        self.fail(step, None, state, finding, Evidence::Source(error.clone()));
    }

    async fn sink(&mut self, sink: &NamedSink, sinks: Sinks) {
        let SinkConfig::File { directory } = &sink.config;
        let root = match (sinks, &self.environment.file_root) {
            (Sinks::Here, Some(root)) => root,
            (Sinks::Here, None) | (Sinks::Elsewhere, _) => {
                if let Some(line) = self.list.line(SetupStep::Sink, Some(&sink.name)) {
                    line.state = State::CannotBeKnown;
                    line.evidence = Some(Evidence::SinkElsewhere);
                }
                return;
            }
        };
        let probe = async { FileSink::new(root, directory)?.probe().await };
        match timeout(SINK_DEADLINE, probe).await.unwrap_or(Err(sink::Error::Timeout)) {
            Ok(()) => {
                if let Some(line) = self.list.line(SetupStep::Sink, Some(&sink.name)) {
                    line.state = State::Ok;
                    line.evidence = Some(Evidence::SinkReady);
                }
            }
            Err(error) => {
                let finding = self.find(&Failure::Sink(&error), "INBOX");
                self.fail(SetupStep::Sink, Some(&sink.name), State::Failed, finding, Evidence::sink(&error));
            }
        }
    }

    fn fail(&mut self, step: SetupStep, subject: Option<&str>, state: State, finding: Finding, evidence: Evidence) {
        if let Some(line) = self.list.line(step, subject) {
            line.state = state;
            line.reason = Some(finding.diagnosis.reason);
            line.confidence = Some(finding.confidence);
            line.evidence = Some(evidence);
            line.remedy = Some(finding.diagnosis.message);
        }
    }

    fn find(&self, failure: &Failure<'_>, folder: &str) -> Finding {
        let credential = &self.order.credential;
        let lately = self.environment.lately.lock().unwrap_or_else(PoisonError::into_inner);
        let context = Context {
            mailbox: &self.order.mailbox,
            role: self.order.protocol.role(),
            tenant_id: &credential.tenant_id,
            client_id: &credential.client_id,
            object_id: self.claims.object_id.as_deref(),
            credential_name: &credential.name,
            secret_looks_like_guid: credential.looks_like_guid(),
            // Whoever checks wants to know of the steps, also of a mailbox that worked once.
            worked_before: false,
            folder,
            authority: self.environment.tokens.authority(credential),
            imap_host: self.environment.host(self.order),
            known: Known {
                others: lately.others(self.order, Timestamp::now()),
                imap_probe: self.imap_probe,
                token_bytes: self.token_bytes,
                ..Known::default()
            },
        };
        diagnosis::find(failure, &context, self.language)
    }
}
